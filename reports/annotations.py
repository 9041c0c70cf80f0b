"""A run as workflow commands of GitHub Actions: each line that a job prints becomes an annotation of the change."""

from __future__ import annotations

from ..harness.records.lines import Run
from .numbers import number
from .overview import Fault, faults_of
from .rows import rows_of

#: GitHub shows ten errors and ten warnings of a step, and drops the others silently.
SHOWN = 10
LENGTH = 600


def render_annotations(run: Run) -> str:
    """One line for each implementation and property that fails or warns, the worst first; empty if every claim holds.

    Example:
        >>> from equiharness.harness.records.lines import RunLine
        >>> header = RunLine(started="", command="equiharness verify", seed=0, planned=0, environment={})
        >>> print(render_annotations(Run(header)))
        ::warning title=equiharness::Nothing was checked.
        <BLANKLINE>
    """
    if not run.checks:
        return _command("warning", "equiharness", "Nothing was checked.") + "\n"
    faults = faults_of(rows_of(run), {})
    lines: list[str] = []
    for level, found in (
        ("error", [f for f in faults if f.worst.fails]),
        ("warning", [f for f in faults if not f.worst.fails]),
    ):
        shown = found if len(found) <= SHOWN else found[: SHOWN - 1]
        lines += [_command(level, _title(fault), _message(fault)) for fault in shown]
        if len(found) > len(shown):
            rest = f"{len(found) - len(shown)} more implementations and properties: see the report."
            lines.append(_command(level, "equiharness", rest))
    return "".join(f"{line}\n" for line in lines)


def _title(fault: Fault) -> str:
    return f"{fault.worst.label} {fault.worst.verdict}: {fault.worst.property} of {fault.rows[0].implementation}"


def _message(fault: Fault) -> str:
    count = f"{len(fault.rows)} checks" if len(fault.rows) > 1 else "1 check"
    worst = f"error {number(fault.worst.error)}, bound {number(fault.worst.bound)}, ratio {number(fault.worst.ratio)}"
    return f"{count}. {fault.sentence}\n{worst}\n{fault.worst.reproduce}"


def _command(level: str, title: str, message: str) -> str:
    """``::error title=...::...``, with the characters that would end it escaped as GitHub requires."""
    return f"::{level} title={_escaped(title[:LENGTH], ',:')}::{_escaped(message[:LENGTH])}"


def _escaped(text: str, more: str = "") -> str:
    for sign in f"%\r\n{more}":
        text = text.replace(sign, f"%{ord(sign):02X}")
    return text
