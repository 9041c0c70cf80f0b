"""Writing: records line by line, by one process at a time, and documents whole.

Every line is flushed when written, so an interrupted run keeps all that it had finished.
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

#: One side file has at most this many bytes.
ATTACHMENTS_LIMIT = 12 << 20
#: Seconds between two waits for the disk: what a failing machine may cost.
SYNC = 1.0


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
            kept = [text for text in kept if text.endswith(b"\n") and picture_name(text) in pictures]
            self._file.truncate(size)
            if sum(map(len, kept)) != self._side.tell():
                self._side.truncate(0)
                self._side.seek(0)
        except OSError as error:
            raise RecordError(f"Cannot write {self.path}: {error.strerror}. Copy it to where it can be.") from error
        self._size, self._attached, self._ids = size, sum(map(len, kept)), {picture_name(text) for text in kept}
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
