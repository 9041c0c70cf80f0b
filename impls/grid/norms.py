"""Adapters of the project's own norms on group feature maps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ...harness.adapters.adapter import Case, Cost, Expected, Feature
from ...harness.verdict.codes import Verdict
from .. import configurations
from .adapter import ORDER, GridAdapter, box_of, cost_of, points_of

if TYPE_CHECKING:
    from ...harness.search.strategies import Cases


class BatchNorm(GridAdapter):
    """``equiharness.kernels.GroupBatchNorm`` in train and eval mode."""

    name = "equiharness.GroupBatchNorm"
    never = (Feature.OFF_GRID, Feature.TWINS)
    expected: tuple[Expected, ...] = (
        Expected(
            "robustness",
            Verdict.BROKEN,
            "in train mode each sample is normalised by the statistics of its batch, as in torch's BatchNorm.",
            when={"mode": "train"},
        ),
    )

    def cases(self) -> Iterable[Case]:
        """Both modes on planes and volumes."""
        for group, size in (("C4", "8x9"), ("D4", 9), ("O", "3x5x4"), ("Oh", 3)):
            for mode in ("train", "eval"):
                yield Case.of(group=group, size=size, mode=mode, fields=2)

    def strategy(self) -> Cases:
        """Both modes."""
        return configurations.grid_pointwise(("eval", "train"))

    def layer(self, case: Case, **where: Any) -> Any:
        """The norm with random statistics and weights."""
        from ... import kernels
        from .networks import settle

        layer = kernels.GroupBatchNorm(case["group"], case["fields"], **where)
        settle(layer)
        return layer.train(case["mode"] == "train")

    def function(self, layer: Any) -> Any:
        """In train mode, the layer on copies of its running statistics: the output does not depend on them."""
        return without_state(layer) if layer.training else layer

    def fibres(self, case: Case) -> tuple[str, str]:
        """Regular fields."""
        return f"{case['fields']}*regular", f"{case['fields']}*regular"

    def output_box(self, case: Case) -> list[int]:
        """The box of the input."""
        return box_of(case)

    def cost(self, case: Case) -> Cost:
        """In eval mode a scale and a shift; in train mode a pass for mean and variance before it."""
        values = float(case["fields"] * ORDER[case["group"]] * points_of(case))
        # One pass for the mean (sum), one for the variance (difference, square, sum), one for scale and shift.
        flops, passes = (6.0, 3.0) if case["mode"] == "train" else (2.0, 2.0)
        return cost_of(flops * values, passes * values)


class InstanceNorm(BatchNorm):
    """``equiharness.kernels.GroupInstanceNorm``: separate statistics for each sample, in both modes."""

    name = "equiharness.GroupInstanceNorm"
    expected = ()

    def cases(self) -> Iterable[Case]:
        """Planes and volumes."""
        for group, size in (("C4", "8x9"), ("D4", 9), ("O", "3x5x4"), ("Oh", 3)):
            yield Case.of(group=group, size=size, mode="train", fields=2)

    def strategy(self) -> Cases:
        """Only train mode: both modes compute the same."""
        return configurations.grid_pointwise(("train",))

    def layer(self, case: Case, **where: Any) -> Any:
        """The norm with random weights."""
        import torch

        from ... import kernels

        layer = kernels.GroupInstanceNorm(case["group"], case["fields"], affine=True, **where)
        for values in layer.parameters():
            torch.nn.init.uniform_(values, 0.5, 1.5)
        return layer

    def function(self, layer: Any) -> Any:
        """The layer itself, because it keeps no statistics."""
        return layer


def without_state(layer: Any) -> Any:
    """A module in train mode as a pure function: its buffers are copied before each call."""
    import torch

    def call(x: Any) -> Any:
        return torch.func.functional_call(layer, {name: b.clone() for name, b in layer.named_buffers()}, (x,))

    return call
