"""Adapter of escnn: its conventions, read element by element, and the layers that are checked.

escnn's last axis is +X and the one before -Y, so array-axis coordinates are (-Y, X); a channel is
field * size + component. Elements are matched by matrix, never by index.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ..harness.errors import UsageError
from ..harness.registry import Case, Cost, Expected, Family, Implementation, TypedLayer
from ..harness.verdict import Verdict

if TYPE_CHECKING:
    from ..harness.claim import Claim
    from ..harness.groups import Group
    from ..harness.representations import Fibre, Representation

#: escnn's own dependency py3nj needs a Fortran compiler that only its SO(3) bases use, hence --no-deps.
INSTALL = "pip install 'numpy<2' lie_learn==0.0.2 joblib pymanopt autograd scipy && pip install --no-deps escnn==1.0.11"


class TypeReader:
    """Group and fibres of an escnn module or ``FieldType``."""

    def layer(self, layer: Any) -> TypedLayer | None:
        """Everything an ``EquivariantModule`` says of itself."""
        if not hasattr(layer, "in_type") or not hasattr(layer, "out_type"):
            return None
        of = group_of(layer.in_type.gspace)
        return TypedLayer(on_tensors(layer), of, fibre_of(layer.in_type, of), fibre_of(layer.out_type, of))

    def fibre(self, spec: Any, of: Group | None) -> tuple[Group, Fibre]:
        """Group and fibre of a ``FieldType``."""
        if not hasattr(spec, "representations"):
            raise UsageError(f"{spec!r} is no escnn FieldType: pass in_type or out_type, or '8*regular'.")
        of = of or group_of(spec.gspace)
        return of, fibre_of(spec, of)


def on_tensors(layer: Any) -> Callable[[Any], Any]:
    """The module as a function of plain tensors."""

    def call(x: Any) -> Any:
        from escnn.nn import GeometricTensor

        return layer(GeometricTensor(x, layer.in_type)).tensor

    return call


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
    from ..harness.groups import Group, group

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


def fibre_of(field_type: Any, of: Group) -> Fibre:
    """The direct sum of a ``FieldType``, field by field, in the harness's own representations."""
    from ..harness.representations import Fibre

    cache: dict[str, Representation] = {}
    terms: list[tuple[int, Representation]] = []
    for rep in field_type.representations:
        if rep.name not in cache:
            cache[rep.name] = _representation(field_type.gspace, rep, of)
        if terms and terms[-1][1] is cache[rep.name]:
            terms[-1] = (terms[-1][0] + 1, terms[-1][1])
        else:
            terms.append((1, cache[rep.name]))
    return Fibre(tuple(terms))


def _representation(gspace: Any, rep: Any, of: Group) -> Representation:
    """One escnn representation as float64 matrices, its permutations made exact."""
    import numpy as np

    from ..harness.groups import SAME
    from ..harness.representations import Representation, representation

    if rep.is_trivial():
        return representation("trivial", None, of)
    if of.order is None:
        raise UsageError(f"{rep.name} of {of.name}: only trivial fields of continuous escnn groups can be read so far.")
    elements = list(gspace.fibergroup.elements)
    matrices = np.array([np.asarray(rep(g), dtype=np.float64) for g in elements])
    rounded = np.round(matrices)
    if np.abs(matrices - rounded).max() < SAME:
        matrices = rounded
    index = {of.element(array_matrix(gspace, g)).index: i for i, g in enumerate(elements)}
    mean = matrices.mean(0)
    permutes = bool((matrices.sum(-1) == 1).all() and (matrices >= 0).all())
    return Representation(
        rep.name,
        rep.size,
        lambda g: matrices[index[of.element(g).index]],
        mean[0] if permutes else None,
    )


class Escnn(Implementation):
    """What the escnn layers share."""

    library = "escnn"
    family = Family.PLANAR
    install = INSTALL

    def build(self, case: Case, *, device: str, dtype: str, seed: int) -> Claim:
        """The layer in training mode, on random weights."""
        import torch

        from ..harness.claim import Claim
        from ..harness.domains import Grid
        from ..harness.fields import Field

        self.require()
        torch.manual_seed(seed)
        # Built in float32 and converted: under another default dtype escnn's global caches of bases are filled with
        # tensors that break the next layer. Its bases are sampled in float32 either way.
        layer = self.layer(gspace_of(case["group"]), case).to(device, getattr(torch, dtype))
        typed = TypeReader().layer(layer)
        assert typed is not None
        source = Field(Grid(case["size"], case["size"]), typed.group, typed.source)
        with torch.no_grad():
            out = typed.function(torch.zeros(source.tensor_shape(1), device=device, dtype=getattr(torch, dtype)))
        target = Field(Grid(*out.shape[-2:]), typed.group, typed.target)
        return Claim(
            typed.function,
            typed.group,
            source,
            target,
            dtype=getattr(torch, dtype),
            device=device,
            seed=seed,
            modules=(layer,),
        )

    def layer(self, gspace: Any, case: Case) -> Any:
        """The escnn module of one case."""
        raise NotImplementedError


