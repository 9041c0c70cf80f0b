"""Writing: records line by line, by one process at a time, and documents in one step.

Every line is flushed when it is written, so an interrupted run keeps all its finished results.
"""

from __future__ import annotations

import io
import os
import tempfile
import time
from collections.abc import Collection
from pathlib import Path
from typing import Literal

from ..errors import RecordError
from .lines import Attachment, Line, RunLine, attachments_path
from .reading import picture_name

#: Largest size of a side file in bytes.
ATTACHMENTS_LIMIT = 12 << 20
#: Seconds between two waits for the disk: a failing machine loses at most the results of this time.
SYNC = 1.0


class RecordWriter:
    """Appends lines to a record and pictures to its side file.

    Each line reaches the operating system before the next is written, and the disk at least once a second as long as
    lines are written. One process at a time writes a record.

    Args:
        path: path of the record.
        header: the first line of a new record; None continues an existing record, at the size passed to ``rewind``.

    Raises:
        RecordError: the path cannot be written, or another process is writing it.
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
        """Append one line and return the offset in the file at which it begins."""
        offset = self._size
        self._size += self._append(self._file, line.model_dump_json(exclude_defaults=False))
        if time.monotonic() - self._synced > SYNC:
            os.fsync(self._file.fileno())
            self._synced = time.monotonic()
        return offset

    def attach(self, attachment: Attachment, *, always: bool) -> bool:
        """Append one diagram. Beyond the size limit only failures (``always``) are kept, up to twice the limit."""
        text = attachment.model_dump_json()
        limit = ATTACHMENTS_LIMIT * (2 if always else 1)
        if attachment.id in self._ids or self._attached + len(text) > limit:
            return False
        self._ids.add(attachment.id)
        self._attached += self._append(self._side, text)
        return True

    def rewind(self, size: int, pictures: Collection[str]) -> None:
        """Cut the record to its first ``size`` bytes, and the side file to these pictures.

        Raises:
            RecordError: the files cannot be changed.
        """
        try:
            kept = attachments_path(self.path).read_bytes().splitlines(keepends=True)
            kept = [text for text in kept if text.endswith(b"\n") and picture_name(text) in pictures]
            self._file.truncate(size)
            if sum(map(len, kept)) != self._side.tell():
                self._side.truncate(0)
                self._side.seek(0)
        except OSError as error:
            raise RecordError(
                f"Cannot write {self.path}: {error.strerror}. Copy the record to a place that can be written."
            ) from error
        self._size, self._attached, self._ids = size, sum(map(len, kept)), {picture_name(text) for text in kept}
        if not self._side.tell():  # some pictures were dropped
            for text in kept:
                self._append(self._side, text[:-1].decode())

    def _append(self, stream: io.FileIO, text: str) -> int:
        """Append one line without a buffer: after an error on a full disk, closing the file writes nothing again."""
        data = (text + "\n").encode()
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[stream.write(rest) :]
        except OSError as error:
            raise RecordError(
                f"Cannot write {self.path}: {error.strerror}. The results recorded before are kept. Make room, or give "
                "another place with --out."
            ) from error
        return len(data)

    def _lock(self) -> None:
        """Lock the record, so that no second process writes it. The lock ends with this process, however it ends."""
        try:
            import fcntl

            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.close()
            raise RecordError(
                f"{self.path} is being written by another process. Wait for that process, or end it, then resume."
            ) from error
        except (ImportError, OSError):  # a system or a file system without locks
            pass

    def close(self) -> None:
        """Close both files."""
        self._file.close()
        self._side.close()


def write_atomically(path: Path, text: str) -> None:
    """Write a document so that a reader sees either the old or the new document, never a part of one.

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
