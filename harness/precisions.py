"""Precisions: every dtype by name, with its machine epsilon and the bits that rounding may take from it."""

from __future__ import annotations

EPS = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
#: Bits a dtype may lose to rounding, beside log2 kappa, before the loss is reported as IMPRECISE(PRECISION).
LOST_BITS = {"float64": 8.0, "float32": 8.0, "float16": 3.0, "bfloat16": 3.0}


def claim_eps(dtype: str) -> float:
    """Machine epsilon a claim's structure is judged by: that of float64, or of float32 for float32 and below."""
    return EPS["float64"] if dtype == "float64" else EPS["float32"]
