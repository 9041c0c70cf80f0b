"""Launching wigner.cu: the beta step of the transforms on SO(3) and S2, from the octant of the table that is stored."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .launch import Executor
from .sources import Kernel

# The fields of WignerShape in wigner.cu, in its order.
SHAPE = np.dtype(
    [
        (name, np.int64)
        for name in ("b", "degrees", "orders", "items", "channels", "batch_stride", "row_stride", "weighted", "scaled")
    ]
)
# Threads of a block; items, and degrees or colatitudes, that it works on (ITEMS, SPAN in wigner.cu).
_THREADS, _ITEMS, _SPAN = 256, 16, 32
_TYPES = {torch.float32: ("f32", "float"), torch.float64: ("f64", "double")}
_STAGES = tuple((kind, way) for kind in ("wigner", "legendre") for way in ("analyse", "synthesise"))
# Blocks per multiprocessor: as many as compile without spilling (tests/kernels/cuda/budget.toml).
_BLOCKS = {torch.float32: 2, torch.float64: 1}


def _kernel(kind: str, way: str, dtype: torch.dtype) -> Kernel:
    name, scalar = _TYPES[dtype]
    stage = f"{kind}_{way}"
    return Kernel("wigner.cu", "WIGNER", f"{stage}_{name}", (stage, scalar, str(_BLOCKS[dtype])), _THREADS)


#: Every kernel of wigner.cu that a call may choose.
KERNELS = tuple(_kernel(kind, way, dtype) for kind, way in _STAGES for dtype in _TYPES)


def beta_step(
    executor: Executor, table: Tensor, weights: Tensor, space: Tensor, spectrum: Tensor, degrees: int, *,
    analyse: bool, quadrature: bool
) -> None:  # fmt: skip
    """Multiply by the table, from space to the spectrum (analyse) or back, into the other of the two.

    Args:
        executor: who runs the kernel.
        table: P+- of the pairs m >= n >= 0 (`tables.soft_table`), or sqrt 2 d^l_m0 of the orders m with l = m, m + 1,
            .., at the b northern colatitudes; one after the other.
        weights: quadrature weights of the northern colatitudes, [b].
        space: [orders, orders, 4 items, 2b] on SO(3), [orders, 2 items, 2b] on S2, contiguous; items of (batch,
            channel).
        spectrum: [batch, rows, channels], real form, channels contiguous; any other strides.
        degrees: number of degrees.
        analyse: which way.
        quadrature: times the weights; without, times 2 l + 1.
    """
    on_sphere, orders = space.dim() == 3, space.shape[0]
    batch, _, channels = spectrum.shape
    items, b = batch * channels, space.shape[-1] // 2
    if not items:
        return
    if channels > 1 and spectrum.stride(2) != 1:
        raise ValueError("the channels of a spectrum are its innermost axis: pass a contiguous one, or slices of it")
    shape: np.ndarray[Any, Any] = np.zeros((), SHAPE)
    for name, value in (
        ("b", b), ("degrees", degrees), ("orders", orders), ("items", items), ("channels", channels),
        ("batch_stride", spectrum.stride(0)), ("row_stride", spectrum.stride(1)), ("weighted", quadrature),
        ("scaled", not quadrature),
    ):  # fmt: skip
        shape[name] = value
    kernel = _kernel("legendre" if on_sphere else "wigner", "analyse" if analyse else "synthesise", space.dtype)
    pairs = orders if on_sphere else orders * (orders + 1) // 2
    grid = (pairs * -(-items // _ITEMS), -(-(degrees if analyse else b) // _SPAN), 1)
    given = (space, spectrum) if analyse else (spectrum, space)
    executor.launch(kernel, grid, (table, weights, *given, shape))
