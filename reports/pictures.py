"""Panels of the commuting diagram: one byte per value for the page's script, or a figure for a file."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..harness.errors import RecordError
from ..harness.records.lines import Attachment, Panel
from ._require import require
from .globes import pictured
from .numbers import number

#: Shades of the palette: an odd number, so that zero is exactly white; one more byte value marks NaN and infinities.
SHADES = 255
#: Panels that share colour limits: the two panels of the source, and the compared panels of the target.
SHARED = {"x": "source", "g x": "source"}
SHARED |= dict.fromkeys(("f(x)", "g f(x)", "f(g x)", "space alone"), "target")
#: The sentence under each panel.
CAPTIONS = {
    "x": "the input",
    "g x": "the input, moved",
    "f(g x)": "moved, then the layer",
    "f(x)": "the layer's output",
    "g f(x)": "the layer, then moved",
    "f(g x) - g f(x)": "should be zero",
    "space alone": "f(x) with space moved and channels left: not the action",
    "f(g x) - space alone": "what is missing: the permutation of the fibre",
    "g on the fibre": "the matrix that mixes the channels of one block",
}
#: Order of the panels: first the path that applies the action first, then the path that applies the layer first.
ORDER = ("x", "g x", "f(g x)", "f(x)", "g f(x)", "f(g x) - g f(x)", *list(CAPTIONS)[6:])


def shades(attachment: Attachment) -> dict[str, Any]:
    """One attachment as plain data: each value is one of 255 shades between minus and plus a shared limit.

    A panel whose data do not fit its shape is left out.
    """
    numpy = require("numpy", "A picture")
    arrays = _arrays(numpy, attachment.panels)
    limits = _limits(numpy, arrays)
    rotated = []
    for turn in attachment.rotated:
        pair = _arrays(numpy, (turn.moved, turn.stabilised))
        if len(pair) == 2:
            rotated.append([turn.element, *(_shaded(numpy, panel, array, None) for panel, array in pair)])
    return {
        "element": attachment.element,
        "note": attachment.note,
        "panels": [_shaded(numpy, p, a, limits[SHARED.get(p.title, p.title)]) for p, a in _ordered(arrays)],
        "rotated": rotated,
    }


def figure_of(attachment: Attachment, title: str = "") -> Any:
    """All panels with their titles, as a matplotlib figure.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    numpy = require("numpy", "A picture")
    arrays = _ordered(_arrays(numpy, attachment.panels))
    rows = max(1, -(-len(arrays) // 3))
    figure = require("matplotlib.figure", "A picture").Figure(figsize=(9, 0.6 + 2.8 * rows))
    figure.subplots_adjust(left=0.03, right=0.97, bottom=0.03, top=1 - 0.9 / (0.6 + 2.8 * rows), hspace=0.35)
    limits = _limits(numpy, arrays)
    for index, (panel, array) in enumerate(arrays):
        axes = figure.add_subplot(rows, 3, index + 1)
        limit = limits[SHARED.get(panel.title, panel.title)] or 1.0
        shown = numpy.ma.masked_invalid(array.astype("f8") / limit)
        if panel.kind == "cloud":
            axes.scatter(shown[0], shown[1], c=shown[2], cmap="RdBu_r", vmin=-1, vmax=1, edgecolors="0.5", s=40)
            axes.set(xlim=(-1.1, 1.1), ylim=(-1.1, 1.1), aspect="equal")
        elif panel.kind == "sphere":
            axes.imshow(pictured(numpy, shown.filled(numpy.nan)), cmap="RdBu_r", vmin=-1, vmax=1)
        else:
            axes.imshow(shown, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest", aspect="auto")
        axes.set_title(f"{panel.title}\n{CAPTIONS.get(panel.title, '')}, ±{number(limit)}", fontsize=8)
        axes.set_xticks([])
        axes.set_yticks([])
    # A dollar sign is escaped, because it would begin a formula.
    figure.suptitle(f"{title}{', ' if title else ''}g = {attachment.element}"[:160].replace("$", r"\$"), fontsize=10)
    return figure


def strip_of(attachment: Attachment) -> Any:
    """The stabilised view: one column for each element, with g x above g^-1 f(g x).

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    numpy = require("numpy", "A picture")
    count = max(1, len(attachment.rotated))
    figure = require("matplotlib.figure", "A picture").Figure(figsize=(1.6 * count, 3.6), layout="constrained")
    limits = [0.0, 0.0]
    pairs = [_arrays(numpy, (turn.moved, turn.stabilised)) for turn in attachment.rotated]
    for pair in pairs:
        limits = [max(limit, _largest(numpy, array)) for limit, (_, array) in zip(limits, pair, strict=False)] or limits
    for column, (turn, pair) in enumerate(zip(attachment.rotated, pairs, strict=True)):
        for row, (panel, array) in enumerate(pair):
            axes = figure.add_subplot(2, count, 1 + column + row * count)
            shown = numpy.ma.masked_invalid(array.astype("f8") / (limits[row] or 1.0))
            if panel.kind == "sphere":
                shown = pictured(numpy, shown.filled(numpy.nan))
            axes.imshow(shown, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
            named = f"g = {turn.element}"[:30].replace("$", r"\$") if row == 0 else ""
            axes.set_title(f"{named}\n{panel.title}" if named else panel.title, fontsize=6)
            axes.set_xticks([])
            axes.set_yticks([])
    return figure


def save_png(attachment: Attachment, path: Path) -> None:
    """Save one picture of all panels with their titles.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        RecordError: the path cannot be written.
    """
    save(figure_of(attachment), path)


def save(figure: Any, path: Path) -> None:
    """Save a figure in the format of the file's ending, without a date, so that the same data give the same bytes.

    Raises:
        RecordError: the path cannot be written.
    """
    kind = path.suffix.removeprefix(".") or "png"
    stream = io.BytesIO()
    figure.savefig(stream, format=kind, dpi=110, metadata={"Date": None} if kind == "svg" else {"Software": None})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(stream.getvalue())
    except OSError as error:
        raise RecordError(f"Cannot write {path}: {error.strerror}. Free the place, or remove the folder.") from error


def _ordered(arrays: Sequence[tuple[Panel, Any]]) -> list[tuple[Panel, Any]]:
    """Panels in reading order, unknown titles last."""
    return sorted(arrays, key=lambda pair: ORDER.index(pair[0].title) if pair[0].title in ORDER else len(ORDER))


def _arrays(numpy: Any, panels: Sequence[Panel]) -> list[tuple[Panel, Any]]:
    return [(panel, array) for panel in panels if (array := _array(numpy, panel)) is not None]


def _array(numpy: Any, panel: Panel) -> Any:
    try:
        return numpy.frombuffer(panel.raw(), dtype="<f4").reshape(panel.rows, panel.columns)
    except ValueError:  # damaged base64 or shape: only this panel is left out
        return None


def _limits(numpy: Any, arrays: Sequence[tuple[Panel, Any]]) -> dict[str, float]:
    limits: dict[str, float] = {}
    for panel, array in arrays:
        key = SHARED.get(panel.title, panel.title)
        limits[key] = max(limits.get(key, 0.0), _largest(numpy, array))
    return limits


def _largest(numpy: Any, array: Any) -> float:
    finite = numpy.abs(array[numpy.isfinite(array)])
    return float(finite.max()) if finite.size else 0.0


def _shaded(numpy: Any, panel: Panel, array: Any, limit: float | None) -> dict[str, Any]:
    """One panel for the script; the shade SHADES marks values that are not finite."""
    largest = _largest(numpy, array)
    limit = largest if limit is None else limit
    finite = numpy.isfinite(array)
    # Scaled in float64: a float32 limit near its smallest values would divide by zero.
    scaled = numpy.where(finite, array, 0).astype("f8") / (limit if limit > 0 else 1.0)
    index = numpy.where(finite, numpy.rint((scaled.clip(-1, 1) + 1) / 2 * (SHADES - 1)), SHADES).astype("u1")
    return {
        "title": panel.title,
        "caption": CAPTIONS.get(panel.title, ""),
        "kind": panel.kind,
        "rows": panel.rows,
        "columns": panel.columns,
        "limit": float(f"{limit:.3g}"),
        "strange": int(array.size - finite.sum()),
        "data": base64.b64encode(index.tobytes()).decode(),
    }
