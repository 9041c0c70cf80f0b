"""Transposed separable group convolutions: the mix over the group, and a transposed step in space."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from . import reference
from .conv import uniform_with_variance
from .exact import exact_transposed, exact_transposed_depthwise
from .geometry import check_fibre
from .groups import GroupLike
from .separable import SeparableGroupConv
from .transposed import check_transposed, convolve_transposed, dense_transposed, finer_box


class TransposedSeparableGroupConv(SeparableGroupConv):
    """G-equivariant for group feature maps to group feature maps on a finer grid: exactly for every element of G.

    A `TransposedGroupConv` whose filter factorises, in the variants of `SeparableGroupConv` with each spatial sum
    over t exchanged for one over the voxels x of the input, t = X - s x:

        pointwise_first   z_o(x, g) = sum_{i,h} a_oi(g^-1 h) F_i(x, h)
                          y_o(X, g) = b_o + sum_x s_o(g^-1 (X - s x)) z_o(x, g)
        depthwise_first   z_i(X, h) = sum_x s_i(h^-1 (X - s x)) F_i(x, h)
                          y_o(X, g) = b_o + sum_{i,h} a_oi(g^-1 h) z_i(X, h)
        per_pair          y_o(X, g) = b_o + sum_{i,h,x} a_oi(g^-1 h) s_oi(g^-1 (X - s x)) F_i(x, h)

    The output has (N - 1) s + k - 2p voxels: always centred, for every box. Approximately, to half a voxel, with an
    ``output_padding`` and ``allow_misaligned=True``. The pointwise form mixes on the coarse grid, s^d times cheaper.

    Args:
        group: as for `LiftingConv`.
        in_channels: channels of the input [B, in_channels, |G|, *space], any floating dtype.
        out_channels: channels of the output [B, out_channels, |G|, *space].
        kernel_size: k, odd or even, equal on all axes.
        output_padding: voxels added at the end of every axis; must be 0 unless ``allow_misaligned``.
        padding_mode: "zeros"; a transposed convolution has no other.
        **options: variant, stride, padding, bias, backend, allow_misaligned, device and dtype as for
            `SeparableGroupConv`, and its weights.

    Raises:
        ValueError: at construction for a wrong argument; at every forward for an input of the wrong shape.

    Example:
        >>> import torch
        >>> layer = TransposedSeparableGroupConv("O", 2, 3, 4, stride=2, padding=1)
        >>> layer(torch.randn(1, 2, 24, 3, 3, 4)).shape
        torch.Size([1, 3, 24, 6, 6, 8])

    Source: the transpose of Knigge, Romero & Bekkers, Exploiting Redundancy: Separable Group Convolutional Networks on
    Lie Groups, ICML 2022.
    """

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

        cin |G| terms in the group step; of the k^d taps of the spatial step, one in s^d meets an output.
        """
        super().reset_parameters()
        uniform_with_variance(self.spatial_weight, 1 / max(1.0, (self.kernel_size / self.stride) ** self.dim))

    def check_input(self, x: Tensor, fibre: tuple[int, ...]) -> None:
        """Refuse a wrong shape, and a box that leaves no output."""
        check_fibre(x, (self.in_channels, *fibre), self.dim, type(self).__name__)
        finer_box(x.shape[x.dim() - self.dim :], self.kernel_size, self.stride, self.padding)

    def geometry(self) -> dict[str, Any]:
        """Stride and paddings as the reference takes them."""
        return {"stride": self.stride, "padding": self.padding, "output_padding": self.output_padding}

    def spatial_step(self, x: Tensor, bank: Tensor, bias: Tensor | None, groups: int) -> Tensor:
        """The dense or depthwise transposed convolution of a bank [out, in / groups, *k]."""
        # torch wants [in, out / groups, *k]; a depthwise bank is both.
        bank = bank if groups > 1 else bank.transpose(0, 1)
        return convolve_transposed(x, bank, bias, self.stride, self.padding, self.output_padding, groups)

    def spatial_module(self, bank: Tensor, bias: Tensor | None, groups: int) -> nn.Module:
        """`spatial_step` as a torch module that owns its weights."""
        bank = bank if groups > 1 else bank.transpose(0, 1)
        return dense_transposed(bank, bias, self.stride, self.padding, self.output_padding, groups)

    def spatial_reference(self, formula: Callable[..., Tensor], x: Tensor, *weights: Tensor) -> Tensor:
        """A formula of `reference`, transposed in space."""
        return reference.transposed(formula, x, weights, self.group, **self.geometry())

    def spatial_exact(self, x: Tensor, weight: Tensor, tables: Sequence[Tensor]) -> Tensor:
        """The canonical transposed convolution."""
        return exact_transposed(x, weight, tables, size=self.kernel_size, **self.geometry())

    def depthwise_exact(self, x: Tensor, s: Tensor, elements: Tensor) -> Tensor:
        """The canonical transposed depthwise convolution."""
        return exact_transposed_depthwise(x, s, elements, **self.geometry())

    def extra_repr(self) -> str:
        """The arguments, as torch's own layers print them."""
        return f"{super().extra_repr()}, output_padding={self.output_padding}"
