"""One call of a library for the frames of many elements, where its results do not depend on the place in the batch.

Every element of the group convolves its own turned signal with the same filters (`canonical` says why). Calls alike
give results alike, and one call with the elements as samples is up to seven times as fast as one call for each; but
nothing promises that a library treats all samples of a call alike. So it is asked, once per shape: equal samples have
to give equal bits. Where they do not, every element has a call of its own.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from .conv import CONV

#: Two orders of summation round a sum of eight random numbers alike about every second time: never 64 times.
_SUMS = 64

_Call = Callable[[Tensor, Tensor], Tensor]


def by_box(elements: Tensor, turn_box: Callable[[Tensor], tuple[int, ...]]) -> Iterator[list[int]]:
    """Elements whose frames have the same box: all of them on a cube.

    Args:
        elements: int64 [G, d, d].
        turn_box: the box of an element's frame.

    Example:
        >>> quarters = torch.tensor([[[1, 0], [0, 1]], [[0, -1], [1, 0]]])
        >>> list(by_box(quarters, lambda m: (5, 7) if m[0, 0] else (7, 5)))
        [[0], [1]]
    """
    boxes: dict[tuple[int, ...], list[int]] = {}
    for g, element in enumerate(elements):
        boxes.setdefault(turn_box(element), []).append(g)
    yield from boxes.values()


def convolve_frames(frames: Tensor, filters: Tensor, stride: int, padding: int = 0, groups: int = 1) -> Tensor:
    """[n, B, C, *box] and [O, C / groups, *k] to [n, B, O, *out]: the same bits for a frame wherever it stands in n.

    Args:
        frames: signals, each in the frame of its element, on a CPU.
        filters: the same for all.
        stride: between windows.
        padding: zeros around the box.
        groups: of channels, as in torch's convolutions.

    Example:
        >>> frames, filters = torch.randn(1, 1, 2, 5, 5).expand(4, -1, -1, -1, -1), torch.randn(3, 2, 3, 3)
        >>> y = convolve_frames(frames, filters, 1)
        >>> y.shape, bool((y == y[:1]).all())
        (torch.Size([4, 1, 3, 3, 3]), True)
    """
    options = {"stride": stride, "padding": padding, "groups": groups}
    call = functools.partial(CONV[filters.dim() - 2], **options)
    shape = (*frames.shape[:2], *frames.shape[2:])
    if _alike(shape, tuple(filters.shape), frames.dtype, torch.get_num_threads(), tuple(options.items())):
        y: Tensor = call(frames.flatten(0, 1), filters).unflatten(0, frames.shape[:2])
        return y
    return torch.stack([call(frame.contiguous(), filters) for frame in frames])


@functools.cache
def _alike(
    frames: tuple[int, ...], filters: tuple[int, ...], dtype: torch.dtype, threads: int, options: tuple[Any, ...]
) -> bool:
    """Whether equal frames of a call have equal results. What a library does follows from shapes, not from numbers."""

    def call(one: Tensor, weight: Tensor) -> Tensor:
        together = one.expand(frames).flatten(0, 1).contiguous()
        y: Tensor = CONV[len(filters) - 2](together, weight, **dict(options)).unflatten(0, frames[:2])
        return y

    return _same(call, (1, *frames[1:]), filters, dtype, axis=0)


def columns_alike(samples: int, depth: int, rows: int, columns: int, dtype: torch.dtype) -> bool:
    """Whether the matrix product treats all columns alike: equal columns of the second factor give equal bits.

    Args:
        samples: of the second factor, [samples, depth, columns].
        depth: terms of a sum.
        rows: of the first factor, [rows, depth].
        columns: of the second.
        dtype: of both.

    Example:
        >>> columns_alike(2, 8, 4, 1, torch.float32)
        True
    """
    return _columns_alike(samples, depth, rows, columns, dtype, torch.get_num_threads())


@functools.cache
def _columns_alike(samples: int, depth: int, rows: int, columns: int, dtype: torch.dtype, threads: int) -> bool:
    def call(column: Tensor, first: Tensor) -> Tensor:
        return torch.matmul(first, column.expand(-1, -1, columns).contiguous())

    return _same(call, (samples, depth, 1), (rows, depth), dtype, axis=2)


def _same(call: _Call, one: Sequence[int], weight: Sequence[int], dtype: torch.dtype, axis: int) -> bool:
    """Whether the results of a call on random numbers repeat along an axis, in at least ``_SUMS`` different sums."""
    generator, seen = torch.Generator().manual_seed(0), 0
    while seen < _SUMS:
        a, b = (torch.randn(shape, generator=generator).to(dtype) for shape in (one, weight))
        y = call(a, b)
        first = y.narrow(axis, 0, 1)
        if not bool((y == first).all()):
            return False
        seen += max(1, first.numel())
    return True
