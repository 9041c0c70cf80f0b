"""Layers as people have them, written from the documents alone: wrapped, with gradients of their own, in mixed precision.

Half of the faults replace a function of an installed library while the layer runs.
"""

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

# ---- models that differentiate inside, work in place, or view


def saliency(x):
    """The gradient of a score of the picture."""
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        score = (leaf.sin() * F.avg_pool2d(leaf, 3, 1, 1)).sum((1, 2, 3))
        return torch.autograd.grad(score.sum(), leaf)[0]


class Remembers(nn.Module):
    """Adds the gradient to that of the last call, as .grad does."""

    def __init__(self):
        super().__init__()
        self.register_buffer("total", torch.zeros(2, 7, 7))

    def forward(self, x):
        found = saliency(x)
        self.total += 0.1 * found.detach().mean(0).to(self.total)
        return found + self.total.to(found)


def hessian_trace(axes):
    """Second derivatives of a function of the length, summed over axes."""

    def laplacian(x):
        with torch.enable_grad():
            leaf = x if x.requires_grad else x.clone().requires_grad_()
            energy = torch.exp(-leaf.square().sum(-1))
            first = torch.autograd.grad(energy.sum(), leaf, create_graph=True)[0]
            return sum(torch.autograd.grad(first[:, i].sum(), leaf, create_graph=True)[0][:, i] for i in axes)[:, None]

    return laplacian


def diffused(x):
    """Both axes at once, from a copy."""
    y = x.clone()
    y[:, :, 1:-1] += 0.2 * (x[:, :, :-2] + x[:, :, 2:])
    y[..., 1:-1] += 0.2 * (x[..., :-2] + x[..., 2:])
    return y


def diffused_in_place(x):
    y = x.clone()
    for i in range(1, 6):
        y[:, :, i] += 0.2 * (y[:, :, i - 1] + y[:, :, i + 1])
    for i in range(1, 6):
        y[..., i] += 0.2 * (x[..., i - 1] + x[..., i + 1])
    return y


def pixels_first(x):
    """Mixes channels with the channel axis last."""
    return torch.tanh(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def viewed(x):
    """Back by a view of the same shape, where a permutation was meant."""
    return torch.tanh(x.permute(0, 2, 3, 1)).contiguous().view(x.shape)


def gate(x):
    return x * torch.sigmoid(x.square().sum(-1, keepdim=True))


def detached_gate(x):
    return x * torch.sigmoid(x.detach().square().sum(-1, keepdim=True))


def curl_of_a_swirl(x):
    """The curl of a swirl at a point, from its derivatives."""
    with torch.enable_grad():
        leaf = x if x.requires_grad else x.clone().requires_grad_()
        u, v = leaf.split(3, -1)
        field = torch.exp(-u.square().sum(-1, keepdim=True)) * torch.linalg.cross(u, v)
        rows = [torch.autograd.grad(field[:, i].sum(), leaf, create_graph=True)[0][:, :3] for i in range(3)]
    jacobian = torch.stack(rows, 1)
    return torch.stack(
        [jacobian[:, (i + 2) % 3, (i + 1) % 3] - jacobian[:, (i + 1) % 3, (i + 2) % 3] for i in range(3)], 1
    )


TWO = eh.Field(eh.Vector(), "SO3", "2*standard")
INSIDE = [
    fault(
        "a Laplacian that leaves out an axis",
        "equivariance",
        the(hessian_trace((0, 1, 2))),
        the(hessian_trace((0, 1))),
        VECTOR,
        SCALAR,
        family="points",
    ),
    fault(
        "a gradient that is added to the last call's",
        "equivariance",
        the(saliency),
        Remembers,
        code="STATEFUL",
    ),
    fault("a diffusion that reads rows already written", "equivariance", the(diffused), the(diffused_in_place)),
    fault("a view where a permutation was meant", "equivariance", the(pixels_first), the(viewed)),
    fault(
        "a gate detached from its vector",
        "gradcheck",
        the(gate),
        the(detached_gate),
        VECTOR,
        code="GRADIENT",
        family="points",
    ),
    fault(
        "a curl by a library whose product has one sign wrong",
        "equivariance",
        the(curl_of_a_swirl),
        lambda: Patched(
            Wrapped(curl_of_a_swirl),
            torch.linalg,
            "cross",
            lambda right: lambda a, b: right(a, b) * torch.tensor([1, -1, 1]).to(a),
        ),
        TWO,
        VECTOR,
        family="points",
    ),
]
SOUND_INSIDE = [
    sound("the gradient of a score as a picture", the(saliency), properties=("equivariance", "batch")),
    sound(
        "a Laplacian by two derivatives",
        the(hessian_trace((0, 1, 2))),
        VECTOR,
        SCALAR,
        ("equivariance", "adjoint", "gradcheck"),
        family="points",
    ),
    sound("a diffusion in place on a copy", the(diffused), properties=("equivariance", "adjoint", "gradcheck")),
    sound(
        "a clamp in place on the input", the(lambda x: x.clamp_(min=-0.5).mul_(2)), properties=("equivariance", "batch")
    ),
    sound("a curl by derivatives", the(curl_of_a_swirl), TWO, VECTOR, family="points"),
]
FAULTS = MODELS + INSIDE
SOUND = SOUND_MODELS + SOUND_INSIDE
