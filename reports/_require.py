"""Loads the plotting and template libraries only when a report is made."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

from ..harness.errors import MissingDependencyError


def require(module: str, purpose: str) -> Any:
    """Import a module; if it is missing, the error names its purpose and the command that installs it.

    Args:
        module: dotted name.
        purpose: what needs the module, as the beginning of a sentence.

    Raises:
        MissingDependencyError: the module is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise _missing(module, purpose) from error


def folder_of(module: str, purpose: str) -> Path:
    """The folder of a package, found without importing the package, to read its files.

    Args:
        module: top-level name.
        purpose: what needs the package, as the beginning of a sentence.

    Raises:
        MissingDependencyError: the package is not installed.
    """
    try:
        found = importlib.util.find_spec(module)
    except ValueError:  # sys.modules holds None for the module
        found = None
    if found is None or not found.submodule_search_locations:
        raise _missing(module, purpose)
    return Path(next(iter(found.submodule_search_locations)))


def _missing(module: str, purpose: str) -> MissingDependencyError:
    name = module.partition(".")[0]
    return MissingDependencyError(f"{purpose} needs {name}, which is not installed: pip install 'equiharness[report]'")
