"""Gradients that authors write by hand: functions of autograd, seeded masks, and wrong ones that are equivariant."""

import torch
import torch.nn.functional as F
from torch import nn

from .strangers import PLANE, REGULAR, Patched, RoundConv, Wrapped, fault, sound, the

BOTH = ("equivariance", "adjoint")

#: Filters of a lifting, in float32 as a wrapper of compiled code keeps them: [2 fields x 4 turns, 2, 3, 3].
TABLE = torch.randn(2, 2, 3, 3, generator=torch.Generator().manual_seed(5))
BANK = torch.stack([torch.rot90(TABLE, k, (-2, -1)) for k in range(4)], 1).flatten(0, 1)


def lifting(transposed):
    """A lifting on a table of float32, with a backward pass of its own."""

    class Lifting(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return F.conv2d(x, BANK.to(x.dtype), padding=1)

        @staticmethod
        def backward(ctx, grad):
            return transposed(grad, BANK.to(grad.dtype))

    return lambda x: torch.sin(Lifting.apply(x))


def transposed(grad, bank):
    return F.conv_transpose2d(grad, bank, padding=1)


def correlated(grad, bank):
    """Filters not turned by half a turn: as symmetric as the right transpose."""
    return F.conv2d(grad, bank.transpose(0, 1), padding=1)


def mirrored(grad, bank):
    return F.conv_transpose2d(grad, bank.flip(-1), padding=1)


def one_column_late(grad, bank):
    return F.conv_transpose2d(grad, bank, padding=1).roll(1, -1)


def drawn(shape, seed, draw=torch.rand):
    return draw(shape, generator=torch.Generator().manual_seed(seed))


def masked(forward_seed, backward_seed, shape):
    """A mask from a seed, kept as the seed and drawn again for the backward pass."""

    class Masked(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * (drawn(shape, forward_seed) > 0.5).to(x)

        @staticmethod
        def backward(ctx, grad):
            return grad * (drawn(shape, backward_seed) > 0.5).to(grad)

    return lambda x: Masked.apply(torch.sin(x))


EIGHT = type(PLANE)(PLANE.domain, "C4", "8*trivial")


class Noisy(nn.Module):
    """Scales channels by random numbers, drawn in the precision of the input."""

    def __init__(self, draw):
        super().__init__()
        self.draw = draw

    def forward(self, x):
        return x.sin() * (1 + 0.1 * self.draw(*x.shape[:2], 1, 1, dtype=x.dtype))


FUNCTIONS = [
    fault(
        "a backward pass that correlates where it should convolve",
        "gradcheck",
        the(lifting(transposed)),
        the(lifting(correlated)),
        PLANE,
        REGULAR,
        code="GRADIENT",
    ),
    fault(
        "a backward pass by a mirrored table",
        "adjoint",
        the(lifting(transposed)),
        the(lifting(mirrored)),
        PLANE,
        REGULAR,
    ),
    fault(
        "a backward pass one column late",
        "adjoint",
        the(lifting(transposed)),
        the(lifting(one_column_late)),
        PLANE,
        REGULAR,
    ),
    fault(
        "a mask of channels drawn anew from the next seed for the backward pass",
        "gradcheck",
        the(masked(3, 3, (8, 1, 1))),
        the(masked(3, 4, (8, 1, 1))),
        EIGHT,
        code="GRADIENT",
    ),
    fault(
        "a seeded mask of pixels where channels were meant",
        "equivariance",
        the(masked(3, 3, (8, 1, 1))),
        the(masked(3, 3, (8, 7, 7))),
        EIGHT,
    ),
    fault(
        "a dropout of channels by a library that drops pixels",
        "equivariance",
        lambda: nn.Sequential(RoundConv(), nn.Dropout2d(0.3)),
        lambda: Patched(
            nn.Sequential(RoundConv(), nn.Dropout2d(0.3)),
            F,
            "dropout2d",
            lambda right: lambda x, p, training, inplace: F.dropout(x, p, training, inplace),
        ),
        call_seed=1,
    ),
]
SOUND_FUNCTIONS = [
    sound(
        "a function of autograd on a table of float32",
        the(lifting(transposed)),
        PLANE,
        REGULAR,
        ("equivariance", "adjoint", "gradcheck", "batch"),
    ),
    sound(
        "a mask of channels drawn twice from one seed",
        the(masked(3, 3, (8, 1, 1))),
        EIGHT,
        properties=("equivariance", "adjoint", "gradcheck"),
    ),
    sound("channels scaled by uniform noise from the call's seed", lambda: Noisy(torch.rand), EIGHT, call_seed=2),
    sound("channels scaled by normal noise from the call's seed", lambda: Noisy(torch.randn), EIGHT, call_seed=2),
    sound(
        "a dropout of channels from the call's seed", lambda: nn.Sequential(RoundConv(), nn.Dropout2d(0.3)), call_seed=1
    ),
]


class Backward(torch.autograd.Function):
    """A forward function with a backward function (gradient, input) -> gradient."""

    @staticmethod
    def forward(ctx, x, function, change):
        ctx.save_for_backward(x)
        ctx.change = change
        return function(x)

    @staticmethod
    def backward(ctx, grad):
        return ctx.change(grad, *ctx.saved_tensors), None, None


def with_gradient(function, change):
    return lambda x: Backward.apply(x, function, change)


def swish_slope(grad, x):
    s = torch.sigmoid(x)
    return grad * (s + x * s * (1 - s))


def half_of_the_product_rule(grad, x):
    return grad * torch.sigmoid(x)


def clipped(x):
    """Clips gradients one by one, by a hook that training left behind."""
    y = x.sin()
    if y.requires_grad:
        y.register_hook(lambda grad: grad.clamp(-0.3, 0.3))
    return y


class SharedWeight(nn.Module):
    """A lifting by a function of autograd that averages, or adds, the gradients of the turned copies."""

    def __init__(self, shares):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, 2, 3, 3))
        self.shares = shares

    def forward(self, x):
        weight = Backward.apply(self.weight, torch.clone, lambda grad, _: grad / self.shares)
        bank = torch.stack([torch.rot90(weight, k, (-2, -1)) for k in range(4)], 1).flatten(0, 1)
        return torch.tanh(F.conv2d(x, bank, padding=1))


