"""The plotting and templating libraries, loaded when a report is made and not before."""

from __future__ import annotations

import importlib
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
        name = module.partition(".")[0]
        raise MissingDependencyError(
            f"{purpose} needs {name}, which is not installed: pip install 'equiharness[report]'"
        ) from error
