"""Faults that one pass over noise does not show: rare inputs, depth, training, precision, compilers."""

from dataclasses import replace

import equiharness as eh
import torch
import torch.nn.functional as F
from equiharness.harness.claim.claim import Claim
from equiharness.kernels import GroupConv
from torch import nn

from . import Fault

PLANE = eh.Field(eh.Grid(7, 7), "C4", "2*trivial")
REGULAR = eh.Field(eh.Grid(7, 7), "C4", "2*regular", split=True)


def pair(sound, broken, field=PLANE, **options):
    """Claims of two modules, each made from its own seed; ``options`` are the claim's."""

    def claims(dtype, seed):
        made = []
        for kind in (sound, broken):
            torch.manual_seed(seed)
            module = kind().to(dtype)
            claim = Claim(module, field.group, field, field, dtype=dtype, seed=seed)
            made.append(replace(claim, modules=(module,), **options))
        return tuple(made)

    return claims


class Twice(nn.Module):
    def forward(self, x):
        return 2 * x


class Rare(nn.Module):
    """Wrong on one direction of 98, by less than rounding shows on any other."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        draw = [torch.randn(98, generator=generator, dtype=torch.float64) for _ in range(2)]
        self.u, self.v = (w / w.norm() for w in draw)

    def forward(self, x):
        return 2 * x + 6e-6 * ((x.flatten(1) @ self.v.to(x))[:, None] * self.u.to(x)).view_as(x)


class Spike(nn.Module):
    """Wrong where one pixel is beyond six standard deviations."""

    def forward(self, x):
        spike = F.softplus(4 * (x[:, :1, :1, 1:2] - 6.0)) / 4
        return x + F.pad(spike.expand(-1, 2, 1, 1), (0, 6, 0, 6))


class Dead(nn.Module):
    """A corner added where a whole sample is not negative: never on noise, always after a relu."""

    def forward(self, x):
        corner = F.pad(torch.full_like(x[..., :1, :1], 0.1), (0, 6, 0, 6))
        return 2 * x + corner * (x.flatten(1).amin(1) >= 0).to(x)[:, None, None, None]


class Saturated(nn.Module):
    """A table of positions read where values have grown beyond any that noise has."""

    def forward(self, x):
        grown = (x.flatten(1).square().mean(1) > 10).to(x)[:, None, None, None]
        return 2 * x * (1 + 1e-2 * grown * torch.arange(7).to(x))


class Tied(nn.Module):
    """Filters averaged over the quarter turns in every call."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, 2, 3, 3))

    def filters(self):
        return sum(self.weight.rot90(k, (-2, -1)) for k in range(4)) / 4

    def forward(self, x):
        return F.conv2d(x, self.filters(), padding=1)


class TiedOnce(Tied):
    """Averaged when they were made: a gradient leaves the tied subspace."""

    def __init__(self):
        super().__init__()
        with torch.no_grad():
            self.weight.copy_(super().filters())

    def filters(self):
        return self.weight


class BiasOfPixels(Tied):
    """A bias for each pixel, zero until it is trained."""

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(7, 7))

    def forward(self, x):
        return super().forward(x) + self.bias


class Summed(Tied):
    """Sums in half precision."""

    working = torch.bfloat16

    def forward(self, x):
        filters = self.filters()
        return F.conv2d(x.to(self.working), filters.to(self.working), padding=1).to(x.dtype)


class Cancelling(nn.Module):
    """A large number added and taken away again."""

    def forward(self, x):
        return (x + 1e5) - 1e5


class Convolution(GroupConv):
    def __init__(self):
        super().__init__("C4", 2, 2, 3, padding=1)


class Miscompiled(Convolution):
    """Another result under a compiler."""

    def forward(self, x):
        y = super().forward(x)
        return y * 1.0001 if torch.compiler.is_compiling() else y


class MiscompiledBackward(Convolution):
    """The right result with another gradient under a compiler."""

    def forward(self, x):
        return super().forward(x.detach() * 2 - x if torch.compiler.is_compiling() else x * 1.0)


def fault(name, prop, layer, *args, dtypes=(torch.float32,), verdict="BROKEN", code="ERROR", **options):
    return Fault(name, "planar", layer, prop, pair(*args, **options), verdict, code, dtypes=dtypes)


LOST = {"verdict": "IMPRECISE", "code": "PRECISION"}
COMPILED = {"field": REGULAR, "backends": ("aot_eager",)}
FAULTS = [
    fault("a rare direction", "worst_case", "plain", Twice, Rare),
    fault("a rare large pixel", "worst_case", "plain", Twice, Spike, dtypes=(torch.float64,)),
    fault("a corner on inputs without negative values", "composition", "plain", Twice, Dead),
    fault("positions read by large values", "composition", "plain", Twice, Saturated),
    fault("filters symmetric when they were made", "training", "plain", Tied, TiedOnce),
    fault("a bias for each pixel, once trained", "training", "plain", Tied, BiasOfPixels),
    fault("sums in bfloat16", "precision", "plain", Tied, Summed, **LOST),
    fault("a number that cancels", "precision", "plain", Twice, Cancelling, **LOST),
    fault("another result when compiled", "backends", "ours", Convolution, Miscompiled, **COMPILED),
    fault("another gradient when compiled", "backends", "ours", Convolution, MiscompiledBackward, **COMPILED),
]
