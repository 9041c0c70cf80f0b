"""One way from a case to an outcome: build the claim, check one property, and name the result.

Runs and searches make their checks here, so that both answer what a layer raises with the same verdict.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..claim.outcome import Outcome
from ..errors import MissingDependencyError
from ..installed import resolve
from ..verdict.codes import Code, Verdict
from ..verdict.result import CheckResult, Reason
from .adapter import Case, Implementation

if TYPE_CHECKING:
    from ..claim.claim import Claim


def make_check(name: str, suite: str, build: Callable[[], Claim], *, dtype: str, device: str) -> Outcome:
    """Build a claim and check one property of it. An exception becomes the verdict CRASHED or SKIPPED.

    Args:
        name: name of the property.
        suite: "module:function" that checks one property of one claim.
        build: returns the claim.
        dtype: working precision, for results without numbers.
        device: torch device, for results without numbers.
    """
    start, built = time.perf_counter(), 0.0
    try:
        claim = build()
        built = time.perf_counter() - start
        made: Outcome = resolve(suite)(name, claim)
        outcome = Outcome(made.result, made.picture)  # the error stays here: not every error can be sent to a process
    except MissingDependencyError as error:
        outcome = unmeasured(name, Verdict.SKIPPED, Code.NOT_INSTALLED, str(error), dtype=dtype, device=device)
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        outcome = unmeasured(name, Verdict.CRASHED, Code.CRASHED, text, dtype=dtype, device=device)
    built = built or time.perf_counter() - start
    spent = {"seconds": outcome.result.seconds or time.perf_counter() - start - built, "seconds_building": built}
    return Outcome(outcome.result.model_copy(update=spent), outcome.picture)


def unmeasured(name: str, verdict: Verdict, code: Code, message: str, *, dtype: str, device: str) -> Outcome:
    """The outcome of a check without numbers.

    Args:
        name: name of the property.
        verdict: SKIPPED, CRASHED or TIMED_OUT.
        code: code of the reason.
        message: message of the reason, in a sentence or two.
        dtype: working precision.
        device: torch device.
    """
    reason = Reason(code=code, message=message)
    return Outcome(CheckResult(property=name, verdict=verdict, reason=reason, dtype=dtype, device=device))


def named(result: CheckResult, adapter: Implementation, case: Case, seed: int) -> CheckResult:
    """The result with the implementation, the case, the seed, and the deviation that the adapter declares."""
    declared = adapter.declared(result.property, case, dtype=result.dtype, device=result.device)
    fields: dict[str, Any] = {"implementation": adapter.name, "case": case.name, "seed": seed, **declared}
    return result.model_copy(update=fields)
