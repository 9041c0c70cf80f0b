"""``equiharness compare``: the differences between two records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .common import console

if TYPE_CHECKING:
    from ..harness.records.comparing import Changes


def compare(
    old: Annotated[Path, typer.Argument(help="The earlier record: run.jsonl or bench.jsonl.")],
    new: Annotated[Path, typer.Argument(help="The later record.")],
    out: Annotated[Path | None, typer.Option(help="Folder for compare.md and compare.json; none by default.")] = None,
) -> None:
    """Compare verdicts, errors and missing checks of two records, and time and memory measured in pairs.

    Each line is SAME, BETTER, WORSE or AMBIGUOUS. The exit code is 1 only if something is certainly worse.

    Example: `equiharness compare yesterday/run.jsonl out/run.jsonl`
    """
    from ..harness.records.comparing import changes
    from ..harness.records.reading import read_run

    found = changes(read_run(old), read_run(new))
    write_changes(found, str(old), str(new), out)
    raise typer.Exit(1 if found.worse else 0)


def write_changes(found: Changes, old: str, new: str, out: Path | None) -> None:
    """Print the comparison as Markdown; if a folder is given, write it there as Markdown and JSON."""
    from ..harness.records.writing import write_atomically
    from ..reports.changes import render_changes

    text = render_changes(found.data(), old, new)
    if out is not None:
        write_atomically(out / "compare.md", text)
        write_atomically(out / "compare.json", json.dumps({"old": old, "new": new, **found.data()}, indent=1) + "\n")
    console().print(text, markup=False)
