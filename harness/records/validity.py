"""Validity maps as data: where, over geometries, does the claim of a layer hold?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import UsageError

#: What the parameters of a geometry are called in a law.
SYMBOLS = {"size": "N", "kernel": "k", "stride": "s", "padding": "p", "output_padding": "q"}


@dataclass(frozen=True)
class Geometry:
    """Box and window of a layer, equal on all axes; None for a parameter that the layer does not have."""

    size: int
    kernel: int | None = None
    stride: int | None = None
    padding: int | None = None
    output_padding: int | None = None

    def __str__(self) -> str:
        return " ".join(f"{SYMBOLS[k]}={v}" for k, v in asdict(self).items() if v is not None)


@dataclass(frozen=True)
class Point:
    """One geometry and what was found there."""

    geometry: Geometry
    verdict: str
    error: float | None = None

    @property
    def holds(self) -> bool | None:
        """Whether the claim holds; None where nothing could be concluded."""
        return {"EXACT": True, "BROKEN": False}.get(self.verdict)


@dataclass(frozen=True)
class Law:
    """(a N + b p + c k + d q + e) mod m = 0 exactly where the claim holds.

    Args:
        text: the law as a formula, or "always" or "never"; empty where none of those tried fits.
        agree: points that it explains.
        of: points that were decided.
        equals: other formulas that say the same on every geometry tried.
    """

    text: str
    agree: int
    of: int
    equals: tuple[str, ...] = ()


@dataclass(frozen=True)
class ValidityMap:
    """The points of one layer, and the law that they follow."""

    layer: str
    library: str
    group: str
    points: tuple[Point, ...]
    law: Law


def write_maps(path: Path, maps: list[ValidityMap]) -> None:
    """Keep maps as one JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(m) for m in maps]) + "\n", encoding="utf-8")


def read_maps(path: Path) -> list[ValidityMap]:
    """The maps of a file.

    Raises:
        UsageError: the file cannot be read, or holds something else.
    """
    try:
        return [_map(row) for row in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path} holds no validity maps ({error}). Make them with benchmarks/validity_map.py."
        ) from error


def _map(row: Mapping[str, object]) -> ValidityMap:
    points, law = row["points"], row["law"]
    assert isinstance(points, list)
    assert isinstance(law, dict)
    found = tuple(Point(Geometry(**p["geometry"]), p["verdict"], p["error"]) for p in points)
    law = Law(**{**law, "equals": tuple(law["equals"])})
    return ValidityMap(str(row["layer"]), str(row["library"]), str(row["group"]), found, law)
