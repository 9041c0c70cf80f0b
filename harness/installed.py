"""Versions of installed distributions, and objects found by their "module:name"."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
from typing import Any


@functools.cache
def distribution_version(name: str) -> str | None:
    """Version of an installed distribution, or None if it is missing. The distribution is not imported."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def resolve(path: str) -> Any:
    """The object at "module:name"."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)
