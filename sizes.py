"""At which sizes, kernels, strides and paddings is a layer equivariant? The validity map of a layer, and its law.

``docs/sizes.md`` derives the law of convolutions. Importing this module loads no torch: names are loaded when first
used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .harness.records.validity import Geometry
    from .impls.validity import layers
    from .suites.survey.validity import sweep, validity_map

_HOME = {
    "Geometry": "harness.records.validity",
    "layers": "impls.validity",
    "sweep": "suites.survey.validity",
    "validity_map": "suites.survey.validity",
}

__all__ = ["Geometry", "layers", "sweep", "validity_map"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __package__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
