"""Reading of records: every line is validated, errors name the damaged line, a cut-off last line is left out."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from ..errors import RecordError
from .lines import READABLE, SCHEMA, Attachment, CheckLine, EndLine, Line, Measurement, Run, RunLine, attachments_path

_LINE: TypeAdapter[Line] = TypeAdapter(Line)


def lines_of(path: Path) -> Iterator[tuple[int, Line]]:
    """The lines of a record one by one, each with its offset in the file. A cut-off last line is left out.

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
                        f"{path}, line 1: a record opens with its run line, and this is a {line.kind} line. "
                        "The file was edited or damaged; verify again."
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

    A cut-off last line is left out and reported in ``Run.truncated``. Any other fault raises an error.

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
        raise RecordError(
            f"{path}, line 1: a record opens with its run line, and this is a {header.kind} line. "
            "The file was edited or damaged; verify again."
        )
    run = Run(header, truncated=truncated)
    planned = sorted((line for line in parsed if isinstance(line, CheckLine)), key=lambda line: line.position)
    run.checks = [line.result for line in planned]
    for line in parsed[1:]:
        if isinstance(line, Measurement):
            run.measurements.append(line)
        elif isinstance(line, EndLine):
            run.end = line
    run.attachments = _read_attachments(attachments_path(path))
    return run


def _text_lines(path: Path) -> list[str]:
    """Lines with their line feeds. Only a line feed ends a line, and a damaged character affects its own line only."""
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
        return f"{path}, line {number}: not JSON. The file is damaged; restore an earlier copy, or verify again."
    if version not in READABLE:
        return (
            f"{path} has schema version {version}, and this equiharness reads versions up to {SCHEMA}. "
            "Install the version that wrote the file."
        )
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"][1:])) or "the line"
    return f"{path}, line {number}: {where}: {first['msg']}. The file was edited or damaged; verify again."


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