GRADIENT = {"code": "GRADIENT"}
BACKWARD = [
    fault(
        "a swish whose gradient has half of the product rule",
        "gradcheck",
        the(with_gradient(F.silu, swish_slope)),
        the(with_gradient(F.silu, half_of_the_product_rule)),
        **GRADIENT,
    ),
    fault(
        "gradients reversed by a layer for another loss",
        "gradcheck",
        RoundConv,
        lambda: nn.Sequential(RoundConv(), Wrapped(with_gradient(torch.clone, lambda grad, x: -grad))),
        **GRADIENT,
    ),
    fault("gradients clipped one by one by a hook", "gradcheck", the(torch.sin), the(clipped), **GRADIENT),
    fault(
        "weight gradients averaged over the turns of a filter, where the sum is meant",
        "gradcheck",
        lambda: SharedWeight(1),
        lambda: SharedWeight(4),
        PLANE,
        REGULAR,
        **GRADIENT,
    ),
    fault(
        "a library's gelu with the gradient of its approximation by a sigmoid",
        "gradcheck",
        nn.GELU,
        lambda: Patched(
            nn.GELU(),
            F,
            "gelu",
            lambda right: (
                lambda x, approximate: with_gradient(
                    lambda v: right(v, approximate=approximate),
                    lambda grad, v: (
                        grad
                        * (
                            torch.sigmoid(1.702 * v)
                            + 1.702 * v * torch.sigmoid(1.702 * v).mul(torch.sigmoid(-1.702 * v))
                        )
                    ),
                )(x)
            ),
        ),
        **GRADIENT,
    ),
    fault(
        "a library's norm of channels whose gradient treats the deviation as constant",
        "gradcheck",
        lambda: nn.InstanceNorm2d(2),
        lambda: Patched(
            nn.InstanceNorm2d(2),
            F,
            "instance_norm",
            lambda right: (
                lambda x, *rest: (
                    (x - x.mean((2, 3), keepdim=True))
                    / (x.var((2, 3), unbiased=False, keepdim=True).detach() + 1e-5).sqrt()
                )
            ),
        ),
        **GRADIENT,
    ),
]
BACK = ("equivariance", "adjoint", "gradcheck")
SOUND_BACKWARD = [
    sound("a swish with a gradient by hand", the(with_gradient(F.silu, swish_slope)), properties=BACK),
    sound(
        "a lifting whose weight gradients are added",
        lambda: SharedWeight(1),
        PLANE,
        REGULAR,
        (*BACK, "parameter_gradient"),
    ),
    sound(
        "a step with recomputation in the backward pass", lambda: Recomputed(), properties=("equivariance", "adjoint")
    ),
    sound("a hook that looks at gradients and leaves them", the(lambda x: looked_at(x.sin())), properties=BACK),
]


class Recomputed(nn.Module):
    """A residual step under activation checkpointing."""

    def __init__(self):
        super().__init__()
        self.layer = RoundConv()

    def forward(self, x):
        return x + torch.utils.checkpoint.checkpoint(lambda v: torch.tanh(self.layer(v)), x, use_reentrant=False)


def looked_at(y):
    if y.requires_grad:
        y.register_hook(lambda grad: None)
    return y


FAULTS = FUNCTIONS + BACKWARD
SOUND = SOUND_FUNCTIONS + SOUND_BACKWARD
