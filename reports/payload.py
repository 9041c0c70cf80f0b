"""The data of the page's script: checks, pictures, measurements, validity maps and trends, as strict JSON.

The data are numbers and names. Numbers keep four digits, which is what a screen can show. NaN and infinities are
strings, because strict JSON has no numbers for them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ..harness.records.lines import Attachment, Measurement
from ..harness.records.validity import ValidityMap
from ..harness.verdict.result import CheckResult
from .pictures import shades
from .rows import Row, worst_first
from .since import CheckKey, Onset, key_of

#: Numbers of a check that the page shows by name.
NUMBERS = ("error", "bound", "ratio", "power", "seen", "precision", "error_max", "kappa", "defect", "lost_bits")
#: Texts of a check in addition to its names.
WORDS = ("group", "source", "target", "element", "leaf", "reproduce", "expected", "contradiction")
#: Names by which the page groups and finds rows.
NAMES = ("implementation", "property", "case", "dtype")


def strict_json(data: Any) -> str:
    """JSON as browsers read it.

    Raises:
        ValueError: the data hold a NaN that is no string.
    """
    return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def rounded(value: float | None) -> float | str | None:
    """The value with four digits; NaN and infinities become strings.

    Example:
        >>> rounded(1 / 3), rounded(float("nan")), rounded(None)
        (0.3333, 'NaN', None)
    """
    if value is None:
        return None
    if math.isfinite(value):
        return float(f"{value:.4g}")
    return "NaN" if math.isnan(value) else "inf" if value > 0 else "-inf"


def checks_of(
    rows: Iterable[Row], attachments: Mapping[str, Attachment], since: Mapping[CheckKey, Onset]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Every check, worst first, and the pictures of the checks, each picture once."""
    pictures: dict[str, int] = {}
    drawn: list[dict[str, Any]] = []
    checks = []
    for row in worst_first(rows):
        result = row.result
        data = _check(row)
        name = result.attachment
        if name and name in attachments:
            if name not in pictures:
                pictures[name] = len(drawn)
                drawn.append(shades(attachments[name]))
            data["picture"] = pictures[name]
        if result.fails and (onset := since.get(key_of(result))) is not None:
            data["since"] = onset.text
        checks.append(data)
    return checks, drawn


def measurements_of(measurements: Iterable[Measurement]) -> list[dict[str, Any]]:
    """Measurements without their samples."""
    names = ("implementation", "operator", "case", "quantity", "unit", "dtype", "device", "batch", "setting", "note")
    return [{**{name: getattr(m, name) for name in names}, "value": rounded(m.value)} for m in measurements]


def maps_of(maps: Sequence[ValidityMap]) -> list[dict[str, Any]]:
    """Validity maps, each point a row of five parameters and a verdict."""
    return [
        {
            "name": f"{m.library}.{m.layer}",
            "group": m.group,
            "law": m.law.text,
            "agree": m.law.agree,
            "of": m.law.of,
            "points": [[*asdict(p.geometry).values(), p.verdict] for p in m.points],
        }
        for m in maps
    ]


def _check(row: Row) -> dict[str, Any]:
    result = row.result
    data: dict[str, Any] = {"id": row.id, "label": result.label, "verdict": result.verdict.value}
    data |= {name: row.implementation if name == "implementation" else getattr(result, name) for name in NAMES}
    data |= {name: value for name in NUMBERS if (value := rounded(getattr(result, name))) is not None}
    data |= {name: value for name in WORDS if (value := getattr(result, name))}
    data["code"], data["message"] = result.reason.code, result.reason.message
    data["run"] = [
        result.samples,
        result.seed,
        result.device,
        rounded(result.seconds),
        rounded(result.seconds_in_layer),
    ]
    if result.elements:
        data["elements"] = [
            [e.element, rounded(e.error), rounded(e.bound), rounded(e.seen), rounded(e.power)] for e in result.elements
        ]
    if result.resolutions:
        data["resolutions"] = [
            [r.size, rounded(r.error), rounded(r.floor), rounded(r.control)] for r in result.resolutions
        ]
        data["limit"] = [rounded(v) for v in result.limit] if result.limit else None
        data["order"], data["gain"] = rounded(result.order), rounded(result.gain)
    if result.wavelengths:
        data["wavelengths"] = [[row.pixels, rounded(row.error)] for row in result.wavelengths]
        data["separation"], data["share"] = rounded(result.separation), rounded(result.share)
        data["order"], data["gain"] = rounded(result.order), rounded(result.gain)
    if result.parts:
        data["parts"] = [_part(part) for part in result.parts]
    return data


def _part(part: CheckResult) -> dict[str, Any]:
    found = {"property": part.property, "label": part.label, "verdict": part.verdict.value}
    found |= {"message": part.reason.message}
    return found | {name: rounded(getattr(part, name)) for name in NUMBERS[:4]}
