"""Backward passes: adjoint and parameter gradient, two statements about the derivative of f(a_g x) = b_g f(x).

    adjoint               a_g^T J(a_g x)^T w = J(x)^T b_g^T w             for every w
    parameter gradient    d/dtheta <f(a_g x), w> = d/dtheta <f(x), b_g^T w>

Transposes are vector-Jacobian products, also those of the actions, so the action can be orthogonal, a projection onto
a band, or any function. Both sides start from a_e x (its projection, if there is a band) and end with b_e. The
statement for generators implies the statement for their products.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from ...harness.claim.claim import Claim
from ...harness.claim.evaluation import FREED, Subject
from ...harness.claim.outcome import Outcome, describe
from ...harness.precisions import EPS, claim_eps
from ...harness.symmetry.groups import Element
from ...harness.verdict.decide import SAFETY, Evidence, decide, lost_bits
from ...harness.verdict.result import CheckResult, Code, ElementResult, Reason, Verdict
from ..forward.aliasing import aliases, excuse
from ..forward.equivariance import jittered
from ..rounding import largest_of
from .gradient_loop import GradientLoop, GradientTally, worst_of

#: Elements in addition to the generators. In a finite group the statement for generators implies all others, and one
#: more element is a second test; in a continuous group the generators of a grid's symmetries and one Haar sample
#: generate a dense subgroup.
OTHERS = 1


#: Reason codes that a tie can cause: the gradient jumps, or its jump under rounding has widened the bound.
DOUBTFUL = (Code.ERROR, Code.VACUOUS, Code.ILL_CONDITIONED, Code.LOW_POWER, Code.PRECISION)
#: Those of them in which rounding across a kink has widened the bound, or looks like lost precision.
WIDENED = (Code.ILL_CONDITIONED, Code.LOW_POWER, Code.PRECISION)


def adjoint(claim: Claim) -> Outcome:
    """The input gradient is equivariant: a_g^T J(a_g x)^T w = J(x)^T b_g^T w.

    Args:
        claim: its function must be differentiable in some floating input.

    Returns:
        EXACT, or BROKEN if a correct forward pass has a wrong backward pass. SKIPPED(NOT_DIFFERENTIABLE) if the output
        carries no gradient, SKIPPED(NO_EXACT_ELEMENTS) if no element maps the grid onto itself.
    """
    return _check(claim, "adjoint")


def parameter_gradient(claim: Claim) -> Outcome:
    """The gradient of every parameter is the same from both sides: d<f(a_g x), w> = d<f(x), b_g^T w>.

    It holds if the function is equivariant for every value of its parameters, so that training cannot break it.

    Args:
        claim: ``claim.modules`` hold the parameters.

    Returns:
        EXACT, or BROKEN if a weight gradient is wrong or if training can change tied weights separately. Errors are
        relative to the joint norm of all gradients. SKIPPED(NO_PARAMETERS) if the layer has no parameters.
    """
    return _check(claim, "parameter_gradient")


def _check(claim: Claim, name: str) -> Outcome:
    try:
        outcome = _measured(claim, name)
        return _away_from_ties(claim, name, outcome) if outcome.result.reason.code in DOUBTFUL else outcome
    except RuntimeError as error:
        if FREED not in str(error):
            raise
        text = "the layer differentiates inside and frees its own graph: use create_graph=True to check its backward."
        return Outcome(describe(claim, name, Verdict.SKIPPED, Reason(code=Code.NOT_DIFFERENTIABLE, message=text)))


def _away_from_ties(claim: Claim, name: str, outcome: Outcome) -> Outcome:
    """Check again with inputs moved by 1e-4: at a tie or a kink a layer has no gradient, and its rounding jumps.

    Where the first inputs contradict nothing, and only rounding across a kink has widened their bound, the inputs
    without a tie decide: the statement is about points at which there is a gradient.
    """
    moved = replace(claim, inputs=lambda count, generator: jittered(claim.draw(count), claim.seed))
    again = _measured(moved, name)
    if again.result.verdict is Verdict.BROKEN and outcome.result.verdict is not Verdict.BROKEN:
        return again
    if again.result.verdict not in (Verdict.EXACT, Verdict.IMPRECISE):
        return outcome
    first = outcome.result
    if first.reason.code in WIDENED and first.error is not None and first.error <= (first.bound or 0.0):
        return again
    message = "fails on tied inputs and passes when they are moved by 1e-4: the layer has no gradient there."
    update = {"verdict": Verdict.AMBIGUOUS, "reason": Reason(code=Code.TIE, message=message)}
    return replace(again, result=again.result.model_copy(update=update))


def _measured(claim: Claim, name: str) -> Outcome:
    start = time.perf_counter()
    rng = np.random.default_rng(claim.seed)
    elements = _elements(claim, rng)
    with Subject(claim).guarded():
        loop = GradientLoop(claim, name == "adjoint")
        skipped = _not_applicable(claim, elements, loop)
        if skipped is not None:
            return Outcome(describe(claim, name, Verdict.SKIPPED, skipped))
        if aliases(claim):
            return Outcome(describe(claim, name, Verdict.SKIPPED, excuse(claim)))
        loop.measure_defect(elements)
        for g in elements:
            loop.visit(g)
        loop.finish(elements)
        # An unused input or a bias before a norm has no gradient of its own, so all places share one power.
        power = max(_power_units(tally) for tally in loop.tallies)
        judged = [(tally, *_judge(claim, loop, tally, power)) for tally in loop.tallies]
        if claim.dtype is torch.float64 and any(reason.code == Code.ERROR for *_, reason in judged):
            loop.look_in_single()
            judged = [(tally, *_judge(claim, loop, tally, power)) for tally in loop.tallies]
    tally, evidence, index, verdict, reason = max(judged, key=lambda row: (row[3].severity, _ratio(row[1])))
    result = _report(claim, name, elements, tally, evidence, index)
    seconds = {"seconds": time.perf_counter() - start, "seconds_in_layer": loop.seconds}
    return Outcome(result.model_copy(update={"verdict": verdict, "reason": reason, **seconds}))


def _elements(claim: Claim, rng: np.random.Generator) -> list[Element]:
    """Generators and a few other elements that need no interpolation; never the identity."""
    if claim.refined is not None:
        return []
    exact = [g for g in claim.representatives(rng, 2) if claim.exact(g) and not g.is_identity]
    if claim.elements:
        return exact
    generators = [g for g in claim.group.generators if claim.exact(g) and not g.is_identity]
    rest = [g for g in exact if all(g is not h for h in generators)]
    if generators:
        order = rng.permutation(len(rest)) if claim.group.order is not None else range(len(rest))
        rest = [rest[i] for i in order[:OTHERS]]
    return generators + rest


def _not_applicable(claim: Claim, elements: Sequence[Element], loop: GradientLoop) -> Reason | None:
    if not elements:
        return Reason(
            code=Code.NO_EXACT_ELEMENTS, message=f"no element of {claim.group.name} maps the grid onto itself."
        )
    if not loop.wanted(loop.x):
        if loop.on_inputs:
            return Reason(code=Code.NOT_DIFFERENTIABLE, message="no input is a floating tensor.")
        return Reason(code=Code.NO_PARAMETERS, message="the layer has no parameters.")
    if not loop.has_reference:
        text = "the layer cannot be computed in float64, so rounding in its gradients has no bound."
        return Reason(code=Code.NO_REFERENCE, message=text)
    if not loop.differentiable:
        return Reason(
            code=Code.NOT_DIFFERENTIABLE, message="the output carries no gradient: only the forward can be checked."
        )
    return None


def _judge(
    claim: Claim, loop: GradientLoop, tally: GradientTally, power: float
) -> tuple[Evidence, int, Verdict, Reason]:
    """The evidence and the verdict of one place, and the index of its worst element."""
    errors = torch.stack(tally.errors)
    unit = SAFETY * tally.kappa.value.to(errors).expand(errors.shape[1])
    ratios = torch.where(errors == 0, 0.0, errors / unit).nan_to_num(torch.inf, torch.inf)
    single = torch.zeros(errors.shape[1]).to(errors)
    if tally.single is not None:
        single = tally.single.value.to(errors).expand(errors.shape[1])
        in_single = errors / torch.maximum(unit, SAFETY * single)
        ratios = in_single if float(in_single.max()) > EPS["float32"] + loop.defect else ratios
    g, summand = divmod(int(ratios.argmax()), errors.shape[1])
    evidence = Evidence(
        dtype=str(claim.dtype).removeprefix("torch."),
        error=float(errors[g, summand]),
        unit_bound=float(unit[summand]),
        kappa=float(unit[summand]) / SAFETY,
        condition=tally.kappa.worst_condition,
        wrong=power,
        wrong_unit=1.0,
        single_unit=SAFETY * float(single[summand]),
        precision=largest_of(tally.precision),
        finite=not bool(errors.isnan().any()),
        repeatable=loop.repeatable,
        defect=loop.defect,
    )
    verdict, reason = decide(evidence)
    if verdict is Verdict.VACUOUS:
        text = "no wrong action would change the gradient: it is zero, or symmetric by itself. Nothing is proved by it."
        reason = Reason(code=reason.code, message=text)
    return evidence, g, verdict, reason


def _power_units(tally: GradientTally) -> float:
    """The least error of a wrong action over the elements, in units of S kappa.

    No action changes the gradient of an invariant or of a bias. If no place detects a wrong action, the gradient of
    another <f, w> is the control.
    """
    unit = SAFETY * tally.kappa.value.to(tally.wrong[0])
    wrong = float((torch.stack(tally.wrong) / unit).amax(1).min())
    if wrong > EPS["float32"] or not tally.other:
        return wrong
    return float((torch.stack(tally.other) / unit).amax(1).min())


def _report(
    claim: Claim, name: str, elements: Sequence[Element], tally: GradientTally, evidence: Evidence, g: int
) -> CheckResult:
    bound = evidence.bound(claim_eps(evidence.dtype))
    rows = tuple(
        ElementResult(
            element=element.name,
            error=worst_of(tally.errors[i]),
            bound=bound,
            seen=tally.seen[i],
            precision=tally.precision[i + 1],
        )
        for i, element in enumerate(elements)
    )
    return describe(claim, name, Verdict.EXACT, Reason(code=Code.NONE, message="")).model_copy(
        update={
            "samples": claim.samples,
            "error": evidence.error,
            "bound": bound,
            "power": evidence.failing_power,
            "kappa": evidence.kappa,
            "condition": evidence.condition,
            "seen": largest_of(tally.seen),
            "precision": evidence.precision,
            "lost_bits": lost_bits(evidence),
            "element": elements[g].name,
            "leaf": tally.place,
            "elements": rows,
        }
    )


def _ratio(evidence: Evidence) -> float:
    bound = evidence.bound(claim_eps(evidence.dtype))
    return 0.0 if evidence.error == 0 else evidence.error / bound
