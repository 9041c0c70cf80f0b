"""Torch operators that make the spectrum of a kernel on SO(3) from its weights, and the adjoint; see `kernelmap`.

    ring_product    per ring of points, sums[order pair] = sum_p waves[p, order pair] weights[p]     (ragged_gemm.cu)
    weighted_rows   spectrum[row] = sum_t factor[t] sums[term t]                                     (rows.cu)

Both are linear, and each is given its own transpose: derivatives of every order are made of the two.

Importing this module registers the operators with torch, which keeps them for the life of the process.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..spherical.linear import sum_rows
from . import rows
from .launch import executor_for
from .ragged import Table, table

_LIBRARY = torch.library.Library("equiharness", "FRAGMENT")
_LIBRARY.define("ring_product(Tensor waves, Tensor given, int[] counts, bool transposed) -> Tensor")
_LIBRARY.define(
    "weighted_rows(Tensor table, Tensor terms, Tensor weights, Tensor? offsets, Tensor back_terms, "
    "Tensor back_weights, Tensor? back_offsets) -> Tensor"
)


@lru_cache(maxsize=64)
def _ring_table(
    counts: tuple[int, ...], pairs: int, columns: int, transposed: bool, dtype: torch.dtype, device: str
) -> Table:
    """One group per ring: pairs x points by points x columns, or transposed."""
    points = np.asarray(counts)
    first, ring = np.cumsum(points) - points, np.arange(len(counts))
    sums = ring * pairs * columns, (0, columns), (0, 1)
    weights = first * columns, (0, columns), (0, 1)
    wave, pair = (0, pairs), (0, 1)  # along the points, along the pairs of orders
    if transposed:
        return table((1, points), (1, columns), (1, pairs), (first * pairs, wave, pair), sums, weights, dtype, device)
    return table((1, pairs), (1, columns), (1, points), (first * pairs, pair, wave), weights, sums, dtype, device)


def _ring_product(waves: Tensor, given: Tensor, counts: Sequence[int], transposed: bool) -> Tensor:
    shape = _ring_shape(waves, given, counts, transposed)
    executor = executor_for(given)
    if executor is None:
        parts = zip(torch.split(waves, list(counts)), _split(given, waves, counts, transposed), strict=True)
        return torch.cat([torch.mm(wave if transposed else wave.t(), part) for wave, part in parts])
    result = executor.empty(given, shape)
    if result.numel():
        products = _ring_table(tuple(counts), waves.shape[1], shape[1], transposed, given.dtype, str(given.device))
        products.launch(executor, waves, given.contiguous(), result)
    return result


def _split(given: Tensor, waves: Tensor, counts: Sequence[int], transposed: bool) -> Sequence[Tensor]:
    return torch.split(given, [waves.shape[1]] * len(counts) if transposed else list(counts))


def _ring_shape(waves: Tensor, given: Tensor, counts: Sequence[int], transposed: bool) -> tuple[Any, Any]:
    return (waves.shape[0] if transposed else len(counts) * waves.shape[1]), given.shape[1]


def _ring_fake(waves: Tensor, given: Tensor, counts: Sequence[int], transposed: bool) -> Tensor:
    return given.new_empty(_ring_shape(waves, given, counts, transposed))


def _ring_save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    waves, _, ctx.counts, ctx.transposed = inputs
    ctx.save_for_backward(waves)


def _ring_backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
    (waves,) = ctx.saved_tensors
    return None, torch.ops.equiharness.ring_product(waves, gradient, ctx.counts, not ctx.transposed), None, None


def _rows(table: Tensor, terms: Tensor, weights: Tensor, offsets: Tensor | None, *_: Any) -> Tensor:
    executor = executor_for(table)
    if executor is None:
        return sum_rows(table.contiguous(), terms, weights, offsets)
    return rows.weighted_rows(executor, table.contiguous(), terms, weights, offsets)


def _rows_fake(table: Tensor, terms: Tensor, weights: Tensor, offsets: Tensor | None, *_: Any) -> Tensor:
    return table.new_empty(len(terms if offsets is None else offsets), table.shape[1])


def _rows_save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[1:])


def _rows_backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
    there, back = ctx.saved_tensors[:3], ctx.saved_tensors[3:]
    return torch.ops.equiharness.weighted_rows(gradient, *back, *there), *(None,) * 6


for _key in ("CPU", "CUDA"):
    _LIBRARY.impl("ring_product", _ring_product, _key)
    _LIBRARY.impl("weighted_rows", _rows, _key)
torch.library.register_fake("equiharness::ring_product", _ring_fake, lib=_LIBRARY)
torch.library.register_fake("equiharness::weighted_rows", _rows_fake, lib=_LIBRARY)
torch.library.register_autograd("equiharness::ring_product", _ring_backward, setup_context=_ring_save, lib=_LIBRARY)
torch.library.register_autograd("equiharness::weighted_rows", _rows_backward, setup_context=_rows_save, lib=_LIBRARY)


def ring_product(waves: Tensor, given: Tensor, counts: Sequence[int], transposed: bool = False) -> Tensor:
    """Multiply the weights of each ring of points by its waves: a step of a map that commutes with SO(3).

    Args:
        waves: products of cosines and sines at the points, ring after ring, [points, pairs of orders].
        given: weights [points, N], or transposed: sums [rings * pairs, N].
        counts: points of each ring.
        transposed: which of the two.

    Returns:
        The other of the two.
    """
    result: Tensor = torch.ops.equiharness.ring_product(waves, given, list(counts), transposed)
    return result


def weighted_rows(
    table: Tensor, there: tuple[Tensor, Tensor, Tensor | None], back: tuple[Tensor, Tensor, Tensor | None]
) -> Tensor:
    """Return sum_t weights[t] table[terms[t]] per row, differentiable by the table to every order.

    Args:
        table: [any, N].
        there: terms, weights and offsets, as in `rows.weighted_rows`.
        back: those of the transpose.

    Returns:
        [rows, N].
    """
    result: Tensor = torch.ops.equiharness.weighted_rows(table, *there, *back)
    return result
