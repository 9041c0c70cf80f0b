"""The canonical group convolution in torch: what the CUDA kernels compute, for every device and dtype.

y_o(X, g) = sum_{i,u,t} w_oi(u, t) F_i(sX + g t, g u). Turn the input by each g^-1, F'_g(z, u) = F(g z, g u); then all
elements want the same convolution, with the filters as they are; turn the results back:

    y(g X, g) = sum_{i,u,t} w(u, t) F'_g(sX + t, u).

Elements are worked off one by one. What is computed for u g from a moved input is, bit for bit, what is computed for g
from the input itself: the same calls on the same numbers in the same places. Two calls alike give results alike, and
more than that is not asked of a library, so the outputs are equivariant to the last bit (`frames` puts several elements
into one call where that is seen to change nothing).

For each g one matrix product gives every tap's share of every voxel, P_t = w(t) F'_g, and the shares are added where
they belong, tap after tap: no window is ever copied, and a signal with zeros between its voxels costs no more than the
voxels that it has.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import gcd
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .frames import by_box, columns_alike, convolve_frames

if TYPE_CHECKING:
    from ..cuda.grid import Geometry

# Taps are multiplied in portions, so that their shares of one sample stay below this: 32 MiB, in the order of a cache.
_SHARE_BYTES = 2**25

Slices = tuple[Any, ...]


def forward(x: Tensor, weight: Tensor, elements: Tensor, fibre: Tensor, geometry: "Geometry", size: int) -> Tensor:
    """The convolution: [B, I, H, *N], [O, I, U, T] to [B, O, G, *out]; arguments as in `cuda.grid_operators`."""
    y = x.new_empty((x.shape[0], weight.shape[0], len(elements), *geometry.out))
    if not len(x):
        return y
    dtype = accumulator(x.dtype)
    signal, geometry = centred(x, geometry, size)
    if fibre.shape[1] == 1 and geometry.dilation == 1 and x.device.type == "cpu":
        return _own_channels(y, signal, weight, elements, fibre, geometry, size)
    plain = geometry.stride == geometry.dilation == size == 1 and geometry.pad == 0 and x.device.type == "cpu"
    if plain and columns_alike(len(x), weight[0].numel(), len(weight), signal[0, 0, 0].numel(), dtype):
        return _pointwise(y, signal, weight, fibre)
    taps = weight.permute(3, 0, 1, 2).flatten(2).to(dtype)  # [T, O, I U]
    turned, classes = Turned(signal, elements), functools.cache(_classes)
    for g, element in enumerate(elements):
        inputs = turned.select(g, fibre[g]).flatten(1, 2).to(dtype)
        total = inputs.new_zeros((len(x), weight.shape[0], *turn_box(geometry.out, element)))
        for reads, members in classes(inputs.shape[2:], total.shape[2:], geometry, size):
            source = inputs[reads].flatten(2)
            for portion in _portions(members, taps.shape[1] * source.shape[2] * dtype.itemsize):
                bank = taps[[t for t, *_ in portion]].flatten(0, 1)
                shares = torch.matmul(bank, source)
                shares = shares.view(len(x), len(portion), taps.shape[1], *inputs[reads].shape[2:])
                for share, (_, to, of) in zip(shares.unbind(1), portion, strict=True):
                    total[to].add_(share[of])
        y[:, :, g] = turn(total.to(y.dtype), element.T)
    return y


def _own_channels(
    y: Tensor, signal: Tensor, weight: Tensor, elements: Tensor, fibre: Tensor, geometry: "Geometry", size: int
) -> Tensor:
    """The convolution where every element reads one channel of a fibre: windows share too little for shares to pay."""
    turned, dtype, dim = Turned(signal, elements), accumulator(signal.dtype), len(geometry.out)
    filters = weight[:, :, 0].unflatten(2, (size,) * dim).to(dtype)
    # A gradient under more padding than the filter is wide leaves the edges out.
    edge = max(0, -geometry.pad)
    inner: Slices = (..., *(slice(edge, -edge or None) for _ in range(dim)))
    for members in by_box(elements, lambda element: turn_box(tuple(signal.shape[3:]), element)):
        frames = torch.stack([turned.select(g, fibre[g])[:, :, 0] for g in members]).to(dtype)
        results = convolve_frames(frames[inner], filters, geometry.stride, max(0, geometry.pad))
        for g, result in zip(members, results, strict=True):
            y[:, :, g] = turn(result, elements[g].T)
    return y


def _pointwise(y: Tensor, signal: Tensor, weight: Tensor, fibre: Tensor) -> Tensor:
    """The convolution with one tap, where voxels are columns of a matrix product: nothing has to be turned."""
    mix = weight.flatten(1).to(accumulator(y.dtype))
    columns = signal.flatten(3).to(mix.dtype)
    source = columns.new_empty((*columns.shape[:2], fibre.shape[1], columns.shape[3]))  # once: fresh memory is slow
    for g, channels in enumerate(fibre):
        torch.index_select(columns, 2, channels, out=source)
        y[:, :, g] = torch.matmul(mix, source.flatten(1, 2)).unflatten(2, y.shape[3:])
    return y


def weight_gradient(x: Tensor, y: Tensor, elements: Tensor, fibre: Tensor, geometry: "Geometry", size: int) -> Tensor:
    """dw_oi(u, t) = sum_{g,b,X} y_o(X, g) F_i(sX + g t, g u): [O, I, U, T]."""
    dim, fibres, dtype = x.dim() - 3, fibre.shape[1], accumulator(x.dtype)
    signal, geometry = centred(x, geometry, size)
    dw = torch.zeros((size**dim, y.shape[1], x.shape[1] * fibres), dtype=dtype, device=x.device)
    turned, classes = Turned(signal, elements), functools.cache(_classes)
    for g, element in enumerate(elements):
        inputs = turned.select(g, fibre[g]).flatten(1, 2).to(dtype)
        outputs = turn(y[:, :, g], element).to(dtype)
        for reads, members in classes(inputs.shape[2:], outputs.shape[2:], geometry, size):
            source = inputs[reads]
            for portion in _portions(members, outputs.shape[1] * source.shape[2:].numel() * dtype.itemsize):
                shares = outputs.new_zeros((len(portion), *outputs.shape[:2], *source.shape[2:]))
                for share, (_, to, of) in zip(shares, portion, strict=True):
                    share[of].copy_(outputs[to])
                at = [t for t, *_ in portion]
                by_tap = shares.transpose(0, 1).flatten(1, 2).flatten(2)  # [B, T O, N]
                dw[at] += (by_tap @ source.flatten(2).mT).sum(0).view(len(at), y.shape[1], source.shape[1])
    return dw.permute(1, 2, 0).reshape(y.shape[1], x.shape[1], fibres, size**dim).to(x.dtype).contiguous()


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """In what a sum is kept."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def centred(x: Tensor, geometry: "Geometry", size: int) -> tuple[Tensor, "Geometry"]:
    """A signal with the centre of its windows, which turns them into windows: itself, or what they cover of it."""
    span = [geometry.stride * (out - 1) + size - 2 * geometry.pad for out in geometry.out]
    if not any(geometry.wrap) and span == [geometry.dilation * (n - 1) + 1 for n in x.shape[3:]]:
        return x, geometry
    plain = type(geometry)(geometry.out, geometry.stride, 1, 0, (0,) * len(geometry.out))
    return cover(x, geometry, size), plain


