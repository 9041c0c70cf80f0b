"""The depthwise step in canonical order: every channel and every element convolves its own signal, tap by tap.

    D(x, s)_c(X, g) = sum_t s_c(t) x_c(aX + g t, g)          one filter for each channel, turned by each element
    W(x, y)_c(t)    = sum_{b,g,X} y_c(b, X, g) x_c(b, aX + g t, g)

Turn the signal of each g by g^-1: all of them then want the same convolution, in calls that are alike, and the results
are turned back (`canonical` says why that is exact).

The two are derivatives of one trilinear form; the third, the gradient of x, is D again with the taps reversed and
stride and dilation exchanged (`cuda.grid_operators` says the same of dense convolutions).
"""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor

from ..cuda.grid import Geometry
from ..cuda.registration import register
from .canonical import accumulator, cover, turn, turn_box
from .frames import by_box, convolve_frames

_GEOMETRY = "SymInt[] out, SymInt stride, SymInt dilation, SymInt pad, SymInt[] wrap, int size"
_LIBRARY = torch.library.Library("equiharness", "FRAGMENT")
_LIBRARY.define(f"grid_depthwise(Tensor x, Tensor s, Tensor elements, {_GEOMETRY}) -> Tensor")
_LIBRARY.define(f"grid_depthwise_weight(Tensor x, Tensor y, Tensor elements, {_GEOMETRY}) -> Tensor")


def depthwise(
    x: Tensor,
    s: Tensor,
    elements: Tensor,
    out: Sequence[int],
    stride: int,
    dilation: int,
    pad: int,
    wrap: Sequence[int],
    size: int,
) -> Tensor:
    """The operator D: [B, C, G, *N] and [C, T] to [B, C, G, *out]; differentiable to every order.

    Args:
        x: the signals, any floating dtype; half precision is summed in float32.
        s: the filters, taps in row-major order.
        elements: int64 [G, d, d].
        out: sizes of the output.
        stride: between windows.
        dilation: zeros between the voxels of the input, plus one.
        pad: before the first voxel.
        wrap: period per axis, 0 for none.
        size: k, of T = k^d taps.

    Example:
        >>> x, elements = torch.ones(1, 1, 1, 3, 3), torch.eye(2, dtype=torch.int64)[None]
        >>> depthwise(x, torch.ones(1, 9), elements, (3, 3), 1, 1, 1, (0, 0), 3)[0, 0, 0].tolist()
        [[4.0, 6.0, 4.0], [6.0, 9.0, 6.0], [4.0, 6.0, 4.0]]
    """
    y: Tensor = torch.ops.equiharness.grid_depthwise(x, s, elements, out, stride, dilation, pad, wrap, size)
    return y


def _forward(x: Tensor, s: Tensor, elements: Tensor, *where: Any) -> Tensor:
    geometry, size = _geometry(*where), where[-1]
    y = x.new_empty((*x.shape[:2], len(elements), *geometry.out))
    if not len(x):
        return y
    if x.device.type == "cpu":
        wide = cover(x, geometry, size).to(accumulator(x.dtype))
        filters = s.to(wide.dtype).view(-1, 1, *(size,) * len(geometry.out))
        for members in by_box(elements, lambda element: turn_box(tuple(wide.shape[3:]), element)):
            frames = torch.stack([turn(wide[:, :, g], elements[g]) for g in members])
            results = convolve_frames(frames, filters, geometry.stride, groups=len(filters))
            for g, result in zip(members, results, strict=True):
                y[:, :, g] = turn(result, elements[g].T)
        return y
    # Elsewhere two calls alike may be answered by two algorithms: multiplications and additions leave no choice.
    for g, signal in _signals(x, elements, geometry, size):
        taps = s.to(signal.dtype).view(*s.shape, *(1,) * len(geometry.out))
        total = torch.zeros((), dtype=signal.dtype, device=signal.device)
        for t, view in _taps(signal, geometry.stride, size):
            total = total + view * taps[:, t]
        y[:, :, g] = turn(total, elements[g].T)
    return y


def _weight(x: Tensor, y: Tensor, elements: Tensor, *where: Any) -> Tensor:
    geometry, size = _geometry(*where), where[-1]
    ds = torch.zeros((x.shape[1], size ** len(geometry.out)), dtype=accumulator(x.dtype), device=x.device)
    for g, signal in _signals(x, elements, geometry, size):
        outputs = turn(y[:, :, g], elements[g]).to(ds.dtype)
        for t, view in _taps(signal, geometry.stride, size):
            ds[:, t] += (view * outputs).transpose(0, 1).flatten(1).sum(1)
    return ds.to(x.dtype)


def _forward_fake(x: Tensor, s: Tensor, elements: Tensor, out: Any, *_: Any) -> Tensor:
    return x.new_empty((*x.shape[:2], elements.shape[0], *out))


def _weight_fake(x: Tensor, y: Tensor, elements: Tensor, out: Any, *rest: Any) -> Tensor:
    return x.new_empty((x.shape[1], rest[-1] ** len(out)))


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:3])
    ctx.geometry = inputs[3:]


def _transposed(ctx: Any, x: Tensor) -> tuple[Any, ...]:
    """The geometry of the transposed product, whose output is x."""
    _, stride, dilation, pad, wrap, size = ctx.geometry
    return list(x.shape[3:]), dilation, stride, size - 1 - pad, wrap, size


def _forward_backward(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
    x, s, elements = ctx.saved_tensors
    dx = ds = None
    if ctx.needs_input_grad[0]:
        dx = depthwise(dy, s.flip(1), elements, *_transposed(ctx, x))
    if ctx.needs_input_grad[1]:
        ds = torch.ops.equiharness.grid_depthwise_weight(x, dy, elements, *ctx.geometry)
    return dx, ds, *(None,) * 7


def _weight_backward(ctx: Any, ds: Tensor) -> tuple[Any, ...]:
    x, y, elements = ctx.saved_tensors
    dx = dy = None
    if ctx.needs_input_grad[0]:
        dx = depthwise(y, ds.flip(1), elements, *_transposed(ctx, x))
    if ctx.needs_input_grad[1]:
        dy = depthwise(x, ds, elements, *ctx.geometry)
    return dx, dy, *(None,) * 7


register(_LIBRARY, "grid_depthwise", _forward, _forward_fake, _forward_backward, _save)
register(_LIBRARY, "grid_depthwise_weight", _weight, _weight_fake, _weight_backward, _save)


def _geometry(out: Sequence[int], stride: int, dilation: int, pad: int, wrap: Sequence[int], size: int) -> Geometry:
    return Geometry(tuple(out), stride, dilation, pad, tuple(wrap))


def _signals(x: Tensor, elements: Tensor, geometry: Geometry, size: int) -> Iterator[tuple[int, Tensor]]:
    """What the windows of every element cover, in its own frame: [B, C, *wide]."""
    wide = cover(x, geometry, size).to(accumulator(x.dtype))
    for g, element in enumerate(elements):
        yield g, turn(wide[:, :, g], element).contiguous()


def _taps(signals: Tensor, stride: int, size: int) -> Iterator[tuple[int, Tensor]]:
    """The index of every tap t, and x_c(aX + t)."""
    out = [(n - size) // stride + 1 for n in signals.shape[2:]]
    for t, index in enumerate(product(range(size), repeat=len(out))):
        first = (slice(i, i + stride * (n - 1) + 1, stride) for i, n in zip(index, out, strict=True))
        at: tuple[Any, ...] = (..., *first)
        yield t, signals[at]
