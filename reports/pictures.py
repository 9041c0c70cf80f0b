"""Panels of the commuting diagram as PNG data URIs, with colour limits that can be compared."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..harness.errors import RecordError
from ..harness.record import Attachment, Panel
from ._require import require
from .numbers import number

#: Pixels of a picture's longer side on the page, and the least of its shorter one.
SIDE, LEAST = 144, 14
#: Shades of the palette; odd, so that zero is exactly white, and one entry is left for NaN.
SHADES = 255
#: Panels that share colour limits: the two sides of the source, and everything in the target that is compared.
SHARED = {"x": "source", "g x": "source"}
SHARED |= dict.fromkeys(("f(x)", "g f(x)", "f(g x)", "space alone"), "target")
#: Where a panel stands in the diagram, and the sentence under it.
PLACES = {
    "x": ("x", "the input"),
    "g x": ("gx", "the input, moved"),
    "f(g x)": ("fgx", "moved, then the layer"),
    "f(x)": ("fx", "the layer's output"),
    "g f(x)": ("gfx", "the layer, then moved"),
    "f(g x) - g f(x)": ("difference", "should be zero"),
}
#: What follows the diagram where the output has a fibre that g mixes.
ASIDE = {
    "space alone": ("alone", "f(x) with space moved and channels left: not the action"),
    "f(g x) - space alone": ("aside", "what is missing: the permutation of the fibre"),
}


#: Reading order of a picture in two rows: the way through the action first, the way through the layer first.
GRID = ("x", "g x", "f(g x)", "f(x)", "g f(x)", "f(g x) - g f(x)")


@dataclass(frozen=True)
class Picture:
    """One panel ready for the page."""

    title: str
    caption: str
    place: str
    uri: str
    width: int
    height: int
    limits: str


@dataclass(frozen=True)
class Diagram:
    """All panels of one attachment; ``commuting`` when they are the six of the diagram and stand in its places.

    ``aside`` shows what becomes of the diagram where space is moved and the fibre is not.
    """

    element: str
    pictures: tuple[Picture, ...]
    commuting: bool
    aside: tuple[Picture, ...] = ()
    note: str = ""


def diagram(attachment: Attachment) -> Diagram:
    """The pictures of one attachment; panels whose data do not fit their shape are left out."""
    numpy = require("numpy", "A picture")
    arrays = [(panel, array) for panel in attachment.panels if (array := _array(numpy, panel)) is not None]
    limits: dict[str, float] = {}
    for panel, array in arrays:
        key = SHARED.get(panel.title, panel.title)
        limits[key] = max(limits.get(key, 0.0), _largest(numpy, array))
    pictures = [_picture(numpy, panel, array, limits[SHARED.get(panel.title, panel.title)]) for panel, array in arrays]
    main = [p for p in pictures if p.title not in ASIDE]
    aside = tuple(p for p in pictures if p.title in ASIDE)
    commuting = sorted(p.title for p in main) == sorted(PLACES)
    return Diagram(attachment.element, tuple(_in_reading_order(main)), commuting, aside, attachment.note)


def save_png(attachment: Attachment, path: Path) -> None:
    """One picture of all panels with their titles, for who reads a terminal.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        RecordError: the path cannot be written.
    """
    numpy = require("numpy", "A picture")
    figure = require("matplotlib.figure", "A picture").Figure(figsize=(9, 6), layout="constrained")
    known = {panel.title: panel for panel in attachment.panels}
    titles = [title for title in GRID if title in known] or list(known)
    arrays = {title: array for title in titles if (array := _array(numpy, known[title])) is not None}
    limits: dict[str, float] = {}
    for title, array in arrays.items():
        key = SHARED.get(title, title)
        limits[key] = max(limits.get(key, 0.0), _largest(numpy, array))
    for index, (title, array) in enumerate(arrays.items()):
        axes = figure.add_subplot(2, 3, index + 1)
        limit = limits[SHARED.get(title, title)] or 1.0
        shown = numpy.ma.masked_invalid(array.astype("f8") / limit)
        axes.imshow(shown, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest", aspect="auto")
        axes.set_title(f"{title}\n{PLACES.get(title, ('', ''))[1]}, colours ±{number(limit)}", fontsize=9)
        axes.set_xticks([])
        axes.set_yticks([])
    figure.suptitle(f"g = {attachment.element}", fontsize=10)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=100, metadata={"Software": None})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(stream.getvalue())
    except OSError as error:
        raise RecordError(f"Cannot write {path}: {error.strerror}. Free the place, or remove the folder.") from error


def _in_reading_order(pictures: list[Picture]) -> list[Picture]:
    """Pictures in the reading order of the diagram, unknown titles last."""
    order = list(PLACES)
    return sorted(pictures, key=lambda p: order.index(p.title) if p.title in PLACES else len(order))


def _array(numpy: Any, panel: Panel) -> Any:
    try:
        return numpy.frombuffer(panel.raw(), dtype="<f4").reshape(panel.rows, panel.columns)
    except ValueError:  # base64 or shape: a damaged picture costs the picture only
        return None


def _largest(numpy: Any, array: Any) -> float:
    finite = numpy.abs(array[numpy.isfinite(array)])
    return float(finite.max()) if finite.size else 0.0


def _picture(numpy: Any, panel: Panel, array: Any, limit: float) -> Picture:
    place, caption = {**PLACES, **ASIDE}.get(panel.title, ("other", ""))
    longest = max(*array.shape, 1)
    strange = int(array.size - numpy.isfinite(array).sum())
    text = f"max |value| {number(_largest(numpy, array))}"
    if SHARED.get(panel.title):
        text = f"colours ±{number(limit)}"
    if strange:
        text += f", {strange} NaN or inf (grey)"
    return Picture(
        title=panel.title,
        caption=caption,
        place=place,
        uri=_png(numpy, array, limit),
        width=max(LEAST, round(SIDE * array.shape[1] / longest)),
        height=max(LEAST, round(SIDE * array.shape[0] / longest)),
        limits=text,
    )


def _png(numpy: Any, array: Any, limit: float) -> str:
    """A palette image: a quarter of the bytes of a true-colour one, on a page of hundreds."""
    image = require("PIL.Image", "A picture")
    scale = limit if limit > 0 else 1.0
    finite = numpy.isfinite(array)
    # Scaled in float64: a float32 limit near its smallest values would divide by zero.
    scaled = numpy.where(finite, array, 0).astype("f8") / scale
    index = numpy.where(finite, numpy.rint((scaled.clip(-1, 1) + 1) / 2 * (SHADES - 1)), SHADES).astype("u1")
    picture = image.fromarray(index, mode="P")
    picture.putpalette(_palette(numpy))
    stream = io.BytesIO()
    picture.save(stream, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def _palette(numpy: Any) -> bytes:
    """Blue through white to red, then grey for what is not a number."""
    colours = require("matplotlib", "A picture").colormaps["RdBu_r"](numpy.linspace(0, 1, SHADES))[:, :3]
    rgb = numpy.vstack([colours, [[0.5, 0.5, 0.5]]])
    return bytes(numpy.rint(rgb * 255).astype("u1"))
