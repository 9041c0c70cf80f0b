"""The transforms between signals and spectra in real form, linear maps that are each other's transpose.

SO(3) analysis, on blocks of channels small enough to stay in cache:

    gamma     Y[n] = E f^T,  alpha  F[n][m] = E Y[n]^T     (E: cosines and sines; no complex numbers)
    beta      O[m, n] = T[m, n] F[m, n]^T                  (batched over the pairs of a shell; T: the Wigner table)
    gather    X = +-O[plus] +- O[minus]                    (`layout`, formula (1); on a GPU one kernel with beta)

Each product leaves its result in the order that the next one reads: nothing is transposed in between. Synthesis is the
transpose, step by step. Weights: the quadrature w_j on the table, the inverse's 2l+1 on the rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..cuda.launch import executor_for
from ..cuda.wigner_operators import beta_step
from .contraction import contract
from .layout import fourier_matrix, shell_layout, so3_degrees, so3_rows
from .linear import empty, linear, sum_rows
from .quadrature import quadrature_weights
from .tables import shell_starts, soft_table

# Channels per block. Measured at b = 16 and 32 on a CPU with 36 MiB of last-level cache: with fewer than 32 the small
# products of the beta step are slow, with more the big ones of the gamma and alpha steps leave the cache. Below 4 MiB
# of signal the calls cost more than the arithmetic; 32 MiB bounds the work space, which is four times the signal.
_BLOCK_CHANNELS, _BLOCK_LEAST, _BLOCK_MOST = 32, 16 * 2**20, 32 * 2**20
# On a GPU fewer and larger launches win, and the work space, four times the block, is bounded at 1 GiB.
_BLOCK_DEVICE = 256 * 2**20

# Unfolded tables up to this size (b = 32 in float32: 6 MiB) are kept between calls; larger ones are unfolded in every
# call, whose work they are a small part of, so that a process holds no private copy of a table that others share.
_KEEP_BYTES = 16 * 2**20


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything that a transform reads: bandwidth b, degrees l < degrees, orders |m|, |n| < orders."""

    b: int
    degrees: int
    orders: int
    table: tuple[Tensor, ...]
    fourier: Tensor
    weights: Tensor
    terms: Tensor  # [2, rows]: the P+ and the P- term of each coefficient
    signs: tuple[Tensor, Tensor]  # without and with the factor 2l + 1 of the inverse
    source: Tensor  # the transpose: the coefficient of each cell of the products
    source_signs: tuple[Tensor, Tensor]
    rows: int

    @property
    def flat(self) -> Tensor:
        """The table as it is stored, all shells one after the other: views of one tensor."""
        first = self.table[0]
        return first.as_strided((shell_starts(self.degrees, self.orders)[-1] * self.b,), (1,), first.storage_offset())

    def unfolded(self, quadrature: bool) -> Tensor:
        """Return the table at all 2b colatitudes, times w_j with quadrature: shells [pairs, 2 (degrees - M), 2b]."""
        size = 2 * sum(shell.numel() * shell.element_size() for shell in self.table)
        return _kept_table(self, quadrature) if size <= _KEEP_BYTES else _unfold(self, quadrature)


@lru_cache(maxsize=32)
def so3_plan(b: int, degrees: int, orders: int, dtype: torch.dtype, device: str) -> Plan:
    """Return the plan of the SO(3) transform on the grid of bandwidth b."""
    layout = shell_layout(degrees, orders)
    factor = np.repeat(2.0 * np.arange(degrees) + 1, (2 * np.arange(degrees) + 1) ** 2)[:, None]
    signs = np.stack([layout.plus_sign, layout.minus_sign], 1)
    source, source_sign = layout.source[:, None], layout.source_sign[:, None]

    def real(values: Any) -> Tensor:
        return torch.as_tensor(values, dtype=dtype).to(device)

    return Plan(
        b,
        degrees,
        orders,
        soft_table(b, degrees, orders, dtype, device),
        real(fourier_matrix(b, orders)),
        real(quadrature_weights(b)[:b]),
        torch.from_numpy(np.stack([layout.plus, layout.minus], 1)).to(device),
        (real(signs), real(signs * factor)),
        torch.from_numpy(source).to(device),
        (real(source_sign), real(source_sign * factor[source[:, 0]])),
        layout.rows,
    )


