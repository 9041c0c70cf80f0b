"""Steerable filters on a small grid, whose low moments turn as they do on the plane.

On the plane psi(t) = R(|t|) exp(i m phi) turns by a phase: psi(g^-1 t) = exp(-i m theta) psi(t). Its samples do too,
so a filter that is a sum of such functions can be turned by any angle. But sums over the grid see more than the
plane does: a polynomial of frequency a - b, z^a conj(z)^b, is orthogonal to psi on the plane unless a - b = m, on the
grid only unless a - b = m mod 4. Such aliases do not turn with the filter; they are an error that no finer input
removes. They are taken out here for all polynomials up to a degree, so that the sampled layer agrees with the
continuous one to order degree + 1 in the grid spacing.
"""

import math

import numpy as np

from .groups import ComplexArray, FloatArray, IntArray

#: Polynomials up to this degree see no aliases: the order of a layer is one more.
DEGREE = 2
#: Standard deviation of the rings, in voxels: neighbours overlap enough that no radius between them is lost.
WIDTH = 0.6
#: Directions of the span smaller than this share of the largest are what sampling left of lost functions.
INDEPENDENT = 0.1


def steerable_basis(kernel_size: int) -> tuple[ComplexArray, IntArray]:
    """Functions on the taps of a k x k filter, each of one angular frequency, orthonormal among those of a frequency.

    Rings at radii 0, 1, ... (1/2, 3/2, ... for even k) carry the frequencies m <= pi r that a circle of 2 pi r voxels
    can hold.

    Args:
        kernel_size: k.

    Returns:
        Values [K, k * k], unit norm, psi(t) of the centred tap t = (a0, a1) with z = a0 + i a1; frequencies m [K] >= 0.

    Example:
        >>> values, frequencies = steerable_basis(3)
        >>> frequencies.tolist()
        [0, 0, 1, 2, 3]
    """
    z = _taps(kernel_size)
    radii = np.arange((kernel_size - 1) % 2 / 2, (kernel_size - 1) / 2 + 0.25)
    values, frequencies = [], []
    for m in range(math.floor(math.pi * radii[-1]) + 1):
        rings = [_ring(z, r, m) for r in radii if m <= math.pi * r]
        found = _independent(_without_aliases(np.array(rings), z, m))
        values.append(found)
        frequencies += [m] * len(found)
    return np.concatenate(values), np.array(frequencies, dtype=np.int64)


def moment(values: ComplexArray, kernel_size: int, a: int, b: int) -> ComplexArray:
    """sum_t psi(t) conj(z^a conj(z)^b) of functions [..., k * k]; up to DEGREE zero unless a - b is their frequency."""
    z = _taps(kernel_size)
    found: ComplexArray = values @ (z**a * z.conj() ** b).conj()
    return found


def _taps(kernel_size: int) -> ComplexArray:
    axis = np.arange(kernel_size) - (kernel_size - 1) / 2
    return (axis[:, None] + 1j * axis).ravel()


def _ring(z: ComplexArray, radius: float, m: int) -> ComplexArray:
    """A Gaussian ring times exp(i m phi); at the centre only m = 0 has a value."""
    r = np.abs(z)
    # (z / r)^m by multiplication: powers of the four axes are exact, and quarter turns stay so.
    direction = np.where(r > 0, z / np.where(r > 0, r, 1), float(m == 0))
    ring: ComplexArray = np.exp(-((r - radius) ** 2) / (2 * WIDTH**2)) * direction**m
    return ring


def _without_aliases(rings: ComplexArray, z: ComplexArray, m: int) -> ComplexArray:
    """The functions less what polynomials of other frequencies see of them, taken where the functions live."""
    pairs = [(a, b) for a in range(DEGREE + 1) for b in range(DEGREE + 1 - a) if a - b != m and (a - b - m) % 4 == 0]
    if not pairs:
        return rings
    # A window inside the inscribed circle, so that the correction is as round as the filter.
    window = np.exp(-(np.abs(z) ** 2) / (2 * (np.abs(z.real).max() / 2 + WIDTH) ** 2))
    polynomials = np.array([z**a * z.conj() ** b for a, b in pairs])
    gram = (polynomials.conj() * window) @ polynomials.T
    seen = rings @ polynomials.conj().T
    corrected: ComplexArray = rings - np.linalg.solve(gram, seen.T).T @ (polynomials * window)
    return corrected


def _independent(rings: ComplexArray) -> ComplexArray:
    """An orthonormal basis of the span of the rows."""
    if not len(rings):
        return rings
    # Combinations of the rings, real like their Gram matrix: so that a reflection still conjugates.
    gram = (rings @ rings.conj().T).real
    values, vectors = np.linalg.eigh(gram)
    keep = values > INDEPENDENT**2 * max(values.max(), INDEPENDENT)
    basis: ComplexArray = (vectors[:, keep] / np.sqrt(values[keep])).T @ rings
    return basis


def turned_basis(values: ComplexArray, frequencies: IntArray, phases: ComplexArray, flips: IntArray) -> FloatArray:
    """Real functions psi(g^-1 t) for every element: [|G|, K', k * k], two for each frequency above zero.

    Args:
        values: from `steerable_basis`.
        frequencies: from `steerable_basis`.
        phases: exp(i m theta_g) of every element and function, [|G|, K].
        flips: 1 for elements that reflect first, [|G|].

    Returns:
        Re psi and, for m > 0, Im psi, of norm 1 each at the identity.
    """
    moved = phases.conj()[:, :, None] * values
    # g = r s: g^-1 t is the reflection of r^-1 t, and reflecting z conjugates psi.
    moved = np.where(flips[:, None, None] == 1, moved.conj(), moved)
    oscillating = frequencies > 0
    parts = [moved.real * np.where(oscillating, math.sqrt(2), 1.0)[:, None], moved.imag[:, oscillating] * math.sqrt(2)]
    found: FloatArray = np.concatenate(parts, 1)
    return found
