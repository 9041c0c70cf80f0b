"""Normalisation of group feature maps: statistics shared over the group and space."""

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from .geometry import check_fibre
from .groups import GroupLike, grid_group


class GroupBatchNorm(_BatchNorm):
    """G-equivariant for group feature maps: for every element of the group, exactly to the rounding of sums.

    y_c = (F_c - mean_c) / sqrt(var_c + eps) * weight_c + bias_c with mean and variance over batch, group and space:
    sets that (L_u F)(x, h) = F(u^-1 x, u^-1 h) permutes. Parameters, running statistics, train and eval are those of
    torch's batch norm; ``torch.nn.SyncBatchNorm.convert_sync_batchnorm`` keeps the symmetry.

    Args:
        group: as for `LiftingConv`.
        num_features: channels C of the input [B, C, |G|, *space].
        eps: added to the variance.
        momentum: of the running statistics; None for a cumulative average.
        affine: whether there are weight [C] and bias [C].
        track_running_stats: whether eval uses running statistics.
        device: of parameters and buffers.
        dtype: of parameters and buffers.

    Raises:
        ValueError: an input that is no group feature map of this group with C channels.

    Example:
        >>> GroupBatchNorm("C4", 8)(torch.randn(2, 8, 4, 5, 7)).shape
        torch.Size([2, 8, 4, 5, 7])

    Source: Ioffe & Szegedy, Batch Normalization, ICML 2015; shared over the group as in Cohen & Welling, Group
    Equivariant Convolutional Networks, ICML 2016, section 8.
    """

    def __init__(
        self,
        group: GroupLike,
        num_features: int,
        *,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device=device, dtype=dtype)
        self.group = grid_group(group)
        self.order = self.group.order
        self.dim = self.group.dim

    def _check_input_dim(self, input: Tensor) -> None:
        """Called by torch's forward on the flattened input, whose shape `forward` has checked."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, |G|, *space] to the same shape."""
        check_fibre(x, (self.num_features, self.order), self.dim, type(self).__name__)
        return super().forward(x.flatten(2)).view(x.shape)


class GroupInstanceNorm(_InstanceNorm):
    """G-equivariant for group feature maps: for every element of the group, exactly to the rounding of sums.

    y_c = (F_c - mean_c) / sqrt(var_c + eps) * weight_c + bias_c with mean and variance over group and space, for each
    sample by itself: sets that (L_u F)(x, h) = F(u^-1 x, u^-1 h) permutes.

    Args:
        group: as for `LiftingConv`.
        num_features: channels C of the input [B, C, |G|, *space].
        eps: added to the variance.
        momentum: of the running statistics.
        affine: whether there are weight [C] and bias [C].
        track_running_stats: whether eval uses running statistics.
        device: of parameters and buffers.
        dtype: of parameters and buffers.

    Raises:
        ValueError: an input that is no group feature map of this group with C channels.

    Example:
        >>> GroupInstanceNorm("C4", 8)(torch.randn(2, 8, 4, 5, 7)).shape
        torch.Size([2, 8, 4, 5, 7])

    Source: Ulyanov, Vedaldi & Lempitsky, Instance Normalization, 2016, shared over the group.
    """

    def __init__(
        self,
        group: GroupLike,
        num_features: int,
        *,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device=device, dtype=dtype)
        self.group = grid_group(group)
        self.order = self.group.order
        self.dim = self.group.dim

    def _check_input_dim(self, input: Tensor) -> None:
        """Called by torch's forward on the flattened input, whose shape `forward` has checked."""

    def _get_no_batch_dim(self) -> int:
        """Dimensions of an unbatched [C, L]; the flattened input is always [B, C, L]."""
        return 2

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, |G|, *space] to the same shape."""
        check_fibre(x, (self.num_features, self.order), self.dim, type(self).__name__)
        if x.shape[0] == 0:  # not len(x), which would export the layer for one batch size
            return x.clone()  # torch's instance norm reads the first sample
        return super().forward(x.flatten(2)).view(x.shape)
