"""The transforms between spherical signals and spectra, in real form for the layers and complex for the public.

    alpha     F[m] = E f^T                     (E: cosines and sines)
    beta      O[m] = T[m] F[m]^T               (batched over the orders; T: sqrt 2 d^l_m0, zero for l < m)
    gather    X = +-O[cells]                   (the real form, or the real and imaginary parts of the complex rows)

On a GPU beta and gather of the real form are one kernel, and it reads the northern half of T alone.

Synthesis is the transpose, step by step. Weights: the quadrature 2b w_j on the table, the inverse's 2l+1 on the rows.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ..cuda.launch import executor_for
from ..cuda.wigner_operators import beta_step
from .layout import fourier_matrix
from .linear import linear, sum_rows
from .quadrature import quadrature_weights, soft_betas
from .tables import without_denormals
from .wigner import Array, Integers, small_d_by_degree


@dataclass(frozen=True)
class Gather:
    """Which cells make the rows of a spectrum, and the transpose; signs without and with the factor 2l + 1."""

    terms: Tensor
    signs: tuple[Tensor, Tensor]
    source: Tensor
    source_signs: tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class S2Plan:
    """Everything that a spherical transform reads."""

    b: int
    degrees: int
    orders: int
    tables: tuple[Tensor, Tensor]  # without and with 2b w_j: [orders, degrees, 2b]
    fourier: Tensor
    real_form: Gather  # rows l^2 + index(m)
    complex_form: Gather  # rows 2 (l^2 + l + m) + (0 for the real part, 1 for the imaginary)
    north: Tensor  # the table at the b northern colatitudes without its zeros: order by order, l = m, m + 1, ..
    weights: Tensor  # 2b w_j of the north


@lru_cache(maxsize=32)
def s2_plan(b: int, degrees: int, orders: int, dtype: torch.dtype, device: str) -> S2Plan:
    """Return the plan of the S2 transform on the grid of bandwidth b."""
    table = np.zeros((orders, degrees, 2 * b))
    order = np.arange(orders)
    for l, d in enumerate(small_d_by_degree(degrees, order, np.zeros(orders, np.int64), soft_betas(b))):
        table[: len(d), l] = np.sqrt(2.0) * d
    numpy_dtype = np.dtype(np.float32 if dtype == torch.float32 else np.float64)
    table = without_denormals(table, numpy_dtype)
    weights = (2 * b * quadrature_weights(b)).to(dtype)
    north = np.concatenate([table[m, m:, :b].reshape(-1) for m in range(orders)])
    degree = np.repeat(np.arange(degrees), 2 * np.arange(degrees) + 1)
    index = np.arange(degrees * degrees) - degree * degree
    size, sine = (index + 1) // 2, (index % 2 == 0) & (index > 0)
    m = index - degree
    sign = np.where(m < 0, np.where(m % 2 == 0, 1.0, -1.0), 1.0) * np.where(m == 0, 1.0, np.sqrt(0.5))
    # x_m = (X_m + i X_{-m}) / sqrt 2 for m > 0, x_{-m} = (-1)^m conj x_m, and a sine cell is -X_{-m}
    imaginary = np.where(m == 0, 0.0, -sign * np.sign(m))
    parts = np.stack([np.abs(m), np.abs(m)], 1).reshape(-1), np.tile([0, 1], len(m))
    return S2Plan(
        b,
        degrees,
        orders,
        (torch.from_numpy(table).to(device), (torch.from_numpy(table) * weights).to(device)),
        torch.from_numpy(fourier_matrix(b, orders)).to(device, dtype),
        _gather(degree, size, sine.astype(np.int64), np.where(sine, -1.0, 1.0), (orders, degrees), dtype, device),
        _gather(
            np.repeat(degree, 2), *parts, np.stack([sign, imaginary], 1).reshape(-1), (orders, degrees), dtype, device
        ),
        torch.from_numpy(north).to(device),
        weights[:b].to(device),
    )


def _gather(
    l: Integers, m: Integers, sine: Integers, sign: Array, shape: tuple[int, int], dtype: torch.dtype, device: str
) -> Gather:
    """Return the gather of the cells (m, l, sine), zero for the orders that are not there, and its transpose."""
    orders, degrees = shape
    sign = sign * (m < orders)
    cell = np.where(m < orders, (m * degrees + l) * 2 + sine, 0)
    used = np.flatnonzero(sign)
    by_cell = used[np.argsort(cell[used], kind="stable")]
    first = np.searchsorted(cell[by_cell], cell[by_cell])
    slot = np.arange(len(by_cell)) - first
    width = int(slot.max()) + 1
    source, source_sign = np.zeros((2 * orders * degrees, width), np.int64), np.zeros((2 * orders * degrees, width))
    source[cell[by_cell], slot], source_sign[cell[by_cell], slot] = by_cell, sign[by_cell]
    factor = 2.0 * l + 1

    def real(values: Array) -> Tensor:
        return torch.from_numpy(values).to(device, dtype)

    return Gather(
        torch.from_numpy(cell[:, None]).to(device),
        (real(sign[:, None]), real((sign * factor)[:, None])),
        torch.from_numpy(source).to(device),
        (real(source_sign), real(source_sign * factor[source])),
    )


def _analyse(x: Tensor, plan: S2Plan, gather: Gather, quadrature: bool) -> Tensor:
    """Return sum f conj D, times 2b w_j (quadrature) or 2l + 1 (not): [N, 2b, 2b] -> [rows, N]."""
    size = 2 * plan.b
    order_space = torch.mm(plan.fourier, x.reshape(-1, size).t()).view(plan.orders, -1, size)
    cells = torch.bmm(plan.tables[1 if quadrature else 0], order_space.transpose(1, 2))
    return sum_rows(cells.view(2 * plan.orders * plan.degrees, -1), gather.terms, gather.signs[0 if quadrature else 1])


def _synthesise(spectrum: Tensor, plan: S2Plan, gather: Gather, quadrature: bool) -> Tensor:
    """Return the transpose of `_analyse`: [rows, N] -> [N, 2b, 2b]."""
    size, items = 2 * plan.b, spectrum.shape[1]
    cells = sum_rows(spectrum.contiguous(), gather.source, gather.source_signs[0 if quadrature else 1])
    cells = cells.view(plan.orders, plan.degrees, 2 * items)
    order_space = torch.bmm(cells.transpose(1, 2), plan.tables[1 if quadrature else 0])
    return torch.mm(order_space.view(2 * plan.orders, -1).t(), plan.fourier).view(items, size, size)


def _forward(x: Tensor, degrees: int, complex_form: bool) -> Tensor:
    b = x.shape[-1] // 2
    plan = s2_plan(b, degrees, min(b, degrees), x.dtype, str(x.device))
    gather = plan.complex_form if complex_form else plan.real_form
    return linear(x, lambda x: _analyse(x, plan, gather, True), lambda z: _synthesise(z, plan, gather, True))


def _backward(rows: Tensor, degrees: int, b: int, complex_form: bool) -> Tensor:
    plan = s2_plan(b, degrees, degrees, rows.dtype, str(rows.device))
    gather = plan.complex_form if complex_form else plan.real_form
    return linear(rows, lambda z: _synthesise(z, plan, gather, False), lambda x: _analyse(x, plan, gather, False))


def s2_analyse(x: Tensor, degrees: int) -> Tensor:
    """Compute the real-form spectrum of degrees l < degrees, commuting with SO(3) up to l < b.

    Args:
        x: `[B, C, 2b, 2b]`, float32 or float64.
        degrees: number of degrees kept; those l >= b keep the quadrature values of the orders |m| < b, aliases.

    Returns:
        `[B, degrees^2, C]`.
    """
    if executor_for(x) is not None:
        b = x.shape[-1] // 2
        plan = s2_plan(b, degrees, min(b, degrees), x.dtype, str(x.device))
        return linear(x, lambda x: _to_rows(x, plan, True), lambda z: _from_rows(z, plan, True))
    return _forward(x.flatten(0, 1), degrees, False).view(degrees**2, *x.shape[:2]).transpose(0, 1)


def s2_synthesise(spectrum: Tensor, b: int) -> Tensor:
    """Compute f = sum_l (2l+1) sum_m X^l_m conj D^l_m0 on the grid of bandwidth b; commutes with SO(3).

    Args:
        spectrum: `[B, degrees^2, C]`; degrees l >= b are dropped.
        b: bandwidth of the result.

    Returns:
        `[B, C, 2b, 2b]`.
    """
    degrees = min(b, round(spectrum.shape[1] ** 0.5))
    if executor_for(spectrum) is not None:
        plan = s2_plan(b, degrees, degrees, spectrum.dtype, str(spectrum.device))
        kept = spectrum[:, : degrees * degrees]
        return linear(kept, lambda z: _from_rows(z, plan, False), lambda x: _to_rows(x, plan, False))
    rows = spectrum[:, : degrees * degrees].transpose(0, 1)
    return _backward(rows.reshape(degrees * degrees, -1), degrees, b, False).view(
        spectrum.shape[0], spectrum.shape[2], 2 * b, 2 * b
    )


def _to_rows(x: Tensor, plan: S2Plan, quadrature: bool) -> Tensor:
    """`_analyse` to the real form by the kernel: [B, C, 2b, 2b] -> [B, rows, C]."""
    size, batch, channels = 2 * plan.b, *x.shape[:2]
    space = torch.mm(plan.fourier, x.reshape(-1, size).t()).view(plan.orders, -1, size)
    rows = x.new_zeros(batch, plan.degrees**2, channels)  # where orders are missing, nobody writes
    beta_step(plan.north, plan.weights, space, rows, plan.degrees, True, quadrature)
    return rows


def _from_rows(spectrum: Tensor, plan: S2Plan, quadrature: bool) -> Tensor:
    """Return the transpose of `_to_rows`: [B, rows, C] -> [B, C, 2b, 2b]."""
    size, batch, channels = 2 * plan.b, spectrum.shape[0], spectrum.shape[2]
    space = spectrum.new_empty(plan.orders, 2 * batch * channels, size)
    beta_step(plan.north, plan.weights, spectrum.contiguous(), space, plan.degrees, False, quadrature)
    return torch.mm(space.view(2 * plan.orders, -1).t(), plan.fourier).view(batch, channels, size, size)


def s2_analyse_complex(x: Tensor, degrees: int) -> Tensor:
    """Compute the complex spectrum directly, in the public row order: `[N, 2b, 2b]` -> `[N, degrees^2]`."""
    rows = _forward(x, degrees, True).view(degrees * degrees, 2, -1)
    # Not torch.view_as_complex: up to torch 2.9 its second derivative refuses the strides of a single item.
    return torch.complex(rows[:, 0], rows[:, 1]).t().clone(memory_format=torch.contiguous_format)


def s2_synthesise_complex(spectrum: Tensor, b: int) -> Tensor:
    """Compute the real part of the signal of a complex spectrum: `[N, degrees^2]` -> `[N, 2b, 2b]`."""
    degrees = min(b, round(spectrum.shape[1] ** 0.5))
    kept = spectrum[:, : degrees * degrees].t()
    rows = torch.stack((kept.real, kept.imag), dim=1)
    return _backward(rows.reshape(2 * degrees * degrees, -1), degrees, b, True)
