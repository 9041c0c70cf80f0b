"""A run prepared for a report: the overall answer, failures first, a matrix, and rows by implementation."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ..harness.records.lines import Run
from ..harness.verdict.result import CheckResult, Verdict, worst

#: Labels from worst to best, the order of every list.
LABELS = ("FAIL", "UNSURE", "WARN", "EXPECTED", "PASS", "SKIP")
#: Every label has a sign in addition to its colour, so that no reader or printer needs colours.
SIGNS = {"FAIL": "✗", "UNSURE": "?", "WARN": "!", "EXPECTED": "≠", "PASS": "✓", "SKIP": "–"}
UNNAMED = "layer"


@dataclass(frozen=True)
class Row:
    """One check and the anchor of its links."""

    id: str
    result: CheckResult

    @property
    def implementation(self) -> str:
        """The implementation's name; a layer without a registered name is called ``layer``."""
        return self.result.implementation or UNNAMED


@dataclass(frozen=True)
class MatrixCell:
    """One cell of the matrix: the worst verdict over cases and dtypes, and the row of that verdict."""

    verdict: Verdict
    row: Row
    checks: int
    failing: int

    @property
    def label(self) -> str:
        """The label of the worst verdict: FAIL, PASS, ..."""
        return self.row.result.label


@dataclass(frozen=True)
class Matrix:
    """Implementations x properties; None for a pair without checks."""

    properties: tuple[str, ...]
    rows: tuple[tuple[str, tuple[MatrixCell | None, ...]], ...]


@dataclass(frozen=True)
class Summary:
    """The overall answer, its counts and its times."""

    label: str
    kind: str
    sentence: str
    counts: dict[str, int]
    total: int
    worst: Row | None
    seconds: float
    seconds_in_layers: float
    worker_seconds: float
    notes: tuple[str, ...]

    @property
    def overhead(self) -> float | None:
        """Time of all worker processes / time in layers; None if no layer was timed."""
        return self.worker_seconds / self.seconds_in_layers if self.seconds_in_layers > 0 else None


def rows_of(run: Run) -> tuple[Row, ...]:
    """Every check in the order of the record.

    The anchor comes from the identity of the check, so a link leads to the same check in the report of another run.
    """
    taken: dict[str, int] = {}
    rows = []
    for result in run.checks:
        name = anchor(result)
        taken[name] = taken.get(name, 0) + 1
        rows.append(Row(name if taken[name] == 1 else f"{name}-{taken[name]}", result))
    return tuple(rows)


def anchor(result: CheckResult) -> str:
    """Ten hexadecimal digits. Two of 20,000 checks share an anchor with probability 2e-4; one then gets a suffix."""
    key = (result.implementation, result.case, result.property, result.dtype, result.device, str(result.seed))
    return hashlib.blake2s("\0".join(key).encode("utf-8", "replace"), digest_size=5).hexdigest()


def worst_first(rows: Iterable[Row]) -> list[Row]:
    """Rows sorted from the worst verdict to the best, then by falling ratio; NaN counts as larger than any ratio."""
    return sorted(rows, key=lambda row: (row.result.rank, _size(row.result.ratio)), reverse=True)


def attention(rows: Iterable[Row]) -> list[Row]:
    """The rows that fail, are unsure or warn, worst first."""
    return [row for row in worst_first(rows) if row.result.label in ("FAIL", "UNSURE", "WARN")]


