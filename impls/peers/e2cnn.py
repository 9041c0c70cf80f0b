"""Adapter of e2cnn, escnn's predecessor on the plane, with the same conventions and its own groups and types.

The last axis is +X and the axis before it is -Y. Element k of C_N rotates counter-clockwise by 2 pi k / N; element
(f, k) of D_N does so after f reflections over the gspace's axis. A channel is field * size + component.
"""

from __future__ import annotations

import functools
import math
import warnings
from typing import TYPE_CHECKING, Any

from ...harness.adapters.adapter import Case
from ...harness.errors import UsageError
from . import steerable_layers as layers
from .field_types import FieldTypeReader, SteerableAdapter, shared_adapters

if TYPE_CHECKING:
    from ...harness.claim.claim import Claim
    from ...harness.symmetry.groups import Group
    from ...harness.symmetry.representations import Fibre
    from ..library_groups import GroupReading

INSTALL = "pip install 'numpy<2' e2cnn==0.2.3"


class TypeReader(FieldTypeReader):
    """Group and fibres of an e2cnn module or ``FieldType``."""

    library = "e2cnn"

    def reading_of(self, gspace: Any) -> GroupReading:
        """The harness's group with the same matrices, and the translation of elements."""
        return reading_of(gspace)


def group_of(gspace: Any) -> Group:
    """The harness's group with the same matrices."""
    return reading_of(gspace).symmetry


def reading_of(gspace: Any) -> GroupReading:
    """The harness's group of a gspace and the translation of elements."""
    from ...harness.symmetry.groups import group
    from ..library_groups import GroupReading, finite_reading

    library = gspace.fibergroup
    matrix = functools.partial(array_matrix, gspace)
    if library.order() > 0:
        axis = f" with the axis at {math.degrees(gspace.axis):.4g}°" if hasattr(gspace, "axis") else ""
        return finite_reading(list(library.elements), matrix, f"{library.name}{axis}")
    flips = hasattr(gspace, "axis")

    def theirs(g: Any) -> Any:
        if not flips and not g.is_proper:
            raise UsageError(f"{g} is no element of {library.name}: take a group of rotations.")
        rotation = g.matrix if g.is_proper else g.matrix @ _reflection(gspace)
        angle = math.atan2(rotation[1, 0], rotation[0, 0])
        return (int(not g.is_proper), angle) if flips else angle

    return GroupReading(group("O2" if flips else "SO2"), matrix, theirs)


def array_matrix(gspace: Any, element: Any) -> Any:
    """Matrix of an element on array-axis coordinates (-Y, X): a rotation after the gspace's reflection."""
    from ..library_groups import tidy

    library = gspace.fibergroup
    if type(gspace).__name__ == "Flip2dOnR2":
        return tidy(_reflection(gspace)) if element else _rotation(0.0)
    flip, turn = element if isinstance(element, tuple) else (0, element)
    count = getattr(library, "rotation_order", library.order())
    rotation = _rotation(turn if library.order() <= 0 else 2 * math.pi * turn / count)
    return tidy(rotation @ _reflection(gspace) if flip else rotation)


def _rotation(angle: float) -> Any:
    import numpy as np

    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s], [s, c]])


def _reflection(gspace: Any) -> Any:
    """The reflection over the gspace's axis, an angle from the +X axis."""
    import numpy as np

    return _rotation(2 * gspace.axis) @ np.diag([-1.0, 1.0])


def fibre_of(field_type: Any, symmetry: Group) -> Fibre:
    """The direct sum of a ``FieldType`` in float64 matrices, permutations made exact."""
    return TypeReader().fibre_of(field_type, symmetry)


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
