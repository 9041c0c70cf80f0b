"""Claims that are wrong about layers that are right, and layouts of features of points."""

import equiharness as eh
import torch
import torch.nn.functional as F
from torch import nn

from .strangers import PLANE, REGULAR, VECTOR, Lift, Patched, Wrapped, fault, sound, the

BOTH = ("equivariance", "adjoint")

ARROWS = eh.Field(eh.Grid(7, 7), "C4", "2*standard")
ARROW = eh.Field(eh.Grid(7, 7), "C4", "standard")
CHANNEL = eh.Field(eh.Grid(7, 7), "C4", "trivial")


def squashed(x):
    """Shortens a vector: right in every order of components."""
    return x * torch.rsqrt(1 + x.square().sum(-1, keepdim=True))


def slopes(x):
    """Differences along rows and along columns, in the order of the axes of the picture."""
    padded = F.pad(x, (1, 1, 1, 1))
    down = padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
    right = padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]
    return torch.cat([down, right], 1)


def slopes_x_first(x):
    return slopes(x).flip(1)


def slopes_up(x):
    """Upwards in place of downwards, as plots have it."""
    return slopes(x) * torch.tensor([-1.0, 1.0]).to(x)[:, None, None]


def scalars_then_vector(x):
    s, v = x.split((2, 3), -1)
    return torch.cat([s.sin(), squashed(v)], -1)


def vector_then_scalars(x):
    """The same numbers, and the parts in another order."""
    return scalars_then_vector(x).roll(3, -1)


def centred(pos):
    return squashed(pos - pos.mean(1, keepdim=True))


def moved(pos):
    return pos + centred(pos)


def backwards(x, lift):
    """Elements counted the other way round."""
    y = lift(x).unflatten(1, (2, 4))
    return y.flip(2).flatten(1, 2)


class Backwards(Lift):
    """A right lifting whose elements are counted the other way round."""

    def forward(self, x):
        return super().forward(x).unflatten(1, (2, 4)).flip(2).flatten(1, 2)


POINTS = eh.Positions(5, "O3")
IN_O3 = eh.Field(eh.Vector(), "O3", "2*irrep(1, o)")
AXIS = eh.Field(eh.Vector(), "O3", "irrep(1, e)")
MIXED = eh.Field(eh.Vector(), "SO3", "2*trivial + standard")
IRREP = eh.Field(eh.Vector(), "SO3", "irrep(1)")


def product(x):
    return torch.linalg.cross(*x.split(3, -1))


def claimed(name, layer, source, right, wrong, **options):
    """One layer under two claims: faults of the claim alone."""
    good, bad = (fault("", "equivariance", layer, layer, source, target, **options) for target in (right, wrong))
    described = fault(name, "equivariance", layer, layer, source, right, **options)
    object.__setattr__(
        described, "claims", lambda dtype, seed: (good.claims(dtype, seed)[0], bad.claims(dtype, seed)[1])
    )
    return described


IN_SPACE = {"family": "points"}
CLAIMS = [
    claimed("vectors in x, y, z claimed in the order of an irrep", the(squashed), VECTOR, VECTOR, IRREP, **IN_SPACE),
    fault("slopes with the columns first", "equivariance", the(slopes), the(slopes_x_first), CHANNEL, ARROW),
    fault("slopes that point up where rows go down", "equivariance", the(slopes), the(slopes_up), CHANNEL, ARROW),
    fault("elements of a lifting counted backwards", "equivariance", Lift, Backwards, PLANE, REGULAR),
    fault(
        "a vector put before the scalars that were declared first",
        "equivariance",
        the(scalars_then_vector),
        the(vector_then_scalars),
        MIXED,
        **IN_SPACE,
    ),
    claimed(
        "an axis claimed to be an arrow",
        the(product),
        IN_O3,
        AXIS,
        eh.Field(eh.Vector(), "O3", "irrep(1, o)"),
        **IN_SPACE,
    ),
    fault(
        "displacements claimed to be positions",
        "translations",
        the(moved),
        the(centred),
        {"pos": POINTS},
        POINTS,
        group="O3",
        **IN_SPACE,
    ),
    fault(
        "a product by a library of left-handed axes",
        "equivariance",
        lambda: Wrapped(lambda x: squashed(x[:, :3]) + product(x)),
        lambda: Patched(
            Wrapped(lambda x: squashed(x[:, :3]) + product(x)),
            torch.linalg,
            "cross",
            lambda right: lambda a, b: right(a, b) * torch.tensor([1, 1, -1]).to(a),
        ),
        eh.Field(eh.Vector(), "SO3", "2*standard"),
        VECTOR,
        **IN_SPACE,
    ),
]
SOUND_CLAIMS = [
    sound("slopes of a picture, rows first", the(slopes), CHANNEL, ARROW),
    sound("a right product of arrows is an axis", the(product), IN_O3, AXIS, family="points"),
    sound("scalars and a vector as declared", the(scalars_then_vector), MIXED, family="points"),
    sound(
        "positions that move by displacements",
        the(moved),
        {"pos": POINTS},
        POINTS,
        ("rotations", "reflections", "translations", "permutations"),
        group="O3",
        family="points",
    ),
]


