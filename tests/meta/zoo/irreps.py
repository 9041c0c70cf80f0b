"""Faults in real layers of e3nn: order of components, parities, biases, gates and norms of the wrong kind."""

from dataclasses import replace

import equiharness as eh
import torch
from equiharness.harness.adapters.adapter import Case
from equiharness.harness.claim.claim import Claim
from equiharness.impls.peers import e3nn as adapters

from . import Fault


def built(adapter, dtype, seed, **parameters):
    """The sound claim of an e3nn layer, as its adapter makes it, with its native float64 twin."""
    return adapter().build(Case.of(**parameters), device="cpu", dtype=str(dtype).removeprefix("torch."), seed=seed)


def changed(adapter, change, **parameters):
    """The layer, and the same with its input and output changed by one function of (layer, inputs)."""

    def claims(dtype, seed):
        sound = built(adapter, dtype, seed, **parameters)
        wrong = (lambda *x, f=f: change(f, *x) for f in (sound.function, sound.reference))
        function, reference = wrong
        return sound, replace(sound, function=function, reference=reference, modules=sound.modules)

    return claims


def after(adapter, change, **parameters):
    return changed(adapter, lambda f, *x: change(f(*x)), **parameters)


def before(adapter, change, **parameters):
    return changed(adapter, lambda f, *x: f(change(x[0]), *x[1:]), **parameters)


def plain(sound, broken, reads, writes=None, group="O3"):
    """Functions of tensors between irreps."""

    def claims(dtype, seed):
        source, target = (eh.Field(eh.Vector(), group, fibre) for fibre in (reads, writes or reads))
        return tuple(Claim(f, group, source, target, dtype=dtype, seed=seed) for f in (sound, broken))

    return claims


def layer_norm(x):
    """Over all components, the mean taken away: what a transformer does to its features."""
    return torch.nn.functional.layer_norm(x, x.shape[-1:])


def of_norms(x):
    return x / (1e-3 + x.square().mean(-1, keepdim=True)).sqrt()


def cross(x, signs):
    u, v = x.split(3, -1)
    return torch.linalg.cross(u, v) * torch.tensor(signs).to(x)


def half_precision_table(y):
    """Scaled by a table that was stored in bfloat16, other for each component."""
    return y * ROUNDED.to(y)


def normalised_by_largest(x):
    return x * torch.sigmoid(x.abs().amax(-1, keepdim=True))


def normalised(x):
    return x * torch.sigmoid(x.square().sum(-1, keepdim=True).sqrt())


def fault(name, claims, prop="equivariance", **options):
    return Fault(f"e3nn: {name}", "points", "e3nn", prop, claims, **{"dtypes": (torch.float64,), **options})


EVEN = torch.linspace(0.9, 1.1, 8, dtype=torch.float64)
ROUNDED = EVEN.to(torch.bfloat16).double() / EVEN
LINEAR = {"irreps_in": "2x0e+2x1o", "irreps_out": "2x0e+2x1o", "biases": False}
HARMONICS = {"lmax": 3, "normalize": True}


def linear(change):
    return after(adapters.Linear, change, **LINEAR)


def harmonics(change):
    return after(adapters.SphericalHarmonics, change, **HARMONICS)


PRODUCT = {"irreps_in1": "1x0e+1x1o", "irreps_in2": "1x0e+1x1o", "irreps_out": "1x0e+1x1o+1x1e"}
GATE = {"scalars": "2x0e", "gates": "2x0e", "gated": "2x1o"}
VECTORS = "2*irrep(1, o)"

