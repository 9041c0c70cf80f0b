"""Launching rows.cu: weighted sums of rows of a table."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .launch import Executor
from .sources import Kernel

# The fields of RowsShape in rows.cu, in its order.
SHAPE = np.dtype([(name, np.int64) for name in ("rows", "columns", "width", "terms")])
# ROWS_WARPS and 32 ROWS_COLUMNS of rows.cu.
_ROWS, _COLUMNS = 8, 128
_KERNELS = {
    dtype: Kernel("rows.cu", "WEIGHTED_ROWS", f"weighted_rows_{name}", (scalar,), 32 * _ROWS)
    for dtype, name, scalar in ((torch.float32, "f32", "float"), (torch.float64, "f64", "double"))
}
#: Every kernel of rows.cu.
KERNELS = tuple(_KERNELS.values())


def weighted_rows(
    executor: Executor, table: Tensor, terms: Tensor, weights: Tensor, offsets: Tensor | None
) -> Tensor:  # fmt: skip
    """out[r] = sum_k weights[r, k] table[terms[r, k]]; with offsets the terms are flat, those of r from offsets[r] on.

    Args:
        executor: who runs the kernel.
        table: [any, N], contiguous, float32 or float64.
        terms: int64, [rows, K], or flat.
        weights: like terms, of the dtype of the table.
        offsets: int64 [rows], or None.

    Returns:
        [rows, N].
    """
    rows = len(terms if offsets is None else offsets)
    out = executor.empty(table, (rows, table.shape[1]))
    if out.numel():
        shape: np.ndarray[Any, Any] = np.zeros((), SHAPE)
        shape["rows"], shape["columns"] = rows, table.shape[1]
        shape["width"], shape["terms"] = terms.shape[1] if offsets is None else 0, terms.numel()
        grid = (-(-rows // _ROWS), -(-table.shape[1] // _COLUMNS), 1)
        given = terms if offsets is None else offsets  # a pointer that nobody follows needs a tensor all the same
        executor.launch(_KERNELS[table.dtype], grid, (table, terms, weights, given, out, shape))
    return out
