"""kappa has one owner: what it is, what gives no information, and that every property takes it from there."""

import equiharness as eh
import pytest
import torch
from equiharness.harness.adapters.registry import find
from equiharness.harness.precisions import EPS
from equiharness.harness.verdict.decide import SAFETY
from equiharness.suites import rounding
from equiharness.suites.check import run_property
from equiharness.suites.rounding import PERTURBATIONS, Kappa, perturbed

PLANE = eh.Field(eh.Grid(7, 7), "C4", "2*trivial")


def kappa(losses=(), changes=()):
    made = Kappa()
    for loss in losses:
        made.add_loss(torch.tensor([loss]).double() * EPS["float32"])
    for change in changes:
        made.add_change(torch.tensor([change]).double() * EPS["float64"])
    return made.worst


@pytest.mark.parametrize(
    ("losses", "changes", "value"),
    [
        ((), (), 1.0),  # nothing measured
        ((), (0.3,), 1.0),
        ((5.0,), (2.0,), 5.0),
        ((3.0, 5.0), (2.0, 40.0), 40.0),
        ((4000.0,), (2.0,), 512.0),  # computed in half precision: 2^8 C and no more
        ((4000.0,), (20.0,), 4000.0),
        ((200.0,), (0.0,), 200.0),  # the gradient of a linear map does not change with the input, and rounds
        ((float("nan"), 7.0), (float("inf"), 2.0), 7.0),  # what is not finite says nothing
    ],
)
def test_kappa_is_the_conditioning_or_float32_rounding_up_to_eight_bits_more(losses, changes, value):
    assert kappa(losses, changes) == pytest.approx(value)


def test_each_summand_has_a_kappa_of_its_own():
    made = Kappa()
    made.add_change(torch.tensor([[1.0, 30.0], [2.0, float("nan")]]) * EPS["float64"])
    assert made.value.tolist() == [2.0, 30.0]


def test_perturbations_are_the_same_for_the_same_seed_and_keep_integers():
    x = {"x": torch.rand(4, 3, dtype=torch.float64), "n": torch.arange(4)}
    first, again, other = (list(perturbed(x, seed)) for seed in (0, 0, 1))
    assert len(first) == PERTURBATIONS
    for a, b, c in zip(first, again, other, strict=True):
        assert torch.equal(a["x"], b["x"])
        assert not torch.equal(a["x"], c["x"])
        assert torch.equal(a["n"], x["n"])
        torch.testing.assert_close((a["x"] - x["x"]).abs(), EPS["float64"] * x["x"], rtol=0.6, atol=0)


def claim_of_a_twin():
    adapter = find("equiharness.GroupConv")
    return adapter.build(next(iter(adapter.cases())), device="cpu", dtype="float32", seed=0)


@pytest.mark.parametrize(
    "name", ["equivariance", "adjoint", "parameter_gradient", "worst_case", "robustness", "parity", "integration"]
)
def test_every_property_takes_kappa_from_its_owner(name, monkeypatch):
    claim = claim_of_a_twin()
    monkeypatch.setattr(rounding.Kappa, "value", property(lambda self: torch.full((1,), 777.0, dtype=torch.float64)))
    result = run_property(name, claim).result
    [row] = [r for r in result.elements if r.element == "a sample alone"] or [result]
    assert row.bound == pytest.approx(SAFETY * 777.0 * EPS["float32"], rel=1e-4)


def test_a_layer_that_computes_in_half_precision_is_imprecise_and_a_fault_in_it_is_broken():
    """The first loses 12 bits that no problem explains; the second hides behind nothing."""
    weight = torch.linspace(0.5, 1.5, 7)
    assert eh.check(lambda x: (x.half() * 3).float(), "C4", PLANE, PLANE).reason.code == "PRECISION"
    faulty = eh.check(lambda x: (x.half() * (1 + 1e-3 * weight)).float(), "C4", PLANE, PLANE)
    assert faulty.verdict is eh.Verdict.BROKEN


def test_a_sum_that_cancels_widens_its_bound_by_its_own_conditioning():
    result = eh.check(lambda x: (x + 1e4) - 1e4, "C4", PLANE, PLANE)
    assert result.verdict is eh.Verdict.EXACT, str(result)
    assert result.kappa > 1e3


def test_float32_inside_a_float64_layer_widens_no_bound():
    """Its noise is 2^29 steps of float64, and a run in float32 loses next to nothing: no sum that cancels does that."""
    weight = torch.linspace(0.5, 1.5, 7)
    third = torch.tensor(1 / 3)
    sound = eh.check(lambda x: (x.float() * third).double(), "C4", PLANE, PLANE, dtype="float64")
    assert sound.kappa <= 300
    broken = eh.check(lambda x: (x.float() * (1 + 1e-5 * weight)).double(), "C4", PLANE, PLANE, dtype="float64")
    assert broken.verdict is eh.Verdict.BROKEN
