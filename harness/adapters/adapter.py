"""The interface of adapters. An adapter describes one layer of one library: cases, costs, declared deviations."""

from __future__ import annotations

import ast
import builtins
import fnmatch
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from ..errors import MissingDependencyError
from ..installed import distribution_version

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

    from ..claim.claim import Claim
    from ..verdict.codes import Verdict


Value = str | int | float | bool | None


class Family(StrEnum):
    """Kinds of layers, by the domain of their signals."""

    PLANAR = "planar"
    OCTAHEDRAL = "octahedral"
    SPHERICAL = "spherical"
    POINTS = "points"


class Feature(StrEnum):
    """A part of a claim that some properties need. A run plans no check of a property whose feature a case lacks."""

    #: The claim names backends to compare with the eager layer.
    BACKENDS = "backends"
    #: The source has a field of band-limited signals, on ``Sphere`` or ``Rotations``.
    BAND_LIMIT = "a band limit"
    #: The claim is also about elements that need interpolation on a square or cubic grid, or is refined.
    OFF_GRID = "elements off the grid"
    #: The modules have floating-point parameters.
    PARAMETERS = "parameters"
    #: The field of the output is that of the input, so that layers can be stacked.
    SAME_FIELDS = "one field for input and output"
    #: The claim names a second implementation of the operator.
    TWINS = "a second implementation"


#: Groups whose elements all map a square or cubic grid onto itself.
ON_GRID = frozenset({"C1", "C2", "C4", "D1", "D2", "D4", "O", "Oh"})


@dataclass(frozen=True)
class Case:
    """One configuration as plain data: a name for people, and the parameters for ``build``."""

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
        """The case that ``of`` makes with this name; None if ``of`` makes no case of this name.

        Example:
            >>> Case.read("size=33 grid=near identity alias=True") == Case.of(size=33, grid="near identity", alias=True)
            True
        """
        words = re.split(r"(?:^| )(\w+)=", name)
        made = cls.of(**{key: _value(text) for key, text in zip(words[1::2], words[2::2], strict=True)})
        return made if made.parameters and made.name == name else None


def _value(text: str) -> Value:
    """The value of a parameter, from its text in a name."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return value if isinstance(value, (int, float, bool, type(None))) else text


@dataclass(frozen=True)
class Cost:
    """Flops and bytes of one sample, from first principles: of a forward pass, and of a forward with a backward pass.

    ``call_flops`` and ``call_bytes`` are the part of the forward pass that is done once for each call, whatever the
    batch: reading of weights, transformation of filters.
    """

    flops: float
    bytes: float
    backward_flops: float
    backward_bytes: float
    call_flops: float = 0.0
    call_bytes: float = 0.0


@dataclass(frozen=True)
class Expected:
    """A declared deviation: certain checks of an adapter are known to end in a certain verdict, for a stated reason.

    A check with the declared verdict does not fail a run. A check with any other verdict fails it, also if it passes.

    Args:
        property: name of the property.
        verdict: the verdict of the check.
        reason: the reason, as a sentence about the library, for readers of the report.
        when: glob pattern on the case's name, or the values that parameters of the case must have. "dtype" and
            "device" are parameters too, strings are glob patterns, and a tuple holds alternatives.

    Example:
        >>> from equiharness import Verdict
        >>> known = Expected("equivariance", Verdict.BROKEN, "even sizes are off centre.", when={"size": 32})
        >>> known.covers("equivariance", Case.of(group="C4", size=32), dtype="float32", device="cpu")
        True
    """

    property: str
    verdict: Verdict
    reason: str
    when: str | Mapping[str, Value | tuple[Value, ...]] = "*"

    def covers(self, property: str, case: Case, **where: Value) -> bool:
        """Whether this declaration applies to a property of a case; ``where`` holds dtype and device."""
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
    """An adapter: one layer of one library. Subclass it, and register it under ``equiharness.implementations``.

    Attributes:
        name: "library.Layer", unique.
        library: the distribution with the layer; it determines version and availability.
        family: the domain of the layer's signals; a layer of two families overrides ``family_of``, which takes a case.
        install: the command that installs the library.
        expected: declared deviations.
        never: features that the claim of no case has.
    """

    name: str
    library: str
    family: Family
    install: str = ""
    expected: tuple[Expected, ...] = ()
    never: tuple[Feature, ...] = ()

    def cases(self) -> Iterable[Case]:
        """A small fixed matrix of configurations, for reports and regression."""
        raise NotImplementedError

    def strategy(self) -> SearchStrategy[Case] | None:
        """Every valid configuration, for property-based search; None if there are none beyond ``cases``."""
        return None

    def build(self, case: Case, *, device: str, dtype: str, seed: int) -> Claim:
        """The claim of one configuration."""
        raise NotImplementedError

    def cost(self, case: Case) -> Cost:
        """Flops and bytes of one configuration."""
        raise NotImplementedError

    def case_of(self, kind: str, parameters: Mapping[str, Value]) -> Case | None:
        """The configuration that computes an operator on which implementations are compared; None if there is none.

        Args:
            kind: kind of the operator, such as "group convolution" (``operators.OPERATORS``).
            parameters: geometry of the operator.
        """
        return None

    def family_of(self, case: Case) -> Family:
        """The family of one case; by default the adapter's family."""
        return self.family

    def lacks(self, case: Case) -> set[Feature]:
        """The features that the claim of a case certainly does not have, found without building the layer.

        A feature that is not named here may be there or not: the property that needs it is planned, and is SKIPPED if
        the claim lacks the feature. By default these are ``never``, and the band limit outside the spherical family.
        """
        return {*self.never, *(() if self.family_of(case) is Family.SPHERICAL else (Feature.BAND_LIMIT,))}

    def leads(self, case: Case) -> bool:
        """Whether this is the first case of its family. Slow checks run on this case only."""
        family = self.family_of(case)
        return case.name == next(c.name for c in self.cases() if self.family_of(c) is family)

    def expects(self, property: str, case: Case, **where: Value) -> Expected | None:
        """The first declared deviation for a property of a case; ``where`` holds dtype and device."""
        return next((e for e in self.expected if e.covers(property, case, **where)), None)

    def declared(self, property: str, case: Case, **where: Value) -> dict[str, Any]:
        """The declared deviation for a check, as fields of its result; empty if none is declared."""
        known = self.expects(property, case, **where)
        return {"expected": known.reason, "expected_verdict": known.verdict} if known else {}

    @builtins.property
    def version(self) -> str | None:
        """Installed version of the library; None if the library is missing."""
        return distribution_version(self.library)

    def require(self) -> None:
        """Raise MissingDependencyError, with the install command, if the library is missing."""
        if self.version is None:
            raise MissingDependencyError(
                f"{self.name} needs {self.library}, which is not installed. Install it: "
                f"{self.install or f'pip install {self.library}'}"
            )


def lacking(adapter: Implementation, case: Case) -> set[Feature]:
    """The features that a case lacks; none if the adapter cannot tell, say for a case that it cannot build either."""
    try:
        return adapter.lacks(case)
    except Exception:  # the checks of the case show the error
        return set()
