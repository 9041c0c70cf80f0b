"""The exact backend: layers in canonical order, equivariant to the last bit.

y(X, g) = sum_{i,u,t} w_oi(u, t) F_i(sX + g t, g u): all outputs of an orbit sum the same numbers in the same order, and
so do all entries of the gradient of the input, which is the same product with other weights (`cuda.grid_operators`).
A signal without a group axis is spread over the group; its gradient is a sum over an orbit, whose terms come in another
order for every element: they are added without rounding, so that the order does not matter.

On a GPU the products are the kernels of `cuda`. Elsewhere they are matrix products, the same for every element in its
own frame (`canonical`).

Gradients of weights and biases are sums over orbits too: equivariance does not concern them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..cuda.grid_operators import convolve
from .depthwise import depthwise
from .expansion import tap_table
from .groups import GridGroup, IntArray

#: Buffers of a layer, in the order in which `grid_operators.convolve` takes them.
TABLES = ("elements", "exact_fibre", "exact_taps", "exact_adjoint")
# The exponent of a float64, which alone is a power of two (or zero).
_EXPONENT = 0x7FF0000000000000


def exact_tables(group: GridGroup, kernel_size: int, regular: bool) -> dict[str, IntArray]:
    """The index tables of the canonical order.

    Args:
        group: G.
        kernel_size: k.
        regular: whether the filter has a group axis u; otherwise each element reads its own channel alone.

    Returns:
        "elements" [G, d, d]; "exact_fibre" int32 [G, U], index of g u; "exact_taps" int32 [G, T, 3], the array index of
        g t, 0 on the first of three axes for d = 2; "exact_adjoint" [U * T], index of (v^-1, -v^-1 t).

    Example:
        >>> from equiharness.kernels.grid.groups import grid_group
        >>> tables = exact_tables(grid_group("C2"), 3, regular=True)
        >>> tables["exact_fibre"].tolist(), tables["exact_adjoint"][:3].tolist()
        ([[0, 1], [1, 0]], [8, 7, 6])
    """
    inverse_taps = tap_table(group, kernel_size)  # index of g^-1 t
    count = inverse_taps.shape[1]
    moved = np.stack(np.unravel_index(inverse_taps[group.inv], (kernel_size,) * group.dim), -1)
    taps = np.concatenate([np.zeros((*moved.shape[:2], 3 - group.dim), np.int64), moved], -1)
    opposite = count - 1 - np.arange(count)  # index of -t
    if regular:
        fibre = group.mul
        adjoint = (group.inv[:, None] * count + opposite[inverse_taps]).reshape(-1)
    else:
        fibre, adjoint = np.arange(group.order)[:, None], opposite
    small: dict[str, Any] = {"exact_fibre": fibre.astype(np.int32), "exact_taps": taps.astype(np.int32)}
    return {"elements": group.elements, **small, "exact_adjoint": adjoint}


def exact_convolution(
    x: Tensor, weight: Tensor, tables: Sequence[Tensor], *, size: int, stride: int, padding: int, mode: str
) -> Tensor:
    """[B, I, G, *N] and [O, I, U, T] to [B, O, G, *out]; G-equivariant, exactly, to the last bit.

    Args:
        x: the input.
        weight: U = |G|, or 1 where each element reads its own channel.
        tables: of `exact_tables`, as tensors on the device of x.
        size: k.
        stride: s.
        padding: p.
        mode: "zeros" or "circular".
    """
    x, weight = in_autocast(x, weight)
    out = [(n + 2 * padding - size) // stride + 1 for n in x.shape[3:]]
    x, padding, wrap = wrapped(x, size, padding, mode)
    return convolve(x, weight, tables, out, stride, 1, padding, wrap, size)


def exact_transposed(
    x: Tensor,
    weight: Tensor,
    tables: Sequence[Tensor],
    *,
    size: int,
    stride: int,
    padding: int,
    output_padding: int = 0,
) -> Tensor:
    """y_o(X, g) = sum_{i,u,x} w_oi(g^-1 (X - s x), u) F_i(x, g u): a convolution of the signal with zeros between.

    Args:
        x: the input [B, I, G, *N].
        weight: [O, I, U, T], U as in `exact_convolution`.
        tables: of `exact_tables`.
        size: k.
        stride: s.
        padding: p; the output has (N - 1) s + k - 2p voxels on an axis.
        output_padding: more voxels at the end of every axis, which break the symmetry.
    """
    x, weight = in_autocast(x, weight)
    out = [(n - 1) * stride + size - 2 * padding + output_padding for n in x.shape[3:]]
    return convolve(x, weight.flip(3), tables, out, 1, stride, size - 1 - padding, [0] * len(out), size)


def exact_depthwise(x: Tensor, s: Tensor, elements: Tensor, *, stride: int, padding: int, mode: str) -> Tensor:
    """y_c(X, g) = sum_t s_c(g^-1 t) F_c(X + t, g): [B, C, G, *N] and [C, *k] to [B, C, G, *out].

    Args:
        x: the input.
        s: the filters.
        elements: int64 [G, d, d].
        stride: s.
        padding: p.
        mode: "zeros" or "circular".
    """
    x, s = in_autocast(x, s)
    size = s.shape[-1]
    out = [(n + 2 * padding - size) // stride + 1 for n in x.shape[3:]]
    x, padding, wrap = wrapped(x, size, padding, mode)
    return depthwise(x, s.flatten(1), elements, out, stride, 1, padding, wrap, size)


def exact_transposed_depthwise(
    x: Tensor, s: Tensor, elements: Tensor, *, stride: int, padding: int, output_padding: int = 0
) -> Tensor:
    """y_c(X, g) = sum_x s_c(g^-1 (X - s x)) F_c(x, g); arguments as in `exact_depthwise` and `exact_transposed`."""
    x, s = in_autocast(x, s)
    size = s.shape[-1]
    out = [(n - 1) * stride + size - 2 * padding + output_padding for n in x.shape[3:]]
    return depthwise(x, s.flatten(1).flip(1), elements, out, 1, stride, size - 1 - padding, [0] * len(out), size)


def in_autocast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors in the dtype of autocast where it is on, as torch's own convolutions take them."""
    device, dtype = tensors[0].device.type, tensors[0].dtype
    if not torch.is_autocast_enabled(device) or dtype == torch.float64:
        return tensors
    return tuple(x.to(torch.get_autocast_dtype(device)) for x in tensors)


