"""What is on offer: implementations and library types, found by entry points, loaded only when used."""

from __future__ import annotations

import ast
import difflib
import fnmatch
import functools
import importlib
import importlib.metadata
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from .errors import MissingDependencyError, UsageError

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

    from .claim import Claim
    from .groups import Group
    from .representations import Fibre
    from .verdict import Verdict

IMPLEMENTATIONS = "equiharness.implementations"
TYPE_READERS = "equiharness.type_readers"

Value = str | int | float | bool | None


class Family(StrEnum):
    """Kinds of layers, by the domain of their signals."""

    PLANAR = "planar"
    OCTAHEDRAL = "octahedral"
    SPHERICAL = "spherical"
    POINTS = "points"


@dataclass(frozen=True)
class Case:
    """One configuration, as plain data: a name for people and the parameters ``build`` needs."""

    name: str
    parameters: Mapping[str, Value] = field(default_factory=dict)

    def __getitem__(self, key: str) -> Any:
        return self.parameters[key]

    @classmethod
    def of(cls, **parameters: Value) -> Case:
        """A case named after its parameters.

        Example:
            >>> Case.of(group="C4", size=33).name
            'group=C4 size=33'
        """
        return cls(" ".join(f"{k}={v}" for k, v in parameters.items()), parameters)

    @classmethod
    def read(cls, name: str) -> Case | None:
        """The case that ``of`` gave this name; None: no case is named so.

        Example:
            >>> Case.read("size=33 grid=near identity alias=True") == Case.of(size=33, grid="near identity", alias=True)
            True
        """
        words = re.split(r"(?:^| )(\w+)=", name)
        made = cls.of(**{key: _value(text) for key, text in zip(words[1::2], words[2::2], strict=True)})
        return made if made.parameters and made.name == name else None


def _value(text: str) -> Value:
    """What a parameter was before it became a part of a name."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return value if isinstance(value, (int, float, bool, type(None))) else text


@dataclass(frozen=True)
class Cost:
    """Work of one forward pass, and of forward with backward, from first principles: flops and bytes of one sample.

    ``call_flops`` and ``call_bytes`` are the part of the forward's that is done once for each call, whatever the
    batch: weights that are read, filters that are transformed.
    """

    flops: float
    bytes: float
    backward_flops: float
    backward_bytes: float
    call_flops: float = 0.0
    call_bytes: float = 0.0


@dataclass(frozen=True)
class Expected:
    """A declared deviation: which checks of an adapter end in which verdict, and why that is no news.

    A check that ends as declared does not fail a run; one that ends otherwise does, a passing one included.

    Args:
        property: name of the property.
        verdict: what the check concludes.
        reason: why, in a sentence about the library, for readers of the report.
        when: glob pattern on the case's name, or the values that parameters of the case must have; "dtype" and
            "device" are parameters too, texts are glob patterns, and a tuple holds alternatives.

    Example:
        >>> from equiharness.harness.verdict import Verdict
        >>> known = Expected("equivariance", Verdict.BROKEN, "even sizes are off centre.", when={"size": 32})
        >>> known.covers("equivariance", Case.of(group="C4", size=32), dtype="float32", device="cpu")
        True
    """

    property: str
    verdict: Verdict
    reason: str
    when: str | Mapping[str, Value | tuple[Value, ...]] = "*"

    def covers(self, property: str, case: Case, **where: Value) -> bool:
        """Whether this declaration is about a property of a case; ``where`` are dtype and device."""
        if property != self.property:
            return False
        if isinstance(self.when, str):
            return self.when == case.name or fnmatch.fnmatchcase(case.name, self.when)
        known = {**where, **case.parameters}
        return all(key in known and _agrees(value, known[key]) for key, value in self.when.items())


def _agrees(wanted: Value | tuple[Value, ...], found: Value) -> bool:
    if isinstance(wanted, tuple):
        return any(_agrees(one, found) for one in wanted)
    if isinstance(wanted, str) and isinstance(found, str):
        return fnmatch.fnmatchcase(found, wanted)
    return wanted == found


class Implementation:
    """An adapter: one layer of one library. Subclass, and register under ``equiharness.implementations``.

    Attributes:
        name: "library.Layer", unique.
        library: the distribution that provides it; version and availability come from it.
        family: the domain of its signals; ``family_of`` says it of one case, where one layer serves two families.
        install: the command that installs the library.
        expected: declared deviations.
    """

    name: str
    library: str
    family: Family
    install: str = ""
    expected: tuple[Expected, ...] = ()

    def cases(self) -> Iterable[Case]:
        """A small fixed matrix of configurations, for reports and regression."""
        raise NotImplementedError

    def strategy(self) -> SearchStrategy[Case]:
        """Every valid configuration, for property-based search; those of ``cases`` unless an adapter says more."""
        from .strategies import listed

        return listed(self.cases())

    def build(self, case: Case, *, device: str, dtype: str, seed: int) -> Claim:
        """The claim of one configuration."""
        raise NotImplementedError

    def cost(self, case: Case) -> Cost:
        """Flops and bytes of one configuration."""
        raise NotImplementedError

    def case_of(self, kind: str, parameters: Mapping[str, Value]) -> Case | None:
        """The configuration that computes one of the operators that implementations are compared on; None: none does.

        Args:
            kind: what the operator computes, such as "group convolution" (``operators.OPERATORS``).
            parameters: its geometry.
        """
        return None

    def family_of(self, case: Case) -> Family:
        """The family of one case: the adapter's own."""
        return self.family

    def leads(self, case: Case) -> bool:
        """Whether this is the first case of its family: the one to spend seconds on."""
        family = self.family_of(case)
        return case.name == next(c.name for c in self.cases() if self.family_of(c) is family)

    def expects(self, property: str, case: Case, **where: Value) -> Expected | None:
        """The first deviation declared for a property of a case; ``where`` are dtype and device."""
        return next((e for e in self.expected if e.covers(property, case, **where)), None)

    @property
    def version(self) -> str | None:
        """Installed version of the library; None where it is missing."""
        return distribution_version(self.library)

    def require(self) -> None:
        """Raise MissingDependencyError with the install command unless the library is there."""
        if self.version is None:
            raise MissingDependencyError(
                f"{self.name} needs {self.library}, which is not installed. Install it: "
                f"{self.install or f'pip install {self.library}'}"
            )


