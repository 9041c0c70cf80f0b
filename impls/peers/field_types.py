"""What the adapters of escnn and e2cnn share: reading their field types, and building a claim from one of their layers.

A field type lists representations of the library's own group. Elements are matched by matrix, never by index.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ...harness.adapters.adapter import ON_GRID, Case, Expected, Family, Feature, Implementation
from ...harness.errors import UsageError
from ...harness.fields.library_types import TypedLayer, required_arguments
from ...harness.verdict.codes import Verdict
from .steerable_layers import RECIPES, RecipeLayer, SteerableLayer

if TYPE_CHECKING:
    from ...harness.claim.claim import Claim
    from ...harness.fields.domains import Domain
    from ...harness.symmetry.groups import Group
    from ...harness.symmetry.representations import Fibre, Representation
    from ..library_groups import GroupReading


class FieldTypeReader:
    """Group and fibres of a module or a ``FieldType`` of escnn or e2cnn; subclasses name the library."""

    library: str

    def reading_of(self, gspace: Any) -> GroupReading:
        """The harness's group of a gspace, and the translation of elements."""
        raise NotImplementedError

    def representation(self, rep: Any, reading: GroupReading) -> Representation:
        """One of the library's representations in float64."""
        from ..library_groups import library_representation

        return library_representation(rep, reading)

    def group_of(self, gspace: Any) -> Group:
        """The harness's group of a gspace."""
        return self.reading_of(gspace).symmetry

    def fibre_of(self, field_type: Any, symmetry: Group, reading: GroupReading | None = None) -> Fibre:
        """The direct sum of a ``FieldType``, on which a group acts: the type's own group or a subgroup.

        Args:
            field_type: the type.
            symmetry: the group that acts.
            reading: how its elements become elements of the type's group; by default they have the same matrices.
        """
        from ...harness.symmetry.representations import Fibre

        if reading is None:
            reading = self.reading_of(field_type.gspace)
            reading.require(symmetry)
        cache: dict[str, Representation] = {}
        terms: list[tuple[int, Representation]] = []
        for rep in field_type.representations:
            if rep.name not in cache:
                cache[rep.name] = self.representation(rep, reading)
            if terms and terms[-1][1] is cache[rep.name]:
                terms[-1] = (terms[-1][0] + 1, terms[-1][1])
            else:
                terms.append((1, cache[rep.name]))
        return Fibre(tuple(terms))

    def function(self, layer: Any) -> Callable[..., Any]:
        """The layer as a function of plain tensors."""
        return on_tensors(layer, self.library)

    def domain(self, field_type: Any) -> Domain | None:
        """One point for a type without base space; None for a grid, whose size no type knows."""
        from ...harness.fields.domains import Vector

        return Vector() if field_type.gspace.dimensionality == 0 else None

    def layer(self, layer: Any) -> TypedLayer | None:
        """The function, group and fibres of an ``EquivariantModule``, or of anything with its types as attributes.

        Raises:
            UsageError: the types do not say what the layer takes or returns.
        """
        from ...harness.fields.domains import Vector
        from ...harness.fields.field import Field
        from ...harness.trees import leaves, tree_map

        reads, writes = input_types(layer), getattr(layer, "out_type", None)
        if not _are_types(reads):
            return None
        if not _are_types(writes):
            raise UsageError(
                f"{type(layer).__name__} has an in_type and no out_type: set the attribute out_type, or give fields, "
                "for example eh.check(layer, None, eh.Field(eh.Grid(33, 33), None, layer.in_type), eh.Invariant())."
            )
        self._require_inputs(layer, reads)
        first, last = (next(leaves(types))[1].gspace for types in (reads, writes))
        for gspace, types in ((first, reads), (last, writes)):
            if any(kind.gspace != gspace for _, kind in leaves(types)):
                raise UsageError(
                    f"The field types of {type(layer).__name__} have several groups: give the group, and fields with "
                    "the types restricted to it by FieldType.restrict."
                )
        below, above = self._subgroup(layer, first, last)
        symmetry = below.symmetry
        source = tree_map(lambda kind: self.fibre_of(kind, symmetry, above), reads)
        target = tree_map(lambda kind: self.fibre_of(kind, symmetry, below), writes)
        if first.dimensionality != 0:
            return TypedLayer(self.function(layer), symmetry, source, target)
        fields = [
            tree_map(lambda fibre: Field(Vector(), symmetry, fibre), fibres)  # one point: no type has a base space
            for fibres in (source, target)
        ]
        return TypedLayer(self.function(layer), symmetry, fields[0], fields[1], has_fields=True)

    def _require_inputs(self, layer: Any, reads: Any) -> None:
        """Require that the types name every argument that the layer needs."""
        needed = required_arguments(layer)
        count = len(reads) if isinstance(reads, (list, tuple)) else 1
        if needed is not None and len(needed) > count:
            raise UsageError(
                f"{type(layer).__name__} takes {', '.join(needed)}, and its types name only the fields: write a "
                "function of plain tensors that calls it, and give group, source and target; positions of points are "
                "eh.Positions(n) and indices of edges are eh.Invariant()."
            )

    def _subgroup(self, layer: Any, first: Any, last: Any) -> tuple[GroupReading, GroupReading | None]:
        """The group of the layer, which is that of its output, and its elements as elements of the input's group.

        A ``RestrictionModule`` inside makes the output's group smaller. A subgroup of a group without base space is
        found by the restriction's own map. The second reading is None where elements are found by their matrices.
        """
        from ..library_groups import restricted

        if first == last:
            return self.reading_of(first), None
        if first.dimensionality != 0 or first.dimensionality != last.dimensionality:
            return self.reading_of(last), None
        inclusions = []
        current = first
        for module in layer.modules() if hasattr(layer, "modules") else ():
            if type(module).__name__ == "RestrictionModule" and module.in_type.gspace == current:
                current, inclusion, _ = current.restrict(module._id)
                inclusions.append(inclusion)
        if current != last:
            raise UsageError(
                f"{type(layer).__name__} maps fields of {first.fibergroup.name} to fields of {last.fibergroup.name} "
                "without a RestrictionModule that says which subgroup this is: give fields whose types are restricted "
                "by FieldType.restrict."
            )
        parent = self.reading_of(first)

        def include(g: Any) -> Any:
            for inclusion in reversed(inclusions):
                g = inclusion(g)
            return g

        return restricted(last.fibergroup, parent, include)

    def fibre(self, spec: Any, symmetry: Group | None) -> tuple[Group, Fibre]:
        """Group and fibre of a ``FieldType``."""
        if not hasattr(spec, "representations"):
            raise UsageError(f"{spec!r} is no {self.library} FieldType: pass in_type or out_type, or '8*regular'.")
        symmetry = self.group_of(spec.gspace) if symmetry is None else symmetry
        return symmetry, self.fibre_of(spec, symmetry)


