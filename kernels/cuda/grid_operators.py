"""Torch operators on grid_exact.cu: the canonical group convolution and its weight gradient, differentiable.

    C(x, w)_o(X, g) = sum_{i,u,t} w_oi(u, t) x_i(sX + g t, g u)          grid_exact
    W(x, y)_oi(u, t) = sum_{g,b,X} y_o(X, g) x_i(sX + g t, g u)          grid_exact_weight

The two are derivatives of one trilinear form <y, C(x, w)>. Its third, the gradient of x, is C again:

    dx = C(dy, w~) with stride and dilation exchanged and padding k-1-p,    w~_io(v, t) = w_oi(v^-1, -v^-1 t),

so that derivatives of every order are made of the two. `adjoint` is the permutation of (u, t) in w~, its own inverse.
One fibre index u = 0 with fibre[g] = g stands for a product that leaves the group axis alone: then w~(t) = w(-t).

Importing this module registers the operators with torch, which keeps them for the life of the process.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..grid import canonical
from . import grid
from .grid import Geometry
from .launch import executor_for
from .registration import register

_TABLES = "Tensor elements, Tensor fibre, Tensor taps, Tensor adjoint"
_GEOMETRY = "SymInt[] out, SymInt stride, SymInt dilation, SymInt pad, SymInt[] wrap, int size"

_LIBRARY = torch.library.Library("equiharness", "FRAGMENT")
_LIBRARY.define(f"grid_exact(Tensor x, Tensor weight, {_TABLES}, {_GEOMETRY}) -> Tensor")
_LIBRARY.define(f"grid_exact_weight(Tensor x, Tensor y, {_TABLES}, {_GEOMETRY}) -> Tensor")


def _geometry(out: Sequence[int], stride: int, dilation: int, pad: int, wrap: Sequence[int]) -> Geometry:
    return Geometry(tuple(out), stride, dilation, pad, tuple(wrap))


def _forward(
    x: Tensor,
    weight: Tensor,
    elements: Tensor,
    fibre: Tensor,
    taps: Tensor,
    adjoint: Tensor,
    out: Sequence[int],
    stride: int,
    dilation: int,
    pad: int,
    wrap: Sequence[int],
    size: int,
) -> Tensor:
    geometry, executor = _geometry(out, stride, dilation, pad, wrap), executor_for(x)
    if executor is None:
        return canonical.forward(x, weight, elements, fibre, geometry, size)
    return grid.forward(executor, x, weight, fibre, taps, geometry)


def _weight(
    x: Tensor,
    y: Tensor,
    elements: Tensor,
    fibre: Tensor,
    taps: Tensor,
    adjoint: Tensor,
    out: Sequence[int],
    stride: int,
    dilation: int,
    pad: int,
    wrap: Sequence[int],
    size: int,
) -> Tensor:
    geometry, executor = _geometry(out, stride, dilation, pad, wrap), executor_for(x)
    if executor is None:
        return canonical.weight_gradient(x, y, elements, fibre, geometry, size)
    return grid.weight_gradient(executor, x, y, fibre, taps, geometry)


def _forward_fake(
    x: Tensor, weight: Tensor, elements: Tensor, fibre: Tensor, taps: Tensor, adjoint: Tensor, out: Any, *_: Any
) -> Tensor:
    return x.new_empty((x.shape[0], weight.shape[0], fibre.shape[0], *out))


def _weight_fake(
    x: Tensor, y: Tensor, elements: Tensor, fibre: Tensor, taps: Tensor, adjoint: Tensor, *_: Any
) -> Tensor:
    return x.new_empty((y.shape[1], x.shape[1], fibre.shape[1], taps.shape[1]))


def adjoint_weight(weight: Tensor, adjoint: Tensor) -> Tensor:
    """w~_io(v, t) = w_oi(v^-1, -v^-1 t), differentiable: [O, I, U, T] to [I, O, U, T]."""
    return weight.flatten(2).index_select(2, adjoint).transpose(0, 1).reshape(*weight.shape[1::-1], *weight.shape[2:])


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, other, *tables = inputs[:6]
    ctx.save_for_backward(x, other, *tables)
    ctx.geometry = inputs[6:]


def _exchanged(ctx: Any, x: Tensor) -> tuple[Any, ...]:
    """The geometry of the transposed product, whose output is x."""
    _, stride, dilation, pad, wrap, size = ctx.geometry
    return list(x.shape[3:]), dilation, stride, size - 1 - pad, wrap, size


def _forward_backward(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
    x, weight, *tables = ctx.saved_tensors
    dx = dw = None
    if ctx.needs_input_grad[0]:
        dx = convolve(dy, adjoint_weight(weight, tables[3]), tables, *_exchanged(ctx, x))
    if ctx.needs_input_grad[1]:
        dw = torch.ops.equiharness.grid_exact_weight(x, dy, *tables, *ctx.geometry)
    return dx, dw, *(None,) * 10


def _weight_backward(ctx: Any, dw: Tensor) -> tuple[Any, ...]:
    x, y, *tables = ctx.saved_tensors
    dx = dy = None
    if ctx.needs_input_grad[0]:
        dx = convolve(y, adjoint_weight(dw, tables[3]), tables, *_exchanged(ctx, x))
    if ctx.needs_input_grad[1]:
        dy = convolve(x, dw, tables, *ctx.geometry)
    return dx, dy, *(None,) * 10


register(_LIBRARY, "grid_exact", _forward, _forward_fake, _forward_backward, _save)
register(_LIBRARY, "grid_exact_weight", _weight, _weight_fake, _weight_backward, _save)


def convolve(
    x: Tensor,
    weight: Tensor,
    tables: Sequence[Tensor],
    out: Sequence[int],
    stride: int,
    dilation: int,
    pad: int,
    wrap: Sequence[int],
    size: int,
) -> Tensor:
    """The operator C of the module's description, differentiable to every order.

    Args:
        x: [B, I, H, *N], float16, bfloat16, float32 or float64.
        weight: [O, I, U, T], of the dtype of x.
        tables: elements int64 [G, d, d], fibre int32 [G, U], taps int32 [G, T, 3], adjoint int64 [U * T].
        out: sizes of the output.
        stride: between windows.
        dilation: zeros between the voxels of the input, plus one.
        pad: before the first voxel.
        wrap: period per axis, 0 for none.
        size: k, of T = k^d taps.

    Returns:
        [B, O, G, *out].
    """
    y: Tensor = torch.ops.equiharness.grid_exact(x, weight, *tables, out, stride, dilation, pad, wrap, size)
    return y
