"""Generated faults: one tap, one entry of a Cayley table, one sign of a real layer, changed by any magnitude.

A magnitude of 1 changes a tap by the root mean square of all taps, replaces an entry, negates a sign; 0 is the sound
layer. ``smallest`` bisects for the smallest magnitude that is still caught.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import equiharness as eh
import numpy as np
import torch
import torch.nn.functional as F
from equiharness import kernels as k
from equiharness.harness.claim.claim import Claim
from equiharness.suites.check import run_property

from . import irreps, steerable

#: Magnitudes of the bisection, as powers of ten: far below what float32 can tell, up to the whole fault.
RANGE = (-12.0, 0.0)
#: The smallest magnitude is found to a factor 10^(12 / 2^5) = 2.4, near enough to name its decade.
STEPS = 5
#: Mutations of each layer, at places drawn from a seed.
EACH = 4


@dataclass(frozen=True)
class Mutation:
    """One generated fault: a claim for every magnitude."""

    name: str
    kind: str
    family: str
    layer: str
    property: str
    claim: Callable[[float], Claim]

    def caught(self, magnitude):
        """Whether its property finds it broken."""
        return run_property(self.property, self.claim(magnitude)).result.verdict is eh.Verdict.BROKEN

    def smallest(self):
        """The smallest magnitude that is caught, to a factor 2.4; None where the whole fault passes."""
        low, high = RANGE
        if not self.caught(10**high):
            return None
        for _ in range(STEPS):
            middle = (low + high) / 2
            low, high = (low, middle) if self.caught(10**middle) else (middle, high)
        return 10**high


def field(group, size, fibre, dim=2):
    return eh.Field(eh.Grid(*[size] * dim), group, fibre)


# --- one tap of a filter bank ---


def convolved(filters, dim):
    convolve = {2: F.conv2d, 3: F.conv3d}[dim]
    return lambda x: convolve(x, filters, padding=filters.shape[-1] // 2)


@functools.cache
def banks():
    """name -> (filters, source, target, family, whose layer) of real layers on seeded weights."""
    torch.manual_seed(0)
    escnn = steerable.built(steerable.adapters.R2Conv, torch.float32, 0, group="C4", size=7, **steerable.CONV)
    planar = {
        "LiftingConv of C4": (k.LiftingConv("C4", 1, 1, 3), "C4", "trivial", "regular"),
        "LiftingConv of D4": (k.LiftingConv("D4", 1, 1, 5), "D4", "trivial", "regular"),
        "GroupConv of C4": (k.GroupConv("C4", 1, 2, 3), "C4", "regular", "2*regular"),
        "GroupConv of D4": (k.GroupConv("D4", 1, 1, 3), "D4", "regular", "regular"),
        "VectorLift of D4": (k.VectorLift("D4", 1, 1, 3), "D4", "standard", "regular"),
    }
    found = {
        name: (layer.filter_bank().detach(), field(of, 7, reads), field(of, 7, writes), "planar", "ours")
        for name, (layer, of, reads, writes) in planar.items()
    }
    lifting = k.LiftingConv("O", 1, 1, 3).filter_bank().detach()
    found["LiftingConv of O"] = (
        lifting,
        field("O", 4, "trivial", 3),
        field("O", 4, "regular", 3),
        "octahedral",
        "ours",
    )
    filters = escnn.modules[0].eval().filter.detach().clone()
    found["escnn.R2Conv"] = (filters, escnn.source, escnn.target, "planar", "escnn")
    plain = torch.randn(2, 2, 3, 3)
    plain = sum(w for r in range(4) for w in (plain.rot90(r, (-2, -1)), plain.rot90(r, (-2, -1)).flip(-1))) / 8
    found["a symmetrised torch.nn.Conv2d"] = (
        plain,
        field("D4", 7, "2*trivial"),
        field("D4", 7, "2*trivial"),
        "planar",
        "plain",
    )
    return found


def moved_tap(name, place, magnitude):
    filters, source, target, *_ = banks()[name]
    wrong = filters.clone().flatten()
    wrong[place] += magnitude * filters.square().mean().sqrt()
    function = convolved(wrong.reshape(filters.shape), source.group.dim)
    return Claim(function, source.group, source, target)


def is_centre_of_scalars(name, place):
    """The middle tap between scalars stays where it is under every element: changed, the layer is another sound one."""
    filters = banks()[name][0]
    taps = filters[0, 0].numel()
    return name.startswith("a symmetrised") and place % taps == taps // 2


def taps():
    for name, (filters, _, _, family, layer) in banks().items():
        rng = np.random.default_rng(0)
        places = [p for p in rng.permutation(filters.numel()) if not is_centre_of_scalars(name, p)][:EACH]
        for place in map(int, places):
            claim = functools.partial(moved_tap, name, place)
            yield Mutation(f"tap {place} of {name}", "tap", family, layer, "equivariance", claim)


# --- one entry of a Cayley table ---


def mixed(group, entry, magnitude):
    """y[g] = sum_h w[g^-1 h] x[h], one weight replaced in part by its neighbour."""
    of = eh.group(group)
    weights = torch.randn(len(of), generator=torch.Generator().manual_seed(1))
    mix = weights[torch.from_numpy(of.mul[of.inv])].clone()
    g, h = divmod(entry, len(of))
    mix[g, h] += magnitude * (weights[(int(of.mul[of.inv[g], h]) + 1) % len(of)] - mix[g, h])
    source = eh.Field(eh.Vector(), of, "regular")
    return Claim(lambda x: torch.einsum("gh,bh->bg", mix, x), of, source, source)


def entries():
    for group, family in (("C4", "planar"), ("D4", "planar"), ("O", "octahedral")):
        order = len(eh.group(group))
        for entry in map(int, np.random.default_rng(0).permutation(order**2)[:EACH]):
            claim = functools.partial(mixed, group, entry)
            yield Mutation(
                f"entry {entry} of the table of {group}", "Cayley entry", family, "plain", "equivariance", claim
            )


# --- one sign ---


def signed(values, index, axis, magnitude):
    """Values with one slice turned towards its negative."""
    factors = torch.ones(values.shape[axis])
    factors[index] -= 2 * magnitude
    return values * factors.to(values).reshape([-1 if i == axis % values.dim() else 1 for i in range(values.dim())])


@functools.cache
def harmonics():
    return irreps.built(irreps.adapters.SphericalHarmonics, torch.float32, 0, **irreps.HARMONICS)


def signed_order(index, magnitude):
    """One order of e3nn's spherical harmonics."""
    sound = harmonics()
    function, exact = (lambda x, f=f: signed(f(x), index, -1, magnitude) for f in (sound.function, sound.reference))
    return Claim(function, sound.group, sound.source, sound.target, reference=exact, modules=sound.modules)


