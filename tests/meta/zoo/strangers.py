"""Models as people have them, by an author who has read the documents alone: partial, traced, scripted, decorated.

Helpers of the other strangers are here. Many faults replace a function of a library while the layer runs.
"""

import copy
import functools
import warnings
from unittest import mock

import equiharness as eh
import torch
import torch.nn.functional as F
from equiharness.harness.claim.claim import Claim
from torch import nn

from . import Fault, Sound

SINGLE, DOUBLE = torch.float32, torch.float64
PLANE = eh.Field(eh.Grid(7, 7), "C4", "2*trivial")
REGULAR = eh.Field(eh.Grid(7, 7), "C4", "2*regular")
VECTOR = eh.Field(eh.Vector(), "SO3", "standard")
SCALAR = eh.Field(eh.Vector(), "SO3")


def claims(make, source, target=None, **options):
    """(dtype, seed) -> the claim of what ``make`` returns, with weights from the seed."""

    def claim(dtype, seed):
        torch.manual_seed(seed)
        made = make()
        if isinstance(made, nn.Module):
            made = made.to(dtype)
        leaf = source if isinstance(source, eh.Field) else eh.Field(eh.Vector(), "O3")
        group = options.get("group", leaf.group)
        rest = {name: value for name, value in options.items() if name != "group"}
        return Claim(made, group, source, source if target is None else target, dtype=dtype, seed=seed, **rest)

    return claim


def fault(name, caught, sound, broken, source=PLANE, target=None, **options):
    """A fault from two functions that make the sound layer and the broken one."""
    declared = {key: options.pop(key) for key in ("verdict", "code", "dtypes", "family", "layer") if key in options}
    twins = [claims(make, source, target, **options) for make in (sound, broken)]
    described = {"family": "planar", "layer": "plain", **declared}
    return Fault(name, property=caught, claims=lambda dtype, seed: tuple(t(dtype, seed) for t in twins), **described)


def sound(name, make, source=PLANE, target=None, properties=("equivariance", "adjoint"), **options):
    """A sound layer from a function that makes it."""
    family, dtypes = options.pop("family", "planar"), options.pop("dtypes", (SINGLE, DOUBLE))
    return Sound(name, family, claims(make, source, target, **options), properties, dtypes, few=True)


def the(function):
    """A function that makes one function, whatever the seed."""
    return lambda: function


class Wrapped(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *x):
        return self.function(*x)


class Patched(nn.Module):
    """A layer that runs while a function of a library is replaced; ``wrong`` maps the right function to the other."""

    def __init__(self, layer, owner, name, wrong):
        super().__init__()
        self.layer = layer
        self.patch = lambda: mock.patch.object(owner, name, wrong(getattr(owner, name)))

    def forward(self, *x):
        with self.patch():
            return self.layer(*x)


TWO = eh.Field(eh.Vector(), "SO3", "2*standard")


def edited(make, edit):
    """A layer of a library with something inside it edited once, on this object alone."""

    def made():
        layer = copy.deepcopy(make())  # escnn shares the tables of equal layers
        with torch.no_grad():
            edit(layer)
        return layer

    return made


def replaced(make, owner, name, wrong):
    """A layer that runs while a function of a library is replaced."""
    return lambda: Patched(make(), owner, name, wrong)


# ---- models as people have them: partial, traced, scripted, decorated, with dicts


class RoundConv(nn.Module):
    """A convolution whose filters are the mean of their turns."""

    def __init__(self, channels=2):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels, channels, 3, 3))

    def forward(self, x):
        turns = [torch.rot90(self.weight, k, (-2, -1)) for k in range(4)]
        return F.conv2d(x, (turns[0] + turns[1] + turns[2] + turns[3]) / 4, padding=1)


