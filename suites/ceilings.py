"""Declared ceilings: an error that the claim accepts is accepted wherever elements are judged, exact ones included."""

from __future__ import annotations

from ..harness.claim.claim import Approximate, Claim
from ..harness.verdict.result import CheckResult, Code, Reason, Verdict

#: Properties whose error is that of the claim itself, at elements of its group.
ABOUT_ELEMENTS = frozenset(
    {
        "equivariance",
        "worst_case",
        "adjoint",
        "parameter_gradient",
        "integration",
        "composition",
        "training",
        "rotations",
        "reflections",
    }
)


def within_ceiling(claim: Claim, result: CheckResult) -> CheckResult:
    """The result; APPROXIMATE(CEILING) in place of an error that rounding does not explain and the claim accepts."""
    contract = claim.contract
    if not isinstance(contract, Approximate) or contract.ceiling is None or result.property not in ABOUT_ELEMENTS:
        return result
    faulty = result.verdict is Verdict.BROKEN and result.reason.code == Code.ERROR
    if not faulty or result.error is None or result.bound is None or not result.error > result.bound:
        return result  # another fault than an error of the claim, or none that a ceiling is about
    largest = max([result.error, *(row.error for row in result.elements)])
    if not largest <= contract.ceiling:
        return result
    text = f"error {largest:.3g}, declared ceiling {contract.ceiling:.3g}; rounding explains {result.bound:.1g}."
    reason = Reason(code=Code.CEILING, message=text)
    return result.model_copy(update={"verdict": Verdict.APPROXIMATE, "reason": reason})
