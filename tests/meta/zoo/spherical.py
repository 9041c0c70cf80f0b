"""Faults of layers on the sphere and on rotations: conjugates, orders, phases, bandwidths, weights."""

from dataclasses import dataclass
from typing import Any

import equiharness as eh
import numpy as np
import torch
from equiharness import kernels as k
from equiharness.harness.claim.claim import Claim
from equiharness.harness.symmetry import harmonics

from . import Fault

B = 4
S2, SO3, NUMBERS = (eh.Field(d, "SO3") for d in (eh.Sphere(B), eh.Rotations(B), eh.Vector()))
O3_SCALARS = eh.Field(eh.Sphere(B), "O3")


@dataclass(frozen=True)
class Pair:
    """A sound function, a broken one, and the property that tells them apart."""

    sound: Any
    broken: Any
    source: Any = S2
    target: Any = SO3
    caught: str = "equivariance"
    verdict: str = "BROKEN"
    code: str = "ERROR"


def degrees(b=B):
    return torch.repeat_interleave(torch.arange(b), 2 * torch.arange(b) + 1)


def orders(b=B):
    return torch.arange(b * b) - degrees(b) ** 2 - degrees(b)


def outer(first, second):
    """z^l_mn = first^l_m second^l_n, as rows of SO(3)."""
    sizes = [2 * degree + 1 for degree in range(B)]
    pairs = zip(first.split(sizes, -1), second.split(sizes, -1), strict=True)
    return torch.cat([(x[..., :, None] * y[..., None, :]).flatten(-2) for x, y in pairs], -1)


def spectral(combine):
    """A correlation on the sphere by the product of spectra: sound for x y*."""
    kernel = torch.randn(B * B, 2, generator=torch.Generator().manual_seed(3)).double()

    def layer(x):
        spectrum = k.s2_fft(x)
        return k.so3_ifft(combine(spectrum, torch.view_as_complex(kernel).to(spectrum)))

    return layer


def of_spectrum(change):
    """A map of the sphere's signals by their spectra."""
    return lambda x: k.s2_ifft(change(k.s2_fft(x)))


def transposed(z):
    """Every block z^l with its orders exchanged."""
    widths = [2 * degree + 1 for degree in range(B)]
    parts = zip(widths, z.split([width**2 for width in widths], -1), strict=True)
    return torch.cat([part.unflatten(-1, (width, width)).mT.flatten(-2) for width, part in parts], -1)


def truncated(x, b_table):
    """The projection on l < B - 1 with the weights and colatitudes of a table for another bandwidth."""
    weights = 2 * b_table * k.quadrature_weights(b_table)[: 2 * B].to(x)
    beta, alpha = harmonics.soft_rings(2 * b_table).betas[: 2 * B], np.pi * np.arange(2 * B) / B
    points = np.stack(np.meshgrid(beta, alpha, indexing="ij"), -1).reshape(-1, 2)
    spectrum = k.s2_ft((x * weights[:, None]).flatten(-2), points, B - 1)
    return k.s2_ifft(spectrum, B)


def polluted_mean(x):
    """An integral whose weights respond to degree 2b - 1 and to no lower one: signals of the band never show it."""
    rings = harmonics.soft_rings(2 * B)
    shape = np.polynomial.Legendre.basis(2 * B - 1)(np.cos(rings.betas))
    weights = torch.from_numpy(rings.weights * (1 + 1e-3 * shape)).to(x)
    return x.mean(-1) @ weights


def dipole(x, sign):
    """The integral of x X, a vector; negated under reflections by ``sign`` = -1 it would be an axial one."""
    beta, alpha = harmonics.soft_rings(2 * B).betas, np.pi * np.arange(2 * B) / B
    beta, alpha = np.meshgrid(beta, alpha, indexing="ij")
    xyz = torch.from_numpy(np.stack([np.sin(beta) * np.cos(alpha), np.sin(beta) * np.sin(alpha), np.cos(beta)]))
    return sign * k.s2_integrate(x * xyz.to(x))


