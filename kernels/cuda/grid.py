"""Launching grid_exact.cu: which kernel, which grid, which numbers.

    forward    y_o(X, g) = sum_{i,u,t} w_oi(u, t) F_i(sX + g t, g u)
    weight     dw_oi(u, t) = sum_{g,b,X} dy_o(X, g) F_i(sX + g t, g u)

The choice of a kernel depends on shapes and dtypes, never on the device or on free memory, so that the same call gives
the same bits everywhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .launch import Executor
from .sources import Kernel

# The fields of GridShape in grid_exact.cu, in its order.
SHAPE = np.dtype(
    [
        *((name, np.int64) for name in ("batch", "in_channels", "out_channels", "order", "fibre", "taps")),
        *((name, np.int64, 3) for name in ("out", "in")),
        *((name, np.int64) for name in ("x_batch", "x_channel", "x_fibre")),
        ("x_space", np.int64, 3),
        *((name, np.int64) for name in ("stride", "dilation")),
        *((name, np.int64, 3) for name in ("pad", "wrap")),
        *((name, np.int64) for name in ("slices", "tiles_per_slice")),
    ]
)


@dataclass(frozen=True)
class Geometry:
    """Where a window reads: output X, tap index c look at (stride X + c - pad) / dilation, on every axis.

    Coordinates outside the input, or no multiple of the dilation, hold zero. With a period the coordinate is wrapped
    before it is divided.

    Args:
        out: sizes of the output.
        stride: between windows.
        dilation: zeros between the voxels of the input, plus one.
        pad: before the first voxel.
        wrap: period per axis, 0 for none.
    """

    out: tuple[int, ...]
    stride: int
    dilation: int
    pad: int
    wrap: tuple[int, ...]

    @property
    def plain(self) -> bool:
        """Whether window and tap add up to an address."""
        return self.dilation == 1 and not any(self.wrap)


@dataclass(frozen=True)
class _Shape:
    """A tile: rows, columns and depth of a block, rows and columns of a thread, and blocks per multiprocessor.

    The last bounds the registers of a thread by 65536 / (threads * blocks); it is as large as compiling without
    spilling allows (tests/kernels/cuda/budget.toml).
    """

    bm: int
    bn: int
    bk: int
    tm: int
    tn: int
    blocks: int

    def kernel(self, kind: str, name: str, scalar: str, accumulator: str, plain: bool) -> Kernel:
        sizes = (self.bm, self.bn, self.bk, self.tm, self.tn, self.blocks)
        parameters = (scalar, accumulator, *map(str, sizes), "true" if plain else "false")
        return Kernel("grid_exact.cu", f"GRID_EXACT_{kind}", name, parameters, self.bm // self.tm * self.bn // self.tn)


_NAMES = {torch.float32: "f32", torch.float64: "f64", torch.float16: "f16", torch.bfloat16: "bf16"}
_SCALARS = {torch.float32: "float", torch.float64: "double", torch.float16: "Half", torch.bfloat16: "BFloat16"}
#: In what a sum is kept.
ACCUMULATOR = {dtype: torch.float64 if dtype == torch.float64 else torch.float32 for dtype in _NAMES}

# Forward tiles have many rows: rows are voxels, of which there are many, columns are output channels, of which there
# are few. One tile per width of the output; of the other types, and of wrapped or dilated inputs, one for all widths.
_FORWARD = {16: _Shape(256, 16, 8, 8, 4, 4), 32: _Shape(128, 32, 8, 8, 4, 4), 64: _Shape(128, 64, 8, 8, 8, 3)}
_WEIGHT = {16: _Shape(128, 16, 16, 4, 4, 4), 32: _Shape(64, 32, 16, 4, 4, 4), 64: _Shape(64, 64, 16, 8, 4, 3)}
_FORWARD_F64, _WEIGHT_F64 = _Shape(128, 32, 8, 8, 4, 2), _Shape(64, 32, 16, 4, 4, 2)
_WEIGHT_16BIT = _Shape(64, 32, 16, 4, 4, 3)
_SUM_THREADS = 256


def _tile(dtype: torch.dtype, kind: str, channels: int, plain: bool) -> tuple[str, _Shape, bool]:
    """Name, tile and whether the kernel is the plain one, for a call with so many output channels."""
    forward = kind == "FORWARD"
    name = f"grid_exact_{kind.lower()}_{_NAMES[dtype]}"
    if dtype == torch.float64:
        return name, _FORWARD_F64 if forward else _WEIGHT_F64, False
    if dtype != torch.float32:
        return name, _FORWARD[32] if forward else _WEIGHT_16BIT, False
    if not plain:
        return f"{name}_any", (_FORWARD if forward else _WEIGHT)[32], False
    width = next((n for n in (16, 32) if channels <= n), 64)
    return f"{name}_n{width}", (_FORWARD if forward else _WEIGHT)[width], True


def _kernel(dtype: torch.dtype, kind: str, channels: int, plain: bool) -> tuple[Kernel, _Shape]:
    name, shape, plain = _tile(dtype, kind, channels, plain)
    accumulator = _SCALARS[ACCUMULATOR[dtype]]
    return shape.kernel(kind, name, _SCALARS[dtype], accumulator, plain), shape


def _sum_kernel(dtype: torch.dtype) -> Kernel:
    parameters = (_SCALARS[dtype], _SCALARS[ACCUMULATOR[dtype]], str(_SUM_THREADS))
    return Kernel("grid_exact.cu", "GRID_EXACT_SUM", f"grid_exact_sum_{_NAMES[dtype]}", parameters, _SUM_THREADS)


def _all_kernels() -> tuple[Kernel, ...]:
    calls = [(dtype, kind, width, plain) for dtype in _NAMES for kind in ("FORWARD", "WEIGHT")
             for width in (16, 32, 64) for plain in (True, False)]  # fmt: skip
    chosen = dict.fromkeys(_kernel(*call)[0] for call in calls)
    return (*chosen, *(_sum_kernel(dtype) for dtype in _NAMES))


#: Every kernel of grid_exact.cu that a call may choose.
KERNELS = _all_kernels()

# Slices of the weight gradient: enough blocks to fill a GPU (an H100 has 132 multiprocessors; 4 blocks each, twice),
# each with at least 16 steps to work on, and no more than 64 MiB of partial sums.
_BLOCKS, _LEAST_STEPS, _PARTIAL_BYTES = 1056, 16, 64 * 2**20
_GRID_Y, _GRID_Z, _COORDINATES = 65535, 65535, 2**30


def forward(executor: Executor, x: Tensor, weight: Tensor, fibre: Tensor, taps: Tensor, geometry: Geometry) -> Tensor:
    """The forward product.

    Args:
        executor: who runs the kernel.
        x: [B, I, H, *N], any strides.
        weight: [O, I, U, T].
        fibre: int32 [G, U], index of g u on the fibre axis of x.
        taps: int32 [G, T, 3], index of g t; the first of three axes is 0 on the plane.
        geometry: where the windows read.

    Returns:
        [B, O, G, *out], contiguous, of the dtype of x.
    """
    y = executor.empty(x, (x.shape[0], weight.shape[0], fibre.shape[0], *geometry.out))
    if y.numel():
        kernel, tile = _kernel(x.dtype, "FORWARD", weight.shape[0], geometry.plain)
        shape = shape_of(x, weight.shape, fibre, taps, geometry)
        rows = int(shape["batch"]) * int(np.prod(shape["out"]))
        grid = (-(-rows // tile.bm) * fibre.shape[0], -(-weight.shape[0] // tile.bn), 1)
        executor.launch(kernel, grid, (x, weight.contiguous(), fibre, taps, y, shape))
    return y


def weight_gradient(
    executor: Executor, x: Tensor, dy: Tensor, fibre: Tensor, taps: Tensor, geometry: Geometry
) -> Tensor:
    """The gradient of the weight.

    Args:
        executor: who runs the kernels.
        x: [B, I, H, *N], any strides.
        dy: [B, O, G, *out].
        fibre: int32 [G, U], as in `forward`.
        taps: int32 [G, T, 3], as in `forward`.
        geometry: as in `forward`.

    Returns:
        [O, I, U, T], of the dtype of x.
    """
    order, fibres, count = *fibre.shape, taps.shape[1]
    size = (dy.shape[1], x.shape[1], fibres, count)
    if not dy.numel():
        return x.new_zeros(size)
    kernel, tile = _kernel(x.dtype, "WEIGHT", dy.shape[1], geometry.plain)
    depth = x.shape[1] * fibres * count
    steps = order * x.shape[0] * -(-int(np.prod(geometry.out)) // tile.bk)
    tiles = -(-depth // tile.bm) * -(-dy.shape[1] // tile.bn)
    accumulator = ACCUMULATOR[x.dtype]
    most = _PARTIAL_BYTES // (dy.shape[1] * depth * accumulator.itemsize)
    slices = max(1, min(-(-_BLOCKS // tiles), steps // _LEAST_STEPS, most, _GRID_Z))
    per_slice = -(-steps // slices)
    slices = -(-steps // per_slice)
    shape = shape_of(x, size, fibre, taps, geometry, slices, per_slice)
    partial = executor.empty(x, (slices, *size), accumulator)
    grid = (-(-depth // tile.bm), -(-dy.shape[1] // tile.bn), slices)
    executor.launch(kernel, grid, (x, dy.contiguous(), fibre, taps, partial, shape))
    dw = executor.empty(x, size)
    executor.launch(_sum_kernel(x.dtype), (-(-dw.numel() // _SUM_THREADS), 1, 1), (partial, dw, shape))
    return dw


def shape_of(
    x: Tensor,
    weight: Sequence[int],
    fibre: Tensor,
    taps: Tensor,
    geometry: Geometry,
    slices: int = 1,
    per_slice: int = 0,
) -> np.ndarray[Any, Any]:
    """GridShape; a plane gets a first axis of length 1."""
    missing = 6 - x.dim()
    sizes, strides = (1,) * missing + tuple(x.shape[3:]), (0,) * missing + x.stride()[3:]
    out = (1,) * missing + geometry.out
    if max(*sizes, *out) >= _COORDINATES or np.prod(out) >= 2**31 or weight[0] > 16 * _GRID_Y:
        raise ValueError(
            f"the CUDA kernel takes boxes of fewer than 2^30 voxels a side and 2^31 in all, and fewer than "
            f"{16 * _GRID_Y} output channels; got input {sizes}, output {out}, {weight[0]} channels. Use backend='fast'"
        )
    shape = np.zeros((), SHAPE)
    shape["batch"], shape["in_channels"], shape["out_channels"] = x.shape[0], x.shape[1], weight[0]
    shape["order"], shape["fibre"], shape["taps"] = *fibre.shape, taps.shape[1]
    shape["out"], shape["in"], shape["x_space"] = out, sizes, strides
    shape["x_batch"], shape["x_channel"], shape["x_fibre"] = x.stride()[:3]
    shape["stride"], shape["dilation"] = geometry.stride, geometry.dilation
    shape["pad"] = (0,) * missing + (geometry.pad,) * (3 - missing)
    shape["wrap"] = (0,) * missing + geometry.wrap
    shape["slices"], shape["tiles_per_slice"] = slices, per_slice
    return shape
