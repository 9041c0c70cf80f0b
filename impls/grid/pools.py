"""Adapters of the project's own pools: over the group, over group and space, and onto coarser and finer grids."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ...harness.adapters.adapter import Case, Cost
from .. import configurations
from .adapter import DIM, ORDER, GridAdapter, box_of, cost_of, points_of

if TYPE_CHECKING:
    from ...harness.search.strategies import Cases


class GroupPooling(GridAdapter):
    """``equiharness.kernels.GroupPool``: regular to scalar fields."""

    name = "equiharness.GroupPool"

    def cases(self) -> Iterable[Case]:
        """Maximum and mean, plane and volume."""
        for group, size in (("C4", 33), ("D4", "8x9"), ("O", "3x5x4"), ("Oh", 3)):
            for mode in ("max", "mean"):
                yield Case.of(group=group, size=size, mode=mode, fields=4 if group == "C4" else 2)

    def strategy(self) -> Cases:
        """Both modes."""
        return configurations.grid_pointwise(("mean", "max"))

    def layer(self, case: Case, **where: Any) -> Any:
        """The layer, which has no weights."""
        from ... import kernels

        return kernels.GroupPool(case["group"], case["mode"])

    def fibres(self, case: Case) -> tuple[str, str]:
        """Regular fields to the same number of scalars."""
        return f"{case['fields']}*regular", f"{case['fields']}*trivial"

    def cost(self, case: Case) -> Cost:
        """One operation for each value that is read."""
        read = float(case["fields"] * ORDER[case["group"]] * points_of(case))
        return cost_of(read, read + read / ORDER[case["group"]], backward=2)


class GlobalPooling(GroupPooling):
    """``equiharness.kernels.GlobalPool``: regular fields to invariants."""

    name = "equiharness.GlobalPool"

    def layer(self, case: Case, **where: Any) -> Any:
        """The layer, which has no weights."""
        from ... import kernels

        return kernels.GlobalPool(case["group"], case["mode"])

    def cost(self, case: Case) -> Cost:
        """One operation for each value that is read."""
        read = float(case["fields"] * ORDER[case["group"]] * points_of(case))
        return cost_of(read, read + case["fields"], backward=2)


class _Resampling(GridAdapter):
    """A layer that acts only on space, for any fibre."""

    def fibres(self, case: Case) -> tuple[str, str]:
        """The same on both sides."""
        return case["fibre"], case["fibre"]

    @staticmethod
    def _channels(case: Case) -> int:
        count, kind = case["fibre"].split("*")
        return int(count) * {"trivial": 1, "standard": DIM[case["group"]], "regular": ORDER[case["group"]]}[kind]


class AntialiasedPooling(_Resampling):
    """``equiharness.kernels.AntialiasedPool``: a Gaussian blur, then every second or third point about the centre."""

    name = "equiharness.AntialiasedPool"

    def cases(self) -> Iterable[Case]:
        """Every kind of fibre; strides with odd and even remainders; both paddings."""
        yield _pool("C4", "12x9", 2, "zeros", "2*regular")
        yield _pool("D4", "10x13", 3, "circular", "2*standard")
        yield _pool("O", "4x5x7", 2, "zeros", "1*standard")
        yield _pool("Oh", 4, 2, "zeros", "1*regular")

    def layer(self, case: Case, **where: Any) -> Any:
        """The layer, which has no weights."""
        from ... import kernels

        return kernels.AntialiasedPool(
            case["group"], sigma=case["sigma"], stride=case["stride"], padding_mode=case["padding_mode"]
        )

    def strategy(self) -> Cases:
        """Every stride and border on boxes of every size."""
        return configurations.grid_pool()

    def output_box(self, case: Case) -> list[int]:
        """Every ``stride``-th point."""
        return [-(-n // case["stride"]) for n in box_of(case)]

    def cost(self, case: Case) -> Cost:
        """One axis after the other: two flops for each tap of the 3 sigma window and each remaining value."""
        taps = 2 * max(round(3 * case["sigma"]), case["stride"] // 2) + 1
        box, channels, flops = box_of(case), self._channels(case), 0.0
        for axis, n in enumerate(box):
            box[axis] = -(-n // case["stride"])
            flops += 2.0 * taps * channels * math.prod(box)
        return cost_of(flops, channels * (points_of(case) + math.prod(box)), backward=2)


class Upsampling(_Resampling):
    """``equiharness.kernels.Upsample``: linear interpolation about the centre of the box."""

    name = "equiharness.Upsample"

    def cases(self) -> Iterable[Case]:
        """Both conventions of the border, whole and fractional factors, planes and volumes."""
        yield _up("C4", "6x9", 2, "bilinear", False, "2*regular")
        yield _up("D4", 7, 1.5, "bilinear", True, "2*standard")
        yield _up("O", "3x5x4", 2, "trilinear", True, "1*standard")
        yield _up("Oh", 3, 1.5, "trilinear", False, "1*regular")

    def layer(self, case: Case, **where: Any) -> Any:
        """The layer, which has no weights."""
        from ... import kernels

        return kernels.Upsample(case["group"], case["scale"], mode=case["mode"], align_corners=case["align_corners"])

    def output_box(self, case: Case) -> list[int]:
        """``scale`` times as many points, rounded down."""
        return [int(n * case["scale"]) for n in box_of(case)]

    def strategy(self) -> Cases:
        """Whole and fractional factors."""
        return configurations.grid_upsampling()

    def cost(self, case: Case) -> Cost:
        """One multiply-add for each of the 2^d corners of each new value."""
        channels = self._channels(case)
        new = channels * math.prod(self.output_box(case))
        return cost_of(2.0 * 2 ** DIM[case["group"]] * new, channels * points_of(case) + new, backward=2)


def _pool(group: str, size: int | str, stride: int, padding_mode: str, fibre: str) -> Case:
    return Case.of(group=group, size=size, stride=stride, sigma=0.66, padding_mode=padding_mode, fibre=fibre)


def _up(group: str, size: int | str, scale: float, mode: str, align_corners: bool, fibre: str) -> Case:
    return Case.of(group=group, size=size, scale=scale, mode=mode, align_corners=align_corners, fibre=fibre)
