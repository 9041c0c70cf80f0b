"""Transposed convolutions: from a coarse grid onto a finer one with the same centre."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import reference
from .conv import GridConv, GridModule, uniform_with_variance
from .exact import TABLES, exact_tables, exact_transposed, spread
from .expansion import joint_table, regular_table, tap_table
from .geometry import check_fibre, check_output_padding
from .groups import GroupLike, IntArray

_CONV_TRANSPOSE: dict[int, Callable[..., Tensor]] = {2: F.conv_transpose2d, 3: F.conv_transpose3d}
_MODULE: dict[int, type[nn.ConvTranspose2d] | type[nn.ConvTranspose3d]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


class _TransposedConv(GridConv):
    """A layer whose fast path is one dense transposed convolution."""

    backends = (*GridModule.backends, "exact")

    def __init__(
        self,
        group: GroupLike,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        output_padding: int = 0,
        padding_mode: str = "zeros",
        **options: Any,
    ) -> None:
        check_transposed(padding_mode, output_padding, **options)
        self.output_padding = output_padding
        super().__init__(group, in_channels, out_channels, kernel_size, padding_mode=padding_mode, **options)

    def reset_parameters(self) -> None:
        """Draw weights that keep the variance of white noise; the bias starts at zero.

        Of the k^d taps only one in s^d meets an output: it sums cin * |in fibre| * (k / s)^d terms on average.
        """
        taps = max(1.0, (self.kernel_size / self.stride) ** self.dim)
        uniform_with_variance(self.weight, 1 / (self.in_channels * math.prod(self.in_fibre) * taps))
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def check_input(self, x: Tensor, fibre: tuple[int, ...]) -> None:
        """Refuse a wrong shape, and a box that leaves no output."""
        check_fibre(x, (self.in_channels, *fibre), self.dim, type(self).__name__)
        finer_box(x.shape[x.dim() - self.dim :], self.kernel_size, self.stride, self.padding)

    def dense(self, x: Tensor) -> Tensor:
        """The fast path: one dense transposed convolution of channels and fibre flattened."""
        geometry = self.stride, self.padding, self.output_padding
        return convolve_transposed(x, self.filter_bank().transpose(0, 1), self._dense_bias(), *geometry)

    def fold(self) -> Any:
        """This layer as a plain torch transposed convolution, for inference and export.

        Returns:
            nn.ConvTranspose2d or nn.ConvTranspose3d with copies of the expanded weights, channels and fibre flattened.
        """
        geometry = self.stride, self.padding, self.output_padding
        return dense_transposed(self.filter_bank().transpose(0, 1), self._dense_bias(), *geometry)

    def exact(self, x: Tensor) -> Tensor:
        """The layer in canonical order, without bias: [B, o, |G|, *X]."""
        x = x if self.in_fibre else spread(x, self.order)
        weight = self.weight.view(self.out_channels, self.in_channels, -1, self.kernel_size**self.dim)
        tables = [self.get_buffer(name) for name in TABLES]
        return exact_transposed(x, weight, tables, size=self.kernel_size, **self.geometry())

    def geometry(self) -> dict[str, Any]:
        """Stride and paddings as the reference takes them."""
        return {"stride": self.stride, "padding": self.padding, "output_padding": self.output_padding}

    def filter_bank(self) -> Tensor:
        """W[(o, g), (i, h), t] = w_oi(g^-1 (t, h)), differentiable; torch wants the first two axes exchanged."""
        return self._expanded().flatten(2, 3).flatten(0, 1)

    def extra_repr(self) -> str:
        """The arguments, as torch's own layers print them."""
        return f"{super().extra_repr()}, output_padding={self.output_padding}"

    def _exact_tables(self) -> dict[str, IntArray]:
        return exact_tables(self.group, self.kernel_size, bool(self.in_fibre)) if self.backend == "exact" else {}


