"""Equivariance of the forward pass: E_* and E_p for every exact element, with a derived bound and the power.

kappa as in ``rounding``      bound = S kappa (eps + delta)      power = min_g W(g) / bound
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ...harness.claim.claim import Claim
from ...harness.claim.diagram import rotated_views
from ...harness.claim.evaluation import Subject
from ...harness.claim.outcome import Outcome, describe
from ...harness.precisions import EPS, claim_eps
from ...harness.records.lines import Attachment
from ...harness.symmetry.groups import Element
from ...harness.trees import Tree, tree_map
from ...harness.verdict.decide import LEAST_POWER, SAFETY, Evidence, decide, lost_bits
from ...harness.verdict.result import CheckResult, Code, ElementResult, Reason, Verdict
from ..rounding import largest, largest_of, samples_of, settled
from .aliasing import aliases, excuse
from .measurement import LeafTally, Measured, look_behind_constants, measure, still_repeats, unfit

#: Elements drawn from a continuous group.
HAAR_SAMPLES = 4
#: Relative size of the move that breaks ties: a thousand steps of float32, so that tens of equal values stay different
#: after rounding.
JITTER = 1e-4
#: From this kappa on, what constants explain may be less than half of the bound, so the smallest fault that fails is
#: smaller than the bound says.
WIDE = 2.0


#: The evidence on one leaf, the index of its worst element, and the verdict.
Judged = tuple[Evidence, int, Verdict, Reason]


def equivariance(
    claim: Claim, *, jitter: bool = True, keep: Callable[[Element], bool] | None = None, name: str = "equivariance"
) -> Outcome:
    """f(a_g x) = b_g f(x) for elements of the claim's group that source and target move without interpolation.

    The elements are those of ``Claim.few``: generators and two more, or all where the claim asks for the whole group.

    Args:
        claim: the claim to check.
        jitter: repeat a failed check with inputs moved by 1e-4, to distinguish a tie from a fault.
        keep: check only the elements for which this function is true.
        name: name of the property in the result.

    Returns:
        EXACT, IMPRECISE, AMBIGUOUS, VACUOUS or BROKEN with its reason, the errors of each element, and a diagram.
        SKIPPED(ALIASES) for nonlinear layers on spherical signals, which the property aliasing judges.

    Raises:
        UsageError: fields and tensors do not fit.
    """
    start = time.perf_counter()
    rng = np.random.default_rng(claim.seed)
    drawn = claim.representatives(rng, HAAR_SAMPLES)
    elements = claim.few([g for g in drawn if claim.exact(g) and (keep is None or keep(g))], rng)
    if all(g.is_identity for g in elements) or claim.refined is not None:
        return Outcome(describe(claim, name, Verdict.SKIPPED, _nothing_exact(claim, keep is None)))
    subject = Subject(claim)
    x = samples_of(claim)
    if aliases(claim):
        fault = unfit(subject, x)
        verdict = Verdict.SKIPPED if fault is None else Verdict.BROKEN
        return Outcome(describe(claim, name, verdict, fault or excuse(claim)))

    def judged_at(inputs: Tree) -> tuple[Measured, list[Judged]]:
        measured = measure(subject, elements, inputs, rng)
        judged = [_judge(measured, tally, jitter_passes=False) for tally in measured.tallies]
        if any(_needs_closer_look(evidence) or evidence.kappa > WIDE for evidence, *_ in judged):
            look_behind_constants(subject, measured, subject.through(inputs, claim.dtype))
            judged = [_judge(measured, tally, jitter_passes=False) for tally in measured.tallies]
        return measured, judged

    measured, judged = judged_at(x)
    doubtful = any(r.code == Code.ERROR or _lost_in_jumps(evidence, verdict, r) for evidence, _, verdict, r in judged)
    if doubtful and not still_repeats(subject, measured, x):
        measured = replace(measured, repeatable=False)
        judged = [_judge(measured, tally, jitter_passes=False) for tally in measured.tallies]
    if jitter and any(verdict is Verdict.BROKEN and r.code == Code.ERROR for _, _, verdict, r in judged):
        _, again = judged_at(settled(claim, jittered(x, claim.seed)))
        passes = all(verdict is Verdict.EXACT or r.code == Code.PRECISION for _, _, verdict, r in again)
        judged = [_judge(measured, tally, jitter_passes=passes) for tally in measured.tallies]
    elif jitter and any(_lost_in_jumps(evidence, verdict, r) for evidence, _, verdict, r in judged):
        moved, again = judged_at(settled(claim, jittered(x, claim.seed)))
        if any(verdict is Verdict.BROKEN for _, _, verdict, _ in again):
            measured, judged = moved, again
        elif all(verdict in (Verdict.EXACT, Verdict.IMPRECISE) for _, _, verdict, _ in again):
            judged = [_judge(measured, tally, jitter_passes=True) for tally in measured.tallies]
    result = _report(measured, judged, name)
    seconds = {"seconds": time.perf_counter() - start, "seconds_in_layer": subject.seconds}
    return Outcome(result.model_copy(update=seconds), _picture(measured, name))


def _picture(measured: Measured, name: str) -> Attachment | None:
    """The diagram; for the property equivariance it includes the stabilised view."""
    picture = measured.picture
    if picture is None or name != "equivariance":
        return picture
    return picture.model_copy(update={"rotated": rotated_views(measured.claim, measured.rotated)})


def _nothing_exact(claim: Claim, everything: bool) -> Reason:
    if claim.refined is not None:
        message = "the layer has a resolution of its own: off_grid judges it in the limit of fine resolutions."
    elif everything:
        message = f"no element of {claim.group.name} maps the grid onto itself."
    else:
        message = f"{claim.group.name} has no such elements."
    return Reason(code=Code.NO_EXACT_ELEMENTS, message=message)


def _needs_closer_look(evidence: Evidence) -> bool:
    """Whether constants in float32, or in a float64 layer any rounding to float32, could explain the error."""
    largest = 1 / LEAST_POWER if evidence.dtype == "float64" else evidence.bound(EPS["float32"])
    return evidence.bound(EPS["float64"]) < evidence.error <= largest


def _lost_in_jumps(evidence: Evidence, verdict: Verdict, reason: Reason) -> bool:
    """Whether a bound larger than the output hides an error: at a tie the smallest perturbation makes a layer jump."""
    excused = verdict is Verdict.VACUOUS or reason.code in (Code.ILL_CONDITIONED, Code.LOW_POWER)
    return excused and evidence.error > SAFETY * claim_eps(evidence.dtype)


def _hidden(tally: LeafTally, delta: float) -> dict[str, Any]:
    """Error and bound of the input-dependent part at its worst element and summand, if they were measured.

    What rounding in float64 explains hides nothing: so the error of a summand that is zero but for rounding.
    """
    if tally.hidden_kappa is None:
        return {}
    bound = SAFETY * tally.hidden_kappa * (EPS["float32"] + delta)
    whole = torch.stack(tally.errors)
    explained = whole <= SAFETY * tally.kappa.value.to(whole) * (EPS["float64"] + delta)
    errors = torch.where(explained, 0.0, torch.stack(tally.centred))
    where = int((errors / bound).argmax())
    g, summand = divmod(where, errors.shape[1])
    return {"hidden_error": float(errors[g, summand]), "hidden_bound": float(bound[summand])}


def _judge(measured: Measured, tally: LeafTally, *, jitter_passes: bool) -> tuple[Evidence, int, Verdict, Reason]:
    """The evidence and the verdict of one leaf, and the index of its worst element."""
    dtype = str(measured.claim.dtype).removeprefix("torch.")
    common: dict[str, Any] = {
        "dtype": dtype,
        "finite": measured.finite,
        "repeatable": measured.repeatable,
        "scatter": measured.scatter,
        "stateful": measured.stateful,
        "estimated": measured.estimated,
        "jitter_passes": jitter_passes,
        "defect": measured.defect,
        "forward": True,
    }
    if not tally.errors:
        evidence = Evidence(error=0.0, unit_bound=SAFETY, kappa=1.0, **common)
        return evidence, 0, *decide(evidence)
    errors = torch.stack(tally.errors)
    kappa = tally.kappa.value.to(errors).expand(errors.shape[1])
    unit = SAFETY * kappa
    ratios = torch.where(errors == 0, 0.0, errors / unit).nan_to_num(torch.inf, torch.inf)
    single = SAFETY * tally.single_kappa if tally.single_kappa is not None else torch.zeros_like(unit)
    in_single = errors / torch.maximum(unit, single)
    # Where the error of some summand is beyond float32 too, that one decides.
    beyond = float(in_single.max()) > EPS["float32"] + measured.defect
    where = int((in_single if beyond else ratios).argmax())
    g, summand = divmod(where, errors.shape[1])
    evidence = Evidence(
        error=float(errors[g, summand]),
        unit_bound=float(unit[summand]),
        kappa=float(kappa[summand]),
        condition=tally.kappa.worst_condition,
        wrong=_power_units(tally, unit),
        wrong_unit=1.0,
        precision=largest_of(tally.precision),
        single_unit=float(single[summand]),
        failing_wrong=_failing_units(measured, tally, torch.maximum(unit, single)),
        **_hidden(tally, measured.defect),
        **common,
    )
    return evidence, g, *decide(evidence)


def _failing_units(measured: Measured, tally: LeafTally, unit: torch.Tensor) -> float | None:
    """W in units of the largest errors that do not fail; None where only ``unit`` limits them.

    The fault of one sample is smaller without its mean over n samples, by (n - 1) / n.
    """
    if tally.hidden_kappa is None:
        return None
    n = measured.samples
    return _power_units(tally, torch.minimum(unit, SAFETY * tally.hidden_kappa.to(unit) * n / (n - 1)))


def _power_units(tally: LeafTally, unit: torch.Tensor) -> float:
    """The minimum over g of W(g), in units of S kappa: the worst sample and summand of the best wrong action."""
    powers = [_over(wrong, unit).amax(-1).amin(0).max() for wrong in tally.wrong if wrong is not None]
    if not powers and tally.input_variation is not None:
        powers = [_over(tally.input_variation, unit).max()]
    return float(min(powers)) if powers else 0.0


def _over(errors: torch.Tensor, unit: torch.Tensor) -> torch.Tensor:
    """errors / unit; 0 for a summand that never varies (x/0 = inf) or is lost in rounding, which proves nothing."""
    return torch.where(errors.isfinite() & unit.isfinite(), errors / unit, 0.0)


def _report(measured: Measured, judged: list[tuple[Evidence, int, Verdict, Reason]], name: str) -> CheckResult:
    """The result, with the verdict and the numbers of the worst leaf."""
    # Among leaves that fail, one that fails otherwise than by its error comes first: no declared error excuses it.
    order = [(verdict.severity, r.code != Code.ERROR, _ratio(evidence)) for evidence, _, verdict, r in judged]
    index = order.index(max(order))
    evidence, g, verdict, reason = judged[index]
    tally = measured.tallies[index]
    eps = claim_eps(evidence.dtype)
    kappa_bound = evidence.bound(eps)
    elements = [
        ElementResult(
            element=element.name,
            error=largest_of(largest(t.errors[i]) for t in measured.tallies if i < len(t.errors)),
            error_max=largest_of(largest(t.errors_max[i]) for t in measured.tallies if i < len(t.errors_max)),
            bound=kappa_bound,
            seen=tally.seen[i],
            precision=tally.precision[i + 1] if len(tally.precision) > i + 1 else 0.0,
        )
        for i, element in enumerate(measured.elements)
        if i < len(tally.errors)
    ]
    return describe(measured.claim, name, verdict, reason).model_copy(
        update={
            "samples": measured.samples,
            "error": evidence.error if tally.errors else None,
            "error_max": max((e.error_max for e in elements), default=None),
            "bound": kappa_bound if tally.errors else None,
            "power": evidence.failing_power if tally.errors else None,
            "kappa": evidence.kappa,
            "condition": evidence.condition,
            "seen": largest_of(tally.seen) if tally.seen else None,
            "precision": evidence.precision,
            "lost_bits": lost_bits(evidence),
            "defect": measured.defect,
            "element": measured.elements[g].name if tally.errors else "",
            "leaf": tally.path,
            "elements": tuple(elements),
        }
    )


def _ratio(evidence: Evidence) -> float:
    bound = evidence.bound(claim_eps(evidence.dtype))
    return 0.0 if evidence.error == 0 else evidence.error / bound if bound else float("inf")


def jittered(x: Tree, seed: int) -> Tree:
    """Inputs moved by 1e-4 of their size, so that no two values are equal."""
    generator = torch.Generator().manual_seed(seed + 2)

    def move(value: torch.Tensor) -> torch.Tensor:
        if not value.is_floating_point():
            return value
        noise = torch.randn(value.shape, generator=generator, dtype=torch.float64).to(value)
        return value + JITTER * value.square().mean().sqrt() * noise

    return tree_map(move, x)
