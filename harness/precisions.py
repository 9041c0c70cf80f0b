"""Precisions: every dtype by name, with its machine epsilon and the number of bits that rounding may cost."""

from __future__ import annotations

EPS = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
#: Bits that a dtype may lose to rounding, in addition to log2 kappa, before the check reports IMPRECISE(PRECISION).
LOST_BITS = {"float64": 8.0, "float32": 8.0, "float16": 3.0, "bfloat16": 3.0}


def claim_eps(dtype: str) -> float:
    """Machine epsilon for judging the structure of a claim: float64's for float64, float32's for all other dtypes."""
    return EPS["float64"] if dtype == "float64" else EPS["float32"]
