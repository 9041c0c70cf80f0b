"""``equiharness trend``: the measurements of many runs on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .common import console


def trend(
    records: Annotated[list[Path] | None, typer.Argument(help="run.jsonl and bench.jsonl files.")] = None,
    results: Annotated[Path | None, typer.Option(help="asv's results folder, e.g. .asv/results.")] = None,
    out: Annotated[Path, typer.Option(help="File of the page.")] = Path("out/trend.html"),
) -> None:
    """Show error, time and memory by commit and machine, with change points, on one HTML page.

    Example: `equiharness trend --results .asv/results .asv/records/*.jsonl --out out/trend.html`
    """
    from ..harness.records.writing import write_atomically
    from ..reports.history import read_history
    from ..reports.trend import render_trend

    history = read_history(results, records or ())
    for note in history.notes:
        console(stderr=True).print(f"left out: {note}", markup=False)
    write_atomically(out, render_trend(history))
    runs = sum(len(history.runs(machine)) for machine in history.machines)
    console().print(f"{out}: {runs} runs, {len(history.series)} series.", markup=False)
    raise typer.Exit(0 if runs else 3)
