"""Launching ragged_gemm.cu and ragged_mma.cu: many matrix products of different sizes, one table, one launch.

A table is made from shapes alone, kept on the device and used again for every call of the same shapes; making it copies
a few kilobytes to the device, so the first call of a shape must not be inside the capture of a CUDA graph.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from . import ragged_mma
from .launch import Executor
from .ragged_mma import Tile
from .sources import Kernel

#: An index of a product: how many pairs (outer, inner), and how many inner ones each outer has.
Index: TypeAlias = "tuple[Any, Any]"
#: An operand: where it starts, and its strides (outer, inner) along its first and its second index.
Operand: TypeAlias = "tuple[Any, tuple[Any, Any], tuple[Any, Any]]"

# The fields of RaggedGroup in ragged_gemm.cu, in its order.
GROUP = np.dtype(
    [
        *((name, np.int64) for name in ("first_tile", "rows", "columns", "depth")),
        *((name, np.int64) for name in ("inner_row", "inner_column", "inner_depth")),
        ("a", np.int64), ("a_row", np.int64, 2), ("a_depth", np.int64, 2),
        ("b", np.int64), ("b_depth", np.int64, 2), ("b_column", np.int64, 2),
        ("c", np.int64), ("c_row", np.int64, 2), ("c_column", np.int64, 2),
    ]
)  # fmt: skip
# The fields of RaggedShape.
SHAPE = np.dtype([("groups", np.int64), ("a_along_depth", np.int64), ("b_along_depth", np.int64)])


def _tile(name: str, accumulator: str, bm: int, bn: int, bk: int, tm: int, tn: int, blocks: int) -> Tile:
    parameters = (accumulator, *map(str, (bm, bn, bk, tm, tn, blocks)))
    return Tile(bm, bn, Kernel("ragged_gemm.cu", "RAGGED_GEMM", name, parameters, bm // tm * bn // tn))


_SMALL = _tile("ragged_gemm_f32_64", "float", 64, 64, 8, 8, 4, 4)
_LARGE = _tile("ragged_gemm_f32_128", "float", 128, 128, 8, 8, 8, 2)
_DOUBLE = _tile("ragged_gemm_f64", "double", 64, 64, 8, 4, 4, 2)
#: Every kernel of ragged_gemm.cu and of ragged_mma.cu that a call may choose.
KERNELS = (_SMALL.kernel, _LARGE.kernel, _DOUBLE.kernel, *ragged_mma.KERNELS)

# The large tile moves half the bytes per product through shared memory, and pays if it wastes little at the edges and
# if every multiprocessor of a large GPU (132) gets a block.
_WASTE, _FILLS = 1.25, 132
_MOST_TILES = 2**31 - 1


@dataclass(frozen=True, eq=False)
class Table:
    """Products that one launch computes.

    Args:
        kernel: which kernel.
        tiles: blocks of the launch.
        groups: the table, [groups, 22] int64, on the device of the operands.
        shape: RaggedShape.
    """

    kernel: Kernel
    tiles: int
    groups: Tensor
    shape: np.ndarray[Any, Any]

    def launch(self, executor: Executor, a: Tensor, b: Tensor, c: Tensor) -> None:
        """Compute C_g = A_g B_g for every group; a, b and c are contiguous and of the table's dtype."""
        if self.tiles:
            if self.kernel in ragged_mma.KERNELS:  # they read packs of 16 bytes; torch's allocator aligns to more
                a, b = (t if t.data_ptr() % 16 == 0 else t.clone() for t in (a, b))
            executor.launch(self.kernel, (self.tiles, 1, 1), (self.groups, a, b, c, self.shape))


