"""Adapters of the project's own steerable convolutions: C_N and D_N on the plane for every N."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ...harness.adapters.adapter import ON_GRID, Case, Cost, Family, Feature, Implementation, Value
from ...harness.adapters.operators import GROUP, LIFTING
from .. import configurations
from .adapter import cost_of

if TYPE_CHECKING:
    from ...harness.claim.claim import Claim
    from ...harness.search.strategies import Cases
    from ...harness.symmetry.groups import Group


class Regular(Implementation):
    """``equiharness.kernels.SteerableConv``: regular to regular fields."""

    name = "equiharness.SteerableConv"
    library = "equiharness"
    family = Family.PLANAR
    kind, reads = "SteerableConv", "regular"
    never = (Feature.BACKENDS,)

    def lacks(self, case: Case) -> set[Feature]:
        """Elements off the grid or a twin, by the group; one field for both ends unless fibre and size stay."""
        stays = self.reads == "regular" and case["fields_in"] == case["fields_out"] and _outputs(case) == case["size"]
        grid = Feature.OFF_GRID if case["group"] in ON_GRID else Feature.TWINS
        return {*super().lacks(case), grid, *(() if stays else (Feature.SAME_FIELDS,))}

    def case_of(self, kind: str, parameters: Mapping[str, Value]) -> Case | None:
        """The convolution on the plane, padded to keep its size."""
        p = parameters
        if kind != (GROUP if self.reads == "regular" else LIFTING) or str(p["group"])[0] == "O":
            return None
        kernel, fields = int(p["kernel"] or 0), (int(p["fields_in"] or 0), int(p["fields_out"] or 0))
        return _case(str(p["group"]), int(p["size"] or 0), kernel, fields=fields, padding=kernel // 2)

    def strategy(self) -> Cases:
        """Groups with and without elements that keep the grid; kernels that they keep or rotate off the grid."""
        return configurations.steerable_convolution()

    def cases(self) -> Iterable[Case]:
        """Groups that keep the grid, groups that do not, odd and even kernels, a stride."""
        yield _case("C4", 9, 3, padding=1)
        yield _case("D4", 9, 5, stride=2, padding=2)
        yield _case("C8", 33, 5, padding=2)
        yield _case("C6", 33, 4)
        yield _case("D5", 33, 5, padding=2, fields=(1, 1))
        yield _case("D8", 33, 5, padding=2, fields=(1, 1))

    def build(self, case: Case, *, device: str, dtype: str, seed: int) -> Claim:
        """The claim of the layer with random weights; elements off the grid are judged in the limit of fine grids."""
        import torch

        from ... import kernels
        from ...harness.claim.claim import Claim
        from ...harness.fields.domains import Grid
        from ...harness.fields.field import Field

        torch.manual_seed(seed)
        layer = getattr(kernels, self.kind)(
            case["group"],
            case["fields_in"],
            case["fields_out"],
            case["kernel"],
            stride=case["stride"],
            padding=case["padding"],
            device=device,
            dtype=getattr(torch, dtype),
        )
        torch.nn.init.normal_(layer.bias)  # the default zero would leave the bias untested
        symmetry = group_of(layer)
        out = _outputs(case)
        return Claim(
            layer,
            symmetry,
            Field(Grid(case["size"], case["size"]), symmetry, f"{case['fields_in']}*{self.reads}", split=True),
            Field(Grid(out, out), symmetry, f"{case['fields_out']}*regular"),
            dtype=getattr(torch, dtype),
            device=device,
            seed=seed,
            modules=(layer,),
            twins=self._twins(layer, case),
        )

    def cost(self, case: Case) -> Cost:
        """The dense convolution of the expanded filter."""
        g = int(case["group"][1:]) * (2 if case["group"][0] == "D" else 1)
        ci, co = case["fields_in"] * (g if self.reads == "regular" else 1), case["fields_out"] * g
        taps, new = case["kernel"] ** 2, _outputs(case) ** 2
        weights = ci * co * taps / g
        return cost_of(2.0 * ci * co * taps * new, ci * case["size"] ** 2 + co * new + weights, call_values=weights)

    def _twins(self, layer: Any, case: Case) -> tuple[Any, ...]:
        """If all elements keep the grid: the layer that rotates filters by permuting their taps."""
        from ..twins import on_the_grid

        return (lambda: on_the_grid(layer),) if 4 % int(case["group"][1:]) == 0 else ()


class Lifting(Regular):
    """``equiharness.kernels.SteerableLiftingConv``: scalars to a regular field."""

    name = "equiharness.SteerableLiftingConv"
    kind, reads = "SteerableLiftingConv", "trivial"


def group_of(layer: Any) -> Group:
    """The harness's group with the layer's elements, in the layer's order."""
    from ...harness.symmetry import groups

    return groups.group_of(layer.group.elements, layer.group.name)


def _outputs(case: Case) -> int:
    return int((case["size"] + 2 * case["padding"] - case["kernel"]) // case["stride"] + 1)


def _case(group: str, size: int, kernel: int, *, fields: tuple[int, int] = (1, 2), **options: int) -> Case:
    geometry = {"stride": 1, "padding": 0, **options}
    return Case.of(group=group, size=size, kernel=kernel, **geometry, fields_in=fields[0], fields_out=fields[1])
