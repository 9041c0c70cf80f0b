"""Every picture of a report as PNG and SVG, with captions for a paper."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..harness.records.lines import Attachment, Measurement, Run
from ..harness.records.validity import ValidityMap
from ..harness.records.writing import write_atomically
from ..harness.verdict.result import CheckResult
from ._require import require
from .history import UNITS, History
from .pictures import figure_of, save, strip_of
from .rows import LABELS, Row, matrix_of, rows_of
from .steps import steps
from .throughput import grouped
from .validity import draw_maps

#: Colours of Okabe and Ito, which readers who cannot distinguish red and green can distinguish; shapes differ too.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6bb1", "#7f7f7f")
SHAPES = "osDPX^*h"
OF_LABEL = {
    "FAIL": "#d55e00",
    "UNSURE": "#cc79a7",
    "WARN": "#e69f00",
    "EXPECTED": "#56b4e9",
    "PASS": "#009e73",
    "SKIP": "#cccccc",
}
#: A zero on a logarithmic axis is drawn at this multiple of the smallest number.
UNDER = 0.1


class Drawn(NamedTuple):
    """A figure, the name of its file, and its caption."""

    name: str
    caption: str
    figure: Any


def write_figures(
    run: Run,
    folder: Path,
    *,
    measurements: Sequence[Measurement] = (),
    maps: Sequence[ValidityMap] = (),
    history: History | None = None,
) -> list[Path]:
    """Write each picture as NAME.png and NAME.svg, and all captions as captions.md and captions.tex.

    Args:
        run: a record in memory.
        folder: created if it does not exist.
        measurements: measurements of a bench record, in addition to those of the run.
        maps: validity maps.
        history: series over many runs.

    Returns:
        The files. Each takes about a quarter of a second: for thousands of checks, give a run with a part of them.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        RecordError: the folder cannot be written.
    """
    require("matplotlib", "A figure")
    paths: list[Path] = []
    captions: list[tuple[str, str]] = []
    for drawn in _all(run, (*run.measurements, *measurements), history):
        for ending in ("png", "svg"):
            paths.append(folder / f"{drawn.name}.{ending}")
            save(drawn.figure, paths[-1])
        captions.append((drawn.name, drawn.caption))
    if maps:
        for ending in ("png", "svg"):
            paths.append(folder / f"validity.{ending}")
            draw_maps(maps, paths[-1])
        captions.append(("validity", "Geometries for which each layer is equivariant, and the law that they follow."))
    texts = {
        "captions.md": "".join(
            f"## {name}\n\n![{name}]({name}.svg)\n\n{_markdown(text)}\n\n" for name, text in captions
        ),
        "captions.tex": "".join(_latex(name, text) for name, text in captions),
    }
    for file, text in texts.items():
        paths.append(folder / file)
        write_atomically(paths[-1], text)
    return paths


def _all(run: Run, measurements: Sequence[Measurement], history: History | None) -> Iterator[Drawn]:
    rows = rows_of(run)
    if rows:
        yield _matrix(rows)
        yield _ratios(rows)
    seen: set[str] = set()
    for row in rows:
        result = row.result
        name = f"{_slug(row.implementation)}-{_slug(result.property)}-{row.id}"
        about = f"{result.property} of {row.implementation} ({result.case}), {result.dtype}"
        if result.attachment in run.attachments and result.attachment not in seen:
            seen.add(result.attachment)
            yield from _diagrams(name, about, run.attachments[result.attachment])
        if len(result.elements) > 1 and result.label != "SKIP":
            text = f"Error and bound of each element: {about}. {result.verdict}."
            yield Drawn(f"elements-{name}", text, _elements(result))
        if result.resolutions:
            yield Drawn(f"resolutions-{name}", f"Error over grid sizes: {about}.", _resolutions(result))
    for (operator, dtype, batch), found in grouped(measurements).items():
        figure = _peers(found)
        if figure is not None:
            text = f"Time (median) against equivariance error, equals compete: {operator}, {dtype}, batch {batch}."
            yield Drawn(f"peers-{_slug(operator)}-{dtype}-{batch}", text, figure)
    yield from _trends(history) if history is not None else ()


def _diagrams(name: str, about: str, attachment: Attachment) -> Iterator[Drawn]:
    text = f"Commuting diagram of {about}, at g = {attachment.element}. {attachment.note}".strip()
    yield Drawn(f"diagram-{name}", text, figure_of(attachment))
    if attachment.rotated:
        text = f"Stabilised view of {about}: the input moves with g (above), the output is moved back (below)."
        yield Drawn(f"stabilised-{name}", text, strip_of(attachment))


def _new(width: float, height: float, *, fixed: bool = False) -> tuple[Any, Any]:
    """A figure and its axes; ``fixed`` margins draw twice as fast as margins fitted to the labels."""
    figure = require("matplotlib.figure", "A figure").Figure(
        figsize=(width, height), layout=None if fixed else "constrained"
    )
    if fixed:
        figure.subplots_adjust(left=0.13, right=0.97, bottom=0.3, top=0.95)
    return figure, figure.add_subplot()


def _matrix(rows: Sequence[Row]) -> Drawn:
    matrix = matrix_of(rows)
    figure, axes = _new(2.5 + 0.75 * len(matrix.properties), 1.2 + 0.2 * len(matrix.rows))
    for y, (_, cells) in enumerate(matrix.rows):
        for x, cell in enumerate(cells):
            if cell is not None:
                axes.fill(
                    [x, x + 0.94, x + 0.94, x], [y, y, y + 0.94, y + 0.94], color=OF_LABEL[cell.label], linewidth=0
                )
                axes.text(x + 0.47, y + 0.5, cell.label.lower(), ha="center", va="center", fontsize=5)
    axes.set(xlim=(0, len(matrix.properties)), ylim=(len(matrix.rows), 0))
    axes.set_xticks(
        [i + 0.5 for i in range(len(matrix.properties))],
        map(_text, matrix.properties),
        rotation=60,
        ha="right",
        fontsize=6,
    )
    axes.set_yticks([i + 0.5 for i in range(len(matrix.rows))], [_text(name) for name, _ in matrix.rows], fontsize=6)
    axes.tick_params(length=0)
    return Drawn("matrix", "Worst verdict of each implementation and property over all cases and dtypes.", figure)


def _ratios(rows: Sequence[Row]) -> Drawn:
    figure, axes = _new(8, 4)
    dtypes = sorted({row.result.dtype for row in rows})
    for label, shape in zip(LABELS, SHAPES, strict=False):
        found = [row for row in rows if row.result.label == label != "SKIP" and _drawable(row.result.ratio)]
        # Points of one dtype are spread horizontally; the offset of a check is the same in every report.
        x = [dtypes.index(row.result.dtype) + 0.7 * (int(row.id[:4], 16) / 65536 - 0.5) for row in found]
        y = [row.result.ratio for row in found]
        axes.scatter(x, y, s=8, marker=shape, color=OF_LABEL[label], label=label, linewidths=0) if found else None
    axes.axhline(1, color="#d55e00", linestyle="--", linewidth=1)
    axes.set(yscale="log", ylabel="error / bound", xlim=(-0.5, len(dtypes) - 0.5))
    axes.set_xticks(range(len(dtypes)), dtypes)
    axes.legend(fontsize=7) if axes.collections else None
    text = "Error over bound of every check, zeros left out. Under the dashed line the error is explained by rounding."
    return Drawn("ratios", text, figure)


def _elements(result: CheckResult) -> Any:
    figure, axes = _new(6, 3.2, fixed=True)
    x = range(len(result.elements))
    low = min([v for e in result.elements for v in (e.error, e.bound) if _drawable(v)], default=1.0) * UNDER
    axes.scatter(
        x, [e.error if _drawable(e.error) else low for e in result.elements], color=COLOURS[0], s=18, label="error"
    )
    bounds = [e.bound if _drawable(e.bound) else math.nan for e in result.elements]
    if not (result.resolutions or result.wavelengths):
        axes.scatter(x, bounds, color=COLOURS[4], marker="_", s=60, label="bound")
    step = max(1, len(result.elements) // 12)
    axes.set_xticks(
        list(x)[::step], [_text(e.element, 18) for e in result.elements][::step], rotation=30, ha="right", fontsize=6
    )
    axes.set(yscale="log", ylabel="relative error")
    axes.legend(fontsize=7)
    return figure


def _resolutions(result: CheckResult) -> Any:
    figure, axes = _new(5, 3.2)
    sizes = [r.size for r in result.resolutions]
    for k, (label, values) in enumerate(
        {
            "error": [r.error for r in result.resolutions],
            "interpolation floor": [r.floor for r in result.resolutions],
            "unconstrained control": [r.control for r in result.resolutions],
        }.items()
    ):
        drawn = [v if _drawable(v) else math.nan for v in values]
        axes.plot(sizes, drawn, color=COLOURS[k], marker=SHAPES[k], label=label)
    axes.set(xscale="log", yscale="log", xlabel="grid size", ylabel="relative error")
    axes.set_xticks(sizes, map(str, sizes))
    axes.minorticks_off()
    axes.legend(fontsize=7)
    return figure


def _peers(measurements: Iterable[Measurement]) -> Any:
    points: dict[tuple[str, str], dict[str, float]] = {}
    for m in measurements:
        if m.quantity in ("forward", "equivariance error"):
            points.setdefault((m.implementation, m.setting), {})[m.quantity] = m.value
    sound = {key: (p["forward"], p["equivariance error"]) for key, p in points.items() if len(p) == 2}
    if not sound:
        return None
    figure, axes = _new(6, 4)
    low = min([error for _, error in sound.values() if error > 0], default=1.0) * UNDER
    for k, ((name, setting), (seconds, error)) in enumerate(sound.items()):
        label = _text(name if setting in ("", "eager") else f"{name} ({setting})")
        axes.scatter([seconds], [error or low], color=COLOURS[k % 8], marker=SHAPES[k % 8], s=40, label=label)
    axes.set(xscale="log", yscale="log", xlabel="forward (s), left is faster", ylabel="equivariance error")
    axes.legend(fontsize=6)
    return figure


def _trends(history: History) -> Iterator[Drawn]:
    for machine in history.machines:
        place = {run: i for i, run in enumerate(history.runs(machine))}
        for quantity in UNITS:
            keys = [key for key in sorted(history.series) if (key.machine, key.quantity) == (machine, quantity)]
            if not keys:
                continue
            figure, axes = _new(8, 4)
            for k, key in enumerate(keys):
                runs = sorted(history.series[key])
                values = [history.series[key][run] for run in runs]
                axes.plot(
                    [place[r] for r in runs],
                    values,
                    color=COLOURS[k % 8],
                    marker=SHAPES[k % 8],
                    markersize=3,
                    linewidth=1,
                    label=_text(key.layer) if k < 12 else None,
                )
                for step in steps(values):
                    axes.axvline(place[runs[step.index]], color=COLOURS[k % 8], linestyle=":", linewidth=1)
            axes.set(xlabel="run", ylabel=f"{quantity} {UNITS[quantity]}".strip(), yscale="log")
            axes.legend(fontsize=5)
            text = f"{quantity} over {len(place)} runs on {machine}; dotted lines are change points."
            yield Drawn(f"trend-{_slug(machine)}-{_slug(quantity)}", text, figure)


def _drawable(value: float | None) -> bool:
    return value is not None and math.isfinite(value) and value > 0


def _slug(name: str) -> str:
    """A name as part of a valid file name on any system."""
    return re.sub(r"[^0-9A-Za-z]+", "-", name).strip("-")[:60] or "unnamed"


def _text(name: str, length: int = 40) -> str:
    """A name as a label, with dollar signs escaped because they begin formulas."""
    flat = " ".join(name.split())
    return (flat if len(flat) <= length else f"{flat[: length - 1]}…").replace("$", r"\$")


def _markdown(text: str) -> str:
    return re.sub(r"([\\`*\[\]|~#<>])", r"\\\1", " ".join(text.split()))


def _latex(name: str, text: str) -> str:
    signs = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    signs |= {sign: f"\\{sign}" for sign in "&%$#_{}"}
    caption = "".join(signs.get(sign, sign) for sign in " ".join(text.split()))
    include = f"  \\includegraphics[width=\\linewidth]{{{name}.png}}\n"
    return f"\\begin{{figure}}\n{include}  \\caption{{{caption}}}\n  \\label{{fig:{name}}}\n\\end{{figure}}\n\n"
