"""The report as Markdown, short enough for a comment on a change: failures, then the matrix and the environment."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ..harness.records.lines import Run
from .numbers import fixed, number, seconds
from .overview import Fault, faults_of
from .proof import committed_proof
from .rows import SIGNS, Row, attention, declared, environment_rows, matrix_of, rows_of, summary_of
from .since import Past, onsets

#: Code hosts refuse comments of 65,536 characters; the difference leaves room for a heading around the report.
LIMIT = 60_000
#: Shares of the limit; entries that do not fit are counted.
BROKE, FAILURES, MATRIX, DECLARED, ENVIRONMENT = 6_000, 24_000, 14_000, 5_000, 6_000
NAME, SENTENCE = 80, 400
#: Characters that change the direction or order of the text around them.
DIRECTION = re.compile("[\u202a-\u202e\u2066-\u2069\u200e\u200f]")


def render_markdown(run: Run, pasts: Iterable[Past] = ()) -> str:
    """The report of a run as Markdown of at most 60,000 characters.

    Args:
        run: a record in memory.
        pasts: earlier runs, to find out since when a check fails.
    """
    rows = rows_of(run)
    summary = summary_of(run, rows)
    lines = [f"# equiharness: {SIGNS[summary.kind]} {summary.label}", "", summary.sentence, ""]
    lines += [line for note in summary.notes for line in (f"> {_text(note, SENTENCE)}", "")]
    broken = [fault for fault in faults_of(rows, onsets(run, pasts)) if fault.worst.fails]
    if broken:
        lines += ["## What broke", "", "| implementation | property | checks | since |", "|---|---|---|---|"]
        lines += [*_within(BROKE, map(_broke, broken), len(broken), "implementations and properties broke"), ""]
    if summary.worst is not None:
        lines += [f"- worst ratio (error / bound): {number(summary.worst.result.ratio)}, {_title(summary.worst)}"]
    overhead = (
        f", {fixed(summary.overhead, 2)} times that in checks and building" if summary.overhead is not None else ""
    )
    lines += [f"- {seconds(summary.seconds)} in total; {seconds(summary.seconds_in_layers)} in layers{overhead}", ""]
    listed = attention(rows)
    if listed:
        lines += ["## What needs attention", ""]
        lines += _within(FAILURES, (_failure(row) for row in listed), len(listed), "checks need attention")
    lines += ["", "## Implementations and properties", "", *_matrix(rows), ""]
    known = declared(rows)
    if known:
        lines += ["## Deviations as declared", ""]
        lines += _within(DECLARED, map(_declaration, known), len(known), "declared deviations")
    proof = committed_proof()
    if proof is not None:
        lines += ["", "## How the checks were checked", "", *(f"- {text}" for text in proof.sentences)]
    lines += ["", "## Environment", ""]
    header = run.header
    facts = [("started", header.started), ("command", header.command), ("seed", str(header.seed))]
    facts += environment_rows(header.environment)
    table = (f"| {_text(name)} | {_text(value)} |" for name, value in facts)
    lines += ["| | |", "|---|---|", *_within(ENVIRONMENT, table, len(facts), "entries")]
    text = "\n".join(lines).rstrip() + "\n"
    return text if len(text) <= LIMIT else text[: LIMIT - 20] + "\n\n(cut here)\n"


def _broke(fault: Fault) -> str:
    cells = (fault.rows[0].implementation, fault.worst.property, f"{len(fault.rows)} {'/'.join(fault.verdicts)}")
    return (
        "| " + " | ".join(map(_text, (*cells, "; ".join(onset.text for onset in fault.since[:2]) or "unknown"))) + " |"
    )


def _failure(row: Row) -> str:
    result = row.result
    lines = [f"### {SIGNS[result.label]} {result.label} {result.verdict}: {_title(row)}", ""]
    lines += [_text(result.contradiction, SENTENCE), ""] if result.contradiction else []
    lines += [_text(str(result.reason), SENTENCE), ""]
    lines += [
        f"error {number(result.error)}, bound {number(result.bound)}, ratio {number(result.ratio)}, "
        f"power {number(result.power)}, lost bits {fixed(result.lost_bits)}, "
        f"worst element {_text(result.element) or 'none'}, seed {result.seed}"
    ]
    if 0 < len(result.reproduce) <= 2 * SENTENCE:
        fence = "`" * max(3, 1 + max(map(len, re.findall("`+", result.reproduce)), default=0))
        lines += ["", fence, DIRECTION.sub("", result.reproduce), fence]
    return "\n".join([*lines, ""])


def _declaration(known: tuple[str, list[Row]]) -> str:
    """One reason, and the implementations and verdicts that it applies to."""
    reason, rows = known
    names = dict.fromkeys(f"{row.result.verdict} {row.result.property} of {row.implementation}" for row in rows)
    return f"- {_text(', '.join(names), SENTENCE)} ({len(rows)}): {_text(reason, SENTENCE)}"


def _title(row: Row) -> str:
    result = row.result
    case = f", case {_text(result.case)}" if result.case else ""
    return f"{_text(result.property)} of {_text(row.implementation)}{case}, {_text(result.dtype)}"


def _matrix(rows: Sequence[Row]) -> list[str]:
    matrix = matrix_of(rows)
    if not matrix.rows:
        return ["No checks were recorded."]
    lines = [
        "Worst verdict over cases and dtypes, with the number of checks. Not checked: the property does not apply to "
        "the layer, or the run did not select it.",
        "",
        "| implementation | " + " | ".join(_text(name) for name in matrix.properties) + " |",
        "|---" * (1 + len(matrix.properties)) + "|",
    ]
    table = []
    for name, cells in matrix.rows:
        texts = [
            "not checked" if cell is None else
            f"{SIGNS[cell.label]} {cell.label} {cell.verdict} ({cell.checks})"
            for cell in cells
        ]  # fmt: skip
        table.append(f"| {_text(name)} | " + " | ".join(texts) + " |")
    return lines + _within(MATRIX, table, len(table), "implementations")


def _within(budget: int, blocks: Iterable[str], total: int, noun: str) -> list[str]:
    """Blocks up to a number of characters, and the number of blocks that were left out."""
    kept: list[str] = []
    for block in blocks:
        budget -= len(block) + 1
        if budget < 0:
            return [*kept, "", f"{total - len(kept)} more {noun}: see the HTML report or the record.", ""]
        kept.append(block)
    return kept


def _text(value: str, limit: int = NAME) -> str:
    """A name as plain text: no markup, no mention, one line; a long name is cut in the middle."""
    flat = DIRECTION.sub("", " ".join(value.split()))
    if len(flat) > limit:
        flat = f"{flat[: limit - 12]}…{flat[-10:]}"
    flat = flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("@", "&#64;")
    # An underscore inside a word is no markup; unescaped, names such as off_grid stay readable in the source.
    return re.sub(r"(?<!\w)_|_(?!\w)|[\\`*\[\]|~#]", lambda match: "\\" + match.group(), flat)
