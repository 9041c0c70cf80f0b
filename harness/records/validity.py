"""Validity maps as data: for which geometries does the claim of a layer hold?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import UsageError

#: Symbols of the parameters of a geometry in a law.
SYMBOLS = {"size": "N", "kernel": "k", "stride": "s", "padding": "p", "output_padding": "q"}


@dataclass(frozen=True)
class Geometry:
    """Sizes of the grid and the kernel of a layer, equal on all axes; None for a parameter that the layer lacks."""

    size: int
    kernel: int | None = None
    stride: int | None = None
    padding: int | None = None
    output_padding: int | None = None

    def __str__(self) -> str:
        return " ".join(f"{SYMBOLS[k]}={v}" for k, v in asdict(self).items() if v is not None)


@dataclass(frozen=True)
class Point:
    """One geometry with its verdict and error."""

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
        text: the law as a formula, or "always" or "never"; empty where no tried formula fits.
        agree: number of points that the law explains.
        of: number of points with a decided verdict.
        equals: other formulas that agree with the law on every tried geometry.
    """

    text: str
    agree: int
    of: int
    equals: tuple[str, ...] = ()


@dataclass(frozen=True)
class ValidityMap:
    """The points of one layer and the law that they follow."""

    layer: str
    library: str
    group: str
    points: tuple[Point, ...]
    law: Law


def write_maps(path: Path, maps: list[ValidityMap]) -> None:
    """Write maps to one JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(m) for m in maps]) + "\n", encoding="utf-8")


def read_maps(path: Path) -> list[ValidityMap]:
    """Read the maps of a file.

    Raises:
        UsageError: the file cannot be read, or holds no validity maps.
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
