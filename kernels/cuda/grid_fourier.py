"""Launching grid_fourier.cu: which kernel, which grid, which numbers.

The kernels know the blocks of O, and of O_h as O times the inversion, in float32 (and O in float64), padded with zeros
and without zeros between the voxels. Every other group, type and geometry is computed by torch, in the same way. The
choice depends on shapes and dtypes alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .grid import Geometry, shape_of
from .launch import Executor
from .sources import Kernel

#: Copies and sizes of the blocks of O; those of O_h are these twice, even ones first.
CUBE = (1, 1, 1, 1, 2, 2, 3, 3, 3, 3)
_ROWS = 24
_THREADS = 128


@dataclass(frozen=True)
class _Tile:
    """Voxels and outputs of a block and of a thread, channels of a step, blocks per multiprocessor."""

    bx: int
    bo: int
    tx: int
    to: int
    ic: int
    blocks: int

    def threads(self, halves: int) -> int:
        """Threads of a block."""
        return halves * (self.bx // self.tx) * (self.bo // self.to)


_SCALARS = {torch.float32: ("float", "f32"), torch.float64: ("double", "f64")}
#: By dtype and halves: as many sums to a thread as its registers hold.
_TILES = {
    (torch.float32, 1): _Tile(32, 16, 2, 2, 4, 2),
    (torch.float32, 2): _Tile(32, 16, 2, 2, 4, 1),
    (torch.float64, 1): _Tile(16, 16, 1, 2, 4, 2),
}


def _kernel(kind: str, dtype: torch.dtype, halves: int) -> Kernel:
    scalar, short = _SCALARS[dtype]
    name = f"grid_fourier_{kind.lower()}_{short}_{'o' if halves == 1 else 'oh'}"
    if kind == "SPECTRUM":
        spectrum = (scalar, scalar, str(halves), str(_THREADS))
        return Kernel("grid_fourier.cu", "GRID_FOURIER_SPECTRUM", name, spectrum, _THREADS)
    t = _TILES[dtype, halves]
    parameters = (scalar, scalar, *map(str, (halves, t.bx, t.bo, t.tx, t.to, t.ic, t.blocks)))
    return Kernel("grid_fourier.cu", "GRID_FOURIER_FORWARD", name, parameters, t.threads(halves))


#: Every kernel of grid_fourier.cu that a call may choose.
KERNELS = tuple(_kernel(kind, *tile) for kind in ("FORWARD", "SPECTRUM") for tile in _TILES)


def halves_of(blocks: Sequence[int], dtype: torch.dtype, geometry: Geometry) -> int:
    """1 for the blocks of O, 2 for those of O_h, 0 where no kernel takes the group, the dtype or the geometry."""
    halves = {CUBE: 1, CUBE + CUBE: 2}.get(tuple(blocks), 0)
    return halves if geometry.plain and (dtype, halves) in _TILES else 0


def half_basis(basis: Tensor, order: Tensor) -> Tensor:
    """The transform of a half, [24, 24]: the first rows, columns in the order of the elements."""
    return basis[:_ROWS].index_select(1, order[:_ROWS].long()).contiguous()


def forward(
    executor: Executor, x: Tensor, filters: Tensor, basis: Tensor, order: Tensor, taps: Tensor, geometry: Geometry
) -> Tensor:
    """The convolution.

    Args:
        executor: who runs the kernel.
        x: [B, I, G, *N], any strides, float32 or float64.
        filters: [T, halves, I, 24, O], rows (a, b) of every block.
        basis: [24, 24] of `half_basis`.
        order: int32 [G]: 24 elements, and for O_h their products with the inversion.
        taps: int32 [G, T, 3], index of g t.
        geometry: where the windows read.

    Returns:
        [B, O, G, *out], contiguous.
    """
    halves, channels = filters.shape[1], filters.shape[4]
    y = executor.empty(x, (x.shape[0], channels, len(order), *geometry.out))
    if y.numel():
        kernel, tile = _kernel("FORWARD", x.dtype, halves), _TILES[x.dtype, halves]
        shape = shape_of(x, (channels, x.shape[1]), order[:, None], taps, geometry)
        rows = int(shape["batch"]) * int(np.prod(shape["out"]))
        grid = (-(-rows // tile.bx), -(-channels // tile.bo), 1)
        executor.launch(kernel, grid, (x, filters.contiguous(), basis, order, taps, y, shape))
    return y


def spectrum(
    executor: Executor, x: Tensor, basis: Tensor, order: Tensor, taps: Tensor, q: int, geometry: Geometry
) -> Tensor:
    """The spectrum of F_q for one tap: [G, I, B * voxels]; arguments as in `forward`."""
    halves = len(order) // _ROWS
    out = executor.empty(x, (len(order), x.shape[1], x.shape[0] * int(np.prod(geometry.out))))
    if out.numel():
        kernel = _kernel("SPECTRUM", x.dtype, halves)
        shape = shape_of(x, (1, x.shape[1]), order[:, None], taps, geometry)
        grid = (-(-out.shape[2] // _THREADS), x.shape[1], halves)
        executor.launch(kernel, grid, (x, basis, order, taps, out, np.array(q, np.int64), shape))
    return out
