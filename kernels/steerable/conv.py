"""Steerable convolutions between regular fields of C_N and D_N."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from ..grid.conv import check_arguments, convolve, dense_conv, uniform_with_variance
from ..grid.geometry import check_alignment, check_fibre
from .basis import steerable_basis, turned_basis
from .groups import PlanarGroup


class _Steerable(nn.Module):
    """A convolution whose filter is a sum of basis functions; subclasses say whether the input has a group axis."""

    basis: Tensor
    quotients: Tensor
    bias: nn.Parameter | None
    regular_input: bool

    def __init__(
        self,
        group: str | PlanarGroup,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        padding_mode: str = "zeros",
        bias: bool = True,
        allow_misaligned: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_arguments(in_channels, out_channels, kernel_size, stride, padding, padding_mode)
        self.group = group if isinstance(group, PlanarGroup) else PlanarGroup(group)
        self.order, self.dim = self.group.order, 2
        self.in_channels, self.out_channels, self.kernel_size = in_channels, out_channels, kernel_size
        self.stride, self.padding, self.padding_mode = stride, padding, padding_mode
        self.allow_misaligned = allow_misaligned
        self.in_fibre = (self.order,) if self.regular_input else ()
        functions = self._functions()
        shape = (out_channels, in_channels, *self.in_fibre, functions.shape[1])
        self.weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(out_channels, device=device, dtype=dtype)) if bias else None
        # Kept in float64 and rounded when used: in the precision of the weights it would lose bits when that changes.
        self.register_buffer("basis", functions.to(device), persistent=False)
        quotients = torch.from_numpy(self.group.mul[self.group.inv]).to(device)
        self.register_buffer("quotients", quotients, persistent=False)
        self.reset_parameters()

    def _functions(self) -> Tensor:
        """Every basis function under every element: float64 [|G|, K, k * k]."""
        values, frequencies = steerable_basis(self.kernel_size)
        phases = np.stack([self.group.phases(int(m)) for m in frequencies], 1)
        return torch.from_numpy(turned_basis(values, frequencies, phases, self.group.flips))

    def reset_parameters(self) -> None:
        """Draw coefficients that keep the variance of white noise; the bias starts at zero.

        The basis functions have unit norm: one output sums as many terms as it has coefficients.
        """
        uniform_with_variance(self.weight, 1 / math.prod(self.weight.shape[1:]))
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def filter(self) -> Tensor:
        """The filter w_oi(t, u) = sum_j c_oiuj psi_j(t) as [o, i, u, k, k], or [o, i, k, k] without u."""
        flat = self.weight @ self.basis[0].to(self.weight.dtype)
        filters: Tensor = flat.unflatten(-1, (self.kernel_size, self.kernel_size))
        return filters

    def filter_bank(self) -> Tensor:
        """W[(o, g), (i, h), t] = sum_j c_oi(g^-1 h)j psi_j(g^-1 t), differentiable."""
        turned = self.basis.to(self.weight.dtype)
        if not self.regular_input:
            bank = torch.einsum("oij,gjt->ogit", self.weight, turned)
        else:
            moved = torch.einsum("oiuj,gjt->ogiut", self.weight, turned)
            index = self.quotients[None, :, None, :, None].expand(moved.shape)
            bank = moved.gather(3, index).flatten(2, 3)
        filters: Tensor = bank.flatten(0, 1).unflatten(-1, (self.kernel_size, self.kernel_size))
        return filters

    def forward(self, x: Tensor) -> Tensor:
        """Convolve; shapes as in the class description."""
        check_fibre(x, (self.in_channels, *self.in_fibre), 2, type(self).__name__)
        if not self.allow_misaligned:
            circular = self.padding_mode == "circular"
            geometry = self.kernel_size, self.stride, self.padding
            check_alignment(x.shape[-2:], *geometry, circular=circular, flipped=(True, True))
        flat = x.flatten(1, 2) if self.regular_input else x
        y = convolve(flat, self.filter_bank(), self._dense_bias(), self.stride, self.padding, self.padding_mode)
        result: Tensor = y.unflatten(1, (self.out_channels, self.order))
        return result

    def fold(self) -> nn.Module:
        """This layer as a plain torch convolution, channels and group flattened, for inference and export."""
        return dense_conv(self.filter_bank(), self._dense_bias(), self.stride, self.padding, self.padding_mode)

    def extra_repr(self) -> str:
        """The arguments, as torch's own layers print them."""
        text = f"{self.group.name}, {self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"
        return f"{text}, stride={self.stride}, padding={self.padding}, padding_mode={self.padding_mode}"

    def _dense_bias(self) -> Tensor | None:
        return None if self.bias is None else self.bias[:, None].expand(-1, self.order).flatten().contiguous()


