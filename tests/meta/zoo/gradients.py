"""A right forward with a wrong backward: gradients of filters, inputs and outputs of a sound lifting, changed."""

import equiharness as eh
import torch
import torch.nn.functional as F
from equiharness.harness.claim.claim import Claim
from equiharness.kernels import LiftingConv
from torch import nn

from . import Fault

PLANE = eh.Field(eh.Grid(7, 7), "C4", "2*trivial")
REGULAR = eh.Field(eh.Grid(7, 7), "C4", "3*regular")


class Backward(torch.autograd.Function):
    """The identity, with its gradient changed by a function."""

    @staticmethod
    def forward(ctx, x, change):
        ctx.change = change
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return ctx.change(grad.clone()), None


class Lifting(nn.Module):
    """A sound lifting whose expanded filters, inputs or outputs have their gradients changed."""

    def __init__(self, dtype, *, bank=None, inside=None, outside=None):
        super().__init__()
        torch.manual_seed(0)
        self.layer = LiftingConv("C4", 2, 3, 3, padding=1, dtype=dtype)
        self.bank, self.inside, self.outside = bank, inside, outside

    def forward(self, x):
        filters, bias = self.layer.filter_bank(), self.layer.bias.repeat_interleave(4)
        filters = Backward.apply(filters, self.bank) if self.bank else filters
        x = Backward.apply(x, self.inside) if self.inside else x
        y = F.conv2d(x, filters, bias, padding=1).unflatten(1, (3, 4))
        return Backward.apply(y, self.outside) if self.outside else y


def doubled_tap(grad):
    """The weight gradient of one tap of one element's filter counted twice."""
    grad[0, 0, 0, 1] *= 2
    return grad


def one_percent_of_one_tap(grad):
    grad[5, 1, 2, 1] *= 1.01
    return grad


def mirrored(grad):
    """Turned by the wrong matrix. (A turned gradient commutes with C4: gradcheck is what sees it.)"""
    return grad.flip(-1)


def shifted(grad):
    return grad.roll(1, -1)


def one_corner_lost(grad):
    grad[..., 0, 0] = 0
    return grad


def elements_exchanged(grad):
    return grad[:, :, [1, 0, 2, 3]]


def one_element_halved(grad):
    grad[:, :, 2] *= 0.5
    return grad


WEIGHT_FAULTS = {
    "the weight gradient of one tap doubled": {"bank": doubled_tap},
    "one tap's weight gradient off by a percent": {"bank": one_percent_of_one_tap},
    "the filters' gradients mirrored": {"bank": mirrored},
}
INPUT_FAULTS = {
    "input gradient mirrored": {"inside": mirrored},
    "input gradient shifted": {"inside": shifted},
    "input gradient lost at a corner": {"inside": one_corner_lost},
    "output gradient with two elements exchanged": {"outside": elements_exchanged},
    "output gradient of one element halved": {"outside": one_element_halved},
}


def turned(grad):
    """Turned by a quarter: a map that commutes with C4, so that both symmetric statements hold."""
    return grad.rot90(1, (-2, -1))


def claims_of(change):
    """The sound lifting, and the one with changed gradients."""
    return lambda dtype, seed: tuple(
        Claim(Lifting(dtype, **c), "C4", PLANE, REGULAR, dtype=dtype, seed=seed) for c in ({}, change)
    )


FAULTS = [
    *(Fault(n, "planar", "ours", "parameter_gradient", claims_of(c)) for n, c in WEIGHT_FAULTS.items()),
    *(Fault(n, "planar", "ours", "adjoint", claims_of(c)) for n, c in INPUT_FAULTS.items()),
    *(
        Fault(
            f"{place} gradient turned within the group",
            "planar",
            "ours",
            "gradcheck",
            claims_of({place: turned}),
            "BROKEN",
            "GRADIENT",
            dtypes=(torch.float32,),
        )
        for place in ("bank", "inside")
    ),
]
