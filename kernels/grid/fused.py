"""A separable convolution, its norm and its ReLU as one step for inference."""

from typing import Any

import torch
from torch import Tensor, nn

from ..cuda import grid_separable
from ..cuda.launch import executor_for
from .exact import wrapped
from .norm import GroupBatchNorm
from .separable import SeparableGroupConv


class FusedSeparableConv(nn.Module):
    """G-equivariant for group feature maps to group feature maps: exactly for every element of the group.

    relu(norm(conv(x))) of layers that are trained as they are. In evaluation mode and without gradients a GPU computes
    it in one kernel, which reads x, writes the result and stores nothing in between; everywhere else (in training,
    where the statistics of the batch are needed first; where gradients are wanted; on a CPU; in a traced graph; for
    variants other than "pointwise_first") the layers are called one after the other. Both agree to rounding.

    Args:
        conv: the convolution; its parameters stay its own.
        norm: batch norm of its output, or None.
        relu: whether max(0, .) follows.

    Raises:
        ValueError: a norm for another number of channels.

    Example:
        >>> from equiharness.kernels import GroupBatchNorm, SeparableGroupConv
        >>> conv, norm = SeparableGroupConv("C4", 2, 3, 3, padding=1), GroupBatchNorm("C4", 3)
        >>> layer = FusedSeparableConv(conv, norm).eval()
        >>> x = torch.randn(1, 2, 4, 5, 7)
        >>> torch.equal(layer(x), norm(conv(x)).relu())
        True

    Source: as for `SeparableGroupConv` and `GroupBatchNorm`; the affine form of batch norm with known statistics is
    Ioffe & Szegedy, Batch Normalization, ICML 2015, algorithm 2.
    """

    def __init__(self, conv: SeparableGroupConv, norm: GroupBatchNorm | None = None, *, relu: bool = True) -> None:
        super().__init__()
        if norm is not None and norm.num_features != conv.out_channels:
            raise ValueError(f"the norm has {norm.num_features} channels, the convolution {conv.out_channels}")
        self.conv, self.norm, self.relu = conv, norm, relu
        self.backend_ran = ""  # "fused" after a call that the kernel computed, for reports

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, |G|, *space] to [B, out_channels, |G|, *space]."""
        conv = self.conv
        conv.check_input(x, (conv.order,))
        if not torch.compiler.is_compiling():  # a trace must not change the module
            self.backend_ran = ""
        if not self._in_one_kernel(x):
            y: Tensor = conv(x) if self.norm is None else self.norm(conv(x))
            return y.relu() if self.relu else y
        self.backend_ran = "fused"
        out = self._out(x)
        # More windows than voxels: the wrapped box is written out, as the canonical convolution does it.
        x, padding, wrap = wrapped(x, conv.kernel_size, conv.padding, conv.padding_mode)
        scale, shift = self._affine(x.dtype)
        result: Tensor = torch.ops.equiharness.grid_separable(
            x, conv.group_weight, conv.spatial_weight.flatten(1), conv.group_table.int(), conv.spatial_table.int(),
            conv.bias, scale, shift, self.relu, out, conv.stride, padding, wrap, conv.kernel_size,
        )  # fmt: skip
        return result

    def _out(self, x: Tensor) -> list[int]:
        conv = self.conv
        return [(n + 2 * conv.padding - conv.kernel_size) // conv.stride + 1 for n in x.shape[3:]]

    def _in_one_kernel(self, x: Tensor) -> bool:
        """Whether the kernel may compute this call."""
        conv, norm = self.conv, self.norm
        if torch.compiler.is_compiling() or executor_for(x) is None or torch.is_autocast_enabled(x.device.type):
            return False
        if conv.variant != "pointwise_first" or conv.backend not in ("auto", "fast"):
            return False
        if norm is not None and (norm.training or not norm.track_running_stats):
            return False
        wanted: tuple[Any, ...] = (x, *self.parameters())
        if torch.is_grad_enabled() and any(t.requires_grad for t in wanted):
            return False
        if x.dtype != conv.group_weight.dtype:
            return False  # and torch says so
        return grid_separable.takes(x.dtype, self._out(x), conv.stride, conv.kernel_size)

    def _affine(self, dtype: torch.dtype) -> tuple[Tensor | None, Tensor | None]:
        """The norm as scale and shift per channel."""
        norm = self.norm
        if norm is None or norm.running_mean is None or norm.running_var is None:
            return None, None
        scale = (norm.running_var + norm.eps).rsqrt()
        scale = scale if norm.weight is None else scale * norm.weight
        shift = -norm.running_mean * scale
        return scale.to(dtype), (shift if norm.bias is None else shift + norm.bias).to(dtype)
