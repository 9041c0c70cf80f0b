"""Adapter of e2cnn, escnn's predecessor on the plane, with the same conventions and its own groups and types.

The last axis is +X and the axis before it is -Y. Element k of C_N rotates counter-clockwise by 2 pi k / N; element
(f, k) of D_N does so after f reflections X -> -X. A channel is field * size + component.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ...harness.adapters.adapter import Case, Expected, Family, Implementation
from ...harness.errors import UsageError
from ...harness.fields.library_types import TypedLayer
from ...harness.verdict.result import Verdict
from . import steerable_layers as layers

if TYPE_CHECKING:
    from ...harness.claim.claim import Claim
    from ...harness.symmetry.groups import Group
    from ...harness.symmetry.representations import Fibre

#: The robustness property finds this on every layer that regroups channels by fields.
EMPTY_BATCH = Expected(
    "robustness", Verdict.BROKEN, "e2cnn infers a size from the batch and cannot reshape an empty one."
)

INSTALL = "pip install 'numpy<2' e2cnn==0.2.3"


class TypeReader:
    """Group and fibres of an e2cnn module or ``FieldType``."""

    def layer(self, layer: Any) -> TypedLayer | None:
        """Group and fibres of an ``EquivariantModule``; None for other layers."""
        if not hasattr(layer, "in_type") or not hasattr(layer, "out_type"):
            return None
        symmetry = group_of(layer.in_type.gspace)
        return TypedLayer(
            on_tensors(layer), symmetry, fibre_of(layer.in_type, symmetry), fibre_of(layer.out_type, symmetry)
        )

    def fibre(self, spec: Any, of: Group | None) -> tuple[Group, Fibre]:
        """Group and fibre of a ``FieldType``."""
        if not hasattr(spec, "representations"):
            raise UsageError(f"{spec!r} is not an e2cnn FieldType: pass in_type or out_type, or '8*regular'.")
        of = of or group_of(spec.gspace)
        return of, fibre_of(spec, of)


def on_tensors(layer: Any) -> Callable[[Any], Any]:
    """The module as a function of plain tensors."""

    def call(x: Any) -> Any:
        from e2cnn.nn import GeometricTensor

        return layer(GeometricTensor(x, layer.in_type)).tensor

    return call


def group_of(gspace: Any) -> Group:
    """The harness's group C<n> or D<n>.

    Raises:
        UsageError: the group is continuous, or has no name in the harness.
    """
    from ...harness.symmetry.groups import group

    name, order = gspace.fibergroup.name, gspace.fibergroup.order()
    if order <= 0 or name[0] not in "CD":
        raise UsageError(f"Fields of {name} cannot be read from e2cnn: use C_N or D_N, or escnn for other groups.")
    return group(f"{name[0]}{order // (2 if name[0] == 'D' else 1)}")


def array_matrix(gspace: Any, element: Any) -> Any:
    """Matrix of an element on array-axis coordinates (-Y, X)."""
    import numpy as np

    flip, k = element if isinstance(element, tuple) else (0, element)
    rotations = gspace.fibergroup.order() // (2 if gspace.fibergroup.name[0] == "D" else 1)
    c, s = math.cos(2 * math.pi * k / rotations), math.sin(2 * math.pi * k / rotations)
    found = np.array([[c, -s], [s, c]]) @ np.diag([1.0, -1.0 if flip else 1.0])
    return np.where(np.abs(found - np.round(found)) < 1e-9, np.round(found), found)


def fibre_of(field_type: Any, symmetry: Group) -> Fibre:
    """The direct sum of a ``FieldType`` in float64 matrices; permutation matrices are rounded to exact ones."""
    import numpy as np

    from ...harness.symmetry.groups import SAME
    from ...harness.symmetry.representations import Fibre, Representation, representation

    gspace = field_type.gspace
    elements = list(gspace.fibergroup.elements)
    index = {symmetry.element(array_matrix(gspace, g)).index: i for i, g in enumerate(elements)}

    def read(rep: Any) -> Representation:
        if rep.is_trivial():
            return representation("trivial", None, symmetry)
        matrices = np.array([np.asarray(rep(g), dtype=np.float64) for g in elements])
        rounded = np.round(matrices)
        matrices = rounded if np.abs(matrices - rounded).max() < SAME else matrices
        permutes = bool((matrices.sum(-1) == 1).all() and (matrices >= 0).all())
        return Representation(
            rep.name,
            rep.size,
            lambda g: matrices[index[symmetry.element(g).index]],
            matrices.mean(0)[0] if permutes else None,
        )

    known = {rep.name: read(rep) for rep in field_type.representations}
    return Fibre(tuple((1, known[rep.name]) for rep in field_type.representations))


class E2cnn(layers.SteerableLayer, Implementation):
    """The base class of the e2cnn layers."""

    library = "e2cnn"
    family = Family.PLANAR
    install = INSTALL

    def build(self, case: Case, *, device: str, dtype: str, seed: int) -> Claim:
        """The claim of the layer with random weights, in training mode unless the layer is a norm."""
        import torch

        from ...harness.claim.claim import Claim
        from ...harness.fields.domains import Grid
        from ...harness.fields.field import Field

        self.require()
        torch.manual_seed(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about names of numpy and torch that e2cnn still uses
            from e2cnn import gspaces, nn

            kind = gspaces.Rot2dOnR2 if case["group"][0] == "C" else gspaces.FlipRot2dOnR2
            layer = self.layer(nn, kind(int(case["group"][1:])), case).to(device, getattr(torch, dtype))
        typed = TypeReader().layer(layer)
        assert typed is not None
        source = Field(Grid(case["size"], case["size"]), typed.group, typed.source)
        with torch.no_grad():
            y = typed.function(torch.zeros(source.tensor_shape(1), device=device, dtype=getattr(torch, dtype)))
        claim = Claim(
            typed.function,
            typed.group,
            source,
            Field(Grid(*y.shape[-2:]), typed.group, typed.target),
            dtype=getattr(torch, dtype),
            device=device,
            seed=seed,
            contract=self.contract(case),
            modules=(layer,),
        )
        return replace(claim, twins=self.twins(layer, claim, case), modules=claim.modules)

    def twins(self, layer: Any, claim: Claim, case: Case) -> tuple[Any, ...]:
        """Pairs for the parity property: none unless we have the same layer."""
        return ()


class R2Conv(layers.Convolution, E2cnn):
    """``e2cnn.nn.R2Conv``."""

    name = "e2cnn.R2Conv"

    def twins(self, layer: Any, claim: Claim, case: Case) -> tuple[Any, ...]:
        """Our layer with their weights and, if their basis spans every filter, their layer with our weights."""
        from ..twins import steerable

        gspace = layer.in_type.gspace
        matrices = [array_matrix(gspace, g) for g in gspace.fibergroup.elements]
        return steerable(self.name, layer, claim, case, matrices, spans="cutoff" in case.parameters)


class R2ConvTransposed(layers.TransposedConvolution, E2cnn):
    """``e2cnn.nn.R2ConvTransposed``."""

    name = "e2cnn.R2ConvTransposed"


class PointwiseMaxPool(layers.MaxPool, E2cnn):
    """``e2cnn.nn.PointwiseMaxPool``."""

    name = "e2cnn.PointwiseMaxPool"


class PointwiseAvgPool(layers.AvgPool, E2cnn):
    """``e2cnn.nn.PointwiseAvgPool``."""

    name = "e2cnn.PointwiseAvgPool"


class PointwiseAvgPoolAntialiased(layers.AvgPoolAntialiased, E2cnn):
    """``e2cnn.nn.PointwiseAvgPoolAntialiased``."""

    name = "e2cnn.PointwiseAvgPoolAntialiased"


class PointwiseMaxPoolAntialiased(layers.MaxPoolAntialiased, E2cnn):
    """``e2cnn.nn.PointwiseMaxPoolAntialiased``."""

    name = "e2cnn.PointwiseMaxPoolAntialiased"


class PointwiseAdaptiveAvgPool(layers.AdaptiveAvgPool, E2cnn):
    """``e2cnn.nn.PointwiseAdaptiveAvgPool``."""

    name = "e2cnn.PointwiseAdaptiveAvgPool"


class PointwiseAdaptiveMaxPool(layers.AdaptiveMaxPool, E2cnn):
    """``e2cnn.nn.PointwiseAdaptiveMaxPool``."""

    name = "e2cnn.PointwiseAdaptiveMaxPool"


class R2Upsampling(layers.Upsampling, E2cnn):
    """``e2cnn.nn.R2Upsampling``."""

    name = "e2cnn.R2Upsampling"


class GroupPooling(layers.GroupPool, E2cnn):
    """``e2cnn.nn.GroupPooling``."""

    name = "e2cnn.GroupPooling"
    expected = (EMPTY_BATCH,)


class NormPool(layers.NormPooling, E2cnn):
    """``e2cnn.nn.NormPool``."""

    name = "e2cnn.NormPool"
    expected = (EMPTY_BATCH,)


class ReLU(layers.ReLU, E2cnn):
    """``e2cnn.nn.ReLU``."""

    name = "e2cnn.ReLU"


class ELU(layers.ELU, E2cnn):
    """``e2cnn.nn.ELU``."""

    name = "e2cnn.ELU"


class NormNonLinearity(layers.NormNonlinearity, E2cnn):
    """``e2cnn.nn.NormNonLinearity``."""

    name = "e2cnn.NormNonLinearity"
    expected = (EMPTY_BATCH,)


class GatedNonLinearity1(layers.Gated, E2cnn):
    """``e2cnn.nn.GatedNonLinearity1``."""

    name = "e2cnn.GatedNonLinearity1"
    expected = (EMPTY_BATCH,)


class InnerBatchNorm(layers.InnerNorm, E2cnn):
    """``e2cnn.nn.InnerBatchNorm``."""

    name = "e2cnn.InnerBatchNorm"
    expected = (EMPTY_BATCH,)


class NormBatchNorm(layers.NormNorm, E2cnn):
    """``e2cnn.nn.NormBatchNorm``."""

    name = "e2cnn.NormBatchNorm"
    expected = (EMPTY_BATCH,)


class GNormBatchNorm(layers.GNorm, E2cnn):
    """``e2cnn.nn.GNormBatchNorm``."""

    name = "e2cnn.GNormBatchNorm"
    expected = (EMPTY_BATCH,)