@functools.cache
def distribution_version(name: str) -> str | None:
    """Version of an installed distribution, or None; imports nothing of it."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


@functools.cache
def implementations() -> tuple[Implementation, ...]:
    """Every registered adapter, installed or not, in order of name.

    Raises:
        UsageError: an adapter cannot be loaded or lacks what an Implementation has; the message names the plugin.
    """
    loaded = []
    for point in importlib.metadata.entry_points(group=IMPLEMENTATIONS):
        try:
            adapter = point.load()()
        except Exception as error:
            raise UsageError(
                f"The plugin {point.name} = {point.value} cannot be loaded: {error!r}. Update or remove it."
            ) from error
        missing = [a for a in ("name", "library", "family", "cases", "build") if not hasattr(adapter, a)]
        if missing:
            raise UsageError(f"The plugin {point.name} = {point.value} lacks {', '.join(missing)}: see Implementation.")
        loaded.append(adapter)
    return tuple(sorted(loaded, key=lambda i: i.name))


def find(name: str) -> Implementation:
    """The implementation of this name.

    Raises:
        UsageError: there is none; the message suggests the closest.
    """
    known = {i.name: i for i in implementations()}
    if name not in known:
        raise UsageError(unknown("implementation", name, known))
    return known[name]


def resolve(path: str) -> Any:
    """The object at "module:name"."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """'Unknown KIND NAME', with the closest known names."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=3)
    hint = f"Did you mean {' or '.join(close)}?" if close else f"Known: {', '.join(known)}."
    return f"Unknown {kind} {name!r}. {hint}"


@dataclass(frozen=True)
class TypedLayer:
    """A layer whose own types say its whole claim: its function on plain tensors, group, source and target fibres.

    ``source`` and ``target`` are fibres, or trees of fields (``has_fields``) where the types say the domain too.
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
    """Type readers of the libraries that an object's classes come from, matched by their top-level packages."""
    points = {p.name: p for p in importlib.metadata.entry_points(group=TYPE_READERS)}
    packages = dict.fromkeys(cls.__module__.partition(".")[0] for cls in type(obj).__mro__)
    yield from (points[package].load()() for package in packages if package in points)


#: Attributes by which layers that others derive from a library's types carry those types.
CARRIED = ("in_type", "irreps_in")


def read_layer(layer: object) -> TypedLayer | None:
    """What a layer of a library, or one that carries a library's types, says of itself; None where it says nothing."""
    carried = (reader for name in CARRIED for reader in _readers(getattr(layer, name, None)))
    found: Iterator[TypedLayer | None] = (r.layer(layer) for r in itertools.chain(_readers(layer), carried))
    return next((typed for typed in found if typed is not None), None)


def read_type(spec: object, of: Group | None) -> tuple[Group, Fibre]:
    """Group and fibre of a library's field type.

    Raises:
        UsageError: no registered library knows the type.
    """
    reader = next(_readers(spec), None)
    if reader is None:
        raise UsageError(
            f"Cannot read {spec!r} as a fibre: write '3*trivial + 8*regular', or install the library whose type it is."
        )
    found: tuple[Group, Fibre] = reader.fibre(spec, of)
    return found
