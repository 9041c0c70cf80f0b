"""Coarser and finer grids that stay centred on their box."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .conv import CONV
from .groups import GroupLike, grid_group

_LINEAR = {2: "bilinear", 3: "trilinear"}


class AntialiasedPool(nn.Module):
    """G-equivariant for every kind of field: exactly (to the rounding of sums) for every signed permutation.

    y(X) = sum_t w(t) x(sX + t), a normalised Gaussian w(t) ~ exp(-t^2 / 2 sigma^2) on each axis, at the
    n = ceil(N / s) centres s (X - (n - 1)/2) about the centre of the box. Their distance to the voxels decides on each
    axis between taps at integer offsets and taps at half-integer offsets, so every length is aligned, and none refused.

    Args:
        group: as for `LiftingConv`; only its number of axes d matters. Input [B, C, *space], [B, C, |G|, *space] or
            [B, C, d, *space]: all axes before the last d are carried along.
        sigma: standard deviation of the Gaussian, in voxels.
        stride: s, equal on all axes.
        padding_mode: "zeros" or "circular".

    Raises:
        ValueError: a sigma that is not positive, a wrong stride or padding mode, or too few axes.

    Example:
        >>> AntialiasedPool("C4", sigma=0.66)(torch.ones(1, 8, 4, 9, 6)).shape
        torch.Size([1, 8, 4, 5, 3])

    Source: Zhang, Making Convolutional Networks Shift-Invariant Again, ICML 2019 (blur, then subsample).
    """

    def __init__(self, group: GroupLike, *, sigma: float = 0.66, stride: int = 2, padding_mode: str = "zeros") -> None:
        super().__init__()
        if not sigma > 0:
            raise ValueError(f"sigma must be positive; got {sigma!r}")
        if not isinstance(stride, int) or stride < 1:
            raise ValueError(f"stride must be one integer >= 1, the same on all axes; got {stride!r}")
        if padding_mode not in ("zeros", "circular"):
            raise ValueError(f"padding_mode must be 'zeros' or 'circular'; got {padding_mode!r}")
        self.dim = grid_group(group).dim
        self.sigma = float(sigma)
        self.stride = stride
        self.padding_mode = padding_mode
        # 99.7% of a Gaussian lies within 3 sigma; s // 2 makes neighbouring windows meet, so that no voxel is skipped.
        self.radius = max(round(3 * sigma), stride // 2)

    def extra_repr(self) -> str:
        """The arguments, as torch's own layers print them."""
        return f"d={self.dim}, sigma={self.sigma}, stride={self.stride}, padding_mode={self.padding_mode}"

    def taps(self, size: int, like: Tensor) -> Tensor:
        """The normalised Gaussian [k] for an axis of this length, in the dtype and on the device of ``like``.

        k is 2 R + 1 (integer offsets) or 2 R + 2 (half-integer offsets), R = max(round(3 sigma), s // 2).
        """
        k = 2 * self.radius + 1 + (self._span(size) + 1) % 2
        offset = torch.arange(k, dtype=torch.float64, device=like.device) - (k - 1) / 2
        gaussian = torch.exp(-(offset**2) / (2 * self.sigma**2))
        return (gaussian / gaussian.sum()).to(like.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """[B, ..., *space] to [B, ..., *coarser], each axis of length ceil(N / s)."""
        lead = _leading_axes(x, self.dim, type(self).__name__)
        y = x.flatten(1, lead - 1) if lead > 2 else x
        for axis, size in enumerate(x.shape[lead:]):
            y = self._blur(y, axis, self.taps(size, x))
        return y.view(*x.shape[:lead], *y.shape[2:])

    def _span(self, size: int) -> int:
        """N - s (n - 1): how many voxels the first and the last centre leave over, 1 to s."""
        return size - self.stride * (-(-size // self.stride) - 1)

    def _blur(self, x: Tensor, axis: int, taps: Tensor) -> Tensor:
        """Strided correlation of [B, C, *space] along one axis, padded so that N + 2p - k = s (n - 1)."""
        along = [int(a == axis) for a in range(self.dim)]
        padding = (len(taps) - self._span(x.shape[2 + axis])) // 2
        paddings, strides = [padding * a for a in along], [(self.stride - 1) * a + 1 for a in along]
        if self.padding_mode == "circular":
            # F.pad counts axes from the last one.
            x = F.pad(x, [p for p in reversed(paddings) for _ in range(2)], mode="circular")
            paddings = [0] * self.dim
        filters = taps.view(1, 1, *(len(taps) if a else 1 for a in along)).expand(x.shape[1], 1, *(-1,) * self.dim)
        return CONV[self.dim](x, filters, stride=strides, padding=paddings, groups=x.shape[1])


class Upsample(nn.Module):
    """G-equivariant for every kind of field: exactly (to the rounding of sums) for every signed permutation.

    Linear interpolation onto a finer grid with the same centre. torch's interpolate is called with ``size=``: with a
    fractional ``scale_factor`` it keeps the corner of the box in place instead of the centre (1.5 at N = 5).

    Args:
        group: as for `LiftingConv`; only its number of axes d matters. Input [B, C, *space], [B, C, |G|, *space] or
            [B, C, d, *space]: all axes before the last d are carried along.
        scale_factor: the output has floor(N * scale_factor) voxels on an axis.
        mode: "bilinear" (d = 2) or "trilinear" (d = 3); chosen by the group if not given.
        align_corners: whether the outermost voxel centres coincide, instead of the outermost voxel faces.

    Raises:
        ValueError: a mode of the other dimension, a scale factor that is not positive, or too few axes.

    Example:
        >>> Upsample("O")(torch.ones(1, 8, 24, 4, 4, 5)).shape
        torch.Size([1, 8, 24, 8, 8, 10])

    Source: linear interpolation; the centred grids are this project's convention.
    """

    def __init__(
        self, group: GroupLike, scale_factor: float = 2, *, mode: str | None = None, align_corners: bool = False
    ) -> None:
        super().__init__()
        self.dim = grid_group(group).dim
        if mode not in (None, _LINEAR[self.dim]):
            raise ValueError(f"mode must be {_LINEAR[self.dim]!r} for a group acting on {self.dim} axes; got {mode!r}")
        if not scale_factor > 0:
            raise ValueError(f"scale_factor must be positive; got {scale_factor!r}")
        self.mode = _LINEAR[self.dim]
        self.scale_factor = scale_factor
        self.align_corners = align_corners

    def extra_repr(self) -> str:
        """The arguments, as torch's own layers print them."""
        return f"d={self.dim}, scale_factor={self.scale_factor}, align_corners={self.align_corners}"

    def forward(self, x: Tensor) -> Tensor:
        """[B, ..., *space] to [B, ..., *finer]."""
        lead = _leading_axes(x, self.dim, type(self).__name__)
        size = [int(n * self.scale_factor) for n in x.shape[lead:]]
        flat = x.flatten(1, lead - 1) if lead > 2 else x
        y = F.interpolate(flat, size=size, mode=self.mode, align_corners=self.align_corners)
        return y.view(*x.shape[:lead], *size)


def _leading_axes(x: Tensor, dim: int, layer: str) -> int:
    """Number of axes before space; at least batch and channels."""
    if x.dim() < 2 + dim:
        raise ValueError(f"{layer} takes an input [B, C, ..., *space] with {dim} spatial axes; got {list(x.shape)}")
    return x.dim() - dim
