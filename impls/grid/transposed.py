"""Adapters of the project's own transposed convolutions, which map to finer grids with the same centre."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ...harness.adapters.adapter import Case, Cost
from .. import configurations
from .adapter import ORDER, box_of, points_of
from .convolutions import Convolution, case_of

if TYPE_CHECKING:
    from ...harness.search.strategies import Cases


class TransposedRegular(Convolution):
    """``equiharness.kernels.TransposedGroupConv``: regular to regular fields."""

    name = "equiharness.TransposedGroupConv"
    kind, reads, writes = "TransposedGroupConv", "regular", "regular"

    def cases(self) -> Iterable[Case]:
        """Odd and even boxes and kernels, strides with and without a remainder, the exact backend."""
        yield _case("C4", "5x6", 4, stride=2, padding=1)
        yield _case("C4", 5, 3, stride=2, padding=1, backend="exact")
        yield _case("D4", 4, 3, stride=3)
        yield _case("O", "2x3x2", 2, stride=2, fields=(1, 1))
        yield _case("Oh", 2, 3, stride=2, padding=1, fields=(1, 1))

    def strategy(self) -> Cases:
        """Every kernel, stride and padding on boxes of every size."""
        return configurations.grid_transposed()

    def output_box(self, case: Case) -> list[int]:
        """The points that the kernel reaches from the input's points, without the padding."""
        free = int(case["kernel"]) - 2 * int(case["padding"])
        return [(n - 1) * int(case["stride"]) + free for n in box_of(case)]

    def cost(self, case: Case) -> Cost:
        """The dense transposed convolution: one product for every input point and tap."""
        ci, co = self._channels(case)
        return self._cost(case, 2.0 * ci * co * self._taps(case) * points_of(case), self._weights(case))


class TransposedLifting(TransposedRegular):
    """``equiharness.kernels.TransposedLiftingConv``: scalars to a regular field."""

    name = "equiharness.TransposedLiftingConv"
    kind, reads, writes = "TransposedLiftingConv", "trivial", "regular"


class TransposedSeparable(TransposedRegular):
    """``equiharness.kernels.TransposedSeparableGroupConv``: regular to regular, separate steps for group and space."""

    name = "equiharness.TransposedSeparableGroupConv"
    kind = "TransposedSeparableGroupConv"

    def cases(self) -> Iterable[Case]:
        """The three variants on planes and volumes."""
        yield _case("C4", "5x6", 4, stride=2, padding=1, variant="pointwise_first")
        yield _case("D4", 5, 3, stride=2, padding=1, variant="depthwise_first", backend="exact")
        yield _case("D4", 4, 3, stride=3, variant="per_pair")
        yield _case("O", "2x3x2", 4, stride=2, padding=1, fields=(1, 2), variant="pointwise_first")
        yield _case("Oh", 2, 2, stride=2, fields=(2, 1), variant="depthwise_first")

    def strategy(self) -> Cases:
        """Transposed convolutions with each variant."""
        return configurations.grid_transposed(variant=("pointwise_first", "depthwise_first", "per_pair"))

    def cost(self, case: Case) -> Cost:
        """The mix Ci Co |G|^2 at the points of its step, and one multiply-add per tap and input of the spatial step."""
        g, (ci, co), taps = ORDER[case["group"]], self._channels(case), self._taps(case)
        n, m, pairs = points_of(case), self._outputs(case), case["fields_in"] * case["fields_out"]
        if case["variant"] == "pointwise_first":
            work, filters = ci * co * n + co * taps * n, case["fields_out"]
        elif case["variant"] == "depthwise_first":
            work, filters = ci * taps * n + ci * co * m, case["fields_in"]
        else:
            work, filters = ci * co * taps * n, pairs
        return self._cost(case, 2.0 * work, pairs * g + filters * taps)


def _case(group: str, size: int | str, kernel: int, *, fields: tuple[int, int] = (2, 2), **options: object) -> Case:
    case = case_of(group, size, kernel, fields=fields, **options)
    return Case.of(**{name: value for name, value in case.parameters.items() if name != "padding_mode"})
