"""Adapter of escnn: its conventions, read element by element, and its checked layers.

escnn's last axis is +X and the axis before it is -Y, so array-axis coordinates are (-Y, X); a channel is
field * size + component. Elements are matched by matrix, never by index.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ...harness.adapters.adapter import Case, Family
from ...harness.errors import UsageError
from . import steerable_layers as layers
from .field_types import FieldTypeReader, SteerableAdapter, shared_adapters

if TYPE_CHECKING:
    from ...harness.claim.claim import Claim
    from ...harness.symmetry.groups import Element, Group
    from ...harness.symmetry.representations import Fibre, Representation
    from ..library_groups import GroupReading

#: With --no-deps, because escnn's dependency py3nj, which only its SO(3) bases use, needs a Fortran compiler.
INSTALL = "pip install 'numpy<2' lie_learn==0.0.2 joblib pymanopt autograd scipy && pip install --no-deps escnn==1.0.11"


class TypeReader(FieldTypeReader):
    """Group and fibres of an escnn module or ``FieldType``."""

    library = "escnn"

    def reading_of(self, gspace: Any) -> GroupReading:
        """The harness's group with the same matrices, and the translation of elements."""
        return reading_of(gspace)

    def representation(self, rep: Any, reading: GroupReading) -> Representation:
        """One representation, in the harness's own matrices where escnn's are not accurate enough."""
        return _representation(rep, reading)


def array_matrix(gspace: Any, element: Any) -> Any:
    """Matrix of an escnn element on array-axis coordinates: (-Y, X) on the plane, (-Z, -Y, X) in space."""
    import numpy as np

    from ..library_groups import tidy

    if gspace.dimensionality == 0:
        return reading_of(gspace).matrix(element)
    to_array = _to_array(gspace)
    return tidy(to_array @ np.asarray(gspace.basespace_action(element), dtype=np.float64) @ to_array.T)


def _to_array(gspace: Any) -> Any:
    """The change from escnn's coordinates to array-axis coordinates."""
    import numpy as np

    return np.array([[0, -1], [1, 0]]) if gspace.dimensionality == 2 else np.array([[0, 0, -1], [0, -1, 0], [1, 0, 0]])


def group_of(gspace: Any) -> Group:
    """The harness's group with the same matrices, under its own name."""
    return reading_of(gspace).symmetry


def fibre_of(field_type: Any, symmetry: Group) -> Fibre:
    """The direct sum of a ``FieldType``, field by field, in the harness's own representations."""
    return TypeReader().fibre_of(field_type, symmetry)


#: Groups that were read, by their space and name.
_read: dict[tuple[int, str], GroupReading] = {}


def reading_of(gspace: Any) -> GroupReading:
    """The harness's group of a gspace and the translation of elements.

    A group without base space gets matrices: rotations of the plane for C_n and D_n, the group's own matrices for
    groups of space, else a faithful direct sum of irreps.
    """
    key = (gspace.dimensionality, str(gspace.name))
    if key not in _read:
        _read[key] = _without_base(gspace.fibergroup) if gspace.dimensionality == 0 else _with_base(gspace)
    return _read[key]


def _with_base(gspace: Any) -> GroupReading:
    """The reading of a group that moves the plane or space."""
    from ...harness.symmetry.groups import group
    from ..library_groups import GroupReading, LibraryGroup, finite_reading

    library, name = gspace.fibergroup, _name(gspace)
    matrix = functools.partial(array_matrix, gspace)
    if library.order() > 0:
        return finite_reading(list(library.elements), matrix, name)
    kind = type(library).__name__
    restrict = functools.partial(_restrict, gspace)
    if kind in (f"SO{gspace.dimensionality}", f"O{gspace.dimensionality}"):

        def theirs(g: Element) -> Any:
            found = restrict(g.matrix)
            if found is None:
                raise UsageError(f"{g} is no element of {name}: take a group that has it, or one of its subgroups.")
            return found

        return GroupReading(group(kind), matrix, theirs)
    return LibraryGroup(name, library, matrix, restrict).reading()


def _name(gspace: Any) -> str:
    """The group's name and its place in the orthogonal group, with short numbers and without the adjoint's matrix."""
    place = [f"{part:.4g}" if isinstance(part, float) else str(part) for part in gspace._sg_id if _is_plain(part)]
    adjoint = "" if all(_is_plain(part) or _is_identity(part) for part in gspace._sg_id) else ", moved"
    return f"{gspace.fibergroup.name} on R{gspace.dimensionality} ({', '.join(place)}{adjoint})"


def _is_plain(part: Any) -> bool:
    return part is None or isinstance(part, (bool, int, float, str))


def _is_identity(part: Any) -> bool:
    return bool(part == part.group.identity)


