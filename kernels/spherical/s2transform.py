"""The transforms between spherical signals and spectra in real form: small beside SO(3), plain torch operations.

fold      e_j, o_j = f_j + f_{2b-1-j}, f_j - f_{2b-1-j}
alpha     F[m] = E f^T                                 (cosines and sines)
beta      O[m] = T[m] F[m]^T, batched over the orders  (T: sqrt 2 d^l_m0, the degrees l - m even, or odd)
gather    the rows l^2 + index(m)
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from .layout import fourier_matrix
from .quadrature import quadrature_weights, soft_betas
from .tables import without_denormals
from .wigner import small_d_by_degree


@dataclass(frozen=True)
class S2Plan:
    """Everything that a spherical transform reads."""

    b: int
    degrees: int
    orders: int
    table: Tensor  # [2 parities, orders, ceil(degrees / 2), b], zero where l = m + parity + 2 row is no degree
    weighted: Tensor  # the same times 2b w_j
    fourier: Tensor
    factor: Tensor
    gather: Tensor
    gather_sign: Tensor
    source: Tensor
    source_sign: Tensor


@lru_cache(maxsize=32)
def s2_plan(b: int, degrees: int, orders: int, dtype: torch.dtype, device: str) -> S2Plan:
    """Return the plan of the S2 transform on the grid of bandwidth b."""
    rows = (degrees + 1) // 2
    table = np.zeros((2, orders, rows, b))
    order = np.arange(orders)
    for l, d in enumerate(small_d_by_degree(degrees, order, np.zeros(orders, np.int64), soft_betas(b)[:b])):
        m = order[: len(d)]
        table[(l - m) % 2, m, (l - m) // 2] = np.sqrt(2.0) * d
    l_of_row = np.repeat(np.arange(degrees), 2 * np.arange(degrees) + 1)
    index = np.arange(degrees * degrees) - l_of_row * l_of_row
    m, sine = (index + 1) // 2, (index % 2 == 0) & (index > 0)
    present = m < orders
    cell = (
        ((l_of_row - m) % 2 * orders + np.where(present, m, 0)) * rows + np.where(present, (l_of_row - m) // 2, 0)
    ) * 2 + sine
    sign = np.where(sine, -1.0, 1.0) * present
    source, source_sign = np.zeros(4 * orders * rows, np.int64), np.zeros(4 * orders * rows)
    source[cell[present]], source_sign[cell[present]] = np.flatnonzero(present), sign[present]

    def real(values: object) -> Tensor:
        return torch.as_tensor(values, dtype=dtype).to(device)

    return S2Plan(
        b,
        degrees,
        orders,
        real(without_denormals(table, np.dtype(np.float32 if dtype == torch.float32 else np.float64))),
        real(table * (2 * b * quadrature_weights(b)[:b].numpy())),
        real(fourier_matrix(b, orders)),
        real(2 * l_of_row + 1)[:, None],
        torch.from_numpy(cell).to(device),
        real(sign)[:, None],
        torch.from_numpy(source).to(device),
        real(source_sign)[:, None],
    )


def s2_analyse(x: Tensor, degrees: int) -> Tensor:
    """Compute the real-form spectrum of degrees l < degrees, commuting with SO(3) up to l < b.

    Args:
        x: `[B, C, 2b, 2b]`, float32 or float64.
        degrees: number of degrees kept; those l >= b keep the quadrature values of the orders |m| < b, aliases.

    Returns:
        `[B, degrees^2, C]`.
    """
    b, batch, channels = x.shape[-1] // 2, x.shape[0], x.shape[1]
    plan = s2_plan(b, degrees, min(b, degrees), x.dtype, str(x.device))
    with torch.autocast(x.device.type, enabled=False):
        north, south = x[:, :, :b], x[:, :, b:].flip(2)
        products = []
        for parity, folded in enumerate((north + south, north - south)):
            order_space = torch.mm(plan.fourier, folded.reshape(-1, 2 * b).t()).view(plan.orders, -1, b)
            products.append(torch.bmm(plan.weighted[parity], order_space.transpose(1, 2)))
        cells = torch.stack(products).view(-1, batch * channels)
        spectrum = cells.index_select(0, plan.gather) * plan.gather_sign
        return spectrum.view(-1, batch, channels).transpose(0, 1)


def s2_synthesise(spectrum: Tensor, b: int) -> Tensor:
    """Compute f = sum_l (2l+1) sum_m X^l_m conj D^l_m0 on the grid of bandwidth b; commutes with SO(3).

    Args:
        spectrum: `[B, degrees^2, C]`; degrees l >= b are dropped.
        b: bandwidth of the result.

    Returns:
        `[B, C, 2b, 2b]`.
    """
    batch, channels = spectrum.shape[0], spectrum.shape[2]
    degrees = min(b, round(spectrum.shape[1] ** 0.5))
    plan = s2_plan(b, degrees, degrees, spectrum.dtype, str(spectrum.device))
    with torch.autocast(spectrum.device.type, enabled=False):
        z = (spectrum[:, : degrees * degrees] * plan.factor).transpose(0, 1).reshape(degrees * degrees, -1)
        cells = (z.index_select(0, plan.source) * plan.source_sign).view(2, degrees, -1, 2 * batch * channels)
        halves = []
        for parity in (0, 1):
            order_space = torch.bmm(cells[parity].transpose(1, 2), plan.table[parity])
            half = torch.mm(order_space.view(2 * degrees, -1).t(), plan.fourier)
            halves.append(half.view(batch, channels, b, 2 * b))
        even, odd = halves
        return torch.cat([even + odd, (even - odd).flip(2)], 2)
