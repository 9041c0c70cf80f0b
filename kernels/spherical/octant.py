"""The beta step from the stored octant of the table, in torch: what `cuda.wigner` computes where there is no GPU.

Space is folded about the equator, E = f(beta) + f(pi - beta) and O = f(beta) - f(pi - beta) over the b northern
colatitudes: the rows of parity 0 meet E, those of parity 1 meet O, and the transpose unfolds.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from .layout import shell_layout
from .tables import shell_starts


def so3_beta(table: Tensor, space: Tensor, degrees: int) -> Tensor:
    """Analyse: space [orders, orders, 4 items, 2b], weighted, to the real form [so3_rows, items]."""
    orders, items = space.shape[0], space.shape[2] // 4
    layout = shell_layout(degrees, orders)
    products = []
    for rows, pairs in _shells(table, space.shape[-1] // 2, degrees, orders):
        both = torch.stack(_fold(space[pairs]))  # [parity, pairs, columns, b]
        products.append(torch.einsum("pkcj,pklj->kplc", both, rows).reshape(-1, items))
    cells = torch.cat(products)
    terms = ((layout.plus, layout.plus_sign), (layout.minus, layout.minus_sign))
    return sum(cells[torch.as_tensor(at)] * cells.new_tensor(sign)[:, None] for at, sign in terms)  # type: ignore[return-value]  # never empty


def so3_beta_transposed(table: Tensor, spectrum: Tensor, space: Tensor, degrees: int) -> None:
    """Synthesise: the transpose of `so3_beta`, into space."""
    orders, size = space.shape[0], space.shape[-1]
    layout = shell_layout(degrees, orders)
    cells = spectrum[torch.as_tensor(layout.source)] * spectrum.new_tensor(layout.source_sign)[:, None]
    start = 0
    for rows, pairs in _shells(table, size // 2, degrees, orders):
        _, count, length, _ = rows.shape
        end = start + 2 * count * length * 4
        part = cells[start:end].view(count, 2, length, -1)
        space[pairs] = _unfold(torch.einsum("kplc,pklj->pkcj", part, rows))
        start = end


def s2_beta(table: Tensor, space: Tensor, degrees: int) -> Tensor:
    """Analyse: space [orders, 2 items, 2b], weighted, to the real form [degrees^2, items]; missing orders are zero."""
    orders, items = space.shape[0], space.shape[1] // 2
    out = space.new_zeros(degrees**2, items)
    for m, rows, degree in _orders(table, space.shape[-1] // 2, degrees, orders):
        even, odd = _fold(space[m])
        values = torch.where((degree - m) % 2 == 0, rows @ even.t().unsqueeze(0), rows @ odd.t().unsqueeze(0))[0]
        cosine, sine = values.view(-1, 2, items).unbind(1)
        out[degree[0, :, 0] ** 2 + max(2 * m - 1, 0)] = cosine
        if m:
            out[degree[0, :, 0] ** 2 + 2 * m] = -sine
    return out


def s2_beta_transposed(table: Tensor, spectrum: Tensor, space: Tensor, degrees: int) -> None:
    """Synthesise: the transpose of `s2_beta`, into space."""
    items = spectrum.shape[1]
    for m, rows, degree in _orders(table, space.shape[-1] // 2, degrees, space.shape[0]):
        at = degree[0, :, 0] ** 2
        sine = -spectrum[at + 2 * m] if m else spectrum.new_zeros(len(at), items)
        values = torch.cat([spectrum[at + max(2 * m - 1, 0)], sine], 1)
        parity = (degree[0] - m) % 2
        space[m] = _unfold(torch.stack([(values * (parity == p)).t() @ rows[0] for p in (0, 1)]))


def _fold(space: Tensor) -> tuple[Tensor, Tensor]:
    north, south = space[..., : space.shape[-1] // 2], space[..., space.shape[-1] // 2 :].flip(-1)
    return north + south, north - south


def _unfold(both: Tensor) -> Tensor:
    return torch.cat([both[0] + both[1], (both[0] - both[1]).flip(-1)], -1)


def _shells(table: Tensor, b: int, degrees: int, orders: int) -> Iterator[tuple[Tensor, tuple[Any, Any]]]:
    """Yield rows [parity, pairs, degrees - M, b] and the places [n, m] of their pairs, in the order of `layout`."""
    starts = shell_starts(degrees, orders)
    for M in range(orders):
        rows = table[starts[M] * b : starts[M + 1] * b].view(2, M + 1, degrees - M, b)
        yield rows, (slice(M + 1), M)
        if M:
            yield rows[:, :M], (M, slice(M))


def _orders(table: Tensor, b: int, degrees: int, orders: int) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield the order m, rows [1, degrees - m, b], and their degrees [1, degrees - m, 1]."""
    start = 0
    for m in range(orders):
        end = start + (degrees - m) * b
        yield m, table[start:end].view(1, -1, b), torch.arange(m, degrees, device=table.device)[None, :, None]
        start = end
