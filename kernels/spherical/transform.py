"""The transforms between signals and spectra in real form, as linear autograd functions that are each other's adjoint.

SO(3) analysis, on blocks of channels small enough to stay in cache:

    fold      e_j, o_j = f_j + f_{2b-1-j}, f_j - f_{2b-1-j}                 (both halves of beta against even and odd
    tables) gamma     Y[n] = E f^T,  alpha  F[n][m] = E Y[n]^T                       (E: cosines and sines; no complex
    numbers) beta      O[m, n] = T[m, n] F[m, n]^T, batched over the pairs of a shell (T: the stored Wigner table)
    gather    X = O[plus] + O[minus]                                        (`layout`, formula (1))

Synthesis is the transpose, step by step. Weights: the quadrature w_j on the table, the inverse's (2l+1) on the rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from .layout import fourier_matrix, shell_layout, so3_rows
from .quadrature import quadrature_weights
from .tables import soft_table

# Bytes of signal per block. Measured best between 4 and 16 MiB on a CPU with 36 MiB of last-level cache: below, the
# calls cost more than the arithmetic; above, every step goes through memory.
_BLOCK_BYTES = 8 * 2**20


@dataclass(frozen=True)
class Plan:
    """Everything that a transform reads: bandwidth b, degrees l < degrees, orders |m|, |n| < orders."""

    b: int
    degrees: int
    orders: int
    table: tuple[Tensor, ...]
    fourier: Tensor
    weights: Tensor
    factor: Tensor
    plus: Tensor
    plus_sign: Tensor
    minus: Tensor
    minus_sign: Tensor
    source: Tensor
    source_sign: Tensor
    starts: tuple[tuple[tuple[int, int], tuple[int, int]], ...]
    rows: int


@lru_cache(maxsize=32)
def so3_plan(b: int, degrees: int, orders: int, dtype: torch.dtype, device: str) -> Plan:
    """Return the plan of the SO(3) transform on the grid of bandwidth b."""
    layout = shell_layout(degrees, orders)

    def real(values: Any) -> Tensor:
        return torch.as_tensor(values, dtype=dtype).to(device)

    def index(values: Any) -> Tensor:
        return torch.from_numpy(values).to(device)

    factor = torch.cat([torch.full(((2 * l + 1) ** 2,), 2.0 * l + 1.0) for l in range(degrees)])
    return Plan(
        b,
        degrees,
        orders,
        soft_table(b, degrees, orders, dtype, device),
        real(fourier_matrix(b, orders)),
        real(quadrature_weights(b)[:b]),
        real(factor)[:, None],
        index(layout.plus),
        real(layout.plus_sign)[:, None],
        index(layout.minus),
        real(layout.minus_sign)[:, None],
        index(layout.source),
        real(layout.source_sign)[:, None],
        tuple(((int(s[0, 0]), int(s[0, 1])), (int(s[1, 0]), int(s[1, 1]))) for s in layout.starts),
        layout.rows,
    )


def blocks(batch: int, channels: int, item_bytes: int) -> Iterator[tuple[slice, slice]]:
    """Yield slices (batch, channels) that cover `[batch, channels]` in blocks of about `_BLOCK_BYTES`."""
    items = max(1, _BLOCK_BYTES // item_bytes)
    if items < channels:
        for i in range(batch):
            for k in range(0, channels, items):
                yield slice(i, i + 1), slice(k, min(k + items, channels))
    else:
        step = items // channels
        for i in range(0, batch, step):
            yield slice(i, min(i + step, batch)), slice(0, channels)


def _analyse(x: Tensor, plan: Plan, quadrature: bool) -> Tensor:
    """Return X = sum_g f(g) conj D(g), times w_beta (quadrature) or 2l+1 (not): [B, C, 2b, 2b, 2b] -> [B, rows, C]."""
    batch, channels, b, orders = x.shape[0], x.shape[1], plan.b, plan.orders
    out = x.new_empty(batch, so3_rows(plan.degrees), channels)
    signs = (
        (plan.plus_sign, plan.minus_sign)
        if quadrature
        else (plan.plus_sign * plan.factor, plan.minus_sign * plan.factor)
    )
    for which, part in blocks(batch, channels, 8 * b**3 * x.element_size()):
        f = x[which, part].flatten(0, 1)
        c = f.shape[0]
        folded = f.new_empty(2, c, b, 2 * b, 2 * b)
        for j in range(b):
            torch.add(f[:, j], f[:, 2 * b - 1 - j], out=folded[0, :, j])
            torch.sub(f[:, j], f[:, 2 * b - 1 - j], out=folded[1, :, j])
        products = f.new_empty(plan.rows, 4 * c)
        for parity in (0, 1):
            y = torch.mm(plan.fourier, folded[parity].view(-1, 2 * b).t()).view(orders, 2 * c * b, 2 * b)
            order_space = torch.matmul(plan.fourier, y.transpose(1, 2)).view(orders, orders, 4 * c, b)  # [n, m]
            _beta_products(order_space, plan, parity, quadrature, products)
        cells = products.view(-1, c)
        spectrum = cells.index_select(0, plan.plus).mul_(signs[0])
        spectrum.addcmul_(cells.index_select(0, plan.minus), signs[1])
        out[which, :, part] = spectrum.view(-1, which.stop - which.start, part.stop - part.start).transpose(0, 1)
    return out


def _beta_products(order_space: Tensor, plan: Plan, parity: int, quadrature: bool, products: Tensor) -> None:
    """Fill the rows of one parity of O = T F^T."""
    columns = products.shape[1]
    for shell in range(plan.orders):
        table = plan.table[shell][parity]
        if quadrature:
            table = table * plan.weights
        length = plan.degrees - shell
        groups = (order_space[: shell + 1, shell], order_space[shell, :shell])
        for group, start in zip(groups, plan.starts[shell][parity], strict=True):
            pairs = group.shape[0]
            if pairs:
                target = products[start : start + pairs * length].view(pairs, length, columns)
                torch.bmm(table[:pairs], group.transpose(1, 2), out=target)


def _synthesise(spectrum: Tensor, plan: Plan, quadrature: bool) -> Tensor:
    """Return the transpose of `_analyse`: [B, rows, C] -> [B, C, 2b, 2b, 2b]."""
    batch, channels, b, orders = spectrum.shape[0], spectrum.shape[2], plan.b, plan.orders
    out = spectrum.new_empty(batch, channels, 2 * b, 2 * b, 2 * b)
    for which, part in blocks(batch, channels, 8 * b**3 * spectrum.element_size()):
        z = spectrum[which, :, part].transpose(0, 1)
        z = (z if quadrature else z * plan.factor[:, None]).reshape(z.shape[0], -1)
        c = z.shape[1]
        products = z.index_select(0, plan.source).mul_(plan.source_sign).view(plan.rows, 4 * c)
        halves = []
        for parity in (0, 1):
            order_space = _beta_transposed(products, plan, parity, quadrature)
            y = torch.matmul(order_space.view(orders, 2 * orders, 2 * c * b).transpose(1, 2), plan.fourier)
            halves.append(torch.mm(y.view(2 * orders, -1).t(), plan.fourier).view(c, b, 2 * b, 2 * b))
        f = out[which, part]
        even, odd = (half.view(*f.shape[:2], b, 2 * b, 2 * b) for half in halves)
        for j in range(b):
            torch.add(even[:, :, j], odd[:, :, j], out=f[:, :, j])
            torch.sub(even[:, :, j], odd[:, :, j], out=f[:, :, 2 * b - 1 - j])
    return out


def _beta_transposed(products: Tensor, plan: Plan, parity: int, quadrature: bool) -> Tensor:
    """Return F[n][m] = O^T T of one parity: [orders, orders, 4 c, b]."""
    columns = products.shape[1]
    order_space = products.new_empty(plan.orders, plan.orders, columns, plan.b)
    for shell in range(plan.orders):
        table = plan.table[shell][parity]
        if quadrature:
            table = table * plan.weights
        length = plan.degrees - shell
        groups = (order_space[: shell + 1, shell], order_space[shell, :shell])
        for group, start in zip(groups, plan.starts[shell][parity], strict=True):
            pairs = group.shape[0]
            if pairs:
                rows = products[start : start + pairs * length].view(pairs, length, columns)
                group.copy_(torch.bmm(rows.transpose(1, 2), table[:pairs]))
    return order_space


class _Analysis(torch.autograd.Function):
    """`_analyse` with its exact derivatives of every order: it is linear, and `_Synthesis` is its transpose."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, plan: Plan, quadrature: bool) -> Tensor:
        ctx.plan, ctx.quadrature = plan, quadrature  # type: ignore[attr-defined]  # a context takes any attribute
        with torch.autocast(x.device.type, enabled=False):
            return _analyse(x, plan, quadrature)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _synthesis(gradient, ctx.plan, ctx.quadrature), None, None


