"""Layers that work on an ordinary contiguous batch, and the statement of robustness that each of them breaks."""

import equiharness as eh
import torch
from equiharness.harness.claim.claim import Claim
from torch import nn

from . import Fault

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


def place_in_the_batch(x):
    """Another factor for each place in the batch: right for a sample alone."""
    return x * torch.linspace(2, 2.001, len(x)).to(x).reshape(-1, 1, 1, 1) if len(x) > 1 else 2 * x


STATEMENTS = {
    batch_mean: "a sample alone",
    memory_order: "strided memory",
    batch_normalised: "a sample alone",
    nan_to_all: "NaN in another sample",
    refuses_nothing: "an empty batch",
    squares_twice: "large values",
    through_denormals: "small values",
    Random(): "two backward passes",
}


def name_of(fault):
    """A fault by the name of its function or class."""
    return getattr(fault, "__name__", type(fault).__name__).replace("_", " ").lower()


def claims_of(fault):
    """Doubling, which is robust, and the fault."""
    return lambda dtype, seed: tuple(
        Claim(f, "C4", PLANE, PLANE, dtype=dtype, seed=seed) for f in (lambda x: 2 * x, fault)
    )


FAULTS = [
    Fault(
        f"not robust: {name_of(fault)}",
        "planar",
        "plain",
        "robustness",
        claims_of(fault),
        "BROKEN",
        "NOT_ROBUST",
        dtypes=(torch.float32,),
    )
    for fault in STATEMENTS
]
FAULTS += [
    Fault(f"a leak: {name_of(leak)}", "planar", "plain", "batch", claims_of(leak), "BROKEN", "LEAK")
    for leak in (batch_mean, batch_normalised, place_in_the_batch)
]
