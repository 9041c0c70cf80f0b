"""Linear maps with their exact derivatives of every order, and the memory primitives that they are made of."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn.functional import embedding_bag

Map = Callable[[Tensor], Tensor]


class _Linear(torch.autograd.Function):
    """A linear map given with its transpose: the derivative of each is the other, to every order."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, function: Map, transpose: Map) -> Tensor:
        ctx.maps = (transpose, function)  # type: ignore[attr-defined]  # a context takes any attribute
        with torch.autocast(x.device.type, enabled=False):
            return function(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return linear(gradient, *ctx.maps), None, None


def linear(x: Tensor, function: Map, transpose: Map) -> Tensor:
    """Return function(x), differentiable any number of times; function must be linear and transpose its transpose."""
    result: Tensor = _Linear.apply(x, function, transpose)  # type: ignore[no-untyped-call]  # torch leaves apply untyped
    return result


def sum_rows(table: Tensor, terms: Tensor, weights: Tensor, offsets: Tensor | None = None) -> Tensor:
    """Return sum_k weights[:, k] table[terms[:, k]]: gathered, weighted and summed in one pass over memory.

    With offsets the terms are flat, and row r sums those from offsets[r] to offsets[r + 1].
    """
    if not table.shape[1]:  # an empty batch, which embedding_bag refuses
        return table.new_empty(len(terms if offsets is None else offsets), 0)
    return embedding_bag(terms, table, offsets, mode="sum", per_sample_weights=weights)


def empty(like: Tensor, *shape: int) -> Tensor:
    """Return uninitialised memory; on the CPU from numpy, which asks for huge pages: first touch costs a third."""
    if like.device.type != "cpu":
        return like.new_empty(shape)
    return torch.from_numpy(np.empty(shape, np.float32 if like.dtype == torch.float32 else np.float64))