def signed_element(group, index, magnitude):
    """One element of a lifting's output."""
    torch.manual_seed(0)
    dim = eh.group(group).dim
    layer = k.LiftingConv(group, 1, 1, 3, padding=1)
    reads, writes = (field(group, 4, fibre, dim) for fibre in ("trivial", "regular"))
    return Claim(lambda x: signed(layer(x), index, 2, magnitude), group, reads, writes, modules=(layer,))


def signed_spectrum(index, magnitude):
    """One order of a spectrum on the sphere."""
    source = eh.Field(eh.Sphere(3), "SO3")
    return Claim(lambda x: k.s2_ifft(signed(k.s2_fft(x), index, -1, magnitude)), "SO3", source, source)


def signed_product(component, magnitude):
    """One component of a cross product: two Clebsch-Gordan coefficients."""

    def cross(x):
        u, v = x.split(3, -1)
        return signed(torch.linalg.cross(u, v), component, -1, magnitude)

    source, target = (eh.Field(eh.Vector(), "O3", fibre) for fibre in ("2*irrep(1, o)", "irrep(1, e)"))
    return Claim(cross, "O3", source, target)


def signed_ring(index, magnitude):
    """One quadrature weight of the integral on the sphere."""
    weights = k.quadrature_weights(3)
    source, target = eh.Field(eh.Sphere(3), "SO3"), eh.Field(eh.Vector(), "SO3")

    def integral(x):
        rings = signed(weights.to(x), index, 0, magnitude)
        return (x.sum(-1) @ rings) / (weights.sum().to(x) * x.shape[-1])

    return Claim(integral, "SO3", source, target)


def signs():
    rows = [
        *(
            (f"order {i} of e3nn.SphericalHarmonics", "points", "e3nn", functools.partial(signed_order, i))
            for i in (1, 5, 7, 12)
        ),
        *(
            (f"element {i} of LiftingConv of D4", "planar", "ours", functools.partial(signed_element, "D4", i))
            for i in (0, 3, 6)
        ),
        *(
            (f"element {i} of LiftingConv of O", "octahedral", "ours", functools.partial(signed_element, "O", i))
            for i in (2, 17)
        ),
        *(
            (f"order {i} of a spectrum", "spherical", "ours", functools.partial(signed_spectrum, i))
            for i in (1, 3, 5, 8)
        ),
        *(
            (f"component {i} of a cross product", "points", "plain", functools.partial(signed_product, i))
            for i in range(3)
        ),
        *((f"weight of ring {i}", "spherical", "ours", functools.partial(signed_ring, i)) for i in (0, 2)),
    ]
    for name, family, layer, claim in rows:
        yield Mutation(f"sign of {name}", "sign", family, layer, "equivariance", claim)


def mutations():
    """Every generated fault."""
    return [*taps(), *entries(), *signs()]


def decade(magnitude):
    """The power of ten of a magnitude, for reports."""
    return math.floor(math.log10(magnitude) + 1e-9)
