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

#: The parameters that a family of layers has beside the size of the box, and values for those it has few of.
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
    """Every layer of ours, escnn and e2cnn whose outputs depend on a geometry; a library's only if it is installed."""
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


def _our_convolution(kind: str, reads: str, writes: str, options: dict[str, Any], at: Geometry) -> Claim:
    import torch

    from .. import kernels

    torch.manual_seed(0)
    given = {"stride": at.stride, "padding": at.padding, "output_padding": at.output_padding}
    layer = getattr(kernels, kind)(
        "C4", 1, 1, at.kernel, allow_misaligned=True, **options, **{k: v for k, v in given.items() if v is not None}
    )
    return _claim(layer, layer.group, reads, writes, at.size)


def _our_resampling(kind: str, at: Geometry) -> Claim:
    from .. import kernels

    options = {"stride": at.stride} if kind == "AntialiasedPool" else {"scale_factor": at.stride}
    return _claim(getattr(kernels, kind)("C4", **options), "C4", "regular", "regular", at.size)


def _claim(layer: Any, of: Any, reads: str, writes: str, size: int) -> Claim:
    """The claim between fields of one kind each, the target on whatever grid the layer makes."""
    import torch

    from ..harness.claim.claim import Claim
    from ..harness.fields.domains import Grid
    from ..harness.fields.field import Field
    from ..harness.symmetry.groups import Group, group

    found = group(of) if isinstance(of, str) else Group(of.elements, of.name)
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


def _library_layer(library: str, kind: str, at: Geometry) -> Claim:
    """The claim of a library's layer between regular fields of C4."""
    import torch

    from ..harness.claim.claim import Claim
    from ..harness.fields.domains import Grid
    from ..harness.fields.field import Field

    torch.manual_seed(0)
    reader = importlib.import_module(f".{library}", __package__).TypeReader()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nn = importlib.import_module(f"{library}.nn")
        space = _plane(library)
        field = nn.FieldType(space, [space.regular_repr])
        layer = _LIBRARY[kind](nn, field, at)
        typed = reader.layer(layer)
        source = Field(Grid(at.size, at.size), typed.group, typed.source)
        with torch.no_grad():
            y = typed.function(torch.zeros(source.tensor_shape(1)))
    target = Field(Grid(*y.shape[-2:]), typed.group, typed.target)
    return Claim(typed.function, typed.group, source, target, dtype=torch.float32, modules=(layer,))


def _plane(library: str) -> Any:
    gspaces = importlib.import_module(f"{library}.gspaces")
    return gspaces.rot2dOnR2(4) if library == "escnn" else gspaces.Rot2dOnR2(4)


def _window(at: Geometry) -> dict[str, Any]:
    return {"kernel_size": at.kernel, "stride": at.stride, "padding": at.padding}


#: How a library's layer is made of a geometry. The blurs take a stride, the adaptive pools the size that a stride would
#: leave, and upsampling a factor.
_LIBRARY: dict[str, Callable[[Any, Any, Geometry], Any]] = {
    "R2Conv": lambda nn, f, at: nn.R2Conv(f, f, recompute=True, **_window(at)),
    "R2ConvTransposed": lambda nn, f, at: nn.R2ConvTransposed(
        f, f, recompute=True, output_padding=at.output_padding, **_window(at)
    ),
    "PointwiseMaxPool": lambda nn, f, at: nn.PointwiseMaxPool(f, **_window(at)),
    "PointwiseAvgPool": lambda nn, f, at: nn.PointwiseAvgPool(f, **_window(at)),
    "PointwiseMaxPoolAntialiased": lambda nn, f, at: nn.PointwiseMaxPoolAntialiased(f, **_window(at)),
    "PointwiseAvgPoolAntialiased": lambda nn, f, at: nn.PointwiseAvgPoolAntialiased(f, sigma=0.66, stride=at.stride),
    "PointwiseAdaptiveAvgPool": lambda nn, f, at: nn.PointwiseAdaptiveAvgPool(f, at.size // (at.stride or 1)),
    "PointwiseAdaptiveMaxPool": lambda nn, f, at: nn.PointwiseAdaptiveMaxPool(f, at.size // (at.stride or 1)),
    "R2Upsampling": lambda nn, f, at: nn.R2Upsampling(f, scale_factor=at.stride),
}
