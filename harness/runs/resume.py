"""Records that are continued: what one holds, whether it belongs to a plan, and where the next line goes."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import RecordError
from ..records.lines import CheckLine, EndLine, RunLine
from ..records.reading import lines_of
from ..records.tally import Tally
from ..records.writing import RecordWriter
from .plan import WHOLE, Plan, Shard


@dataclass
class RecordState:
    """What a record holds: a bit of memory for each check, whatever its results weigh."""

    header: RunLine
    #: For each position of the plan whether it has been checked.
    done: bytearray = field(default_factory=bytearray)
    tally: Tally = field(default_factory=Tally)
    #: Bytes of whole lines, and of the file when it was read.
    size: int = 0
    seen: int = 0
    #: Seconds that the run took, where it ended.
    seconds: float = 0.0
    ended: bool = False
    #: Names of the pictures that results show.
    pictures: set[str] = field(default_factory=set)
    #: Seconds from the beginning of the run to its last line.
    elapsed: float = 0.0


def identity(plan: Plan, shard: Shard, asked: Mapping[str, Any], source: str) -> dict[str, Any]:
    """What a record says of its plan, under "plan" in its environment.

    Args:
        plan: the plan.
        shard: the part of it that the record is of.
        asked: what the plan was made from, to make it again.
        source: the digest of this package's sources.
    """
    return {"digest": plan.digest, "checks": len(plan), "shard": str(shard), "source": source, "asked": dict(asked)}


def read_state(path: Path) -> RecordState:
    """Read a record line by line; one that was cut off is as if it had never been begun.

    Raises:
        RecordError: it cannot be read, or holds a check twice.
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
    if state is None:
        raise RecordError(f"{path} is empty: the run ended before it began. Start it again without --resume.")
    state.size, state.seen = _whole(path), seen
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
        raise RecordError(f"{path} has two results of check {check}: it was written by two runs. Verify again.")
    done[check] = 1
    state.tally.add(line.result, check, offset)
    if line.result.attachment:
        state.pictures.add(line.result.attachment)


def _whole(path: Path) -> int:
    """Bytes up to the end of the last line that is whole."""
    size = 0
    with path.open("rb") as stream:
        for raw in stream:
            if not raw.endswith(b"}\n"):
                break
            size += len(raw)
    return size


def require_same(path: Path, header: RunLine, ours: Mapping[str, Any], versions: Mapping[str, str]) -> None:
    """Refuse to add results to a record of something else.

    Args:
        path: of the record, for messages.
        header: its run line.
        ours: ``identity`` of the plan here.
        versions: of the libraries here.

    Raises:
        RecordError: another plan, another part of it, other versions or sources; the message says what to do.
    """
    theirs = header.environment.get("plan")
    if not isinstance(theirs, dict):
        raise RecordError(f"{path} does not say what was planned: another equiharness wrote it. Verify again.")
    again = "or verify again without it"
    before = header.environment.get("versions", {})
    for name in sorted({*before, *versions}):
        old, new = before.get(name), versions.get(name)
        if old != new:
            way = f"pip install {name}=={old}" if old else f"pip uninstall {name}"
            raise RecordError(
                f"{path} was made with {name} {old or 'missing'}, and here is {name} {new or 'missing'}: "
                f"results of two versions are not one run. {way}, {again}."
            )
    if theirs.get("source") != ours["source"]:
        commit = header.environment.get("git", {}).get("commit", "")
        raise RecordError(
            f"{path} was made by other sources of equiharness{f' (commit {commit[:12]})' if commit else ''}. "
            f"Restore them, {again}."
        )
    if theirs.get("digest") != ours["digest"]:
        if theirs.get("asked") == ours["asked"]:
            raise RecordError(
                f"{path} was asked for the same and belongs to another plan: the cases of its implementations have "
                f"changed since. Restore them, {again}."
            )
        raise RecordError(
            f"{path} belongs to another plan, that of `{header.command}`. `equiharness verify --resume {path}` alone "
            "continues it as it was asked for; otherwise leave --resume out."
        )
    if theirs.get("shard") != ours["shard"]:
        raise RecordError(
            f"{path} is shard {theirs.get('shard')} and not {ours['shard']}. Leave --shard out: --resume knows it."
        )


def reopen(path: Path, state: RecordState) -> RecordWriter:
    """A writer that goes on where the record's whole lines end; pictures of no result are dropped.

    Raises:
        RecordError: it cannot be written, or another process writes it.
    """
    writer = RecordWriter(path)
    try:
        if path.stat().st_size != state.seen:
            raise RecordError(f"{path} grew while it was read: another process writes it. Wait for it, then resume.")
        writer.rewind(state.size, state.pictures)
    except RecordError:
        writer.close()
        raise
    return writer


def shard_of(header: RunLine) -> Shard:
    """The part of a plan that a record is of."""
    known = header.environment.get("plan")
    return Shard.read(str(known["shard"])) if isinstance(known, dict) and "shard" in known else WHOLE
