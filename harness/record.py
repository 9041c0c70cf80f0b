"""Records: what a run measured, as JSON lines that are validated when read and never rewritten in place.

A record file is one line for the run (schema, environment, plan), one line for each finished check or measurement,
and a closing line. Every line is flushed when written, so an interrupted run keeps all that it had finished and can
be continued (``harness.continuation``).
Pictures lie in a side file of the same name, ``*.attachments.jsonl``.
"""

from __future__ import annotations

import base64
import io
import json
import os
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, TypeAdapter, ValidationError

from .errors import RecordError
from .verdict import CheckResult, Data

#: Version 2 says of a measurement where it was made: operator, dtype, device, batch, threads, setting, pair. Lines of
#: version 1 have none of these and read as they are.
SCHEMA: Literal[2] = 2
READABLE = (1, 2)
#: One picture panel is at most this many pixels a side, one side file at most this many bytes.
PANEL_SIDE = 64
ATTACHMENTS_LIMIT = 12 << 20
#: Seconds between two waits for the disk: what a failing machine may cost.
SYNC = 1.0


class RunLine(Data):
    """Opens a record: what was planned, where, with which versions."""

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
    #: Position in the plan: lines come as checks finish, readers get them in this order.
    cell: int = 0


class Measurement(Data):
    """One measured quantity; raw samples are kept and statistics derived from them.

    ``setting`` is how the layer ran ("eager", "channels_last", "compiled"), ``backend`` which of its own ways to
    compute it took, where it has several and tells ("fast", "exact", "fourier"). ``pair`` names the interleaved run
    that the samples come from: two measurements of one pair have samples that belong together, one by one.
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
        """What names the quantity across runs and machines."""
        words = (self.operator, self.implementation, self.case, self.setting, self.dtype, self.device)
        sizes = (f"batch {self.batch}" if self.batch else "", f"{self.threads} threads" if self.threads else "")
        return " | ".join(word for word in (*words, *sizes, self.quantity) if word)


class EndLine(Data):
    """Closes a record: the run was not interrupted."""

    kind: Literal["end"] = "end"
    seconds: float
    seconds_in_layers: float
    counts: dict[str, int]
    #: The machine at the end of a run of measurements: load, clocks, temperature.
    state: dict[str, Any] = Field(default_factory=dict)


Line = Annotated[RunLine | CheckLine | Measurement | EndLine, Field(discriminator="kind")]
_LINE: TypeAdapter[Line] = TypeAdapter(Line)


class Panel(Data):
    """One small picture: a title, a row-major array of float32 in base64, and what its rows and columns are.

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


class Turn(Data):
    """One element of the stabilised view: g x, and g^-1 f(g x), which has to be the same picture for every g."""

    element: str
    moved: Panel
    stabilised: Panel


class Attachment(Data):
    """The commuting diagram of one claim: x, gx, f(x), g f(x), f(gx) and their difference; how to read its panels.

    ``turns`` is the stabilised view of an equivariance check, empty elsewhere.
    """

    id: str
    element: str
    panels: tuple[Panel, ...]
    note: str = ""
    turns: tuple[Turn, ...] = ()


@dataclass
class Run:
    """A record in memory."""

    header: RunLine
    checks: list[CheckResult] = field(default_factory=list)
    measurements: list[Measurement] = field(default_factory=list)
    end: EndLine | None = None
    attachments: dict[str, Attachment] = field(default_factory=dict)
    #: Set where the last line was cut off: all lines before it were used.
    truncated: str = ""


