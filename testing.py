"""Assertions for tests of equivariant layers."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .harness.verdict import CheckResult


class ImpreciseWarning(UserWarning):
    """A layer whose structure holds, in a precision lower than its dtype's."""


def assert_equivariant(
    layer: Any, group: Any = None, source: Any = None, target: Any = None, *, strict: bool = False, **options: Any
) -> CheckResult:
    """Check a layer and raise unless its claim holds.

    Args:
        layer: a module or callable.
        group: a group or its name.
        source: field or tree of fields of the input.
        target: field or tree of fields of the output.
        strict: IMPRECISE fails too, instead of warning.
        options: as for ``check``.

    Returns:
        The passing result.

    Raises:
        AssertionError: BROKEN, VACUOUS, AMBIGUOUS or CRASHED, with error, bound, element, seed and a line to paste.

    Example:
        >>> import torch, equiharness as eh
        >>> field = eh.Field(eh.Grid(9, 9), "C4", "2*trivial")
        >>> assert_equivariant(torch.nn.ReLU(), "C4", field, field).verdict.label
        'PASS'
    """
    from .harness.verdict import Verdict
    from .suites.check import check

    result = check(layer, group, source, target, **options)
    if result.verdict.fails or (strict and result.verdict is Verdict.IMPRECISE):
        raise AssertionError(str(result))
    if result.verdict is Verdict.IMPRECISE:
        warnings.warn(str(result), ImpreciseWarning, stacklevel=2)
    return result
