"""Adapters of torch's plain convolutions: the control without symmetry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from ...harness.adapters.adapter import ON_GRID, Case, Cost, Expected, Family, Feature, Implementation, Value
from ...harness.adapters.operators import GROUP, LIFTING
from ...harness.search.strategies import cases
from ...harness.verdict.codes import Verdict

if TYPE_CHECKING:
    from ...harness.claim.claim import Claim
    from ...harness.search.strategies import Cases

_REASON = "a plain convolution shares no weights over the group: it is the control, which must fail every check."


class _Plain(Implementation):
    """A convolution between scalar fields with a false claim of equivariance."""

    library = "torch"
    install = "pip install torch"
    never = (Feature.BACKENDS, Feature.TWINS)
    #: The properties that must find the claim false; homomorphism only tests the fields.
    expected = tuple(
        Expected(name, Verdict.BROKEN, _REASON)
        for name in ("equivariance", "worst_case", "adjoint", "parameter_gradient", "integration", "composition")
    )

    def strategy(self) -> Cases:
        """Odd kernels, which keep the size."""
        groups = ("C4", "D4") if self.family is Family.PLANAR else ("O", "Oh")
        return cases(group=groups, size=range(3, 8), kernel=(3, 5), channels_in=(1, 2, 3), channels_out=(1, 2, 3))

    def build(self, case: Case, *, device: str, dtype: str, seed: int) -> Claim:
        """The claim of the layer with torch's own random weights."""
        import torch

        from ...harness.claim.claim import Claim
        from ...harness.fields.domains import Grid
        from ...harness.fields.field import Field
        from ...harness.symmetry.groups import group

        torch.manual_seed(seed)
        symmetry = group(case["group"])
        layer = {2: torch.nn.Conv2d, 3: torch.nn.Conv3d}[symmetry.dim](
            case["channels_in"], case["channels_out"], case["kernel"], padding=case["kernel"] // 2
        ).to(device, getattr(torch, dtype))
        box = Grid(*[case["size"]] * symmetry.dim)
        source, target = (Field(box, symmetry, f"{case[n]}*trivial") for n in ("channels_in", "channels_out"))
        return Claim(layer, symmetry, source, target, dtype=getattr(torch, dtype), device=device, seed=seed)

    def lacks(self, case: Case) -> set[Feature]:
        """Elements off the grid for groups of the grid; one field for both ends unless channels and size stay."""
        stays = case["channels_in"] == case["channels_out"] and case["kernel"] % 2 == 1
        grid = (Feature.OFF_GRID,) if case["group"] in ON_GRID else ()
        return {*super().lacks(case), *grid, *(() if stays else (Feature.SAME_FIELDS,))}

    def case_of(self, kind: str, parameters: Mapping[str, Value]) -> Case | None:
        """The plain convolution with the same number of channels, which shows the cost and the savings of symmetry."""
        p = parameters
        if kind not in (LIFTING, GROUP) or (str(p["group"])[0] == "O") != (self.family is Family.OCTAHEDRAL):
            return None
        g = {"O": 24, "Oh": 48}.get(str(p["group"])) or int(str(p["group"])[1:]) * (
            2 if str(p["group"])[0] == "D" else 1
        )
        first = int(p["fields_in"] or 0) * (1 if kind == LIFTING else g)
        channels = {"channels_in": first, "channels_out": int(p["fields_out"] or 0) * g}
        return Case.of(group=p["group"], size=p["size"], kernel=p["kernel"], **channels)

    def cost(self, case: Case) -> Cost:
        """Two flops for each tap of each channel in, channel out and point."""
        d = 2 if self.family is Family.PLANAR else 3
        ci, co, points, taps = case["channels_in"], case["channels_out"], case["size"] ** d, case["kernel"] ** d
        flops, moved = 2.0 * ci * co * taps * points, 4.0 * ((ci + co) * points + ci * co * taps)
        return Cost(flops, moved, 3 * flops, 3 * moved, call_bytes=4.0 * ci * co * taps)


class Conv2d(_Plain):
    """``torch.nn.Conv2d``."""

    name = "torch.nn.Conv2d"
    family = Family.PLANAR

    def cases(self) -> Iterable[Case]:
        """The rotations, and the rotations and reflections; the second can be stacked."""
        yield Case.of(group="C4", size=9, kernel=3, channels_in=3, channels_out=4)
        yield Case.of(group="D4", size=9, kernel=3, channels_in=3, channels_out=3)


class Conv3d(_Plain):
    """``torch.nn.Conv3d``."""

    name = "torch.nn.Conv3d"
    family = Family.OCTAHEDRAL

    def cases(self) -> Iterable[Case]:
        """The rotations of the cube; a layer that can be stacked."""
        yield Case.of(group="O", size=5, kernel=3, channels_in=2, channels_out=2)
