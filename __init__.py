"""Does your equivariant layer hold, what does it cost, did it get worse.

Importing this package costs milliseconds: names are loaded when first used, torch with the first that needs it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .harness.claim import Approximate, Claim, Exact
    from .harness.domains import Grid, Points, Vector
    from .harness.fields import Field, Invariant
    from .harness.groups import Element, Group, group
    from .harness.registry import Case, Cost, Expected, Family, Implementation, implementations
    from .harness.spheres import Rotations, Sphere
    from .harness.verdict import CheckResult, Reason, Verdict
    from .suites.check import check
    from .testing import assert_equivariant

_HOME = {
    "Approximate": "harness.claim",
    "Case": "harness.registry",
    "CheckResult": "harness.verdict",
    "Claim": "harness.claim",
    "Cost": "harness.registry",
    "Element": "harness.groups",
    "Exact": "harness.claim",
    "Expected": "harness.registry",
    "Family": "harness.registry",
    "Field": "harness.fields",
    "Grid": "harness.domains",
    "Group": "harness.groups",
    "Implementation": "harness.registry",
    "Invariant": "harness.fields",
    "Points": "harness.domains",
    "Reason": "harness.verdict",
    "Rotations": "harness.spheres",
    "Sphere": "harness.spheres",
    "Vector": "harness.domains",
    "Verdict": "harness.verdict",
    "assert_equivariant": "testing",
    "check": "suites.check",
    "group": "harness.groups",
    "implementations": "harness.registry",
}

__all__ = [
    "Approximate",
    "Case",
    "CheckResult",
    "Claim",
    "Cost",
    "Element",
    "Exact",
    "Expected",
    "Family",
    "Field",
    "Grid",
    "Group",
    "Implementation",
    "Invariant",
    "Points",
    "Reason",
    "Rotations",
    "Sphere",
    "Vector",
    "Verdict",
    "assert_equivariant",
    "check",
    "group",
    "implementations",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
