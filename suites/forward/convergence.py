"""Errors over resolutions: does the interval of their limit on fine grids contain zero?"""

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
from ...harness.trees import Tree, tree_map
from ...harness.verdict.decide import SAFETY
from ...harness.verdict.result import CheckResult, ElementResult, Reason, Resolution, Verdict
from ..rounding import nudge
from .homomorphism import defect

#: Samples and elements behind each resolution's errors.
SAMPLES = 8
ELEMENTS = 4

#: Slower convergence than h^0.2 cannot be told from a plateau with three resolutions.
LEAST_ORDER = 0.2
#: Half-width of the interval of the limit, in standard errors over samples (Student, 7 degrees of freedom, 95%).
STUDENT = 2.36


@dataclass(frozen=True)
class Rounding:
    """What rounding explains of an error at the finest resolution: S kappa (eps + delta).

    A layer whose error meets that has converged, however its errors go on. kappa is 1 at least, so that an error of
    S eps is explained in any case; ``measure`` gives kappa and delta where an error is larger.
    """

    dtype: str = "float32"
    measure: Callable[[], tuple[float, float]] = lambda: (1.0, 0.0)

    def surely_explains(self, error: float) -> bool:
        """Whether it explains an error whatever kappa is."""
        return error <= SAFETY * claim_eps(self.dtype)

    def verdict(self, error: float) -> tuple[Verdict, Reason] | None:
        """The verdict on an error that does not vanish at fine resolutions; None: rounding does not explain it."""
        kappa, defect = self.measure()
        own, single = (SAFETY * kappa * (eps + defect) for eps in (claim_eps(self.dtype), EPS["float32"]))
        if own >= 1:  # the layer jumps, and that is no excuse for an error at every resolution
            return None
        if error <= own:
            return Verdict.APPROXIMATE, at_rounding(error)
        if self.dtype == "float64" and error <= single < 1:
            text = f"the error at the finest resolution, {error:.1g}, is that of tables computed in float32."
            return Verdict.IMPRECISE, Reason(code="CONSTANTS_IN_SINGLE", message=text)
        return None


def at_rounding(error: float) -> Reason:
    """The reason to accept an error that rounding explains."""
    return Reason(code="ROUNDING", message=f"the error at the finest resolution, {error:.1g}, is at rounding level.")


def rounding_of(
    subject: Subject, x: Tree, apart: Callable[[Tree, Tree], float], elements: Sequence[Element] = ()
) -> Rounding:
    """Rounding of a layer at inputs x: kappa = max(1, P_32 / eps_32, C), as for exact claims.

    Args:
        subject: the layer at its finest resolution. Where f_* cannot be computed, C alone is measured, in the working
            precision; where the float32 run cannot, C in float64.
        x: inputs in float64.
        apart: the relative difference of an output from another, in the norm that the errors were measured in.
        elements: those whose actions interpolate nothing and have a defect of rounding, delta.
    """
    dtype = str(subject.claim.dtype).removeprefix("torch.")

    def measure() -> tuple[float, float]:
        generator = torch.Generator().manual_seed(subject.claim.seed + 1)
        with subject.guarded():
            exact = subject.probe_reference(x)
            if exact is None:
                y = subject.working(x)
                moved = subject.working(tree_map(lambda v: nudge(v, EPS[dtype], generator), x))
                kappa = apart(moved, y) / EPS[dtype]
            else:
                y = exact
                moved = subject.reference(tree_map(lambda v: nudge(v, EPS["float64"], generator), x))
                kappa = max(_lost_in_single(subject, x, apart) / EPS["float32"], apart(moved, y) / EPS["float64"])
        return max(1.0, kappa), defect(subject.claim, x, y, list(elements)) if elements else 0.0

    return Rounding(dtype, measure)


def _lost_in_single(subject: Subject, x: Tree, apart: Callable[[Tree, Tree], float]) -> float:
    """P_32; nothing where the layer refuses float32, because it was made for float64: then C says what can be said."""
    try:
        single = subject.single(x)
    except UsageError:
        raise
    except Exception:  # in ways of the library's own
        return 0.0
    return apart(single, subject.reference(subject.through(x, torch.float32)))