sound_product = spectral(lambda x, y: outer(x, y.conj()))
PAIRS = {
    "missing conjugate": Pair(sound_product, spectral(lambda x, y: outer(x.conj(), y))),
    "transposed Wigner matrices": Pair(sound_product, spectral(lambda x, y: transposed(outer(x, y.conj())))),
    "alpha and gamma swapped": Pair(sound_product, lambda x: sound_product(x).transpose(-1, -2)),
    "wrong beta order": Pair(sound_product, lambda x: sound_product(x.flip(-2))),
    "beta and alpha swapped": Pair(sound_product, lambda x: sound_product(x.transpose(-1, -2))),
    "alpha off by one sample": Pair(
        lambda x: k.s2_resample(x, 3), lambda x: k.s2_resample(x, 3).roll(1, -1), S2, eh.Field(eh.Sphere(3), "SO3")
    ),
    "no Condon-Shortley phase": Pair(
        of_spectrum(lambda x: x), of_spectrum(lambda x: x * torch.where(orders() % 2 == 0, 1.0, -1.0)), S2, S2
    ),
    "one order dropped": Pair(of_spectrum(lambda x: x), of_spectrum(lambda x: x * (orders().abs() < B - 1)), S2, S2),
    "one degree's orders scaled by a millionth": Pair(
        of_spectrum(lambda x: x),
        of_spectrum(lambda x: x * torch.where(orders() == 0, 1 + 1e-4, 1.0).to(x.real)),
        S2,
        S2,
    ),
    "off-by-one bandwidth": Pair(lambda x: truncated(x, B), lambda x: truncated(x, B + 1), S2, S2),
    "the slice gamma = 0": Pair(lambda x: x.mean(-1), lambda x: x[..., 0], SO3, S2),
    "unweighted mean": Pair(k.so3_integrate, lambda x: x.mean((-1, -2, -3)), SO3, NUMBERS),
    "unweighted mean, as an integral": Pair(
        k.s2_integrate, lambda x: x.mean((-1, -2)), S2, NUMBERS, caught="integration"
    ),
    "weights right on the band alone": Pair(
        lambda x: k.s2_integrate(x), polluted_mean, S2, NUMBERS, caught="integration"
    ),
    "wrong sign of a reflection": Pair(
        lambda x: dipole(x, 1.0).flatten(1),
        lambda x: dipole(x, 1.0).flatten(1),
        O3_SCALARS,
        eh.Field(eh.Vector(), "O3", "standard"),
    ),
    "aliases kept": Pair(
        lambda x: k.s2_ifft(k.s2_fft(x, B + 2)),
        lambda x: k.s2_ifft(k.s2_fft(x, B + 2, alias=True)),
        S2,
        eh.Field(eh.Sphere(B + 2), "SO3"),
    ),
    "a mean over the batch": Pair(lambda x: x, lambda x: x + 1e-3 * x.mean(0).flip(-1), S2, S2),
    "constants of one pole": Pair(
        lambda x: 2 * x, lambda x: 2 * x + 1e-4 * x[..., :1, :] * torch.eye(8)[0][:, None].to(x), S2, S2
    ),
}
#: A claim of an axial vector for a true one: the functions agree and the target is wrong.
AXIAL = eh.Field(eh.Vector(), "O3", "irrep(1, e)")


def claims_of(name, pair):
    """The claims of a pair; the fault of the reflection lies in the claimed target, not in the function."""

    def made(dtype, seed):
        sound = Claim(pair.sound, pair.source.group, pair.source, pair.target, dtype=dtype, seed=seed)
        target, function = pair.target, pair.broken
        if name == "wrong sign of a reflection":
            target, function = AXIAL, (lambda x: dipole(x, 1.0).flatten(1)[:, [1, 2, 0]])  # irreps list (y, z, x)
        return sound, Claim(function, pair.source.group, pair.source, target, dtype=dtype, seed=seed)

    return made


FAULTS = [
    Fault(
        name,
        "spherical",
        "ours",
        pair.caught,
        claims_of(name, pair),
        pair.verdict,
        pair.code,
        dtypes=(torch.float64,),
    )
    for name, pair in PAIRS.items()
]
