"""Methods to coarsen and refine a planar grid, for the table of their errors under rotations.

Every method keeps the centre of an odd box of N voxels: down to (N + 1) / 2, up to 2 N. Costs are multiply-adds (for a
maximum, comparisons) for each new voxel of one channel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Method:
    """A name, "down" or "up", a function of planes [B, C, N, N], and its multiply-adds for each new voxel."""

    name: str
    way: str
    function: Callable[[Tensor], Tensor]
    cost: float


def methods() -> Iterator[Method]:
    """Strided, maximum, average, Gaussians of several widths, binomial filters; nearest, linear and cubic."""
    import torch.nn.functional as F

    from ... import kernels

    yield Method("strided", "down", lambda x: x[..., ::2, ::2], 0)
    yield Method("maximum, 3", "down", lambda x: F.max_pool2d(x, 3, 2, 1), 9)
    yield Method("average, 3", "down", lambda x: F.avg_pool2d(x, 3, 2, 1), 9)
    for sigma in (0.33, 0.66, 1.0, 1.5):
        pool: Any = kernels.AntialiasedPool("C4", sigma=sigma)
        # Two passes; the first has twice as many output voxels as the second.
        yield Method(f"Gaussian, sigma {sigma}", "down", pool, 3 * (2 * pool.radius + 1))
    for order in (2, 4):
        yield Method(f"binomial, {order + 1}", "down", _binomial(order), 3 * (order + 1))
    for name, mode, cost in (("nearest", "nearest", 0), ("linear", "bilinear", 4), ("cubic", "bicubic", 16)):
        yield Method(name, "up", _interpolation(mode), cost)


def _binomial(order: int) -> Callable[[Tensor], Tensor]:
    """The filter (1 + shift)^order / 2^order on both axes, every second voxel."""
    import math

    import torch
    import torch.nn.functional as F

    taps = torch.tensor([math.comb(order, i) / 2**order for i in range(order + 1)], dtype=torch.float64)

    def pool(x: Tensor) -> Tensor:
        filters = taps.outer(taps).to(x).expand(x.shape[1], 1, -1, -1)
        return F.conv2d(x, filters, stride=2, padding=order // 2, groups=x.shape[1])

    return pool


def _interpolation(mode: str) -> Callable[[Tensor], Tensor]:
    import torch.nn.functional as F

    def finer(x: Tensor) -> Tensor:
        size = [2 * n for n in x.shape[-2:]]
        return F.interpolate(x, size=size, mode=mode, **({} if mode == "nearest" else {"align_corners": False}))

    return finer
