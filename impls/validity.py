"""Layers as functions of their geometry, for validity maps: ours, escnn's and e2cnn's, on the plane under C4.

Claims are made in float32 on one field in and out, so that a map of thousands of geometries takes minutes.
"""

from __future__ import annotations

import functools
import importlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..harness.records.validity import Geometry

if TYPE_CHECKING:
    from ..harness.claim.claim import Claim

#: Values of the parameters of each family of layers; None if a family does not have the parameter.
WINDOW = {"kernels": (1, 2, 3, 4, 5), "strides": (1, 2, 3), "paddings": (0, 1)}
TRANSPOSED = {**WINDOW, "sizes": (4, 5), "output_paddings": (0, 1, 2)}
BLUR = {"kernels": (None,), "strides": (1, 2, 3), "paddings": (None,)}
FACTOR = {"kernels": (None,), "strides": (2, 3), "paddings": (None,)}


@dataclass(frozen=True)
class MappedLayer:
    """A layer, its library, its geometries (arguments of ``suites.survey.validity.sweep``), and its claim."""

    name: str
    library: str
    axes: dict[str, Any]
    build: Callable[[Geometry], Claim]


def layers() -> Iterator[MappedLayer]:
    """Every layer of ours, escnn and e2cnn whose output depends on a geometry; only installed libraries are used."""
    yield from _ours()
    from ..harness.installed import distribution_version

    for library in ("escnn", "e2cnn"):
        if distribution_version(library) is not None:
            yield from _steerable(library)


def _ours() -> Iterator[MappedLayer]:
    window: dict[str, tuple[str, str, dict[str, Any]]] = {
        "LiftingConv": ("trivial", "regular", {}),
        "GroupConv": ("regular", "regular", {}),
        "SeparableGroupConv": ("regular", "regular", {}),
        "SeparableGroupConv depthwise first": ("regular", "regular", {"variant": "depthwise_first"}),
        "SeparableGroupConv per pair": ("regular", "regular", {"variant": "per_pair"}),
        "RelaxedLiftingConv": ("trivial", "regular", {"banks": 2}),
        "RelaxedGroupConv": ("regular", "regular", {"banks": 2}),
        "RelaxedSeparableGroupConv": ("regular", "regular", {"banks": 2}),
        "VectorLift": ("standard", "regular", {}),
        "VectorProjection": ("regular", "standard", {}),
        "SteerableLiftingConv": ("trivial", "regular", {}),
        "SteerableConv": ("regular", "regular", {}),
    }
    for name, (reads, writes, options) in window.items():
        make = functools.partial(_our_convolution, name.partition(" ")[0], reads, writes, options)
        yield MappedLayer(name, "equiharness", WINDOW, make)
    for name, reads in (
        ("TransposedLiftingConv", "trivial"),
        ("TransposedGroupConv", "regular"),
        ("TransposedSeparableGroupConv", "regular"),
    ):
        yield MappedLayer(
            name, "equiharness", TRANSPOSED, functools.partial(_our_convolution, name, reads, "regular", {})
        )
    yield MappedLayer("AntialiasedPool", "equiharness", BLUR, functools.partial(_our_resampling, "AntialiasedPool"))
    yield MappedLayer("Upsample", "equiharness", FACTOR, functools.partial(_our_resampling, "Upsample"))


def _our_convolution(kind: str, reads: str, writes: str, options: dict[str, Any], geometry: Geometry) -> Claim:
    import torch

    from .. import kernels

    torch.manual_seed(0)
    given = {"stride": geometry.stride, "padding": geometry.padding, "output_padding": geometry.output_padding}
    layer = getattr(kernels, kind)(
        "C4",
        1,
        1,
        geometry.kernel,
        allow_misaligned=True,
        **options,
        **{k: v for k, v in given.items() if v is not None},
    )
    return _claim(layer, layer.group, reads, writes, geometry.size)


def _our_resampling(kind: str, geometry: Geometry) -> Claim:
    from .. import kernels

    options = {"stride": geometry.stride} if kind == "AntialiasedPool" else {"scale_factor": geometry.stride}
    return _claim(getattr(kernels, kind)("C4", **options), "C4", "regular", "regular", geometry.size)


