"""Wigner tables are small, stored whole or not at all, and rebuilt when damaged."""

import multiprocessing
import os
import stat
import sys
import time

import numpy as np
import pytest
import torch
from equiharness.kernels.spherical import tables
from equiharness.kernels.spherical.layout import so3_rows
from equiharness.kernels.spherical.quadrature import soft_betas

CPU = ("cpu",)


def fresh(b, dtype=torch.float64):
    tables.soft_table.cache_clear()
    return tables.soft_table(b, b, b, dtype, "cpu")


def test_a_table_is_eight_times_smaller_than_d():
    b = 64
    table = tables.shell_starts(b, b)[-1] * b
    full = so3_rows(b) * 2 * b
    assert 7.5 < full / table < 8.0
    assert table * 4 / 2**20 == pytest.approx(22, abs=1)


def test_the_stored_table_is_the_one_that_was_built(empty_cache):
    built = fresh(6)
    (file,) = empty_cache.iterdir()
    assert file.suffix == ".table"
    loaded = fresh(6)
    assert all(torch.equal(a, b) for a, b in zip(built, loaded, strict=True))
    expected = tables.build(soft_betas(6)[:6], 6, 6)
    np.testing.assert_array_equal(torch.cat([shell.reshape(-1) for shell in loaded]).numpy(), expected.reshape(-1))


@pytest.mark.parametrize("damage", ["flip a bit", "cut it short", "cut into the header", "empty it"])
def test_a_damaged_table_is_rebuilt_with_a_warning(empty_cache, damage):
    built = [shell.clone() for shell in fresh(5)]
    (file,) = empty_cache.iterdir()
    content = bytearray(file.read_bytes())
    if damage == "flip a bit":
        content[len(content) // 2] ^= 1
    size = {"flip a bit": len(content), "cut it short": len(content) - 8, "cut into the header": 11, "empty it": 0}
    file.unlink()
    file.write_bytes(bytes(content[: size[damage]]))
    with pytest.warns(tables.CorruptTableWarning, match="building it again"):
        rebuilt = fresh(5)
    assert all(torch.equal(a, b) for a, b in zip(built, rebuilt, strict=True))
    fresh(5)  # and the stored one is whole again: no warning


def test_a_table_of_an_older_format_is_replaced_silently(empty_cache):
    fresh(3)
    (file,) = empty_cache.iterdir()
    content = b"EQHWIG00" + file.read_bytes()[8:]
    file.unlink()
    file.write_bytes(content)
    fresh(3)
    assert file.read_bytes() != content


def test_a_cache_folder_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setattr(tables.platformdirs, "user_cache_dir", lambda name: str(blocked))
    assert fresh(4)[0].shape == (2, 1, 4, 4)
    tables.soft_table.cache_clear()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root writes anywhere")
def test_a_read_only_cache_folder_is_no_error(empty_cache):
    empty_cache.mkdir(parents=True)
    empty_cache.chmod(stat.S_IRUSR | stat.S_IXUSR)
    fresh(4)


def test_a_disk_that_fills_up_leaves_nothing_behind(empty_cache, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tables.os, "replace", full)
    fresh(4)
    assert list(empty_cache.iterdir()) == []


def _build(folder, barrier, answers):
    tables.platformdirs.user_cache_dir = lambda name: folder
    barrier.wait(60)
    shells = tables.soft_table(12, 12, 12, torch.float64, "cpu")
    answers.put(float(sum((shell * (1 + i)).sum() for i, shell in enumerate(shells))))


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_two_processes_that_build_the_same_table_at_once_are_both_right(tmp_path):
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(2), context.SimpleQueue()
    workers = [context.Process(target=_build, args=(str(tmp_path), barrier, answers)) for _ in range(2)]
    for worker in workers:
        worker.start()
    got = [answers.get() for _ in workers]
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    own = float(sum((shell * (1 + i)).sum() for i, shell in enumerate(fresh(12))))
    assert got == pytest.approx([own, own], rel=1e-12)
    assert [file.suffix for file in (tmp_path / "wigner").iterdir()] == [".table"]


def test_no_stored_number_is_denormal():
    for dtype, tiny in ((torch.float32, 1e-37), (torch.float64, 1e-300)):
        flat = torch.cat([shell.reshape(-1) for shell in tables.soft_table(16, 16, 16, dtype, "cpu")]).abs()
        assert float(flat[flat > 0].min()) > tiny


def test_a_table_keeps_float64_accuracy():
    """Against the full matrices of one degree, that the tests of wigner_d hold to Wigner's sum."""
    from equiharness.kernels import wigner_d

    b, m, n, l = 16, 9, 4, 13
    shell = tables.soft_table(b, b, b, torch.float64, "cpu")[m]
    d = wigner_d(l, soft_betas(b)[:b])
    plus = d[:, l + m, l + n] + (-1) ** n * d[:, l + m, l - n]
    parity = (l + m + n) % 2
    assert torch.allclose(shell[parity, n, l - m], plus, atol=1e-14)


@pytest.mark.deep
def test_the_tables_of_b_64_are_built_in_ten_seconds_and_loaded_in_a_fifth(empty_cache):
    for dtype in (torch.float32, torch.float64):
        start = time.perf_counter()
        fresh(64, dtype)
        assert time.perf_counter() - start < 10
        start = time.perf_counter()
        fresh(64, dtype)
        assert time.perf_counter() - start < 0.2