class RecordWriter:
    """Appends lines to a record and pictures to its side file.

    Each line reaches the operating system before the next is written, and the disk at least once a second while lines
    come. One process at a time writes a record.

    Args:
        path: of the record.
        header: opens a new record; None continues the one that is there, from where ``rewind`` says.

    Raises:
        RecordError: the path cannot be written, or another process writes it.
    """

    def __init__(self, path: Path, header: RunLine | None = None) -> None:
        self.path = path
        self._attached = 0
        self._ids: set[str] = set()
        mode: Literal["wb", "ab"] = "ab" if header is None else "wb"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open(mode, buffering=0)
            self._side = attachments_path(path).open(mode, buffering=0)
        except OSError as error:
            raise RecordError(f"Cannot write {path}: {error.strerror}. Give another place with --out.") from error
        self._lock()
        self._size = self._file.tell()
        self._synced = time.monotonic()
        if header is not None:
            self.write(header)

    def write(self, line: Line) -> int:
        """Append one line; the offset in the file at which it begins."""
        offset = self._size
        self._size += self._append(self._file, line.model_dump_json(exclude_defaults=False))
        if time.monotonic() - self._synced > SYNC:
            os.fsync(self._file.fileno())
            self._synced = time.monotonic()
        return offset

    def attach(self, attachment: Attachment, *, always: bool) -> bool:
        """Append one diagram; beyond the size limit only failures (``always``) are kept, up to twice the limit."""
        text = attachment.model_dump_json()
        limit = ATTACHMENTS_LIMIT * (2 if always else 1)
        if attachment.id in self._ids or self._attached + len(text) > limit:
            return False
        self._ids.add(attachment.id)
        self._attached += self._append(self._side, text)
        return True

    def rewind(self, size: int, pictures: Collection[str]) -> None:
        """Go back to where the record had so many bytes, and to these pictures alone.

        Raises:
            RecordError: the files cannot be changed.
        """
        try:
            kept = attachments_path(self.path).read_bytes().splitlines(keepends=True)
            kept = [text for text in kept if text.endswith(b"\n") and _name_of(text) in pictures]
            self._file.truncate(size)
            if sum(map(len, kept)) != self._side.tell():
                self._side.truncate(0)
                self._side.seek(0)
        except OSError as error:
            raise RecordError(f"Cannot write {self.path}: {error.strerror}. Copy it to where it can be.") from error
        self._size, self._attached, self._ids = size, sum(map(len, kept)), {_name_of(text) for text in kept}
        if not self._side.tell():  # there was something to drop
            for text in kept:
                self._append(self._side, text[:-1].decode())

    def _append(self, stream: io.FileIO, text: str) -> int:
        """Nothing is kept back: what a full disk did not take is in no buffer that closing would try to write again."""
        data = (text + "\n").encode()
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[stream.write(rest) :]
        except OSError as error:
            raise RecordError(
                f"Cannot write {self.path}: {error.strerror}. What was recorded before is kept."
            ) from error
        return len(data)

    def _lock(self) -> None:
        """Two processes would write every check twice. A lock ends with its process, however that ends."""
        try:
            import fcntl

            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.close()
            raise RecordError(
                f"{self.path} is being written by another process. Wait for it, or end it, then resume."
            ) from error
        except (ImportError, OSError):  # a system or a file system without locks
            pass

    def close(self) -> None:
        """Close both files."""
        self._file.close()
        self._side.close()


def attachments_path(path: Path) -> Path:
    """The side file with the pictures of a record."""
    return path.with_suffix(".attachments.jsonl")


def lines_of(path: Path) -> Iterator[tuple[int, Line]]:
    """The lines of a record one by one, each with its offset in the file; one that was cut off ends them.

    Raises:
        RecordError: no such file, another schema version, or an invalid line; the message names the line.
    """
    offset = 0
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            for number, raw in enumerate(stream, 1):
                last = offset + len(raw) >= size
                if last and not raw.endswith(b"\n") and number > 1:
                    return
                try:
                    line = _LINE.validate_json(raw)
                except ValidationError as error:
                    if last and number > 1 and not raw.endswith(b"}\n"):
                        return
                    raise RecordError(_fault(path, number, raw.decode(errors="replace"), error)) from error
                if number == 1 and not isinstance(line, RunLine):
                    raise RecordError(
                        f"{path}, line 1: a record opens with its run line and this is a {line.kind} line."
                    )
                yield offset, line
                offset += len(raw)
    except OSError as error:
        raise _unreadable(path, error) from error