def _restrict(gspace: Any, matrix: Any) -> Any:
    """The element of a gspace's group with this matrix on array axes; None if there is none."""
    import numpy as np
    from escnn import group

    to_array = _to_array(gspace)
    theirs = to_array.T @ matrix @ to_array
    improper = bool(np.linalg.det(theirs) < 0)
    try:
        if gspace.dimensionality == 2:
            whole = group.o2_group().element((int(improper), math.atan2(theirs[1, 0], theirs[0, 0])), "radians")
        else:
            whole = group.o3_group().element((int(improper), -theirs if improper else theirs), "MAT")
    except ValueError:
        return None
    return gspace._restriction(whole)


def _without_base(library: Any) -> GroupReading:
    """The reading of a group that only acts on channels."""
    import numpy as np

    from ...harness.symmetry.groups import group
    from ..library_groups import GroupReading, LibraryGroup, faithful, finite_reading, numpy_seeded

    kind, name = type(library).__name__, str(library.name)
    if kind in ("CyclicGroup", "SO2"):
        rotation = _rotation
        if kind == "CyclicGroup":
            return finite_reading(list(library.elements), lambda g: rotation(g.to("radians")), name)
        return GroupReading(
            group("SO2"),
            lambda g: rotation(g.to("radians")),
            lambda g: library.element(math.atan2(g.matrix[1, 0], g.matrix[0, 0]), "radians"),
        )
    if kind in ("DihedralGroup", "O2"):

        def plane(g: Any) -> Any:
            flip, angle = g.to("radians")
            return _rotation(angle) @ np.diag([1.0, -1.0 if flip else 1.0])

        if kind == "DihedralGroup":
            return finite_reading(list(library.elements), plane, name)
        return GroupReading(
            group("O2"),
            plane,
            lambda g: library.element((int(not g.is_proper), math.atan2(g.matrix[1, 0], g.matrix[0, 0])), "radians"),
        )
    if kind == "SO3":
        return GroupReading(group("SO3"), lambda g: np.asarray(g.to("MAT")), lambda g: library.element(g.matrix, "MAT"))
    if kind == "O3":
        return GroupReading(
            group("O3"),
            lambda g: (-1) ** g.to("MAT")[0] * np.asarray(g.to("MAT")[1]),
            lambda g: library.element((int(not g.is_proper), g.matrix if g.is_proper else -g.matrix), "MAT"),
        )
    finite = library.order() > 0
    if finite:
        elements = list(library.elements)
    else:
        with numpy_seeded(0):
            elements = [library.identity, *(library.sample() for _ in range(15))]
    standard = getattr(library, "standard_representation", None)  # a method of some groups, a property of others
    if standard is None:
        matrix: Callable[[Any], Any] = faithful(library.irreps(), elements)
    else:
        matrix = standard if hasattr(standard, "irreps") else standard()
    return finite_reading(elements, matrix, name) if finite else LibraryGroup(name, library, matrix).reading()


def _rotation(angle: float) -> Any:
    import numpy as np

    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s], [s, c]])


def _representation(rep: Any, reading: GroupReading) -> Representation:
    """One escnn representation in float64: that of SO(3) or O(3) by our own irreps, which are more accurate.

    With escnn's change of basis Q and an intertwiner U_l of each irrep, rho(g) = Q (+)_l U_l D^l(g) U_l^-1 Q^-1.
    """
    import numpy as np

    from ...harness.symmetry.representations import Representation, representation
    from ..library_groups import block_diagonal, library_representation

    if type(rep.group).__name__ not in ("SO3", "O3") or rep.is_trivial():
        return library_representation(rep, reading)
    # An irrep is (l) of SO(3), and (j, l) of O(3) with the sign (-1)^j of the inversion.
    names = [str(i[-1]) if len(i) == 1 else f"{i[1]},{'o' if i[0] else 'e'}" for i in rep.irreps]
    irreps = [representation("irrep", name, reading.symmetry) for name in names]
    maps = [_intertwiner(rep.group, irrep_id, ours, reading) for irrep_id, ours in zip(rep.irreps, irreps, strict=True)]
    basis = np.asarray(rep.change_of_basis, dtype=np.float64) @ block_diagonal(maps)
    inverse = np.linalg.inv(basis)
    return Representation(rep.name, rep.size, lambda g: basis @ block_diagonal([d.of(g) for d in irreps]) @ inverse)


