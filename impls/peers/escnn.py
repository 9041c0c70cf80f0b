"""Adapter of escnn: its conventions, read element by element, and its checked layers.

escnn's last axis is +X and the axis before it is -Y, so array-axis coordinates are (-Y, X); a channel is
field * size + component. Elements are matched by matrix, never by index.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from ...harness.adapters.adapter import Case, Family
from ...harness.errors import UsageError
from . import steerable_layers as layers
from .field_types import FieldTypeReader, SteerableAdapter, finite_representation, shared_adapters

if TYPE_CHECKING:
    from ...harness.claim.claim import Claim
    from ...harness.symmetry.groups import Group
    from ...harness.symmetry.representations import Fibre, Representation

#: With --no-deps, because escnn's dependency py3nj, which only its SO(3) bases use, needs a Fortran compiler.
INSTALL = "pip install 'numpy<2' lie_learn==0.0.2 joblib pymanopt autograd scipy && pip install --no-deps escnn==1.0.11"


class TypeReader(FieldTypeReader):
    """Group and fibres of an escnn module or ``FieldType``."""

    library = "escnn"

    def group_of(self, gspace: Any) -> Group:
        """The harness's group with the same matrices."""
        return group_of(gspace)

    def fibre_of(self, field_type: Any, symmetry: Group) -> Fibre:
        """The direct sum, field by field, in the harness's own representations."""
        return fibre_of(field_type, symmetry)


def array_matrix(gspace: Any, element: Any) -> Any:
    """Matrix of an escnn element on array-axis coordinates: (-Y, X) on the plane, (-Z, -Y, X) in space."""
    import numpy as np

    matrix = np.asarray(gspace.basespace_action(element), dtype=np.float64)
    to_array = (
        np.array([[0, -1], [1, 0]]) if gspace.dimensionality == 2 else np.array([[0, 0, -1], [0, -1, 0], [1, 0, 0]])
    )
    found = to_array @ matrix @ to_array.T
    return np.where(np.abs(found - np.round(found)) < 1e-9, np.round(found), found)


def group_of(gspace: Any) -> Group:
    """The harness's group with the same matrices, under its own name."""
    from ...harness.symmetry.groups import Group, group

    fibre_group = gspace.fibergroup
    if fibre_group.order() <= 0:
        kind = "SO" if fibre_group.name.startswith("SO") else "O"
        return group(f"{kind}{gspace.dimensionality}")
    matrices = [array_matrix(gspace, g) for g in fibre_group.elements]
    known = {"C": "C", "D": "D"}.get(fibre_group.name[0])
    if known and gspace.dimensionality == 2:
        rotations = fibre_group.order() // (2 if known == "D" else 1)
        return group(f"{known}{rotations}")
    name = {24: "O", 48: "Oh"}.get(len(matrices)) if gspace.dimensionality == 3 else None
    return group(name) if name else Group(matrices, str(fibre_group.name))


def fibre_of(field_type: Any, symmetry: Group) -> Fibre:
    """The direct sum of a ``FieldType``, field by field, in the harness's own representations."""
    from ...harness.symmetry.representations import Fibre

    cache: dict[str, Representation] = {}
    terms: list[tuple[int, Representation]] = []
    for rep in field_type.representations:
        if rep.name not in cache:
            cache[rep.name] = _representation(field_type.gspace, rep, symmetry)
        if terms and terms[-1][1] is cache[rep.name]:
            terms[-1] = (terms[-1][0] + 1, terms[-1][1])
        else:
            terms.append((1, cache[rep.name]))
    return Fibre(tuple(terms))


def _representation(gspace: Any, rep: Any, symmetry: Group) -> Representation:
    """One escnn representation in float64."""
    from ...harness.symmetry.representations import representation

    if rep.is_trivial():
        return representation("trivial", None, symmetry)
    if symmetry.order is None:
        return _continuous(gspace, rep, symmetry)
    return finite_representation(rep, list(gspace.fibergroup.elements), lambda g: array_matrix(gspace, g), symmetry)


def _continuous(gspace: Any, rep: Any, symmetry: Group) -> Representation:
    """A representation of SO(2) or SO(3): our own float64 irreps in escnn's basis.

    With escnn's change of basis Q and an intertwiner U_l of each irrep, rho(g) = Q (+)_l U_l D^l(g) U_l^-1 Q^-1.

    Raises:
        UsageError: the group has reflections, whose irreps cannot be mapped.
    """
    import numpy as np

    from ...harness.symmetry.representations import Representation, representation

    if symmetry.name not in ("SO2", "SO3"):
        raise UsageError(
            f"{rep.name} of {symmetry.name}: only fields of SO(2) and SO(3) can be read: use one of these subgroups."
        )
    degrees = [int(irrep[-1]) for irrep in rep.irreps]
    irreps = [representation("irrep", str(degree), symmetry) for degree in degrees]
    maps = [_intertwiner(gspace, irrep_id, ours, symmetry) for irrep_id, ours in zip(rep.irreps, irreps, strict=True)]
    basis = np.asarray(rep.change_of_basis, dtype=np.float64) @ _block_diagonal(maps)
    inverse = np.linalg.inv(basis)
    return Representation(rep.name, rep.size, lambda g: basis @ _block_diagonal([d.of(g) for d in irreps]) @ inverse)


def _intertwiner(gspace: Any, irrep_id: Any, ours: Representation, symmetry: Group) -> Any:
    """U with theirs(g) U = U ours(g) for all g: the null space for a few g, which is a line by Schur's lemma."""
    import numpy as np

    theirs = gspace.fibergroup.irrep(*irrep_id)
    one = np.eye(ours.dim)
    rows = []
    for _ in range(4):
        g = gspace.fibergroup.sample()
        element = symmetry.element(array_matrix(gspace, g))
        rows.append(np.kron(np.asarray(theirs(g), dtype=np.float64), one) - np.kron(one, ours.of(element).T))
    _, values, vectors = np.linalg.svd(np.concatenate(rows))
    found = vectors[-1].reshape(ours.dim, ours.dim)
    if (
        values[-1] > 1e-6
    ):  # far above the rounding of escnn's matrices, and far below the value for another representation
        raise UsageError(f"escnn's irrep {irrep_id} of {symmetry.name} is not our {ours.name}: please report it.")
    return found / np.sqrt(np.abs(found @ found.T).trace() / ours.dim)


def _block_diagonal(blocks: list[Any]) -> Any:
    import numpy as np

    size = sum(len(b) for b in blocks)
    joined, start = np.zeros((size, size)), 0
    for block in blocks:
        joined[start : start + len(block), start : start + len(block)] = block
        start += len(block)
    return joined


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