def table(
    row: Index,
    column: Index,
    depth: Index,
    a: Operand,
    b: Operand,
    c: Operand,
    dtype: torch.dtype,
    device: str,
    precision: str = "float32",
) -> Table:
    """The table of products C_g[row, column] = sum_depth A_g[row, depth] B_g[depth, column].

    Args:
        row: (outer, inner) sizes; every number here is an integer or an array [groups].
        column: likewise.
        depth: likewise.
        a: start, strides along row, strides along depth; in elements.
        b: start, strides along depth, strides along column.
        c: start, strides along row, strides along column.
        dtype: float32 or float64.
        device: where the operands are.
        precision: one of `ragged_mma.PRECISIONS`, for float32; products whose neighbours do not come in fours are
            computed in float32 in any case.

    Example:
        >>> plain = table((1, 2), (1, 3), (1, 4), (0, (0, 4), (0, 1)), (0, (0, 3), (0, 1)), (0, (0, 3), (0, 1)),
        ...               torch.float32, "cpu")
        >>> plain.tiles, plain.groups.shape
        (1, torch.Size([1, 22]))
    """
    single: Mapping[str, Any] = {
        "rows": row[0] * row[1], "columns": column[0] * column[1], "depth": depth[0] * depth[1],
        "inner_row": row[1], "inner_column": column[1], "inner_depth": depth[1],
        "a": a[0], "b": b[0], "c": c[0],
    }  # fmt: skip
    paired: Mapping[str, Any] = {
        "a_row": _pair(a[1]), "a_depth": _pair(a[2]), "b_depth": _pair(b[1]), "b_column": _pair(b[2]),
        "c_row": _pair(c[1]), "c_column": _pair(c[2]),
    }  # fmt: skip
    count = max(*(np.size(number) for number in single.values()), *(np.size(pair) // 2 for pair in paired.values()))
    groups = np.zeros(count, GROUP)
    for name, numbers in {**single, **paired}.items():
        groups[name] = numbers
    if max(int(groups[name].max()) for name in ("rows", "columns", "depth")) >= 2**31:
        raise ValueError("a product has fewer than 2^31 rows, columns and terms; use a smaller batch")
    along = _unit(a[2], a[1]), _unit(b[1], b[2])
    tile = _choose(groups, dtype, ragged_mma.tiles(precision, *along, groups))
    ends = np.cumsum(_tiles(groups, tile))
    groups["first_tile"] = np.concatenate([[0], ends[:-1]])
    if ends[-1] > _MOST_TILES:
        raise ValueError(f"{ends[-1]} tiles are more than a launch has ({_MOST_TILES}); use a smaller batch")
    shape = np.zeros((), SHAPE)
    shape["groups"] = count
    shape["a_along_depth"], shape["b_along_depth"] = along
    on_device = torch.from_numpy(groups.view(np.int64).reshape(count, -1)).to(device)
    return Table(tile.kernel, int(ends[-1]), on_device, shape)


def _pair(strides: tuple[Any, Any]) -> Any:
    """Strides (outer, inner) as the last axis of one array."""
    return np.stack(np.broadcast_arrays(*strides), -1)


def _unit(along: tuple[Any, Any], across: tuple[Any, Any]) -> bool:
    """Whether neighbours along an index, rather than across it, are neighbours in memory."""
    return bool(np.max(along[1]) <= np.max(across[1]))


def _tiles(groups: np.ndarray[Any, Any], tile: Tile) -> Any:
    """Tiles of each group."""
    return -(-groups["rows"] // tile.rows) * -(-groups["columns"] // tile.columns)


def _choose(groups: np.ndarray[Any, Any], dtype: torch.dtype, on_tensor_cores: tuple[Tile, ...]) -> Tile:
    if dtype == torch.float64:
        return _DOUBLE
    large, small = on_tensor_cores or (_LARGE, _SMALL)
    work = {
        tile: float((_tiles(groups, tile) * groups["depth"]).sum()) * tile.rows * tile.columns
        for tile in (large, small)
    }
    fills = _tiles(groups, large).sum() >= _FILLS
    return large if fills and work[large] <= _WASTE * work[small] else small
