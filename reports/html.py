"""One self-contained HTML page: the overall answer, what fails, a matrix, every check with its pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..harness.record import Run
from ..harness.verdict import Verdict
from . import numbers
from ._require import require
from .pictures import Diagram, diagram
from .plots import plot_data, script_json
from .proof import committed_proof
from .rows import (
    SIGNS,
    Row,
    attention,
    by_implementation,
    declared,
    environment_rows,
    matrix_of,
    rows_of,
    summary_of,
)

TEMPLATES = Path(__file__).parent / "templates"

#: The verdicts from best to worst, in one sentence each.
MEANINGS = {
    Verdict.EXACT: "The claim holds: every error is within what rounding explains; a wrong action would have shown.",
    Verdict.APPROXIMATE: "Off the grid no layer is exact; the error falls towards zero as the grid gets finer.",
    Verdict.SKIPPED: "Nothing could be tried; the reason says why.",
    Verdict.IMPRECISE: "The structure holds, but more precision is lost than usual for the dtype.",
    Verdict.AMBIGUOUS: "The check cannot tell sound from broken; the reason says what would settle it.",
    Verdict.VACUOUS: "The check proves nothing: wrong actions would have passed too.",
    Verdict.BROKEN: "The claim does not hold.",
    Verdict.TIMED_OUT: "The check ran past its time limit.",
    Verdict.CRASHED: "The layer or its adapter raised an error.",
}


def render_html(run: Run) -> str:
    """The report of a run as one HTML page that needs no network.

    Args:
        run: a record in memory; interrupted, truncated and empty ones are shown as such.

    Returns:
        The page, UTF-8 text of about 5 MB: the plotting script is inside.

    Raises:
        MissingDependencyError: jinja2, plotly or matplotlib is not installed.

    Example:
        >>> from equiharness.harness.record import Run, RunLine
        >>> header = RunLine(started="2026-01-01", command="equiharness verify", seed=0, planned=0, environment={})
        >>> render_html(Run(header)).startswith("<!doctype html>")
        True
    """
    jinja2 = require("jinja2", "The HTML report")
    rows = rows_of(run)
    data = plot_data(rows)
    page: str = _template(jinja2).render(
        run=run,
        summary=summary_of(run, rows),
        attention=attention(rows),
        declared=declared(rows),
        matrix=matrix_of(rows),
        implementations=by_implementation(rows),
        diagrams=_diagrams(run, rows),
        environment=environment_rows(run.header.environment),
        proof=committed_proof(),
        meanings=MEANINGS,
        plotted=data,
        # The only two texts that are not escaped: JSON that cannot end its tag, and the plotting library.
        data=jinja2.utils.markupsafe.Markup(script_json(data)),
        plotly=jinja2.utils.markupsafe.Markup(_plotly() if data else ""),
    )
    return page


def _template(jinja2: Any) -> Any:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=numbers.number, fixed=numbers.fixed, duration=numbers.seconds)
    environment.globals.update(signs=SIGNS)
    return environment.get_template("report.html.j2")


def _plotly() -> str:
    script: str = require("plotly.offline", "The HTML report").get_plotlyjs()
    # A newer library could contain the one text that ends a script tag; inside its strings this reads the same.
    return script.replace("</script", "<\\/script")


def _diagrams(run: Run, rows: Sequence[Row]) -> dict[str, Diagram]:
    """Pictures by row id, made once where checks share an attachment."""
    made: dict[str, Diagram] = {}
    found: dict[str, Diagram] = {}
    for row in rows:
        name = row.result.attachment
        if name and name in run.attachments:
            if name not in made:
                made[name] = diagram(run.attachments[name])
            found[row.id] = made[name]
    return found
