"""Torch operators of the regular group convolution in aligned Fourier coordinates, differentiable to every order.

    C(x, w)_o(X, g) = sum_{i,h,t} w_oi(g^-1 h, g^-1 t) x_i(sX + t, h)      grid_fourier
    W(x, y)_oi(u, t) = sum_{g,b,X} y_o(X, g) x_i(sX + g t, g u)            grid_fourier_weight

They compute what grid_exact and grid_exact_weight compute for a filter with a group axis, with fewer products and to
rounding only (`grid.aligned` has the formulas). Both are derivatives of one trilinear form; its third is C again, as
in `grid_operators`. On a GPU the kernels of grid_fourier.cu gather, transform and multiply; the gradient of the weight
takes its spectra from them, and its products from torch. Importing this module registers the operators with torch.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..grid import aligned
from ..grid.aligned import Transform
from ..grid.canonical import accumulator
from . import grid_fourier
from .grid import Geometry
from .grid_operators import adjoint_weight
from .launch import executor_for
from .registration import register

_TABLES = "Tensor taps, Tensor adjoint, Tensor order, Tensor basis, Tensor right"
_GEOMETRY = "int[] blocks, SymInt[] out, SymInt stride, SymInt dilation, SymInt pad, SymInt[] wrap, int size"

_LIBRARY = torch.library.Library("equiharness", "FRAGMENT")
_LIBRARY.define(f"grid_fourier(Tensor x, Tensor weight, {_TABLES}, {_GEOMETRY}) -> Tensor")
_LIBRARY.define(f"grid_fourier_weight(Tensor x, Tensor y, {_TABLES}, {_GEOMETRY}) -> Tensor")


def _forward(x: Tensor, weight: Tensor, *more: Any) -> Tensor:
    taps, _, order, basis, right, blocks, *where, size = more
    transform = Transform.of(basis, right, blocks, accumulator(x.dtype))
    geometry, executor = _geometry(*where), executor_for(x)
    halves = grid_fourier.halves_of(blocks, transform.basis.dtype, geometry)
    if executor is None or not halves:
        return aligned.forward(x, weight, taps, transform, geometry, size)
    index = aligned.aligned_index(taps, size, len(geometry.out))
    filters = aligned.filter_rows(weight.to(transform.basis.dtype), index, transform, halves)
    half = grid_fourier.half_basis(transform.basis, order)
    signal = x.to(transform.basis.dtype)  # 16 bits are widened: their sums are kept in float32
    return grid_fourier.forward(executor, signal, filters, half, order, taps, geometry).to(x.dtype)


def _weight(x: Tensor, y: Tensor, *more: Any) -> Tensor:
    taps, _, order, basis, right, blocks, *where, size = more
    transform = Transform.of(basis, right, blocks, accumulator(x.dtype))
    geometry, executor = _geometry(*where), executor_for(x)
    halves = grid_fourier.halves_of(blocks, transform.basis.dtype, geometry)
    if executor is None or not halves or not y.numel():
        return aligned.weight_gradient(x, y, taps, transform, geometry, size)
    index, dtype = aligned.aligned_index(taps, size, len(geometry.out)), transform.basis.dtype
    half, o, i = grid_fourier.half_basis(transform.basis, order), y.shape[1], x.shape[1]
    here = Geometry(geometry.out, 1, 1, 0, (0,) * len(geometry.out))  # outputs are read where they are
    outputs = grid_fourier.spectrum(executor, y.to(dtype), half, order, torch.zeros_like(taps[:, :1]), 0, here)
    signal, mixed = x.to(dtype), []
    # One tap after the other: a spectrum of the input is as large as the input, and there are k^d of them.
    for q in range(taps.shape[1]):
        inputs = grid_fourier.spectrum(executor, signal, half, order, taps, q, geometry)
        mixed.append(aligned.block_products(outputs, inputs, transform))
    stacked = [torch.stack(parts) for parts in zip(*mixed, strict=True)]
    return aligned.filter_gradient(stacked, index, transform, o, i).to(x.dtype).contiguous()


def _geometry(out: Sequence[int], stride: int, dilation: int, pad: int, wrap: Sequence[int]) -> Geometry:
    return Geometry(tuple(out), stride, dilation, pad, tuple(wrap))


def _forward_fake(x: Tensor, weight: Tensor, *rest: Any) -> Tensor:
    return x.new_empty((x.shape[0], weight.shape[0], x.shape[2], *rest[6]))


def _weight_fake(x: Tensor, y: Tensor, taps: Tensor, *_: Any) -> Tensor:
    return x.new_empty((y.shape[1], *x.shape[1:3], taps.shape[1]))


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:7])
    ctx.geometry = inputs[7:]


def _exchanged(ctx: Any, x: Tensor) -> tuple[Any, ...]:
    """The geometry of the transposed product, whose output is x."""
    blocks, _, stride, dilation, pad, wrap, size = ctx.geometry
    return blocks, list(x.shape[3:]), dilation, stride, size - 1 - pad, wrap, size


def _forward_backward(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
    x, weight, *tables = ctx.saved_tensors
    dx = dw = None
    if ctx.needs_input_grad[0]:
        dx = convolve(dy, adjoint_weight(weight, tables[1]), tables, *_exchanged(ctx, x))
    if ctx.needs_input_grad[1]:
        dw = torch.ops.equiharness.grid_fourier_weight(x, dy, *tables, *ctx.geometry)
    return dx, dw, *(None,) * 12


def _weight_backward(ctx: Any, dw: Tensor) -> tuple[Any, ...]:
    x, y, *tables = ctx.saved_tensors
    dx = dy = None
    if ctx.needs_input_grad[0]:
        dx = convolve(y, adjoint_weight(dw, tables[1]), tables, *_exchanged(ctx, x))
    if ctx.needs_input_grad[1]:
        dy = convolve(x, dw, tables, *ctx.geometry)
    return dx, dy, *(None,) * 12


register(_LIBRARY, "grid_fourier", _forward, _forward_fake, _forward_backward, _save)
register(_LIBRARY, "grid_fourier_weight", _weight, _weight_fake, _weight_backward, _save)


def convolve(
    x: Tensor,
    weight: Tensor,
    tables: Sequence[Tensor],
    blocks: Sequence[int],
    out: Sequence[int],
    stride: int,
    dilation: int,
    pad: int,
    wrap: Sequence[int],
    size: int,
) -> Tensor:
    """The operator C of the module's description, differentiable to every order.

    Args:
        x: [B, I, G, *N], float16, bfloat16, float32 or float64.
        weight: [O, I, G, T], of the dtype of x.
        tables: taps int32 [G, T, 3], adjoint int64 [G * T], order int32 [G] of `grid.irreps.inversion_order`, basis and
            right of `grid.irreps.packed`.
        blocks: copies and size of every block, one after the other.
        out: sizes of the output.
        stride: between windows.
        dilation: zeros between the voxels of the input, plus one.
        pad: before the first voxel.
        wrap: period per axis, 0 for none.
        size: k, of T = k^d taps.

    Returns:
        [B, O, G, *out].
    """
    args = (list(blocks), list(out), stride, dilation, pad, list(wrap), size)
    y: Tensor = torch.ops.equiharness.grid_fourier(x, weight, *tables, *args)
    return y
