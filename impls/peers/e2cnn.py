"""Adapter of e2cnn, escnn's predecessor on the plane, with the same conventions and its own groups and types.

The last axis is +X and the axis before it is -Y. Element k of C_N rotates counter-clockwise by 2 pi k / N; element
(f, k) of D_N does so after f reflections X -> -X. A channel is field * size + component.
"""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

from ...harness.adapters.adapter import Case
from ...harness.errors import UsageError
from . import steerable_layers as layers
from .field_types import FieldTypeReader, SteerableAdapter, finite_representation, shared_adapters

if TYPE_CHECKING:
    from ...harness.claim.claim import Claim
    from ...harness.symmetry.groups import Group
    from ...harness.symmetry.representations import Fibre

INSTALL = "pip install 'numpy<2' e2cnn==0.2.3"


class TypeReader(FieldTypeReader):
    """Group and fibres of an e2cnn module or ``FieldType``."""

    library = "e2cnn"

    def group_of(self, gspace: Any) -> Group:
        """C<n> or D<n> of the harness."""
        return group_of(gspace)

    def fibre_of(self, field_type: Any, symmetry: Group) -> Fibre:
        """The direct sum in float64 matrices."""
        return fibre_of(field_type, symmetry)


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
    """The direct sum of a ``FieldType`` in float64 matrices, permutations made exact."""
    from ...harness.symmetry.representations import Fibre, Representation, representation

    gspace = field_type.gspace
    elements = list(gspace.fibergroup.elements)

    def read(rep: Any) -> Representation:
        if rep.is_trivial():
            return representation("trivial", None, symmetry)
        return finite_representation(rep, elements, lambda g: array_matrix(gspace, g), symmetry)

    known = {rep.name: read(rep) for rep in field_type.representations}
    return Fibre(tuple((1, known[rep.name]) for rep in field_type.representations))


class E2cnn(SteerableAdapter):
    """What the e2cnn layers share."""

    library = "e2cnn"
    install = INSTALL
    reader = TypeReader()

    def make(self, case: Case) -> Any:
        """The module, without warnings about names of numpy and torch that e2cnn still uses."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from e2cnn import gspaces, nn

            kind = gspaces.Rot2dOnR2 if case["group"][0] == "C" else gspaces.FlipRot2dOnR2
            return self.layer(nn, kind(int(case["group"][1:])), case)


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


globals().update(shared_adapters("e2cnn", E2cnn))
