"""Compiled kernels on disk: in the user's cache folder, shared by all processes, never half written."""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import platformdirs

_FORMAT = b"EQHCUB01"  # change it whenever the layout of a file changes: old files are then built again


def cache_folder() -> Path:
    """The folder of compiled kernels, inside the user's cache folder."""
    return Path(platformdirs.user_cache_dir("equiharness")) / "cuda"


def key(*parts: str) -> str:
    """A name for what these texts determine: program, flags and compiler.

    Example:
        >>> key("program", "sm_90") == key("program", "sm_90"), key("ab", "c") == key("a", "bc")
        (True, False)
    """
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()


def load_or_build(name: str, build: Callable[[], bytes], folder: Path | None = None) -> bytes:
    """The content stored under a name, or what `build` returns, stored for the next time.

    Args:
        name: of the file.
        build: makes the content; called where there is no file, or a damaged one.
        folder: of the file; `cache_folder()` by default.
    """
    path = (folder or cache_folder()) / name
    stored = _read(path)
    if stored is not None:
        return stored
    content = build()
    _write(path, content)
    return content


def _read(path: Path) -> bytes | None:
    """The content of a file, or None where it is missing, of another format or damaged."""
    try:
        stored = path.read_bytes()
    except OSError:
        return None
    head, content = stored[: len(_FORMAT) + 32], stored[len(_FORMAT) + 32 :]
    return content if head == _FORMAT + hashlib.sha256(content).digest() else None


def _write(path: Path, content: bytes) -> None:
    """Store atomically: a reader sees the old file or the whole new one, however many processes write."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, suffix=".part", delete=False) as file:
            temporary = file.name
            file.write(_FORMAT + hashlib.sha256(content).digest() + content)
        os.replace(temporary, path)
    except OSError:  # a read-only or full cache folder: the next process compiles again
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
