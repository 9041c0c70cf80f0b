"""The plotting and templating libraries, loaded when a report is made and not before."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

from ..harness.errors import MissingDependencyError


def require(module: str, purpose: str) -> Any:
    """The module, or a message that says what it is for and how to install it.

    Args:
        module: dotted name.
        purpose: what needs it, the beginning of a sentence.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise _missing(module, purpose) from error


def folder_of(module: str, purpose: str) -> Path:
    """Where a package lies, without importing it: for the files that it carries.

    Args:
        module: top-level name.
        purpose: what needs it, the beginning of a sentence.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        found = importlib.util.find_spec(module)
    except ValueError:  # a module that was set to None
        found = None
    if found is None or not found.submodule_search_locations:
        raise _missing(module, purpose)
    return Path(next(iter(found.submodule_search_locations)))


def _missing(module: str, purpose: str) -> MissingDependencyError:
    name = module.partition(".")[0]
    return MissingDependencyError(f"{purpose} needs {name}, which is not installed: pip install 'equiharness[report]'")
