"""The contents of the first screen: what broke, on which property, since when; what got worse; what took longest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from ..harness.verdict.result import CheckResult
from .rows import Row, attention
from .since import CheckKey, Onset, key_of

#: Lines of each kind of change on the page; further lines are only counted.
LISTED = 100


@dataclass(frozen=True)
class Fault:
    """Checks of one implementation and property that fail, are unsure or warn, the worst first."""

    rows: tuple[Row, ...]
    #: Distinct onsets, the earliest first; empty if there are no earlier runs.
    since: tuple[Onset, ...] = ()

    @property
    def worst(self) -> CheckResult:
        """The worst check, whose verdict stands for all."""
        return self.rows[0].result

    @property
    def verdicts(self) -> tuple[str, ...]:
        """The distinct verdicts of the checks, the worst first."""
        return tuple(dict.fromkeys(str(row.result.verdict) for row in self.rows))

    @property
    def sentence(self) -> str:
        """The reason of the worst check."""
        return self.worst.contradiction or str(self.worst.reason)

    @property
    def link(self) -> str:
        """Fragment of the page that shows the checks; a single check has a fragment of its own."""
        if len(self.rows) == 1:
            return check_link(self.rows[0])
        return cell_link(self.rows[0].implementation, self.worst.property, self.worst.label)


@dataclass(frozen=True)
class Change:
    """One line of a comparison, with a link to its check if this run has the check."""

    change: str
    what: str
    cause: str
    link: str


def check_link(row: Row) -> str:
    """Fragment that opens one check."""
    return f"#check/{row.id}"


def implementation_link(name: str) -> str:
    """Fragment that opens one implementation."""
    return f"#implementation/{quote(name, safe='')}"


def cell_link(implementation: str, name: str, label: str = "") -> str:
    """Fragment that opens the checks of one implementation and property."""
    words = {"implementation": implementation, "property": name, "label": label}
    return "#checks?" + "&".join(f"{key}={quote(value, safe='')}" for key, value in words.items() if value)


def faults_of(rows: Iterable[Row], since: Mapping[CheckKey, Onset]) -> list[Fault]:
    """Failures and warnings by implementation and property, the worst first."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in attention(rows):
        groups.setdefault((row.result.label, row.implementation, row.result.property), []).append(row)
    return [Fault(tuple(group), _distinct(group, since)) for group in groups.values()]


def _distinct(rows: Sequence[Row], since: Mapping[CheckKey, Onset]) -> tuple[Onset, ...]:
    found = [onset for row in rows if (onset := since.get(key_of(row.result))) is not None]
    return tuple(dict.fromkeys(sorted(found, key=lambda onset: onset.first.started)))


def slowest(rows: Sequence[Row]) -> Row | None:
    """The check that took the longest time."""
    return max(rows, key=lambda row: row.result.seconds, default=None)


def changes_of(found: Mapping[str, Any], rows: Iterable[Row]) -> dict[str, list[Change]]:
    """The lines of a comparison that differ or are new, by outcome.

    Args:
        found: ``Changes.data()``: counts, notes, lines with change, what and cause.
        rows: the checks of this run, for the links.
    """
    links: dict[str, str] = {}
    for row in rows:
        r = row.result
        name = " | ".join(part for part in (r.implementation, r.case, r.property, r.dtype) if part)
        links.setdefault(name, check_link(row))
    changed: dict[str, list[Change]] = {}
    for line in found["lines"]:
        if line["change"] != "SAME" or line["cause"].startswith("new:"):
            kind = "NEW" if line["cause"].startswith("new:") else line["change"]
            changed.setdefault(kind, []).append(Change(kind, line["what"], line["cause"], links.get(line["what"], "")))
    order = ("WORSE", "AMBIGUOUS", "BETTER", "NEW")
    return {kind: changed[kind] for kind in order if kind in changed}
