"""Resuming of records: the contents of a record, whether it belongs to a plan, and where its next line is written."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import RecordError
from ..records.lines import CheckLine, EndLine, RunLine
from ..records.reading import lines_of, whole_size
from ..records.tally import Tally
from ..records.writing import RecordWriter
from .plan import WHOLE, Plan, Shard


@dataclass
class RecordState:
    """The contents of a record, with one byte of memory for each check, whatever the size of its result."""

    header: RunLine
    #: For each position of the plan, whether its check is done.
    done: bytearray = field(default_factory=bytearray)
    tally: Tally = field(default_factory=Tally)
    #: Size of the whole lines in bytes, and size of the file when it was read.
    size: int = 0
    seen: int = 0
    #: Duration of the run in seconds, if the run ended.
    seconds: float = 0.0
    ended: bool = False
    #: Names of the pictures of the results.
    pictures: set[str] = field(default_factory=set)
    #: Seconds from the beginning of the run to its last line.
    elapsed: float = 0.0


def identity(plan: Plan, shard: Shard, request: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The data that identify the plan of a record, stored under "plan" in its environment.

    Args:
        plan: the plan.
        shard: the part of the plan in the record.
        request: the options of the run, from which the plan can be made again.
        source: the digest of this package's sources.
    """
    return {"digest": plan.digest, "checks": len(plan), "shard": str(shard), "source": source, "asked": dict(request)}


def read_state(path: Path) -> RecordState:
    """Read a record line by line. A cut-off last line is ignored.

    Raises:
        RecordError: the record cannot be read, or has two results of one check.
    """
    seen = path.stat().st_size if path.exists() else 0
    state: RecordState | None = None
    for offset, line in lines_of(path):
        if isinstance(line, RunLine):
            state = RecordState(line)
            continue
        assert state is not None
        if isinstance(line, CheckLine):
            _count(state, line, offset, path)
        state.ended = isinstance(line, EndLine)
        if isinstance(line, EndLine):
            state.seconds = line.seconds
    assert state is not None
    state.size, state.seen = whole_size(path), seen
    state.elapsed = max(0.0, path.stat().st_mtime - _begun(state.header))
    return state


def _begun(header: RunLine) -> float:
    try:
        return datetime.datetime.fromisoformat(header.started).timestamp()
    except ValueError:
        return math.inf


def _count(state: RecordState, line: CheckLine, offset: int, path: Path) -> None:
    done, check = state.done, line.position
    if check >= len(done):
        done.extend(bytes(max(state.header.planned, check + 1) - len(done)))
    if done[check]:
        raise RecordError(f"{path} has two results of check {check}: two runs wrote to it. Verify again.")
    done[check] = 1
    state.tally.add(line.result, check, offset)
    if line.result.attachment:
        state.pictures.add(line.result.attachment)


def require_same(path: Path, header: RunLine, ours: Mapping[str, Any], versions: Mapping[str, str]) -> None:
    """Refuse to add results to a record of another plan, shard, version or source.

    Args:
        path: path of the record, for messages.
        header: the record's run line.
        ours: ``identity`` of the present plan.
        versions: versions of the installed libraries.

    Raises:
        RecordError: plan, shard, versions or sources differ; the message states what to do.
    """
    theirs = header.environment.get("plan")
    if not isinstance(theirs, dict):
        raise RecordError(f"{path} contains no plan: another version of equiharness wrote it. Verify again.")
    again = "or verify again without --resume"
    before = header.environment.get("versions", {})
    for name in sorted({*before, *versions}):
        old, new = before.get(name), versions.get(name)
        if old != new:
            remedy = f"pip install {name}=={old}" if old else f"pip uninstall {name}"
            theirs_text = f"with {name} {old}" if old else f"without {name}"
            raise RecordError(
                f"{path} was made {theirs_text}, and this machine has {f'{name} {new}' if new else f'no {name}'}: "
                f"a run must not mix versions. {remedy}, {again}."
            )
    if theirs.get("source") != ours["source"]:
        commit = header.environment.get("git", {}).get("commit", "")
        raise RecordError(
            f"{path} was made with other sources of equiharness{f' (commit {commit[:12]})' if commit else ''}. "
            f"Restore these sources, {again}."
        )
    if theirs.get("digest") != ours["digest"]:
        if theirs.get("asked") == ours["asked"]:
            raise RecordError(
                f"{path} was made with the same options and belongs to another plan: the cases of its implementations "
                f"have changed since. Restore these cases, {again}."
            )
        raise RecordError(
            f"{path} belongs to another plan, that of `{header.command}`. Continue it with its own options: "
            f"`equiharness verify --resume {path}`. Or leave --resume out."
        )
    if theirs.get("shard") != ours["shard"]:
        raise RecordError(
            f"{path} is shard {theirs.get('shard')} and not {ours['shard']}. Leave --shard out: --resume reads it from "
            "the record."
        )


def reopen(path: Path, state: RecordState) -> RecordWriter:
    """A writer that continues after the record's last whole line. Pictures without a result are dropped.

    Raises:
        RecordError: the record cannot be written, or another process is writing it.
    """
    writer = RecordWriter(path)
    try:
        if path.stat().st_size != state.seen:
            raise RecordError(
                f"{path} grew while it was read: another process is writing it. Wait for that process, then resume."
            )
        writer.rewind(state.size, state.pictures)
    except RecordError:
        writer.close()
        raise
    return writer


def shard_of(header: RunLine) -> Shard:
    """The part of a plan that a record covers."""
    known = header.environment.get("plan")
    return Shard.read(str(known["shard"])) if isinstance(known, dict) and "shard" in known else WHOLE
