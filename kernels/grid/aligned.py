"""The regular convolution in aligned Fourier coordinates, in torch: fewer products, for every device and dtype.

With u = g^-1 h and g^-1 t = u q the filter's tap moves with the element that reads it:

    y(X, g) = sum_{h,t} w(g^-1 t, g^-1 h) F(sX + t, h) = sum_q sum_h Psi_q(g^-1 h) F_q(X, h),
    Psi_q(u) = w(u q, u),    F_q(X, h) = F(sX + h q, h),    q over the taps.

For every q that is a correlation over the group, hence block diagonal in its Fourier basis (`irreps`): transform F_q,
multiply by blocks, add over q, transform back. The gradient of the weight has the same blocks.

Voxels are worked off in portions that stay in a cache, since every tap passes over all of them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .canonical import accumulator, cover

if TYPE_CHECKING:
    from ..cuda.grid import Geometry

# A portion's signals; copies of them, spectra and sums are as large each. Smaller portions cost calls, larger ones
# memory: from 4 to 32 MiB the time of O and O_h at 16 fields is level (benchmarks/fourier_backend.py).
_PORTION_BYTES = 2**23


@dataclass(frozen=True)
class Transform:
    """A group's transform as tensors of one dtype, on one device.

    Args:
        basis: [G, G].
        right: per block [size * size, G].
        blocks: per block (copies, size).
    """

    basis: Tensor
    right: tuple[Tensor, ...]
    blocks: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, basis: Tensor, right: Tensor, blocks: Sequence[int], dtype: torch.dtype) -> "Transform":
        """From the packed tables of `irreps.packed` and (copies, size, copies, size, ..)."""
        pairs = tuple(zip(blocks[::2], blocks[1::2], strict=True))
        parts = right.view(torch.float64).to(dtype).split([size * size for _, size in pairs])
        return cls(basis.view(torch.float64).to(dtype), parts, pairs)

    def rows(self) -> list[slice]:
        """Rows of the basis that belong to each block."""
        ends = [0]
        for copies, size in self.blocks:
            ends.append(ends[-1] + copies * size)
        return [slice(a, b) for a, b in pairwise(ends)]


def aligned_index(taps: Tensor, size: int, dim: int) -> Tensor:
    """Flat index of g q, [G, T], from the coordinates [G, T, 3]."""
    flat = taps[..., 2 - dim + 1].long()
    for axis in range(2 - dim + 2, 3):
        flat = flat * size + taps[..., axis]
    return flat


def filters(weight: Tensor, index: Tensor, transform: Transform) -> list[Tensor]:
    """Per block M_q = sum_u Psi_q(u) right(u), as [T, size * O, size * I]."""
    o, i, u, t = weight.shape
    psi = weight.gather(3, index.expand(o, i, u, t)).permute(3, 0, 1, 2).reshape(-1, u)
    found = []
    for (_, size), right in zip(transform.blocks, transform.right, strict=True):
        mixed = (psi @ right.T).view(t, o, i, size, size)
        found.append(mixed.permute(0, 3, 1, 4, 2).reshape(t, size * o, size * i))
    return found


def filter_rows(weight: Tensor, index: Tensor, transform: Transform, halves: int) -> Tensor:
    """The same for the CUDA kernels: [T, halves, I, G / halves, O], rows (a, b) of every block after each other."""
    o, i, u, t = weight.shape
    psi = weight.gather(3, index.expand(o, i, u, t)).permute(3, 0, 1, 2).reshape(-1, u)
    rows = (psi @ torch.cat(transform.right).T).view(t, o, i, halves, -1)
    return rows.permute(0, 3, 2, 4, 1).contiguous()


def filter_gradient(mixed: Sequence[Tensor], index: Tensor, transform: Transform, o: int, i: int) -> Tensor:
    """The adjoint of `filters`: [O, I, U, T]."""
    t, u = index.shape[1], index.shape[0]
    psi = transform.basis.new_zeros((t * o * i, u))
    for (_, size), right, m in zip(transform.blocks, transform.right, mixed, strict=True):
        psi += m.view(t, size, o, size, i).permute(0, 2, 4, 1, 3).reshape(t * o * i, size * size) @ right
    # w(u q, u) = Psi_q(u): each row of the index is a permutation of the taps, undone here.
    return psi.view(t, o, i, u).permute(1, 2, 3, 0).gather(3, index.argsort(1).expand(o, i, u, t))


def forward(x: Tensor, weight: Tensor, taps: Tensor, transform: Transform, geometry: "Geometry", size: int) -> Tensor:
    """The convolution: [B, I, G, *N], [O, I, G, T] to [B, O, G, *out]; arguments as in `cuda.fourier_operators`."""
    dtype, order, o = accumulator(x.dtype), x.shape[2], weight.shape[0]
    y = x.new_empty((x.shape[0], o, order, *geometry.out))
    index = aligned_index(taps, size, len(geometry.out))
    blocks, offsets = filters(weight.to(dtype), index, transform), taps[..., 3 - len(geometry.out) :].tolist()
    wide = cover(x, geometry, size).to(dtype).permute(2, 1, 0, *range(3, x.dim())).contiguous()
    for samples, slab in _portions(y, wide.shape[1]):
        part = y[samples, :, :, slab]
        sums = wide.new_zeros((order, o, part[:, 0, 0].numel()))
        for q in range(index.shape[1]):
            spectrum = _transformed(wide, [at[q] for at in offsets], samples, slab, geometry, transform)
            for block, rows, (copies, k) in zip(blocks, transform.rows(), transform.blocks, strict=True):
                left = block[q].expand(copies, -1, -1)
                sums[rows].view(copies, k * o, -1).baddbmm_(left, spectrum[rows].view(copies, left.shape[2], -1))
        values = (transform.basis.T @ sums.flatten(1)).view(order, o, part.shape[0], *part.shape[3:])
        part.copy_(values.permute(2, 1, 0, *range(3, x.dim())))
    return y


def weight_gradient(
    x: Tensor, y: Tensor, taps: Tensor, transform: Transform, geometry: "Geometry", size: int
) -> Tensor:
    """dw_oi(u, t) = sum_{g,b,X} y_o(X, g) F_i(sX + g t, g u): [O, I, G, T]."""
    dtype, i, o = accumulator(x.dtype), x.shape[1], y.shape[1]
    index = aligned_index(taps, size, len(geometry.out))
    offsets = taps[..., 3 - len(geometry.out) :].tolist()
    mixed = [transform.basis.new_zeros((index.shape[1], k * o, k * i)) for _, k in transform.blocks]
    wide = cover(x, geometry, size).to(dtype).permute(2, 1, 0, *range(3, x.dim())).contiguous()
    for samples, slab in _portions(y, i):
        outputs = y[samples, :, :, slab].to(dtype).permute(2, 1, 0, *range(3, x.dim()))
        outputs = (transform.basis @ outputs.flatten(1)).view(x.shape[2], o, -1)
        for q in range(index.shape[1]):
            spectrum = _transformed(wide, [at[q] for at in offsets], samples, slab, geometry, transform)
            for m, product in zip(mixed, block_products(outputs, spectrum, transform), strict=True):
                m[q] += product
    return filter_gradient(mixed, index, transform, o, i).to(x.dtype).contiguous()


def block_products(outputs: Tensor, inputs: Tensor, transform: Transform) -> list[Tensor]:
    """Per block sum_{c,n} outputs[(c, a), o, n] inputs[(c, b), i, n] as [a O, b I], of spectra [G, O or I, n]."""
    found = []
    for rows, (copies, k) in zip(transform.rows(), transform.blocks, strict=True):
        left = outputs[rows].view(copies, k * outputs.shape[1], -1)
        found.append(torch.matmul(left, inputs[rows].view(copies, k * inputs.shape[1], -1).mT).sum(0))
    return found


def _transformed(
    wide: Tensor,
    offsets: Sequence[Sequence[int]],
    samples: slice,
    slab: slice,
    geometry: "Geometry",
    transform: Transform,
) -> Tensor:
    """The spectrum of F_q(X, h) = F(sX + h q, h) of some samples and rows of voxels: [G, I, n]."""
    first = [slab.start, *(0 for _ in geometry.out[1:])]
    count = [slab.stop - slab.start, *geometry.out[1:]]
    s, views = geometry.stride, []
    for signal, offset in zip(wide, offsets, strict=True):
        axes = (slice(s * x + at, s * (x + n - 1) + at + 1, s) for x, n, at in zip(first, count, offset, strict=True))
        views.append(signal[(slice(None), samples, *axes)])
    aligned = torch.stack(views)
    return (transform.basis @ aligned.flatten(1)).view(*aligned.shape[:2], -1)


def _portions(y: Tensor, channels: int) -> Iterator[tuple[slice, slice]]:
    """Samples and rows of voxels whose signals fill a cache, for outputs [B, O, G, *out]."""
    voxels = y[0, 0, 0].numel() if len(y) else 0
    if not voxels:
        return
    most = max(1, _PORTION_BYTES // (4 * y.shape[2] * max(channels, y.shape[1])))
    rows = y.shape[3] if voxels <= most else max(1, most * y.shape[3] // voxels)
    batch = max(1, most // voxels)
    for b in range(0, len(y), batch):
        for start in range(0, y.shape[3], rows):
            yield slice(b, min(b + batch, len(y))), slice(start, min(start + rows, y.shape[3]))
