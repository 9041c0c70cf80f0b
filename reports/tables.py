"""The tables of a report as CSV, LaTeX and Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..harness.records.lines import Measurement, Run
from ..harness.records.writing import write_atomically
from ._require import require
from .numbers import number
from .payload import NAMES, NUMBERS
from .proof import committed_proof
from .rows import Row, attention, matrix_of, rows_of
from .throughput import tables_of

#: Columns of a check in addition to its names and numbers.
MORE = ("label", "verdict", "device", "seed", "element")


def write_tables(run: Run, folder: Path, measurements: Sequence[Measurement] = ()) -> list[Path]:
    """Write every table three times: NAME.csv, NAME.tex (booktabs), NAME.md.

    Args:
        run: a record in memory.
        folder: created if it does not exist.
        measurements: measurements of a bench record, in addition to those of the run.

    Returns:
        The files.

    Raises:
        MissingDependencyError: pandas, jinja2 or tabulate is not installed.
        RecordError: the folder cannot be written.
    """
    pandas = require("pandas", "A table")
    for library in ("jinja2", "tabulate"):
        require(library, "A table")
    paths: list[Path] = []
    for name, caption, frame in _frames(pandas, run, (*run.measurements, *measurements)):
        # Tables for readers have three digits; the CSV file has all digits.
        short = frame.map(lambda value: f"{value:.3g}" if isinstance(value, float) else value)
        texts = {
            "csv": frame.map(_no_formula).to_csv(index=False),
            "tex": short.to_latex(
                index=False, escape=True, caption=caption, label=f"tab:{name}", longtable=len(frame) > 40
            ),
            "md": short.map(_one_line).to_markdown(index=False, disable_numparse=True) + "\n",
        }
        for ending, text in texts.items():
            paths.append(folder / f"{name}.{ending}")
            write_atomically(paths[-1], text)
    return paths


def _frames(pandas: Any, run: Run, measurements: Sequence[Measurement]) -> list[tuple[str, str, Any]]:
    rows = rows_of(run)
    frames = []
    if rows:
        matrix = matrix_of(rows)
        cells = [
            [name, *("" if c is None else f"{c.label} {c.verdict} ({c.checks})" for c in row)]
            for name, row in matrix.rows
        ]
        columns = ["implementation", *matrix.properties]
        text = "Worst verdict of each implementation and property, with the number of checks."
        frames.append(("matrix", text, pandas.DataFrame(cells, columns=columns)))
        frames.append(("checks", "Every check.", _checks(pandas, rows)))
    listed = attention(rows)
    if listed:
        frames.append(("attention", "Checks that fail, are unsure or warn, worst first.", _checks(pandas, listed)))
    for place, (title, heads, lines) in enumerate(tables_of(measurements), 1):
        frames.append((f"throughput-{place}", f"{title}. Times are medians.", pandas.DataFrame(lines, columns=heads)))
    proof = committed_proof()
    if proof is not None:
        caught = pandas.DataFrame(list(proof.by_property.items()), columns=["property", "planted faults"])
        frames.append(("faults", " ".join(proof.sentences), caught))
    return frames


def _checks(pandas: Any, rows: Sequence[Row]) -> Any:
    lines = [
        [
            *(row.implementation if name == "implementation" else str(getattr(row.result, name)) for name in NAMES),
            *(str(getattr(row.result, name)) for name in MORE),
            *(_plain(getattr(row.result, name)) for name in (*NUMBERS, "seconds")),
            str(row.result.reason),
        ]
        for row in rows
    ]
    return pandas.DataFrame(lines, columns=[*NAMES, *MORE, *NUMBERS, "seconds", "reason"], dtype=object)


def _plain(value: float | None) -> float | str:
    """A number; an empty text if nothing was measured; NaN and infinities by name."""
    return "" if value is None else value if math.isfinite(value) else number(value)


def _one_line(value: Any) -> Any:
    """A text on one line, with bars escaped for a Markdown table."""
    return " ".join(value.split()).replace("|", "\\|") if isinstance(value, str) else value


def _no_formula(value: Any) -> Any:
    """A text that a spreadsheet does not compute: an apostrophe goes before the signs that begin a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
