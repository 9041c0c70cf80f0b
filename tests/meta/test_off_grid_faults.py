"""Off the grid in float32 and float64: what rounding explains is derived, and a fault beside it is seen."""

import equiharness as eh
import numpy as np
import pytest
import torch
from equiharness.harness.claim.claim import Approximate, Claim
from equiharness.harness.precisions import EPS
from equiharness.harness.verdict.decide import SAFETY
from equiharness.suites.forward.convergence import ResolutionErrors, Rounding, judge_convergence
from equiharness.suites.forward.off_grid import off_grid


def judged(function, dtype, size=17, seed=0):
    source, target = eh.Field(eh.Grid(size, size), "C8", "1*trivial"), eh.Field(eh.Vector(), "C8", "1*trivial")
    return off_grid(Claim(function, "C8", source, target, dtype=dtype, seed=seed)).result


def mean(x):
    return x.mean((-1, -2))


def leaning(share):
    """A mean whose weights grow from left to right by a share: no rotation leaves it as it is."""

    def function(x):
        return (x * (1 + share * torch.linspace(-1, 1, x.shape[-1], dtype=x.dtype))).mean((-1, -2))

    return function


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_integral_is_exact_to_rounding(dtype):
    result = judged(mean, dtype)
    assert result.verdict is eh.Verdict.APPROXIMATE, result.reason


@pytest.mark.parametrize(("share", "dtype"), [(1e-3, torch.float32), (1e-4, torch.float64)])
def test_a_small_fault_of_an_integral_is_broken(share, dtype):
    result = judged(leaning(share), dtype)
    assert (result.verdict.value, result.reason.code) == ("BROKEN", "LIMIT"), result.reason


def plateau(error, dtype, kappa):
    """The verdict on an error that stays the same on every grid, of a layer that makes kappa times eps of rounding."""
    errors = np.full((1, 8), error)
    table = [ResolutionErrors(size, errors, 0.0, 1.0) for size in (17, 33, 65)]
    return judge_convergence(table, Approximate(), Rounding(dtype, lambda: (kappa, 0.0)))[0].value


def test_what_rounding_explains_follows_the_precision_and_the_layer():
    """No figure is good for all: 1e-6 would pass the second and the fourth, and fail the sixth."""
    assert plateau(1e-6, "float32", 1.0) == "APPROXIMATE"
    assert plateau(1e-6, "float64", 1.0) == "IMPRECISE"
    assert plateau(3e-6, "float32", 1.0) == "BROKEN"
    assert plateau(1e-13, "float64", 1.0) == "IMPRECISE"
    assert plateau(1e-13, "float64", 100.0) == "APPROXIMATE"
    assert plateau(3e-6, "float32", 10.0) == "APPROXIMATE"
    assert plateau(3e-6, "float64", 1.0) == "BROKEN"


@pytest.mark.parametrize("seed", range(4))
def test_a_sound_layer_that_cancels_makes_more_of_rounding_and_a_fault_in_it_is_seen(seed):
    """1000 comes and goes: in float32 that leaves thousands of eps, at random, which are no fault."""

    def cancelling(x):
        return (x + 1000).mean((-1, -2)) - 1000

    def faulty(x):
        return cancelling(x) + leaning(0.5)(x)

    sound = judged(cancelling, torch.float32, seed=seed)
    assert sound.verdict is eh.Verdict.APPROXIMATE, sound.reason
    assert sound.resolutions[-1].error > 100 * SAFETY * EPS["float32"]
    for dtype in (torch.float32, torch.float64):
        result = judged(faulty, dtype, seed=seed)
        assert (result.verdict.value, result.reason.code) == ("BROKEN", "LIMIT"), result.reason
