"""What can go wrong by the user's hand. Messages say what to do next; the command line turns them into exit code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UsageError(ValueError):
    """Something was asked for that cannot be: the message says what and how to ask for it."""


class RecordError(UsageError):
    """A record file cannot be read or written: the message names the file, the line and the way out."""


class MissingDependencyError(ImportError):
    """A library is not installed: the message says what it is for and the exact install command."""


class HarnessError(AssertionError):
    """The harness contradicts itself (an inequality that always holds does not): a bug here, never in the layer."""


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """'Unknown KIND NAME', with the closest known names."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=3)
    hint = f"Did you mean {' or '.join(close)}?" if close else f"Known: {', '.join(known)}."
    return f"Unknown {kind} {name!r}. {hint}"
