"""Readers of library types: they translate the layers and field types of escnn, e2cnn, e3nn and other libraries."""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import UsageError

if TYPE_CHECKING:
    from ..symmetry.groups import Group
    from ..symmetry.representations import Fibre
    from .domains import Domain
TYPE_READERS = "equiharness.type_readers"


@dataclass(frozen=True)
class TypedLayer:
    """The claim that a layer's own types define: its function on plain tensors, group, source and target fibres.

    ``source`` and ``target`` are trees of fibres, or trees of fields (``has_fields``) where the types also define the
    domain.
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
    """Type readers of the libraries that define an object's classes, matched by their top-level packages.

    Strings and lists in e3nn's notation are read by e3nn's reader, which does not need e3nn for this.
    """
    packages = dict.fromkeys(cls.__module__.partition(".")[0] for cls in type(obj).__mro__)
    if is_irreps_text(obj) or _is_terms(obj):
        packages = {"e3nn": None}
    elif isinstance(obj, (list, tuple)) and type(obj) in (list, tuple) and obj:
        yield from _readers(obj[0])
        return
    points = {p.name: p for p in importlib.metadata.entry_points(group=TYPE_READERS)}
    yield from (points[package].load()() for package in packages if package in points)


#: Irreps in e3nn's notation: "2x0e + 1x1o".
_IRREPS = re.compile(r"\s*(\d+\s*x\s*)?\d+[eo]\s*(\+\s*(\d+\s*x\s*)?\d+[eo]\s*)*")


def is_irreps_text(spec: object) -> bool:
    """Whether this is a text in e3nn's notation.

    Example:
        >>> is_irreps_text("2x0e + 1o"), is_irreps_text("2*trivial")
        (True, False)
    """
    return isinstance(spec, str) and _IRREPS.fullmatch(spec) is not None


def _is_terms(spec: object) -> bool:
    """Whether this is a list of e3nn's terms, pairs of a multiplicity and an irrep: [(2, (0, 1)), (1, "1o")]."""
    if not isinstance(spec, (list, tuple)) or type(spec) not in (list, tuple):
        return False
    return any(type(term) is tuple and len(term) == 2 and isinstance(term[0], int) for term in spec)


def is_library_type(spec: object) -> bool:
    """Whether a reader knows this type; a list or tuple of types is no type, but a tree of them."""
    plain = type(spec) in (list, tuple) and not _is_terms(spec)
    return not plain and next(_readers(spec), None) is not None


#: Attributes that hold a library's types in layers written outside that library.
CARRIED = re.compile(r"in_type|irreps(_\w+)?")


def read_layer(layer: object) -> TypedLayer | None:
    """The claim of a layer of a library, or of a layer with a library's types as attributes; None if there is none.

    Raises:
        UsageError: the types do not describe the layer.
    """
    found: Iterator[TypedLayer | None] = (reader.layer(layer) for reader in _readers_of_layer(layer))
    return next((typed for typed in found if typed is not None), None)


def plain_function(layer: Any) -> Callable[..., Any]:
    """The layer as a function of plain tensors, where a library's layers take fields; else the layer itself."""
    made = (reader.function(layer) for reader in _readers_of_layer(layer) if hasattr(reader, "function"))
    function: Callable[..., Any] = next(made, layer)
    return function


def _readers_of_layer(layer: object) -> Iterator[Any]:
    yield from _readers(layer)
    for name in filter(CARRIED.fullmatch, dir(layer)):
        yield from _readers(getattr(layer, name, None))


def required_arguments(layer: Any) -> list[str] | None:
    """Names of the positional arguments that a layer cannot be called without; None if its signature is not known."""
    try:
        parameters = inspect.signature(getattr(layer, "forward", layer)).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return None
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p.name for p in parameters if p.kind in positional and p.default is p.empty]


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


def read_domain(spec: object) -> Domain | None:
    """The domain of a library's field type; None where the type leaves it open, as a size of a grid."""
    reader = next(_readers(spec), None)
    domain = getattr(reader, "domain", None)
    found: Domain | None = domain(spec) if domain is not None else None
    return found