def wrapped(x: Tensor, size: int, padding: int, mode: str) -> tuple[Tensor, int, list[int]]:
    """Input, padding and period per axis of a box that wraps around, or does not."""
    box = x.shape[3:]
    if mode == "circular" and 2 * padding < size:
        return x, padding, list(box)
    if mode == "circular":
        # More windows than voxels: some outputs repeat, and a voxel's gradient has several terms per tap.
        x = F.pad(x.flatten(1, 2), (padding,) * (2 * len(box)), mode="circular").unflatten(1, x.shape[1:3])
        padding = 0
    return x, padding, [0] * len(box)


class _Spread(torch.autograd.Function):
    """x(h) = x for every h, on a new axis 2, without a copy; the adjoint is `_OrbitSum`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, order: int) -> Tensor:
        ctx.order = order
        return x.unsqueeze(2).expand(-1, -1, order, *x.shape[2:])

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None]:
        result: Tensor = _OrbitSum.apply(grads[0], ctx.order)  # type: ignore[no-untyped-call]
        return result, None


class _OrbitSum(torch.autograd.Function):
    """The sum over axis 2 without rounding, so that its terms have no order; the adjoint is `_Spread`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, order: int) -> Tensor:
        ctx.order = order
        return _sum_without_order(x, 2)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None]:
        return spread(grads[0], ctx.order), None


def _sum_without_order(x: Tensor, axis: int) -> Tensor:
    """The sum along an axis: of n numbers cut to multiples of one unit u, and of what was cut off.

    The largest magnitude is below 2 t, t a power of two. With p >= 2 and n <= 2^p, adding 1.5 2^p t and taking it away
    again rounds to multiples of u = 2^(p-52) t, alike for x and -x; all partial sums stay below 2^53 u, so none is
    rounded. In float64 what was cut off, at most u / 2 each, is summed in the same way; other dtypes end long before.

    Source: Rump, Ogita & Oishi, Accurate floating-point summation I, SIAM J. Sci. Comput. 31 (2008).
    """
    dtype, bits = x.dtype, max(2, (x.shape[axis] - 1).bit_length())
    largest, x = x.abs().amax(axis, keepdim=True).double(), x.double()
    plain = x.sum(axis, keepdim=True)  # of infinities and of what is no number: they need no care
    if dtype == torch.float64:  # the shift of the largest numbers would overflow: they are scaled down first
        scale = torch.where(largest > 2.0**960, 2.0**-64, 1.0)
        x, largest = x * scale, largest * scale
    total = torch.zeros_like(largest)
    top = (largest.view(torch.int64) & _EXPONENT).view(torch.float64)
    for _ in range(2 if dtype == torch.float64 else 1):
        shift = 1.5 * 2.0**bits * top
        cut = (x + shift) - shift
        total = total + cut.sum(axis, keepdim=True)
        x, top = x - cut, top * 2.0 ** (bits - 53)
    if dtype == torch.float64:
        total = total / scale
    return torch.where(largest.isfinite(), total, plain).squeeze(axis).to(dtype)


def spread(x: Tensor, order: int) -> Tensor:
    """[B, C, *N] to [B, C, G, *N], the same for every element; its gradient is equivariant to the last bit.

    Example:
        >>> x = torch.tensor([[[1.0, 2.0]]], requires_grad=True)
        >>> y = spread(x, 4)
        >>> y.sum().backward()
        >>> y.shape, x.grad.tolist()
        (torch.Size([1, 1, 4, 2]), [[[4.0, 4.0]]])
    """
    result: Tensor = _Spread.apply(x, order)  # type: ignore[no-untyped-call]
    return result


def orbit_sum(x: Tensor) -> Tensor:
    """The sum over the group, [B, C, G, *N] to [B, C, *N]: the same bits whatever the order of its terms.

    Example:
        >>> orbit_sum(torch.tensor([1.0, 1e8, -1e8]).view(1, 1, 3, 1)).item()
        1.0
    """
    result: Tensor = _OrbitSum.apply(x, x.shape[2])  # type: ignore[no-untyped-call]
    return result