FAULTS = [
    fault(
        "components as (x, y, z) in place of (y, z, x)",
        before(adapters.SphericalHarmonics, lambda x: x[..., [2, 0, 1]].roll(1, -1)[..., [1, 0, 2]], **HARMONICS),
    ),
    fault(
        "one order of a degree scaled", after(adapters.SphericalHarmonics, lambda y: scaled(y, 6, 1.01), **HARMONICS)
    ),
    fault(
        "one order of a degree negated", after(adapters.SphericalHarmonics, lambda y: scaled(y, 5, -1.0), **HARMONICS)
    ),
    fault("two orders exchanged", harmonics(lambda y: exchanged(y, 4, 8))),
    fault(
        "degrees in the wrong order",
        after(
            adapters.SphericalHarmonics,
            lambda y: torch.cat([y[..., :1], y[..., 4:9], y[..., 1:4], y[..., 9:]], -1),
            **HARMONICS,
        ),
    ),
    fault("a bias on a vector", linear(lambda y: y + 1e-3 * torch.eye(8)[3].to(y))),
    fault("one component of a vector weighted by itself", linear(lambda y: scaled(y, 3, 1.001))),
    fault(
        "copies and components exchanged",
        after(
            adapters.Linear,
            (lambda y: torch.cat([y[..., :2], y[..., 2:].unflatten(-1, (2, 3)).mT.flatten(-2)], -1)),
            **LINEAR,
        ),
    ),
    fault("scalars added to a component", linear(lambda y: y + 1e-3 * y.roll(2, -1))),
    fault("relu on vectors", linear(torch.relu)),
    fault(
        "a pseudovector taken for a vector",
        changed(adapters.FullyConnectedTensorProduct, lambda f, x, y: polar(f(x, y)), **PRODUCT),
    ),
    fault(
        "one Clebsch-Gordan coefficient negated",
        plain(lambda x: cross(x, [1.0, 1.0, 1.0]), lambda x: cross(x, [1.0, 1.0, -1.0]), VECTORS, "irrep(1, e)"),
    ),
    fault(
        "a cross product claimed to be a vector",
        plain(lambda x: x[..., :3], lambda x: x[..., :3] + 1e-3 * cross(x, [1.0, 1.0, 1.0]), VECTORS, "irrep(1, o)"),
    ),
    fault("gates of components", changed(adapters.Gate, lambda f, x: f(x) * torch.sigmoid(f(x)), **GATE)),
    fault("gates in the place of scalars", before(adapters.Gate, lambda x: x.roll(3, -1), **GATE)),
    fault("silu on odd scalars", plain(torch.tanh, torch.nn.functional.silu, "3*irrep(0, o)")),
    fault("the largest component for the norm", plain(normalised, normalised_by_largest, "irrep(1, o)")),
    fault("layer norm over components", plain(of_norms, layer_norm, VECTORS)),
    fault("dropout of components", plain(of_norms, lambda x: of_norms(x) * kept(x), VECTORS)),
    fault("a table stored in half precision", linear(half_precision_table)),
    fault(
        "right values, gradient of one component halved",
        linear(lambda y: halved(y)),
        "adjoint",
    ),
]


def scaled(y, index, factor):
    """One component times a number."""
    factors = torch.ones(y.shape[-1])
    factors[index] = factor
    return y * factors.to(y)


def exchanged(y, i, j):
    order = list(range(y.shape[-1]))
    order[i], order[j] = j, i
    return y[..., order]


def misplaced(y):
    """The degree 2 before the degree 1."""
    return torch.cat([y[..., :1], y[..., 4:9], y[..., 1:4], y[..., 9:]], -1)


def interleaved(y):
    """Vectors component by component in place of copy by copy."""
    return torch.cat([y[..., :2], y[..., 2:].unflatten(-1, (2, 3)).mT.flatten(-2)], -1)


def polar(y):
    """The pseudovector at the end added to the vector before it."""
    return torch.cat([y[..., :1], y[..., 1:4] + 1e-3 * y[..., 4:7], y[..., 4:]], -1)


def kept(x):
    """A fixed pattern of kept components."""
    return torch.tensor([1.0, 1.0, 0.0, 1.0, 1.0, 1.0]).to(x)


def halved(y):
    from .gradients import Backward

    return Backward.apply(y, lambda grad: scaled(grad, 3, 0.5))