def cover(x: Tensor, geometry: "Geometry", size: int) -> Tensor:
    """The voxels that the windows cover, and no more: stride (out - 1) + k per axis, centred on the outputs."""
    if geometry.dilation == 1 and not any(geometry.wrap):  # zeros on both sides, or edges left out
        ends = ((geometry.stride * (out - 1) + size - n) for out, n in zip(geometry.out, x.shape[3:], strict=True))
        return F.pad(x, [side for more in reversed(list(ends)) for side in (geometry.pad, more - geometry.pad)])
    for axis, (out, wrap) in enumerate(zip(geometry.out, geometry.wrap, strict=True), start=3):
        n = x.shape[axis]
        at = torch.arange(geometry.stride * (out - 1) + size, device=x.device) - geometry.pad
        if wrap:
            at = at.remainder(wrap)
        source = at.div(geometry.dilation, rounding_mode="floor")
        inside = (at == source * geometry.dilation) & (source >= 0) & (source < n)
        zero = x.new_zeros((*x.shape[:axis], 1, *x.shape[axis + 1 :]))
        x = torch.cat([x, zero], axis).index_select(axis, torch.where(inside, source, n))
    return x


@dataclass
class Turned:
    """The signal of every element in its own frame: F'_g(z, u) = F(g z, g u).

    Args:
        signal: [B, C, H, *N].
        elements: int64 [G, d, d].
    """

    signal: Tensor
    elements: Tensor

    def __post_init__(self) -> None:
        # A signal that was spread over the group is the same in every channel of its fibre: one serves.
        self._spread = self.signal.shape[2] > 1 and self.signal.stride(2) == 0
        if self._spread:
            self.signal = self.signal[:, :, :1]
        self._flips: dict[tuple[int, ...], Tensor] = {}

    def select(self, g: int, fibre: Tensor) -> Tensor:
        """The channels ``fibre`` of axis 2, turned by the inverse of element g: [B, C, U, *N']."""
        element = self.elements[g]
        flipped = _flipped_axes(element, 3)
        if flipped not in self._flips:  # at most 2^d copies serve all elements
            self._flips[flipped] = self.signal.flip(flipped) if flipped else self.signal
        turned = self._flips[flipped].permute(_order(element, 3))
        return turned.expand(-1, -1, len(fibre), *turned.shape[3:]) if self._spread else turned.index_select(2, fibre)


