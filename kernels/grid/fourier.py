"""The fourier backend: a regular convolution as products of blocks, one per irreducible representation of the group.

Same layer, same parameters, other arithmetic: equal to the other backends to rounding, not to the bit. `aligned` has
the formulas, `cuda.fourier_operators` the operators and their derivatives.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from ..cuda.fourier_operators import convolve
from .exact import exact_tables, in_autocast, wrapped
from .groups import GridGroup, IntArray
from .irreps import group_transform, inversion_order, packed

#: Buffers of a layer, in the order in which `fourier_operators.convolve` takes them.
TABLES = ("fourier_taps", "fourier_adjoint", "fourier_order", "fourier_basis", "fourier_right")


def fourier_tables(group: GridGroup, kernel_size: int) -> dict[str, IntArray]:
    """The tables of the backend: index tables as in `exact.exact_tables`, and the group's transform.

    Example:
        >>> from equiharness.kernels.grid.groups import grid_group
        >>> {name: table.shape for name, table in fourier_tables(grid_group("C4"), 3).items()}["fourier_right"]
        (6, 4)
    """
    exact = exact_tables(group, kernel_size, regular=True)
    tables = {"fourier_taps": exact["exact_taps"], "fourier_adjoint": exact["exact_adjoint"]}
    order: Any = inversion_order(group).astype(np.int32)
    return {**tables, "fourier_order": order, **packed(group_transform(group))}


def fourier_blocks(group: GridGroup) -> tuple[int, ...]:
    """Copies and size of every block of the group's transform, one after the other."""
    return tuple(number for block in group_transform(group).blocks for number in (block.copies, block.size))


def fourier_pays(group: GridGroup, in_channels: int, out_channels: int) -> bool:
    """Whether the backend can be the faster one: it has at most half the products of a dense convolution.

    Per voxel and tap Ci |G|^2 for the transform and Ci Co products of blocks stand against Ci Co |G|^2; the rest is
    room for its passes over memory.

    Example:
        >>> from equiharness.kernels.grid.groups import grid_group
        >>> fourier_pays(grid_group("O"), 16, 16), fourier_pays(grid_group("C4"), 1, 1)
        (True, False)
    """
    dense = in_channels * out_channels * group.order**2
    if dense < 2 * in_channels * group.order**2:
        return False  # before any transform is made
    products = group_transform(group).products
    return 2 * (in_channels * group.order**2 + in_channels * out_channels * products) <= dense


def fourier_convolution(
    x: Tensor,
    weight: Tensor,
    tables: Sequence[Tensor],
    blocks: Sequence[int],
    *,
    size: int,
    stride: int,
    padding: int,
    mode: str,
) -> Tensor:
    """[B, I, G, *N] and [O, I, G, T] to [B, O, G, *out]; G-equivariant, to rounding.

    Args:
        x: the input.
        weight: as of `GroupConv`, taps flattened.
        tables: of `fourier_tables`, as tensors on the device of x.
        blocks: of `fourier_blocks`.
        size: k.
        stride: s.
        padding: p.
        mode: "zeros" or "circular".
    """
    x, weight = in_autocast(x, weight)
    out = [(n + 2 * padding - size) // stride + 1 for n in x.shape[3:]]
    x, padding, wrap = wrapped(x, size, padding, mode)
    return convolve(x, weight, tables, blocks, out, stride, 1, padding, wrap, size)
