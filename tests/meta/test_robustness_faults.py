"""Layers that work on an ordinary contiguous batch, and the statement that each of them breaks."""

import equiharness as eh
import pytest
import torch
from equiharness.harness.claim import Claim
from equiharness.suites.check import check_claim
from equiharness.suites.robustness import robustness
from torch import nn

PLANE = eh.Field(eh.Grid(7, 7), "C4", "2*trivial")


def batch_mean(x):
    """An equivariant leak: every other property passes."""
    return x + 1e-3 * x.mean(0, keepdim=True)


def memory_order(x):
    """Reads the storage as if it were contiguous."""
    return torch.as_strided(x, x.shape, torch.empty(x.shape).stride(), x.storage_offset()) * 2


def batch_normalised(x):
    return x / x.square().mean().sqrt()


def nan_to_all(x):
    return x + 0 * x.sum()


def refuses_nothing(x):
    return x.reshape(len(x), -1, 7, 7) * 2


def squares_twice(x):
    """Overflows on large inputs and underflows on small ones, where the result itself is ordinary."""
    return (x.square().square().sum((1, 2, 3), keepdim=True)).pow(0.25) + x


def through_denormals(x):
    """Scales down and up again: small inputs become denormal on the way."""
    return x * 1e-28 * 1e28


class Random(nn.Module):
    """A backward pass with a random term."""

    class Noise(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, grad):
            return grad * 2 + 1e-6 * torch.randn_like(grad)

    def forward(self, x):
        return self.Noise.apply(x)


FAULTS = {
    batch_mean: "a sample alone",
    memory_order: "strided memory",
    batch_normalised: "a sample alone",
    nan_to_all: "NaN in another sample",
    refuses_nothing: "an empty batch",
    squares_twice: "large values",
    through_denormals: "small values",
    Random(): "two backward passes",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: getattr(f, "__name__", type(f).__name__))
def test_each_fault_is_named_by_its_statement(fault):
    found = robustness(Claim(fault, "C4", PLANE, PLANE)).result
    assert (found.verdict, found.reason.code) == (eh.Verdict.BROKEN, "NOT_ROBUST")
    broken = [e.element for e in found.elements if not (e.error <= e.bound)]
    assert FAULTS[fault] in [*broken, found.element]


def test_an_equivariant_leak_passes_everything_else():
    assert check_claim(Claim(batch_mean, "C4", PLANE, PLANE)).verdict is eh.Verdict.EXACT


def test_an_output_that_is_never_finite_is_said_so():
    found = robustness(Claim(lambda x: x / 0, "C4", PLANE, PLANE)).result
    assert (found.verdict, found.reason.code) == (eh.Verdict.BROKEN, "NONFINITE")
