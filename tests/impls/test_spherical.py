"""Adapters on the sphere: ours, torch-harmonics, e3nn's grids and s2cnn; two libraries, one operator."""

import importlib.util
import sys
from dataclasses import replace

import pytest
import torch
from equiharness.harness.adapters.adapter import Implementation
from equiharness.harness.claim.claim import Twin
from equiharness.harness.errors import MissingDependencyError
from equiharness.harness.verdict.result import Verdict
from equiharness.impls.peers import e3nn_grids, s2cnn, torch_harmonics
from equiharness.impls.spherical import blocks as spherical_blocks
from equiharness.impls.spherical import convolutions as spherical
from equiharness.suites.check import run_property
from equiharness.suites.usage.parity import parity

pytestmark = pytest.mark.filterwarnings("ignore")


def adapters(*modules):
    for module in modules:
        own = [v for v in vars(module).values() if isinstance(v, type) and v.__module__ == module.__name__]
        yield from (kind() for kind in own if issubclass(kind, Implementation) and hasattr(kind, "name"))


ALL = [
    (adapter, case)
    for adapter in adapters(spherical, spherical_blocks, torch_harmonics, e3nn_grids)
    for case in adapter.cases()
]
#: Adapters that name a second implementation.
PAIRED = (
    "equiharness.S2Conv", "equiharness.SO3Conv", "e3nn.ToS2Grid", "e3nn.FromS2Grid", "torch_harmonics.RealSHT"
)  # fmt: skip


def each(dear=()):
    """The first case of each adapter but these; `verify` runs over every case with every change."""
    for a, c in ALL:
        ordinary = c == next(iter(a.cases())) and a.name not in dear
        yield pytest.param(a, c, id=f"{a.name} {c.name}", marks=[] if ordinary else pytest.mark.deep)


def built(adapter, case, dtype="float32"):
    try:
        return adapter.build(case, device="cpu", dtype=dtype, seed=1)
    except MissingDependencyError as error:
        pytest.skip(str(error))


# Those that name a second implementation are compared with it below.
@pytest.mark.parametrize(("adapter", "case"), list(each(dear=(*PAIRED, "torch_harmonics.SpectralConvS2"))))
def test_every_case_ends_as_its_adapter_declares(adapter, case):
    claim = built(adapter, case)
    for name in ("equivariance", "adjoint", "parity"):
        result = run_property(name, claim).result
        known = adapter.expects(name, case, dtype="float32", device="cpu")
        if known is None:
            assert not result.verdict.fails, (name, result.reason)
        else:
            assert result.verdict in (known.verdict, Verdict.SKIPPED), (name, result.reason)


def with_parity():
    """One case of each adapter that names a second implementation."""
    return [(a, c) for a, c in ALL if a.name in PAIRED and c.name == next(iter(a.cases())).name]


PARITY = with_parity()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("adapter", "case"), PARITY, ids=[a.name for a, _ in PARITY])
def test_two_libraries_are_one_operator(adapter, case, dtype):
    result = parity(built(adapter, case, dtype)).result
    assert result.verdict in (Verdict.EXACT, Verdict.IMPRECISE), result.reason
    assert result.power > 100


@pytest.mark.parametrize(("adapter", "case"), PARITY, ids=[a.name for a, _ in PARITY])
def test_another_normalisation_is_another_operator(adapter, case):
    """The second implementation off by a part in ten thousand."""
    claim = built(adapter, case)

    def off(build):
        def made():
            twin = build()
            return Twin(twin.name, twin.first, lambda theta, x: twin.second(theta, x) * 1.0001, twin.parameters)

        return made

    result = parity(replace(claim, twins=tuple(map(off, claim.twins)))).result
    assert (result.verdict, result.reason.code) == (Verdict.BROKEN, "ERROR")


@pytest.mark.parametrize(("adapter", "case"), list(each()))
def test_costs_are_positive_and_the_backward_costs_more(adapter, case):
    cost = adapter.cost(case)
    assert 0 < cost.flops <= cost.backward_flops
    assert 0 < cost.bytes <= cost.backward_bytes


def test_a_library_whose_compiled_part_does_not_load_is_imported_without_it():
    if importlib.util.find_spec("torch_harmonics") is None:
        pytest.skip("torch-harmonics is not installed")
    before = {name for name in sys.modules if name.partition(".")[0] == "torch_harmonics"}
    assert hasattr(torch_harmonics.load("sht"), "RealSHT")
    after = {name for name in sys.modules if name.partition(".")[0] == "torch_harmonics"}
    assert before == after or "torch_harmonics" in after  # nothing half-imported is left behind


def test_a_missing_library_says_how_it_is_installed(monkeypatch):
    torch_harmonics.load.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"pip install torch-harmonics==0\.9\.1"):
        torch_harmonics.load("sht")
    torch_harmonics.load.cache_clear()


@pytest.mark.skipif(importlib.util.find_spec("s2cnn") is not None, reason="s2cnn is installed here")
def test_s2cnn_is_skipped_with_its_reason_where_it_cannot_be_imported():
    for adapter in adapters(s2cnn):
        with pytest.raises(MissingDependencyError, match="s2cnn"):
            adapter.build(next(iter(adapter.cases())), device="cpu", dtype="float32", seed=0)


def test_a_spectrum_of_ours_is_theirs_by_its_degrees():
    """Constants sit at l = 0, and m < 0 is left out."""
    spectrum = torch.zeros(1, 9, dtype=torch.complex128)
    spectrum[0, 0] = 1.0
    found = torch_harmonics.to_theirs(spectrum)
    assert found.shape == (1, 3, 3)
    assert float(found[0, 0, 0].real) == pytest.approx((4 * torch.pi) ** 0.5)
    assert int((found != 0).sum()) == 1
