"""Band-limited signals on S2 and SO(3): quadrature, spectra and exact rotations, in float64.

With R = Z(alpha) Y(beta) Z(gamma) acting on (x, y, z) and D^l(R) = e^{-i alpha Jz} e^{-i beta Jy} e^{-i gamma Jz},

    x^l_mn = sum w_j f(beta_j, alpha, gamma) D^l_mn        f = sum (2l+1) x^l_mn conj D^l_mn        |m|, |n| <= l < b
    (g f)(R) = f(g^-1 R)   has the spectrum   D^l(g) x^l

A signal on S2 is a signal on SO(3) that does not depend on gamma, so it has n = 0 only. Signals are real, so the
coefficients with n >= 0 determine all others.

Source: Kostelec and Rockmore, FFTs on the rotation group, 2008; Sakurai, Modern Quantum Mechanics, section 3.5.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .groups import SAME, Matrix
from .representations import angular_momentum

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Rings:
    """Colatitudes with quadrature weights of total mass 1, exact for zonal polynomials of some degree."""

    betas: Array
    weights: Array


def soft_rings(count: int) -> Rings:
    """beta_j = pi (2j+1) / (2 count), for even ``count``; exact for degrees below ``count``.

    Source: Driscoll and Healy, Advances in Applied Mathematics 15, 1994.
    """
    betas = np.pi * (2 * np.arange(count) + 1) / (2 * count)
    odd = 2 * np.arange(count // 2) + 1
    weights = 2 / count * np.sin(betas) * (np.sin(np.outer(betas, odd)) / odd).sum(1)
    return Rings(betas, weights)


def gauss_rings(count: int) -> Rings:
    """Zeros of the Legendre polynomial of degree ``count``, north first; exact for degrees below 2 count."""
    nodes, weights = np.polynomial.legendre.leggauss(count)  # type: ignore[no-untyped-call]
    return Rings(np.arccos(nodes)[::-1].copy(), weights[::-1] / 2)


def equiangular_rings(count: int) -> Rings:
    """beta_j = pi j / (count - 1), including the poles; exact for degrees below ``count``.

    Source: Clenshaw and Curtis, Numerische Mathematik 2, 1960; weights from the integrals of cos(k beta) sin(beta).
    """
    n = count - 1
    betas = np.pi * np.arange(count) / n
    k = np.arange(0, n + 1, 2)
    factor = np.where((k == 0) | (k == n), 1.0, 2.0) / (1.0 - k.astype(np.float64) ** 2)
    weights = (np.cos(np.outer(betas, k)) * factor).sum(1) / n
    weights[[0, -1]] /= 2
    return Rings(betas, weights)


@functools.lru_cache(maxsize=128)
def _tilt_modes(degree: int) -> NDArray[np.complex128]:
    """Eigenvectors of Jy in columns, for the eigenvalues -l..l in order: d^l(beta) = V e^{-i beta k} V^dagger."""
    _, jy, _ = angular_momentum(degree)
    vectors: NDArray[np.complex128] = np.linalg.eigh(jy)[1]
    return vectors


def small_d(degree: int, betas: Array) -> Array:
    """d^l_mn(beta), [len(betas), 2l+1, 2l+1]: the matrix of a tilt by beta about y, orders -l..l.

    Example:
        >>> bool(np.allclose(small_d(1, np.array([0.3]))[0, 2, 1], -np.sin(0.3) / np.sqrt(2)))
        True
    """
    modes = _tilt_modes(degree)
    phases = np.exp(-1j * np.outer(betas, np.arange(-degree, degree + 1)))
    d: Array = np.ascontiguousarray(((modes[None] * phases[:, None, :]) @ modes.conj().T).real)
    return d


def euler_angles(rotation: Matrix) -> tuple[float, float, float]:
    """(alpha, beta, gamma) of R = Z(alpha) Y(beta) Z(gamma). At the poles R only fixes their sum, and alpha = 0."""
    tilt = math.hypot(rotation[0, 2], rotation[1, 2])
    alpha = math.atan2(rotation[1, 2], rotation[0, 2]) if tilt > SAME else 0.0
    c, s = math.cos(alpha), math.sin(alpha)
    # Z(-alpha) R = Y(beta) Z(gamma), whose middle row is (sin gamma, cos gamma, 0) and last column (sin beta, 0, cos).
    gamma = math.atan2(c * rotation[1, 0] - s * rotation[0, 0], c * rotation[1, 1] - s * rotation[0, 1])
    return alpha, math.atan2(c * rotation[0, 2] + s * rotation[1, 2], rotation[2, 2]), gamma


@functools.lru_cache(maxsize=16)
def _wigner_blocks(raw: bytes, b: int, device: str) -> torch.Tensor:
    """D^l(g) for l < b, centred and padded with zeros, complex [b, 2b-1, 2b-1]; (-1)^l D^l(R) for an improper g = -R.

    The result is cached, because a check applies each of its elements to many signals.
    """
    matrix = np.frombuffer(raw, dtype=np.float64).reshape(3, 3)
    improper = np.linalg.det(matrix) < 0
    alpha, beta, gamma = euler_angles(-matrix if improper else matrix)
    blocks = np.zeros((b, 2 * b - 1, 2 * b - 1), dtype=np.complex128)
    for degree in range(b):
        m = np.arange(-degree, degree + 1)
        middle = slice(b - 1 - degree, b + degree)
        d = small_d(degree, np.array([beta]))[0]
        sign = -1.0 if improper and degree % 2 else 1.0
        blocks[degree, middle, middle] = sign * np.exp(-1j * alpha * m)[:, None] * d * np.exp(-1j * gamma * m)
    return torch.from_numpy(blocks).to(device)


class Band:
    """Signals of degrees l < b sampled on rings of equally spaced points. Rotations map this linear space to itself.

    The tables take 16 * rings * b * (2b-1) * columns bytes, with columns = b on SO(3) and 1 on S2: 66 MB on SO(3) at
    b = 32.

    Attributes:
        shape: shape of a spectrum: orders m = -(b-1)..b-1, orders n = 0..b-1 (only 0 on S2), degrees l = 0..b-1.
        weights: weights of the rings.
        betas: colatitudes of the rings.

    Args:
        rings: colatitudes and their weights.
        angles: number of points alpha = 2 pi k / angles on each ring, and of gamma on SO(3).
        b: bandwidth.
        on_group: whether signals are on SO(3), [..., beta, alpha, gamma], instead of S2, [..., beta, alpha].
    """

    def __init__(self, rings: Rings, angles: int, b: int, *, on_group: bool) -> None:
        self.b, self.angles, self.on_group = b, angles, on_group
        self.axes = 3 if on_group else 2
        self.weights, self.betas = torch.from_numpy(rings.weights.copy()), rings.betas
        n = np.arange(b) if on_group else np.zeros(1, dtype=np.int64)
        table = np.zeros((2 * b - 1, len(n), b, len(rings.betas)))
        for degree in range(b):
            right = n[n <= degree]
            d = small_d(degree, rings.betas)[:, :, degree + right]
            table[b - 1 - degree : b + degree, : len(right), degree] = d.transpose(1, 2, 0)
        self.shape = (2 * b - 1, len(n), b)
        #: w_j d^l_mn(beta_j) as [orders, l, beta], and (2l+1) d^l_mn(beta_j) as [orders, beta, l], by device.
        analysis = table.reshape(-1, b, len(rings.betas))
        synthesis = (analysis * (2 * np.arange(b) + 1)[:, None]).transpose(0, 2, 1)
        tables = torch.from_numpy(analysis * rings.weights), torch.from_numpy(np.ascontiguousarray(synthesis))
        self._tables: dict[str, tuple[torch.Tensor, torch.Tensor]] = {"cpu": tables}
        #: Columns of the discrete Fourier transform along alpha, for the orders -(b-1)..b-1.
        self._orders = torch.arange(-(b - 1), b) % angles

    def project(self, x: torch.Tensor) -> torch.Tensor:
        """The part of a signal with degrees l < b, computed by the quadrature."""
        return self.synthesise(self.analyse(x)).to(x.dtype)

    def rotate(self, matrix: Matrix, x: torch.Tensor) -> torch.Tensor:
        """f(g^-1 .) of the projected signal [..., beta, alpha(, gamma)], computed in float64, in the dtype of x.

        Raises:
            TypeError: x is complex or holds integers.
        """
        if not x.is_floating_point():
            raise TypeError(f"a signal of dtype {x.dtype} cannot be rotated: convert it to real floating point")
        rotated: torch.Tensor = _Rotation.apply(x, self, np.ascontiguousarray(matrix, dtype=np.float64))  # type: ignore[no-untyped-call]
        return rotated

    def rotate_spectrum(self, matrix: Matrix, spectrum: torch.Tensor) -> torch.Tensor:
        """D^l(g) x^l, the spectrum of f(g^-1 .)."""
        blocks = _wigner_blocks(matrix.tobytes(), self.b, str(spectrum.device))
        m, n, degrees, items = *self.shape, math.prod(spectrum.shape[3:])
        columns = spectrum.reshape(m, n, degrees, items).permute(2, 0, 1, 3).reshape(degrees, m, n * items)
        rotated = (blocks @ columns).reshape(degrees, m, n, items).permute(1, 2, 0, 3)
        return rotated.reshape(spectrum.shape)

    def analyse(self, x: torch.Tensor) -> torch.Tensor:
        """x^l_mn of real signals, complex128 [2b-1, columns, b, ...]; zero for l < |m| and for l < n."""
        lead = x.shape[: -self.axes]
        f = x.double().reshape(-1, *x.shape[-self.axes :])
        if self.on_group:
            order_space = torch.fft.fft(torch.fft.rfft(f, norm="forward")[..., : self.b], dim=2, norm="forward")
        else:
            order_space = torch.fft.fft(f, dim=2, norm="forward")[..., None]
        # [items, beta, m, n] -> [m n, beta, items re im]: one real product for each pair of orders.
        columns = order_space[:, :, self._orders.to(x.device)].permute(2, 3, 1, 0).contiguous()
        table = self._on(x)[0]
        product = table @ torch.view_as_real(columns).reshape(len(table), -1, 2 * len(f))
        return torch.view_as_complex(product.reshape(*self.shape, len(f), 2)).reshape(*self.shape, *lead)

    def synthesise(self, spectrum: torch.Tensor) -> torch.Tensor:
        """The real signal of a spectrum, float64 [..., beta, alpha(, gamma)]."""
        lead = spectrum.shape[3:]
        items = math.prod(lead)
        table = self._on(spectrum)[1]
        parts = torch.view_as_real(spectrum.reshape(*self.shape, items)).reshape(len(table), self.b, 2 * items)
        columns = torch.view_as_complex((table @ parts).unflatten(-1, (items, 2)))
        m, n, _ = self.shape
        # [m, n, beta, items] -> [items, beta, alpha, n]
        order_space = columns.reshape(m, n, -1, items).permute(3, 2, 0, 1)
        rings = order_space.shape[1]
        full = order_space.new_zeros(items, rings, self.angles, n)
        full = full.index_copy(2, self._orders.to(spectrum.device), order_space)
        along_alpha = torch.fft.ifft(full, dim=2, norm="forward")
        f: torch.Tensor = along_alpha[..., 0].real
        if self.on_group:
            f = torch.fft.irfft(along_alpha, n=self.angles, norm="forward")
        return f.reshape(*lead, *f.shape[1:])

    def noise(self, lead: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
        """Random band-limited signals [*lead, ...] of mean square 1: normal coefficients of orthonormal harmonics."""
        return self.synthesise(self.draw(lead, generator))

    def draw(self, lead: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
        """The spectrum of ``noise``."""
        m, n, degrees = self.shape
        draws = torch.randn(m, n, degrees, *lead, 2, generator=generator, dtype=torch.float64)
        degree = torch.arange(degrees, dtype=torch.float64)
        order, right = torch.arange(-(self.b - 1), self.b)[:, None, None], torch.arange(n)[None, :, None]
        there = (order.abs() <= degree) & (right <= degree)
        # Columns n > 0 also represent -n, so they contribute to the real signal twice.
        size = there * torch.where(right > 0, 0.5**0.5, 1.0)
        total = (size.square() * torch.where(right > 0, 4.0, 1.0)).sum().sqrt()
        # sqrt(2l+1) conj D is orthonormal, and f already has the factor 2l+1.
        scale = size / total * (2 * degree + 1).rsqrt()
        return torch.view_as_complex(draws) * scale.reshape(m, n, degrees, *[1] * len(lead))

    def pure(self, degree: int, lead: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
        """Samples of random harmonics [*lead, ...] of one degree with mean square about 1, for any bandwidth."""
        order = torch.arange(-degree, degree + 1)
        right = order if self.on_group else torch.zeros(1, dtype=torch.int64)
        draws = torch.randn(*lead, len(order), len(right), 2, generator=generator, dtype=torch.float64)
        d = torch.from_numpy(small_d(degree, self.betas))[:, :, degree + right]
        angle = 2 * torch.pi * torch.arange(self.angles, dtype=torch.float64) / self.angles
        alpha, gamma = (torch.exp(1j * n[:, None] * angle).to(torch.complex128) for n in (order, right))
        size = math.sqrt((2 * degree + 1) / (len(order) * len(right)))
        rings = torch.view_as_complex(draws)[..., None, :, :] * d * size  # [..., beta, m, n]
        f: torch.Tensor = (rings.transpose(-1, -2) @ alpha).transpose(-1, -2)  # [..., beta, alpha, n]
        return (f @ gamma).real if self.on_group else f[..., 0].real

    def extended(self, spectrum: torch.Tensor) -> torch.Tensor:
        """Extend the spectrum of a smaller band, with c <= b degrees, to this band by zeros from degree c on."""
        m, n, degrees = (more - less for more, less in zip(self.shape, spectrum.shape[:3], strict=True))
        wide = torch.nn.functional.pad(torch.view_as_real(spectrum).movedim((0, 1, 2), (-1, -2, -3)), (m // 2, m // 2))
        wide = torch.nn.functional.pad(wide, (0, 0, 0, n, 0, degrees))
        return torch.view_as_complex(wide.movedim((-1, -2, -3), (0, 1, 2)).contiguous())

    def _on(self, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Both tables on the device of a tensor."""
        key = str(like.device)
        if key not in self._tables:
            analysis, synthesis = self._tables["cpu"]
            self._tables[key] = analysis.to(like.device), synthesis.to(like.device)
        return self._tables[key]


class _Rotation(torch.autograd.Function):
    """Rotation of signals with its gradient. In the quadrature's inner product the adjoint is the inverse rotation."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, band: Band, matrix: Matrix) -> torch.Tensor:
        ctx.band, ctx.matrix = band, matrix
        return band.synthesise(band.rotate_spectrum(matrix, band.analyse(x))).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """W a_g^-1 W^-1 v, with W the quadrature weights."""
        band: Band = ctx.band
        weights = band.weights.to(gradient.device).reshape(-1, *[1] * (band.axes - 1))
        back = band.rotate(ctx.matrix.T, gradient.double() / weights) * weights
        return back.to(gradient.dtype), None, None
