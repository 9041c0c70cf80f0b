"""Errors over resolutions: does the interval of the limit on fine grids contain zero?"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ...harness.claim.claim import Approximate, Claim
from ...harness.claim.evaluation import Subject
from ...harness.claim.outcome import describe
from ...harness.errors import UsageError
from ...harness.precisions import EPS, claim_eps
from ...harness.symmetry.groups import Element
from ...harness.trees import Tree
from ...harness.verdict.decide import SAFETY
from ...harness.verdict.result import CheckResult, Code, ElementResult, Reason, Resolution, Verdict
from ..rounding import Kappa, neighbours, perturbed
from .homomorphism import defect

#: Number of samples and elements for the errors at each resolution.
SAMPLES = 8
ELEMENTS = 4

#: Three resolutions cannot distinguish convergence slower than h^0.2 from a plateau.
LEAST_ORDER = 0.2
#: Half-width of the interval of the limit, in standard errors over samples (Student, 7 degrees of freedom, 95%).
STUDENT = 2.36


@dataclass(frozen=True)
class Rounding:
    """The error that rounding explains at the finest resolution: S kappa (eps + delta).

    A layer whose error is below this bound has converged, whatever its other errors are. kappa is at least 1, so
    rounding always explains an error of S eps; for larger errors ``measure`` gives kappa and delta.
    """

    dtype: str = "float32"
    measure: Callable[[], tuple[float, float]] = lambda: (1.0, 0.0)

    def surely_explains(self, error: float) -> bool:
        """Whether rounding explains an error for every kappa."""
        return error <= SAFETY * claim_eps(self.dtype)

    def verdict(self, error: float) -> tuple[Verdict, Reason] | None:
        """The verdict on an error that does not vanish at fine resolutions; None if rounding does not explain it."""
        kappa, defect = self.measure()
        own, single = (SAFETY * kappa * (eps + defect) for eps in (claim_eps(self.dtype), EPS["float32"]))
        if own >= 1:  # the layer jumps, which does not explain an error at every resolution
            return None
        if error <= own:
            return Verdict.APPROXIMATE, at_rounding(error)
        if self.dtype == "float64" and error <= single < 1:
            text = f"the error at the finest resolution, {error:.1g}, is that of tables computed in float32."
            return Verdict.IMPRECISE, Reason(code=Code.CONSTANTS_IN_SINGLE, message=text)
        return None


def at_rounding(error: float) -> Reason:
    """The reason for an error that rounding explains."""
    return Reason(code=Code.ROUNDING, message=f"the error at the finest resolution, {error:.1g}, is at rounding level.")


def rounding_of(
    subject: Subject, x: Tree, apart: Callable[[Tree, Tree], float], elements: Sequence[Element] = ()
) -> Rounding:
    """The rounding of a layer at inputs x: kappa as for exact claims.

    Args:
        subject: the layer at its finest resolution. If f_* cannot be computed, only C is measured, in the working
            precision; if the float32 run is impossible, only C in float64.
        x: inputs in float64.
        apart: the relative difference of two outputs, in the norm of the errors.
        elements: the elements whose actions do not interpolate and have a rounding defect, delta.
    """
    dtype = str(subject.claim.dtype).removeprefix("torch.")

    def measure() -> tuple[float, float]:
        kappa = Kappa()
        with subject.guarded():
            exact = subject.probe_reference(x)
            run, eps = (subject.working, EPS[dtype]) if exact is None else (subject.reference, EPS["float64"])
            y = run(x)
            if exact is None:
                for moved in perturbed(x, subject.claim.seed, eps):
                    kappa.add_change(_one(apart(run(moved), y)), eps)
            else:
                for moved, add in neighbours(run, x, subject.claim.seed):
                    add(kappa, _one(apart(moved, y)))
                kappa.add_loss(_one(_lost_in_single(subject, x, apart)))
        return kappa.worst, defect(subject.claim, x, y, list(elements)) if elements else 0.0

    return Rounding(dtype, measure)


def _one(error: float) -> torch.Tensor:
    return torch.tensor([error], dtype=torch.float64)


def _lost_in_single(subject: Subject, x: Tree, apart: Callable[[Tree, Tree], float]) -> float:
    """P_32; 0 if the layer refuses float32 because it was built for float64: then kappa comes from C alone."""
    try:
        single = subject.single(x)
    except UsageError:
        raise
    except Exception:  # any error of the library
        return 0.0
    return apart(single, subject.reference(subject.through(x, torch.float32)))


@dataclass(frozen=True)
class ResolutionErrors:
    """Errors [element, sample] at one resolution, with those of the action alone and of an unconstrained layer."""

    size: int
    errors: NDArray[np.float64]
    floor: float
    control: float
    #: Points on an axis of the output, if the output is a grid.
    output: int = 0

    def summary(self) -> Resolution:
        """The row of the report."""
        return Resolution(size=self.size, error=float(self.errors.max(1).max()), floor=self.floor, control=self.control)

    @property
    def spacing(self) -> float:
        """The grid spacing; half the box is 1."""
        return 2 / (self.size - 1)


@dataclass(frozen=True)
class BandwidthErrors(ResolutionErrors):
    """The same for spherical signals: the size is a bandwidth."""

    @property
    def spacing(self) -> float:
        """Of the rings, in units of pi / 2."""
        return 1 / self.size


def conclude(
    claim: Claim,
    name: str,
    table: Sequence[ResolutionErrors],
    elements: list[Element],
    contract: Approximate,
    rounding: Rounding,
) -> CheckResult:
    """The result of a property that was measured at several resolutions, coarsest first."""
    verdict, reason, limit, order = judge_convergence(table, contract, rounding)
    finest = table[-1]
    errors = finest.errors.max(1)
    rows = [
        ElementResult(element=g.name, error=float(e), bound=math.nan) for g, e in zip(elements, errors, strict=True)
    ]
    return describe(claim, name, verdict, reason).model_copy(
        update={
            "samples": finest.errors.shape[1],
            "element": elements[int(errors.argmax())].name,
            "seen": float(errors.max()),
            "resolutions": tuple(r.summary() for r in table),
            "elements": tuple(rows),
            "limit": limit,
            "order": order,
            "gain": finest.control / float(errors.max()) if errors.max() > 0 else math.inf,
        }
    )


def judge_convergence(
    table: Sequence[ResolutionErrors], contract: Approximate, rounding: Rounding
) -> tuple[Verdict, Reason, tuple[float, float] | None, float | None]:
    """The verdict on errors over resolutions: does the interval of the extrapolated limit contain zero?

    With spacings in one ratio, e = L + c h^q gives L = (e1 e3 - e2^2) / (e1 + e3 - 2 e2) (Aitken). The first order
    gives L = e3 - (e2 - e3) / (ratio - 1); a lower order q that the claim declares replaces ratio by ratio^q. BROKEN
    requires that both limits are positive beyond their standard errors over samples, and that rounding does not
    explain the error.
    """
    # The errors of an element form one sequence for each sample; the worst element decides.
    if not all(np.isfinite(t.errors).all() for t in table):
        reason = Reason(code=Code.NONFINITE, message="the output has NaN or infinite values where the input is finite.")
        return Verdict.BROKEN, reason, None, None
    worst = int(table[-1].errors.mean(1).argmax())
    series = np.stack([t.errors[worst] for t in table])
    finest = float(series[-1].max())
    if contract.ceiling is not None:
        good = finest <= contract.ceiling
        text = f"error {finest:.3g} at the finest grid, declared ceiling {contract.ceiling:.3g}"
        return (Verdict.APPROXIMATE if good else Verdict.BROKEN), Reason(code=Code.CEILING, message=text), None, None
    if len(table) < 3:
        text = (
            "one resolution cannot distinguish discretisation from a fault: give three factors, or declare a ceiling."
        )
        return Verdict.AMBIGUOUS, Reason(code=Code.SINGLE_RESOLUTION, message=text), None, None
    if rounding.surely_explains(finest):
        return Verdict.APPROXIMATE, at_rounding(finest), (0.0, finest), None
    refinement = table[-2].spacing / table[-1].spacing
    limit = _limit(series[-3:], refinement ** min(1.0, contract.order or 1.0))
    order = _order(series[-2:], refinement)
    means = ", ".join(f"{t.errors[worst].mean():.3g}" for t in table)
    rates = f"errors {means} at sizes {', '.join(str(t.size) for t in table)}"
    fault = None
    if limit[0] > 0 or order < LEAST_ORDER:
        text = f"{rates}: the limit of fine grids is {max(limit[0], 0):.2g} to {limit[1]:.2g}, not zero."
        fault = Reason(code=Code.LIMIT, message=text)
    elif contract.order is not None and order < contract.order:
        text = f"{rates}: they fall like h^{order:.2f}, the claim declares h^{contract.order:g}."
        fault = Reason(code=Code.ORDER, message=text)
    if fault is None:
        text = f"{rates}: they fall like h^{order:.2f}."
        return Verdict.APPROXIMATE, Reason(code=Code.CONVERGES, message=text), limit, order
    verdict, reason = rounding.verdict(finest) or (Verdict.BROKEN, fault)
    return verdict, reason, limit, order


def _limit(series: NDArray[np.float64], ratio: float) -> tuple[float, float]:
    """The interval of the limit: the hull of both extrapolations, each with its jackknife standard error."""
    count = series.shape[1]
    limits = _extrapolations(series, ratio)
    without = np.stack([_extrapolations(np.delete(series, i, 1), ratio) for i in range(count)])
    error = STUDENT * np.sqrt((count - 1) / count * ((without - without.mean(0)) ** 2).sum(0))
    return float((limits - error).min()), float(max((limits + error).max(), 0))


def _extrapolations(series: NDArray[np.float64], ratio: float) -> NDArray[np.float64]:
    """The limits of the mean errors e1, e2, e3: by Aitken, and by the lowest order that a sound layer shows.

    Aitken's interval alone is too narrow if two orders mix: e = c h^2 + d h^3 falls ever more slowly, as if to a small
    positive limit. The first order alone would mistake a small fault for slow convergence.
    """
    e1, e2, e3 = series.mean(1)
    bend = e1 + e3 - 2 * e2
    # Concave or linear decay has no positive limit; the limit of growing errors is at least the last value.
    decay = (e1 * e3 - e2**2) / bend if bend > 0 else -e3
    aitken = decay if e1 > e2 > e3 else e3
    return np.array([aitken, e3 - (e2 - e3) / (ratio - 1)])


def _order(pair: NDArray[np.float64], refinement: float) -> float:
    coarse, fine = pair.mean(1)
    if fine == 0:
        return math.inf
    return float(math.log(coarse / fine) / math.log(refinement)) if coarse > 0 else -math.inf
