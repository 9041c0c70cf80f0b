"""gradcheck: autograd against finite differences, first and second order."""

import equiharness as eh
import pytest
import torch
from equiharness.harness.claim.claim import Claim
from equiharness.kernels import GroupConv, GroupPool, LiftingConv
from equiharness.suites.backward.finite_differences import gradcheck
from torch import nn

PLANE = eh.Field(eh.Grid(7, 7), "C4", "2*trivial")


def checked(layer, target=PLANE, **options):
    return gradcheck(Claim(layer, "C4", PLANE, target, **options)).result


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("activation", [torch.relu, torch.tanh, nn.functional.gelu])
def test_networks_with_and_without_kinks_pass(activation, seed):
    torch.manual_seed(seed)
    first, second = LiftingConv("C4", 2, 3, 3, padding=1), GroupConv("C4", 3, 2, 3, padding=1)
    pool = GroupPool("C4", "max")
    result = checked(lambda x: pool(second(activation(first(x)))), seed=seed)
    assert result.verdict is eh.Verdict.EXACT, result
    assert [p.property for p in result.parts] == ["gradcheck: first order", "gradcheck: second order"]


def test_every_input_and_parameter_is_named():
    (first, _) = checked(LiftingConv("C4", 2, 3, 3, padding=1), eh.Field(eh.Grid(7, 7), "C4", "3*regular")).parts
    assert {e.element for e in first.elements} == {"input", "weight", "bias"}


def test_a_linear_map_without_parameters_has_no_second_order():
    result = checked(lambda x: x.flip(-1) * 3)
    assert [p.property for p in result.parts] == ["gradcheck: first order"]
    assert result.verdict is eh.Verdict.EXACT


def test_a_layer_without_double_backward_is_judged_by_its_first_order():
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, grad):
            return 3 * ctx.saved_tensors[0] ** 2 * grad

    result = checked(Once.apply)
    assert result.verdict is eh.Verdict.EXACT
    assert len(result.parts) == 1


def test_a_gradient_that_is_zero_by_itself_does_no_harm():
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Conv2d(2, 2, 1), nn.InstanceNorm2d(2))  # the bias has no effect on the output
    assert checked(layer).verdict is eh.Verdict.EXACT


def test_a_slope_lost_in_the_rounding_of_a_large_constant_is_not_held_against_the_gradient():
    """All differences are exactly zero, so they agree with each other: only rounding / h says how little they show."""
    result = checked(lambda x: 1e10 + 1e-8 * x)
    assert result.verdict is eh.Verdict.VACUOUS
    assert result.error < 1 < result.bound


def test_forward_only_functions_are_skipped():
    assert checked(lambda x: x.detach() * 2).reason.code == "NOT_DIFFERENTIABLE"
