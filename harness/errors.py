"""The exceptions of equiharness, and how messages suggest the closest known name.

Messages say what to do next. The command line prints them in one line and exits with code 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class EquiharnessError(Exception):
    """The base of every exception that equiharness raises on purpose."""


class UsageError(EquiharnessError, ValueError):
    """A request that cannot be met: the message says what is wrong and what to write in its place."""


class RecordError(UsageError):
    """A record file that cannot be read or written: the message names the file, the line and the way out."""


class MissingDependencyError(EquiharnessError, ImportError):
    """A library that is not installed: the message says what it is for and the exact install command."""


class HarnessError(EquiharnessError):
    """The harness contradicts itself (an inequality that always holds does not): a bug here, never in the layer."""


# Tracebacks show the names that users import.
for _error in (EquiharnessError, UsageError, RecordError, MissingDependencyError, HarnessError):
    _error.__module__ = "equiharness"


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """'Unknown KIND NAME', with the closest known names."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=3)
    hint = f"Did you mean {' or '.join(close)}?" if close else f"Known: {', '.join(known)}."
    return f"Unknown {kind} {name!r}. {hint}"