def line_at(path: Path, offset: int) -> Line:
    """The line that begins at an offset."""
    with path.open("rb") as stream:
        stream.seek(offset)
        return _LINE.validate_json(stream.readline())


def read_run(path: Path) -> Run:
    """Read and validate a record with its pictures.

    A last line that was cut off is left out and named in ``Run.truncated``; any other fault refuses the file.

    Raises:
        RecordError: no such file, another schema version, or an invalid line; the message names the line.
    """
    lines = _text_lines(path)
    if not lines:
        raise RecordError(f"{path} is empty: no run was recorded. Run `equiharness verify --out DIR` again.")
    parsed: list[Line] = []
    truncated = ""
    for number, text in enumerate(lines, 1):
        try:
            parsed.append(_LINE.validate_json(text))
        except ValidationError as error:
            if number == len(lines) and number > 1 and not text.endswith("}\n"):
                truncated = (
                    f"{path}, line {number}: the last line is cut off; the {number - 2} results before it were used."
                )
                break
            raise RecordError(_fault(path, number, text, error)) from error
    header = parsed[0]
    if not isinstance(header, RunLine):
        raise RecordError(f"{path}, line 1: a record opens with its run line and this is a {header.kind} line.")
    run = Run(header, truncated=truncated)
    planned = sorted((line for line in parsed if isinstance(line, CheckLine)), key=lambda line: line.cell)
    run.checks = [line.result for line in planned]
    for line in parsed[1:]:
        if isinstance(line, Measurement):
            run.measurements.append(line)
        elif isinstance(line, EndLine):
            run.end = line
    run.attachments = _read_attachments(attachments_path(path))
    return run


def _text_lines(path: Path) -> list[str]:
    """Lines with their ends. A character cut in two spoils its own line alone, and only a line feed ends a line."""
    try:
        return [line.decode(errors="replace") for line in path.read_bytes().splitlines(keepends=True)]
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> RecordError:
    if isinstance(error, FileNotFoundError):
        return RecordError(f"There is no record {path}. Make one: equiharness verify --out {path.parent}")
    return RecordError(f"Cannot read {path}: {error}. Give a record written by `equiharness verify`.")


def _fault(path: Path, number: int, text: str, error: ValidationError) -> str:
    try:
        version = json.loads(text).get("schema_version", SCHEMA)
    except (json.JSONDecodeError, AttributeError):
        return f"{path}, line {number}: not JSON. The file is damaged; take a copy from before, or verify again."
    if version not in READABLE:
        return (
            f"{path} has schema version {version}, this equiharness reads {SCHEMA} and what is older. "
            "Install the version that wrote it."
        )
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"][1:])) or "the line"
    return f"{path}, line {number}: {where}: {first['msg']}. The file was edited or damaged; verify again."


def _name_of(text: bytes) -> str:
    try:
        return Attachment.model_validate_json(text).id
    except ValidationError:
        return ""


def _read_attachments(path: Path) -> dict[str, Attachment]:
    """Pictures are a convenience: a missing side file or a damaged line costs the picture, never the record."""
    found = {}
    if path.exists():
        for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                attachment = Attachment.model_validate_json(text)
            except ValidationError:
                continue
            found[attachment.id] = attachment
    return found


def write_atomically(path: Path, text: str) -> None:
    """Write a document so that a reader sees the old or the new one, never half.

    Raises:
        RecordError: the path cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(text)
            Path(name).chmod(0o644)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise RecordError(f"Cannot write {path}: {error.strerror}. Give another place with --out.") from error


def counts(results: Iterable[CheckResult]) -> dict[str, int]:
    """Number of checks of each verdict."""
    tally: dict[str, int] = {}
    for result in results:
        tally[result.verdict] = tally.get(result.verdict, 0) + 1
    return tally
