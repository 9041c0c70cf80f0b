"""The layers that escnn and e2cnn share by name and arguments: their fields, cases and costs.

A class or a recipe builds one layer of ``nn`` (the library's own module). ``field_types.py`` holds what the adapters of
both libraries share; ``escnn.py`` and ``e2cnn.py`` add what differs: groups, types, installation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...harness.adapters.adapter import Case, Cost, Feature, Value
from ...harness.adapters.operators import GROUP, LIFTING
from ...harness.search.strategies import cases, listed
from .. import configurations

if TYPE_CHECKING:
    from ...harness.claim.claim import Contract
    from ...harness.search.strategies import Cases


def order_of(group: str) -> int:
    """|C<n>| or |D<n>|."""
    return (2 if group[0] == "D" else 1) * int(group[1:])


def regular(nn: Any, gspace: Any, fields: int) -> Any:
    """A field type of regular fields."""
    return nn.FieldType(gspace, [gspace.regular_repr] * fields)


def irreps(nn: Any, gspace: Any, fields: int) -> Any:
    """A field type of the two-dimensional irreps of frequency 1."""
    irrep = gspace.irrep(1) if gspace.fibergroup.name[0] == "C" else gspace.irrep(1, 1)
    return nn.FieldType(gspace, [irrep] * fields)


class SteerableLayer:
    """One layer on a plane, built by ``layer``. The default cost is one pass over input and output."""

    def cases(self) -> Iterable[Case]:
        """Odd sizes, for which two-fold downsampling is aligned."""
        yield Case.of(group="C4", size=9, fields=2)
        yield Case.of(group="D4", size=9, fields=1)

    def strategy(self) -> Cases:
        """Planar groups, sizes and numbers of fields."""
        return configurations.steerable_pointwise()

    def layer_lacks(self, case: Case) -> set[Feature]:
        """The features that the claim of this layer lacks, whatever its group."""
        return {Feature.TWINS}

    def contract(self, case: Case) -> Contract:
        """The contract for elements off the grid: the error vanishes on fine grids."""
        from ...harness.claim.claim import Approximate

        return Approximate()

    def layer(self, nn: Any, gspace: Any, case: Case) -> Any:
        """The library's module of one case."""
        raise NotImplementedError

    def cost(self, case: Case) -> Cost:
        """One operation for each value, read and written once."""
        values = float(case["fields"] * order_of(case["group"]) * case["size"] ** 2)
        return Cost(values, 8 * values, 2 * values, 16 * values)


