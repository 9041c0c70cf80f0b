"""Registry of implementations, discovered through entry points and loaded on first use."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata

from ..errors import UsageError, unknown
from .adapter import Implementation

IMPLEMENTATIONS = "equiharness.implementations"


@functools.cache
def implementations() -> tuple[Implementation, ...]:
    """Every registered adapter, whether its library is installed or not, sorted by name.

    Raises:
        UsageError: an adapter cannot be loaded, or lacks an attribute of Implementation; the message names the plugin.
    """
    loaded = []
    for point in importlib.metadata.entry_points(group=IMPLEMENTATIONS):
        try:
            adapter = point.load()()
        except Exception as error:
            raise UsageError(
                f"The plugin {point.name} = {point.value} cannot be loaded: {error!r}. Update or remove it."
            ) from error
        missing = [a for a in ("name", "library", "family", "cases", "build") if not hasattr(adapter, a)]
        if missing:
            raise UsageError(
                f"The plugin {point.name} = {point.value} lacks {', '.join(missing)}: define them as in "
                "equiharness.adapters.Implementation, or remove the plugin."
            )
        loaded.append(adapter)
    return tuple(sorted(loaded, key=lambda i: i.name))


def find(name: str) -> Implementation:
    """The implementation with this name.

    Raises:
        UsageError: there is no such implementation; the message suggests the closest names.
    """
    known = {i.name: i for i in implementations()}
    if name not in known:
        raise UsageError(unknown("implementation", name, known))
    return known[name]