@dataclass(frozen=True)
class ResolutionErrors:
    """Errors [element, sample] at one resolution, with what the action and an unconstrained layer do there."""

    size: int
    errors: NDArray[np.float64]
    floor: float
    control: float
    #: Points on an axis of the output, where that is a grid.
    output: int = 0

    def summary(self) -> Resolution:
        """The row of the report."""
        return Resolution(size=self.size, error=float(self.errors.max(1).max()), floor=self.floor, control=self.control)

    @property
    def spacing(self) -> float:
        """Grid spacing, half the box = 1."""
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
    """Verdict from errors over resolutions: does the interval of the extrapolated limit contain zero?

    With spacings in one ratio, e = L + c h^q gives L = (e1 e3 - e2^2) / (e1 + e3 - 2 e2) (Aitken); the first order
    gives L = e3 - (e2 - e3) / (ratio - 1), and so does a lower one, ratio^q, that the claim declares. BROKEN needs both
    to be positive beyond their standard errors over samples, and an error that rounding does not explain.
    """
    # An element's error for each sample is its own sequence; the worst element decides.
    if not all(np.isfinite(t.errors).all() for t in table):
        reason = Reason(code="NONFINITE", message="the output has NaN or infinite values where the input is finite.")
        return Verdict.BROKEN, reason, None, None
    worst = int(table[-1].errors.mean(1).argmax())
    series = np.stack([t.errors[worst] for t in table])
    finest = float(series[-1].max())
    if contract.ceiling is not None:
        good = finest <= contract.ceiling
        text = f"error {finest:.3g} at the finest grid, declared ceiling {contract.ceiling:.3g}"
        return (Verdict.APPROXIMATE if good else Verdict.BROKEN), Reason(code="CEILING", message=text), None, None
    if len(table) < 3:
        text = "one resolution cannot tell discretisation from a fault: give three factors, or declare a ceiling."
        return Verdict.AMBIGUOUS, Reason(code="SINGLE_RESOLUTION", message=text), None, None
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
        fault = Reason(code="LIMIT", message=text)
    elif contract.order is not None and order < contract.order:
        text = f"{rates}: they fall like h^{order:.2f}, the claim declares h^{contract.order:g}."
        fault = Reason(code="ORDER", message=text)
    if fault is None:
        text = f"{rates}: they fall like h^{order:.2f}."
        return Verdict.APPROXIMATE, Reason(code="CONVERGES", message=text), limit, order
    verdict, reason = rounding.verdict(finest) or (Verdict.BROKEN, fault)
    return verdict, reason, limit, order


def _limit(series: NDArray[np.float64], ratio: float) -> tuple[float, float]:
    """Interval of the limit of fine grids: the hull of both extrapolations, each with its jackknife standard error."""
    count = series.shape[1]
    limits = _extrapolations(series, ratio)
    without = np.stack([_extrapolations(np.delete(series, i, 1), ratio) for i in range(count)])
    error = STUDENT * np.sqrt((count - 1) / count * ((without - without.mean(0)) ** 2).sum(0))
    return float((limits - error).min()), float(max((limits + error).max(), 0))


def _extrapolations(series: NDArray[np.float64], ratio: float) -> NDArray[np.float64]:
    """Limits of the mean errors e1, e2, e3: by Aitken, and by the slowest order that a sound layer shows.

    Aitken alone is too sure of itself where two orders mix (e = c h^2 + d h^3 falls ever more slowly, as if to a
    small positive limit); the first order alone would take a small fault for slow convergence.
    """
    e1, e2, e3 = series.mean(1)
    bend = e1 + e3 - 2 * e2
    # Concave or straight decay has no positive limit; growth has at least the last value as its limit.
    decay = (e1 * e3 - e2**2) / bend if bend > 0 else -e3
    aitken = decay if e1 > e2 > e3 else e3
    return np.array([aitken, e3 - (e2 - e3) / (ratio - 1)])


def _order(pair: NDArray[np.float64], refinement: float) -> float:
    coarse, fine = pair.mean(1)
    if fine == 0:
        return math.inf
    return float(math.log(coarse / fine) / math.log(refinement)) if coarse > 0 else -math.inf