def declared(rows: Iterable[Row]) -> list[tuple[str, list[Row]]]:
    """The deviations that adapters declare: each reason with its checks."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if row.result.label == "EXPECTED":
            groups.setdefault(row.result.expected, []).append(row)
    return list(groups.items())


def matrix_of(rows: Sequence[Row]) -> Matrix:
    """The worst verdict of each implementation and property.

    The parts of a check get no cells of their own: the negative control of an integration is BROKEN by design, and its
    cell would look like a failure.
    """
    found: dict[str, dict[str, list[tuple[Row, CheckResult]]]] = {}
    properties: dict[str, None] = {}
    for row in rows:
        properties.setdefault(row.result.property)
        found.setdefault(row.implementation, {}).setdefault(row.result.property, []).append((row, row.result))
    names = tuple(properties)
    table = tuple((name, tuple(_matrix_cell(cells.get(p, ())) for p in names)) for name, cells in found.items())
    return Matrix(names, table)


def _matrix_cell(entries: Sequence[tuple[Row, CheckResult]]) -> MatrixCell | None:
    if not entries:
        return None
    decisive = worst(result for _, result in entries)
    row = next(row for row, result in entries if result is decisive)
    return MatrixCell(decisive.verdict, row, len(entries), sum(result.fails for _, result in entries))


def summary_of(run: Run, rows: Sequence[Row]) -> Summary:
    """The overall answer: counts, worst ratio, times, and notes on what is missing from the run."""
    counts = dict.fromkeys(LABELS, 0)
    for row in rows:
        counts[row.result.label] += 1
    # The worst ratio excludes known deviations, which do not describe the other checks, and skipped checks.
    rated = [row for row in rows if row.result.ratio is not None and row.result.label not in ("EXPECTED", "SKIP")]
    label, kind, sentence = _answer(counts, len(rows), complete=run.end is not None)
    return Summary(
        label=label,
        kind=kind,
        sentence=sentence,
        counts=counts,
        total=len(rows),
        worst=max(rated, key=lambda row: _size(row.result.ratio), default=None),
        seconds=run.end.seconds if run.end else sum(row.result.seconds for row in rows),
        seconds_in_layers=run.end.seconds_in_layers if run.end else sum(row.result.seconds_in_layer for row in rows),
        worker_seconds=sum(row.result.seconds + row.result.seconds_building for row in rows),
        notes=tuple(_notes(run)),
    )


def _answer(counts: dict[str, int], total: int, *, complete: bool) -> tuple[str, str, str]:
    tried = total - counts["SKIP"]
    if tried == 0:
        why = "the record has no checks" if total == 0 else f"all {total} checks were skipped"
        return "NOTHING CHECKED", "SKIP", f"Nothing was checked: {why}."
    parts = [f"{counts[label]} {label}" for label in LABELS if counts[label]]
    kind = next((label for label in ("FAIL", "UNSURE", "WARN") if counts[label]), "PASS")
    so_far = "" if complete else " so far"
    sentence = f"Of {_checks(total)}{so_far}: {', '.join(parts)}."
    if counts["PASS"] == total:
        sentence = f"{'All ' if total > 1 else 'The '}{_checks(total)}{so_far} {'hold' if total > 1 else 'holds'}."
    if not complete and kind in ("PASS", "WARN"):
        return "INCOMPLETE", "UNSURE", sentence
    return kind, kind, sentence


def _checks(count: int) -> str:
    return f"{count} check" if count == 1 else f"{count} checks"


def _notes(run: Run) -> Iterable[str]:
    done, planned = len(run.checks), run.header.planned
    if run.truncated:
        yield f"The record is truncated. {run.truncated}"
    if run.end is None:
        yield f"The run was interrupted: {done} of {planned} planned checks were finished; the report shows only those."
    elif done < planned:
        yield f"{done} of {planned} planned checks are in the record."


def environment_rows(environment: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """The environment as dotted names and values."""
    listed: list[tuple[str, str]] = []
    for key, value in environment.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            listed += environment_rows(value, f"{name}.")
        elif isinstance(value, (list, tuple)):
            listed.append((name, ", ".join(map(str, value)) or "none"))
        else:
            listed.append((name, "none" if value is None else str(value)))
    return listed


def _size(ratio: float | None) -> tuple[int, float]:
    """Sort key: no ratio, then numbers, then NaN."""
    if ratio is None:
        return (0, 0.0)
    return (2, 0.0) if math.isnan(ratio) else (1, ratio)
