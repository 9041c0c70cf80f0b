"""The work of spherical transforms, from first principles."""

from __future__ import annotations

import math

from ...harness.adapters.adapter import Cost


def rows(degrees: int) -> int:
    """The number of coefficients on SO(3)."""
    return degrees * (4 * degrees**2 - 1) // 3


def points(domain: str, b: int) -> int:
    """The number of samples of a signal on "s2" or "so3"."""
    return (2 * b) ** (2 if domain == "s2" else 3)


def transform(domain: str, b: int, degrees: int) -> float:
    """Flops of one signal's transform: real FFTs at 2.5 n log2 n along each angle, a sum over beta per coefficient."""
    angles, count = (1, degrees**2) if domain == "s2" else (2, rows(degrees))
    return 2.5 * angles * points(domain, b) * math.log2(2 * b) + 4.0 * b * count


def cost(flops: float, values: float, call_flops: float = 0.0, call_values: float = 0.0) -> Cost:
    """The cost of one sample in float32; backward does twice the work of forward. ``call_*`` counts once a call."""
    return Cost(flops, 4.0 * values, 3 * flops, 12.0 * values, call_flops, 4.0 * call_values)