def input_types(layer: Any) -> Any:
    """The field type of a layer's input, or a tree of several: a tuple, or the labels of a ``MergeModule``."""
    labels = getattr(layer, "_labels", None)
    if getattr(layer, "in_type", None) is not None or not isinstance(labels, list):
        return getattr(layer, "in_type", None)
    named: dict[str, Any] = {}
    for i, names in enumerate(labels):
        types = getattr(layer, f"submodule_{i}").in_type
        named.update(zip(names, types if isinstance(types, tuple) else (types,), strict=True))
    return named


def _are_types(types: Any) -> bool:
    """Whether this is a ``FieldType``, or a tuple, list or dict of them."""
    if isinstance(types, (tuple, list, dict)):
        return bool(types) and all(map(_are_types, types.values() if isinstance(types, dict) else types))
    return hasattr(types, "representations") and hasattr(types, "gspace")


def on_tensors(layer: Any, library: str) -> Callable[..., Any]:
    """The layer as a function of plain tensors, whether it takes ``GeometricTensor`` or plain tensors.

    Modules of the library take ``GeometricTensor``. Functions and other modules that carry the types as attributes are
    called with plain tensors first.
    """
    from ...harness.trees import tree_map

    nn = importlib.import_module(f"{library}.nn")
    original = getattr(layer, "_orig_mod", layer)  # the module that torch.compile was given
    takes_fields = [True] if isinstance(original, nn.EquivariantModule) else []

    def with_fields(*xs: Any) -> Any:
        types = input_types(layer)
        several = isinstance(types, (tuple, list))
        fields = tree_map(lambda kind, x: nn.GeometricTensor(x, kind), types, xs if several else xs[0])
        return layer(*fields) if several else layer(fields)

    def call(*xs: Any) -> Any:
        if takes_fields:
            return plain(with_fields(*xs))
        try:
            return plain(layer(*xs))
        except Exception as error:
            try:
                y = plain(with_fields(*xs))
            except Exception:
                raise error from None
        takes_fields.append(True)
        return y

    return call


