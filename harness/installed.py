"""What is installed: versions of distributions, and objects by their "module:name"."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
from typing import Any


@functools.cache
def distribution_version(name: str) -> str | None:
    """Version of an installed distribution, or None; imports nothing of it."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def resolve(path: str) -> Any:
    """The object at "module:name"."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)