class Convolution(SteerableLayer):
    """``R2Conv``, regular to regular, in training mode: the filter is expanded in every call."""

    def case_of(self, kind: str, parameters: Mapping[str, Value]) -> Case | None:
        """Both convolutions on the plane, padded to keep their size."""
        if kind not in (LIFTING, GROUP) or str(parameters["group"])[0] == "O":
            return None
        return _same_size(parameters, **({"source": "trivial"} if kind == LIFTING else {}))

    def cases(self) -> Iterable[Case]:
        """Grid groups, a basis that spans every filter, and C8 with elements off the grid."""
        yield Case.of(group="C4", size=33, kernel=3, stride=1, padding=1, fields_in=4, fields_out=8)
        yield Case.of(group="C4", size=33, kernel=5, stride=2, padding=2, fields_in=4, fields_out=8)
        yield Case.of(group="D4", size=32, kernel=3, stride=1, padding=1, fields_in=4, fields_out=4)
        yield Case.of(group="C4", size=9, kernel=3, stride=1, padding=1, fields_in=2, fields_out=2, cutoff=4.0)
        yield Case.of(group="D4", size=9, kernel=3, stride=2, padding=1, fields_in=1, fields_out=2, cutoff=4.0)
        yield Case.of(group="C8", size=33, kernel=5, stride=1, padding=2, fields_in=2, fields_out=4)

    def strategy(self) -> Cases:
        """Odd and even kernels, on boxes whose symmetry they keep."""
        return configurations.steerable_convolution()

    def layer_lacks(self, case: Case) -> set[Feature]:
        """One field for both ends unless fibre and size stay; a twin exists where the library's adapter makes one."""
        fields = case.parameters.get("source", "regular") == "regular" and case["fields_in"] == case["fields_out"]
        return set() if fields and self.output_size(case) == case["size"] else {Feature.SAME_FIELDS}

    def output_size(self, case: Case) -> int:
        """The number of points on each axis of the output."""
        return int((case["size"] + 2 * case["padding"] - case["kernel"]) // case["stride"] + 1)

    def layer(self, nn: Any, gspace: Any, case: Case) -> Any:
        """The layer with its own basis: by default the libraries share bases between layers of every dtype."""
        cutoff = {"frequencies_cutoff": case["cutoff"]} if "cutoff" in case.parameters else {}
        lifting = case.parameters.get("source") == "trivial"
        trivial = nn.FieldType(gspace, [gspace.trivial_repr] * case["fields_in"])
        return nn.R2Conv(
            trivial if lifting else regular(nn, gspace, case["fields_in"]),
            regular(nn, gspace, case["fields_out"]),
            kernel_size=case["kernel"],
            stride=case["stride"],
            padding=case["padding"],
            recompute=True,
            **cutoff,
        )

    def cost(self, case: Case) -> Cost:
        """The dense convolution of the expanded filter."""
        points = self.output_size(case) ** 2
        return convolution_cost(case, case["size"] ** 2, points, taps_at=points)


class TransposedConvolution(Convolution):
    """``R2ConvTransposed`` with the output padding 0 that keeps the grid centred."""

    def case_of(self, kind: str, parameters: Mapping[str, Value]) -> Case | None:
        """None of the operators."""
        return None

    def cases(self) -> Iterable[Case]:
        """Two-fold upsampling with an odd kernel: n to 2 n - 1."""
        yield Case.of(group="C4", size=9, kernel=3, stride=2, padding=1, fields_in=2, fields_out=2)
        yield Case.of(group="D4", size=8, kernel=5, stride=2, padding=2, fields_in=1, fields_out=1)

    def strategy(self) -> Cases:
        """Every size."""
        return configurations.steerable_transposed()

    def layer_lacks(self, case: Case) -> set[Feature]:
        """A twin; and elements off the grid for a stride."""
        strided = () if case["stride"] == 1 else (Feature.OFF_GRID,)
        return {*super().layer_lacks(case), Feature.TWINS, *strided}

    def output_size(self, case: Case) -> int:
        """The points that the kernel reaches, without the padding."""
        return int((case["size"] - 1) * case["stride"] + case["kernel"] - 2 * case["padding"])

    def contract(self, case: Case) -> Contract:
        """No claim off the grid for a stride, because the phases of the output use different taps.

        A constant input gives a checkerboard, also on fine grids, and rotated by 45 degrees it is another pattern.
        """
        from ...harness.claim.claim import Exact

        return super().contract(case) if case["stride"] == 1 else Exact()

    def layer(self, nn: Any, gspace: Any, case: Case) -> Any:
        """Regular fields in and out."""
        return nn.R2ConvTransposed(
            regular(nn, gspace, case["fields_in"]),
            regular(nn, gspace, case["fields_out"]),
            kernel_size=case["kernel"],
            stride=case["stride"],
            padding=case["padding"],
            output_padding=0,
            recompute=True,
        )

    def cost(self, case: Case) -> Cost:
        """One product for every input point and tap."""
        points = self.output_size(case) ** 2
        return convolution_cost(case, case["size"] ** 2, points, taps_at=case["size"] ** 2)


class VolumeConvolution(Convolution):
    """``R3Conv`` of O and O_h in training mode."""

    def case_of(self, kind: str, parameters: Mapping[str, Value]) -> Case | None:
        """Both convolutions of volumes, padded to keep their size."""
        if kind not in (LIFTING, GROUP) or parameters["group"] not in ("O", "Oh"):
            return None
        return _same_size(parameters, source="trivial" if kind == LIFTING else "regular")

    def cases(self) -> Iterable[Case]:
        """Small cases, because the first basis of each group takes escnn a minute."""
        yield Case.of(group="O", size=5, kernel=3, stride=1, padding=1, fields_in=1, fields_out=1, source="trivial")
        yield Case.of(group="O", size=5, kernel=3, stride=2, padding=1, fields_in=1, fields_out=1, source="regular")
        yield Case.of(group="Oh", size=5, kernel=3, stride=1, padding=1, fields_in=1, fields_out=1, source="trivial")

    def strategy(self) -> Cases:
        """Only the fixed cases, because each new basis takes the libraries a minute."""
        return listed(self.cases())

    def layer(self, nn: Any, gspace: Any, case: Case) -> Any:
        """To regular fields."""
        trivial = nn.FieldType(gspace, [gspace.trivial_repr] * case["fields_in"])
        return nn.R3Conv(
            trivial if case["source"] == "trivial" else regular(nn, gspace, case["fields_in"]),
            regular(nn, gspace, case["fields_out"]),
            kernel_size=case["kernel"],
            stride=case["stride"],
            padding=case["padding"],
            recompute=True,
        )

    def cost(self, case: Case) -> Cost:
        """The dense convolution of the expanded filter."""
        points = self.output_size(case) ** 3
        g, k = {"O": 24, "Oh": 48}[case["group"]], case["kernel"]
        ci = case["fields_in"] * (1 if case["source"] == "trivial" else g)
        return dense_cost(ci, case["fields_out"] * g, k**3, case["size"] ** 3, points, taps_at=points)


class TrivialOutput(SteerableLayer):
    """``R3Conv`` of SO(3) from vectors and scalars to scalars: the outputs are invariant at each point."""

    def cases(self) -> Iterable[Case]:
        """One case: elements of O are exact, the others are judged over resolutions."""
        yield Case.of(group="SO3", size=9, kernel=5, fields_in=1, fields_out=2)

    def strategy(self) -> Cases:
        """One kernel, because its basis takes long to compute, on boxes of every size."""
        return cases(group=("SO3",), size=range(5, 10), kernel=(5,), fields_in=(1, 2), fields_out=(1, 2))

    def layer_lacks(self, case: Case) -> set[Feature]:
        """A twin, and one field for both ends: vectors are among the inputs only."""
        return {Feature.TWINS, Feature.SAME_FIELDS}

    def layer(self, nn: Any, gspace: Any, case: Case) -> Any:
        """Fields of degree 0 and 1 in, of degree 0 out."""
        kinds = [gspace.irrep(degree) for degree in (0, 1)] * case["fields_in"]
        scalars = nn.FieldType(gspace, [gspace.trivial_repr] * case["fields_out"])
        return nn.R3Conv(nn.FieldType(gspace, kinds), scalars, case["kernel"], padding=2, recompute=True)

    def cost(self, case: Case) -> Cost:
        """The dense convolution of the expanded filter."""
        points = case["size"] ** 3
        return dense_cost(
            4 * case["fields_in"], case["fields_out"], case["kernel"] ** 3, points, points, taps_at=points
        )


class QuotientNonlinearity(SteerableLayer):
    """``QuotientFourierPointwise`` of SO(3) on the sphere: it samples, activates and analyses, and keeps scalars."""

    def cases(self) -> Iterable[Case]:
        """A layer that is pointwise in space, with samples on the sphere that the cube's rotations permute."""
        yield Case.of(group="SO3", size=5, channels=2, degree=2)

    def strategy(self) -> Cases:
        """Few points: the layer is pointwise in space."""
        return cases(group=("SO3",), size=range(1, 6), channels=(1, 2, 3), degree=(1, 2))

    def layer_lacks(self, case: Case) -> set[Feature]:
        """Everything: the contract is exact, and the outputs are scalars."""
        return {Feature.OFF_GRID, Feature.PARAMETERS, Feature.SAME_FIELDS, Feature.TWINS}

    def contract(self, case: Case) -> Contract:
        """Only the rotations of the cube, which permute the samples on the sphere.

        Other rotations do not: for inputs of degree 2 an error of 3 to 7% remains on every grid.
        """
        from ...harness.claim.claim import Exact

        return Exact()

    def layer(self, nn: Any, gspace: Any, case: Case) -> Any:
        """Quotient features up to a degree in, their invariant parts out."""
        irreps = gspace.fibergroup.bl_irreps(case["degree"])
        return nn.QuotientFourierPointwise(
            gspace, (False, -1), case["channels"], irreps, out_irreps=[(0,)], grid=cube_directions(gspace)
        )

    def cost(self, case: Case) -> Cost:
        """Two small matrix products at each point, through the samples on the sphere."""
        spectrum, samples = (case["degree"] + 1) ** 2, 26
        values = case["channels"] * case["size"] ** 3
        flops = 2.0 * values * samples * (spectrum + 1)
        return Cost(flops, 4.0 * values * (spectrum + 1), 3 * flops, 12.0 * values * (spectrum + 1))


class FourierNonlinearity(SteerableLayer):
    """``FourierPointwise`` of C8: it samples, activates and analyses band-limited functions on the group."""

    def cases(self) -> Iterable[Case]:
        """As many samples as the cyclic group has elements, so that the group permutes them."""
        yield Case.of(group="C8", size=9, fields=2)

    def strategy(self) -> Cases:
        """Only C8, because the layer has eight samples."""
        return cases(group=("C8",), size=range(1, 12), fields=(1, 2, 3))

    def layer_lacks(self, case: Case) -> set[Feature]:
        """Parameters and a twin."""
        return {Feature.PARAMETERS, Feature.TWINS}

    def layer(self, nn: Any, gspace: Any, case: Case) -> Any:
        """Frequencies up to 2."""
        irreps = gspace.fibergroup.bl_irreps(2)
        return nn.FourierPointwise(gspace, case["fields"], irreps, type="regular", N=8)


def cube_directions(gspace: Any) -> Any:
    """Rotations that move the north pole to the 26 directions of a cube's faces, edges and corners.

    The rotations of the cube permute these directions, so the sampled nonlinearity is exactly equivariant under them.
    """
    import itertools

    import numpy as np

    directions = [np.array(d) / np.linalg.norm(d) for d in itertools.product((-1, 0, 1), repeat=3) if any(d)]
    return [gspace.fibergroup.element(_rotation_to(d), "MAT") for d in directions]


def _rotation_to(direction: Any) -> Any:
    """A rotation whose third column is ``direction``."""
    import numpy as np

    helper = np.eye(3)[int(np.argmin(np.abs(direction)))]
    first = np.cross(helper, direction)
    first = first / np.linalg.norm(first)
    return np.stack([first, np.cross(direction, first), direction], 1)


def _same_size(parameters: Mapping[str, Value], **more: Value) -> Case:
    """The convolution of an operator's geometry with stride 1."""
    p = parameters
    kernel = int(p["kernel"] or 0)
    geometry = {"group": p["group"], "size": p["size"], "kernel": kernel, "stride": 1, "padding": kernel // 2}
    return Case.of(**geometry, fields_in=p["fields_in"], fields_out=p["fields_out"], **more)


def convolution_cost(case: Case, points_in: int, points_out: int, *, taps_at: int) -> Cost:
    """The dense convolution of the expanded filter on a plane."""
    g, k = order_of(case["group"]), case["kernel"]
    ci = case["fields_in"] * (1 if case.parameters.get("source") == "trivial" else g)
    return dense_cost(ci, case["fields_out"] * g, k**2, points_in, points_out, taps_at=taps_at)


def dense_cost(ci: int, co: int, taps: int, points_in: int, points_out: int, *, taps_at: int) -> Cost:
    """Two flops for each multiply-add; input, output and filter are moved once; backward does twice the work."""
    flops = 2.0 * ci * co * taps * taps_at
    moved = 4.0 * (ci * points_in + co * points_out + ci * co * taps)
    return Cost(flops, moved, 3 * flops, 3 * moved, call_bytes=4.0 * ci * co * taps)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a layer without a class of its own is built.

    Args:
        build: (nn, gspace, number of fields) -> module.
        about: the layer in one sentence.
        strided: a stride of 2, which is centred on odd sizes only.
        regroups: channels are regrouped by fields, which neither library can do on an empty batch.
        parameters: the layer has parameters.
        same_fields: (size) -> whether output and input are one field.
    """

    build: Callable[[Any, Any, int], Any]
    about: str
    strided: bool = False
    regroups: bool = False
    parameters: bool = False
    same_fields: Callable[[int], bool] = lambda size: True


def _gated(nn: Any, gspace: Any, fields: int) -> Any:
    kind = nn.FieldType(gspace, [*irreps(nn, gspace, fields).representations, *[gspace.trivial_repr] * fields])
    return nn.GatedNonLinearity1(kind, gates=["gated"] * fields + ["gate"] * fields)


#: By the name of the layer in ``nn``. Padding 1 keeps odd sizes aligned under kernel 3 and stride 2; sigma is the
#: libraries' own example.
RECIPES: Mapping[str, Recipe] = {
    "PointwiseMaxPool": Recipe(
        build=lambda nn, g, n: nn.PointwiseMaxPool(regular(nn, g, n), kernel_size=3, stride=2, padding=1),
        about="kernel 3, stride 2.",
        strided=True,
    ),
    "PointwiseAvgPool": Recipe(
        build=lambda nn, g, n: nn.PointwiseAvgPool(regular(nn, g, n), kernel_size=3, stride=2, padding=1),
        about="kernel 3, stride 2.",
        strided=True,
    ),
    "PointwiseAvgPoolAntialiased": Recipe(
        build=lambda nn, g, n: nn.PointwiseAvgPoolAntialiased(regular(nn, g, n), sigma=0.66, stride=2),
        about="sigma 0.66, stride 2.",
        strided=True,
    ),
    "PointwiseMaxPoolAntialiased": Recipe(
        build=lambda nn, g, n: nn.PointwiseMaxPoolAntialiased(regular(nn, g, n), kernel_size=3, stride=2, padding=1),
        about="kernel 3, stride 2.",
        strided=True,
    ),
    "PointwiseAdaptiveAvgPool": Recipe(
        build=lambda nn, g, n: nn.PointwiseAdaptiveAvgPool(regular(nn, g, n), (3, 3)),
        about="to 3 x 3.",
        same_fields=lambda size: size == 3,
    ),
    "PointwiseAdaptiveMaxPool": Recipe(
        build=lambda nn, g, n: nn.PointwiseAdaptiveMaxPool(regular(nn, g, n), (3, 3)),
        about="to 3 x 3.",
        same_fields=lambda size: size == 3,
    ),
    "R2Upsampling": Recipe(
        build=lambda nn, g, n: nn.R2Upsampling(regular(nn, g, n), scale_factor=2, mode="bilinear", align_corners=True),
        about="two-fold, bilinear, corners aligned.",
        same_fields=lambda size: False,
    ),
    "GroupPooling": Recipe(
        build=lambda nn, g, n: nn.GroupPooling(regular(nn, g, n)),
        about="the maximum over each regular field.",
        regroups=True,
        same_fields=lambda size: False,
    ),
    "NormPool": Recipe(
        build=lambda nn, g, n: nn.NormPool(regular(nn, g, n)),
        about="the norm of each field.",
        regroups=True,
        same_fields=lambda size: False,
    ),
    "ReLU": Recipe(build=lambda nn, g, n: nn.ReLU(regular(nn, g, n)), about="on regular fields."),
    "ELU": Recipe(build=lambda nn, g, n: nn.ELU(regular(nn, g, n)), about="on regular fields."),
    "NormNonLinearity": Recipe(
        build=lambda nn, g, n: nn.NormNonLinearity(irreps(nn, g, n), function="n_relu", bias=True),
        about="ReLU of the norm with a bias, on irreps of frequency 1.",
        regroups=True,
        parameters=True,
    ),
    "GatedNonLinearity1": Recipe(
        build=_gated,
        about="irreps multiplied by the sigmoid of scalars, the gates last.",
        regroups=True,
        parameters=True,
        same_fields=lambda size: False,
    ),
    "InnerBatchNorm": Recipe(
        build=lambda nn, g, n: settled(nn.InnerBatchNorm(regular(nn, g, n))),
        about="on regular fields, in eval mode with statistics of its own.",
        regroups=True,
        parameters=True,
    ),
    "NormBatchNorm": Recipe(
        build=lambda nn, g, n: settled(nn.NormBatchNorm(irreps(nn, g, n))),
        about="on irreps of frequency 1, in eval mode with statistics of its own.",
        regroups=True,
        parameters=True,
    ),
    "GNormBatchNorm": Recipe(
        build=lambda nn, g, n: settled(nn.GNormBatchNorm(irreps(nn, g, n))),
        about="on irreps of frequency 1, in eval mode with statistics of its own.",
        regroups=True,
        parameters=True,
    ),
}


class RecipeLayer(SteerableLayer):
    """A layer that is built by a recipe."""

    recipe: Recipe

    def layer_lacks(self, case: Case) -> set[Feature]:
        """A twin, and what the recipe says; a stride of 2 may keep a size of at most 4, where padding adds as much."""
        same = self.recipe.same_fields(case["size"]) and (not self.recipe.strided or case["size"] <= 4)
        parameters = () if self.recipe.parameters else (Feature.PARAMETERS,)
        return {Feature.TWINS, *parameters, *(() if same else (Feature.SAME_FIELDS,))}

    def strategy(self) -> Cases:
        """Odd sizes only where the stride is 2: on even ones it is off centre."""
        return configurations.steerable_pointwise(range(3, 14, 2)) if self.recipe.strided else super().strategy()

    def layer(self, nn: Any, gspace: Any, case: Case) -> Any:
        """The module that the recipe builds."""
        return self.recipe.build(nn, gspace, case["fields"])


def settled(norm: Any) -> Any:
    """The norm in eval mode with random positive statistics and weights, because 0 and 1 would test nothing."""
    import torch

    with torch.no_grad():
        for name, values in [*norm.named_buffers(), *norm.named_parameters()]:
            if values.is_floating_point() and ("running" in name or "weight" in name):
                values.uniform_(0.5, 1.5)
    return norm.eval()