class _Synthesis(torch.autograd.Function):
    """`_synthesise` with its exact derivatives of every order."""

    @staticmethod
    def forward(ctx: FunctionCtx, spectrum: Tensor, plan: Plan, quadrature: bool) -> Tensor:
        ctx.plan, ctx.quadrature = plan, quadrature  # type: ignore[attr-defined]  # a context takes any attribute
        with torch.autocast(spectrum.device.type, enabled=False):
            return _synthesise(spectrum, plan, quadrature)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _analysis(gradient, ctx.plan, ctx.quadrature), None, None


def _analysis(x: Tensor, plan: Plan, quadrature: bool) -> Tensor:
    result: Tensor = _Analysis.apply(x, plan, quadrature)  # type: ignore[no-untyped-call]  # torch leaves apply untyped
    return result


def _synthesis(spectrum: Tensor, plan: Plan, quadrature: bool) -> Tensor:
    result: Tensor = _Synthesis.apply(spectrum, plan, quadrature)  # type: ignore[no-untyped-call]  # as above
    return result


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
    return _analysis(x, plan, True)


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
    return _synthesis(spectrum, plan, False)


def so3_degrees(rows: int) -> int:
    """Return b from b (4 b^2 - 1) / 3."""
    b: int = round((3 * rows / 4) ** (1 / 3))
    return b
