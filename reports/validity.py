"""Validity maps as a picture, and the laws found in them as a table."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..harness.errors import RecordError
from ..harness.records.validity import Geometry, Point, ValidityMap
from ._require import require

#: Colours of the verdicts at a geometry, distinct in grey and for readers who cannot distinguish red and green.
COLOURS = {"EXACT": "#4b9b6e", "BROKEN": "#c8553d", "SKIPPED": "#e6e6e6"}
OTHER = "#f2c14e"
LEGEND = {"EXACT": "holds", "BROKEN": "does not hold", "SKIPPED": "the layer refuses it", "": "undecided"}
PANELS_ACROSS = 4


def draw_maps(maps: Sequence[ValidityMap], path: Path) -> None:
    """Draw one panel for each layer: stride, padding and output padding down, size and kernel across.

    Args:
        maps: the measured maps.
        path: a .png or .svg file.

    Raises:
        RecordError: the file cannot be written.
        MissingDependencyError: matplotlib is not installed.
    """
    figures = require("matplotlib.figure", "A validity map's picture")
    patches = require("matplotlib.patches", "A validity map's picture")
    down = math.ceil(len(maps) / PANELS_ACROSS)
    figure = figures.Figure(figsize=(4.2 * PANELS_ACROSS, 3.1 * down + 0.6), layout="constrained")
    for index, found in enumerate(maps):
        _panel(figure.add_subplot(down, PANELS_ACROSS, index + 1), found)
    keys = [patches.Patch(color=COLOURS.get(v, OTHER), label=text) for v, text in LEGEND.items()]
    figure.legend(handles=keys, loc="outside lower center", ncols=len(keys), fontsize=9, frameon=False)
    stream = io.BytesIO()
    figure.savefig(stream, format=path.suffix.removeprefix(".") or "png", dpi=110, metadata=_undated(path))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(stream.getvalue())
    except OSError as error:
        raise RecordError(f"Cannot write {path}: {error.strerror}. Free the place, or remove the folder.") from error


def laws_table(maps: Iterable[ValidityMap]) -> str:
    """A Markdown table: layer, geometries, where the layer is equivariant, and the law with the points it explains."""
    rows = ["| layer | geometries | exact | broken | law found | explains |", "|---|---|---|---|---|---|"]
    for m in maps:
        decided = [p for p in m.points if p.holds is not None]
        holds = sum(bool(p.holds) for p in decided)
        law = f"{m.law.agree} of {m.law.of}"
        rows.append(
            f"| {m.library}.{m.layer} | {len(m.points)} | {holds} | {len(decided) - holds} | {m.law.text} | {law} |"
        )
    return "\n".join(rows) + "\n"


def _undated(path: Path) -> dict[str, None]:
    return {"Date": None} if path.suffix == ".svg" else {"Software": None}


def _panel(axes: Any, found: ValidityMap) -> None:
    columns = _distinct((p.geometry.size, p.geometry.kernel) for p in found.points)
    rows = _distinct(_row(p.geometry) for p in found.points)
    place = {_place(p, columns, rows): p for p in found.points}
    for (x, y), point in place.items():
        colour = COLOURS.get(point.verdict, OTHER)
        axes.fill([x, x + 0.94, x + 0.94, x], [y, y, y + 0.94, y + 0.94], color=colour, linewidth=0)
    axes.set(xlim=(0, len(columns)), ylim=(len(rows), 0))
    axes.set_xticks([i + 0.5 for i in range(len(columns))], [_label("N", n, "k", k) for n, k in columns], fontsize=5)
    axes.set_yticks(
        [i + 0.5 for i in range(len(rows))], [_label("s", s, "p", p, "q", q) for s, p, q in rows], fontsize=6
    )
    axes.tick_params(axis="x", rotation=90, length=0)
    axes.tick_params(axis="y", length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set_title(f"{found.library}.{found.layer}\n{found.law.text}, {found.law.agree} of {found.law.of}", fontsize=7)


def _row(geometry: Geometry) -> tuple[int | None, int | None, int | None]:
    return geometry.stride, geometry.padding, geometry.output_padding


def _place(point: Point, columns: list[Any], rows: list[Any]) -> tuple[int, int]:
    return columns.index((point.geometry.size, point.geometry.kernel)), rows.index(_row(point.geometry))


def _distinct(values: Iterable[Any]) -> list[Any]:
    return sorted(dict.fromkeys(values), key=lambda v: [(-1 if e is None else e) for e in v])


def _label(*pairs: Any) -> str:
    return " ".join(f"{name}{value}" for name, value in zip(pairs[::2], pairs[1::2], strict=True) if value is not None)
