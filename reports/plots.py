"""What the page's script draws when a check is opened: numbers only, as strict JSON that cannot end its script tag."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from ..harness.verdict import CheckResult
from .numbers import plain
from .rows import Row

#: In a JSON string these may be written as escapes; unescaped, `</script>` or `<!--` in a name would end the tag.
ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def plot_data(rows: Iterable[Row]) -> dict[str, Any]:
    """Numbers of every row that has a plot, by row id."""
    return {row.id: data for row in rows if (data := _data(row.result))}


def script_json(data: Any) -> str:
    """JSON for the inside of a script tag.

    Raises:
        ValueError: a NaN was not made a string.
    """
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for sign, escape in ESCAPES.items():
        text = text.replace(sign, escape)
    return text


def _data(result: CheckResult) -> dict[str, Any]:
    data: dict[str, Any] = {}
    if result.elements:
        data["elements"] = [
            [e.element, plain(e.error), plain(e.bound), plain(e.seen), plain(e.power)] for e in result.elements
        ]
        data["dtype"] = result.dtype
        # Off the grid no rounding bound exists, and the error is that of the working precision.
        data["approximate"] = bool(result.resolutions)
    if result.resolutions:
        data["resolutions"] = [[r.size, plain(r.error), plain(r.floor), plain(r.control)] for r in result.resolutions]
    return data