def _intertwiner(library: Any, irrep_id: Any, ours: Representation, reading: GroupReading) -> Any:
    """U with theirs(g) U = U ours(g) for all g: the null space for a few g, which is a line by Schur's lemma."""
    import numpy as np

    from ...harness.symmetry.groups import Element
    from ..library_groups import numpy_seeded

    theirs = library.irrep(*irrep_id)
    one = np.eye(ours.dim)
    rows = []
    with numpy_seeded(0):
        sampled = [library.sample() for _ in range(6)]
    for g in sampled:
        element = Element("", np.asarray(reading.matrix(g), dtype=np.float64))
        rows.append(np.kron(np.asarray(theirs(g), dtype=np.float64), one) - np.kron(one, ours.of(element).T))
    _, values, vectors = np.linalg.svd(np.concatenate(rows))
    found = vectors[-1].reshape(ours.dim, ours.dim)
    if (
        values[-1] > 1e-6
    ):  # far above the rounding of escnn's matrices, and far below the value for another representation
        raise UsageError(f"escnn's irrep {irrep_id} of {library.name} is not our {ours.name}: please report it.")
    return found / np.sqrt(np.abs(found @ found.T).trace() / ours.dim)


class Escnn(SteerableAdapter):
    """What the escnn layers share."""

    library = "escnn"
    install = INSTALL
    reader = TypeReader()

    def make(self, case: Case) -> Any:
        """Build the module without escnn's warnings about optional dependencies."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import escnn.nn

            return self.layer(escnn.nn, gspace_of(case["group"]), case)


def gspace_of(name: str) -> Any:
    """The gspace called C<n>, D<n>, O, Oh or SO3."""
    from escnn import gspaces

    space = {"O": "octaOnR3", "Oh": "fullOctaOnR3", "SO3": "rot3dOnR3"}
    if name in space:
        made = getattr(gspaces, space[name])()
        if name in ("O", "Oh"):
            made.fibergroup.representations.setdefault("regular", regular_representation(made.fibergroup))
        return made
    return (gspaces.rot2dOnR2 if name[0] == "C" else gspaces.flipRot2dOnR2)(int(name[1:]))


def regular_representation(group: Any) -> Any:
    """The regular representation of a finite group, as escnn builds it to the last bit, without products of elements.

    escnn multiplies every pair of elements: for O_h this takes seconds in each process. The change of basis needs no
    products: with irreps rho of size s and m = s / |division algebra| copies each, the row of g holds the first m
    columns of sqrt(s / |G|) rho(g).
    """
    import numpy as np
    from escnn.group import Representation

    known = group.representations.get("regular")
    if known is not None:
        return known
    irreps = [(irrep, irrep.size // irrep.sum_of_squares_constituents) for irrep in group.irreps()]
    rows = [
        np.concatenate([(irrep(g)[:, :copies] * np.sqrt(irrep.size)).T.reshape(-1) for irrep, copies in irreps])
        for g in group.elements
    ]
    basis = np.stack(rows) / np.sqrt(len(rows))
    names = [irrep.id for irrep, copies in irreps for _ in range(copies)]
    return Representation(
        group, "regular", names, basis, ["pointwise", "norm", "gated", "concatenated"], change_of_basis_inv=basis.T
    )


class _WithTwins(Escnn):
    """A convolution that we have too."""

    def twins(self, layer: Any, claim: Claim, case: Case) -> tuple[Any, ...]:
        """Our layer with their weights and, if their basis spans every filter, their layer with our weights."""
        from ..twins import steerable

        gspace = layer.in_type.gspace
        matrices = [array_matrix(gspace, g) for g in gspace.fibergroup.elements]
        lifting = all(rep.is_trivial() for rep in layer.in_type.representations)
        spans = "cutoff" in case.parameters
        return steerable(self.name, layer, claim, case, matrices, lifting=lifting, spans=spans)


class R2Conv(layers.Convolution, _WithTwins):
    """``escnn.nn.R2Conv``."""

    name = "escnn.R2Conv"


class R3Conv(layers.VolumeConvolution, _WithTwins):
    """``escnn.nn.R3Conv`` of O and O_h, scalars to regular fields and regular to regular."""

    name = "escnn.R3Conv"
    family = Family.OCTAHEDRAL


class R3ConvTrivial(layers.TrivialOutput, Escnn):
    """``escnn.nn.R3Conv`` of SO(3) from irreps to scalars: one way to invariant outputs."""

    name = "escnn.R3Conv to scalars"
    family = Family.OCTAHEDRAL


class QuotientFourierPointwise(layers.QuotientNonlinearity, Escnn):
    """``escnn.nn.QuotientFourierPointwise`` of SO(3) on the sphere with scalar output: another way to invariants."""

    name = "escnn.QuotientFourierPointwise"
    family = Family.OCTAHEDRAL


class R2ConvTransposed(layers.TransposedConvolution, Escnn):
    """``escnn.nn.R2ConvTransposed``."""

    name = "escnn.R2ConvTransposed"


class FourierPointwise(layers.FourierNonlinearity, Escnn):
    """``escnn.nn.FourierPointwise``."""

    name = "escnn.FourierPointwise"


globals().update(shared_adapters("escnn", Escnn))
