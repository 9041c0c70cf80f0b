"""The trend page: error, time and memory per commit and machine, with change points; one self-contained HTML file."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from . import bundles, numbers
from ._require import require
from .history import UNITS, History, PastRun, SeriesKey
from .payload import strict_json
from .steps import FACTOR, LEAST, steps

TEMPLATES = Path(__file__).parent / "templates"
#: Change points listed in the table, newest first.
LISTED = 200


def render_trend(history: History) -> str:
    """Render a history as one HTML page that needs no network.

    Args:
        history: series by machine, quantity and layer.

    Returns:
        The page: the plotting script (2 MB) and about 4 bytes for each value.

    Raises:
        MissingDependencyError: jinja2 or plotly is not installed.

    Example:
        >>> "No run was found" in render_trend(History())
        True
    """
    jinja2 = require("jinja2", "The trend page")
    machines = {name: history.runs(name) for name in history.machines}
    data, changes = _data(history, machines)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.filters["number"] = numbers.number
    changes.sort(key=lambda change: change["when"], reverse=True)
    page: str = environment.get_template("trend.html.j2").render(
        runs=sum(map(len, machines.values())),
        machines=machines,
        series=len(history.series),
        notes=history.notes[:50],
        changes=changes[:LISTED],
        hidden=max(0, len(changes) - LISTED),
        latest=[(name, _latest(history, name, runs[-1])) for name, runs in machines.items()],
        units=UNITS,
        least=LEAST,
        factor=FACTOR,
        policy=bundles.policy(script := bundles.own_script(*bundles.TREND)),
        script=jinja2.utils.markupsafe.Markup(script),
        data=bundles.packed(strict_json(data)),
        plotly=bundles.packed(bundles.plotly_script("The trend page")) if history.series else "",
    )
    return page


def data_of(history: History) -> dict[str, Any] | None:
    """The data of the script: machines with their runs, and the series; None if there are no runs."""
    machines = {name: history.runs(name) for name in history.machines}
    return _data(history, machines)[0] if machines else None


def _data(history: History, machines: dict[str, list[PastRun]]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The data of the script, and the change points of all series."""
    drawn, changes = _series(history, machines)
    data = {
        "machines": {
            name: {"dates": [round(r.date) for r in runs], "commits": [r.commit[:10] for r in runs]}
            for name, runs in machines.items()
        },
        "quantities": [q for q in UNITS if any(key.quantity == q for key in history.series)],
        "units": UNITS,
        "series": drawn,
    }
    return data, changes


def _series(history: History, machines: dict[str, list[PastRun]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The series for the script, and the change points of all series."""
    places = {name: {run: i for i, run in enumerate(runs)} for name, runs in machines.items()}
    drawn: list[dict[str, Any]] = []
    changes: list[dict[str, Any]] = []
    for key, values in sorted(history.series.items()):
        runs = sorted(values)
        found = steps([values[run] for run in runs])
        place = places[key.machine]
        row: list[float | None] = [None] * len(place)
        for run, value in values.items():
            row[place[run]] = _rounded(value)
        drawn.append(
            {
                "machine": key.machine,
                "quantity": key.quantity,
                "layer": key.layer,
                "values": row,
                "steps": [place[runs[s.index]] for s in found],
            }
        )
        changes += [_change(key, runs[s.index], s.before, s.after, s.factor) for s in found]
    return drawn, changes


def _rounded(value: float) -> float:
    """The value with four digits: a screen shows no more, and the page is half as large."""
    return float(f"{value:.4g}")


def _change(key: SeriesKey, run: PastRun, before: float, after: float, factor: float) -> dict[str, Any]:
    return {
        "when": run.date,
        "date": _day(run.date),
        "commit": run.commit,
        "machine": key.machine,
        "layer": key.layer,
        "quantity": key.quantity,
        "before": before,
        "after": after,
        "factor": factor,
    }


def _latest(history: History, machine: str, run: PastRun) -> dict[str, Any]:
    """The values of one run as a table."""
    rows: dict[str, dict[str, float]] = {}
    for key, values in sorted(history.series.items()):
        if key.machine == machine and run in values:
            rows.setdefault(key.layer, {})[key.quantity] = values[run]
    quantities = [q for q in UNITS if any(q in row for row in rows.values())]
    table = [(layer, [row.get(q) for q in quantities]) for layer, row in rows.items()]
    return {"commit": run.commit, "date": _day(run.date), "quantities": quantities, "rows": table}


def _day(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d")
