"""The exceptions of equiharness, and the message for an unknown name, which suggests the closest known names.

Each message ends with what to do next. The command line prints the message in one line and exits with code 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class EquiharnessError(Exception):
    """The base of every exception that equiharness raises on purpose."""


class UsageError(EquiharnessError, ValueError):
    """A request that cannot be met. The message states what is wrong and what to write instead."""


class RecordError(UsageError):
    """A record file that cannot be read or written. The message names the file, the line and the remedy."""


class MissingDependencyError(EquiharnessError, ImportError):
    """A library that is not installed. The message gives its purpose and the exact install command."""


class HarnessError(EquiharnessError):
    """An inequality that always holds was violated. The bug is in the harness, never in the layer."""


# Tracebacks show the names that users import.
for _error in (EquiharnessError, UsageError, RecordError, MissingDependencyError, HarnessError):
    _error.__module__ = "equiharness"


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """The message "Unknown KIND NAME", with the closest known names."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=3)
    hint = f"Did you mean {' or '.join(close)}?" if close else f"Known: {', '.join(known)}."
    return f"Unknown {kind} {name!r}. {hint}"
