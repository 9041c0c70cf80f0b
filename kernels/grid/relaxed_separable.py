"""Relaxed separable group convolutions: the mixture of banks relaxes the group factor alone."""

from typing import Any

import torch
from torch import Tensor, nn

from .expansion import expand, regular_table
from .groups import GroupLike, IntArray
from .relaxed import Relaxed, check_banks
from .separable import SeparableGroupConv


class RelaxedSeparableGroupConv(Relaxed, SeparableGroupConv):
    """G-equivariant for group feature maps to group feature maps: exactly where the mixture r is constant in g.

    A `SeparableGroupConv` with L banks of the group factor: wherever it has a_oi(g^-1 h), this layer has
    sum_l r_l(g) a_loi(g^-1 h), in every variant. Else approximately: to about sqrt(2) std(r), see
    ``symmetry_breaking``.

    Args:
        group: as for `LiftingConv`.
        in_channels: channels of the input [B, in_channels, |G|, *space], any floating dtype.
        out_channels: channels of the output [B, out_channels, |G|, *space].
        kernel_size: k, odd or even, equal on all axes.
        banks: L.
        **options: variant, stride, padding, padding_mode, bias, backend ("auto", "fast", "reference"),
            allow_misaligned, device and dtype as for `SeparableGroupConv`; group_weight is [l, o, i, u],
            ``relaxation`` [l, g].

    Raises:
        ValueError: at construction for a wrong argument; at every forward for an input of the wrong shape or a
            misaligned box.

    Example:
        >>> layer = RelaxedSeparableGroupConv("C4", 2, 3, 3, banks=2, padding=1)
        >>> layer(torch.randn(1, 2, 4, 5, 6)).shape, layer.regulariser().item()
        (torch.Size([1, 3, 4, 5, 6]), 0.0)

    Source: as for `RelaxedLiftingConv` and `SeparableGroupConv`.
    """

    backends = ("auto", "fast", "reference")

    def __init__(
        self, group: GroupLike, in_channels: int, out_channels: int, kernel_size: int, *, banks: int = 1, **options: Any
    ) -> None:
        self.banks = check_banks(banks)
        super().__init__(group, in_channels, out_channels, kernel_size, **options)
        like = self.group_weight
        # One bank's weight becomes the shape of all: the base class knows no banks.
        self.group_weight = nn.Parameter(like.new_empty((banks, *like.shape)))
        self.relaxation = nn.Parameter(like.new_ones((banks, self.order)))
        self.reset_parameters()

    def group_axes(self) -> dict[str, int]:
        """The group factors of every bank, and the relaxation."""
        return {"group_weight": 3, "relaxation": 1}

    def tables(self) -> dict[str, IntArray]:
        """Those of the separable layer, and the index of u^-1 g."""
        return {**super().tables(), "quotients": regular_table(self.group)}

    def reset_parameters(self) -> None:
        """Draw banks that together keep the variance of white noise; the mixture starts at one, the bias at zero."""
        super().reset_parameters()
        with torch.no_grad():
            self.group_weight.mul_(self.banks**-0.5)
        if hasattr(self, "relaxation"):
            nn.init.ones_(self.relaxation)

    def expanded_group_weight(self) -> Tensor:
        """sum_l r_l(g) a_loi(g^-1 h) as [o, g, i, h]."""
        copies = expand(self.group_weight.flatten(0, 1), self.group_table, self.inverse).unflatten(0, (self.banks, -1))
        mixed: Tensor = (copies * self.relaxation[:, None, :, None, None]).sum(0)
        return mixed

    def factorised_weight(self) -> Tensor:
        """The weight [l, o, i, u, *k] of the `RelaxedGroupConv` that is this layer, differentiable."""
        return torch.stack([self.factorised_weight_of(a) for a in self.group_weight])

    def reference(self, x: Tensor) -> Tensor:
        """The formulas bank by bank, without bias: every step keeps the element of its output."""
        return self.mixed(torch.cat([self.reference_of(x, a) for a in self.group_weight], 1))