FEATURES = eh.Field(eh.Points(4), "SO3", "3*standard")


def laid_out(layer, sizes=(3, 3), swap=False):
    """A layer on [batch, points, channels, 3] as one on flat features; or on [batch, points, 3, channels]."""

    def flat(x):
        v = x.unflatten(-1, sizes)
        v = layer(v.transpose(-1, -2)).transpose(-1, -2) if swap else layer(v)
        return v.flatten(-2)

    return flat


def of_lengths(v):
    """Scales each channel by its length."""
    return v * torch.sigmoid(v.square().sum(-1, keepdim=True))


def of_columns(v):
    return v * torch.sigmoid(v.square().sum(-2, keepdim=True))


def component_norm(v):
    return F.layer_norm(v, v.shape[-1:])


def channel_norm(v):
    return v / (1e-3 + v.square().sum(-1, keepdim=True).mean(-2, keepdim=True)).sqrt()


class VectorNeurons(nn.Module):
    """Mixes channels of vectors, and cuts each by a direction learnt for it."""

    def __init__(self, axis=-2):
        super().__init__()
        self.mix, self.direct = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
        self.axis = axis

    def forward(self, x):
        v = x.unflatten(-1, (3, 3))
        mixed, direction = (
            layer(v.transpose(self.axis, -1)).transpose(self.axis, -1) for layer in (self.mix, self.direct)
        )
        dot = (mixed * direction).sum(-1, keepdim=True)
        cut = mixed - dot / (1e-3 + direction.square().sum(-1, keepdim=True)) * direction
        return torch.where(dot >= 0, mixed, cut).flatten(-2)


class Painn(nn.Module):
    """Updates vectors by scalars of their products."""

    def __init__(self, turn=False):
        super().__init__()
        self.mix, self.scalars, self.turn = nn.Linear(3, 6, bias=False), nn.Linear(6, 3), turn

    def forward(self, x):
        v = x.unflatten(-1, (3, 3))
        a, b = self.mix(v.transpose(-1, -2)).transpose(-1, -2).split(3, -2)
        if self.turn:
            a = a.transpose(-1, -2).reshape(a.shape)
        gates = self.scalars(torch.cat([(a * b).sum(-1), (1e-3 + b.square().sum(-1)).sqrt()], -1))
        return (a * torch.tanh(gates)[..., None]).flatten(-2)


def along_first(right):
    """Products along the first axis of three, as torch.cross has it where no axis is named."""
    return lambda a, b, dim=-1: right(a, b, dim=next(i for i, n in enumerate(a.shape) if n == 3))


def swirls(x):
    u, v, w = x.unflatten(-1, (3, 3)).unbind(-2)
    return torch.cat([torch.linalg.cross(u, v), torch.linalg.cross(v, w), w], -1)


def with_bias(right):
    return lambda x, weight, bias=None: right(x, weight, bias) + 0.01


LAYOUTS = [
    fault(
        "a layer norm over the components of vectors",
        "equivariance",
        the(laid_out(channel_norm)),
        the(laid_out(component_norm)),
        FEATURES,
        **IN_SPACE,
    ),
    fault(
        "channels read as components, where the last axes are both three",
        "equivariance",
        the(laid_out(of_lengths)),
        the(laid_out(of_lengths, swap=True)),
        FEATURES,
        **IN_SPACE,
    ),
    fault(
        "a linear layer over components in place of channels",
        "equivariance",
        VectorNeurons,
        lambda: VectorNeurons(-1),
        FEATURES,
        **IN_SPACE,
    ),
    fault(
        "a reshape between the channels and components of an update",
        "equivariance",
        Painn,
        lambda: Painn(True),
        FEATURES,
        **IN_SPACE,
    ),
    fault(
        "a library's product along the first axis of three, the points",
        "equivariance",
        lambda: Wrapped(swirls),
        lambda: Patched(Wrapped(swirls), torch.linalg, "cross", along_first),
        eh.Field(eh.Points(3), "SO3", "3*standard"),
        **IN_SPACE,
    ),
    fault(
        "a library's linear layer that adds a bias to vectors",
        "equivariance",
        Painn,
        lambda: Patched(Painn(), F, "linear", with_bias),
        FEATURES,
        **IN_SPACE,
    ),
]
SOUND_LAYOUTS = [
    sound("vector neurons", VectorNeurons, FEATURES, properties=(*BOTH, "batch"), **IN_SPACE),
    sound(
        "an update of vectors by scalars of their products",
        Painn,
        FEATURES,
        properties=(*BOTH, "gradcheck"),
        **IN_SPACE,
    ),
    sound("a norm over channels of vectors", the(laid_out(channel_norm)), FEATURES, **IN_SPACE),
    sound(
        "features with components before channels",
        the(laid_out(of_columns, swap=True)),
        FEATURES,
        **IN_SPACE,
    ),
]

FAULTS = CLAIMS + LAYOUTS
SOUND = SOUND_CLAIMS + SOUND_LAYOUTS
