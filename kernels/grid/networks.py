"""Whole networks from the grid layers, as worked examples: a wide residual classifier and a U-Net."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .groups import GroupLike, grid_group
from .norm import GroupBatchNorm
from .pooling import GlobalPool, GroupPool
from .regular import GroupConv, LiftingConv
from .resample import AntialiasedPool, Upsample
from .vector import VectorProjection


class GroupResBlock(nn.Module):
    """G-equivariant for group feature maps to group feature maps: exactly for every element of the group.

    norm - ReLU - conv - norm - ReLU - conv plus a shortcut, as in a wide residual network; the shortcut is the
    identity, or a 1x1 convolution where channels or stride change.

    Args:
        group: as for `LiftingConv`.
        in_channels: channels of the input [B, in_channels, |G|, *space].
        out_channels: channels of the output [B, out_channels, |G|, *space].
        stride: of the first convolution; with stride 2 every axis must be odd.
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        ValueError: an input of the wrong shape, or a box that the stride would misalign.

    Example:
        >>> GroupResBlock("C4", 2, 3, stride=2)(torch.randn(2, 2, 4, 9, 9)).shape
        torch.Size([2, 3, 4, 5, 5])

    Source: Zagoruyko & Komodakis, Wide Residual Networks, BMVC 2016, on group feature maps.
    """

    def __init__(
        self,
        group: GroupLike,
        in_channels: int,
        out_channels: int,
        *,
        stride: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        made: dict[str, Any] = {"device": device, "dtype": dtype}
        self.branch = nn.Sequential(
            GroupBatchNorm(group, in_channels, **made),
            nn.ReLU(),
            GroupConv(group, in_channels, out_channels, 3, stride=stride, padding=1, bias=False, **made),
            GroupBatchNorm(group, out_channels, **made),
            nn.ReLU(),
            GroupConv(group, out_channels, out_channels, 3, padding=1, bias=False, **made),
        )
        same = in_channels == out_channels and stride == 1
        self.shortcut: nn.Module = (
            nn.Identity() if same else GroupConv(group, in_channels, out_channels, 1, stride=stride, bias=False, **made)
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, |G|, *space] to [B, out_channels, |G|, *smaller]."""
        y: Tensor = self.branch(x) + self.shortcut(x)
        return y


class GroupWideResNet(nn.Sequential):
    """G-invariant for planes or volumes, a classifier: exactly for every element of the group.

    A lifting convolution, three stages of `GroupResBlock` at strides 1, 2, 2, then norm, ReLU, the mean over group and
    space, and a linear map to logits.

    Args:
        group: as for `LiftingConv`.
        in_channels: channels of the input [B, in_channels, *space]; every axis of length 4 n + 1.
        classes: logits [B, classes].
        widths: channels of the three stages; a feature map has |G| times as many values.
        blocks: residual blocks in each stage.
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        ValueError: an input of the wrong shape, or a box that a stride would misalign.

    Example:
        >>> GroupWideResNet("D4", 3, 10, widths=(2, 4, 4))(torch.randn(2, 3, 33, 33)).shape
        torch.Size([2, 10])

    Source: Zagoruyko & Komodakis, Wide Residual Networks, BMVC 2016; its regular-field form, Weiler & Cesa, General
    E(2)-Equivariant Steerable CNNs, NeurIPS 2019, section 4.
    """

    def __init__(
        self,
        group: GroupLike,
        in_channels: int,
        classes: int,
        *,
        widths: tuple[int, int, int] = (8, 16, 32),
        blocks: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        made: dict[str, Any] = {"device": device, "dtype": dtype}
        layers: list[nn.Module] = [LiftingConv(group, in_channels, widths[0], 3, padding=1, bias=False, **made)]
        before = widths[0]
        for width, stride in zip(widths, (1, 2, 2), strict=True):
            for index in range(blocks):
                layers.append(GroupResBlock(group, before, width, stride=1 if index else stride, **made))
                before = width
        layers += [GroupBatchNorm(group, before, **made), nn.ReLU(), GlobalPool(group, "mean")]
        super().__init__(*layers, nn.Linear(before, classes, **made))


class GroupUNet(nn.Module):
    """G-equivariant for planes or volumes to dense outputs: exactly for every element of the group.

    An encoder of convolutions and antialiased pooling, a decoder of linear upsampling and convolutions, skips between
    equal sizes; then a head.

    Args:
        group: as for `LiftingConv`.
        in_channels: channels of the input [B, in_channels, *space]; every axis a multiple of 2^(levels - 1).
        out_channels: channels of the output.
        head: "trivial" for scalars [B, out_channels, *space], the maximum over the group; "regular" for group feature
            maps [B, out_channels, |G|, *space]; "standard" for vectors [B, out_channels, d, *space].
        widths: channels at each level, fine to coarse.
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        ValueError: an unknown head, or an input of the wrong shape.

    Example:
        >>> GroupUNet("C4", 1, 2, head="standard", widths=(2, 4))(torch.randn(1, 1, 16, 12)).shape
        torch.Size([1, 2, 2, 16, 12])

    Source: Ronneberger, Fischer & Brox, U-Net, MICCAI 2015, on group feature maps.
    """

    def __init__(
        self,
        group: GroupLike,
        in_channels: int,
        out_channels: int,
        *,
        head: str = "trivial",
        widths: Sequence[int] = (4, 8, 16),
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if head not in ("trivial", "regular", "standard"):
            raise ValueError(f"head must be 'trivial', 'regular' or 'standard'; got {head!r}")
        made: dict[str, Any] = {"device": device, "dtype": dtype}
        self.dim = grid_group(group).dim
        self.levels = len(widths)
        self.lift = LiftingConv(group, in_channels, widths[0], 3, padding=1, **made)
        before = (widths[0], *widths[:-1])
        self.encoder = nn.ModuleList(_stage(group, a, b, **made) for a, b in zip(before, widths, strict=True))
        finer = list(zip(widths[1:], widths[:-1], strict=True))[::-1]
        self.decoder = nn.ModuleList(_stage(group, a + b, b, **made) for a, b in finer)
        self.down = AntialiasedPool(group)
        self.up = Upsample(group)
        last = {"padding": 1, **made}
        if head == "standard":
            self.head: nn.Module = VectorProjection(group, widths[0], out_channels, 3, **last)
        else:
            regular = GroupConv(group, widths[0], out_channels, 3, **last)
            self.head = nn.Sequential(regular, GroupPool(group, "max")) if head == "trivial" else regular

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, *space] to the head's output on the same box."""
        step = 2 ** (self.levels - 1)
        if any(n % step for n in x.shape[-self.dim :]):
            raise ValueError(
                f"GroupUNet halves its box {self.levels - 1} times: every axis must be a multiple of {step}, "
                f"got {tuple(x.shape[-self.dim :])}; pad or crop evenly on both sides"
            )
        y, skips = self.lift(x), []
        for level, stage in enumerate(self.encoder):
            y = stage(self.down(y) if level else y)
            skips.append(y)
        for stage, skip in zip(self.decoder, skips[-2::-1], strict=True):
            y = stage(torch.cat([self.up(y), skip], 1))
        out: Tensor = self.head(y)
        return out


def _stage(group: GroupLike, in_channels: int, out_channels: int, **made: Any) -> nn.Sequential:
    return nn.Sequential(
        GroupConv(group, in_channels, out_channels, 3, padding=1, bias=False, **made),
        GroupBatchNorm(group, out_channels, **made),
        nn.ReLU(),
    )
