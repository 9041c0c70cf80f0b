"""The operator on grid_separable.cu: mix, turned depthwise step, norm with known statistics and ReLU in one pass.

For inference: the operator has no derivative. Where one is wanted the layer computes the steps one after the other,
through operators that have derivatives (`grid.fused`): a backward pass needs z and v, which the kernel never stores.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .grid import ACCUMULATOR, Geometry, shape_of
from .launch import Argument, Executor, executor_for
from .sources import Kernel

# The fields of SeparableShape in grid_separable.cu, in its order.
SHAPE = np.dtype(
    [
        *((name, np.int64, 3) for name in ("tile", "box", "tiles", "size")),
        *((name, np.int64) for name in ("biased", "scaled", "rectified")),
    ]
)
_NAMES = {torch.float32: "f32", torch.float64: "f64", torch.float16: "f16", torch.bfloat16: "bf16"}
_SCALARS = {torch.float32: "float", torch.float64: "double", torch.float16: "Half", torch.bfloat16: "BFloat16"}
# Voxels and rows of a block, depth of a step, both of a thread, blocks per multiprocessor.
_SINGLE, _DOUBLE = (256, 32, 8, 8, 8, 3), (128, 32, 8, 4, 8, 2)


def _kernel(dtype: torch.dtype) -> Kernel:
    sizes = _DOUBLE if dtype == torch.float64 else _SINGLE
    bm, bn, _, tm, tn, _ = sizes
    parameters = (_SCALARS[dtype], _SCALARS[ACCUMULATOR[dtype]], *map(str, sizes))
    return Kernel("grid_separable.cu", "GRID_SEPARABLE", f"grid_separable_{_NAMES[dtype]}", parameters,
                  bm // tm * bn // tn)  # fmt: skip


#: Every kernel of grid_separable.cu that a call may choose.
KERNELS = tuple(map(_kernel, _NAMES))

_LIBRARY = torch.library.Library("equiharness", "FRAGMENT")
_LIBRARY.define(
    "grid_separable(Tensor x, Tensor a, Tensor s, Tensor quotients, Tensor moved, Tensor? bias, Tensor? scale, "
    "Tensor? shift, bool relu, SymInt[] out, SymInt stride, SymInt pad, SymInt[] wrap, int size) -> Tensor"
)


@lru_cache(maxsize=1024)
def tile_of(out: tuple[int, ...], stride: int, size: int, most: int) -> tuple[int, ...] | None:
    """The outputs of a block: as few voxels as possible mixed for each of them, in a box of at most ``most``.

    None where not even one output's window fits.

    Example:
        >>> tile_of((64, 64), 1, 3, 256), tile_of((32, 32, 32), 1, 3, 256), tile_of((9, 9, 9), 1, 7, 256)
        ((11, 16), (4, 4, 4), None)
    """
    longest = [min(n, max(0, (most - size) // stride + 1)) for n in out]
    best, cost = None, float("inf")
    for tile in product(*(range(1, n + 1) for n in longest)):
        voxels = prod(stride * (n - 1) + size for n in tile)
        # Voxels that a launch mixes: outputs beyond the end are mixed in vain.
        mixed = voxels * prod(-(-n // t) for n, t in zip(out, tile, strict=True))
        if voxels <= most and mixed < cost:
            best, cost = tile, mixed
    return best


def takes(dtype: torch.dtype, out: Sequence[int], stride: int, size: int) -> bool:
    """Whether the kernel takes a call of these shapes."""
    most = (_DOUBLE if dtype == torch.float64 else _SINGLE)[0]
    return dtype in _NAMES and tile_of(tuple(out), stride, size, most) is not None


def _launch(
    executor: Executor,
    x: Tensor,
    a: Tensor,
    s: Tensor,
    quotients: Tensor,
    moved: Tensor,
    bias: Tensor | None,
    scale: Tensor | None,
    shift: Tensor | None,
    relu: bool,
    out: Sequence[int],
    stride: int,
    pad: int,
    wrap: Sequence[int],
    size: int,
) -> Tensor:
    order, channels = len(quotients), len(a)
    y = executor.empty(x, (x.shape[0], channels, order, *out))
    if not y.numel():
        return y
    kernel = _kernel(x.dtype)
    sizes = _DOUBLE if x.dtype == torch.float64 else _SINGLE
    tile = tile_of(tuple(out), stride, size, sizes[0])
    if tile is None:
        raise ValueError(f"a window of {size}^{len(out)} voxels does not fit the kernel; use backend='fast'")
    geometry = Geometry(tuple(out), stride, 1, pad, tuple(wrap))
    shape = shape_of(x, (channels, x.shape[1]), quotients[:, :1], moved, geometry)
    parts, missing = np.zeros((), SHAPE), (1,) * (3 - len(out))
    counts = tuple(-(-n // t) for n, t in zip(out, tile, strict=True))
    parts["tile"], parts["tiles"] = missing + tile, missing + counts
    parts["box"] = missing + tuple(stride * (n - 1) + size for n in tile)
    parts["size"] = missing + (size,) * len(out)
    parts["biased"], parts["scaled"], parts["rectified"] = bias is not None, scale is not None, relu
    nothing = x.new_empty(1)  # in the place of what is not asked for, and never read
    vectors = [nothing if v is None else v.to(x.dtype).contiguous() for v in (bias, scale, shift)]
    grid = (x.shape[0] * prod(counts), -(-channels * order // sizes[1]), 1)
    arguments: tuple[Argument, ...] = (x, a.contiguous(), s.contiguous(), quotients, moved, *vectors, y, shape, parts)
    executor.launch(kernel, grid, arguments)
    return y


def _fused(x: Tensor, *arguments: Any) -> Tensor:
    executor = executor_for(x)
    if executor is None:
        raise RuntimeError("no kernel runs on this device; the layer computes its steps one after the other there")
    return _launch(executor, x, *arguments)


def _fake(x: Tensor, a: Tensor, s: Tensor, quotients: Tensor, *rest: Any) -> Tensor:
    return x.new_empty((x.shape[0], a.shape[0], quotients.shape[0], *rest[5]))


for _key in ("CPU", "CUDA"):
    _LIBRARY.impl("grid_separable", _fused, _key)
torch.library.register_fake("equiharness::grid_separable", _fake, lib=_LIBRARY)
