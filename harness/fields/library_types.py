"""Readers of library types: they translate the layers and field types of escnn, e2cnn, e3nn and other libraries."""

from __future__ import annotations

import importlib
import importlib.metadata
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import UsageError

if TYPE_CHECKING:
    from ..symmetry.groups import Group
    from ..symmetry.representations import Fibre
TYPE_READERS = "equiharness.type_readers"


@dataclass(frozen=True)
class TypedLayer:
    """The claim that a layer's own types define: its function on plain tensors, group, source and target fibres.

    ``source`` and ``target`` are fibres, or trees of fields (``has_fields``) where the types also define the domain.
    ``reference`` is the layer in float64, ``refined`` the layer at a multiple of its own resolution, as in ``Claim``.
    """

    function: Callable[..., Any]
    group: Group
    source: Any
    target: Any
    split: bool = False
    has_fields: bool = False
    reference: Callable[..., Any] | None = None
    refined: Callable[[float], tuple[int, Callable[..., Any]]] | None = None


def _readers(obj: object) -> Iterator[Any]:
    """Type readers of the libraries that define an object's classes, matched by their top-level packages."""
    points = {p.name: p for p in importlib.metadata.entry_points(group=TYPE_READERS)}
    packages = dict.fromkeys(cls.__module__.partition(".")[0] for cls in type(obj).__mro__)
    yield from (points[package].load()() for package in packages if package in points)


#: Attributes that hold a library's types in layers written outside that library.
CARRIED = ("in_type", "irreps_in")


def read_layer(layer: object) -> TypedLayer | None:
    """The claim of a layer of a library, or of a layer with a library's types as attributes; None if there is none."""
    carried = (reader for name in CARRIED for reader in _readers(getattr(layer, name, None)))
    found: Iterator[TypedLayer | None] = (r.layer(layer) for r in itertools.chain(_readers(layer), carried))
    return next((typed for typed in found if typed is not None), None)


def read_type(spec: object, group: Group | None) -> tuple[Group, Fibre]:
    """Group and fibre of a library's field type.

    Raises:
        UsageError: no registered reader accepts the type.
    """
    reader = next(_readers(spec), None)
    if reader is None:
        raise UsageError(
            f"Cannot read {spec!r} as a fibre: write a sum such as '3*trivial + 8*regular', or install an adapter for "
            "the library that defines this type."
        )
    found: tuple[Group, Fibre] = reader.fibre(spec, group)
    return found
