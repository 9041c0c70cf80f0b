"""Does your equivariant layer hold, what does it cost, did it get worse.

Importing this package costs milliseconds: names are loaded when first used, torch with the first that needs it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .harness.adapters.adapter import Case, Cost, Expected, Family, Implementation
    from .harness.adapters.registry import implementations
    from .harness.claim.claim import Approximate, Claim, Exact
    from .harness.fields.atoms import Cell, Energy, Forces, Index, Positions
    from .harness.fields.domains import Edges, Grid, Points, Vector
    from .harness.fields.field import Field, Invariant
    from .harness.fields.spheres import Rotations, Sphere
    from .harness.symmetry.groups import Element, Group, group
    from .harness.verdict.result import CheckResult, Reason, Verdict
    from .suites.check import check
    from .testing import assert_equivariant, assert_invariant

_HOME = {
    "Approximate": "harness.claim.claim",
    "Case": "harness.adapters.adapter",
    "Cell": "harness.fields.atoms",
    "CheckResult": "harness.verdict.result",
    "Claim": "harness.claim.claim",
    "Cost": "harness.adapters.adapter",
    "Edges": "harness.fields.domains",
    "Element": "harness.symmetry.groups",
    "Energy": "harness.fields.atoms",
    "Exact": "harness.claim.claim",
    "Expected": "harness.adapters.adapter",
    "Family": "harness.adapters.adapter",
    "Field": "harness.fields.field",
    "Forces": "harness.fields.atoms",
    "Grid": "harness.fields.domains",
    "Group": "harness.symmetry.groups",
    "Implementation": "harness.adapters.adapter",
    "Index": "harness.fields.atoms",
    "Invariant": "harness.fields.field",
    "Points": "harness.fields.domains",
    "Positions": "harness.fields.atoms",
    "Reason": "harness.verdict.result",
    "Rotations": "harness.fields.spheres",
    "Sphere": "harness.fields.spheres",
    "Vector": "harness.fields.domains",
    "Verdict": "harness.verdict.result",
    "assert_equivariant": "testing",
    "assert_invariant": "testing",
    "check": "suites.check",
    "group": "harness.symmetry.groups",
    "implementations": "harness.adapters.registry",
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
