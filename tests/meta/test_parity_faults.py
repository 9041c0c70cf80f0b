"""Faults of a second implementation that parity must name: in its forward, its backward, its mapping of weights."""

import equiharness as eh
import pytest
import torch
from equiharness.harness.claim.claim import Claim, Twin
from equiharness.suites.usage.parity import parity
from zoo import parity as zoo
from zoo.parity import FIELD, SECONDS, detached_bias, sound, wrong_weight_gradient


def compared(second, dtype):
    (part,) = parity(zoo.compared(second, dtype)).result.parts
    return part


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("fault", SECONDS, ids=lambda f: f.__name__)
def test_a_fault_of_the_second_implementation_is_named(fault, dtype):
    place, code = SECONDS[fault]
    part = compared(fault, dtype)
    assert part.verdict is eh.Verdict.BROKEN
    assert part.reason.code == code
    if place is not None:
        beyond = [e.element for e in part.elements if not (e.error <= e.bound)]
        assert place in beyond, beyond


@pytest.mark.parametrize("fault", [wrong_weight_gradient, detached_bias])
def test_a_right_forward_with_a_wrong_backward_passes_every_other_place(fault):
    part = compared(fault, torch.float64)
    beyond = [e.element for e in part.elements if not (e.error <= e.bound)]
    assert beyond == [SECONDS[fault][0]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_sound_pair_passes(dtype):
    assert compared(sound, dtype).verdict is eh.Verdict.EXACT


def test_an_operator_that_ignores_input_and_parameters_proves_nothing():
    def constant(theta, x):
        return 0 * x + theta["weight"].sum() * 0 + 1

    twins = (lambda: Twin("pair", constant, constant, {"weight": torch.randn(2, 2)}),)
    result = parity(Claim(constant, "C4", FIELD, FIELD, twins=twins)).result
    assert result.verdict is eh.Verdict.VACUOUS
