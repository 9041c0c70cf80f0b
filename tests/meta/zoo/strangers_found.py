"""Entries of the strangers that the product answered otherwise when they were written, each with what it said then.

Every expectation here is right by float64 arithmetic. OPEN names the entries that it still answers otherwise.
"""

from dataclasses import replace

import equiharness as eh
import torch
import torch.nn.functional as F
from escnn import gspaces
from escnn import nn as snn
from torch import nn

from . import Fault, Sound
from .strangers import DOUBLE, PLANE, SINGLE, Patched, fault, sound, the
from .strangers_gradients import Recomputed
from .strangers_inside import brighter
from .strangers_patched import TORCH
from .strangers_potentials import Potential, exactly, morse, potential, twelve_six
from .strangers_precision import HALF, LOSES
from .strangers_statistics import norm_in_evaluation
from .strangers_ties import HEAVY, SMALL, SQUARE
from .strangers_types import FIELDS, batch_norm, module, on, typed

# ---- half of the digits of float64


def in_float32(pair):
    """Distances and their function in float32 inside."""
    return lambda r: pair(r.float()).to(r.dtype)


class Rounded(Potential):
    """A potential whose outputs of one name are rounded to another precision."""

    def __init__(self, name, precision):
        super().__init__(morse)
        self.name, self.precision = name, precision

    def forward(self, pos):
        found = super().forward(pos)
        return {**found, self.name: found[self.name].to(self.precision).to(pos.dtype)}


IMPRECISE = {"verdict": "IMPRECISE", "dtypes": (DOUBLE,)}
DIGITS = [
    *(
        (
            replace(within, dtypes=(DOUBLE,)),
            "EXACT, BROKEN(ERROR) or IMPRECISE(CONSTANTS_IN_SINGLE): in float64 the layer loses half of its digits too",
        )
        for within in HALF[1:]  # autocast leaves float64 alone
    ),
    *(
        (
            potential(
                f"{what} of a stiff wall in float32 inside a model in double precision",
                caught,
                exactly(pair=twelve_six),
                exactly(pair=in_float32(twelve_six)),
                code="PRECISION",
                **IMPRECISE,
            ),
            says,
        )
        for what, caught, says in (
            ("energies", "rotations", "EXACT: numbers that are off by 5e-7, equally in every frame, are not mentioned"),
            ("forces", "forces", "BROKEN(GRADIENT) by a ratio of 1.1: the forces are -dE/dx of what is computed"),
        )
    ),
    (
        potential(
            "an energy rounded to float32 beside forces in double precision",
            "forces",
            exactly(pair=morse),
            lambda: Rounded("energy", SINGLE),
            code="PRECISION",
            **IMPRECISE,
        ),
        "BROKEN(GRADIENT): the forces are right to 1e-16, and differences of a rounded energy show nothing",
    ),
    (
        potential(
            "forces rounded to float16 in double precision",
            "rotations",
            exactly(pair=morse),
            lambda: Rounded("forces", torch.float16),
            code="PRECISION",
            **IMPRECISE,
        ),
        "IMPRECISE(CONSTANTS_IN_SINGLE), of five points BROKEN(ERROR): in float32 the layer is IMPRECISE(PRECISION)",
    ),
]

# ---- references that compute another function, or none

