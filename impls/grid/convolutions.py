"""Adapters of the project's own grid convolutions: scalars, vectors and group feature maps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ...harness.adapters.adapter import Case, Cost, Feature, Value
from ...harness.adapters.operators import GROUP, LIFTING
from .. import configurations
from .adapter import DIM, ORDER, GridAdapter, box_of, cost_of, points_of

if TYPE_CHECKING:
    from ...harness.search.strategies import Cases


class Convolution(GridAdapter):
    """A convolution of ``equiharness.kernels``; subclasses define its class, its fibres and its cases."""

    never = (Feature.OFF_GRID,)
    kind: str
    reads: str
    writes: str
    #: The operator for comparisons with other implementations.
    operator: str = ""

    def case_of(self, kind: str, parameters: Mapping[str, Value]) -> Case | None:
        """The same size on the groups of the grid, padded to keep it."""
        p = parameters
        if kind != self.operator or p["group"] not in ORDER:
            return None
        fields = (int(p["fields_in"] or 0), int(p["fields_out"] or 0))
        kernel = int(p["kernel"] or 0)
        size = str(p["size"])
        return case_of(str(p["group"]), size, kernel, fields=fields, padding=kernel // 2, **self.settings())

    def settings(self) -> dict[str, Value]:
        """The parameters of a case in addition to its geometry."""
        return {}

    def strategy(self) -> Cases:
        """Every kernel, stride and padding, on boxes whose symmetry they keep."""
        return configurations.grid_convolution()

    def layer(self, case: Case, **where: Any) -> Any:
        """The layer with a bias that is not zero."""
        import torch

        from ... import kernels

        options = ("stride", "padding", "padding_mode", "variant", "backend", "banks")
        layer = getattr(kernels, self.kind)(
            case["group"],
            case["fields_in"],
            case["fields_out"],
            case["kernel"],
            **{name: case[name] for name in options if name in case.parameters},
            **where,
        )
        if layer.bias is not None:
            torch.nn.init.normal_(layer.bias)  # the default zero would leave the bias untested
        return layer

    def fibres(self, case: Case) -> tuple[str, str]:
        """The fields of input and output, with the numbers of the case."""
        return f"{case['fields_in']}*{self.reads}", f"{case['fields_out']}*{self.writes}"

    def cost(self, case: Case) -> Cost:
        """The dense convolution: two flops for each tap of each channel in, channel out and output point."""
        ci, co = self._channels(case)
        return self._cost(case, 2.0 * ci * co * self._taps(case) * self._outputs(case), self._weights(case))

    def _cost(self, case: Case, flops: float, weights: float) -> Cost:
        ci, co = self._channels(case)
        return cost_of(flops, ci * points_of(case) + co * self._outputs(case) + weights, call_values=weights)

    def _channels(self, case: Case) -> tuple[int, int]:
        g, d = ORDER[case["group"]], DIM[case["group"]]
        size = {"trivial": 1, "standard": d, "regular": g}
        return case["fields_in"] * size[self.reads], case["fields_out"] * size[self.writes]

    def _weights(self, case: Case) -> float:
        ci, co = self._channels(case)
        return ci * co * self._taps(case) / ORDER[case["group"]]

    @staticmethod
    def _taps(case: Case) -> int:
        return int(case["kernel"] ** DIM[case["group"]])

    def output_box(self, case: Case) -> list[int]:
        """The centres of the kernel, with padding and stride."""
        p = case.parameters
        free = 2 * int(p.get("padding") or 0) - int(case["kernel"])
        return [(n + free) // int(p.get("stride") or 1) + 1 for n in box_of(case)]

    def _outputs(self, case: Case) -> int:
        return math.prod(self.output_box(case))


class Lifting(Convolution):
    """``equiharness.kernels.LiftingConv``: scalars to a regular field."""

    name = "equiharness.LiftingConv"
    operator = LIFTING
    kind, reads, writes = "LiftingConv", "trivial", "regular"

    def cases(self) -> Iterable[Case]:
        """Odd and even boxes and kernels, strides, both paddings, in two and three dimensions."""
        yield case_of("C4", 33, 3, padding=1, fields=(3, 4))
        yield case_of("C4", "8x12", 4, stride=2, padding=1, fields=(3, 2))
        yield case_of("D4", 9, 5, stride=2, padding=2, fields=(3, 2))
        yield case_of("D4", "8x9", 3, padding=1, padding_mode="circular", fields=(3, 2))
        yield case_of("O", "3x5x4", 2, padding=1, fields=(2, 1))
        yield case_of("Oh", 4, 2, stride=2, fields=(2, 1))
        yield case_of("D4", "8x9", 3, padding=1, backend="exact")


class Regular(Convolution):
    """``equiharness.kernels.GroupConv``: regular to regular fields."""

    name = "equiharness.GroupConv"
    operator = GROUP
    compiler = "inductor"
    kind, reads, writes = "GroupConv", "regular", "regular"

    def cases(self) -> Iterable[Case]:
        """As for the lifting layer, with regular inputs."""
        yield case_of("C4", 17, 3, padding=1, fields=(2, 4))
        yield case_of("C4", "8x12", 4, stride=2, padding=1)
        yield case_of("D4", 9, 5, stride=2, padding=2)
        yield case_of("D4", "8x9", 3, padding=1, padding_mode="circular")
        yield case_of("O", "3x4x3", 3, padding=1, fields=(1, 1))
        yield case_of("Oh", 3, 2, fields=(1, 1))
        yield case_of("D4", 9, 3, stride=2, padding=1, backend="exact")


class Separable(Convolution):
    """``equiharness.kernels.SeparableGroupConv``: regular to regular fields, in separate steps for group and space."""

    name = "equiharness.SeparableGroupConv"
    operator = GROUP
    kind, reads, writes = "SeparableGroupConv", "regular", "regular"

    def settings(self) -> dict[str, Value]:
        """The variant that mixes first, as separable convolutions are published."""
        return {"variant": "pointwise_first"}

    def cases(self) -> Iterable[Case]:
        """The three variants on planes and volumes."""
        yield case_of("C4", "8x12", 4, stride=2, padding=1, variant="pointwise_first")
        yield case_of("D4", 9, 3, stride=2, padding=1, variant="depthwise_first")
        yield case_of("D4", "8x9", 3, padding=1, padding_mode="circular", variant="per_pair")
        yield case_of("O", "3x5x4", 2, padding=1, fields=(1, 2), variant="pointwise_first")
        yield case_of("O", 4, 2, stride=2, fields=(2, 1), variant="per_pair")
        yield case_of("Oh", 3, 2, fields=(2, 1), variant="depthwise_first")
        yield case_of("D4", 9, 3, stride=2, padding=1, variant="pointwise_first", backend="exact")

    def strategy(self) -> Cases:
        """Convolutions with each variant."""
        return configurations.grid_convolution(variant=("pointwise_first", "depthwise_first", "per_pair"))

    def cost(self, case: Case) -> Cost:
        """The mix Ci Co |G|^2 and the depthwise step C |G| k^d, each at the points of its step."""
        g, (ci, co), taps = ORDER[case["group"]], self._channels(case), self._taps(case)
        m, pairs = self._outputs(case), case["fields_in"] * case["fields_out"]
        if case["variant"] == "pointwise_first":
            work, filters = ci * co * points_of(case) + co * taps * m, case["fields_out"]
        elif case["variant"] == "depthwise_first":
            work, filters = ci * taps * m + ci * co * m, case["fields_in"]
        else:
            work, filters = ci * co * taps * m, pairs
        return self._cost(case, 2.0 * work, pairs * g + filters * taps)


class VectorLift(Convolution):
    """``equiharness.kernels.VectorLift``: vector fields to regular fields."""

    name = "equiharness.VectorLift"
    kind, reads, writes = "VectorLift", "standard", "regular"

    def cases(self) -> Iterable[Case]:
        """Odd and even boxes, a stride."""
        yield case_of("C4", 9, 3, stride=2, padding=1)
        yield case_of("D4", "8x9", 3, padding=1, padding_mode="circular")
        yield case_of("O", "3x5x4", 2, padding=1, fields=(1, 1))
        yield case_of("Oh", 3, 2, fields=(1, 1))


class VectorProjection(VectorLift):
    """``equiharness.kernels.VectorProjection``: regular fields to vector fields."""

    name = "equiharness.VectorProjection"
    kind, reads, writes = "VectorProjection", "regular", "standard"


def case_of(group: str, size: int | str, kernel: int, *, fields: tuple[int, int] = (2, 2), **options: Any) -> Case:
    """A case of a convolution: stride 1, no padding and zeros unless the options say otherwise."""
    geometry = {"stride": 1, "padding": 0, "padding_mode": "zeros", **options}
    return Case.of(group=group, size=size, kernel=kernel, **geometry, fields_in=fields[0], fields_out=fields[1])
