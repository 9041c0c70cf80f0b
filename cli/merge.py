"""``equiharness merge``: join the records of the shards of one plan."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..harness.errors import UsageError
from .common import console, keep_previous
from .run import summarise

if TYPE_CHECKING:
    from ..harness.records.lines import RunLine
    from ..harness.records.writing import RecordWriter


def merge(
    records: Annotated[list[Path], typer.Argument(help="The run.jsonl of each shard.")],
    out: Annotated[Path, typer.Option(help="The merged record, or a folder for run.jsonl.")] = Path("out"),
    strict: Annotated[bool, typer.Option(help="IMPRECISE counts as a failure.")] = False,
) -> None:
    """Merge the records of `verify --shard i/n` into one record; the exit code is that of the whole run.

    Example: `equiharness merge shard-1/run.jsonl shard-2/run.jsonl --out out`
    """
    from ..harness.records import merge as merging
    from ..harness.records.writing import RecordWriter

    record = out if out.suffix == ".jsonl" else out / "run.jsonl"
    if any(path.resolve() == record.resolve() for path in records):
        raise UsageError(f"{record} is one of the records to merge: give another place with --out.")

    def writer_of(header: RunLine) -> RecordWriter:
        keep_previous(record)
        return RecordWriter(record, header)

    merged = merging.merge(records, writer_of, shlex.join(["equiharness", *sys.argv[1:]]))
    summarise(record, merged.tally, merged.seconds)
    if merged.missing:
        raise UsageError(
            f"{merged.missing} of {merged.planned} planned checks are in none of the records: a shard is missing or "
            f"was interrupted. {record} holds the other checks. Continue: equiharness verify --resume {record}"
        )
    console().print(
        f"{record}: {merged.tally.checks} checks. Write the report: equiharness report {record}", markup=False
    )
    raise typer.Exit(merged.tally.exit_code(strict=strict))
