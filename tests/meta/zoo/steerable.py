"""Faults in real layers of escnn: fields and channels confused, sizes off centre, exports and statistics gone wrong."""

from dataclasses import replace

import equiharness as eh
import torch
import torch.nn.functional as F
from equiharness.harness.adapters.adapter import Case
from equiharness.impls.peers import escnn as adapters

from . import Fault

CONV = {"kernel": 3, "stride": 1, "padding": 1, "fields_in": 2, "fields_out": 2}


def built(adapter, dtype, seed, **parameters):
    """The sound claim of an escnn layer, as its adapter makes it."""
    return adapter().build(Case.of(**parameters), device="cpu", dtype=str(dtype).removeprefix("torch."), seed=seed)


def changed(adapter, change, **parameters):
    """The layer, and a function of it and its input in its place."""

    def claims(dtype, seed):
        sound = built(adapter, dtype, seed, **parameters)
        return sound, replace(sound, function=lambda x: change(sound.function, x), modules=sound.modules)

    return claims


def after(adapter, change, **parameters):
    return changed(adapter, lambda f, x: change(f(x)), **parameters)


def on_even_sizes(adapter, size, **parameters):
    """The layer on an odd size, and on an even one, where its stride is off centre."""

    def claims(dtype, seed):
        return tuple(built(adapter, dtype, seed, size=n, **parameters) for n in (size, size + 1))

    return claims


def exported(spoil):
    """A steerable convolution as a plain one, whose filters or padding were spoilt on the way."""

    def claims(dtype, seed):
        sound = built(adapters.R2Conv, dtype, seed, group="C4", size=9, **CONV)
        layer = sound.modules[0].eval()
        filters, bias = (v.detach().clone() for v in (layer.filter, layer.expanded_bias))
        sound = replace(sound, function=lambda x: F.conv2d(x, filters, bias, padding=1), modules=(), twins=())
        return sound, replace(sound, function=spoil(filters, bias))

    return claims


def one_tap(filters, bias):
    wrong = filters.clone()
    wrong[3, 5, 0, 1] += 1e-2 * filters.square().mean().sqrt()
    return lambda x: F.conv2d(x, wrong, bias, padding=1)


def flipped(filters, bias):
    """A convolution in place of a correlation, for every second output."""
    wrong = filters.clone()
    wrong[::2] = wrong[::2].flip(-1)
    return lambda x: F.conv2d(x, wrong, bias, padding=1)


def bias_of_channels(filters, bias):
    return lambda x: F.conv2d(x, filters, bias + torch.linspace(0, 0.1, len(bias)).to(bias), padding=1)


def padded_to_the_left(filters, bias):
    return lambda x: F.conv2d(F.pad(x, (2, 0, 1, 1)), filters, bias)


def elements_reversed(filters, bias):
    """The order of another library: quarter turns counted the other way."""
    wrong = filters.unflatten(0, (2, 4)).flip(1).flatten(0, 1)
    return lambda x: F.conv2d(x, wrong, bias, padding=1)


def claimed_for_more(dtype, seed):
    """A layer of C4 between scalars under D4: its filters turn and do not mirror."""
    claims = []
    for group in ("D4", "C4"):
        sound = built(adapters.GroupPooling, dtype, seed, group="D4", size=9, fields=1)
        conv = built(adapters.R2Conv, dtype, seed, group=group, size=9, **{**CONV, "kernel": 5, "padding": 2})
        order = {"D4": 8, "C4": 4}[group]
        lift = conv.function

        def function(x, lift=lift, order=order):
            spread = x.repeat_interleave(order, 1)
            return lift(spread).unflatten(1, (-1, order)).square().mean(2)

        scalars = eh.Field(sound.source.domain, sound.group, "2*trivial")
        claims.append(replace(sound, function=function, source=scalars, target=scalars, modules=conv.modules))
    return tuple(claims)


def channel_statistics(dtype, seed):
    sound = built(adapters.InnerBatchNorm, dtype, seed, group="C4", size=9, fields=2)
    norm = torch.nn.BatchNorm2d(8).to(dtype)
    torch.nn.init.uniform_(norm.running_var, 0.5, 1.5)
    return sound, replace(sound, function=norm.eval(), modules=(norm,))


def relu_on_irreps(dtype, seed):
    sound = built(adapters.NormNonLinearity, dtype, seed, group="C4", size=9, fields=2)
    return sound, replace(sound, function=torch.relu, modules=())


def gates_of_components(f, x):
    """Each component gated by itself, and not by a scalar."""
    return torch.cat([x[:, :4] * torch.sigmoid(x[:, :4])], 1)


def fault(name, claims, **options):
    options = {"dtypes": (torch.float32,), **options}
    return Fault(f"escnn: {name}", "planar", "escnn", options.pop("property", "equivariance"), claims, **options)


POOL = {"group": "C4", "fields": 2}
FAULTS = [
    fault("one tap of an exported filter", exported(one_tap)),
    fault("exported filters flipped", exported(flipped)),
    fault("a bias for each channel", exported(bias_of_channels)),
    fault("exported with padding on one side", exported(padded_to_the_left)),
    fault("elements in the order of another library", exported(elements_reversed)),
    fault("a layer of C4 claimed for D4", claimed_for_more),
    fault("statistics of channels", channel_statistics),
    fault("relu on irreps", relu_on_irreps),
    fault(
        "a stride of 2 on an even size",
        on_even_sizes(adapters.R2Conv, 9, group="C4", **{**CONV, "stride": 2}),
    ),
    fault("a max-pool of 3 with stride 2 on an even size", on_even_sizes(adapters.PointwiseMaxPool, 9, **POOL)),
    fault("an average pool of 3 with stride 2 on an even size", on_even_sizes(adapters.PointwiseAvgPool, 9, **POOL)),
    fault(
        "a maximum over copies in place of elements",
        changed(adapters.GroupPooling, lambda f, x: x.unflatten(1, (4, 2)).amax(1), group="C4", size=9, fields=2),
    ),
    fault(
        "a norm over the wrong channels",
        changed(
            adapters.NormPool, lambda f, x: x.unflatten(1, (4, 2)).square().sum(1).sqrt(), group="C4", size=9, fields=2
        ),
    ),
    fault(
        "gates read from the wrong fields",
        changed(adapters.GatedNonLinearity1, lambda f, x: f(x.roll(1, 1)), group="C4", size=9, fields=2),
    ),
    fault(
        "a bias on the norm of one component",
        after(
            adapters.NormNonLinearity,
            lambda y: y + 1e-2 * torch.eye(4).to(y)[0][:, None, None],
            group="C4",
            size=9,
            fields=2,
        ),
    ),
    fault(
        "upsampled from a corner",
        after(adapters.R2Upsampling, lambda y: y.roll((1, 1), (-1, -2)), group="C4", size=5, fields=1),
    ),
    fault(
        "a transposed convolution with output padding",
        after(
            adapters.R2ConvTransposed,
            lambda y: F.pad(y, (0, 1, 0, 1))[..., 1:, 1:],
            group="C4",
            size=5,
            kernel=3,
            stride=2,
            padding=1,
            fields_in=1,
            fields_out=1,
        ),
    ),
]
