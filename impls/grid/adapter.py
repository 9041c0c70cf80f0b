"""What the adapters of the project's own grid layers share: how a claim is put together, and the reader of types."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ...harness.adapters.adapter import Case, Cost, Family, Implementation
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
    """One of the project's grid layers. Subclasses make the layer and say its fibres.

    A case names its group and the size of its box, one number or one for each axis ("7x9").
    """

    library = "equiharness"
    family = Family.PLANAR
    #: Tracing and differentiation alone; inductor, which writes and compiles code, takes one layer of each family.
    compiler = "aot_eager"

    def family_of(self, case: Case) -> Family:
        """One class serves planes and volumes; the group of the case tells."""
        return Family.PLANAR if DIM[case["group"]] == 2 else Family.OCTAHEDRAL

    def build(self, case: Case, *, device: str, dtype: str, seed: int) -> Claim:
        """The layer on random weights between the fields that ``fibres`` names."""
        import torch

        from ...harness.claim.claim import Claim
        from ...harness.fields.domains import Grid, Vector
        from ...harness.fields.field import Field
        from ...harness.symmetry.groups import group
        from ..twins import of_layer

        torch.manual_seed(seed)
        layer = self.layer(case, device=device, dtype=getattr(torch, dtype))
        reads, writes = self.fibres(case)
        of = group(case["group"])
        source = Field(Grid(*box_of(case)), of, reads, split=True)
        function = self.function(layer)
        with torch.no_grad():
            y = function(torch.zeros(source.tensor_shape(2), device=device, dtype=getattr(torch, dtype)))
        out = Grid(*y.shape[-of.dim :]) if y.dim() > of.dim else Vector()
        return Claim(
            function,
            of,
            source,
            Field(out, of, writes),
            dtype=getattr(torch, dtype),
            device=device,
            seed=seed,
            modules=(layer,),
            twins=of_layer(layer),
            backends=self.backends(function) if self.leads(case) else (),
        )

    def layer(self, case: Case, **where: Any) -> Any:
        """The module of one case; ``where`` are its device and dtype."""
        raise NotImplementedError

    def backends(self, function: Any) -> tuple[str, ...]:
        """What the leading case of a family is compiled with, and exported."""
        import torch

        return (self.compiler, "export") if isinstance(function, torch.nn.Module) else (self.compiler,)

    def function(self, layer: Any) -> Any:
        """What of the module is claimed: its own call."""
        return layer

    def fibres(self, case: Case) -> tuple[str, str]:
        """Fibres of input and output."""
        raise NotImplementedError


def box_of(case: Case) -> list[int]:
    """Lengths of the axes of a case's box."""
    sizes = [int(n) for n in str(case["size"]).split("x")]
    return sizes if len(sizes) > 1 else sizes * DIM[case["group"]]


def cost_of(flops: float, values: float, backward: float = 3.0, call_values: float = 0.0) -> Cost:
    """Flops and float32 values moved forward; ``backward`` times as much for forward and backward together.

    ``call_values`` of the values are weights, which one call reads once.

    A layer with weights does its forward's work twice more: the gradient of its input, and that of its weights.
    """
    return Cost(flops, 4 * values, backward * flops, backward * 4 * values, call_bytes=4 * call_values)


def points_of(case: Case) -> int:
    """Points of a case's box."""
    return math.prod(box_of(case))


class TypeReader:
    """Reads what the project's own layers say of themselves: group, kind and number of fields."""

    def layer(self, layer: Any) -> TypedLayer | None:
        """The claim of a layer; pools take any number of fields, and two stand for them."""
        from ... import kernels
        from ...harness.symmetry.groups import Group

        # Source and target fibre of one field, and the attributes that count the fields.
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
        return TypedLayer(layer, Group(layer.group.elements, layer.group.name), source, target, split=True)

    def fibre(self, spec: object, of: Group | None) -> tuple[Group, Fibre]:
        """The project's layers have no field types of their own."""
        raise UsageError(f"{spec!r} is no field type: write the fibre as a sum such as '8*regular'.")