def _claim(layer: Any, symmetry: Any, reads: str, writes: str, size: int) -> Claim:
    """The claim between fields of one kind each; the target has the grid of the layer's output."""
    import torch

    from ..harness.claim.claim import Claim
    from ..harness.fields.domains import Grid
    from ..harness.fields.field import Field
    from ..harness.symmetry.groups import Group, group

    found = group(symmetry) if isinstance(symmetry, str) else Group(symmetry.elements, symmetry.name)
    source = Field(Grid(size, size), found, reads, split=True)
    with torch.no_grad():
        y = layer(torch.zeros(source.tensor_shape(1)))
    return Claim(layer, found, source, Field(Grid(*y.shape[-2:]), found, writes), dtype=torch.float32)


def _steerable(library: str) -> Iterator[MappedLayer]:
    kinds: dict[str, dict[str, Any]] = {
        "R2Conv": {**WINDOW, "kernels": (2, 3, 4, 5)},
        "R2ConvTransposed": {**TRANSPOSED, "kernels": (3, 5)},
        "PointwiseMaxPool": WINDOW,
        "PointwiseAvgPool": WINDOW,
        "PointwiseMaxPoolAntialiased": {**WINDOW, "kernels": (2, 3, 4)},
        "PointwiseAvgPoolAntialiased": BLUR,
        "PointwiseAdaptiveAvgPool": {"kernels": (None,), "strides": (1, 2, 3), "paddings": (None,)},
        "PointwiseAdaptiveMaxPool": {"kernels": (None,), "strides": (1, 2, 3), "paddings": (None,)},
        "R2Upsampling": FACTOR,
    }
    for kind, axes in kinds.items():
        yield MappedLayer(kind, library, axes, functools.partial(_library_layer, library, kind))


def _library_layer(library: str, kind: str, geometry: Geometry) -> Claim:
    """The claim of a library's layer between regular fields of C4."""
    import torch

    from ..harness.claim.claim import Claim
    from ..harness.fields.domains import Grid
    from ..harness.fields.field import Field

    torch.manual_seed(0)
    reader = importlib.import_module(f".peers.{library}", __package__).TypeReader()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nn = importlib.import_module(f"{library}.nn")
        space = _plane(library)
        field = nn.FieldType(space, [space.regular_repr])
        layer = _LIBRARY[kind](nn, field, geometry)
        typed = reader.layer(layer)
        source = Field(Grid(geometry.size, geometry.size), typed.group, typed.source)
        with torch.no_grad():
            y = typed.function(torch.zeros(source.tensor_shape(1)))
    target = Field(Grid(*y.shape[-2:]), typed.group, typed.target)
    return Claim(typed.function, typed.group, source, target, dtype=torch.float32, modules=(layer,))


def _plane(library: str) -> Any:
    gspaces = importlib.import_module(f"{library}.gspaces")
    return gspaces.rot2dOnR2(4) if library == "escnn" else gspaces.Rot2dOnR2(4)


def _window(geometry: Geometry) -> dict[str, Any]:
    return {"kernel_size": geometry.kernel, "stride": geometry.stride, "padding": geometry.padding}


#: Functions that build a library's layer for a geometry. Blurs take a stride, adaptive pools the size of the output
#: with that stride, and upsampling a factor.
_LIBRARY: dict[str, Callable[[Any, Any, Geometry], Any]] = {
    "R2Conv": lambda nn, f, geometry: nn.R2Conv(f, f, recompute=True, **_window(geometry)),
    "R2ConvTransposed": lambda nn, f, geometry: nn.R2ConvTransposed(
        f, f, recompute=True, output_padding=geometry.output_padding, **_window(geometry)
    ),
    "PointwiseMaxPool": lambda nn, f, geometry: nn.PointwiseMaxPool(f, **_window(geometry)),
    "PointwiseAvgPool": lambda nn, f, geometry: nn.PointwiseAvgPool(f, **_window(geometry)),
    "PointwiseMaxPoolAntialiased": lambda nn, f, geometry: nn.PointwiseMaxPoolAntialiased(f, **_window(geometry)),
    "PointwiseAvgPoolAntialiased": lambda nn, f, geometry: nn.PointwiseAvgPoolAntialiased(
        f, sigma=0.66, stride=geometry.stride
    ),
    "PointwiseAdaptiveAvgPool": lambda nn, f, geometry: nn.PointwiseAdaptiveAvgPool(
        f, geometry.size // (geometry.stride or 1)
    ),
    "PointwiseAdaptiveMaxPool": lambda nn, f, geometry: nn.PointwiseAdaptiveMaxPool(
        f, geometry.size // (geometry.stride or 1)
    ),
    "R2Upsampling": lambda nn, f, geometry: nn.R2Upsampling(f, scale_factor=geometry.stride),
}
