"""The exact backend: layers in canonical order, equivariant to the last bit.

y(X, g) = sum_{i,u,t} w_oi(u, t) F_i(sX + g t, g u): all outputs of an orbit sum the same numbers in the same order, and
so do all entries of the gradient of the input, which is the same product with other weights (`cuda.grid_operators`).
A signal without a group axis is spread over the group; its gradient is a sum over an orbit, whose terms come in another
order for every element: they are sorted before they are added.

On a GPU the products are the kernels of `cuda`. Elsewhere they are torch's convolutions over |G| B turned samples
(`canonical`), equivariant to the last bit as far as torch treats equal samples equally; it makes no promise.

Gradients of weights and biases are sums over orbits too: equivariance does not concern them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..cuda.grid_operators import convolve
from .expansion import tap_table
from .groups import GridGroup, IntArray

#: Buffers of a layer, in the order in which `grid_operators.convolve` takes them.
TABLES = ("elements", "exact_fibre", "exact_taps", "exact_adjoint")


def exact_tables(group: GridGroup, kernel_size: int, regular: bool) -> dict[str, IntArray]:
    """The index tables of the canonical order.

    Args:
        group: G.
        kernel_size: k.
        regular: whether the filter has a group axis u; otherwise each element reads its own channel alone.

    Returns:
        "elements" [G, d, d]; "exact_fibre" int32 [G, U], index of g u; "exact_taps" int32 [G, T, 3], the array index of
        g t, 0 on the first of three axes for d = 2; "exact_adjoint" [U * T], index of (v^-1, -v^-1 t).

    Example:
        >>> from equiharness.kernels.grid.groups import grid_group
        >>> tables = exact_tables(grid_group("C2"), 3, regular=True)
        >>> tables["exact_fibre"].tolist(), tables["exact_adjoint"][:3].tolist()
        ([[0, 1], [1, 0]], [8, 7, 6])
    """
    inverse_taps = tap_table(group, kernel_size)  # index of g^-1 t
    count = inverse_taps.shape[1]
    moved = np.stack(np.unravel_index(inverse_taps[group.inv], (kernel_size,) * group.dim), -1)
    taps = np.concatenate([np.zeros((*moved.shape[:2], 3 - group.dim), np.int64), moved], -1)
    opposite = count - 1 - np.arange(count)  # index of -t
    if regular:
        fibre = group.mul
        adjoint = (group.inv[:, None] * count + opposite[inverse_taps]).reshape(-1)
    else:
        fibre, adjoint = np.arange(group.order)[:, None], opposite
    small: dict[str, Any] = {"exact_fibre": fibre.astype(np.int32), "exact_taps": taps.astype(np.int32)}
    return {"elements": group.elements, **small, "exact_adjoint": adjoint}


def exact_convolution(
    x: Tensor, weight: Tensor, tables: Sequence[Tensor], *, size: int, stride: int, padding: int, mode: str
) -> Tensor:
    """[B, I, G, *N] and [O, I, U, T] to [B, O, G, *out]; G-equivariant, exactly, to the last bit.

    Args:
        x: the input.
        weight: U = |G|, or 1 where each element reads its own channel.
        tables: of `exact_tables`, as tensors on the device of x.
        size: k.
        stride: s.
        padding: p.
        mode: "zeros" or "circular".
    """
    if torch.is_autocast_enabled(x.device.type) and x.dtype != torch.float64:
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight = x.to(dtype), weight.to(dtype)
    box = x.shape[3:]
    out = [(n + 2 * padding - size) // stride + 1 for n in box]
    wrap = [0] * len(box)
    if mode == "circular" and 2 * padding < size:
        wrap = list(box)
    elif mode == "circular":
        # More windows than voxels: some outputs repeat, and a voxel's gradient has several terms per tap.
        x = F.pad(x.flatten(1, 2), (padding,) * (2 * len(box)), mode="circular").unflatten(1, x.shape[1:3])
        padding = 0
    return convolve(x, weight, tables, out, stride, 1, padding, wrap, size)


class _Spread(torch.autograd.Function):
    """x(h) = x for every h, on a new axis 2, without a copy; the adjoint is `_OrbitSum`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, order: int) -> Tensor:
        ctx.order = order
        return x.unsqueeze(2).expand(-1, -1, order, *x.shape[2:])

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None]:
        result: Tensor = _OrbitSum.apply(grads[0], ctx.order)  # type: ignore[no-untyped-call]
        return result, None


class _OrbitSum(torch.autograd.Function):
    """The sum over axis 2 in an order that the values give, not their places; the adjoint is `_Spread`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, order: int) -> Tensor:
        ctx.order = order
        terms = x.sort(dim=2).values
        terms = terms.float() if terms.dtype in (torch.float16, torch.bfloat16) else terms
        total = terms[:, :, 0]
        for h in range(1, order):
            total = total + terms[:, :, h]
        return total.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None]:
        return spread(grads[0], ctx.order), None


def spread(x: Tensor, order: int) -> Tensor:
    """[B, C, *N] to [B, C, G, *N], the same for every element; its gradient is equivariant to the last bit.

    Example:
        >>> x = torch.tensor([[[1.0, 2.0]]], requires_grad=True)
        >>> y = spread(x, 4)
        >>> y.sum().backward()
        >>> y.shape, x.grad.tolist()
        (torch.Size([1, 1, 4, 2]), [[[4.0, 4.0]]])
    """
    result: Tensor = _Spread.apply(x, order)  # type: ignore[no-untyped-call]
    return result
