"""Precisions: every dtype by name, with its machine epsilon and the number of bits that rounding may cost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .errors import UsageError, unknown

EPS = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
#: Bits that a dtype may lose to rounding, in addition to log2 kappa, before the check reports IMPRECISE(PRECISION).
LOST_BITS = {"float64": 8.0, "float32": 8.0, "float16": 3.0, "bfloat16": 3.0}

#: The dtypes that a claim may have: those of settings, checks, runs and searches.
DTYPES = tuple(EPS)
#: The dtypes of a run that names none.
PLANNED = ("float32", "float64")
#: The precisions that can be timed; "tf32" stands for float32 layers with products in TF32.
TIMED = ("float32", "float64", "bfloat16", "float16", "tf32")


def require_dtypes(names: Iterable[str], known: Sequence[str] = DTYPES) -> None:
    """Refuse a name that is not among the known precisions.

    Raises:
        UsageError: the name is unknown; the message suggests the closest names.
    """
    for name in names:
        if name not in known:
            raise UsageError(unknown("dtype", name, known))


def claim_eps(dtype: str) -> float:
    """Machine epsilon for judging the structure of a claim: float64's for float64, float32's for all other dtypes."""
    return EPS["float64"] if dtype == "float64" else EPS["float32"]
