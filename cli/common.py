"""What the commands share: the console, a record that is opened, a device that is there."""

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
    """Plain text, wrapped by the terminal alone."""
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
    """A new run never destroys the last one: its record is set aside."""
    from ..harness.records.lines import attachments_path

    for old in (path, attachments_path(path)):
        if old.exists():
            try:
                old.replace(old.with_name(f"previous-{old.name}"))
            except OSError as error:
                raise UsageError(f"Cannot write {old}: {error.strerror}. Give another place with --out.") from error


def open_record(path: Path, *, seed: int, planned: int, more: dict[str, Any] | None = None) -> RecordWriter:
    """A new record that says where, when and by which command it is made.

    Args:
        path: the file; one that is there is set aside.
        seed: of the run.
        planned: checks or measurements to come.
        more: what else the environment holds.
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
