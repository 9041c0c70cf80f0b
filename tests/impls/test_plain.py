"""The unconstrained control: declared BROKEN, found BROKEN, by every property that looks at the layer."""

import equiharness as eh
import pytest
from equiharness.adapters import Case
from equiharness.harness.adapters.registry import implementations
from equiharness.harness.runs.checks import check_declarations, exit_code, plan, run_check
from equiharness.impls.peers.plain import Conv2d, Conv3d
from equiharness.suites.check import run_property
from equiharness.suites.properties import PLANNED

SUITE = "equiharness.suites.check:run_property"


@pytest.fixture
def registered(monkeypatch):
    """The control as the only registered implementation, whatever is installed."""
    monkeypatch.setattr("equiharness.harness.adapters.registry.implementations", lambda: (Conv2d(), Conv3d()))
    yield
    implementations.cache_clear()


@pytest.mark.deep  # in single precision the run over the control finds the same
@pytest.mark.parametrize("adapter", [Conv2d(), Conv3d()], ids=lambda a: a.name)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_plain_convolution_is_broken(adapter, dtype):
    stacked = []
    for case in adapter.cases():
        claim = adapter.build(case, device="cpu", dtype=dtype, seed=1)
        composable = case["channels_in"] == case["channels_out"]
        stacked.append(composable)
        for known in adapter.expected:
            if composable or known.property != "composition":
                assert run_property(known.property, claim).result.verdict is eh.Verdict.BROKEN, known
    assert any(stacked)


def test_a_run_over_the_control_alone_holds_as_declared(registered):
    check_declarations([], PLANNED)
    checks = plan([], PLANNED, suite=SUITE, dtypes=["float32"])
    results = [run_check(check).result for check in checks]
    assert {r.label for r in results} == {"EXPECTED", "PASS", "SKIP"}
    assert exit_code(results, strict=True) == 0


def test_the_flops_are_those_of_the_convolution():
    case = Case.of(group="C4", size=9, kernel=3, channels_in=2, channels_out=5)
    assert Conv2d().cost(case).flops == 2 * 2 * 5 * 9 * 81
    case = Case.of(group="O", size=5, kernel=3, channels_in=2, channels_out=5)
    assert Conv3d().cost(case).flops == 2 * 2 * 5 * 27 * 125
