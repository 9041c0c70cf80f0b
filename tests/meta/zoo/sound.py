"""The sound set: right layers of every family, awkward ones first, on which no property may raise an alarm."""

from collections.abc import Iterator
from dataclasses import dataclass

import equiharness as eh
import torch
import torch.nn.functional as F
from equiharness import kernels as k
from equiharness.harness.claim.claim import Claim

from . import Sound, irreps, sounds, steerable
from .plain import AffineNone, Attention, Symmetric
from .planar import pair_forces

SINGLE, DOUBLE = torch.float32, torch.float64
FULL = (SINGLE, DOUBLE)
EVERY = (*FULL, torch.bfloat16, torch.float16)
FORWARD, BOTH = ("equivariance",), ("equivariance", "adjoint")


@dataclass(frozen=True)
class Check:
    """One check of the sound set."""

    sound: Sound
    property: str
    dtype: torch.dtype
    seed: int


def checks(seeds) -> Iterator[Check]:
    """Every sound layer by property, precision and seed; layers that cost more get one seed in ten."""
    for sound in SOUND:
        few = sound.few or sound.name.startswith(COSTLY)
        for seed in list(seeds)[:: 10 if few else 1]:
            for dtype in sound.dtypes:
                for prop in sound.properties:
                    yield Check(sound, prop, dtype, seed)


#: Layers of other libraries and of space and sphere: ten to a hundred times the work of a small plane.
COSTLY = ("escnn", "e3nn", "space", "sphere")
PLANE = eh.Field(eh.Grid(5, 5), "C4", "2*trivial")
SQUARE = eh.Field(eh.Grid(4, 4), "D4", "2*trivial")
BOARD = eh.Field(eh.Grid(8, 8), "D4", "2*trivial")
REGULAR = eh.Field(eh.Grid(5, 5), "C4", "2*regular", split=True)
VECTORS = eh.Field(eh.Vector(), "SO3", "2*standard")
ATOMS = eh.Field(eh.Points(4), "SO3", "standard")


def of(function, source=PLANE, target=None, inputs=None):
    """A claim of one function whatever the seed, or of a class of modules, on inputs of its own."""

    def claim(dtype, seed):
        torch.manual_seed(seed)
        made = function(dtype) if isinstance(function, type) else function
        drawn = None if inputs is None else lambda count, generator: inputs(source, count, generator)
        return Claim(made, source.group, source, target or source, dtype=dtype, seed=seed, inputs=drawn)

    return claim


def layer(make, source=PLANE, target=None):
    """A claim of a module on weights from the seed."""

    def claim(dtype, seed):
        torch.manual_seed(seed)
        return Claim(make(dtype), source.group, source, target or source, dtype=dtype, seed=seed)

    return claim


def tied(field, count, generator):
    """Few distinct values, so that maxima are shared."""
    return torch.randint(0, 3, field.tensor_shape(count), generator=generator).double()


def dead(field, count, generator):
    """One sample below zero everywhere."""
    x = field.random(count, generator)
    x[0] = -x[0].abs() - 0.1
    return x


def blank(field, count, generator):
    """One sample of zeros."""
    x = field.random(count, generator)
    x[1] = 0
    return x


def far(field, count, generator):
    """Atoms a thousand of their distances from the origin: differences of positions lose ten bits."""
    return field.random(count, generator) + 1000 * torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)


def nearly_equal(field, count, generator):
    """Two samples that differ by a millionth."""
    x = field.random(count, generator)
    x[1] = x[0] * (1 + 1e-6)
    return x


def gated(x):
    v = x.unflatten(1, (2, 3))
    return (v * torch.sigmoid(v.square().sum(-1, keepdim=True))).flatten(1)


def directions(x):
    return F.normalize(x.unflatten(1, (2, 3)), dim=-1).flatten(1)


def crossed(x):
    u, v = x.split(3, -1)
    return torch.cat([torch.linalg.cross(u, v), u], -1)


def with_dead_channel(x):
    """The second channel is zero on every input, rightly: a rectified negative square."""
    return torch.stack([x[:, 0].sin(), torch.relu(-x[:, 1].square())], 1)


