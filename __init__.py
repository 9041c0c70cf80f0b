"""Does your equivariant layer hold, what does it cost, did it get worse.

Importing this package costs milliseconds: names are loaded when first used, torch with the first that needs it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .harness.claim import Approximate, Claim, Exact
    from .harness.domains import Edges, Grid, Points, Vector
    from .harness.fields import Field, Invariant
    from .harness.groups import Element, Group, group
    from .harness.registry import Case, Cost, Expected, Family, Implementation, implementations
    from .harness.spheres import Rotations, Sphere
    from .harness.systems import Cell, Energy, Forces, Index, Positions
    from .harness.verdict import CheckResult, Reason, Verdict
    from .suites.check import check
    from .testing import assert_equivariant, assert_invariant

_HOME = {
    "Approximate": "harness.claim",
    "Case": "harness.registry",
    "Cell": "harness.systems",
    "CheckResult": "harness.verdict",
    "Claim": "harness.claim",
    "Cost": "harness.registry",
    "Edges": "harness.domains",
    "Element": "harness.groups",
    "Energy": "harness.systems",
    "Exact": "harness.claim",
    "Expected": "harness.registry",
    "Family": "harness.registry",
    "Field": "harness.fields",
    "Forces": "harness.systems",
    "Grid": "harness.domains",
    "Group": "harness.groups",
    "Implementation": "harness.registry",
    "Index": "harness.systems",
    "Invariant": "harness.fields",
    "Points": "harness.domains",
    "Positions": "harness.systems",
    "Reason": "harness.verdict",
    "Rotations": "harness.spheres",
    "Sphere": "harness.spheres",
    "Vector": "harness.domains",
    "Verdict": "harness.verdict",
    "assert_equivariant": "testing",
    "assert_invariant": "testing",
    "check": "suites.check",
    "group": "harness.groups",
    "implementations": "harness.registry",
}

__all__ = [
    "Approximate",
    "Case",
    "Cell",
    "CheckResult",
    "Claim",
    "Cost",
    "Edges",
    "Element",
    "Energy",
    "Exact",
    "Expected",
    "Family",
    "Field",
    "Forces",
    "Grid",
    "Group",
    "Implementation",
    "Index",
    "Invariant",
    "Points",
    "Positions",
    "Reason",
    "Rotations",
    "Sphere",
    "Vector",
    "Verdict",
    "assert_equivariant",
    "assert_invariant",
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
