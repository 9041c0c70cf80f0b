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


class ScaledBackward(torch.autograd.Function):
    """The identity with a gradient that is a thousandth too large."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return 1.001 * gradient


@pytest.mark.parametrize("wrong", ["input", "weight", "bias"])
def test_a_wrong_gradient_is_found_along_one_direction_and_then_named(wrong):
    layer = LiftingConv("C4", 2, 3, 3, padding=1)
    torch.nn.init.normal_(layer.bias)

    def faulty(x):
        values = {"weight": layer.weight, "bias": layer.bias}
        x = ScaledBackward.apply(x) if wrong == "input" else x
        with_fault = {n: ScaledBackward.apply(p) if n == wrong else p for n, p in values.items()}
        return torch.func.functional_call(layer, with_fault, (x,))

    target = eh.Field(eh.Grid(7, 7), "C4", "3*regular")
    sound = checked(layer, target)
    assert {e.element for e in sound.parts[0].elements} == {"all at once"}
    result = checked(faulty, target, modules=(layer,))
    assert result.verdict is eh.Verdict.BROKEN
    assert result.leaf == wrong
    assert {e.element for e in result.elements} == {"input", "weight", "bias"}


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


@pytest.mark.parametrize("size", [1e-2, 1e-3, 1e-4, 1e-5])
@pytest.mark.parametrize("seed", range(4))
def test_a_small_fault_of_a_backward_is_broken_whatever_the_rounding_of_differences(size, seed):
    class Scaled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return nn.functional.avg_pool2d(x, 3, 1, 1)

        @staticmethod
        def backward(ctx, gradient):
            return (1 + size) * nn.functional.avg_pool2d(gradient, 3, 1, 1)

    result = gradcheck(Claim(Scaled.apply, "C4", PLANE, PLANE, seed=seed), orders=1).result
    assert (result.verdict, result.reason.code) == (eh.Verdict.BROKEN, "GRADIENT"), str(result)