def blocks(batch: int, channels: int, item_bytes: int, device: str = "cpu") -> Iterator[tuple[slice, slice]]:
    """Yield slices (batch, channels) that cover `[batch, channels]` in blocks that suit the cache of a CPU.

    Other devices get blocks as large as their work space may be.
    """
    if not channels:
        return
    items = max(1, min(_BLOCK_MOST // item_bytes, max(_BLOCK_CHANNELS, _BLOCK_LEAST // item_bytes)))
    if device != "cpu":
        items = max(1, _BLOCK_DEVICE // item_bytes)
    if items < channels:
        for i in range(batch):
            for k in range(0, channels, items):
                yield slice(i, i + 1), slice(k, min(k + items, channels))
    else:
        step = items // channels
        for i in range(0, batch, step):
            yield slice(i, min(i + step, batch)), slice(0, channels)


def _unfold(plan: Plan, quadrature: bool) -> Tensor:
    """Continue the table to the south, P+-(pi - beta) = +-P+-(beta): see `Plan.unfolded`."""
    b, starts = plan.b, shell_starts(plan.degrees, plan.orders)
    flat = empty(plan.weights, 2 * b * starts[-1])
    for M, stored in enumerate(plan.table):
        north = (stored * plan.weights if quadrature else stored).transpose(0, 1)
        full = flat[2 * b * starts[M] : 2 * b * starts[M + 1]].view(M + 1, 2, plan.degrees - M, 2 * b)
        full[..., :b] = north
        full[..., b:] = north.flip(-1)
        full[:, 1, :, b:].neg_()
    return flat


_kept_table = lru_cache(maxsize=32)(_unfold)


def _work_space(like: Tensor, plan: Plan, c: int) -> tuple[Tensor, Tensor]:
    """Return room for Y [2 orders, c 2b 2b] and F [n, m, (sin m, sin n, c), 2b]."""
    size, orders = 2 * plan.b, plan.orders
    return empty(like, 2 * orders, c * size * size), empty(like, orders, orders, 4 * c, size)


def _analyse(x: Tensor, plan: Plan, quadrature: bool) -> Tensor:
    """Return X = sum_g f(g) conj D(g), times w_beta (quadrature) or 2l+1 (not): [B, C, 2b, 2b, 2b] -> [B, rows, C]."""
    batch, channels, size, orders = x.shape[0], x.shape[1], 2 * plan.b, plan.orders
    out = empty(x, batch, so3_rows(plan.degrees), channels)
    kernels = executor_for(x) is not None
    if kernels and orders < plan.degrees:
        out.zero_()  # orders that are not there have no pair that would write them
    table = plan.flat if kernels else plan.unfolded(quadrature)
    signs = plan.signs[0 if quadrature else 1]
    y = order_space = products = x.new_empty(0)
    for which, part in blocks(batch, channels, size**3 * x.element_size(), x.device.type):
        f = x[which, part].reshape(-1, size)
        c = f.shape[0] // size**2
        if y.numel() != 2 * orders * c * size * size:
            y, order_space = _work_space(f, plan, c)
        torch.mm(plan.fourier, f.t(), out=y)
        columns = y.view(orders, 2 * c * size, size).transpose(1, 2)
        torch.bmm(plan.fourier.expand(orders, -1, -1), columns, out=order_space.view(orders, 2 * orders, -1))
        if kernels:
            beta_step(table, plan.weights, order_space, out[which, :, part], plan.degrees, True, quadrature)
            continue
        if products.shape != (plan.rows, 4 * c):
            products = empty(f, plan.rows, 4 * c)
        contract(table, order_space, products, plan.degrees, orders, True)
        spectrum = sum_rows(products.view(-1, c), plan.terms, signs)
        rows = out[which, :, part]
        rows.copy_(spectrum.view(-1, rows.shape[0], rows.shape[2]).transpose(0, 1))
    return out


def _synthesise(spectrum: Tensor, plan: Plan, quadrature: bool) -> Tensor:
    """Return the transpose of `_analyse`: [B, rows, C] -> [B, C, 2b, 2b, 2b]."""
    batch, channels, size, orders = spectrum.shape[0], spectrum.shape[2], 2 * plan.b, plan.orders
    out = empty(spectrum, batch, channels, size, size, size)
    kernels = executor_for(spectrum) is not None
    if kernels and spectrum.stride(2) != 1:
        spectrum = spectrum.contiguous()
    table = plan.flat if kernels else plan.unfolded(quadrature)
    signs = plan.source_signs[0 if quadrature else 1]
    y = order_space = spectrum.new_empty(0)
    for which, part in blocks(batch, channels, size**3 * spectrum.element_size(), spectrum.device.type):
        given = spectrum[which, :, part]
        c = given.shape[0] * given.shape[2]
        if y.numel() != 2 * orders * c * size * size:
            y, order_space = _work_space(spectrum, plan, c)
        if kernels:
            beta_step(table, plan.weights, given, order_space, plan.degrees, False, quadrature)
        else:
            z = given.transpose(0, 1).flatten(1)
            products = sum_rows(z.contiguous(), plan.source, signs).view(plan.rows, 4 * c)
            contract(table, products, order_space, plan.degrees, orders, False)
        columns = order_space.view(orders, 2 * orders, 2 * c * size).transpose(1, 2)
        torch.bmm(columns, plan.fourier.expand(orders, -1, -1), out=y.view(orders, 2 * c * size, size))
        f = out[which, part]  # whole batch items, or some channels of one: contiguous
        torch.mm(y.t(), plan.fourier, out=f.view(-1, size))
    return out


def so3_analyse(x: Tensor, degrees: int) -> Tensor:
    """Compute the real-form spectrum of degrees l < degrees, commuting with SO(3) up to l < b.

    Degrees l >= b keep their quadrature values on the orders |m|, |n| < b: aliases.

    Args:
        x: `[B, C, 2b, 2b, 2b]`, float32 or float64.
        degrees: number of degrees kept.

    Returns:
        `[B, so3_rows(degrees), C]`.
    """
    b = x.shape[-1] // 2
    plan = so3_plan(b, degrees, min(b, degrees), x.dtype, str(x.device))
    return linear(x, lambda x: _analyse(x, plan, True), lambda z: _synthesise(z, plan, True))


def so3_synthesise(spectrum: Tensor, b: int) -> Tensor:
    """Compute f = sum_l (2l+1) <conj D^l, X^l> on the grid of bandwidth b, from the real form; commutes with SO(3).

    Args:
        spectrum: `[B, so3_rows(degrees), C]`; degrees l >= b are dropped.
        b: bandwidth of the result.

    Returns:
        `[B, C, 2b, 2b, 2b]`.
    """
    degrees = so3_degrees(spectrum.shape[1])
    if degrees > b:
        spectrum, degrees = spectrum[:, : so3_rows(b)], b
    plan = so3_plan(b, degrees, degrees, spectrum.dtype, str(spectrum.device))
    return linear(spectrum, lambda z: _synthesise(z, plan, False), lambda x: _analyse(x, plan, False))
