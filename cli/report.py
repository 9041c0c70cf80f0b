"""``equiharness report``: render a record as HTML, Markdown, figures, tables and annotations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..harness.errors import MissingDependencyError, UsageError
from .common import console

if TYPE_CHECKING:
    from ..harness.records.lines import Run
    from ..reports.html import Extras


def report(
    record: Annotated[Path, typer.Argument(help="A run.jsonl written by verify.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for report.html and report.md; by default that of the record.")
    ] = None,
    html: Annotated[bool, typer.Option(help="Write the HTML report (needs equiharness[report]).")] = True,
    before: Annotated[
        list[Path] | None,
        typer.Option(help="Earlier records or folders of them (repeatable), to find out since when a check fails."),
    ] = None,
    bench: Annotated[Path | None, typer.Option(help="A bench.jsonl: times, memory and errors of the layers.")] = None,
    maps: Annotated[Path | None, typer.Option(help="Validity maps, written by benchmarks/validity_map.py.")] = None,
    trend: Annotated[Path | None, typer.Option(help="asv's results folder, e.g. .asv/results.")] = None,
    figures: Annotated[
        Path | None,
        typer.Option(help="Folder for every picture as PNG and SVG, and every table as CSV, LaTeX and Markdown."),
    ] = None,
    only: Annotated[
        str,
        typer.Option(
            help="Glob pattern on implementations, for --figures; drawing takes a quarter of a second a file."
        ),
    ] = "*",
    annotations: Annotated[
        bool, typer.Option("--annotations", help="Print failures and warnings as workflow commands of GitHub.")
    ] = False,
) -> None:
    """Render a record as HTML and Markdown; options add figures, tables and annotations.

    Example: `equiharness report out/run.jsonl --before yesterday/run.jsonl --figures out/figures`
    """
    from ..harness.records.reading import read_run

    run = read_run(record)
    extras = _extras(run, record, before or (), bench, maps, trend)
    write_reports(run, record, out or record.parent, html=html, extras=extras)
    if figures is not None:
        _write_figures(run, extras, figures, only)
    if annotations:
        from ..reports.annotations import render_annotations

        console().print(render_annotations(run), end="", markup=False)
    if run.truncated:
        raise UsageError(f"{run.truncated} The report is marked as incomplete. Verify again for a complete one.")


def write_reports(run: Run, record: Path, out: Path, *, html: bool | None, extras: Extras | None = None) -> None:
    """Render a record; ``html=None`` writes the page if its libraries are installed, and else names the missing one."""
    from ..harness.records.writing import write_atomically
    from ..reports.markdown import render_markdown

    write_atomically(out / "report.md", render_markdown(run, extras.pasts if extras is not None else ()))
    if html is False:
        return
    try:
        from ..reports.html import render_html

        write_atomically(out / "report.html", render_html(run, extras))
    except MissingDependencyError as error:
        if html:
            raise
        console().print(f"No HTML report: {error}", markup=False)
    else:
        console().print(f"{record} and {out / 'report.html'}", markup=False)


def _extras(
    run: Run,
    record: Path,
    before: tuple[Path, ...] | list[Path],
    bench: Path | None,
    maps: Path | None,
    trend: Path | None,
) -> Extras:
    """The optional inputs of a report; the run is compared with the newest of the earlier runs."""
    from ..harness.records.comparing import changes
    from ..harness.records.reading import read_run
    from ..harness.records.validity import read_maps
    from ..reports.history import read_history
    from ..reports.html import Extras
    from ..reports.since import read_past

    earlier = [path for path in _records(before) if path.resolve() != record.resolve()]
    pasts = {path: read_past(path) for path in earlier}
    newest = max(pasts, key=lambda path: pasts[path].when.started, default=None)
    timed = read_run(bench) if bench is not None else None
    return Extras(
        pasts=tuple(pasts.values()),
        changes=changes(read_run(newest), run).data() if newest is not None else None,
        against=f"{newest} of {pasts[newest].when}" if newest is not None else "",
        measurements=tuple(timed.measurements) if timed is not None else (),
        ceilings=timed.header.environment.get("ceilings") if timed is not None else None,
        maps=tuple(read_maps(maps)) if maps is not None else (),
        history=read_history(trend, [*earlier, record]) if trend is not None or earlier else None,
    )


def _records(given: tuple[Path, ...] | list[Path]) -> list[Path]:
    """The given records, and the records in the given folders.

    Raises:
        UsageError: a folder holds no record.
    """
    found: list[Path] = []
    for path in given:
        inside = (
            sorted(p for p in path.rglob("*.jsonl") if not p.name.endswith(".attachments.jsonl"))
            if path.is_dir()
            else [path]
        )
        if not inside:
            raise UsageError(f"{path} holds no record (*.jsonl). Give a run.jsonl, or a folder of them.")
        found += inside
    return found


def _write_figures(run: Run, extras: Extras, folder: Path, only: str) -> None:
    import fnmatch
    from dataclasses import replace

    from ..reports.figures import write_figures
    from ..reports.tables import write_tables

    chosen = [r for r in run.checks if fnmatch.fnmatchcase(r.implementation, only)]
    timed = tuple(m for m in extras.measurements if fnmatch.fnmatchcase(m.implementation, only))
    run = replace(run, checks=chosen)
    drawn = write_figures(run, folder, measurements=timed, maps=extras.maps, history=extras.history)
    written = write_tables(run, folder, timed)
    console().print(f"{folder}: {len(drawn)} files of figures and captions, {len(written)} of tables.", markup=False)