def group_layer(name, reads, writes, size, group="C4", dim=2, fields=(1, 1), **options):
    source, target = (
        eh.Field(eh.Grid(*[size] * dim), group, f"{n}*{fibre}", split=True)
        for n, fibre in zip(fields, (reads, writes), strict=True)
    )
    return layer(lambda dtype: getattr(k, name)(group, *fields, 3, padding=1, dtype=dtype, **options), source, target)


def norm(dtype):
    made = k.GroupBatchNorm("C4", 2, dtype=dtype).eval()
    torch.nn.init.uniform_(made.running_var, 0.5, 1.5)
    return made


def scalars_on(b, channels=1):
    return eh.Field(eh.Sphere(b), "SO3", f"{channels}*trivial")


SOUND = [
    Sound("a max-pool on ties", "planar", of(lambda x: F.max_pool2d(x, 3, 1, 1), PLANE, inputs=tied), FORWARD, EVERY),
    Sound(
        "a max-pool by two",
        "planar",
        of(lambda x: F.max_pool2d(x, 2, 1, 0), SQUARE, eh.Field(eh.Grid(3, 3), "D4", "2*trivial")),
        BOTH,
    ),
    Sound(
        "a max-pool by two in half precision",  # where noise has ties, at which a maximum has no gradient
        "planar",
        of(lambda x: F.max_pool2d(x, 2, 1, 0), SQUARE, eh.Field(eh.Grid(3, 3), "D4", "2*trivial")),
        FORWARD,
        (torch.bfloat16, torch.float16),
    ),
    Sound("relu with a dead sample", "planar", of(torch.relu, PLANE, inputs=dead), BOTH, EVERY),
    Sound("relu that seldom fires", "planar", of(lambda x: torch.relu(x - 1.5), BOARD), BOTH),
    Sound("a blank sample", "planar", of(torch.tanh, PLANE, inputs=blank), BOTH, EVERY),
    Sound("samples nearly equal", "planar", of(torch.tanh, PLANE, inputs=nearly_equal)),
    Sound("a channel that is zero", "planar", of(with_dead_channel), FORWARD),
    Sound("softmax over pixels", "planar", of(lambda x: x.flatten(2).softmax(-1).reshape(x.shape)), BOTH),
    Sound("a sharp softmax", "planar", of(lambda x: (20 * x).flatten(2).softmax(-1).reshape(x.shape)), FORWARD),
    Sound("log of a softmax", "planar", of(lambda x: x.flatten(2).log_softmax(-1).reshape(x.shape))),
    Sound("a cancelling sum", "planar", of(lambda x: (x + 1e3) - 1e3)),
    Sound("a sum that cancels over pixels", "planar", of(lambda x: x - x.mean((2, 3), keepdim=True))),
    Sound("a scale of 1e-20", "planar", of(lambda x: 1e-20 * x)),
    Sound("a scale of 1e20", "planar", of(lambda x: 1e20 * x)),
    Sound("a bias of 1e4", "planar", of(lambda x: x.sin() + 1e4), FORWARD),
    Sound("a square", "planar", of(torch.square), BOTH, EVERY),
    Sound("an odd power", "planar", of(lambda x: x**3)),
    Sound("exp", "planar", of(torch.exp), BOTH),
    Sound("a sign", "planar", of(lambda x: x.abs()), BOTH, EVERY),
    Sound("a quotient", "planar", of(lambda x: x / (1e-3 + x.square().mean((1, 2, 3), keepdim=True)))),
    Sound("gelu", "planar", of(F.gelu), BOTH, FULL),
    Sound("twice as large", "planar", of(lambda x: F.interpolate(x, scale_factor=2), SQUARE, BOARD), BOTH, EVERY),
    Sound("an average pool", "planar", of(lambda x: F.avg_pool2d(x, 2), BOARD, SQUARE), BOTH),
    Sound(
        "the largest pixel",
        "planar",
        of(lambda x: x.amax((2, 3)), SQUARE, eh.Field(eh.Vector(), "D4", "2*trivial")),
        BOTH,
    ),
    Sound(
        "a global mean",
        "planar",
        of(lambda x: x.mean((2, 3)), SQUARE, eh.Field(eh.Vector(), "D4", "2*trivial")),
        (*BOTH, "integration"),
    ),
    Sound("a layer norm", "planar", of(AffineNone, BOARD), BOTH),
    Sound("attention over pixels", "planar", of(Attention, SQUARE), (*BOTH, "parameter_gradient")),
    Sound("a symmetrised convolution", "planar", of(Symmetric, BOARD), (*BOTH, "parameter_gradient")),
    Sound("a lifting", "planar", group_layer("LiftingConv", "trivial", "regular", 5), (*BOTH, "parameter_gradient")),
    Sound(
        "a group convolution",
        "planar",
        group_layer("GroupConv", "regular", "regular", 5),
        (*BOTH, "parameter_gradient"),
    ),
    Sound("a norm of group feature maps", "planar", layer(norm, REGULAR)),
    Sound(
        "a maximum over the group on ties", "planar", of(k.GroupPool("C4"), REGULAR, PLANE, inputs=tied), FORWARD, EVERY
    ),
    Sound("gated vectors", "points", of(gated, VECTORS), BOTH),
    Sound("directions of vectors", "points", of(directions, VECTORS), BOTH),
    Sound("products of vectors", "points", of(crossed, VECTORS), BOTH),
    Sound("pair forces", "points", of(pair_forces, ATOMS), BOTH),
    Sound("pair forces far from the origin", "points", of(pair_forces, ATOMS, inputs=far), FORWARD),
    Sound("space: a lifting", "octahedral", group_layer("LiftingConv", "trivial", "regular", 3, "O", 3), BOTH),
    Sound(
        "space: a group convolution", "octahedral", group_layer("GroupConv", "regular", "regular", 2, "O", 3), FORWARD
    ),
    Sound(
        "space: a max-pool",
        "octahedral",
        of(lambda x: F.max_pool3d(x, 3, 1, 1), eh.Field(eh.Grid(3, 3, 3), "Oh")),
        FORWARD,
    ),
    Sound(
        "sphere: an integral",
        "spherical",
        of(k.s2_integrate, scalars_on(4), eh.Field(eh.Vector(), "SO3")),
        (*BOTH, "integration"),
    ),
    Sound("sphere: fewer degrees", "spherical", of(lambda x: k.s2_resample(x, 3), scalars_on(4), scalars_on(3)), BOTH),
    Sound(
        "sphere: a convolution",
        "spherical",
        layer(
            lambda dtype: k.S2Conv(1, 1, 3, 3, k.s2_near_identity()).to(dtype),
            scalars_on(3),
            eh.Field(eh.Rotations(3), "SO3"),
        ),
        BOTH,
    ),
    Sound(
        "sphere: a rectified signal in the limit", "spherical", of(torch.tanh, scalars_on(6)), ("aliasing",), (SINGLE,)
    ),
    *(
        Sound(
            f"escnn.{adapter.__name__}",
            "planar",
            lambda dtype, seed, adapter=adapter: steerable.built(adapter, dtype, seed, group="C4", size=5, fields=2),
            BOTH,
            # NormPool returns float32, whatever it is given.
            (SINGLE,) if adapter is steerable.adapters.NormPool else FULL,
        )
        for adapter in (steerable.adapters.ReLU, steerable.adapters.NormPool, steerable.adapters.InnerBatchNorm)
    ),
    Sound(
        "escnn.R2Conv",
        "planar",
        lambda dtype, seed: steerable.built(
            steerable.adapters.R2Conv, dtype, seed, group="C4", size=5, **steerable.CONV
        ),
        BOTH,
        (SINGLE,),  # its basis is sampled in float32
    ),
    Sound(
        "e3nn.Linear", "points", lambda dtype, seed: irreps.built(irreps.adapters.Linear, dtype, seed, **irreps.LINEAR)
    ),
    Sound("e3nn.Gate", "points", lambda dtype, seed: irreps.built(irreps.adapters.Gate, dtype, seed, **irreps.GATE)),
    Sound(
        "e3nn.SphericalHarmonics",
        "points",
        lambda dtype, seed: irreps.built(irreps.adapters.SphericalHarmonics, dtype, seed, **irreps.HARMONICS),
    ),
    *sounds(),
]
