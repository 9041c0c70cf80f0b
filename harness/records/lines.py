"""Records: the results of a run, as JSON lines that are validated when read and never rewritten in place.

A record file is one line for the run (schema, environment, plan), one line for each finished check or measurement,
and a closing line. Pictures lie in a side file of the same name, ``*.attachments.jsonl``. This module defines the
lines. ``records.writing`` writes them, ``records.reading`` reads them, and ``runs.resume`` continues a record.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AliasChoices, Field

from ..verdict.result import CheckResult, Data

#: Version 2 added to a measurement how it was made: operator, dtype, device, batch, threads, setting, pair. Lines of
#: version 1 lack these fields and can still be read.
SCHEMA: Literal[2] = 2
READABLE = (1, 2)
#: Largest number of pixels on a side of one picture panel.
PANEL_SIDE = 64


class RunLine(Data):
    """The first line of a record: command, plan, environment and versions of the run."""

    kind: Literal["run"] = "run"
    schema_version: Literal[1, 2] = SCHEMA
    started: str
    command: str
    seed: int
    planned: int
    environment: dict[str, Any]


class CheckLine(Data):
    """One finished check."""

    kind: Literal["check"] = "check"
    result: CheckResult
    #: Position in the plan. Lines are written as checks finish; readers sort them by this position.
    position: int = Field(default=0, validation_alias=AliasChoices("position", "cell"))


class Measurement(Data):
    """One measured quantity. The raw samples are kept, and statistics are derived from them.

    ``setting`` is how the layer ran ("eager", "channels_last", "compiled"). ``backend`` is the layer's own algorithm
    ("fast", "exact", "fourier"), for layers that have several and report the one in use. ``pair`` identifies the
    interleaved run of the samples: in two measurements of one pair, samples at the same position belong together.
    """

    kind: Literal["measurement"] = "measurement"
    implementation: str = ""
    case: str
    quantity: str
    value: float
    unit: str
    better: Literal["lower", "higher"]
    samples: tuple[float, ...] = ()
    operator: str = ""
    dtype: str = ""
    device: str = ""
    batch: int = 0
    threads: int = 0
    setting: str = ""
    pair: str = ""
    note: str = ""
    backend: str = ""

    @property
    def key(self) -> str:
        """The key that identifies the quantity across runs and machines."""
        words = (self.operator, self.implementation, self.case, self.setting, self.dtype, self.device)
        sizes = (f"batch {self.batch}" if self.batch else "", f"{self.threads} threads" if self.threads else "")
        return " | ".join(word for word in (*words, *sizes, self.quantity) if word)


class EndLine(Data):
    """The last line of a record whose run was not interrupted."""

    kind: Literal["end"] = "end"
    seconds: float
    seconds_in_layers: float
    seconds_building: float = 0.0
    counts: dict[str, int]
    #: State of the machine at the end of a run of measurements: load, clocks, temperature.
    state: dict[str, Any] = Field(default_factory=dict)


Line = Annotated[RunLine | CheckLine | Measurement | EndLine, Field(discriminator="kind")]


class Panel(Data):
    """One small picture: a title, a row-major array of float32 in base64, and the kind of its rows and columns.

    ``kind`` is "plane", "volume" (its middle slice), "sphere" (beta by alpha), "rotations" (the slice gamma = 0),
    "cloud" (three coordinates by points), "channels" (channels by points), "matrix" (of a representation), or empty.
    """

    title: str
    rows: int
    columns: int
    data: str
    kind: str = ""

    @classmethod
    def of(cls, title: str, rows: int, columns: int, values: bytes, kind: str = "") -> Self:
        """A panel from the raw bytes of float32 values."""
        return cls(title=title, rows=rows, columns=columns, data=base64.b64encode(values).decode(), kind=kind)

    def raw(self) -> bytes:
        """The float32 values, row-major, native little-endian."""
        return base64.b64decode(self.data)


class RotatedView(Data):
    """One element of the stabilised view: g x and g^-1 f(g x). The second picture has to be the same for every g."""

    element: str
    moved: Panel
    stabilised: Panel


class Attachment(Data):
    """The commuting diagram of one claim: x, gx, f(x), g f(x), f(gx) and their difference, with a legend.

    ``rotated`` is the stabilised view of an equivariance check, empty elsewhere.
    """

    id: str
    element: str
    panels: tuple[Panel, ...]
    note: str = ""
    rotated: tuple[RotatedView, ...] = Field(default=(), validation_alias=AliasChoices("rotated", "turns"))


@dataclass
class Run:
    """A record in memory."""

    header: RunLine
    checks: list[CheckResult] = field(default_factory=list)
    measurements: list[Measurement] = field(default_factory=list)
    end: EndLine | None = None
    attachments: dict[str, Attachment] = field(default_factory=dict)
    #: A message where the last line of the file was cut off; all lines before it were used.
    truncated: str = ""


def attachments_path(path: Path) -> Path:
    """The side file with the pictures of a record."""
    return path.with_suffix(".attachments.jsonl")


def counts(results: Iterable[CheckResult]) -> dict[str, int]:
    """Number of checks of each verdict."""
    tally: dict[str, int] = {}
    for result in results:
        tally[result.verdict] = tally.get(result.verdict, 0) + 1
    return tally
