"""The kernels of ragged_mma.cu: ragged products on tensor cores, and which products can take them.

What a number of an operand becomes, and the error of a product a b that follows from it, |error| <= e |a b|:

    "3xtf32"   big + small, 11 bits each; three of the four products     e = 3 * 2^-22
    "tf32"     11 bits                                                   e = 2 * 2^-11
    "bf16"     8 bits                                                    e = 2 * 2^-8

up to terms of higher order. Sums are in float32 in all of them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from .sources import Kernel

#: Precisions of a float32 product; "float32" is ragged_gemm.cu, whose only error is rounding.
PRECISIONS = ("3xtf32", "float32", "tf32", "bf16")
_MODES = {"3xtf32": "ThreeTf32", "tf32": "OneTf32", "bf16": "OneBFloat"}


@dataclass(frozen=True)
class Tile:
    """Rows and columns of a block's tile, and its kernel."""

    rows: int
    columns: int
    kernel: Kernel


# Rows, columns and depth of a block, rows and columns of a warp, blocks per multiprocessor. A warp of the large tile
# reads 96 numbers per depth from shared memory for 64 x 32 products, one of the small tile 64 for 32 x 32.
_SIZES = {"128": (128, 64, 16, 64, 32, 3), "64": (64, 64, 16, 32, 32, 4)}
#: Whether neighbours in memory of A, and of B, are neighbours along the depth: all that the spectral products need.
_LAYOUTS = {(True, False): "kn", (True, True): "kk", (False, False): "mn"}


def _tile(precision: str, along_depth: tuple[bool, bool], size: str) -> Tile:
    bm, bn, bk, wm, wn, blocks = _SIZES[size]
    flags = ("true" if along else "false" for along in along_depth)
    parameters = (_MODES[precision], *map(str, (bm, bn, bk, wm, wn)), *flags, str(blocks))
    name = f"ragged_mma_{precision}_{_LAYOUTS[along_depth]}_{size}"
    return Tile(bm, bn, Kernel("ragged_mma.cu", "RAGGED_MMA", name, parameters, bm // wm * (bn // wn) * 32))


_TILES = {
    (precision, along_depth): tuple(_tile(precision, along_depth, size) for size in _SIZES)
    for precision in _MODES
    for along_depth in _LAYOUTS
}
#: Every kernel of ragged_mma.cu that a call may choose.
KERNELS = tuple(tile.kernel for tiles in _TILES.values() for tile in tiles)


def tiles(precision: str, a_along_depth: bool, b_along_depth: bool, groups: np.ndarray[Any, Any]) -> tuple[Tile, ...]:
    """The large and the small tile for these products; none where ragged_gemm.cu must compute them.

    Args:
        precision: one of `PRECISIONS`.
        a_along_depth: whether neighbours of A along the depth, rather than across it, are neighbours in memory.
        b_along_depth: the same of B.
        groups: the fields of `ragged.GROUP`.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision is one of {', '.join(map(repr, PRECISIONS))}; got {precision!r}")
    found = _TILES.get((precision, (a_along_depth, b_along_depth)), ())
    return found if found and _in_packs(a_along_depth, b_along_depth, groups) else ()


def _in_packs(a_along_depth: bool, b_along_depth: bool, groups: np.ndarray[Any, Any]) -> bool:
    """Whether four neighbours along the fast index of A, B and C are neighbours in memory, 16 bytes from a multiple."""
    fast = {
        "a": "depth" if a_along_depth else "row",
        "b": "depth" if b_along_depth else "column",
        "c": "column",
    }
    slow = {"a": "row" if a_along_depth else "depth", "b": "column" if b_along_depth else "depth", "c": "row"}

    def whole(numbers: Any) -> bool:
        return not np.any(np.asarray(numbers) % 4)

    return all(
        whole(groups[f"inner_{fast[name]}"])
        and whole(groups[name])
        and whole(groups[f"{name}_{slow[name]}"])
        and whole(groups[f"{name}_{fast[name]}"][:, 0])
        and bool(np.all(groups[f"{name}_{fast[name]}"][:, 1] == 1))
        for name in ("a", "b", "c")
    )
