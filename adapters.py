"""The public names for authors of adapters: the base class, its data, twins, and strategies of configurations.

An adapter makes one layer of one library available to every command. ``docs/adapter.md`` holds a complete one.
Importing this module loads no torch: each name is loaded on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .harness.adapters.adapter import Case, Cost, Expected, Family, Feature, Implementation
    from .harness.adapters.registry import implementations
    from .harness.claim.claim import Twin
    from .harness.fields.library_types import TypedLayer
    from .harness.search.strategies import cases, listed

_HOME = {
    "Case": "harness.adapters.adapter",
    "Cost": "harness.adapters.adapter",
    "Expected": "harness.adapters.adapter",
    "Family": "harness.adapters.adapter",
    "Feature": "harness.adapters.adapter",
    "Implementation": "harness.adapters.adapter",
    "Twin": "harness.claim.claim",
    "TypedLayer": "harness.fields.library_types",
    "cases": "harness.search.strategies",
    "implementations": "harness.adapters.registry",
    "listed": "harness.search.strategies",
}

__all__ = [
    "Case",
    "Cost",
    "Expected",
    "Family",
    "Feature",
    "Implementation",
    "Twin",
    "TypedLayer",
    "cases",
    "implementations",
    "listed",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __package__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
