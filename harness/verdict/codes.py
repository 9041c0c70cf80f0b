"""Verdicts and the codes of their reasons: plain enumerations, which load no other module."""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class Verdict(StrEnum):
    """The outcome of one check, from best to worst."""

    EXACT = "EXACT"
    APPROXIMATE = "APPROXIMATE"
    SKIPPED = "SKIPPED"
    IMPRECISE = "IMPRECISE"
    AMBIGUOUS = "AMBIGUOUS"
    VACUOUS = "VACUOUS"
    BROKEN = "BROKEN"
    TIMED_OUT = "TIMED_OUT"
    CRASHED = "CRASHED"

    @property
    def severity(self) -> int:
        """Position from best (0) to worst."""
        return list(Verdict).index(self)

    @property
    def label(self) -> str:
        """The verdict in one plain word: PASS, WARN, UNSURE, FAIL or SKIP."""
        return _LABELS[self]

    @property
    def fails(self) -> bool:
        """Whether a check with this verdict fails a run. IMPRECISE fails a run only with ``strict``."""
        return self.label in ("FAIL", "UNSURE")


#: Labels of checks, from best to worst.
LABELS = ("SKIP", "PASS", "EXPECTED", "WARN", "UNSURE", "FAIL")

_LABELS = {
    Verdict.EXACT: "PASS",
    Verdict.APPROXIMATE: "PASS",
    Verdict.SKIPPED: "SKIP",
    Verdict.IMPRECISE: "WARN",
    Verdict.AMBIGUOUS: "UNSURE",
    Verdict.VACUOUS: "FAIL",
    Verdict.BROKEN: "FAIL",
    Verdict.TIMED_OUT: "FAIL",
    Verdict.CRASHED: "FAIL",
}


class Code(StrEnum):
    """The code of a reason, stable for programs. This is the only list; a ``Reason`` with another code is refused."""

    #: No reason yet: a later step completes the result.
    NONE = ""
    #: Passed.
    EXACT = "EXACT"
    ROUNDING = "ROUNDING"
    CEILING = "CEILING"
    CONVERGES = "CONVERGES"
    #: The layer is at fault.
    ERROR = "ERROR"
    GRADIENT = "GRADIENT"
    HIDDEN = "HIDDEN"
    LEAK = "LEAK"
    JUMP = "JUMP"
    KINK = "KINK"
    LIMIT = "LIMIT"
    NONDETERMINISTIC = "NONDETERMINISTIC"
    NONFINITE = "NONFINITE"
    NOT_ROBUST = "NOT_ROBUST"
    ORDER = "ORDER"
    PLATEAU = "PLATEAU"
    STATEFUL = "STATEFUL"
    #: Precision was lost.
    CONSTANTS_IN_HALF = "CONSTANTS_IN_HALF"
    CONSTANTS_IN_SINGLE = "CONSTANTS_IN_SINGLE"
    PRECISION = "PRECISION"
    #: The layer, or an action that was given as a function, acts otherwise than the claim says.
    ACTION = "ACTION"
    #: Nothing can be concluded.
    BORDER = "BORDER"
    CONTROL = "CONTROL"
    ESTIMATED = "ESTIMATED"
    ILL_CONDITIONED = "ILL_CONDITIONED"
    LOW_POWER = "LOW_POWER"
    ROUGH = "ROUGH"
    SINGLE_RESOLUTION = "SINGLE_RESOLUTION"
    TIE = "TIE"
    UNMEASURED = "UNMEASURED"
    VACUOUS = "VACUOUS"
    #: The property does not apply.
    ALIASES = "ALIASES"
    BROKEN_UNTRAINED = "BROKEN_UNTRAINED"
    CONSTANT = "CONSTANT"
    DIES_OUT = "DIES_OUT"
    FIXED_OUTPUT = "FIXED_OUTPUT"
    NOTHING_ALIASES = "NOTHING_ALIASES"
    NOT_AVAILABLE = "NOT_AVAILABLE"
    SHARED_STATISTICS = "SHARED_STATISTICS"
    UNDECIDED = "UNDECIDED"
    NOT_BAND_LIMITED = "NOT_BAND_LIMITED"
    NOT_CLAIMED = "NOT_CLAIMED"
    NOT_COMPOSABLE = "NOT_COMPOSABLE"
    NOT_DIFFERENTIABLE = "NOT_DIFFERENTIABLE"
    NOT_INSTALLED = "NOT_INSTALLED"
    NOT_OFF_GRID = "NOT_OFF_GRID"
    NO_BACKEND = "NO_BACKEND"
    NO_EXACT_ELEMENTS = "NO_EXACT_ELEMENTS"
    NO_INVARIANT = "NO_INVARIANT"
    NO_PARAMETERS = "NO_PARAMETERS"
    NO_REFERENCE = "NO_REFERENCE"
    NO_TWIN = "NO_TWIN"
    ONE_POINT = "ONE_POINT"
    #: The check did not end by itself. A check that took too long ends with LIMIT.
    CRASHED = "CRASHED"
    DIED = "DIED"

    @classmethod
    def read(cls, text: str) -> Self:
        """The code in a record. A code that another version wrote and this one does not know is kept as it is.

        Example:
            >>> Code.read("EXACT") is Code.EXACT, str(Code.read("OF_THE_FUTURE"))
            (True, 'OF_THE_FUTURE')
        """
        if text in cls._value2member_map_:
            return cls(text)
        unknown = str.__new__(cls, text)
        unknown._name_ = unknown._value_ = text
        return unknown
