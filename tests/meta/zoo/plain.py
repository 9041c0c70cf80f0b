"""Mistakes with torch's own layers on the plane: what looks symmetric, and counts pixels from a corner."""

import equiharness as eh
import torch
import torch.nn.functional as F
from equiharness.harness.claim.claim import Claim
from torch import nn

from . import Fault


def field(size=8, fibre="2*trivial", group="D4"):
    return eh.Field(eh.Grid(size, size), group, fibre) if size else eh.Field(eh.Vector(), group, fibre)


def claims_of(sound, broken, source, target):
    """Claims of two functions, or of two makers of modules (classes and ``Made``)."""

    def claims(dtype, seed):
        made = []
        for thing in (sound, broken):
            torch.manual_seed(seed)
            function = thing(dtype) if isinstance(thing, type) else thing
            made.append(Claim(function, source.group, source, target, dtype=dtype, seed=seed))
        return tuple(made)

    return claims


class Attention(nn.Module):
    """Self-attention over pixels: any permutation of them is a symmetry."""

    def __init__(self, dtype):
        super().__init__()
        self.mix = nn.Linear(2, 6, dtype=dtype)

    def places(self, tokens):
        return 0.0

    def forward(self, x):
        tokens = x.flatten(2).mT
        q, k, v = self.mix(tokens + self.places(tokens)).split(2, -1)
        return ((q @ k.mT).softmax(-1) @ v).mT.reshape(x.shape)


class PlacedAttention(Attention):
    """With an embedding of positions."""

    def places(self, tokens):
        return 0.1 * torch.sin(torch.arange(tokens.shape[1]).to(tokens))[:, None]


class CausalAttention(Attention):
    """With the mask of a language model."""

    def forward(self, x):
        tokens = x.flatten(2).mT
        q, k, v = self.mix(tokens).split(2, -1)
        mask = torch.ones(tokens.shape[1], tokens.shape[1]).triu(1).to(tokens)
        return ((q @ k.mT - 1e9 * mask).softmax(-1) @ v).mT.reshape(x.shape)


class Symmetric(nn.Module):
    """A convolution whose filters are symmetrised in every call."""

    def __init__(self, dtype):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, 2, 5, 5, dtype=dtype))
        self.bias = nn.Parameter(torch.randn(2, dtype=dtype))

    def filters(self):
        turned = [self.weight.rot90(k, (-2, -1)) for k in range(4)]
        return sum([*turned, *(w.flip(-1) for w in turned)]) / 8

    def forward(self, x):
        return F.conv2d(x, self.filters(), self.bias, padding=2)


class NotMirrored(Symmetric):
    """The rotations only, claimed for reflections as well."""

    def filters(self):
        return sum(self.weight.rot90(k, (-2, -1)) for k in range(4)) / 4


class BiasMap(Symmetric):
    """A bias for each pixel."""

    def forward(self, x):
        return super().forward(x) + torch.linspace(0, 1, x.shape[-1]).to(x)


class Halves(Symmetric):
    """Averages over half of the turns."""

    def filters(self):
        return (self.weight + self.weight.rot90(2, (-2, -1))) / 2


class AffineEach(nn.Module):
    """Layer norm with a scale for each pixel, as after some training."""

    def __init__(self, dtype):
        super().__init__()
        self.norm = nn.LayerNorm((2, 8, 8), dtype=dtype)
        nn.init.uniform_(self.norm.weight, 0.5, 1.5)

    def forward(self, x):
        return self.norm(x)


class AffineNone(nn.Module):
    """Layer norm without."""

    def __init__(self, dtype):
        super().__init__()
        self.norm = nn.LayerNorm((2, 8, 8), dtype=dtype, elementwise_affine=False)

    def forward(self, x):
        return self.norm(x)


class Flat(nn.Module):
    """Pixels flattened into a linear map."""

    def __init__(self, dtype):
        super().__init__()
        self.head = nn.Linear(2 * 64, 3, dtype=dtype)

    def forward(self, x):
        return self.head(x.flatten(1))


class Pooled(nn.Module):
    """Pixels pooled before the linear map."""

    def __init__(self, dtype):
        super().__init__()
        self.head = nn.Linear(2, 3, dtype=dtype)

    def forward(self, x):
        return self.head(torch.relu(x).mean((2, 3)))


def mean(x):
    return torch.relu(x).mean((2, 3))


def centre_of_mass(x):
    """Where the signal lies, in pixels from the corner."""
    p = x.flatten(2).softmax(-1).reshape(x.shape)
    return torch.stack([(p.sum(3) @ torch.arange(8).to(x)), (p.sum(2) @ torch.arange(8).to(x))], -1).flatten(1)


def centred_mass(x):
    """Where it lies from the centre: a vector."""
    p = x.flatten(2).softmax(-1).reshape(x.shape)
    steps = torch.arange(8).to(x) - 3.5
    return torch.stack([p.sum(3) @ steps, p.sum(2) @ steps], -1).flatten(1)


def blurred(x, kernel):
    weight = torch.tensor(kernel).to(x)
    weight = (weight[:, None] * weight / weight.sum() ** 2).expand(2, 1, -1, -1)
    return F.conv2d(F.pad(x, (0, len(kernel) - 1, 0, len(kernel) - 1)), weight, groups=2)[..., :8, :8]


