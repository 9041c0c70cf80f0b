"""What an adapter is: one layer of one library, its configurations, costs and declared deviations."""

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
    from ..verdict.result import Verdict


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
        >>> from equiharness.harness.verdict.result import Verdict
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

    def strategy(self) -> SearchStrategy[Case] | None:
        """Every valid configuration, for property-based search; None: those of ``cases`` are all there are."""
        return None

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

    def declared(self, property: str, case: Case, **where: Value) -> dict[str, Any]:
        """The deviation declared for a check, as fields of its result; empty where none is declared."""
        known = self.expects(property, case, **where)
        return {"expected": known.reason, "expected_verdict": known.verdict} if known else {}

    @builtins.property
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
