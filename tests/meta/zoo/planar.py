"""Faults on the plane and of forces on atoms: of tying, padding, order, state, number; each a pair of functions."""

from dataclasses import dataclass
from typing import Any

import equiharness as eh
import numpy as np
import torch
import torch.nn.functional as F
from equiharness.harness.claim.claim import Claim
from equiharness.kernels import GroupConv, LiftingConv

from . import Fault

PLANE = eh.Field(eh.Grid(9, 9), "C4", "2*trivial")
C4 = eh.Field(eh.Grid(9, 9), "C4", "2*regular")
D4 = eh.Field(eh.Grid(7, 7), "D4", "regular")
ATOMS = eh.Field(eh.Points(6), "SO3", "standard")


@dataclass(frozen=True)
class Pair:
    """Makes the functions, and says what a check of the broken one must conclude."""

    make: Any
    source: Any = PLANE
    target: Any = C4
    verdict: str = "BROKEN"
    code: str = "ERROR"


def lift(dtype, **options):
    return LiftingConv("C4", 2, 2, 3, **{"padding": 1, "bias": False, "dtype": dtype, **options})


def correlated(filters):
    """A planar correlation with a dense filter bank [outputs, inputs, k, k]."""
    return lambda x: F.conv2d(x, filters, padding=filters.shape[-1] // 2)


def bank(dtype):
    """Filters [2, 4, 2, 3, 3] of a lifting: the base filter turned by 0, 1, 2, 3 quarter turns."""
    base = torch.randn(2, 2, 3, 3, dtype=dtype)
    return base, torch.stack([torch.rot90(base, t, (-2, -1)) for t in range(4)], 1)


def wrong_direction(dtype):
    base, sound = bank(dtype)
    wrong = torch.stack([torch.rot90(base, -t, (-2, -1)) for t in range(4)], 1)
    return correlated(sound.flatten(0, 1)), correlated(wrong.flatten(0, 1))


def counted_as_in_space(dtype):
    """Channel order: elements counted 0, 2, 3, 1 quarter turns, as signed permutations are, in place of by angle."""
    base, sound = bank(dtype)
    wrong = torch.stack([torch.rot90(base, t, (-2, -1)) for t in (0, 2, 3, 1)], 1)
    return correlated(sound.flatten(0, 1)), correlated(wrong.flatten(0, 1))


def mirrored_kernel(dtype):
    _, sound = bank(dtype)
    wrong = sound.clone()
    wrong[:, 2] = wrong[:, 2].flip(-1)
    return correlated(sound.flatten(0, 1)), correlated(wrong.flatten(0, 1))


def group_outermost(dtype):
    """Channels as (element, copy) in place of (copy, element)."""
    _, sound = bank(dtype)
    return correlated(sound.flatten(0, 1)), correlated(sound.transpose(0, 1).flatten(0, 1))


def one_tap(dtype):
    _, sound = bank(dtype)
    wrong = sound.clone()
    wrong[1, 2, 0, 0, 1] *= 1.001
    return correlated(sound.flatten(0, 1)), correlated(wrong.flatten(0, 1))


def fibre_mixed_by(table, weights):
    """y[g] = sum_h w[table[g, h]] x[h] on the regular fibre of D4: equivariant for table[g, h] = g^-1 h."""
    mix = weights[torch.from_numpy(table)]
    return lambda x: torch.einsum("gh,bhij->bgij", mix, x)


def d4_tables():
    of = eh.group("D4")
    return of, of.mul[of.inv], torch.randn(8)


def transposed_table(dtype):
    of, sound, weights = d4_tables()
    return tuple(fibre_mixed_by(np.ascontiguousarray(t), weights.to(dtype)) for t in (sound, of.mul[:, of.inv].T))


def missing_inverse(dtype):
    of, sound, weights = d4_tables()
    return tuple(fibre_mixed_by(t, weights.to(dtype)) for t in (sound, of.mul))


def one_cayley_entry(dtype):
    _, sound, weights = d4_tables()
    wrong = sound.copy()
    wrong[3, 5] = (wrong[3, 5] + 1) % 8
    return tuple(fibre_mixed_by(t, weights.to(dtype)) for t in (sound, wrong))


def after_lifting(change):
    """A sound lifting, and the same one followed by ``change``."""

    def make(dtype):
        layer = lift(dtype)
        return (lambda x: layer(x)), (lambda x: change(layer(x)))

    return make


def before_lifting(change):
    def make(dtype):
        layer = lift(dtype)
        return (lambda x: layer(x)), (lambda x: layer(change(x)))

    return make


def shifted_padding(dtype):
    layer = lift(dtype, padding=0)
    return (lambda x: layer(F.pad(x, (1, 1, 1, 1)))), (lambda x: layer(F.pad(x, (2, 0, 1, 1))))


def double_stride(dtype):
    """Every other pixel: of 9 with the centre among them, and of 10 with the centre between them."""
    layer = lift(dtype)
    return (lambda x: layer(x)[..., ::2, ::2]), (lambda x: layer(F.pad(x, (0, 1, 0, 1)))[..., 1::2, 1::2])


def one_channel_of_reflection(dtype):
    """The wrong sign of a reflection: vectors that turn right and do not mirror."""
    matrix = torch.tensor([[1.0, -0.3], [0.3, 1.0]], dtype=dtype)
    return (lambda x: 2 * x), (lambda x: torch.einsum("ij,bjhw->bihw", matrix, x))


class Counting(torch.nn.Module):
    """Counts its calls in a buffer, and its output grows with them."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return self.inner(x) * (1 + 1e-3 * self.calls)


def stateful(dtype):
    layer = lift(dtype)
    counting = Counting(layer)
    return (lambda x: layer(x)), (lambda x: counting(x))


def running_statistics(dtype):
    layer, norm = lift(dtype), torch.nn.BatchNorm2d(2).to(dtype)
    steady = torch.nn.BatchNorm2d(2).to(dtype).eval()
    return (lambda x: layer(steady(x))), (lambda x: layer(norm(x) * torch.linspace(1, 1.01, 9).to(x)))


def pair_forces(x):
    d = x[:, :, None] - x[:, None]
    return (d / (1 + (d * d).sum(-1, keepdim=True)) ** 2).sum(2)


def forces_with(change):
    return lambda dtype: (pair_forces, lambda x: change(x, pair_forces(x)))


def group_conv(change):
    def make(dtype):
        layer = GroupConv("D4", 1, 1, 3, padding=1, dtype=dtype)

        def function(x):
            return layer(x.unflatten(1, (1, 8)))

        return function, lambda x: change(function(x))

    return make


PAIRS = {
    "wrong rotation direction": Pair(wrong_direction),
    "channel order of signed permutations": Pair(counted_as_in_space),
    "channel order with the group outermost": Pair(group_outermost),
    "mirrored kernel": Pair(mirrored_kernel),
    "one tap off by a thousandth": Pair(one_tap),
    "transposed Cayley table": Pair(transposed_table, D4, D4),
    "missing inverse": Pair(missing_inverse, D4, D4),
    "one Cayley entry": Pair(one_cayley_entry, D4, D4),
    "swapped axes": Pair(after_lifting(lambda y: y.transpose(-1, -2))),
    "swapped axes before": Pair(before_lifting(lambda x: x.transpose(-1, -2))),
    "shifted padding": Pair(shifted_padding),
    "double stride": Pair(double_stride, target=eh.Field(eh.Grid(5, 5), "C4", "2*regular")),
    "off by one pixel": Pair(after_lifting(lambda y: y.roll(1, -1))),
    "reflection of the wrong sign": Pair(one_channel_of_reflection, *(2 * [eh.Field(eh.Grid(7, 7), "D4", "standard")])),
    "dropout left on": Pair(after_lifting(lambda y: F.dropout(y, 0.5)), code="NONDETERMINISTIC"),
    "noise": Pair(after_lifting(lambda y: y + 1e-3 * torch.randn_like(y)), code="NONDETERMINISTIC"),
    "batch leakage of a mirrored neighbour": Pair(after_lifting(lambda y: y + 1e-2 * y.roll(1, 0).flip(-1))),
    "NaN": Pair(after_lifting(lambda y: y.masked_fill(y > 2, float("nan"))), code="NONFINITE"),
    "uninitialised output": Pair(
        after_lifting(lambda y: torch.full_like(y, float("inf")).where(y > 1e9, y / 0)), code="NONFINITE"
    ),
    "all zero": Pair(after_lifting(torch.zeros_like), verdict="VACUOUS", code="VACUOUS"),
    "constant output": Pair(after_lifting(torch.ones_like), verdict="VACUOUS", code="VACUOUS"),
    "constant but asymmetric output": Pair(after_lifting(lambda y: torch.zeros_like(y) + torch.arange(9).to(y))),
    "a fault at scale 1e-20": Pair(after_lifting(lambda y: 1e-20 * y.roll(1, -1))),
    "a fault at scale 1e20": Pair(after_lifting(lambda y: 1e20 * y.roll(1, -1))),
    "a fault in one corner": Pair(after_lifting(lambda y: y + F.pad(y[..., :1, :1], (0, 8, 0, 8)))),
    "position added": Pair(after_lifting(lambda y: y + 1e-2 * torch.arange(9).to(y))),
    "stateful buffer": Pair(stateful, code="STATEFUL"),
    "a slope beside batch norm in train mode": Pair(running_statistics),
    "regular convolution, one element": Pair(
        group_conv(lambda y: torch.cat([y[:, :, :7], 1.01 * y[:, :, 7:]], 2)), D4, D4
    ),
    "forces along one axis": Pair(forces_with(lambda x, f: f * torch.tensor([1, 1, 1.001]).to(f)), ATOMS, ATOMS),
    "forces with a fixed axis": Pair(forces_with(lambda x, f: f + 1e-3 * torch.eye(3)[2].to(f)), ATOMS, ATOMS),
    "a cross product with a fixed axis": Pair(
        forces_with(lambda x, f: f + 1e-3 * torch.linalg.cross(x, torch.eye(3)[0].to(x).expand_as(x))), ATOMS, ATOMS
    ),
}


def claims_of(pair):
    """The claims of a pair, on weights drawn from a seed."""

    def made(dtype, seed):
        torch.manual_seed(seed)
        group = pair.source.group
        return tuple(Claim(f, group, pair.source, pair.target, dtype=dtype, seed=seed) for f in pair.make(dtype))

    return made


OURS = ("swapped", "shifted", "double", "off by", "dropout", "noise", "batch", "NaN", "uninit", "all zero", "constant")
FAULTS = [
    Fault(
        name,
        "points" if pair.source is ATOMS else "planar",
        "ours" if name.startswith((*OURS, "a fault", "position", "stateful", "regular")) else "plain",
        "equivariance",
        claims_of(pair),
        pair.verdict,
        pair.code,
    )
    for name, pair in PAIRS.items()
]
