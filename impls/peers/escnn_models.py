"""Whole networks from escnn's modules: a wide residual classifier and a U-Net with the layout of our networks.

This module imports escnn; the adapters import the module only when they build. Every convolution computes its own
basis: escnn shares bases between layers, and converting one network to float64 would convert the next one too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import escnn.nn as enn


class ResBlock(enn.EquivariantModule):
    """norm - ReLU - conv - norm - ReLU - conv plus a shortcut, on regular fields."""

    def __init__(self, in_type: Any, out_type: Any, stride: int = 1) -> None:
        super().__init__()
        self.in_type, self.out_type = in_type, out_type
        self.branch = enn.SequentialModule(
            enn.InnerBatchNorm(in_type),
            enn.ReLU(in_type),
            _conv(in_type, out_type, 3, padding=1, stride=stride, bias=False),
            enn.InnerBatchNorm(out_type),
            enn.ReLU(out_type),
            _conv(out_type, out_type, 3, padding=1, bias=False),
        )
        same = in_type == out_type and stride == 1
        self.shortcut = None if same else _conv(in_type, out_type, 1, stride=stride, bias=False)

    def forward(self, x: Any) -> Any:
        """Map a geometric tensor of ``in_type`` to one of ``out_type``."""
        return self.branch(x) + (x if self.shortcut is None else self.shortcut(x))

    def evaluate_output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the branch's output."""
        shape: tuple[int, ...] = self.branch.evaluate_output_shape(input_shape)
        return shape


class WideResNet(enn.EquivariantModule):
    """Scalars to invariants: lifting, three residual stages at strides 1, 2, 2, pooling over group and space."""

    def __init__(self, gspace: Any, in_channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        fields = [enn.FieldType(gspace, n * [gspace.regular_repr]) for n in (widths[0], *widths)]
        self.in_type = enn.FieldType(gspace, in_channels * [gspace.trivial_repr])
        blocks = [ResBlock(a, b, s) for a, b, s in zip(fields, fields[1:], (1, 2, 2), strict=False)]
        self.features = enn.SequentialModule(
            _conv(self.in_type, fields[0], 3, padding=1, bias=False),
            *blocks,
            enn.InnerBatchNorm(fields[-1]),
            enn.ReLU(fields[-1]),
        )
        self.pool = enn.GroupPooling(fields[-1])
        self.out_type = self.pool.out_type

    def forward(self, x: Any) -> Any:
        """Map a geometric tensor to one of trivial fields on a single point."""
        y = self.pool(self.features(x))
        return enn.GeometricTensor(y.tensor.mean((-2, -1), keepdim=True), self.out_type)

    def evaluate_output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """One point."""
        return (input_shape[0], self.out_type.size, 1, 1)


class UNet(enn.EquivariantModule):
    """Scalars to dense regular fields: antialiased pooling down, bilinear upsampling up, a skip between equal sizes.

    The network has two levels and needs an odd ``size``: escnn's pooling maps 2 n - 1 to n, and its upsampling with
    aligned corners maps back to the given size (a factor of 2 would give 2 n).
    """

    def __init__(self, gspace: Any, in_channels: int, widths: Sequence[int], size: int) -> None:
        super().__init__()
        fine, coarse = (enn.FieldType(gspace, n * [gspace.regular_repr]) for n in widths)
        both = enn.FieldType(gspace, sum(widths) * [gspace.regular_repr])
        self.in_type = enn.FieldType(gspace, in_channels * [gspace.trivial_repr])
        self.out_type = fine
        self.lift = _conv(self.in_type, fine, 3, padding=1)
        self.fine = _stage(fine, fine)
        self.down = enn.PointwiseAvgPoolAntialiased(fine, sigma=0.66, stride=2)
        self.coarse = _stage(fine, coarse)
        self.up = enn.R2Upsampling(coarse, size=size, mode="bilinear", align_corners=True)
        self.join = _stage(both, fine)
        self.head = _conv(fine, fine, 3, padding=1)

    def forward(self, x: Any) -> Any:
        """Map a geometric tensor to one of the same size."""
        skip = self.fine(self.lift(x))
        up = self.up(self.coarse(self.down(skip)))
        return self.head(self.join(enn.tensor_directsum([up, skip])))

    def evaluate_output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The same box."""
        return (input_shape[0], self.out_type.size, *input_shape[2:])


def _conv(in_type: Any, out_type: Any, kernel_size: int, **options: Any) -> Any:
    return enn.R2Conv(in_type, out_type, kernel_size, recompute=True, **options)


def _stage(in_type: Any, out_type: Any) -> Any:
    return enn.SequentialModule(
        _conv(in_type, out_type, 3, padding=1, bias=False), enn.InnerBatchNorm(out_type), enn.ReLU(out_type)
    )
