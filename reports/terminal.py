"""The summary at the end of a pytest session: counts, and the checks with the largest ratios."""

from __future__ import annotations

from collections.abc import Sequence

from ..harness.records.lines import counts
from ..harness.verdict.result import CheckResult, Verdict
from .numbers import number
from .rows import Row, worst_first

#: Lines shown at least; checks that fail are all shown.
SHOWN = 5


def summary(results: Sequence[tuple[str, CheckResult]]) -> tuple[str, list[str]]:
    """The title and the lines, sorted by verdict and ratio, the worst first.

    Args:
        results: pairs (name of the test, one part of its check).
    """
    names = {f"{i}": name for i, (name, _) in enumerate(results)}
    rows = worst_first(Row(f"{i}", result) for i, (_, result) in enumerate(results))
    tally = counts(result for _, result in results)
    listed = ", ".join(f"{tally[verdict]} {verdict}" for verdict in reversed(Verdict) if verdict in tally)
    title = f"equiharness: {len(results)} {'check' if len(results) == 1 else 'checks'}, {listed}"
    failing = sum(row.result.fails for row in rows)
    shown = [row for row in rows if row.result.label != "SKIP"][: max(failing, SHOWN)]
    lines = [_line(names[row.id], row.result) for row in shown]
    rest = len(rows) - len(shown)
    if rest:
        lines.append(f"  ... and {rest} more, none of them worse.")
    return title, lines


def _line(name: str, result: CheckResult) -> str:
    ratio = f"ratio {number(result.ratio)}" if result.ratio is not None else "no ratio"
    where = f", {result.element}" if result.element and result.fails else ""
    return f"  {result.verdict:11} {ratio:14} {name}: {result.property}, {result.dtype}{where}"
