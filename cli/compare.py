"""``equiharness compare``: what changed between two records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .common import console

if TYPE_CHECKING:
    from ..harness.records.comparing import Changes


def compare(
    old: Annotated[Path, typer.Argument(help="A record of before: run.jsonl or bench.jsonl.")],
    new: Annotated[Path, typer.Argument(help="A record of now.")],
    out: Annotated[Path | None, typer.Option(help="Folder for compare.md and compare.json; none by default.")] = None,
) -> None:
    """Verdicts, errors, checks that vanished; time and memory where the samples were taken in pairs.

    Each line is SAME, BETTER, WORSE or AMBIGUOUS. Exit code 1 only where something got worse beyond doubt.

    Example: `equiharness compare yesterday/run.jsonl out/run.jsonl`
    """
    from ..harness.records.comparing import changes
    from ..harness.records.reading import read_run

    found = changes(read_run(old), read_run(new))
    write_changes(found, str(old), str(new), out)
    raise typer.Exit(1 if found.worse else 0)


def write_changes(found: Changes, old: str, new: str, out: Path | None) -> None:
    """Print the Markdown, and write it beside the JSON where a folder is given."""
    from ..harness.records.writing import write_atomically
    from ..reports.changes import render_changes

    text = render_changes(found.data(), old, new)
    if out is not None:
        write_atomically(out / "compare.md", text)
        write_atomically(out / "compare.json", json.dumps({"old": old, "new": new, **found.data()}, indent=1) + "\n")
    console().print(text, markup=False)
