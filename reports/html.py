"""One self-contained HTML page: what broke and since when, a matrix, every check with its pictures, costs, trends.

The first screen, the matrix and the lists are plain HTML. The page's own script draws checks, plots and pictures from
compressed data inside the page.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..harness.records.lines import Measurement, Run
from ..harness.records.validity import ValidityMap
from ..harness.verdict.result import Verdict
from . import bundles, numbers, overview
from ._require import require
from .history import History
from .payload import checks_of, maps_of, measurements_of, strict_json
from .proof import committed_proof
from .rows import SIGNS, declared, environment_rows, matrix_of, rows_of, summary_of
from .since import Past, onsets, when_of
from .throughput import tables_of
from .trend import data_of

TEMPLATES = Path(__file__).parent / "templates"

#: The verdicts from best to worst, in one sentence each.
MEANINGS = {
    Verdict.EXACT: "The claim holds: rounding explains every error, and the check would have caught a wrong action.",
    Verdict.APPROXIMATE: "Off the grid no layer is exact; the error falls towards zero as the grid gets finer.",
    Verdict.SKIPPED: "Nothing was checked; see the reason.",
    Verdict.IMPRECISE: "The layer is equivariant, but it loses more precision than usual for the dtype.",
    Verdict.AMBIGUOUS: "The check cannot decide whether the claim holds; the reason names what would decide it.",
    Verdict.VACUOUS: "The check proves nothing: a wrong action would have passed too.",
    Verdict.BROKEN: "The claim does not hold.",
    Verdict.TIMED_OUT: "The check ran past its time limit.",
    Verdict.CRASHED: "The layer or its adapter raised an error.",
}
#: Lines of the first screen, and of the whole list of faults; the table of checks holds every check.
FIRST, LISTED = 6, 500


@dataclass(frozen=True)
class Extras:
    """The optional inputs of a report in addition to the run.

    Args:
        pasts: earlier runs, in any order, to find out since when a check fails.
        changes: ``Changes.data()`` of a comparison with an earlier run.
        against: name of that earlier run.
        measurements: measurements of a bench record, in addition to those of the run.
        ceilings: limits of the machine of those measurements: dtype -> flops and bytes per second.
        maps: validity maps.
        history: series over many runs.
    """

    pasts: tuple[Past, ...] = ()
    changes: Mapping[str, Any] | None = None
    against: str = ""
    measurements: tuple[Measurement, ...] = ()
    ceilings: Mapping[str, Any] | None = None
    maps: tuple[ValidityMap, ...] = ()
    history: History | None = None


def render_html(run: Run, extras: Extras | None = None) -> str:
    """The report of a run as one HTML page that needs no network.

    Args:
        run: a record in memory; interrupted, truncated and empty ones are shown as such.
        extras: earlier runs, a comparison, measurements, validity maps, trends.

    Returns:
        The page, UTF-8 text of about 3 MB and 0.5 kB for each check: the libraries are inside.

    Raises:
        MissingDependencyError: jinja2, plotly or itables is not installed.

    Example:
        >>> from equiharness.harness.records.lines import Run, RunLine
        >>> header = RunLine(started="2026-01-01", command="equiharness verify", seed=0, planned=0, environment={})
        >>> render_html(Run(header)).startswith("<!doctype html>")
        True
    """
    jinja2 = require("jinja2", "The HTML report")
    extras = extras or Extras()
    rows = rows_of(run)
    since = onsets(run, extras.pasts)
    measurements = (*run.measurements, *extras.measurements)
    script = bundles.own_script(*bundles.PAGE)
    checks, pictures = checks_of(rows, run.attachments, since)
    data = {
        "checks": checks,
        "meanings": {str(verdict): text for verdict, text in MEANINGS.items()},
        "measurements": measurements_of(measurements),
        "ceilings": extras.ceilings or run.header.environment.get("ceilings", {}),
        "maps": maps_of(extras.maps),
        "trend": data_of(extras.history) if extras.history is not None else None,
    }
    faults = overview.faults_of(rows, since)
    page: str = _template(jinja2).render(
        run=run,
        when=when_of(run.header.environment, run.header.started),
        summary=summary_of(run, rows),
        broken=[f for f in faults if f.worst.fails][:LISTED],
        warned=[f for f in faults if not f.worst.fails][:LISTED],
        hidden=max(0, len(faults) - LISTED),
        first=FIRST,
        known_since=bool(extras.pasts),
        slowest=overview.slowest(rows),
        changes=overview.changes_of(extras.changes, rows) if extras.changes is not None else None,
        against=extras.against,
        listed=overview.LISTED,
        declared=declared(rows),
        matrix=matrix_of(rows),
        tables=tables_of(measurements),
        history=extras.history,
        maps=extras.maps,
        environment=environment_rows(run.header.environment),
        proof=committed_proof(),
        meanings=MEANINGS,
        policy=bundles.policy(script),
        # Only base64 and the page's own script are not escaped.
        script=jinja2.utils.markupsafe.Markup(script),
        packed={
            "data": bundles.packed(strict_json(data)),
            "pictures": bundles.packed(strict_json(pictures)),
            "plotly-packed": bundles.packed(bundles.plotly_script()) if rows or measurements or extras.maps else "",
            "tables-packed": bundles.packed(bundles.table_script()) if rows else "",
        },
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
    environment.globals.update(
        signs=SIGNS,
        check_link=overview.check_link,
        cell_link=overview.cell_link,
        implementation_link=overview.implementation_link,
    )
    return environment.get_template("report.html.j2")
