"""The spatial formulas of spherical convolutions, point by point, as twins of the layers that use spectra.

    S2     z_o(R) = 2 b_out s sum_{i,p} kernel_iop f^_i(R x_p) + bias_o
    SO(3)  z_o(R) = s sum_{i,p} kernel_iop f^_i(R g_p) + bias_o

f^ is the projection on the degrees below b_out. It is evaluated at the rotated points by the harness's own transforms,
which share no code with the kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ... import kernels
from ...harness.claim.claim import Twin
from ...harness.fields.spheres import Rotations, Sphere
from ...harness.symmetry.harmonics import Band, small_d

Array = NDArray[np.float64]

#: Largest matrix from samples to values at rotated points, in numbers (64 MiB in float64); larger ones are too slow.
LARGEST = 2**23


def spatial_formula(layer: Any) -> tuple[Callable[[], Twin], ...]:
    """The twin of an ``S2Conv`` or ``SO3Conv`` without aliases, if its matrix is small enough."""
    axes, b_in, b_out = layer.axes_in, layer.b_in, layer.b_out
    if layer.alias or (2 * b_out) ** 3 * len(layer.grid) * (2 * b_in) ** axes > LARGEST:
        return ()
    return (lambda: _spatial_twin(layer),)


def _spatial_twin(layer: Any) -> Twin:
    values = torch.from_numpy(sampling_matrix(layer.axes_in, layer.b_in, layer.b_out, layer.grid.points))
    factor = layer.scaling * (2 * layer.b_out if layer.axes_in == 2 else 1)

    def by_spectra(theta: Mapping[str, Tensor], x: Tensor) -> Any:
        return torch.func.functional_call(layer, dict(theta), (x,))

    def by_points(theta: Mapping[str, Tensor], x: Tensor) -> Any:
        seen = torch.einsum("rpg,big->birp", values.to(x), x.flatten(2))
        z = factor * torch.einsum("birp,iop->bor", seen, theta["kernel"])
        return z.unflatten(2, (2 * layer.b_out,) * 3) + theta["bias"]

    return Twin("spectra and spatial formula", by_spectra, by_points, dict(layer.named_parameters()))


def sampling_matrix(axes: int, b_in: int, b_out: int, points: Array) -> Array:
    """The linear map f -> f^(R x_p), real [(2 b_out)^3, points, (2 b_in)^axes].

    Args:
        axes: 2 for signals on S2, 3 on SO(3).
        b_in: bandwidth of the grid of f.
        b_out: degrees that f^ keeps, and bandwidth of the grid of R.
        points: kernel points as (beta, alpha) or (beta, alpha, gamma).
    """
    band: Band = (Sphere(b_in) if axes == 2 else Rotations(b_in)).band
    size = (2 * b_in) ** axes
    analysis = band.analyse(torch.eye(size, dtype=torch.float64).reshape(size, *(2 * b_in,) * axes)).numpy()
    beta = Sphere(b_out).band.betas
    angle = np.pi * np.arange(2 * b_out) / b_out
    places = _rotations(*(t.ravel() for t in np.meshgrid(beta, angle, angle, indexing="ij")))
    kernel = _rotations(points[:, 0], points[:, 1], points[:, 2] if axes == 3 else np.zeros(len(points)))
    seen = (places[:, None] @ kernel[None]).reshape(-1, 3, 3)
    values = np.tensordot(_harmonics(seen, b_in, min(b_in, b_out), axes == 3), analysis, 3).real
    return np.ascontiguousarray(values.reshape(len(places), len(kernel), size))


def _harmonics(rotations: Array, b: int, degrees: int, on_group: bool) -> NDArray[np.complex128]:
    """(2l+1) conj D^l_mn at rotations, doubled for n > 0, as a spectrum of bandwidth b that has n >= 0."""
    alpha = np.arctan2(rotations[:, 1, 2], rotations[:, 0, 2])
    beta = np.arctan2(np.hypot(rotations[:, 0, 2], rotations[:, 1, 2]), rotations[:, 2, 2])
    rest = _rotations(beta, alpha, np.zeros_like(beta)).transpose(0, 2, 1) @ rotations  # Z(gamma)
    gamma = np.arctan2(rest[:, 1, 0], rest[:, 0, 0])
    columns = b if on_group else 1
    rows = np.zeros((len(rotations), 2 * b - 1, columns, b), dtype=np.complex128)
    for degree in range(degrees):
        m, n = np.arange(-degree, degree + 1), np.arange(min(degree + 1, columns))
        d = small_d(degree, beta)[:, :, degree : degree + len(n)]
        phase = np.exp(1j * (np.multiply.outer(alpha, m)[:, :, None] + np.multiply.outer(gamma, n)[:, None, :]))
        middle, factor = slice(b - 1 - degree, b + degree), (2 * degree + 1) * np.where(n > 0, 2.0, 1.0)
        rows[:, middle, : len(n), degree] = d * phase * factor
    return rows


def _rotations(beta: Array, alpha: Array, gamma: Array) -> Array:
    """Z(alpha) Y(beta) Z(gamma), [n, 3, 3]."""

    def about(angle: Array, first: int, second: int) -> Array:
        """The rotation of axis ``first`` towards axis ``second``."""
        rotation = np.tile(np.eye(3), (len(angle), 1, 1))
        rotation[:, first, first] = rotation[:, second, second] = np.cos(angle)
        rotation[:, second, first], rotation[:, first, second] = np.sin(angle), -np.sin(angle)
        return rotation

    product: Array = about(alpha, 0, 1) @ about(beta, 2, 0) @ about(gamma, 0, 1)
    return product


def through_signals(stack: kernels.SpectralSequential) -> Callable[[], Twin]:
    """A ``SpectralSequential`` and the same layers with a signal between them."""

    def build() -> Twin:
        plain = nn.Sequential(*stack)

        def spectra(theta: Mapping[str, Tensor], x: Tensor) -> Any:
            return torch.func.functional_call(stack, dict(theta), (x,))

        def signals(theta: Mapping[str, Tensor], x: Tensor) -> Any:
            return torch.func.functional_call(plain, dict(theta), (x,))

        return Twin("spectra and signals between layers", spectra, signals, dict(stack.named_parameters()))

    return build