class TransposedLiftingConv(_TransposedConv):
    """G-equivariant for planes or volumes to group feature maps on a finer grid: exactly for every element of G.

    y_o(X, g) = b_o + sum_{i,x} w_oi(g^-1 (X - s x)) x_i(x), so that (L_u f)(x) = f(u^-1 x) on the input becomes
    (L_u y)(X, g) = y(u^-1 X, u^-1 g) on the output, of (N - 1) s + k - 2p voxels: always centred, for every box.
    Approximately, to half a voxel, with an ``output_padding`` and ``allow_misaligned=True``.

    Args:
        group: as for `LiftingConv`.
        in_channels: channels of the input [B, in_channels, *space], any floating dtype.
        out_channels: channels of the output [B, out_channels, |G|, *space].
        kernel_size: k, odd or even, equal on all axes.
        output_padding: voxels added at the end of every axis; must be 0 unless ``allow_misaligned``.
        padding_mode: "zeros"; a transposed convolution has no other.
        **options: stride, padding, bias, backend ("auto", "fast", "exact", "reference"), allow_misaligned, device and
            dtype as for `LiftingConv`; the weight is [o, i, *k].

    Raises:
        ValueError: at construction for a wrong argument; at every forward for an input of the wrong shape.

    Example:
        >>> layer = TransposedLiftingConv("C4", 3, 8, 4, stride=2, padding=1)
        >>> layer(torch.randn(2, 3, 5, 6)).shape
        torch.Size([2, 8, 4, 10, 12])

    Source: the transpose of Cohen & Welling, Group Equivariant Convolutional Networks, ICML 2016, equation 10.
    """

    def _fibres(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        return (), (self.order,), ()

    def tables(self) -> dict[str, IntArray]:
        """Index of g^-1 t, and of g^-1."""
        table = tap_table(self.group, self.kernel_size)
        return {"table": table, "inverse": self.group.inv, **self._exact_tables()}

    def reference(self, x: Tensor) -> Tensor:
        """The formula without bias, by loops over g and t."""
        return reference.transposed(reference.lifting, x, (self.weight,), self.group, **self.geometry())


class TransposedGroupConv(_TransposedConv):
    """G-equivariant for group feature maps to group feature maps on a finer grid: exactly for every element of G.

    y_o(X, g) = b_o + sum_{i,h,x} w_oi(g^-1 (X - s x), g^-1 h) F_i(x, h): the transpose of the `GroupConv` with weight
    w(u^-1 t, u^-1) and channels exchanged. (L_u F)(x, h) = F(u^-1 x, u^-1 h) on the input becomes the same action on
    the output, of (N - 1) s + k - 2p voxels: always centred, for every box. Approximately, to half a voxel, with an
    ``output_padding`` and ``allow_misaligned=True``.

    Args:
        group: as for `LiftingConv`.
        in_channels: channels of the input [B, in_channels, |G|, *space], any floating dtype.
        out_channels: channels of the output [B, out_channels, |G|, *space].
        kernel_size: k, odd or even, equal on all axes.
        output_padding: voxels added at the end of every axis; must be 0 unless ``allow_misaligned``.
        padding_mode: "zeros"; a transposed convolution has no other.
        **options: stride, padding, bias, backend ("auto", "fast", "exact", "reference"), allow_misaligned, device and
            dtype as for `LiftingConv`; the weight is [o, i, u, *k], u = g^-1 h.

    Raises:
        ValueError: at construction for a wrong argument; at every forward for an input of the wrong shape.

    Example:
        >>> layer = TransposedGroupConv("O", 2, 3, 4, stride=2, padding=1)
        >>> layer(torch.randn(1, 2, 24, 3, 3, 4)).shape
        torch.Size([1, 3, 24, 6, 6, 8])

    Source: the transpose of Cohen & Welling, Group Equivariant Convolutional Networks, ICML 2016, equation 11.
    """

    def _fibres(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        return (self.order,), (self.order,), (self.order,)

    def tables(self) -> dict[str, IntArray]:
        """Index of (g^-1 h, g^-1 t), and of g^-1."""
        table = joint_table(regular_table(self.group), tap_table(self.group, self.kernel_size))
        return {"table": table, "inverse": self.group.inv, **self._exact_tables()}

    def reference(self, x: Tensor) -> Tensor:
        """The formula without bias, by loops over g and t."""
        return reference.transposed(reference.regular, x, (self.weight,), self.group, **self.geometry())


def convolve_transposed(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int, output_padding: int, groups: int = 1
) -> Tensor:
    """y(X) += W(t) x(x) at X = s x + t - p: [B, in, *space] and [in, out / groups, *k]."""
    conv = _CONV_TRANSPOSE[weight.dim() - 2]
    return conv(x, weight, bias, stride=stride, padding=padding, output_padding=output_padding, groups=groups)


@torch.no_grad()
def dense_transposed(
    weight: Tensor, bias: Tensor | None, stride: int, padding: int, output_padding: int, groups: int = 1
) -> nn.ConvTranspose2d | nn.ConvTranspose3d:
    """The torch module of `convolve_transposed`, owning copies of weight and bias."""
    # skip_init: drawing weights that are overwritten at once would disturb the global random state.
    conv: nn.ConvTranspose2d | nn.ConvTranspose3d = torch.nn.utils.skip_init(
        _MODULE[weight.dim() - 2],
        weight.shape[0],
        weight.shape[1] * groups,
        weight.shape[2],
        stride=stride,
        padding=padding,
        output_padding=output_padding,
        groups=groups,
        bias=bias is not None,
        device=weight.device,
        dtype=weight.dtype,
    )
    conv.weight.copy_(weight)
    if bias is not None and conv.bias is not None:
        conv.bias.copy_(bias)
    return conv


def check_transposed(
    padding_mode: str, output_padding: int, *, allow_misaligned: bool = False, stride: int = 1, **_: Any
) -> None:
    """Refuse arguments that no transposed convolution has, and an output padding that would break the symmetry."""
    if padding_mode != "zeros":
        raise ValueError(f"padding_mode must be 'zeros' in a transposed convolution; got {padding_mode!r}")
    check_output_padding(output_padding, stride, allow_misaligned)


def finer_box(box: Sequence[int], kernel_size: int, stride: int, padding: int) -> list[int]:
    """(N - 1) s + k - 2p on every axis.

    Raises:
        ValueError: an axis would be empty.
    """
    finer = [(n - 1) * stride + kernel_size - 2 * padding for n in box]
    for axis, (n, m) in enumerate(zip(box, finer, strict=True)):
        if m < 1:
            raise ValueError(
                f"axis {axis} of length {n} leaves an output of (N - 1) s + k - 2p = {m} voxels; "
                f"use padding={((n - 1) * stride + kernel_size - 1) // 2} or less, or a larger kernel"
            )
    return finer
