"""The beta step of the transforms on SO(3): every pair of orders times its Wigner table.

    O[m, n] = T[m, n] F[m, n]^T   (analysis),       F[m, n] = O[m, n]^T T[m, n]   (synthesis)

The pairs of a shell max(m, n) = M share their table, [M + 1, 2 (degrees - M), 2b]; its rows and those of the products O
are ordered as `layout` says. On a GPU all pairs are one launch (`cuda.spherical_operators`), here two per shell.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from .tables import shell_starts


def contract(table: Tensor, source: Tensor, out: Tensor, degrees: int, orders: int, analyse: bool) -> None:
    """Multiply by the table, into `out`.

    Args:
        table: the shells one after the other, all 2b colatitudes.
        source: F [n, m, columns, 2b] (analysis), or O [rows, columns] (synthesis); float32 or float64.
        out: the other of the two.
        degrees: number of degrees.
        orders: number of orders |m|, |n|.
        analyse: which way.
    """
    order_space, products = (source, out) if analyse else (out, source)
    for group, product, shell in _groups(order_space, products, table, degrees, orders):
        if analyse:
            torch.bmm(shell, group.transpose(1, 2), out=product)
        else:
            torch.bmm(product.transpose(1, 2), shell, out=group)


def _groups(
    order_space: Tensor, products: Tensor, table: Tensor, degrees: int, orders: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield per group of pairs the views F [pairs, columns, 2b], O [pairs, rows, columns], table [pairs, rows, 2b]."""
    size, starts, start = order_space.shape[-1], shell_starts(degrees, orders), 0
    for M in range(orders):
        rows = 2 * (degrees - M)
        shell = table[starts[M] * size : starts[M + 1] * size].view(M + 1, rows, size)
        for group in (order_space[: M + 1, M], order_space[M, :M]):
            pairs = group.shape[0]
            if pairs:
                yield group, products[start : start + pairs * rows].view(pairs, rows, -1), shell[:pairs]
                start += pairs * rows
