"""Pooling over the group, and over the group and space."""

from torch import Tensor, nn

from .geometry import check_fibre
from .groups import GroupLike, grid_group


class _Pool(nn.Module):
    """Reduces trailing axes of a group feature map by maximum or mean."""

    def __init__(self, group: GroupLike, mode: str = "max") -> None:
        super().__init__()
        if mode not in ("max", "mean"):
            raise ValueError(f"mode must be 'max' or 'mean'; got {mode!r}")
        self.group = grid_group(group)
        self.order = self.group.order
        self.dim = self.group.dim
        self.mode = mode

    def extra_repr(self) -> str:
        return f"{self.group.name}, mode={self.mode}"

    def _reduce(self, x: Tensor, axes: tuple[int, ...]) -> Tensor:
        channels = x.shape[1] if x.dim() > 1 else 0
        check_fibre(x, (channels, self.order), self.dim, type(self).__name__)
        # amax shares the gradient among ties, which is equivariant; max(dim) gives it to the first index, which is not.
        return x.amax(axes) if self.mode == "max" else x.mean(axes)


class GroupPool(_Pool):
    """G-equivariant for group feature maps to planes or volumes: exactly for every element of the group.

    y(X) = max_g F(X, g) or the mean over g: (L_u F)(x, h) = F(u^-1 x, u^-1 h) becomes (L_u y)(x) = y(u^-1 x).

    Args:
        group: as for `LiftingConv`.
        mode: "max" or "mean". Input [B, C, |G|, *space], output [B, C, *space], same dtype.

    Raises:
        ValueError: an unknown mode, or an input that is no group feature map of this group.

    Example:
        >>> import torch
        >>> GroupPool("C4")(torch.randn(2, 8, 4, 9, 7)).shape
        torch.Size([2, 8, 9, 7])

    Source: Cohen & Welling, Group Equivariant Convolutional Networks, ICML 2016, section 6.3 (coset pooling).
    """

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, |G|, *space] to [B, C, *space]."""
        return self._reduce(x, (2,))


class GlobalPool(_Pool):
    """G-invariant for group feature maps: exactly for every element of the group (the mean, to rounding).

    y = max_{X,g} F(X, g) or the mean: the output does not change when the input moves.

    Args:
        group: as for `LiftingConv`.
        mode: "max" or "mean". Input [B, C, |G|, *space], output [B, C], same dtype.

    Raises:
        ValueError: an unknown mode, or an input that is no group feature map of this group.

    Example:
        >>> import torch
        >>> GlobalPool("O", "mean")(torch.randn(2, 8, 24, 5, 5, 5)).shape
        torch.Size([2, 8])

    Source: Cohen & Welling, Group Equivariant Convolutional Networks, ICML 2016, section 6.3 (coset pooling).
    """

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, |G|, *space] to [B, C]."""
        return self._reduce(x, tuple(range(2, 3 + self.dim)))
