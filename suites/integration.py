"""Integration: the integral of f(a_g x) equals that of f(x); the naive mean is the control that must fail.

On grids the integral pools space and group (the invariant part of the fibre). What is mistaken for it, pooling a
window that misses the last row and leaving the group out, must be seen to fail on the same data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from ..harness.claim import Claim
from ..harness.fields import Field, Invariant, Vector
from ..harness.trees import Tree, leaves, tree_map
from ..harness.verdict import CheckResult, Reason, Verdict
from .equivariance import equivariance
from .outcome import Outcome, describe


def integration(claim: Claim) -> Outcome:
    """The claim's function followed by the integral over its target is invariant; followed by the naive mean, is not.

    Args:
        claim: some target leaf must be a field with an invariant part; other leaves are left out.

    Returns:
        The verdict on the integral. AMBIGUOUS(CONTROL) where the naive mean passes too: then nothing was shown.
    """
    wanted = {path for path, leaf in leaves(claim.target) if isinstance(leaf, Field) and _integrable(leaf)}
    if not wanted:
        reason = Reason(code="NO_INVARIANT", message="the target has no invariant part to integrate.")
        return Outcome(describe(claim, "integration", Verdict.SKIPPED, reason))
    outcome = equivariance(_followed(claim, wanted, lambda leaf, y: leaf.integral(y)))
    result = outcome.result.model_copy(update={"property": "integration", "target": f"integral of {_target(claim)}"})
    if _already_pooled(claim, wanted) or result.verdict not in (Verdict.EXACT, Verdict.IMPRECISE):
        return Outcome(result, outcome.picture)
    control = equivariance(_followed(claim, wanted, lambda leaf, y: leaf.naive_mean(y)), jitter=False).result
    control = control.model_copy(update={"property": "naive mean (control)"})
    return Outcome(_weigh(result, control), outcome.picture)


def _weigh(result: CheckResult, control: CheckResult) -> CheckResult:
    """A control that passes takes the proof away; one that fails is the power of the check."""
    seconds = {
        "seconds": result.seconds + control.seconds,
        "seconds_in_layer": result.seconds_in_layer + control.seconds_in_layer,
        "parts": (control,),
    }
    if control.verdict is Verdict.BROKEN:
        return result.model_copy(update=seconds)
    reason = Reason(
        code="CONTROL",
        message=f"the naive mean is {control.verdict} on the same data, so invariance of the integral shows little.",
    )
    return result.model_copy(update={**seconds, "verdict": Verdict.AMBIGUOUS, "reason": reason})


def _followed(claim: Claim, wanted: set[str], pool: Callable[[Any, torch.Tensor], torch.Tensor]) -> Claim:
    """The claim of the function followed by a pooling of the wanted leaves, with invariant targets."""

    def after(function: Callable[..., Any] | None) -> Callable[..., Any] | None:
        if function is None:
            return None

        def pooled(*args: Any, **kwargs: Any) -> Tree:
            y = dict(leaves(tree_map(lambda _, v: v, claim.target, function(*args, **kwargs))))
            return {path: pool(leaf, y[path]) for path, leaf in leaves(claim.target) if path in wanted}

        return pooled

    function = after(claim.function)
    assert function is not None
    function.forward = getattr(claim.function, "forward", claim.function)  # type: ignore[attr-defined]
    return replace(
        claim,
        function=function,
        reference=after(claim.reference),
        target={path: Invariant() for path in sorted(wanted)},
        modules=claim.modules,
    )


def _integrable(leaf: Field) -> bool:
    """On a domain any invariant part; without one only whole invariants: single irreps are judged by equivariance."""
    return leaf.is_integral if isinstance(leaf.domain, Vector) else leaf.has_integral


def _already_pooled(claim: Claim, wanted: set[str]) -> bool:
    """Targets without a domain and with trivial fibres are their own integral: no naive mean differs from it."""
    fields = [leaf for path, leaf in leaves(claim.target) if path in wanted]
    return all(isinstance(f.domain, Vector) and all(rep.dim == 1 for _, rep in f.fibre.terms) for f in fields)


def _target(claim: Claim) -> str:
    return ", ".join(str(leaf) for _, leaf in leaves(claim.target))
