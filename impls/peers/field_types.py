"""What the adapters of escnn and e2cnn share: reading their field types, and building a claim from one of their layers.

A field type lists representations of the library's own group. Elements are matched by matrix, never by index.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ...harness.adapters.adapter import ON_GRID, Case, Expected, Family, Feature, Implementation
from ...harness.errors import UsageError
from ...harness.fields.library_types import TypedLayer
from ...harness.verdict.codes import Verdict
from .steerable_layers import RECIPES, RecipeLayer, SteerableLayer

if TYPE_CHECKING:
    from ...harness.claim.claim import Claim
    from ...harness.symmetry.groups import Group
    from ...harness.symmetry.representations import Fibre, Representation


class FieldTypeReader:
    """Group and fibres of a module or a ``FieldType`` of escnn or e2cnn; subclasses name the library."""

    library: str

    def group_of(self, gspace: Any) -> Group:
        """The harness's group of a gspace."""
        raise NotImplementedError

    def fibre_of(self, field_type: Any, symmetry: Group) -> Fibre:
        """The direct sum of a ``FieldType``."""
        raise NotImplementedError

    def layer(self, layer: Any) -> TypedLayer | None:
        """The function, group and fibres of an ``EquivariantModule``."""
        if not hasattr(layer, "in_type") or not hasattr(layer, "out_type"):
            return None
        symmetry = self.group_of(layer.in_type.gspace)
        source, target = self.fibre_of(layer.in_type, symmetry), self.fibre_of(layer.out_type, symmetry)
        return TypedLayer(on_tensors(layer, self.library), symmetry, source, target)

    def fibre(self, spec: Any, symmetry: Group | None) -> tuple[Group, Fibre]:
        """Group and fibre of a ``FieldType``."""
        if not hasattr(spec, "representations"):
            raise UsageError(f"{spec!r} is no {self.library} FieldType: pass in_type or out_type, or '8*regular'.")
        symmetry = symmetry or self.group_of(spec.gspace)
        return symmetry, self.fibre_of(spec, symmetry)


def on_tensors(layer: Any, library: str) -> Callable[[Any], Any]:
    """The module as a function of plain tensors."""

    def call(x: Any) -> Any:
        return layer(importlib.import_module(f"{library}.nn").GeometricTensor(x, layer.in_type)).tensor

    return call


def finite_representation(
    rep: Any, elements: Sequence[Any], array_matrix: Callable[[Any], Any], symmetry: Group
) -> Representation:
    """A library's representation of a finite group as float64 matrices, its permutations made exact.

    Args:
        rep: the representation; called with an element it gives a matrix.
        elements: of the library's group.
        array_matrix: the matrix of such an element on array-axis coordinates.
        symmetry: the harness's group with the same matrices.
    """
    import numpy as np

    from ...harness.symmetry.groups import SAME
    from ...harness.symmetry.representations import Representation

    matrices = np.array([np.asarray(rep(g), dtype=np.float64) for g in elements])
    rounded = np.round(matrices)
    matrices = rounded if np.abs(matrices - rounded).max() < SAME else matrices
    index = {symmetry.element(array_matrix(g)).index: i for i, g in enumerate(elements)}
    permutes = bool((matrices.sum(-1) == 1).all() and (matrices >= 0).all())
    invariant = matrices.mean(0)[0] if permutes else None
    return Representation(rep.name, rep.size, lambda g: matrices[index[symmetry.element(g).index]], invariant)


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
