"""Numbers as text: missing, NaN and infinite values are shown as such, never as a number."""

from __future__ import annotations

import math

MISSING = "–"


def number(value: float | None, digits: int = 2) -> str:
    """A measured number: ``3.1e-08``, ``0``, ``NaN``, ``inf``, or a dash if nothing was measured."""
    if value is None:
        return MISSING
    special = _special(value)
    return special if special is not None else f"{value:.{digits}g}"


def fixed(value: float | None, digits: int = 1) -> str:
    """A number with a fixed count of decimals."""
    if value is None:
        return MISSING
    special = _special(value)
    return special if special is not None else f"{value:.{digits}f}"


def seconds(value: float | None) -> str:
    """A duration in the most readable unit."""
    if value is None or not math.isfinite(value):
        return number(value)
    if value < 1:
        return f"{1000 * value:.0f} ms" if value >= 1e-3 or value == 0 else f"{1e6 * value:.0f} µs"
    return f"{value:.1f} s" if value < 120 else f"{value / 60:.1f} min"


def plain(value: float | None) -> float | str | None:
    """A value for strict JSON, which has no NaN: values that are not finite become strings."""
    if value is None or math.isfinite(value):
        return value
    return number(value)


def _special(value: float) -> str | None:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return "0" if value == 0 else None
