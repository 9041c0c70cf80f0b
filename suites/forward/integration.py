"""Integration: the integral of f(a_g x) equals that of f(x); the naive mean is the control that must fail.

On grids the integral pools space and group (the invariant part of the fibre); on the sphere and on SO(3) it is the
quadrature. Common mistakes are a pooling that misses the last row and does not pool the group, and a plain mean over
samples that are dense at the poles. Such a mistake is the control: it must fail on the same data.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ...harness.claim.claim import Claim, Exact
from ...harness.claim.evaluation import Subject
from ...harness.claim.outcome import Outcome, describe
from ...harness.fields.domains import Grid, Vector
from ...harness.fields.field import Field, Invariant
from ...harness.precisions import EPS
from ...harness.trees import Tree, leaves, tree_map
from ...harness.verdict.decide import SAFETY
from ...harness.verdict.result import CheckResult, Code, Reason, Verdict
from ..rounding import samples_of
from .aliasing import is_affine
from .equivariance import equivariance
from .quadrature import integrates, quadrature

#: Number of elements of a finite group at which the naive mean is tried first.
CONTROL_ELEMENTS = 3


def integration(claim: Claim) -> Outcome:
    """The integral of the claim's output is invariant, and the naive mean of the output is not.

    Args:
        claim: some target leaf must be a field with an invariant part; other leaves are left out.

    Returns:
        The verdict on the integral. AMBIGUOUS(CONTROL) if the naive mean passes too, first at a few elements and then
        at all elements: the check then proves nothing.
        SKIPPED(CONSTANT) if the output depends on the input and its integral does not: the integral of a normalised
        field is its bias, and that of a field made from vectors may vanish.
    """
    wanted = {path for path, leaf in leaves(claim.target) if isinstance(leaf, Field) and _integrable(leaf)}
    if not wanted:
        reason = Reason(code=Code.NO_INVARIANT, message="the target has no invariant part to integrate.")
        return Outcome(describe(claim, "integration", Verdict.SKIPPED, reason))
    if not _already_pooled(claim, wanted) and _is_constant(claim, wanted):
        reason = Reason(code=Code.CONSTANT, message="the integral of the output is the same for every input.")
        return Outcome(describe(claim, "integration", Verdict.SKIPPED, reason))
    outcome = equivariance(_pooled(claim, wanted, lambda leaf, y: leaf.integral(y)))
    result = outcome.result.model_copy(update={"property": "integration", "target": f"integral of {_target(claim)}"})
    if result.verdict not in (Verdict.EXACT, Verdict.IMPRECISE):
        return Outcome(result, outcome.picture)
    if integrates(claim) and is_affine(claim):
        return Outcome(_of_degrees(claim, result), outcome.picture)
    if _already_pooled(claim, wanted):
        return Outcome(result, outcome.picture)
    naive = replace(_pooled(claim, wanted, lambda leaf, y: leaf.naive_mean(y)), contract=Exact())
    control = _control(naive)
    control = control.model_copy(update={"property": "naive mean (control)"})
    return Outcome(_weigh(result, control), outcome.picture)


def _is_constant(claim: Claim, wanted: set[str]) -> bool:
    """Whether no integral varies over samples by more than the float32 rounding of a sum of values of that size."""
    subject = Subject(claim)
    with subject.guarded():
        x = samples_of(claim)
        found = subject.probe_reference(x)
        outputs = dict(leaves(subject.working(x) if found is None else found))
    for path, leaf in leaves(claim.target):
        if path in wanted:
            integrals, size = leaf.integral(outputs[path]), outputs[path].square().mean().sqrt()
            varies = (integrals - integrals.mean(0)).abs().max()
            if not (varies <= SAFETY * EPS["float32"] * size):  # NaN counts as varying
                return False
    return True


def _of_degrees(claim: Claim, result: CheckResult) -> CheckResult:
    """Check an affine invariant of a spherical signal: it must be an integral, zero for harmonics of degree > 0."""
    mean = replace(claim, function=claim.source.naive_mean, reference=None, target=Invariant(), contract=Exact())
    control = equivariance(mean, jitter=False).result.model_copy(update={"property": "naive mean (control)"})
    weighed = _weigh(result, control)
    degrees = quadrature(claim)
    decisive = max((weighed, degrees), key=lambda r: r.verdict.severity)
    return weighed.model_copy(
        update={"verdict": decisive.verdict, "reason": decisive.reason, "parts": (control, degrees)}
    )


def _control(naive: Claim) -> CheckResult:
    """The naive mean at a few elements, where it usually fails; if it passes there, at all elements."""
    if naive.group.order is not None:
        moving = (g for g in naive.representatives(np.random.default_rng(naive.seed), 0) if not g.is_identity)
        few = set(itertools.islice((g for g in moving if naive.exact(g)), CONTROL_ELEMENTS))
        control = equivariance(naive, jitter=False, keep=few.__contains__).result
        if control.verdict is Verdict.BROKEN:
            return control
    return equivariance(naive, jitter=False).result


def _weigh(result: CheckResult, control: CheckResult) -> CheckResult:
    """The result with its control: if the control passes, the result proves nothing and becomes AMBIGUOUS."""
    seconds = {
        "seconds": result.seconds + control.seconds,
        "seconds_in_layer": result.seconds_in_layer + control.seconds_in_layer,
        "parts": (control,),
    }
    if control.verdict is Verdict.BROKEN:
        return result.model_copy(update=seconds)
    reason = Reason(
        code=Code.CONTROL,
        message=f"the naive mean is {control.verdict} on the same data, so invariance of the integral proves little.",
    )
    return result.model_copy(update={**seconds, "verdict": Verdict.AMBIGUOUS, "reason": reason})


def _pooled(claim: Claim, wanted: set[str], pool: Callable[[Any, torch.Tensor], torch.Tensor]) -> Claim:
    """The claim that a pooling of the wanted leaves of the output is invariant."""

    def after(y: Tree) -> Tree:
        outputs = dict(leaves(tree_map(lambda _, v: v, claim.target, y)))
        return {path: pool(leaf, outputs[path]) for path, leaf in leaves(claim.target) if path in wanted}

    return replace(claim, after=after, target={path: Invariant() for path in sorted(wanted)})


def _integrable(leaf: Field) -> bool:
    """Whether a leaf can be integrated: on a domain any invariant part; without a domain only invariant fibres."""
    return leaf.is_integral if isinstance(leaf.domain, Vector) else leaf.has_integral


def _already_pooled(claim: Claim, wanted: set[str]) -> bool:
    """Whether all targets have no domain and trivial fibres: the integral and the naive mean are then the same."""
    fields = [leaf for path, leaf in leaves(claim.target) if path in wanted]
    return all(_is_a_point(f.domain) and all(rep.dim == 1 for _, rep in f.fibre.terms) for f in fields)


def _is_a_point(domain: Any) -> bool:
    return isinstance(domain, Vector) or (isinstance(domain, Grid) and set(domain.shape) == {1})


def _target(claim: Claim) -> str:
    return ", ".join(str(leaf) for _, leaf in leaves(claim.target))
