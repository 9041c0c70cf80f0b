"""Layers with a right forward and a wrong backward: equivariance passes, and the property that must fail is named."""

import equiharness as eh
import pytest
import torch
from equiharness.harness.claim.claim import Claim
from equiharness.kernels import LiftingConv
from equiharness.suites.check import run_property
from torch import nn
from zoo.gradients import INPUT_FAULTS, PLANE, REGULAR, WEIGHT_FAULTS, Backward, Lifting, turned


def verdict(layer, prop, dtype, target=REGULAR, source=PLANE):
    return run_property(prop, Claim(layer, "C4", source, target, dtype=dtype)).result.verdict


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("fault", WEIGHT_FAULTS.values(), ids=WEIGHT_FAULTS)
def test_a_wrong_weight_gradient_fails_the_parameter_gradient_alone(fault, dtype):
    layer = Lifting(dtype, **fault)
    assert verdict(layer, "equivariance", dtype) is eh.Verdict.EXACT
    assert verdict(layer, "adjoint", dtype) is eh.Verdict.EXACT
    assert verdict(layer, "parameter_gradient", dtype) is eh.Verdict.BROKEN


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("fault", INPUT_FAULTS.values(), ids=INPUT_FAULTS)
def test_a_wrong_input_gradient_fails_the_adjoint(fault, dtype):
    layer = Lifting(dtype, **fault)
    assert verdict(layer, "equivariance", dtype) is eh.Verdict.EXACT
    assert verdict(layer, "adjoint", dtype) is eh.Verdict.BROKEN


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("prop", ["equivariance", "adjoint", "parameter_gradient"])
def test_the_sound_layer_passes_all_three(prop, dtype):
    assert verdict(Lifting(dtype), prop, dtype) is eh.Verdict.EXACT


@pytest.mark.parametrize("place", ["bank", "inside"])
def test_a_gradient_turned_within_the_group_is_found_by_finite_differences_alone(place):
    layer = Lifting(torch.float32, **{place: turned})
    assert verdict(layer, "adjoint", torch.float32) is eh.Verdict.EXACT
    result = run_property("gradcheck", Claim(layer, "C4", PLANE, REGULAR)).result
    assert (result.verdict, result.reason.code) == (eh.Verdict.BROKEN, "GRADIENT")
    assert result.leaf == ("layer.weight" if place == "bank" else "input")


@pytest.mark.parametrize(
    "fault", [*WEIGHT_FAULTS.values(), *INPUT_FAULTS.values()], ids=[*WEIGHT_FAULTS, *INPUT_FAULTS]
)
def test_every_wrong_backward_fails_finite_differences_too(fault):
    assert verdict(Lifting(torch.float32, **fault), "gradcheck", torch.float32) is eh.Verdict.BROKEN


def test_a_wrong_second_derivative_is_found_where_the_first_is_right():
    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            return 3 * (x**2).detach() * grad  # the dependence on x is lost

    made = Claim(Cube.apply, "C4", PLANE, PLANE)
    result = run_property("gradcheck", made).result
    first, second = result.parts
    assert (first.verdict, second.verdict) == (eh.Verdict.EXACT, eh.Verdict.BROKEN)


def test_weights_that_are_symmetric_by_value_only_fail_the_parameter_gradient():
    torch.manual_seed(0)
    layer = nn.Conv2d(2, 2, 3, padding=1)
    with torch.no_grad():
        layer.weight.copy_(sum(layer.weight.rot90(k, (-2, -1)) for k in range(4)) / 4)
    assert verdict(layer, "equivariance", torch.float32, target=PLANE) is eh.Verdict.EXACT
    assert verdict(layer, "parameter_gradient", torch.float32, target=PLANE) is eh.Verdict.BROKEN


def test_a_gradient_that_never_depends_on_the_input_proves_nothing():
    def constant(x):
        return x * 0 + 1

    assert verdict(constant, "adjoint", torch.float32, target=PLANE) is eh.Verdict.VACUOUS


class Direct(nn.Module):
    """A lifting that applies an autograd function to its parameter itself, with nothing of torch in between."""

    def __init__(self, change):
        super().__init__()
        torch.manual_seed(0)
        self.layer = LiftingConv("C4", 2, 3, 3, padding=1)
        self.scale = nn.Parameter(torch.tensor([0.5, -1.0, 2.0]))
        self.change = change

    def forward(self, x):
        return self.layer(x) * Backward.apply(self.scale, self.change)[:, None, None, None]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_autograd_function_of_a_parameter_itself_is_seen(dtype):
    sound, broken = Direct(lambda grad: grad).to(dtype), Direct(lambda grad: 1.5 * grad).to(dtype)
    assert verdict(sound, "gradcheck", dtype) is eh.Verdict.EXACT
    assert verdict(sound, "parameter_gradient", dtype) is eh.Verdict.EXACT
    result = run_property("gradcheck", Claim(broken, "C4", PLANE, REGULAR, dtype=dtype)).result
    assert (result.verdict, result.leaf) == (eh.Verdict.BROKEN, "scale")
    assert all(isinstance(p, nn.Parameter) for p in broken.parameters())


def test_nan_in_the_backward_pass_alone_is_broken():
    def undefined(x):
        return torch.where(x > 0, x, x * 0) + 0 * (x - x).sqrt()

    result = run_property("adjoint", Claim(undefined, "C4", PLANE, PLANE)).result
    assert (result.verdict, result.reason.code) == (eh.Verdict.BROKEN, "NONFINITE")


class OwnFunction(nn.Module):
    """Hands its parameter straight to a function of its own, past every mode, with a wrong or right gradient."""

    class Scale(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, scale, wrong):
            ctx.save_for_backward(x, scale)
            ctx.wrong = wrong
            return x * scale

        @staticmethod
        def backward(ctx, grad):
            x, scale = ctx.saved_tensors
            found = (grad * x).sum((0, 2, 3), keepdim=True)
            if ctx.wrong:
                found = found + 1e-3 * (grad * x)[..., :1].sum((0, 2, 3), keepdim=True)
            return grad * scale, found, None

    def __init__(self, wrong):
        super().__init__()
        self.scale, self.wrong = nn.Parameter(torch.tensor([2.0, 3.0]).view(1, 2, 1, 1)), wrong

    def forward(self, x):
        return self.Scale.apply(x, self.scale, self.wrong)


@pytest.mark.parametrize("prop", ["parameter_gradient", "gradcheck"])
def test_parameters_that_no_function_of_torch_sees_are_checked_too(prop):
    assert verdict(OwnFunction(wrong=False), prop, torch.float32, target=PLANE) is eh.Verdict.EXACT
    assert verdict(OwnFunction(wrong=True), prop, torch.float32, target=PLANE) is eh.Verdict.BROKEN