def turn(x: Tensor, element: Tensor) -> Tensor:
    """x(M z) about the centre of the trailing axes: (M z)_i = s_i z_p(i), so axis i becomes axis p(i)."""
    lead = x.dim() - len(element)
    return x.flip(_flipped_axes(element, lead)).permute(_order(element, lead))


def turn_box(box: tuple[int, ...], element: Tensor) -> tuple[int, ...]:
    """The shape of a box that `turn` has turned."""
    target = element.abs().argmax(1).tolist()
    return tuple(box[target.index(a)] for a in range(len(box)))


def _flipped_axes(element: Tensor, lead: int) -> tuple[int, ...]:
    return tuple(lead + i for i, sign in enumerate(element.sum(1).tolist()) if sign < 0)


def _order(element: Tensor, lead: int) -> list[int]:
    target = element.abs().argmax(1).tolist()
    return [*range(lead), *(lead + target.index(a) for a in range(len(target)))]


def _classes(
    box: tuple[int, ...], out: tuple[int, ...], geometry: "Geometry", size: int
) -> list[tuple[Slices, list[tuple[int, Slices, Slices]]]]:
    """Taps by the voxels that they read: every stride-th from a first one.

    Returns:
        The voxels of a class, as slices of a tensor [B, C, *box]; and for each of its taps the index, the outputs it
        adds to, and the voxels of the class whose shares these are.
    """
    common = gcd(geometry.stride, geometry.dilation)
    meetings = [[_meeting(n, m, c, geometry) for c in range(size)] for n, m in zip(box, out, strict=True)]
    step, between = geometry.stride // common, geometry.dilation // common
    classes: dict[tuple[int, ...], list[tuple[int, Slices, Slices]]] = {}
    for t, index in enumerate(product(range(size), repeat=len(box))):
        axes = [meeting[c] for meeting, c in zip(meetings, index, strict=True)]
        if all(count > 0 for *_, count in axes):
            first = tuple(z % step for _, z, _ in axes)
            to = [_progression(x, between, count) for x, _, count in axes]
            of = [_progression(z // step, 1, count) for _, z, count in axes]
            classes.setdefault(first, []).append((t, (..., *to), (..., *of)))
    return [((..., *(slice(z, None, step) for z in first)), members) for first, members in classes.items()]


def _meeting(n: int, out: int, c: int, geometry: "Geometry") -> tuple[int, int, int]:
    """Where tap c meets an axis of n voxels: the first output, its voxel, and how many such pairs there are.

    Pairs (X, z) have stride X + c - pad = dilation z.
    """
    stride, dilation, shift = geometry.stride, geometry.dilation, c - geometry.pad
    pairs = [(x, (stride * x + shift) // dilation) for x in range(out) if (stride * x + shift) % dilation == 0]
    inside = [(x, z) for x, z in pairs if 0 <= z < n]
    return (*inside[0], len(inside)) if inside else (0, 0, 0)


def _progression(first: int, step: int, count: int) -> slice:
    return slice(first, first + step * (count - 1) + 1, step)


def _portions(members: list[Any], bytes_each: int) -> Iterator[list[Any]]:
    most = max(1, _SHARE_BYTES // max(1, bytes_each))
    for start in range(0, len(members), most):
        yield members[start : start + most]
