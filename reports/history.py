"""The measurements of many runs: series of values per machine, read from asv's results and from run records."""

from __future__ import annotations

import datetime
import itertools
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ..harness.errors import RecordError
from ..harness.records.reading import cut_off, data_of

#: Names in asv's results and the matching quantities in records: values from both files form one series.
TRACKED = {
    "track_forward": "forward",
    "track_backward": "backward",
    "track_memory": "memory",
    "track_training_memory": "training memory",
    "track_build": "build",
    "track_equivariance_error": "equivariance error",
}
UNITS = {
    "forward": "µs",
    "backward": "µs",
    "build": "µs",
    "memory": "B",
    "training memory": "B",
    "equivariance error": "eps",
    "error / bound": "",
}
#: Factors from the unit of a record to the unit of the trend; errors are in units of float32's eps.
SCALES = {"s": 1e6, "B": 1.0, "": 2.0**23}


# Named tuples instead of dataclasses, for speed: a history of 2,000 runs makes and hashes a million of them.
class PastRun(NamedTuple):
    """One run: its date and its commit."""

    date: float
    commit: str


class SeriesKey(NamedTuple):
    """The key of one series."""

    machine: str
    quantity: str
    layer: str


@dataclass
class History:
    """Series of values by run."""

    series: dict[SeriesKey, dict[PastRun, float]] = field(default_factory=dict)
    #: Files that could not be read, with the reasons.
    notes: list[str] = field(default_factory=list)

    def add(self, key: SeriesKey, run: PastRun, value: Any) -> None:
        """Add a value; null and NaN are ignored."""
        if value.__class__ in (float, int) and math.isfinite(value):
            values = self.series.get(key)
            if values is None:
                values = self.series[key] = {}
            values[run] = value

    def runs(self, machine: str) -> list[PastRun]:
        """All runs of a machine in the order of time."""
        return sorted({run for key, values in self.series.items() if key.machine == machine for run in values})

    @property
    def machines(self) -> list[str]:
        """The names of all machines, sorted."""
        return sorted({key.machine for key in self.series})


def read_history(results: Path | None = None, records: Iterable[Path] = ()) -> History:
    """Read asv's results folder and any number of run records.

    A damaged file is left out and named in ``History.notes``. If the last line of a record is truncated, only that line
    is left out.

    Args:
        results: asv's ``results_dir``, one folder for each machine.
        records: run.jsonl and bench.jsonl files.
    """
    history = History()
    for path in sorted(results.glob("*/*.json")) if results is not None else ():
        if path.name != "machine.json":
            try:
                _read_asv(history, path)
            except (OSError, ValueError, KeyError, TypeError) as error:
                history.notes.append(f"{path}: no result file of asv ({type(error).__name__}: {error})")
    # asv keeps one result for each commit; a record of the same run holds the same values again.
    tracked = {(key.machine, run.commit) for key, values in history.series.items() for run in values}
    for path in records:
        try:
            _read_record(history, path, tracked)
        except (OSError, RecordError) as error:
            history.notes.append(str(error))
    return history


def values_of(path: Path) -> dict[str, dict[str, Any]]:
    """The values of one of asv's result files: benchmark -> parameters -> value, null if there is none."""
    return _values(json.loads(path.read_text(encoding="utf-8")))


def _values(data: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found = {}
    columns = data["result_columns"]
    for benchmark, cells in data["results"].items():
        row = dict(zip(columns, cells, strict=False))  # rows of track_* stop after the duration
        names = [", ".join(p.strip("'") for p in combination) for combination in itertools.product(*row["params"])]
        values = row["result"] or [None] * len(names)
        found[benchmark] = dict(zip(names, values, strict=True))
    return found


def _read_asv(history: History, path: Path) -> None:
    data = json.loads(path.read_text(encoding="utf-8"))
    run, machine = PastRun(data["date"] / 1000, data["commit_hash"]), data["params"].get("machine", path.parent.name)
    for benchmark, values in _values(data).items():
        quantity = TRACKED.get(benchmark.rpartition(".")[2])
        if quantity is not None:
            for layer, value in values.items():
                history.add(SeriesKey(machine, quantity, layer), run, value)


def _read_record(history: History, path: Path, tracked: set[tuple[str, str]]) -> None:
    """Read the values without the samples, because thousands of records have to load in seconds."""
    lines = [data for _, data in data_of(path)]
    header, cut = lines[0], cut_off(path)
    if cut:
        history.notes.append(cut)
    environment = header.get("environment", {})
    machine = str(environment.get("machine_name") or environment.get("fingerprint") or "unnamed machine")
    commit = str(environment.get("commit") or environment.get("git", {}).get("commit") or "unknown")
    try:
        date = datetime.datetime.fromisoformat(str(header.get("started"))).timestamp()
    except ValueError:
        date = path.stat().st_mtime
    run = PastRun(date, commit)
    for line in lines[1:]:
        if line.get("kind") == "measurement" and line["quantity"] in UNITS:
            if (machine, commit) in tracked:
                continue
            name, operator = line.get("implementation", ""), line.get("operator", "")
            layer = name if operator in ("", name) else f"{operator}: {name}"
            history.add(SeriesKey(machine, line["quantity"], layer), run, line["value"] * SCALES.get(line["unit"], 1.0))
        elif line.get("kind") == "check":
            _add_check(history, machine, run, line["result"])


def _add_check(history: History, machine: str, run: PastRun, result: dict[str, Any]) -> None:
    """The worst error / bound of each implementation and property."""
    error, bound = result.get("error"), result.get("bound")
    if isinstance(error, float) and isinstance(bound, float) and bound > 0 and not result.get("expected"):
        key = SeriesKey(machine, "error / bound", f"{result['implementation']}: {result['property']}")
        before = history.series.get(key, {}).get(run, 0.0)
        history.add(key, run, max(before, error / bound))
