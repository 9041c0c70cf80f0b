"""Merging: the records of the shards of one plan become the record of the whole plan."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import RecordError
from ..verdict.result import CheckResult
from .lines import Attachment, CheckLine, EndLine, RunLine, attachments_path
from .reading import line_at, lines_of
from .tally import Tally
from .writing import RecordWriter


@dataclass(frozen=True)
class Merged:
    """Summary of a merge: counts of the checks, and the number of checks of the plan that no part holds."""

    tally: Tally
    planned: int
    missing: int
    seconds: float


def merge(paths: Sequence[Path], writer_of: Callable[[RunLine], RecordWriter], command: str) -> Merged:
    """Write one record from several records of the same plan. A check that several records hold is written once.

    Results are read one at a time, in the order of the plan, so that memory holds one result only.

    Args:
        paths: the records.
        writer_of: makes the writer from the merged run line.
        command: the command that the merged record names as its origin.

    Raises:
        RecordError: records of different plans, versions or sources, or two results of one check that differ.
    """
    headers = [_header(path) for path in paths]
    for path, header in zip(paths[1:], headers[1:], strict=True):
        _require_one_plan(paths[0], headers[0], path, header)
    index = array("q")
    seconds = 0.0
    for number, path in enumerate(paths):
        for offset, line in lines_of(path):
            if isinstance(line, CheckLine):
                index.extend((line.position, number, offset))
            elif isinstance(line, EndLine):
                seconds += line.seconds
    planned = int(_planned(headers[0]))
    writer = writer_of(_whole(paths, headers, planned, command))
    tally = Tally()
    try:
        pictures = {path: _pictures(path) for path in paths}
        for path, line in _distinct(paths, index):
            tally.add(line.result, line.position, writer.write(_with_picture(line, path, pictures[path], writer)))
        if tally.checks == planned:
            writer.write(tally.end(seconds))
    finally:
        writer.close()
    return Merged(tally, planned, planned - tally.checks, seconds)


def _header(path: Path) -> RunLine:
    _, line = next(lines_of(path))
    assert isinstance(line, RunLine)
    if not isinstance(line.environment.get("plan"), dict):
        raise RecordError(f"{path} contains no plan. Merge records of `equiharness verify --shard`.")
    return line


def _require_one_plan(first: Path, one: RunLine, second: Path, other: RunLine) -> None:
    for what in ("digest", "source"):
        if one.environment["plan"].get(what) != other.environment["plan"].get(what):
            kind = "plans" if what == "digest" else "sources of equiharness"
            raise RecordError(
                f"{first} and {second} come from different {kind}: `{one.command}` and `{other.command}`. "
                "Run every shard with the same options and the same version."
            )
    old, new = one.environment.get("versions", {}), other.environment.get("versions", {})
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            raise RecordError(
                f"{first} was made with {name} {old.get(name) or 'missing'} and {second} with "
                f"{new.get(name) or 'missing'}. Install one version on every machine and run the shards again."
            )


def _whole(paths: Sequence[Path], headers: Sequence[RunLine], planned: int, command: str) -> RunLine:
    first = headers[0]
    parts = [
        {
            "record": path.name,
            "shard": header.environment["plan"]["shard"],
            "started": header.started,
            "fingerprint": header.environment.get("fingerprint", ""),
        }
        for path, header in zip(paths, headers, strict=True)
    ]
    whole = {**first.environment["plan"], "shard": "1/1"}
    environment = {**first.environment, "plan": whole, "merged": parts}
    started = min(header.started for header in headers)
    return RunLine(started=started, command=command, seed=first.seed, planned=planned, environment=environment)


def _planned(header: RunLine) -> int:
    """The number of checks of the whole plan; older records call them cells."""
    plan = header.environment["plan"]
    return int(plan["checks"] if "checks" in plan else plan["cells"])


def _distinct(paths: Sequence[Path], index: array[int]) -> Iterator[tuple[Path, CheckLine]]:
    """The checks in the order of the plan, each check once."""
    before: tuple[Path, CheckLine] | None = None
    for check, number, offset in sorted(zip(index[::3], index[1::3], index[2::3], strict=True)):
        line = line_at(paths[number], offset)
        assert isinstance(line, CheckLine)
        if before is not None and before[1].position == check:
            if _essence(before[1].result) != _essence(line.result):
                raise RecordError(
                    f"{before[0]} and {paths[number]} have different results of {line.result.property} of "
                    f"{line.result.implementation} {line.result.case}. Merge one of them."
                )
            continue
        before = (paths[number], line)
        yield before


def _essence(result: CheckResult) -> dict[str, Any]:
    """The data of a result without its times and the name of its picture."""
    return result.model_dump(exclude={"seconds", "seconds_in_layer", "seconds_building", "attachment", "parts"})


def _pictures(path: Path) -> dict[str, int]:
    """Offsets of a record's pictures, by name."""
    found, offset = {}, 0
    side = attachments_path(path)
    if side.exists():
        with side.open("rb") as stream:
            for raw in stream:
                with suppress(ValueError):  # a damaged picture is left out; the merge goes on
                    found[Attachment.model_validate_json(raw).id] = offset
                offset += len(raw)
    return found


def _with_picture(line: CheckLine, path: Path, pictures: dict[str, int], writer: RecordWriter) -> CheckLine:
    """Write the picture of a line. The line is returned without its picture where there is no room for the picture."""
    result = line.result
    if not result.attachment:
        return line
    if result.attachment in pictures:
        with attachments_path(path).open("rb") as stream:
            stream.seek(pictures[result.attachment])
            attachment = Attachment.model_validate_json(stream.readline())
        if writer.attach(attachment, always=result.verdict.fails):
            return line
    return CheckLine(result=result.model_copy(update={"attachment": ""}), position=line.position)