class Lift(nn.Module):
    """A lifting of C4: one output for each turn of each filter."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, 2, 3, 3))

    def forward(self, x):
        bank = torch.stack([torch.rot90(self.weight, k, (-2, -1)) for k in range(4)], 1).flatten(0, 1)
        return torch.tanh(F.conv2d(x, bank, padding=1))


def vignette(x, row, column):
    """Darker towards the borders."""
    place = torch.arange(7).to(x)
    return torch.tanh(x) * torch.exp(-((place[:, None] - row).square() + (place - column).square()) / 9)


def rows_carry_on(x: torch.Tensor) -> torch.Tensor:
    rows = [x[:, :, 0]]
    for i in range(1, x.shape[2]):
        rows.append(x[:, :, i] + 0.1 * rows[-1])
    return torch.stack(rows, 2)


def rows_and_columns_stay(x: torch.Tensor) -> torch.Tensor:
    rows = [x[:, :, 0]]
    for i in range(1, x.shape[2]):
        rows.append(x[:, :, i])
    return torch.tanh(torch.stack(rows, 2))


def spotlight(x):
    """Centres its light on the brightest pixel of the first sample: a number, which a trace freezes."""
    place = int(x[0, 0].argmax())
    row, column = divmod(place, 7)
    return vignette(x, float(row), float(column))


def light_in_the_middle(x):
    return vignette(x, 3.0, 3.0)


def traced(make):
    """What ``make`` returns, traced; torch warns of its tracer and of numbers that it freezes."""

    def made():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.jit.trace(make(), torch.randn(4, 2, 7, 7), check_trace=False)

    return made


def scripted(make):
    """What ``make`` returns, scripted."""

    def made():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.jit.script(make())

    return made


def cached(key):
    """A decorator that keeps what was computed, under a key of the input."""

    def decorate(function):
        kept = {}

        @functools.wraps(function)
        def wrapped(x):
            found = (x.dtype, x.shape, key(x))
            if found not in kept:
                kept[found] = function(x)
            return kept[found]

        return wrapped

    return decorate


def by_its_bytes(x):
    return x.detach().numpy().tobytes()


def sums_of_pictures(x):
    """A cache of single pictures under their sum, which a rotation keeps."""
    kept = {}
    keys = x.detach().sum((1, 2, 3)).tolist()
    return torch.stack([kept.setdefault(round(key, 3), picture) for key, picture in zip(keys, x.sin(), strict=True)])


EVEN_AND_ODD = {name: eh.Field(eh.Vector(), "O3", f"irrep(1, {p})") for name, p in (("axis", "e"), ("arrow", "o"))}


def axis_and_arrow(axis, arrow):
    return {
        "axis": torch.linalg.cross(arrow, torch.linalg.cross(axis, arrow)),
        "arrow": torch.linalg.cross(axis, arrow),
    }


def exchanged(axis, arrow):
    right = axis_and_arrow(axis, arrow)
    return {"axis": right["arrow"], "arrow": right["axis"]}


class Holds(RoundConv):
    """Keeps a Python module as an attribute, as models keep numpy."""

    def __init__(self):
        super().__init__()
        self.ops = F

    def forward(self, x):
        return self.ops.gelu(super().forward(x))


class OneSample(nn.Module):
    """Written for one sample and mapped over the batch."""

    def __init__(self):
        super().__init__()
        self.layer = RoundConv()

    def forward(self, x):
        return torch.vmap(lambda one: self.layer(one[None])[0])(x)


MODELS = [
    fault(
        "a partial that binds the centre of a vignette to another pixel",
        "equivariance",
        the(functools.partial(vignette, row=3.0, column=3.0)),
        the(functools.partial(vignette, row=2.0, column=3.0)),
    ),
    fault(
        "a scripted loop that carries each row into the next",
        "equivariance",
        scripted(the(rows_and_columns_stay)),
        scripted(the(rows_carry_on)),
    ),
    fault(
        "a trace that froze where its example was brightest",
        "equivariance",
        traced(the(light_in_the_middle)),
        traced(the(spotlight)),
    ),
    fault("a cache of pictures under their sums", "equivariance", the(torch.sin), the(sums_of_pictures)),
    fault(
        "a cache whose key is the shape",
        "batch",
        lambda: cached(by_its_bytes)(torch.sin),
        lambda: cached(lambda x: 0)(torch.sin),
        code="LEAK",
    ),
    fault(
        "a dict of an axis and an arrow under each other's name",
        "equivariance",
        the(axis_and_arrow),
        the(exchanged),
        EVEN_AND_ODD,
        family="points",
    ),
    fault(
        "filters turned by a rot90 that turns the other way",
        "equivariance",
        Lift,
        lambda: Patched(Lift(), torch, "rot90", lambda right: lambda x, k, dims: right(x, -k, dims)),
        PLANE,
        REGULAR,
    ),
    fault(
        "a reflected border where zeros were padded on one side",
        "equivariance",
        RoundConv,
        lambda: Patched(
            RoundConv(),
            F,
            "conv2d",
            lambda right: lambda x, w, padding: right(F.pad(F.pad(x, (1, 0, 0, 0), "reflect"), (0, 1, 1, 1)), w),
        ),
    ),
]
SOUND_MODELS = [
    sound("DataParallel on one processor", lambda: nn.DataParallel(RoundConv())),
    sound("a traced convolution", traced(RoundConv)),
    sound("a scripted convolution", scripted(Lift), PLANE, REGULAR),
    sound("a partial of a function of three arguments", the(functools.partial(vignette, row=3.0, column=3.0))),
    sound(
        "a cache whose key is the whole picture", lambda: cached(by_its_bytes)(torch.tanh), properties=("equivariance",)
    ),
    sound("a model that keeps a Python module", Holds),
    sound("a model of one sample mapped over the batch", OneSample),
    sound("a dict of an axis and an arrow", the(axis_and_arrow), EVEN_AND_ODD, family="points"),
    sound(
        "a convolution with spectral norm",
        lambda: nn.Sequential(RoundConv(), nn.utils.parametrizations.spectral_norm(nn.Conv2d(2, 2, 1))).eval(),
    ),
]

FAULTS = MODELS
SOUND = SOUND_MODELS
