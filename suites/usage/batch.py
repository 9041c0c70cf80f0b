"""Batch: what a layer says of a sample does not depend on the other samples, nor on its place among them.

    f(x)_s = f(x_s)        f(pi x) = pi f(x) for another order pi of the samples

A mask that is summed over the batch, a norm over it, a length of its longest sample: such a leak is equivariant, and
changes what a model says of one molecule with the molecules beside it. Values are compared in float64, with the bound
of equivariance.
"""

from __future__ import annotations

import time

from ...harness.claim.claim import Claim
from ...harness.claim.evaluation import Subject, mode
from ...harness.claim.memo import parts_of
from ...harness.claim.outcome import Outcome, describe
from ...harness.precisions import claim_eps
from ...harness.verdict.decide import decide
from ...harness.verdict.result import Code, ElementResult, Reason, Verdict
from .robustness import OtherShapeError, Trials


def batch(claim: Claim) -> Outcome:
    """Each sample alone, and all samples in another order, give what they give in the batch.

    Args:
        claim: its function takes batches.

    Returns:
        EXACT, or BROKEN(LEAK) with the statement that fails. SKIPPED(SHARED_STATISTICS) if the statements fail in
        training mode alone, as norms do that normalise by their batch; SKIPPED(NOT_AVAILABLE) where there are no
        batches, where a seed is set before each call, or where the layer refuses a batch of one.
    """
    outcome = _asked(claim)
    trained = any(part.training for part in parts_of(claim.modules))
    if outcome.result.reason.code != Code.LEAK or outcome.result.error is None or not trained:
        return outcome
    try:
        with mode(claim, training=False):
            again = _asked(claim).result
    except Exception:  # an exported module has one mode
        return outcome
    if again.verdict is not Verdict.EXACT:
        return outcome
    text = "batch statistics: samples influence each other in training mode alone; in eval() each stands for itself."
    return Outcome(describe(claim, "batch", Verdict.SKIPPED, Reason(code=Code.SHARED_STATISTICS, message=text)))


def _asked(claim: Claim) -> Outcome:
    start = time.perf_counter()

    def skipped(code: Code, message: str) -> Outcome:
        return Outcome(describe(claim, "batch", Verdict.SKIPPED, Reason(code=code, message=message)))

    if not claim.batched:
        return skipped(Code.NOT_AVAILABLE, "the model takes one sample at a time.")
    if claim.call_seed is not None:
        return skipped(Code.NOT_AVAILABLE, "a seed is set before each call, and what is drawn depends on the batch.")
    subject = Subject(claim, whole=True)
    with subject.guarded():
        trials = Trials(subject)
        if not trials.finite:
            return skipped(Code.NOT_AVAILABLE, "the output is not finite on ordinary inputs.")
        try:
            found = {"a sample alone": trials.alone(), "samples in another order": trials.reordered()}
        except OtherShapeError as error:
            text = f"{error} The layer drops the axis of a batch of one: name the axes that it reduces or squeezes."
            return Outcome(describe(claim, "batch", Verdict.BROKEN, Reason(code=Code.LEAK, message=text)))
        except Exception as error:  # a layer may be written for one size of the batch
            return skipped(Code.NOT_AVAILABLE, f"the layer refuses other batches: {type(error).__name__}: {error}")
    judged = [(name, evidence, *decide(evidence)) for name, evidence in found.items()]
    name, evidence, verdict, reason = max(judged, key=lambda row: (row[2].severity, row[1].error / row[1].unit_bound))
    eps = claim_eps(evidence.dtype)
    rows = tuple(ElementResult(element=n, error=e.error, bound=e.bound(eps)) for n, e in found.items())
    if verdict is Verdict.BROKEN and reason.code == Code.ERROR:
        text = f"samples influence each other: {name} differs by {evidence.error:.2g} of the output."
        reason = Reason(code=Code.LEAK, message=text)
    return Outcome(
        describe(claim, "batch", verdict, reason).model_copy(
            update={
                "samples": claim.samples,
                "error": evidence.error,
                "bound": evidence.bound(eps),
                "kappa": evidence.kappa,
                "power": evidence.failing_power,
                "element": name,
                "elements": rows,
                "seconds": time.perf_counter() - start,
                "seconds_in_layer": subject.seconds,
            }
        )
    )