def gaussian(x):
    weight = torch.tensor([1.0, 2.0, 1.0]).to(x)
    return F.conv2d(x, (weight[:, None] * weight / 16).expand(2, 1, 3, 3), padding=1, groups=2)


def sampled(x, align):
    """Twice the size through a grid of positions, made for one convention of corners and read by another."""
    t = torch.linspace(-1, 1, 16).to(x)
    grid = torch.stack(torch.meshgrid(t, t, indexing="ij")[::-1], -1).expand(len(x), -1, -1, -1)
    return F.grid_sample(x, grid if align else grid + 1 / 16, align_corners=align)


D4, HALF, DOUBLE, NUMBERS = field(), field(4), field(16), field(0, "3*trivial")
VECTORS = field(0, "2*standard")
#: name -> (sound, broken, source, target, property)
PAIRS = {
    "attention with positions": (Attention, PlacedAttention, D4, D4),
    "attention with a causal mask": (Attention, CausalAttention, D4, D4),
    "a layer of rotations claimed for reflections": (Symmetric, NotMirrored, D4, D4),
    "averaged over half of the turns": (Symmetric, Halves, D4, D4),
    "a bias for each pixel": (Symmetric, BiasMap, D4, D4),
    "a scale for each pixel in a layer norm": (AffineNone, AffineEach, D4, D4),
    "pixels flattened into a linear head": (Pooled, Flat, D4, NUMBERS),
    "softmax along rows": (lambda x: x.flatten(2).softmax(-1).reshape(x.shape), lambda x: x.softmax(-1), D4, D4),
    "a cumulative sum": (lambda x: 2 * x, lambda x: x + 1e-2 * x.cumsum(-1), D4, D4),
    "coordinates as channels": (gaussian, lambda x: gaussian(x) * torch.linspace(1, 1.01, 8).to(x), D4, D4),
    "a centre of mass from the corner": (centred_mass, centre_of_mass, D4, VECTORS),
    "row before column in a vector": (
        centred_mass,
        lambda x: centred_mass(x).unflatten(1, (2, 2)).flip(-1).flatten(1) * torch.tensor([1, -1, 1, -1]).to(x),
        D4,
        VECTORS,
    ),
    "a blur of even length": (gaussian, lambda x: blurred(x, [1.0, 1.0]), D4, D4),
    "a stride of 2 on an even size": (lambda x: F.avg_pool2d(x, 2), lambda x: gaussian(x)[..., ::2, ::2], D4, HALF),
    "a max-pool of 3 with stride 2 on an even size": (
        lambda x: F.max_pool2d(x, 2),
        lambda x: F.max_pool2d(x, 3, 2, padding=1),
        D4,
        HALF,
    ),
    "nearest neighbours by a broken factor": (
        lambda x: F.interpolate(x, scale_factor=2, mode="nearest"),
        lambda x: F.interpolate(F.interpolate(x, size=9, mode="nearest"), size=16, mode="nearest"),
        D4,
        DOUBLE,
    ),
    "corners aligned on one side of a grid sample": (
        lambda x: sampled(x, True),
        lambda x: sampled(x, False),
        D4,
        DOUBLE,
    ),
    "circular on one axis": (
        lambda x: F.conv2d(F.pad(x, (1,) * 4, mode="circular"), torch.ones(2, 2, 3, 3).to(x) / 9),
        lambda x: F.conv2d(
            F.pad(F.pad(x, (1, 1, 0, 0), mode="circular"), (0, 0, 1, 1)), torch.ones(2, 2, 3, 3).to(x) / 9
        ),
        D4,
        D4,
    ),
    "reflected border on one side": (
        lambda x: F.avg_pool2d(F.pad(x, (1,) * 4, mode="reflect"), 3, 1),
        lambda x: F.avg_pool2d(F.pad(F.pad(x, (1, 0, 1, 1), mode="reflect"), (0, 1)), 3, 1),
        D4,
        D4,
    ),
    "a filter of Fourier space off centre": (
        lambda x: torch.fft.ifft2(torch.fft.fft2(x) * damping(8).to(x)).real,
        lambda x: torch.fft.ifft2(torch.fft.fft2(x) * damping(8).roll(1, -1).to(x)).real,
        D4,
        D4,
    ),
    "pixels shuffled in the wrong order": (
        lambda x: F.interpolate(x, scale_factor=2, mode="nearest"),
        lambda x: F.pixel_shuffle((x[:, :, None] * torch.tensor([1, 1.1, 1, 1]).to(x)[:, None, None]).flatten(1, 2), 2),
        D4,
        DOUBLE,
    ),
    "an index of the maximum as an output": (
        lambda x: x.flatten(2).amax(-1),
        lambda x: x.flatten(2).amax(-1) + 1e-3 * x.flatten(2).argmax(-1),
        D4,
        field(0, "2*trivial"),
    ),
}


def damping(n):
    """A gain that falls with the distance from frequency zero, in the order of the transform."""
    steps = torch.minimum(torch.arange(n), n - torch.arange(n)).double()
    return 1 / (1 + steps[:, None] ** 2 + steps**2)


FAULTS = [Fault(name, "planar", "plain", "equivariance", claims_of(*four)) for name, four in PAIRS.items()]
FAULTS += [
    Fault(
        "a mean without its last row, as an integral",
        "planar",
        "plain",
        "integration",
        claims_of(lambda x: x.mean((2, 3)), lambda x: x[..., :-1, :].mean((2, 3)), D4, field(0)),
    ),
]