class SteerableLiftingConv(_Steerable):
    """C_N- or D_N-equivariant for planes to regular fields: exactly for quarter turns, approximately for others.

    y_o(X, g) = b_o + sum_{i,t} w_oi(g^-1 t) x_i(X + t), with w a sum of `basis.steerable_basis`, so that g^-1 t need
    not lie on the grid. Elements that move the grid onto itself are exact where N allows them, on boxes with
    (N + 2p - k) mod s = 0; for the others the error falls with the third power of the grid spacing, for fixed smooth
    signals away from the border.

    Args:
        group: "C<N>" or "D<N>" for any N, or a `PlanarGroup`: elements are counted by angle.
        in_channels: channels of the input [B, in_channels, a0, a1], any floating dtype.
        out_channels: channels of the output [B, out_channels, |G|, a0, a1].
        kernel_size: k, odd or even, equal on both axes.
        stride: s, equal on both axes.
        padding: p on both sides of both axes.
        padding_mode: "zeros" or "circular".
        bias: whether to add b_o, shared over the group.
        allow_misaligned: accept boxes that break the symmetry.
        device: of weight [o, i, K], K basis functions, and bias [o].
        dtype: of weight and bias.

    Raises:
        ValueError: at construction for a wrong argument; at every forward for an input of the wrong shape or a
            misaligned box.

    Example:
        >>> layer = SteerableLiftingConv("C8", 3, 4, 5, padding=2)
        >>> layer(torch.randn(2, 3, 9, 7)).shape
        torch.Size([2, 4, 8, 9, 7])

    Source: Weiler & Cesa, General E(2)-Equivariant Steerable CNNs, NeurIPS 2019, for the circular harmonics; that
    low moments are kept free of aliases is this project's.
    """

    regular_input = False


class SteerableConv(_Steerable):
    """C_N- or D_N-equivariant for regular fields to regular fields: exactly for quarter turns, else approximately.

    y_o(X, g) = b_o + sum_{i,h,t} w_oi(g^-1 t, g^-1 h) F_i(X + t, h), with w(., u) a sum of `basis.steerable_basis`, so
    that g^-1 t need not lie on the grid. Elements that move the grid onto itself are exact where N allows them, on
    boxes with (N + 2p - k) mod s = 0; for the others the error falls with the third power of the grid spacing, for
    fixed smooth signals away from the border.

    Args:
        group: "C<N>" or "D<N>" for any N, or a `PlanarGroup`: elements are counted by angle.
        in_channels: channels of the input [B, in_channels, |G|, a0, a1], any floating dtype.
        out_channels: channels of the output [B, out_channels, |G|, a0, a1].
        kernel_size: k, odd or even, equal on both axes.
        stride: s, equal on both axes.
        padding: p on both sides of both axes.
        padding_mode: "zeros" or "circular".
        bias: whether to add b_o, shared over the group.
        allow_misaligned: accept boxes that break the symmetry.
        device: of weight [o, i, u, K], K basis functions, u = g^-1 h, and bias [o].
        dtype: of weight and bias.

    Raises:
        ValueError: at construction for a wrong argument; at every forward for an input of the wrong shape or a
            misaligned box.

    Example:
        >>> layer = SteerableConv("D6", 2, 3, 5, padding=2)
        >>> layer(torch.randn(1, 2, 12, 9, 9)).shape
        torch.Size([1, 3, 12, 9, 9])

    Source: as for `SteerableLiftingConv`.
    """

    regular_input = True