REFERENCES = [
    (
        fault(
            "a library's softmax in bfloat16",
            "equivariance",
            lambda: nn.Softmax(dim=1),
            lambda: Patched(
                nn.Softmax(dim=1),
                F,
                "softmax",
                lambda right: lambda x, dim, **rest: right(x.to(torch.bfloat16), dim).to(x.dtype),
            ),
            **LOSES,
        ),
        "BROKEN(ERROR): torch hands the replaced function to its overrides whole, and its cast to bfloat16 is not seen",
    ),
    (
        fault(
            "a library's maximum whose window is heavier at one corner",
            "equivariance",
            lambda: nn.MaxPool2d(2),
            lambda: Patched(
                nn.MaxPool2d(2),
                F,
                "max_pool2d",
                lambda right: lambda x, *rest, **more: right(x * HEAVY.to(x).repeat(4, 4), *rest, **more),
            ),
            SQUARE,
            SMALL,
        ),
        "BROKEN(HIDDEN), in float64 IMPRECISE(CONSTANTS_IN_SINGLE): the reference applies the function twice",
    ),
    (
        fault(
            "a library's batch norm by position with a weight for each row",
            "equivariance",
            norm_in_evaluation,
            lambda: Patched(
                norm_in_evaluation(),
                F,
                "batch_norm",
                lambda right: lambda x, *rest: right(x, *rest) * torch.linspace(0.99, 1.01, 7).to(x)[:, None],
            ),
            dtypes=(DOUBLE,),
        ),
        "CRASHED in float64: under torch's overrides the function is called with keywords; called alone it runs",
    ),
    (
        replace(next(f for f in TORCH if "takes rows for columns" in f.name), dtypes=(SINGLE,)),
        "IMPRECISE(PRECISION), true in an assert: the reference turns rows and columns twice; the error is 2.1",
    ),
    (
        sound("spectral norm in training after its iteration has settled", lambda: settled(), dtypes=(SINGLE,)),
        "CRASHED: addmv of Double, Float and Double; called alone the layer runs, and two calls are equal",
    ),
    (
        sound(
            "second derivatives of a step with recomputation", Recomputed, properties=("gradcheck",), dtypes=(DOUBLE,)
        ),
        "BROKEN(GRADIENT) at second order: the backward pass computes again with weights that were put back meanwhile",
    ),
]


def settled():
    """A layer whose largest singular value is known after a few hundred steps of the power iteration."""
    layer = nn.utils.parametrizations.spectral_norm(nn.Conv2d(2, 2, 1))
    for _ in range(300):
        layer.weight  # noqa: B018 - reading it is a step
    return layer


# ---- calls that depend on earlier calls


class ReadsItsVariance(nn.Module):
    """Divides by a variance that goes on running, as escnn's NormBatchNorm does in training."""

    def __init__(self, momentum):
        super().__init__()
        self.momentum = momentum
        self.register_buffer("running_var", torch.ones(2))

    def forward(self, x):
        now = x.detach().square().mean((0, 2, 3)).to(self.running_var)
        self.running_var.mul_(1 - self.momentum).add_(self.momentum * now)
        return x / (self.running_var.to(x)[:, None, None] + 1e-5).sqrt()


