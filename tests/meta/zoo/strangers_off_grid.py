"""Filters and functions off the grid."""

import equiharness as eh
import torch
import torch.nn.functional as F
from escnn import gspaces
from escnn import nn as snn

from .strangers import DOUBLE, SINGLE, fault, replaced, sound, the
from .strangers_types import module, on, typed

BOTH = ("equivariance", "adjoint")

EIGHT = eh.Field(eh.Grid(17, 17), "C8", "trivial")
EIGHTS = eh.Field(eh.Grid(17, 17), "C8", "regular")
CIRCLE = eh.Field(eh.Grid(17, 17), "SO2", "trivial")


def derivative(angles, widths=None):
    """Derivatives along eight directions, by filters of five pixels."""
    place = torch.arange(-2, 3, dtype=DOUBLE)
    y, x = -place[:, None].expand(5, 5), place.expand(5, 5)
    widths = [1.0] * len(angles) if widths is None else widths
    r2 = x * x + y * y
    bank = [
        (x * torch.cos(a) + y * torch.sin(a)) * torch.exp(-r2 / (2 * w * w))
        for a, w in zip(angles, widths, strict=True)
    ]
    return torch.stack(bank)[:, None]


EVENLY = torch.arange(8, dtype=DOUBLE) * torch.pi / 4


def correlation(bank):
    return lambda x: F.conv2d(x, bank.to(x), padding=2)


def energies(combine):
    """A function of the two slopes of a picture."""
    bank = derivative(EVENLY[[0, 2]])

    def layer(x):
        right, up = F.conv2d(x, bank.to(x), padding=2).split(1, 1)
        return combine(right, up)

    return layer


def pooled_over(step):
    bank = derivative(EVENLY)
    return lambda x: F.conv2d(x, bank.to(x), padding=2)[:, ::step].square().square().square().mean(1, keepdim=True)


ODD = torch.arange(8) % 2
BETWEEN = EVENLY - ODD * torch.pi / 12
EIGHT_TYPE = typed(gspaces.rot2dOnR2(8), gspaces.rot2dOnR2(8).regular_repr)


def eight_elu():
    return snn.ELU(EIGHT_TYPE)


def odd_elements_weaker(right):
    return lambda x, *rest, **more: right(x, *rest, **more) * (1 - 0.1 * ODD).to(x)[:, None, None]


#: Wrong by a part of what another action leaves. From a half on it is a fault. Below it the rule cannot tell a fault
#: from a small stencil, and says how large the part is.
STAYS = {"code": "PLATEAU", "dtypes": (SINGLE,)}
PART = {"verdict": "AMBIGUOUS", **STAYS}
LIMIT = {"code": "LIMIT", "dtypes": (SINGLE,)}
OFF_GRID = [
    fault(
        "filters between quarter turns at 30 degrees in place of 45",
        "off_grid",
        the(correlation(derivative(EVENLY))),
        the(correlation(derivative(BETWEEN))),
        EIGHT,
        EIGHTS,
        **PART,
    ),
    fault(
        "slopes raised to the fourth before they are added",
        "off_grid",
        the(energies(lambda a, b: (a * a + b * b).square())),
        the(energies(lambda a, b: a**4 + b**4)),
        CIRCLE,
        **PART,
    ),
    fault(
        "the larger of two slopes as the length of both",
        "off_grid",
        the(energies(lambda a, b: a * a + b * b)),
        the(energies(lambda a, b: torch.maximum(a * a, b * b))),
        CIRCLE,
        **PART,
    ),
    fault(
        "a pool over every second element of the group",
        "off_grid",
        the(pooled_over(1)),
        the(pooled_over(2)),
        EIGHT,
        **PART,
    ),
    fault(
        "filters between quarter turns that are wider",
        "off_grid",
        the(correlation(derivative(EVENLY))),
        the(correlation(derivative(EVENLY, (1 + 0.2 * ODD).tolist()))),
        EIGHT,
        EIGHTS,
        **STAYS,
    ),
    fault(
        "escnn: an elu that is weaker between quarter turns",
        "off_grid",
        module(eight_elu),
        replaced(module(eight_elu), F, "elu", odd_elements_weaker),
        on(EIGHT_TYPE, 17),
        layer="escnn",
        **LIMIT,
    ),
]
OFF = ("equivariance", "off_grid")
SOUND_OFF_GRID = [
    sound(
        "escnn: derivatives along eight directions",
        the(correlation(derivative(EVENLY))),
        EIGHT,
        EIGHTS,
        OFF,
        dtypes=(SINGLE,),
    ),
    sound(
        "escnn: a squared slope under all rotations",
        the(energies(lambda a, b: a * a + b * b)),
        CIRCLE,
        None,
        OFF,
        dtypes=(SINGLE,),
    ),
    sound("escnn: a pool of powers over eight directions", the(pooled_over(1)), EIGHT, None, OFF, dtypes=(SINGLE,)),
    sound("escnn: an elu under eight rotations", module(eight_elu), on(EIGHT_TYPE, 17), None, OFF, dtypes=(SINGLE,)),
]

FAULTS = OFF_GRID
SOUND = SOUND_OFF_GRID
