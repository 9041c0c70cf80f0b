"""Equirectangular pictures of any size, onto the SOFT grid and back, through the harmonics that both can hold.

Rows of pixels are rings, beta_i = pi (i + 1/2) / H, and Fejer's first rule integrates over them: exactly for degrees
below H. Columns are equally spaced, alpha_k = 2 pi (k + 1/2) / W. So a picture has a spectrum as a signal on the SOFT
grid has one, degrees beyond the target are dropped before they can alias, and both directions are one map:

    alpha     F[m, i] = sum_k (cos, sin)(m alpha_k) f[i, k] / W
    beta      X[m, l] = sum_i w_i d^l_m0(beta_i) F[m, i]        G[m, j] = sum_l (2l+1) d^l_m0(beta'_j) X[m, l]
    alpha     f'[j, k] = sum_m (2 - [m = 0]) (cos, sin)(m alpha'_k) . G[m, j]
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from . import checks
from .quadrature import soft_betas
from .wigner import Array, small_d_by_degree


def from_equirectangular(image: Tensor, b: int) -> Tensor:
    """Compute the spherical signal of an equirectangular picture, antialiased; commutes with SO(3) up to its pixels.

    The result is the projection onto the degrees l < min(b, H/2, W/2), rounded up: all that both grids can hold.
    A picture of degrees below L is projected exactly if L + b <= H + 1 and L + b <= W + 1: a rotation before is then
    the same rotation after. Detail beyond b does not come back as an alias, as it does when pixels are picked; sharp
    edges ring a little instead, as under any sharp cut of the spectrum.

    Args:
        image: `[..., H, W]`, float32 or float64, any H and W: rows from the north pole to the south, pixel centres at
            beta_i = pi (i + 1/2) / H; alpha grows with the column, centres at alpha_k = 2 pi (k + 1/2) / W. That is
            a map, seen from outside. A photograph from inside is its mirror image: `image.flip(-1)` is the sphere that
            the camera saw.
        b: bandwidth of the result.

    Returns:
        `[..., 2b, 2b]`, same dtype, differentiable.

    Raises:
        ValueError: if the image has fewer than two axes or an empty one, or b < 1.
        TypeError: if the dtype is neither float32 nor float64 (of bytes take `image.float() / 255`).

    Example:
        >>> panorama = torch.rand(3, 64, 128)
        >>> from_equirectangular(panorama, 8).shape
        torch.Size([3, 16, 16])

    Source: Driscoll and Healy 1994, theorem 3; quadrature of Fejer 1933.
    """
    height, width = picture(image)
    b = checks.bandwidth(b)
    target = ("soft", 2 * b, 2 * b)
    return _resample(image, ("pixels", height, width), target, min(b, held(height), held(width)))


def to_equirectangular(x: Tensor, height: int, width: int | None = None) -> Tensor:
    """Compute the equirectangular picture of a spherical signal, to look at it; commutes with SO(3) up to its pixels.

    Args:
        x: `[..., beta, alpha]`, each axis 2b long, float32 or float64.
        height: rows H of the picture.
        width: columns W, 2 H by default.

    Returns:
        `[..., H, W]`, pixels as in `from_equirectangular`, same dtype, differentiable: the values at the pixel centres
        of the projection onto the degrees l < min(b, H/2, W/2), rounded up.

    Raises:
        ValueError: if the spatial axes are not of one even length, or the picture would be empty.
        TypeError: if the dtype is neither float32 nor float64.

    Example:
        >>> x = from_equirectangular(torch.rand(3, 64, 128, dtype=torch.float64), 8)
        >>> bool(torch.allclose(from_equirectangular(to_equirectangular(x, 16), 8), x))
        True

    Source: Driscoll and Healy 1994.
    """
    b = checks.signal(x, 2)
    height = checks.bandwidth(height, "height")
    width = 2 * height if width is None else checks.bandwidth(width, "width")
    source = ("soft", 2 * b, 2 * b)
    return _resample(x, source, ("pixels", height, width), min(b, held(height), held(width)))


def picture(image: Tensor) -> tuple[int, int]:
    """Return height and width of an image, refusing what is none."""
    checks.real_dtype(image.dtype, "an image [..., H, W]")
    if image.ndim < 2 or image.shape[-1] == 0 or image.shape[-2] == 0:
        raise ValueError(f"an image is [..., H, W] with at least one pixel, got shape {tuple(image.shape)}")
    return image.shape[-2], image.shape[-1]


def held(pixels: int) -> int:
    """Return how many degrees (of rows) or orders (of columns) this many samples tell apart: l < L needs 2L - 1."""
    return (pixels + 1) // 2


def fejer_weights(count: int) -> Array:
    """Return weights of mass 1 for beta_i = pi (i + 1/2) / count, exact for polynomials in cos beta below `count`.

    w_i = (1 - 2 sum_{1 <= k <= count/2} cos(2 k beta_i) / (4 k^2 - 1)) / count.
    """
    betas, k = _pixel_betas(count)[:, None], np.arange(1, count // 2 + 1)
    weights: Array = (1 - 2 * (np.cos(2 * k * betas) / (4 * k * k - 1)).sum(1)) / count
    return weights


def _pixel_betas(count: int) -> Array:
    betas: Array = np.pi * (np.arange(count) + 0.5) / count
    return betas


# Where the rows are and at which share of a column the first angle is. The rings of the SOFT grid are pixel rows too.
_ROWS: dict[str, tuple[Callable[[int], Array], float]] = {
    "soft": (lambda count: soft_betas(count // 2), 0.0),
    "pixels": (_pixel_betas, 0.5),
}
_Rings = tuple[str, int, int]


@dataclass(frozen=True, eq=False)
class _Plan:
    """The four matrices of the map in the docstring of this module."""

    waves_in: Tensor  # [2 orders, W]
    table_in: Tensor  # [orders, degrees, H]
    table_out: Tensor  # [orders, H', degrees]
    waves_out: Tensor  # [2 orders, W']


@lru_cache(maxsize=32)
def _plan(source: _Rings, target: _Rings, degrees: int, dtype: torch.dtype, device: str) -> _Plan:
    degree = 2.0 * np.arange(degrees) + 1
    orders = 2.0 - (np.arange(2 * degrees) < 2)
    # The rows of both kinds are the nodes of Fejer's rule.
    arrays = (
        _waves(source, degrees) / source[2],
        _table(source, degrees) * fejer_weights(source[1]),
        (_table(target, degrees) * degree[:, None]).transpose(0, 2, 1),
        _waves(target, degrees) * orders[:, None],
    )
    return _Plan(*(torch.from_numpy(np.ascontiguousarray(array)).to(device, dtype) for array in arrays))


def _waves(rings: _Rings, orders: int) -> Array:
    """Return cos(m alpha_k), sin(m alpha_k): [2 orders, W]."""
    _, shift = _ROWS[rings[0]]
    # Reduce m (k + shift) mod W before multiplying by 2 pi / W: exact angles at every order.
    turns = np.arange(orders)[:, None] * (np.arange(rings[2]) + shift) % rings[2]
    angle = 2 * np.pi / rings[2] * turns
    waves: Array = np.stack([np.cos(angle), np.sin(angle)], 1).reshape(2 * orders, rings[2])
    return waves


def _table(rings: _Rings, degrees: int) -> Array:
    """Return d^l_m0(beta_i), zero for l < m: [orders, degrees, H]."""
    betas = _ROWS[rings[0]][0](rings[1])
    table = np.zeros((degrees, degrees, len(betas)))
    order = np.arange(degrees)
    for l, d in enumerate(small_d_by_degree(degrees, order, np.zeros(degrees, np.int64), betas)):
        table[: len(d), l] = d
    return table


def _resample(x: Tensor, source: _Rings, target: _Rings, degrees: int) -> Tensor:
    plan = _plan(source, target, degrees, x.dtype, str(x.device))
    (_, height, width), (_, rows, columns) = source, target
    lead, items = x.shape[:-2], x[..., 0, 0].numel()
    by_order = (
        (x.reshape(items * height, width) @ plan.waves_in.t()).view(items, height, degrees, 2).permute(2, 1, 0, 3)
    )
    spectrum = torch.bmm(plan.table_in, by_order.reshape(degrees, height, 2 * items))
    rings = torch.bmm(plan.table_out, spectrum).view(degrees, rows, items, 2).permute(2, 1, 0, 3)
    return (rings.reshape(items * rows, 2 * degrees) @ plan.waves_out).view(*lead, rows, columns)
