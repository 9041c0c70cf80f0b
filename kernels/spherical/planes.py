"""Flat pictures onto a cap around the north pole and back: stereographic, gnomonic, equidistant.

A point at colatitude beta lies at the distance r(beta) from the centre of the plane, in the direction alpha:

    stereographic  r = 2 tan(beta / 2)   keeps angles, reaches all but the south pole
    gnomonic       r = tan beta          great circles are straight lines, reaches less than a hemisphere: a camera
    equidistant    r = beta              distances from the centre are true, reaches the whole sphere

Onto the sphere: the picture is interpolated on a SOFT grid so fine that its detail makes no aliases in the degrees that
are kept, and these are kept. Back: a band-limited signal is a formula, evaluated at the centres of the pixels.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from . import checks
from .fourier import s2_resample
from .layout import fourier_matrix
from .panoramas import picture
from .quadrature import soft_betas
from .s2transform import s2_analyse
from .wigner import Array, Integers, small_d_by_degree


@dataclass(frozen=True)
class _Projection:
    """r(beta), its inverse, its derivative, and the least beta that it does not reach."""

    radius: Callable[[Array], Array]
    colatitude: Callable[[Array], Array]
    slope: Callable[[float], float]
    reach: float


_PROJECTIONS: dict[str, _Projection] = {
    "stereographic": _Projection(
        lambda beta: 2 * np.tan(beta / 2),
        lambda r: 2 * np.arctan(r / 2),
        lambda beta: 1 / math.cos(beta / 2) ** 2,
        math.pi,
    ),
    "gnomonic": _Projection(np.tan, np.arctan, lambda beta: 1 / math.cos(beta) ** 2, math.pi / 2),
    "equidistant": _Projection(lambda beta: beta, lambda r: r, lambda beta: 1.0, math.nextafter(math.pi, 4.0)),
}


def from_plane(image: Tensor, b: int, projection: str = "stereographic", extent: float = math.pi / 2) -> Tensor:
    """Compute the spherical signal of a flat picture laid on a cap around the north pole; to move it, `s2_rotate`.

    Turns of the picture about its centre become turns about the pole. The result is the projection onto the degrees
    l < b of the interpolated picture, so it is antialiased, and its edge rings as under any sharp cut of the spectrum.
    Interpolation is cubic (Catmull and Rom), with zeros outside the picture: subtract a background that is not zero.

    Args:
        image: `[..., H, W]`, float32 or float64, seen from outside: up is alpha = pi/2, right is alpha = 0.
        b: bandwidth of the result.
        projection: "stereographic", "gnomonic" or "equidistant".
        extent: colatitude in radians that the middles of the two nearest edges come to lie on, less than pi/2 for
            "gnomonic", less than pi for "stereographic", at most pi for "equidistant". Corners reach further.

    Returns:
        `[..., 2b, 2b]`, same dtype, differentiable. Time and memory grow with the square of pi / (the angle that the
        smallest pixel of the cap covers).

    Raises:
        ValueError: if the image is empty, the projection unknown, or the extent beyond its reach.
        TypeError: if the dtype is neither float32 nor float64 (of bytes take `image.float() / 255`).

    Example:
        >>> digit = torch.rand(1, 28, 28)
        >>> from_plane(digit, 8).shape
        torch.Size([1, 16, 16])

    Source: Snyder, Map projections: a working manual, 1987; Keys 1981 for the interpolation.
    """
    height, width = picture(image)
    b = checks.bandwidth(b)
    fine = _resolving(height, width, projection, extent, b)
    rows, row_weights, columns, column_weights = _neighbours(fine, height, width, projection, extent)
    flat = torch.nn.functional.pad(image.reshape(-1, height * width), (0, 1))  # one more pixel: all that is outside
    samples = flat.new_zeros(len(flat), 4 * fine * fine)
    for row, down in zip(rows, row_weights, strict=True):
        for column, across in zip(columns, column_weights, strict=True):
            term = np.where((row >= 0) & (column >= 0), row * width + column, height * width)
            weight = torch.from_numpy(down * across).to(image)
            samples = samples + flat.index_select(1, torch.from_numpy(term).to(image.device)) * weight
    return s2_resample(samples.view(*image.shape[:-2], 2 * fine, 2 * fine), b)


def to_plane(
    x: Tensor,
    height: int,
    width: int | None = None,
    projection: str = "stereographic",
    extent: float = math.pi / 2,
) -> Tensor:
    """Compute the flat picture of the cap around the north pole, to look at it; turns about the pole turn the picture.

    Args:
        x: `[..., beta, alpha]`, each axis 2b long, float32 or float64.
        height: rows H of the picture.
        width: columns W, H by default.
        projection: as in `from_plane`.
        extent: as in `from_plane`.

    Returns:
        `[..., H, W]`, oriented as in `from_plane`, same dtype, differentiable: the exact values, at the pixel centres,
        of the projection onto the degrees that the pixels at the centre can show; zero where the plane goes beyond the
        sphere ("equidistant").

    Raises:
        ValueError: if the spatial axes are not of one even length, the picture empty, the projection unknown, or the
            extent beyond its reach.
        TypeError: if the dtype is neither float32 nor float64.

    Example:
        >>> to_plane(torch.ones(1, 16, 16, dtype=torch.float64), 2).mean().round(decimals=12).item()
        1.0

    Source: Snyder, Map projections: a working manual, 1987.
    """
    b = checks.signal(x, 2)
    height = checks.bandwidth(height, "height")
    width = height if width is None else checks.bandwidth(width, "width")
    degrees = min(b, math.ceil(math.pi / _pitch(height, width, projection, extent)))
    radius, alpha = _pixels(height, width, projection, extent)
    betas, which = np.unique(_PROJECTIONS[projection].colatitude(radius), return_inverse=True)
    inside = betas <= np.pi
    items = x.reshape(1, -1, 2 * b, 2 * b)
    spectrum = s2_analyse(items, degrees)[0]  # [rows, N], orders 0, +1, -1, ..
    rings = _rings(spectrum, np.where(inside, betas, 0.0), degrees)  # [betas, 2 degrees - 1, N]
    ring = torch.from_numpy(which).to(x.device)
    shown = x.new_zeros(len(which), rings.shape[-1])
    for index in range(2 * degrees - 1):
        order = (index + 1) // 2
        wave = np.cos(order * alpha) if index % 2 or not index else -np.sin(order * alpha)
        wave = wave * inside[which] * (np.sqrt(2.0) if order else 1.0)
        shown = shown + rings[:, index].index_select(0, ring) * torch.from_numpy(wave).to(x)[:, None]
    return shown.t().reshape(*x.shape[:-2], height, width)


def _pitch(height: int, width: int, projection: str, extent: float) -> float:
    """Return the side of a pixel in the plane, after checking where the edges lie."""
    if projection not in _PROJECTIONS:
        raise ValueError(f"projection is one of {', '.join(_PROJECTIONS)}; got {projection!r}")
    reach = _PROJECTIONS[projection].reach
    if not 0 < extent < reach:
        raise ValueError(
            f"a {projection} picture reaches colatitudes below {reach:.4g}; extent is {extent:.4g} radians: make it "
            "smaller, or take a projection that reaches further"
        )
    edge = np.asarray(extent, dtype=np.float64)
    return 2 * float(_PROJECTIONS[projection].radius(edge)) / min(height, width)


def _pixels(height: int, width: int, projection: str, extent: float) -> tuple[Array, Array]:
    """Return radius and angle of the pixel centres, row by row."""
    pitch = _pitch(height, width, projection, extent)
    right = (np.arange(width) - (width - 1) / 2) * pitch
    up = ((height - 1) / 2 - np.arange(height)) * pitch
    return np.hypot(right[None, :], up[:, None]).reshape(-1), np.arctan2(up[:, None], right[None, :]).reshape(-1)


def _resolving(height: int, width: int, projection: str, extent: float, b: int) -> int:
    """Return the bandwidth B of a SOFT grid on which the picture makes no aliases below degree b.

    Pixels that cover an angle delta hold degrees up to pi / delta, and the quadrature is exact below 2B: those that
    meet a degree below b need pi / delta + b <= 2B. The smallest pixels are at the corners.
    """
    pitch, known = _pitch(height, width, projection, extent), _PROJECTIONS[projection]
    corner = np.asarray(np.hypot(height, width) / 2 * pitch)
    delta = pitch / known.slope(float(known.colatitude(corner)))
    return max(b, math.ceil((math.pi / delta + b) / 2))


def _neighbours(
    fine: int, height: int, width: int, projection: str, extent: float
) -> tuple[Integers, Array, Integers, Array]:
    """Return rows and columns of the 4 x 4 pixels around each point of the SOFT grid, with weights: [4, 4 fine^2]."""
    pitch, known = _pitch(height, width, projection, extent), _PROJECTIONS[projection]
    beta = soft_betas(fine)
    reached = beta < known.reach
    # What the plane does not reach lies outside the picture, wherever that is.
    radius = np.where(reached, known.radius(np.where(reached, beta, 0.0)), 2 * np.hypot(height, width) * pitch)
    cos, sin = fourier_matrix(fine, 2)[2:]  # of alpha_k
    column = radius[:, None] * cos / pitch + (width - 1) / 2
    row = (height - 1) / 2 - radius[:, None] * sin / pitch
    return *_cubic(row.reshape(-1), height), *_cubic(column.reshape(-1), width)


def _cubic(position: Array, count: int) -> tuple[Integers, Array]:
    """Return the four neighbours (-1: outside) and Keys' weights, a = -1/2, the only third-order ones: [4, P] each."""
    position = position.clip(-3.0, count + 2.0)  # far outside is outside
    base = np.floor(position)
    neighbours = base.astype(np.int64) + np.arange(-1, 3)[:, None]
    t = np.abs(position - neighbours)
    near = 1 - 2.5 * t**2 + 1.5 * t**3
    far = 2 - 4 * t + 2.5 * t**2 - 0.5 * t**3
    return np.where((neighbours >= 0) & (neighbours < count), neighbours, -1), np.where(t < 1, near, far)


def _rings(spectrum: Tensor, betas: Array, degrees: int) -> Tensor:
    """Return sum_l (2l+1) d^l_m0(beta) X^l, the cosine and sine coefficients on rings: [betas, 2 degrees - 1, N]."""
    order = np.arange(degrees)
    tables = np.zeros((degrees, degrees, len(betas)))  # [order, degree, beta]
    for l, d in enumerate(small_d_by_degree(degrees, order, np.zeros(degrees, np.int64), betas)):
        tables[: len(d), l] = (2 * l + 1) * d
    rings = []
    for index in range(2 * degrees - 1):
        m = (index + 1) // 2
        rows = torch.tensor([l * l + index for l in range(m, degrees)], device=spectrum.device)
        rings.append(torch.from_numpy(tables[m, m:]).to(spectrum).t() @ spectrum.index_select(0, rows))
    return torch.stack(rings, 1)
