"""Faults of a second implementation of a convolution: in its forward, its backward, its mapping of weights."""

import equiharness as eh
import torch
import torch.nn.functional as F
from equiharness.harness.claim.claim import Claim, Twin

from . import Fault

FIELD = eh.Field(eh.Grid(7, 7), "C4", "3*trivial")
PARAMETERS = {"weight": (3, 3, 3, 3), "bias": (3,)}


def sound(theta, x):
    return F.conv2d(x, theta["weight"], theta["bias"], padding=1)


def spatially_flipped(theta, x):
    """A convolution in place of a cross-correlation."""
    return sound({**theta, "weight": theta["weight"].flip(-1, -2)}, x)


def transposed_channels(theta, x):
    return sound({**theta, "weight": theta["weight"].transpose(0, 1)}, x)


def without_bias(theta, x):
    return F.conv2d(x, theta["weight"], padding=1)


def one_tap_off(theta, x):
    change = torch.ones(3, 3, 3, 3, dtype=x.dtype)
    change[1, 2, 0, 1] += 1e-4
    return sound({**theta, "weight": theta["weight"] * change}, x)


def circular(theta, x):
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="circular"), theta["weight"], theta["bias"])


def batch_mixed(theta, x):
    return sound(theta, x) + 1e-3 * sound(theta, x).mean(0, keepdim=True)


def not_a_number(theta, x):
    return sound(theta, x) / torch.zeros((), dtype=x.dtype)


class DoubledTap(torch.autograd.Function):
    """The identity, with the gradient of one entry doubled."""

    @staticmethod
    def forward(ctx, weight):
        return weight.clone()

    @staticmethod
    def backward(ctx, grad):
        grad = grad.clone()
        grad[0, 0, 1, 1] *= 2
        return grad


class TurnedGradient(torch.autograd.Function):
    """The identity, with the gradient turned by 90 degrees."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad.rot90(1, (-2, -1))


def wrong_weight_gradient(theta, x):
    return sound({**theta, "weight": DoubledTap.apply(theta["weight"])}, x)


def wrong_input_gradient(theta, x):
    return sound(theta, TurnedGradient.apply(x))


def detached_bias(theta, x):
    return sound({**theta, "bias": theta["bias"].detach()}, x)


SECONDS = {
    spatially_flipped: ("output", "ERROR"),
    transposed_channels: ("output", "ERROR"),
    without_bias: ("gradient of bias", "ERROR"),
    one_tap_off: ("output", "ERROR"),
    circular: ("output", "ERROR"),
    batch_mixed: ("output", "ERROR"),
    not_a_number: (None, "NONFINITE"),
    wrong_weight_gradient: ("gradient of weight", "ERROR"),
    wrong_input_gradient: ("input gradient", "ERROR"),
    detached_bias: ("gradient of bias", "ERROR"),
}


def compared(second, dtype, seed=0):
    """The claim whose parity compares a second implementation with the first, on weights from a seed."""
    torch.manual_seed(seed)
    parameters = {n: torch.randn(s, dtype=dtype) for n, s in PARAMETERS.items()}
    twins = (lambda: Twin("pair", sound, second, parameters),)
    return Claim(lambda x: x, "C4", FIELD, FIELD, dtype=dtype, seed=seed, twins=twins)


def claims_of(second):
    """The sound pair, and the one with a fault."""
    return lambda dtype, seed: (compared(sound, dtype, seed), compared(second, dtype, seed))


FAULTS = [
    Fault(f"a twin {f.__name__.replace('_', ' ')}", "planar", "plain", "parity", claims_of(f), "BROKEN", code)
    for f, (_, code) in SECONDS.items()
]
