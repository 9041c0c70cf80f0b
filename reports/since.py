"""Since when a check fails: the records of earlier runs, and the first run in which each failing check failed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ..harness.errors import RecordError
from ..harness.records.lines import Run
from ..harness.records.reading import data_of
from ..harness.verdict.result import CheckResult, Verdict

#: The identity of a check across runs.
CheckKey = tuple[str, str, str, str, str, int]


class When(NamedTuple):
    """A run: its day and its commit."""

    started: str
    commit: str

    def __str__(self) -> str:
        return ", ".join(part for part in (self.started[:10], self.commit[:10]) if part) or "an unnamed run"


@dataclass(frozen=True)
class Past:
    """One earlier run: whether each of its checks failed."""

    when: When
    fails: dict[CheckKey, bool] = field(repr=False)


@dataclass(frozen=True)
class Onset:
    """The run in which a failing check began to fail.

    Args:
        first: the first run in which the check fails; it may be this run.
        held: the last run in which the check did not fail; None if it always failed or was never checked before.
        checked: whether any earlier run holds the check.
    """

    first: When
    held: When | None
    checked: bool

    @property
    def before(self) -> str:
        """The state of the check before the first failure."""
        if self.held is not None:
            return f"held on {self.held}"
        return "or before: no record in which it held" if self.checked else "first checked in this run"

    @property
    def text(self) -> str:
        """The onset as one line."""
        return f"{self.first} ({self.before})"


def when_of(environment: dict[str, Any], started: str) -> When:
    """The run described by a record's first line."""
    commit = environment.get("commit") or (environment.get("git") or {}).get("commit") or ""
    return When(started, str(commit))


def key_of(result: CheckResult) -> CheckKey:
    """The key of a result: implementation, case, property, dtype, device and seed."""
    return (result.implementation, result.case, result.property, result.dtype, result.device, result.seed)


def read_past(path: Path) -> Past:
    """Read the verdicts of a record. Numbers are not validated, and a truncated last line is left out.

    Raises:
        RecordError: the file does not exist, has another schema version, or is no record.
    """
    found: dict[CheckKey, bool] = {}
    when: When | None = None
    for number, line in data_of(path):
        try:
            if number == 1:
                when = when_of(line["environment"], line["started"])
            elif line["kind"] == "check":
                _add(found, line["result"])
        except (ValueError, KeyError, TypeError) as error:
            raise RecordError(f"{path}, line {number}: no line of a record. The file is damaged.") from error
    assert when is not None
    return Past(when, found)


def _add(found: dict[CheckKey, bool], r: dict[str, Any]) -> None:
    verdict, declared = Verdict(r["verdict"]), r.get("expected_verdict")
    if verdict is not Verdict.SKIPPED:
        key = (r["implementation"], r["case"], r["property"], r["dtype"], r["device"], r["seed"])
        found[key] = found.get(key, False) or (verdict != declared if declared else verdict.fails)


def onsets(run: Run, pasts: Iterable[Past]) -> dict[CheckKey, Onset]:
    """The onset of each check that fails in a run; empty if there are no earlier runs.

    Example:
        >>> from equiharness.harness.records.lines import RunLine
        >>> onsets(Run(RunLine(started="2026-01-02", command="", seed=0, planned=0, environment={})), [])
        {}
    """
    ordered = sorted(pasts, key=lambda past: past.when.started, reverse=True)
    now = when_of(run.header.environment, run.header.started)
    failing = (key_of(result) for result in run.checks if result.fails)
    return {key: _onset(key, now, ordered) for key in failing} if ordered else {}


def _onset(key: CheckKey, now: When, newest_first: Sequence[Past]) -> Onset:
    first, checked = now, False
    for past in newest_first:
        fails = past.fails.get(key)
        if fails is None:
            continue
        checked = True
        if not fails:
            return Onset(first, past.when, checked)
        first = past.when
    return Onset(first, None, checked)