def plain(y: Any) -> Any:
    """A tree of outputs with tensors in place of ``GeometricTensor``."""
    if isinstance(y, dict):
        return {key: plain(value) for key, value in y.items()}
    if type(y) in (list, tuple):
        return type(y)(plain(value) for value in y)
    return y.tensor if hasattr(y, "tensor") and hasattr(y, "type") and hasattr(y.type, "gspace") else y


def empty_batch(library: str) -> Expected:
    """The deviation that the robustness property finds on every layer that regroups channels by fields."""
    reason = f"{library} infers a size from the batch and cannot reshape an empty one."
    return Expected("robustness", Verdict.BROKEN, reason)


class SteerableAdapter(SteerableLayer, Implementation):
    """An adapter of escnn or e2cnn; subclasses name the library, and make a module of one case."""

    family = Family.PLANAR
    never: tuple[Feature, ...] = (Feature.BACKENDS,)
    reader: FieldTypeReader

    def lacks(self, case: Case) -> set[Feature]:
        """Elements off the grid or twins, by the group; and what the layer itself lacks."""
        grid = Feature.OFF_GRID if case["group"] in ON_GRID else Feature.TWINS
        return {*super().lacks(case), grid, *self.layer_lacks(case)}

    def make(self, case: Case) -> Any:
        """The library's module of one case, without the warnings that its import gives."""
        raise NotImplementedError

    def build(self, case: Case, *, device: str, dtype: str, seed: int) -> Claim:
        """The layer on random weights, in training mode unless it is a norm."""
        import torch

        from ...harness.claim.claim import Claim
        from ...harness.fields.domains import Grid
        from ...harness.fields.field import Field

        self.require()
        torch.manual_seed(seed)
        # Built in float32 and converted: under another default dtype escnn's global caches of bases are filled with
        # tensors that break the next layer.
        layer = self.make(case).to(device, getattr(torch, dtype))
        typed = self.reader.layer(layer)
        assert typed is not None
        source = Field(Grid(*[case["size"]] * typed.group.dim), typed.group, typed.source)
        with torch.no_grad():
            y = typed.function(torch.zeros(source.tensor_shape(1), device=device, dtype=getattr(torch, dtype)))
        claim = Claim(
            typed.function,
            typed.group,
            source,
            Field(Grid(*y.shape[-typed.group.dim :]), typed.group, typed.target),
            dtype=getattr(torch, dtype),
            device=device,
            seed=seed,
            contract=self.contract(case),
            modules=(layer,),
        )
        return replace(claim, twins=self.twins(layer, claim, case), modules=claim.modules)

    def twins(self, layer: Any, claim: Claim, case: Case) -> tuple[Any, ...]:
        """Pairs for the parity property: none unless the layer is one of ours too."""
        return ()


def shared_adapters(library: str, base: type[SteerableAdapter]) -> dict[str, type[SteerableAdapter]]:
    """An adapter for each layer that escnn and e2cnn share, by its name in ``nn``.

    Args:
        library: "escnn" or "e2cnn".
        base: the adapter that makes the library's modules.
    """
    return {
        name: type(
            name,
            (RecipeLayer, base),
            {
                "__doc__": f"``{library}.nn.{name}``: {recipe.about}",
                "__module__": base.__module__,
                "name": f"{library}.{name}",
                "recipe": recipe,
                "expected": (empty_batch(library),) if recipe.regroups else (),
            },
        )
        for name, recipe in RECIPES.items()
    }
