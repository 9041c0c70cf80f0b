"""Small smooth faults beside kinks, and arguments that are taken without a word."""

import functools

import equiharness as eh
import torch
import torch.nn.functional as F
from torch import nn

from .strangers import (
    DOUBLE,
    PLANE,
    VECTOR,
    Patched,
    fault,
    sound,
    the,
)

BOTH = ("equivariance", "adjoint")
SQUARE = eh.Field(eh.Grid(8, 8), "D4", "2*trivial")
SMALL = eh.Field(eh.Grid(4, 4), "D4", "2*trivial")


def lopsided(x, size):
    """A smooth fault: a picture brighter on one side."""
    return size * torch.linspace(-1, 1, x.shape[-1]).to(x) * x.sin()


def kinked(layer, size):
    return lambda x: layer(x) + lopsided(layer(x), size)


def top_pixels(x):
    """Keeps the four largest pixels of each channel."""
    flat = x.flatten(2)
    return (flat * (flat >= flat.topk(4).values[..., -1:])).view(x.shape)


def medians(x):
    return F.unfold(x, 3, padding=1).unflatten(1, (2, 9)).median(2).values.view(x.shape)


def beside(name, layer, size, source=PLANE, target=None, **options):
    return fault(name, "equivariance", the(layer), the(kinked(layer, size)), source, target, **options)


#: One corner of a window of two by two.
HEAVY = torch.tensor([[1 + 1e-4, 1], [1, 1]], dtype=DOUBLE)
TIES = [
    beside("a side brighter by a ten-thousandth behind a relu", torch.relu, 1e-4),
    beside("a side brighter by a ten-thousandth behind the largest pixels", top_pixels, 1e-4),
    beside("a side brighter by a hundred-thousandth behind a median", medians, 1e-5),
    beside(
        "a side brighter by a billionth behind a relu",
        torch.relu,
        1e-9,
        verdict="IMPRECISE",
        code="CONSTANTS_IN_SINGLE",
        dtypes=(DOUBLE,),
    ),
    beside(
        "a side brighter by a thousandth behind a maximum",
        functools.partial(F.max_pool2d, kernel_size=2),
        1e-3,
        SQUARE,
        SMALL,
    ),
    fault(
        "a layer's maximum whose window is heavier at one corner",
        "equivariance",
        lambda: nn.MaxPool2d(2),
        lambda: Patched(
            nn.MaxPool2d(2),
            nn.MaxPool2d,
            "forward",
            lambda right: lambda layer, x: right(layer, x * HEAVY.to(x).repeat(4, 4)),
        ),
        SQUARE,
        SMALL,
    ),
    fault(
        "a library's leaky relu whose slope grows along the rows",
        "equivariance",
        nn.LeakyReLU,
        lambda: Patched(
            nn.LeakyReLU(),
            F,
            "leaky_relu",
            lambda right: (
                lambda x, slope, inplace: torch.where(x > 0, x, x * (slope + 1e-4 * torch.arange(x.shape[-1]).to(x)))
            ),
        ),
    ),
]
SOUND_TIES = [
    sound("the largest pixels", the(top_pixels)),
    sound("a median of nine", the(medians)),
    sound("a leaky relu", nn.LeakyReLU, properties=(*BOTH, "gradcheck")),
    sound("a relu of a difference of neighbours", the(lambda x: torch.relu(x - F.max_pool2d(x, 3, 1, 1) + 0.3))),
]


class Turned(nn.Module):
    """A message along an arrow, with a frame that it can leave out and a strength."""

    def forward(self, arrow, strength=None, axis=None, **rest):
        scale = 1.0 if strength is None else strength
        turned = arrow if axis is None else arrow + torch.linalg.cross(axis, arrow)
        return turned * torch.sigmoid(arrow.square().sum(-1, keepdim=True)) * scale


class Misnamed(Turned):
    """Takes an argument of another name in its open end, and a fixed axis in its place."""

    def forward(self, arrow, strength=None, director=None, **rest):
        axis = torch.tensor([[0.0, 0.0, 1.0]]).to(arrow).expand_as(arrow) if director is None else director
        return super().forward(arrow, strength, axis)


class Positional(Turned):
    """Takes its arguments in the order of an older release."""

    def forward(self, arrow, axis=None, strength=None):
        return arrow * strength.mean(-1, keepdim=True) + torch.linalg.cross(axis.expand_as(arrow), arrow)


NAMED = {"arrow": VECTOR, "strength": eh.Field(eh.Vector(), "SO3"), "axis": VECTOR}
ARGUMENTS = [
    fault(
        "an axis swallowed under another name",
        "equivariance",
        Turned,
        Misnamed,
        NAMED,
        VECTOR,
        group="SO3",
        family="points",
    ),
    fault(
        "a strength taken for the axis by position",
        "equivariance",
        Turned,
        Positional,
        (VECTOR, eh.Field(eh.Vector(), "SO3"), VECTOR),
        VECTOR,
        group="SO3",
        family="points",
    ),
    fault(
        "a partial that fixes the axis and takes no other",
        "equivariance",
        the(lambda arrow, axis: arrow + torch.linalg.cross(axis, arrow)),
        the(lambda arrow, axis: arrow + torch.linalg.cross(torch.ones(1, 3).to(arrow).expand_as(arrow), arrow)),
        {"arrow": VECTOR, "axis": VECTOR},
        VECTOR,
        group="SO3",
        family="points",
    ),
    fault(
        "a library's interpolation that adds a part of the rows above",
        "equivariance",
        lambda: nn.Upsample(scale_factor=2, mode="bilinear"),
        lambda: Patched(
            nn.Upsample(scale_factor=2, mode="bilinear"),
            F,
            "interpolate",
            lambda right: lambda x, *rest, **more: right(x, *rest, **more) + 1e-2 * right(x, scale_factor=2).cumsum(2),
        ),
        SMALL,
        SQUARE,
    ),
]
SOUND_ARGUMENTS = [
    sound("arguments by their names", Turned, NAMED, VECTOR, group="SO3", family="points"),
    sound(
        "arguments in their order",
        Turned,
        (VECTOR, eh.Field(eh.Vector(), "SO3"), VECTOR),
        VECTOR,
        group="SO3",
        family="points",
    ),
    sound("an upsampling between pixels", lambda: nn.Upsample(scale_factor=2, mode="bilinear"), SMALL, SQUARE),
]

FAULTS = TIES + ARGUMENTS
SOUND = SOUND_TIES + SOUND_ARGUMENTS
