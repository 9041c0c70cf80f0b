"""Is your layer really equivariant? What does it cost? Did it get worse?

Importing this package takes milliseconds. Each name is loaded on first use, and torch with the first that needs it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .harness.adapters.registry import implementations
    from .harness.claim.claim import Approximate, Claim, Exact
    from .harness.errors import EquiharnessError, HarnessError, MissingDependencyError, RecordError, UsageError
    from .harness.fields.atoms import Cell, Energy, Forces, Index, Positions
    from .harness.fields.domains import Edges, Grid, Points, Vector
    from .harness.fields.field import Field, Invariant
    from .harness.fields.spheres import Rotations, Sphere
    from .harness.symmetry.groups import Element, Group, group
    from .harness.verdict.result import CheckResult, Reason, Verdict
    from .suites.check import check
    from .testing import ImpreciseWarning, assert_equivariant, assert_invariant

    __version__: str

_HOME = {
    "Approximate": "harness.claim.claim",
    "Cell": "harness.fields.atoms",
    "CheckResult": "harness.verdict.result",
    "Claim": "harness.claim.claim",
    "Edges": "harness.fields.domains",
    "Element": "harness.symmetry.groups",
    "Energy": "harness.fields.atoms",
    "EquiharnessError": "harness.errors",
    "Exact": "harness.claim.claim",
    "Field": "harness.fields.field",
    "Forces": "harness.fields.atoms",
    "Grid": "harness.fields.domains",
    "Group": "harness.symmetry.groups",
    "HarnessError": "harness.errors",
    "ImpreciseWarning": "testing",
    "Index": "harness.fields.atoms",
    "Invariant": "harness.fields.field",
    "MissingDependencyError": "harness.errors",
    "Points": "harness.fields.domains",
    "Positions": "harness.fields.atoms",
    "Reason": "harness.verdict.result",
    "RecordError": "harness.errors",
    "Rotations": "harness.fields.spheres",
    "Sphere": "harness.fields.spheres",
    "UsageError": "harness.errors",
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
    "Cell",
    "CheckResult",
    "Claim",
    "Edges",
    "Element",
    "Energy",
    "EquiharnessError",
    "Exact",
    "Field",
    "Forces",
    "Grid",
    "Group",
    "HarnessError",
    "ImpreciseWarning",
    "Index",
    "Invariant",
    "MissingDependencyError",
    "Points",
    "Positions",
    "Reason",
    "RecordError",
    "Rotations",
    "Sphere",
    "UsageError",
    "Vector",
    "Verdict",
    "__version__",
    "assert_equivariant",
    "assert_invariant",
    "check",
    "group",
    "implementations",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":  # reading it from the installed distribution takes a millisecond, so not at import
        return importlib.import_module(".harness.installed", __name__).distribution_version("equiharness")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME, "__version__"})
