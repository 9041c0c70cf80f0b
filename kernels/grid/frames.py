"""One call of a library for the frames of many elements, where its results do not depend on the place in the batch.

Every element of the group convolves its own turned signal with the same filters (`canonical` says why). Calls alike
give results alike, and one call with the elements as samples is up to seven times as fast as one call for each; but
nothing promises that a library treats all samples of a call alike. So it is asked, once per shape: equal samples have
to give equal bits. Where they do not, every element has a call of its own.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from .conv import CONV


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
        y: Tensor = call(frames.flatten(0, 1), filters)
        return y.unflatten(0, frames.shape[:2])
    return torch.stack([call(frame.contiguous(), filters) for frame in frames])


@functools.cache
def _alike(
    frames: tuple[int, ...], filters: tuple[int, ...], dtype: torch.dtype, threads: int, options: tuple[Any, ...]
) -> bool:
    """Whether equal frames of a call have equal results. What a library does follows from shapes, not from numbers."""
    generator = torch.Generator().manual_seed(0)
    one = torch.randn(frames[1:], generator=generator).to(dtype)
    weight = torch.randn(filters, generator=generator).to(dtype)
    call = one.expand(frames).flatten(0, 1).contiguous()
    y = CONV[len(filters) - 2](call, weight, **dict(options)).unflatten(0, frames[:2])
    return bool((y == y[:1]).all())