def gspace_of(name: str) -> Any:
    """The planar gspace C<n> or D<n>."""
    from escnn import gspaces

    return (gspaces.rot2dOnR2 if name[0] == "C" else gspaces.flipRot2dOnR2)(int(name[1:]))


def _regular(gspace: Any, fields: int) -> Any:
    import escnn.nn

    return escnn.nn.FieldType(gspace, [gspace.regular_repr] * fields)


class R2Conv(Escnn):
    """``escnn.nn.R2Conv``, regular to regular, in training mode: the filter is expanded in every call."""

    name = "escnn.R2Conv"

    def cases(self) -> Iterable[Case]:
        """Grid groups, and C8 with elements off the grid."""
        yield Case.of(group="C4", size=33, kernel=3, stride=1, padding=1, fields_in=4, fields_out=8)
        yield Case.of(group="C4", size=33, kernel=5, stride=2, padding=2, fields_in=4, fields_out=8)
        yield Case.of(group="D4", size=32, kernel=3, stride=1, padding=1, fields_in=4, fields_out=4)
        yield Case.of(group="C8", size=33, kernel=5, stride=1, padding=2, fields_in=2, fields_out=4)

    def layer(self, gspace: Any, case: Case) -> Any:
        """Regular fields in and out."""
        import escnn.nn

        return escnn.nn.R2Conv(
            _regular(gspace, case["fields_in"]),
            _regular(gspace, case["fields_out"]),
            kernel_size=case["kernel"],
            stride=case["stride"],
            padding=case["padding"],
        )

    def cost(self, case: Case) -> Cost:
        """The dense convolution of the expanded filter."""
        g = (2 if case["group"][0] == "D" else 1) * int(case["group"][1:])
        ci, co, k = case["fields_in"] * g, case["fields_out"] * g, case["kernel"]
        points = ((case["size"] + 2 * case["padding"] - k) // case["stride"] + 1) ** 2
        flops = 2.0 * ci * co * k**2 * points
        moved = 4.0 * (ci * case["size"] ** 2 + co * points + ci * co * k**2)
        return Cost(flops, moved, 3 * flops, 3 * moved)


class _Pointwise(Escnn):
    """Layers without weights, on regular fields of C4 and D4."""

    def cases(self) -> Iterable[Case]:
        """Odd sizes, where two-fold downsampling is aligned."""
        yield Case.of(group="C4", size=33, fields=4)
        yield Case.of(group="D4", size=33, fields=2)

    def cost(self, case: Case) -> Cost:
        """One pass over input and output of one size."""
        g = (2 if case["group"][0] == "D" else 1) * int(case["group"][1:])
        values = float(case["fields"] * g * case["size"] ** 2)
        return Cost(values, 8 * values, 2 * values, 16 * values)


class PointwiseMaxPool(_Pointwise):
    """``escnn.nn.PointwiseMaxPool``, kernel 3, stride 2."""

    name = "escnn.PointwiseMaxPool"

    def layer(self, gspace: Any, case: Case) -> Any:
        """Padding 1 keeps odd sizes aligned."""
        import escnn.nn

        return escnn.nn.PointwiseMaxPool(_regular(gspace, case["fields"]), kernel_size=3, stride=2, padding=1)


class PointwiseAvgPoolAntialiased(_Pointwise):
    """``escnn.nn.PointwiseAvgPoolAntialiased``, sigma 0.66, stride 2."""

    name = "escnn.PointwiseAvgPoolAntialiased"

    def layer(self, gspace: Any, case: Case) -> Any:
        """Escnn's own example value of sigma."""
        import escnn.nn

        return escnn.nn.PointwiseAvgPoolAntialiased(_regular(gspace, case["fields"]), sigma=0.66, stride=2)


class R2Upsampling(_Pointwise):
    """``escnn.nn.R2Upsampling``, two-fold, bilinear, corners aligned."""

    name = "escnn.R2Upsampling"

    def layer(self, gspace: Any, case: Case) -> Any:
        """Escnn's default aligns no corners for nearest; bilinear aligns them."""
        import escnn.nn

        return escnn.nn.R2Upsampling(
            _regular(gspace, case["fields"]), scale_factor=2, mode="bilinear", align_corners=True
        )


#: GroupPooling reshapes with an inferred size, which an empty batch leaves undetermined.
EMPTY_BATCH = Expected(
    "robustness", Verdict.BROKEN, "escnn's GroupPooling and batch norm cannot reshape an empty batch."
)


class GroupPooling(_Pointwise):
    """``escnn.nn.GroupPooling``: the maximum over each regular field."""

    name = "escnn.GroupPooling"
    expected = (EMPTY_BATCH,)

    def layer(self, gspace: Any, case: Case) -> Any:
        """Regular to trivial fields."""
        import escnn.nn

        return escnn.nn.GroupPooling(_regular(gspace, case["fields"]))
