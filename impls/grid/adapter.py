"""The base class of the adapters of the project's own grid layers, and the reader of the layers' types."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ...harness.adapters.adapter import Case, Cost, Family, Feature, Implementation
from ...harness.errors import UsageError
from ...harness.fields.library_types import TypedLayer

if TYPE_CHECKING:
    from ...harness.claim.claim import Claim
    from ...harness.symmetry.groups import Group
    from ...harness.symmetry.representations import Fibre

#: Order and dimension of the groups in the fixed cases.
ORDER = {"C4": 4, "D4": 8, "O": 24, "Oh": 48}
DIM = {"C4": 2, "D4": 2, "O": 3, "Oh": 3}


class GridAdapter(Implementation):
    """One of the project's grid layers. Subclasses build the layer and name its fibres.

    A case names its group and the size of its box, one number or one for each axis ("7x9").
    """

    library = "equiharness"
    family = Family.PLANAR
    never: tuple[Feature, ...] = (Feature.OFF_GRID, Feature.PARAMETERS, Feature.TWINS)
    #: aot_eager only traces and differentiates; inductor generates code, and only one layer of each family uses it.
    compiler = "aot_eager"

    def family_of(self, case: Case) -> Family:
        """The family of a case: one class covers planes and volumes, and the group of the case decides."""
        return Family.PLANAR if DIM[case["group"]] == 2 else Family.OCTAHEDRAL

    def build(self, case: Case, *, device: str, dtype: str, seed: int) -> Claim:
        """The claim of the layer with random weights, between the fields that ``fibres`` names."""
        import torch

        from ...harness.claim.claim import Claim
        from ...harness.fields.domains import Grid, Vector
        from ...harness.fields.field import Field
        from ...harness.symmetry.groups import group
        from ..twins import of_layer

        torch.manual_seed(seed)
        layer = self.layer(case, device=device, dtype=getattr(torch, dtype))
        reads, writes = self.fibres(case)
        symmetry = group(case["group"])
        source = Field(Grid(*box_of(case)), symmetry, reads, split=True)
        function = self.function(layer)
        with torch.no_grad():
            y = function(torch.zeros(source.tensor_shape(2), device=device, dtype=getattr(torch, dtype)))
        out = Grid(*y.shape[-symmetry.dim :]) if y.dim() > symmetry.dim else Vector()
        return Claim(
            function,
            symmetry,
            source,
            Field(out, symmetry, writes),
            dtype=getattr(torch, dtype),
            device=device,
            seed=seed,
            modules=(layer,),
            twins=of_layer(layer),
            backends=self.backends(function) if self.leads(case) else (),
        )

    def lacks(self, case: Case) -> set[Feature]:
        """Backends except in the leading case; one field for both ends unless fibre and box stay."""
        reads, writes = self.fibres(case)
        box = self.output_box(case)
        stays = reads == writes and box in (None, box_of(case))
        backends = () if self.leads(case) else (Feature.BACKENDS,)
        return {*super().lacks(case), *backends, *(() if stays else (Feature.SAME_FIELDS,))}

    def output_box(self, case: Case) -> list[int] | None:
        """Lengths of the axes of the output; None if they are known only after a call."""
        return None

    def layer(self, case: Case, **where: Any) -> Any:
        """The module of one case; ``where`` are its device and dtype."""
        raise NotImplementedError

    def backends(self, function: Any) -> tuple[str, ...]:
        """The backends of the leading case of a family: a compiler and export."""
        import torch

        return (self.compiler, "export") if isinstance(function, torch.nn.Module) else (self.compiler,)

    def function(self, layer: Any) -> Any:
        """The function of the claim: by default the module itself."""
        return layer

    def fibres(self, case: Case) -> tuple[str, str]:
        """Fibres of input and output."""
        raise NotImplementedError


def box_of(case: Case) -> list[int]:
    """Lengths of the axes of a case's box."""
    sizes = [int(n) for n in str(case["size"]).split("x")]
    return sizes if len(sizes) > 1 else sizes * DIM[case["group"]]


def cost_of(flops: float, values: float, backward: float = 3.0, call_values: float = 0.0) -> Cost:
    """The cost from flops and moved float32 values of forward; ``backward`` times as much with backward included.

    ``call_values`` of the values are weights, which one call reads once.

    The default of ``backward`` fits a layer with weights: the gradients of input and weights double the work each.
    """
    return Cost(flops, 4 * values, backward * flops, backward * 4 * values, call_bytes=4 * call_values)


def points_of(case: Case) -> int:
    """The number of points of a case's box."""
    return math.prod(box_of(case))


class TypeReader:
    """Reads group, kind and number of fields from the project's own layers."""

    def layer(self, layer: Any) -> TypedLayer | None:
        """The claim of a layer; pools accept any number of fields and are checked with two."""
        from ... import kernels
        from ...harness.symmetry.groups import group_of

        # Source and target fibre of one field, and the attributes with the numbers of fields.
        convolution, norm = ("in_channels", "out_channels"), ("num_features", "num_features")
        known = {
            kernels.LiftingConv: ("trivial", "regular", *convolution),
            kernels.GroupConv: ("regular", "regular", *convolution),
            kernels.SeparableGroupConv: ("regular", "regular", *convolution),
            kernels.TransposedLiftingConv: ("trivial", "regular", *convolution),
            kernels.TransposedGroupConv: ("regular", "regular", *convolution),
            kernels.TransposedSeparableGroupConv: ("regular", "regular", *convolution),
            kernels.RelaxedLiftingConv: ("trivial", "regular", *convolution),
            kernels.RelaxedGroupConv: ("regular", "regular", *convolution),
            kernels.RelaxedSeparableGroupConv: ("regular", "regular", *convolution),
            kernels.SteerableLiftingConv: ("trivial", "regular", *convolution),
            kernels.SteerableConv: ("regular", "regular", *convolution),
            kernels.VectorLift: ("standard", "regular", *convolution),
            kernels.VectorProjection: ("regular", "standard", *convolution),
            kernels.GroupBatchNorm: ("regular", "regular", *norm),
            kernels.GroupInstanceNorm: ("regular", "regular", *norm),
            kernels.GroupPool: ("regular", "trivial", "", ""),
            kernels.GlobalPool: ("regular", "trivial", "", ""),
        }
        if type(layer) not in known:
            from ..spherical.convolutions import typed_layer

            return typed_layer(layer)
        reads, writes, fields_in, fields_out = known[type(layer)]
        source, target = (
            f"{getattr(layer, count, 2)}*{kind}" for count, kind in ((fields_in, reads), (fields_out, writes))
        )
        return TypedLayer(layer, group_of(layer.group.elements, layer.group.name), source, target, split=True)

    def fibre(self, spec: object, of: Group | None) -> tuple[Group, Fibre]:
        """The project's layers have no field types of their own."""
        raise UsageError(f"{spec!r} is not a field type: write the fibre as a sum such as '8*regular'.")
