"""Where rounding crosses a kink, inputs moved off it decide: a sound layer passes there, and a fault is still seen."""

import equiharness as eh
import pytest
import torch
from equiharness.harness.claim.claim import Claim
from equiharness.suites.backward.gradients import WIDENED, _measured, adjoint

FIELD = eh.Field(eh.Grid(5, 5), "C4", "trivial")


def near_a_kink(count, generator):
    """Noise whose first value is positive and so small that float32 rounds it to zero beside one."""
    x = FIELD.random(count, generator)
    x[:, :, 0, 0] = 1e-9
    return x


def sound(x):
    return ((x + 1) - 1).relu()


def faulty(x):
    ramp = 1e-2 * torch.arange(x.shape[-1], device=x.device).to(x) * x
    return sound(x) + ramp - ramp.detach()  # a right forward with a wrong backward


def claim(function, seed):
    return Claim(function, "C4", FIELD, FIELD, inputs=near_a_kink, seed=seed)


@pytest.mark.parametrize("seed", range(3))
def test_a_sound_layer_is_exact_although_its_first_bound_shows_nothing(seed):
    first = _measured(claim(sound, seed), "adjoint").result
    assert first.reason.code in WIDENED
    assert first.error <= first.bound
    assert adjoint(claim(sound, seed)).result.verdict is eh.Verdict.EXACT


@pytest.mark.parametrize("seed", range(3))
def test_a_wrong_backward_is_broken_all_the_same(seed):
    assert adjoint(claim(faulty, seed)).result.verdict is eh.Verdict.BROKEN
