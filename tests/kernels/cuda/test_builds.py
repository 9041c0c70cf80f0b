"""The folder of builds: nothing is built twice, everything that changes a result builds anew, nothing half is taken."""

import os
import threading
from types import SimpleNamespace

import pytest
from equiharness.kernels.cuda import grid, host, sources

# Writes its source to its result, and remembers how it was called.
COMPILER = """#!/bin/sh
if [ "$1" = -v ]; then cat "$0.version" >&2; exit; fi
echo "$*" >> "$0.calls"
while [ $# -gt 1 ]; do [ "$1" = -o ] && result=$2; shift; done
cat "$1" > "$result"
"""


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Builds of grid_exact.cu by a compiler that counts its calls."""
    command = tmp_path / "compiler"
    command.write_text(COMPILER)
    command.chmod(0o755)
    monkeypatch.setenv("CXX", str(command))
    calls = tmp_path / "compiler.calls"

    class Made:
        folder = tmp_path / "builds"

        @staticmethod
        def build(kind="plain"):
            return host.build(sources.program(grid.KERNELS[:1], host.PRELUDE[kind]), kind, Made.folder)

        @staticmethod
        def calls():
            """Of programs; precompiled headers are counted as True."""
            return ["-xc++-header" in line for line in calls.read_text().splitlines()] if calls.exists() else []

        @staticmethod
        def version(text):
            (tmp_path / "compiler.version").write_text(text)
            host.compiler_version.cache_clear()

    Made.version("one")
    yield Made
    host.compiler_version.cache_clear()


def change(monkeypatch, name):
    """A line more in one source file."""
    actual = sources.read
    monkeypatch.setattr(sources, "read", lambda other: actual(other) + "// changed\n" * (other == name))


def test_the_same_program_is_built_once(made):
    assert made.build() == made.build()
    assert made.calls() == [True, False]
    assert made.build("address") != made.build()
    assert made.calls() == [True, False, True, False]


@pytest.mark.parametrize("name", ["grid_exact.cu", "grid_window.cuh", "portable.cuh", "host_shim.cuh"])
def test_a_change_of_the_source_or_of_a_header_that_it_includes_builds_anew(made, monkeypatch, name):
    before = made.build()
    change(monkeypatch, name)
    after = made.build()
    assert after != before
    assert made.calls() == [True, False] + ([True, False] if name == "host_shim.cuh" else [False])
    if name != "host_shim.cuh":  # whose text is in the precompiled header
        assert "// changed" in after.read_text()
        assert "// changed" not in before.read_text()


@pytest.mark.parametrize("name", ["wigner.cu", "mma.cuh"])
def test_a_change_of_a_file_that_the_source_does_not_include_builds_nothing(made, monkeypatch, name):
    before = made.build()
    change(monkeypatch, name)
    assert made.build() == before
    assert made.calls() == [True, False]


def test_another_version_of_the_compiler_and_other_flags_build_anew(made, monkeypatch):
    paths = {made.build()}
    made.version("two")
    paths.add(made.build())
    monkeypatch.setitem(host.BUILDS, "plain", ("-O0", *host.BUILDS["plain"]))
    paths.add(made.build())
    assert len(paths) == 3
    assert made.calls() == [True, False] * 3


def test_an_interrupted_build_is_not_taken_for_a_whole_one(made, monkeypatch):
    whole = made.build()
    content = whole.read_bytes()
    whole.unlink()

    def interrupted(words):
        words[words.index("-o") + 1].write_bytes(content[:100])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(host, "_run_compiler", interrupted)
        with pytest.raises(KeyboardInterrupt):
            made.build()
    assert not whole.exists()
    # A process that was killed cleans nothing up: its workspace stays, under another name.
    (made.folder / f"{whole.name}.part0").mkdir()
    (made.folder / f"{whole.name}.part0" / "result").write_bytes(content[:100])
    assert made.build() == whole
    assert whole.read_bytes() == content


def test_runs_that_want_the_same_program_at_once_build_it_once(made):
    paths = []
    threads = [threading.Thread(target=lambda: paths.append(made.build())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(paths) == 8
    assert len(set(paths)) == 1
    assert made.calls() == [True, False]


def test_a_program_that_the_compiler_refuses_is_not_stored(made, monkeypatch):
    made.build()
    (made.folder.parent / "compiler").write_text('#!/bin/sh\n[ "$1" = -v ] || { echo refused >&2; exit 1; }\n')
    made.version("another")
    stored = sorted(made.folder.iterdir())
    for _ in range(2):
        with pytest.raises(RuntimeError, match="refused"):
            made.build()
    assert [path for path in sorted(made.folder.iterdir()) if path not in stored and path.suffix != ".lock"] == []


def test_what_no_run_uses_is_removed_and_what_one_used_stays(cases, made):
    day, path = 86400, made.build()
    now = path.stat().st_mtime
    os.utime(path, (0, 0))
    made.build()  # uses it
    old, workspace = made.folder / "old", made.folder / "killed.part"
    old.write_bytes(bytes(10))
    workspace.mkdir()
    (workspace / "result").write_bytes(bytes(10))
    for entry in (old, workspace):
        os.utime(entry, (now - 31 * day,) * 2)
    cases.prune(made.folder, now)
    assert path.exists()
    assert not old.exists()
    assert not workspace.exists()


def test_a_folder_that_grows_too_large_loses_what_was_unused_for_longest(cases, tmp_path):
    day, now = 86400, 1e9
    for age in (0, 2, 3, 4):
        (tmp_path / str(age)).write_bytes(bytes(100))
        os.utime(tmp_path / str(age), (now - age * day,) * 2)
    cases.prune(tmp_path, now, most=250)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "2"]
    cases.prune(tmp_path, now, most=50)  # what was used today may be in use
    assert [path.name for path in tmp_path.iterdir()] == ["0"]


def test_the_folder_is_named_by_the_environment_or_lies_in_the_users_cache(cases, monkeypatch, tmp_path):
    monkeypatch.setenv("EQUIHARNESS_BUILDS", str(tmp_path))
    assert cases.builds_folder() == tmp_path
    monkeypatch.delenv("EQUIHARNESS_BUILDS")
    assert cases.builds_folder().parts[-2:] == ("equiharness", "builds")


@pytest.fixture
def fake_nvrtc():
    """Counts what it compiles."""
    compiled = []
    return SimpleNamespace(
        compiled=compiled,
        getVersion=lambda: (13, 0),
        createProgram=lambda text, name, headers, names: text,
        compileProgram=lambda handle, options: compiled.append((handle, options)),
        getCUBIN=lambda handle: b"code of " + handle.encode(),
        getProgramLog=lambda handle: f"log of {handle}",
        destroyProgram=lambda handle: None,
    )


def test_nvrtc_compiles_again_where_program_flags_or_version_differ_and_nowhere_else(cases, fake_nvrtc, tmp_path):
    def compiled(text="text", flags=("--sm_90",), version="13.0.88"):
        nvrtc = cases.StoredNvrtc(fake_nvrtc, version, tmp_path)
        program = nvrtc.createProgram(text, "name.cu", (), ())
        nvrtc.compileProgram(program, flags)
        assert nvrtc.getProgramLog(program) == f"log of {text}"
        assert nvrtc.getCUBIN(program) == f"code of {text}".encode()
        nvrtc.destroyProgram(program)
        return len(fake_nvrtc.compiled)

    assert [compiled(), compiled()] == [1, 1]
    assert compiled(text="another") == 2
    assert compiled(flags=("--sm_80",)) == 3
    assert compiled(version="13.0.89") == 4
    fake_nvrtc.getVersion = lambda: (13, 1)
    assert compiled() == 5
    assert compiled() == 5


def test_nvrtc_stores_no_failure(cases, fake_nvrtc, tmp_path):
    def refuse(handle, options):
        fake_nvrtc.compiled.append(handle)
        raise RuntimeError("refused")

    fake_nvrtc.compileProgram = refuse
    nvrtc = cases.StoredNvrtc(fake_nvrtc, "13.0.88", tmp_path)
    for _ in range(2):
        program = nvrtc.createProgram("text", "name.cu", (), ())
        with pytest.raises(RuntimeError, match="refused"):
            nvrtc.compileProgram(program, ())
        assert nvrtc.getProgramLog(program) == "log of text"
    assert len(fake_nvrtc.compiled) == 2
    assert list(tmp_path.iterdir()) == []
