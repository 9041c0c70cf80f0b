"""The public Fourier transforms on S2 and SO(3): real signals, complex spectra, in the published row orders.

A transform commutes with rotations: rotating a signal by Q multiplies x^l by conj D^l(Q). What the rows mean and the
quadrature behind them is in the docstrings; the arithmetic is in `transform` and `s2transform`.
"""

from functools import lru_cache

import torch
from torch import Tensor

from . import checks
from .basis import s2_basis, so3_basis
from .grids import KernelGrid, as_grid
from .layout import s2_complex_layout, so3_complex_layout, so3_rows
from .s2transform import s2_analyse, s2_analyse_complex, s2_synthesise, s2_synthesise_complex
from .transform import so3_analyse, so3_synthesise


@lru_cache(maxsize=32)
def _layout(axes: int, b: int, dtype: torch.dtype, device: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    layout = s2_complex_layout(b) if axes == 2 else so3_complex_layout(b)
    indices = (torch.from_numpy(index).to(device) for index in (layout.re, layout.im))
    weights = (torch.from_numpy(weight).to(device, dtype) for weight in (layout.re_weight, layout.im_weight))
    re, im = indices
    re_weight, im_weight = weights
    return re, re_weight, im, im_weight


def _to_complex(real_form: Tensor, axes: int, b: int) -> Tensor:
    """Return x = U^dagger X (U): [..., rows] real -> [..., rows] complex."""
    re, re_weight, im, im_weight = _layout(axes, b, real_form.dtype, str(real_form.device))
    parts = []
    for index, weight in ((re, re_weight), (im, im_weight)):
        terms = [real_form.index_select(-1, i) * w for i, w in zip(index, weight, strict=True)]
        parts.append(sum(terms[1:], terms[0]))
    return torch.complex(*parts)


def _to_real_form(x: Tensor, b: int) -> Tensor:
    """Return X = Re(U x U^dagger) on SO(3), the transpose of `_to_complex`: that of the real part of the signal."""
    dtype = torch.float32 if x.dtype == torch.complex64 else torch.float64
    re, re_weight, im, im_weight = _layout(3, b, dtype, str(x.device))
    result = torch.zeros(x.shape, dtype=dtype, device=x.device)
    for part, index, weight in ((x.real, re, re_weight), (x.imag, im, im_weight)):
        for i, w in zip(index, weight, strict=True):
            result = result.index_add(-1, i, part * w)
    return result


def _forward(x: Tensor, axes: int, b_out: int | None, alias: bool) -> Tensor:
    b = checks.signal(x, axes)
    b_out = b if b_out is None else checks.bandwidth(b_out, "b_out")
    degrees = b_out if alias else min(b, b_out)
    rows = so3_rows(b_out) if axes == 3 else b_out * b_out
    if axes == 2:
        spectrum = s2_analyse_complex(x.reshape(-1, *x.shape[-2:]), degrees)
    else:
        spectrum = _to_complex(so3_analyse(x.reshape(1, -1, *x.shape[-3:]), degrees)[0].t(), 3, degrees)
    if spectrum.shape[-1] < rows:
        spectrum = torch.nn.functional.pad(spectrum, (0, rows - spectrum.shape[1]))
    return spectrum.reshape(*x.shape[:-axes], rows)


def _inverse(spectrum: Tensor, axes: int, b_out: int | None) -> Tensor:
    if spectrum.dtype not in (torch.complex64, torch.complex128):
        raise TypeError(f"a spectrum is complex64 or complex128, got {spectrum.dtype}; a forward transform makes one")
    if spectrum.ndim == 0:
        raise ValueError("a spectrum has its rows on the last axis, got a scalar")
    b = checks.degrees(spectrum.shape[-1], axes)
    b_out = b if b_out is None else checks.bandwidth(b_out, "b_out")
    items = spectrum.reshape(-1, spectrum.shape[-1])
    f = s2_synthesise_complex(items, b_out) if axes == 2 else so3_synthesise(_to_real_form(items, b).t()[None], b_out)
    return f.reshape(*spectrum.shape[:-1], *f.shape[-axes:])


def s2_fft(x: Tensor, b_out: int | None = None, alias: bool = False) -> Tensor:
    """Compute the spherical Fourier transform of a signal on the SOFT grid; commutes with SO(3).

    x^l_m = sum_jk 2b w_j f e^{-i m alpha_k} d^l_m0(beta_j).

    Args:
        x: real signal `[..., beta, alpha]`, each axis 2b long, float32 or float64.
        b_out: number of degrees of the result, b by default.
        alias: for b_out > b, keep the quadrature values of the degrees l >= b (aliases, as published models have them)
            instead of zeros. Orders |m| >= b are zero in either case.

    Returns:
        Complex spectrum `[..., b_out^2]`, row l^2 + l + m.

    Raises:
        ValueError: if the spatial axes are not of one even length, or b_out < 1.
        TypeError: if the dtype is neither float32 nor float64.

    Example:
        >>> f = torch.ones(8, 8, dtype=torch.float64)
        >>> s2_fft(f).shape, round(s2_fft(f)[0].real.item(), 12)
        (torch.Size([16]), 1.0)

    Source: Driscoll and Healy 1994; Cohen et al. 2018.
    """
    return _forward(x, 2, b_out, alias)


def s2_ifft(X: Tensor, b_out: int | None = None) -> Tensor:
    """Compute the inverse spherical Fourier transform, on the SOFT grid; commutes with SO(3).

    f = sum_l (2l+1) sum_m x^l_m D^l_m0, its real part.

    Args:
        X: complex spectrum `[..., b^2]`, row l^2 + l + m.
        b_out: bandwidth of the result, b by default; smaller drops the degrees l >= b_out.

    Returns:
        Real signal `[..., 2 b_out, 2 b_out]`.

    Raises:
        ValueError: if the number of rows is not a square, or b_out < 1.
        TypeError: if X is not complex.

    Example:
        >>> f = s2_ifft(torch.ones(16, dtype=torch.complex128))
        >>> bool(torch.allclose(s2_ifft(s2_fft(f)), f))
        True

    Source: Driscoll and Healy 1994; Cohen et al. 2018.
    """
    return _inverse(X, 2, b_out)


def so3_fft(x: Tensor, b_out: int | None = None, alias: bool = False) -> Tensor:
    """Compute the Fourier transform on SO(3) of a signal on the SOFT grid; commutes with SO(3).

    x^l_mn = sum w_j f e^{-i (m alpha + n gamma)} d^l_mn(beta_j).

    Args:
        x: real signal `[..., beta, alpha, gamma]`, each axis 2b long, float32 or float64.
        b_out: number of degrees of the result, b by default.
        alias: for b_out > b, keep the quadrature values of the degrees l >= b (aliases, as published models have them)
            instead of zeros. Orders |m|, |n| >= b are zero in either case.

    Returns:
        Complex spectrum `[..., b_out (4 b_out^2 - 1) / 3]`, row l (4 l^2 - 1) / 3 + (l + m)(2l + 1) + (l + n).

    Raises:
        ValueError: if the spatial axes are not of one even length, or b_out < 1.
        TypeError: if the dtype is neither float32 nor float64.

    Example:
        >>> f = torch.ones(4, 4, 4, dtype=torch.float64)
        >>> so3_fft(f).shape, round(so3_fft(f)[0].real.item(), 12)
        (torch.Size([10]), 1.0)

    Source: Kostelec and Rockmore 2008; Cohen et al. 2018.
    """
    return _forward(x, 3, b_out, alias)


def so3_ifft(X: Tensor, b_out: int | None = None) -> Tensor:
    """Compute the inverse Fourier transform on SO(3), on the SOFT grid; commutes with SO(3).

    f = sum_l (2l+1) sum_mn x^l_mn D^l_mn, its real part.

    Args:
        X: complex spectrum `[..., b (4 b^2 - 1) / 3]`, rows as `so3_fft` returns them.
        b_out: bandwidth of the result, b by default; smaller drops the degrees l >= b_out.

    Returns:
        Real signal `[..., 2 b_out, 2 b_out, 2 b_out]`.

    Raises:
        ValueError: if no bandwidth has this number of rows, or b_out < 1.
        TypeError: if X is not complex.

    Example:
        >>> f = so3_ifft(torch.ones(10, dtype=torch.complex128))
        >>> bool(torch.allclose(so3_ifft(so3_fft(f)), f))
        True

    Source: Kostelec and Rockmore 2008; Cohen et al. 2018.
    """
    return _inverse(X, 3, b_out)


def s2_ft(x: Tensor, grid: KernelGrid | object, b: int | None = None) -> Tensor:
    """Compute a spherical Fourier sum over any points, one by one; commutes with SO(3), which moves the points.

    x^l_m = sum_p x_p conj D^l_m0(alpha_p, beta_p, 0).

    There are no quadrature weights: multiply x by them first to integrate.

    Args:
        x: real values `[..., P]`, float32 or float64.
        grid: a grid, or points `[P, 2]` as (beta, alpha).
        b: number of degrees; by default the largest with b^2 <= P.

    Returns:
        Complex spectrum `[..., b^2]`, row l^2 + l + m.

    Raises:
        ValueError: if the number of values is not the number of points, or a point is not on the sphere.
        TypeError: if the dtype is neither float32 nor float64.

    Example:
        >>> x = s2_ft(torch.ones(1, dtype=torch.float64), [[0.0, 0.0]], b=2)
        >>> bool(torch.allclose(x.real, torch.tensor([1.0, 0.0, 1.0, 0.0], dtype=torch.float64)))
        True

    Source: Cohen et al. 2018, section 4.
    """
    return _slow(x, as_grid(grid, "s2"), b)


def so3_ft(x: Tensor, grid: KernelGrid | object, b: int | None = None) -> Tensor:
    """Compute a Fourier sum over any points of SO(3), one by one; commutes with SO(3), which moves the points.

    x^l_mn = sum_p x_p conj D^l_mn(g_p).

    There are no quadrature weights: multiply x by them first to integrate.

    Args:
        x: real values `[..., P]`, float32 or float64.
        grid: a grid, or points `[P, 3]` as (beta, alpha, gamma).
        b: number of degrees; by default the largest with b (4 b^2 - 1) / 3 <= P.

    Returns:
        Complex spectrum `[..., b (4 b^2 - 1) / 3]`, rows as `so3_fft` returns them.

    Raises:
        ValueError: if the number of values is not the number of points, or a point is not a rotation.
        TypeError: if the dtype is neither float32 nor float64.

    Example:
        >>> round(so3_ft(torch.ones(1, dtype=torch.float64), [[0.0, 0.0, 0.0]], b=2).real.sum().item(), 12)
        4.0

    Source: Cohen et al. 2018, section 4.
    """
    return _slow(x, as_grid(grid, "so3"), b)


def _slow(x: Tensor, grid: KernelGrid, b: int | None) -> Tensor:
    checks.real_dtype(x.dtype)
    points = grid.points
    if x.ndim == 0 or x.shape[-1] != len(points):
        raise ValueError(
            f"{tuple(x.shape)} values for a grid of {len(points)} points: the last axis must be the points"
        )
    axes = 2 if grid.domain == "s2" else 3
    if b is None:
        b = 1
        while ((b + 1) ** 2 if axes == 2 else so3_rows(b + 1)) <= len(points):
            b += 1
    b = checks.bandwidth(b)
    basis = s2_basis(points, b, x.dtype) if axes == 2 else so3_basis(points, b, x.dtype)
    return _to_complex(x @ basis.to(x.device), axes, b)


def s2_resample(x: Tensor, b_out: int) -> Tensor:
    """Compute the spherical signal on the grid of another bandwidth: spectral pooling or upsampling, exact under SO(3).

    Args:
        x: `[..., beta, alpha]`, each axis 2b long, float32 or float64.
        b_out: bandwidth of the result. Smaller drops degrees (pooling), larger interpolates without aliases.

    Returns:
        `[..., 2 b_out, 2 b_out]`, the projection of x onto the degrees l < min(b, b_out).

    Raises:
        ValueError: if the spatial axes are not of one even length, or b_out < 1.
        TypeError: if the dtype is neither float32 nor float64.

    Example:
        >>> s2_resample(torch.ones(8, 8), 2).shape
        torch.Size([4, 4])

    Source: Rippel et al., Spectral representations for CNNs, 2015, on the sphere.
    """
    b, b_out = checks.signal(x, 2), checks.bandwidth(b_out, "b_out")
    items = x.reshape(1, -1, *x.shape[-2:])
    return s2_synthesise(s2_analyse(items, min(b, b_out)), b_out).reshape(*x.shape[:-2], 2 * b_out, 2 * b_out)


def so3_resample(x: Tensor, b_out: int) -> Tensor:
    """Compute the SO(3) signal on the grid of another bandwidth: spectral pooling or upsampling, exact under SO(3).

    Args:
        x: `[..., beta, alpha, gamma]`, each axis 2b long, float32 or float64.
        b_out: bandwidth of the result. Smaller drops degrees (pooling), larger interpolates without aliases.

    Returns:
        `[..., 2 b_out, 2 b_out, 2 b_out]`, the projection of x onto the degrees l < min(b, b_out).

    Raises:
        ValueError: if the spatial axes are not of one even length, or b_out < 1.
        TypeError: if the dtype is neither float32 nor float64.

    Example:
        >>> so3_resample(torch.ones(8, 8, 8), 2).shape
        torch.Size([4, 4, 4])

    Source: Rippel et al., Spectral representations for CNNs, 2015, on SO(3).
    """
    b, b_out = checks.signal(x, 3), checks.bandwidth(b_out, "b_out")
    items = x.reshape(1, -1, *x.shape[-3:])
    return so3_synthesise(so3_analyse(items, min(b, b_out)), b_out).reshape(*x.shape[:-3], *(2 * b_out,) * 3)
