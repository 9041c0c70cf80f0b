"""Helpers of the commands: the console, the test of a device, a new record."""

from __future__ import annotations

import datetime
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from ..harness.errors import UsageError

if TYPE_CHECKING:
    from ..harness.records.writing import RecordWriter


def console(*, stderr: bool = False) -> Console:
    """A console that prints plain text; only the terminal wraps lines."""
    return Console(stderr=stderr, soft_wrap=True, highlight=False)


def require_device(device: str) -> None:
    """Raise UsageError unless torch can use the device."""
    import torch

    try:
        torch.empty(1, device=device)
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"Cannot use the device {device!r}: {reason}. Use --device cpu.") from error


def keep_previous(path: Path) -> None:
    """Rename the record of the previous run, so that a new run does not overwrite it."""
    from ..harness.records.lines import attachments_path

    for old in (path, attachments_path(path)):
        if old.exists():
            try:
                old.replace(old.with_name(f"previous-{old.name}"))
            except OSError as error:
                raise UsageError(f"Cannot write {old}: {error.strerror}. Give another place with --out.") from error


def open_record(path: Path, *, seed: int, planned: int, more: dict[str, Any] | None = None) -> RecordWriter:
    """A new record; its first line holds the environment, the time and the command.

    Args:
        path: the file; an existing record is renamed.
        seed: seed of the run.
        planned: number of planned checks or measurements.
        more: further entries of the environment.
    """
    from ..harness.records.environment import capture
    from ..harness.records.lines import RunLine
    from ..harness.records.writing import RecordWriter

    keep_previous(path)
    header = RunLine(
        started=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        command=shlex.join(["equiharness", *sys.argv[1:]]),
        seed=seed,
        planned=planned,
        environment={**capture(), **(more or {})},
    )
    return RecordWriter(path, header)