class WarmsUp(nn.Module):
    """Another factor in the first five calls."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return x.sin() * (1.5 if self.calls <= 5 else 1.0)


PAIRS = typed(gspaces.rot2dOnR2(4), *[gspaces.rot2dOnR2(4).irrep(1)] * 2)
CALLS = [
    (
        fault(
            "a norm that reads a variance that goes on running",
            "equivariance",
            lambda: ReadsItsVariance(0.0),
            lambda: ReadsItsVariance(0.01),
            code="STATEFUL",
            dtypes=(SINGLE,),
        ),
        "BROKEN(HIDDEN); eh.check(module, dtype='float64') is EXACT, 'the output at one input stays the same'",
    ),
    (
        fault(
            "escnn: a norm in training that reads its running variance",
            "equivariance",
            module(lambda: snn.NormBatchNorm(PAIRS).eval()),
            module(lambda: snn.NormBatchNorm(PAIRS).train()),
            on(PAIRS),
            code="STATEFUL",
            layer="escnn",
            dtypes=(SINGLE,),
        ),
        "BROKEN(HIDDEN); EXACT from eh.check(module, dtype='float64'): two calls at one input differ by 3e-3",
    ),
    (
        fault(
            "another function in the first five calls",
            "equivariance",
            the(torch.sin),
            WarmsUp,
            code="NONDETERMINISTIC",
        ),
        "AMBIGUOUS(TIE): the layer has no ties, and the second look found other calls rather than other inputs",
    ),
]

# ---- batches


def in_training():
    return batch_norm().train()


BATCHES = [
    (
        fault(
            "a squeeze that takes the batch of one away",
            "batch",
            the(lambda x: x.sin().mean((2, 3))),
            the(lambda x: x.sin().mean((2, 3)).squeeze()),
            PLANE,
            eh.Field(eh.Vector(), "C4", "2*trivial"),
            code="LEAK",
        ),
        "SKIPPED(NOT_AVAILABLE), 'the layer refuses other batches': it returned [2] for [1, 2], and eh.check passes",
    ),
    (
        sound(
            "e3nn: a batch norm in training", lambda: batch_norm().train(), FIELDS, None, ("batch",), family="points"
        ),
        "BROKEN(LEAK), 'equivariant in eval() and not in train()' beside an exact equivariance; torch's is SKIPPED",
    ),
]

# ---- paths of one precision, and a declared ceiling


def wrong_in_float32(x):
    """A kernel for float32 that is wrong by its whole size, beside a fallback for other precisions."""
    return x.sin() * (1 + torch.linspace(-1, 1, 7)) if x.dtype == SINGLE else x.sin()


PATHS = [
    (
        fault(
            "a kernel for float32 alone that is wrong",
            "equivariance",
            the(torch.sin),
            the(wrong_in_float32),
            dtypes=(SINGLE,),
        ),
        "IMPRECISE(PRECISION), true in an assert: 'structure holds, but float32 loses 22.7 bits'; the error is 1.6",
    ),
    (
        sound(
            "a picture brighter on one side, within a declared ceiling",
            the(brighter),
            properties=("equivariance",),
            contract=eh.Approximate(ceiling=0.5),
        ),
        "BROKEN(ERROR): the error 0.2 is below the ceiling, which elements on the grid do not get",
    ),
]

# ---- sizes

SIZES = [
    (
        sound(f"a scale of {scale:.0e} in double precision", the(lambda x, s=scale: s * x.sin()), dtypes=(DOUBLE,)),
        "VACUOUS: squares of the output leave the range of float64; the output itself does not",
    )
    for scale in (1e-200, 1e200)
]

# ---- off the grid


def exchanged(order):
    """A right lifting of escnn whose elements come in another order."""

    class Exchanged(nn.Module):
        def __init__(self):
            super().__init__()
            self.n = len(order)
            space = gspaces.rot2dOnR2(self.n)
            self.layer = snn.R2Conv(typed(space, space.trivial_repr), typed(space, space.regular_repr), 5, padding=2)

        def forward(self, x):
            return self.layer(snn.GeometricTensor(x, self.layer.in_type)).tensor[:, order]

    return Exchanged


def lifted(n):
    return [eh.Field(eh.Grid(17, 17), f"C{n}", fibre) for fibre in ("trivial", "regular")]


LIMITS = [
    (
        fault(
            f"escnn: elements of C{len(order)} in the order {order}",
            "off_grid",
            exchanged(list(range(len(order)))),
            exchanged(order),
            *lifted(len(order)),
            code="ACTION",
            dtypes=(SINGLE,),
            layer="escnn",
        ),
        "APPROXIMATE: errors of 1.4, 0.9 and 0.5 fall like h, since only means of filters are left in the limit; wrong "
        "actions pass as well, so that the check has no power (the right order has 0.04, 0.006, 0.0008)",
    )
    for order in ([1, 0, 2], [5, 4, 3, 2, 1, 0])
]

FOUND = DIGITS + REFERENCES + CALLS + BATCHES + PATHS + SIZES + LIMITS
#: Parts of the names of entries that are open. In float64, activations stored in float32 are imprecise too, so the
#: sound twin of those stored in float16 is none there.
OPEN = (
    "activations stored in float16",
    "a library's softmax in bfloat16",
    "a library's maximum whose window",
    "a library's batch norm by position",
    "second derivatives of a step with recomputation",
    "a scale of 1e",
    "e3nn: a batch norm in training",
)
MENDED = [replace(entry, name=f"{entry.name}, found") for entry, _ in FOUND if not entry.name.startswith(OPEN)]
FAULTS = [entry for entry in MENDED if isinstance(entry, Fault)]
SOUND = [entry for entry in MENDED if isinstance(entry, Sound)]
