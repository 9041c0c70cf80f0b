"""Reading of records: every line is validated, errors name the damaged line, a cut-off last line is left out."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from ..errors import RecordError
from .lines import READABLE, SCHEMA, Attachment, CheckLine, Line, Measurement, Run, RunLine, attachments_path

_LINE: TypeAdapter[Line] = TypeAdapter(Line)


class WholeLine(NamedTuple):
    """One whole line of a record: its number from 1, the offset in the file at which it begins, and its bytes."""

    number: int
    offset: int
    text: bytes

    @property
    def end(self) -> int:
        """The offset at which the next line begins."""
        return self.offset + len(self.text)


def whole_lines(path: Path) -> Iterator[WholeLine]:
    """The whole lines of a record, one by one. This is the only rule for a last line that was cut off.

    The writer ends each line with a brace and a line feed. A last line that does not end so was cut off, and is left
    out, whatever it holds: a run that is resumed writes it again.

    Raises:
        RecordError: there is no such file, or it cannot be read.
    """
    offset = 0
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            for number, text in enumerate(stream, 1):
                if offset + len(text) >= size and not text.endswith(b"}\n"):
                    return
                yield WholeLine(number, offset, text)
                offset += len(text)
    except OSError as error:
        raise _unreadable(path, error) from error


def whole_size(path: Path) -> int:
    """Number of bytes up to the end of the last whole line."""
    size = 0
    for line in whole_lines(path):
        size = line.end
    return size


def data_of(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The number and the data of each whole line, without validation: thousands of records have to load in seconds.

    Raises:
        RecordError: no such file, no run line at its beginning, another schema version, or a line that is not JSON.
    """
    number = 0
    for number, _, text in whole_lines(path):
        try:
            data = json.loads(text)
        except ValueError as error:
            raise RecordError(
                f"{path}, line {number}: not JSON. The file is damaged; restore an earlier copy, or verify again."
            ) from error
        if number == 1:
            if not isinstance(data, dict) or data.get("kind") != "run":
                raise RecordError(f"{path}, line 1: no run line. Give a record written by equiharness.")
            if data.get("schema_version") not in READABLE:
                raise RecordError(_other_version(path, data.get("schema_version")))
        yield number, data
    if not number:
        raise RecordError(_empty(path))


def lines_of(path: Path) -> Iterator[tuple[int, Line]]:
    """The lines of a record one by one, each with its offset in the file. A cut-off last line is left out.

    Raises:
        RecordError: no such file, another schema version, or an invalid line; the message names the line.
    """
    number = 0
    for number, offset, text in whole_lines(path):
        try:
            line = _LINE.validate_json(text)
        except ValidationError as error:
            raise RecordError(_fault(path, number, text.decode(errors="replace"), error)) from error
        if number == 1 and not isinstance(line, RunLine):
            raise RecordError(
                f"{path}, line 1: a record opens with its run line, and this is a {line.kind} line. "
                "The file was edited or damaged; verify again."
            )
        yield offset, line
    if not number:
        raise RecordError(_empty(path))


def line_at(path: Path, offset: int) -> Line:
    """The line that begins at an offset."""
    with path.open("rb") as stream:
        stream.seek(offset)
        return _LINE.validate_json(stream.readline())


def read_run(path: Path) -> Run:
    """Read and validate a record with its pictures.

    A cut-off last line is left out and reported in ``Run.truncated``. Any other fault raises an error.

    Raises:
        RecordError: no such file, another schema version, or an invalid line; the message names the line.
    """
    run: Run | None = None
    planned: list[CheckLine] = []
    for _, line in lines_of(path):
        if isinstance(line, RunLine):
            run = run or Run(line)
            continue
        assert run is not None
        if isinstance(line, CheckLine):
            planned.append(line)
        elif isinstance(line, Measurement):
            run.measurements.append(line)
        else:
            run.end = line
    assert run is not None
    run.checks = [line.result for line in sorted(planned, key=lambda line: line.position)]
    run.truncated = cut_off(path)
    run.attachments = _read_attachments(attachments_path(path))
    return run


def cut_off(path: Path) -> str:
    """A message if the last line of a record was cut off, else empty."""
    number = size = 0
    for line in whole_lines(path):
        number, size = line.number, line.end
    if size == path.stat().st_size:
        return ""
    return f"{path}, line {number + 1}: the last line is cut off; the {number - 1} results before it were used."


def _empty(path: Path) -> str:
    return f"{path} is empty: its run ended before it began. Run `equiharness verify` again, without --resume."


def _unreadable(path: Path, error: OSError) -> RecordError:
    if isinstance(error, FileNotFoundError):
        return RecordError(f"There is no record {path}. Make one: equiharness verify --out {path.parent}")
    return RecordError(f"Cannot read {path}: {error}. Give a record written by `equiharness verify`.")


def _fault(path: Path, number: int, text: str, error: ValidationError) -> str:
    try:
        version = json.loads(text).get("schema_version", SCHEMA)
    except (json.JSONDecodeError, AttributeError):
        return f"{path}, line {number}: not JSON. The file is damaged; restore an earlier copy, or verify again."
    if version not in READABLE:
        return _other_version(path, version)
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"][1:])) or "the line"
    return f"{path}, line {number}: {where}: {first['msg']}. The file was edited or damaged; verify again."


def _other_version(path: Path, version: object) -> str:
    return (
        f"{path} has schema version {version}, and this equiharness reads versions up to {SCHEMA}. "
        "Install the version that wrote the file."
    )


def _read_attachments(path: Path) -> dict[str, Attachment]:
    """The readable pictures of a record, by name. A missing side file or a damaged line is no error."""
    found = {}
    if path.exists():
        for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                attachment = Attachment.model_validate_json(text)
            except ValidationError:
                continue
            found[attachment.id] = attachment
    return found


def picture_name(text: bytes) -> str:
    """The name of the picture in a line of the side file; empty where the line is damaged."""
    try:
        return Attachment.model_validate_json(text).id
    except ValidationError:
        return ""
