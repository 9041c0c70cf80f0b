"""Limits of finite differences, each with its own error, and the verdict on a comparison of two limits.

Derivatives and one-sided values come only from the outputs of a model, never from its own differentiation. The error of
a limit is the difference of neighbouring extrapolations plus the amplified rounding; the bound is S times the error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from ...harness.claim.claim import Claim
from ...harness.claim.evaluation import Subject
from ...harness.claim.outcome import describe
from ...harness.errors import UsageError
from ...harness.fields.atoms import positions_of
from ...harness.precisions import EPS
from ...harness.trees import Tree, leaves, tree_map
from ...harness.verdict.decide import LEAST_POWER
from ...harness.verdict.result import CheckResult, Code, Reason, Verdict
from ..rounding import SAMPLES, perturbed

#: Number of steps h, h/2, h/4, ...: the extrapolation of a central difference has order h^16, one-sided h^8.
STEPS = 8
#: The first step, as a share of the smallest distance between points, or of the cutoff. The smallest step is then 2^-11
#: of that length, where a difference quotient in float64 still has twelve digits; the scheme selects the best rows.
FIRST_STEP = 1 / 16


@dataclass(frozen=True)
class Limit:
    """Values of a limit with the error of each."""

    value: torch.Tensor
    error: torch.Tensor


def extrapolate(values: list[torch.Tensor], rounding: list[torch.Tensor], power: int) -> Limit:
    """The limit at h = 0 of values at h, h/2, h/4, ... with errors c1 h^p + c2 h^2p + ...

    Args:
        values: one tensor for each step, the largest step first.
        rounding: the rounding error of each value.
        power: p, 2 for central differences, 1 for one-sided ones.

    Returns:
        For each element the entry of the Neville scheme with the least error: the difference from its neighbours plus
        the amplified rounding.

    Source: Ridders, Advances in Engineering Software 4 (1982).

    Example:
        >>> h = [torch.tensor([2.0**-k], dtype=torch.float64) for k in range(4)]
        >>> limit = extrapolate([3 + 2 * s**2 - s**4 for s in h], [0 * s for s in h], 2)
        >>> limit.value.item()
        3.0
    """
    best, least = values[0], torch.full_like(values[0], torch.inf)
    row, noise = [values[0]], [rounding[0]]
    for i in range(1, len(values)):
        new, amplified = [values[i]], [rounding[i]]
        for j in range(1, i + 1):
            factor = 2.0 ** (power * j)
            new.append((factor * new[j - 1] - row[j - 1]) / (factor - 1))
            amplified.append((factor * amplified[j - 1] + noise[j - 1]) / (factor - 1))
            error = torch.maximum((new[j] - new[j - 1]).abs(), (new[j] - row[j - 1]).abs()) + amplified[j]
            better = error < least
            best, least = torch.where(better, new[j], best), torch.where(better, error, least)
        row, noise = new, amplified
    return Limit(best, least)


@dataclass(frozen=True)
class Model:
    """A claim's function as a function of positions, in float64 or, if that is impossible, in its own precision."""

    claim: Claim
    subject: Subject
    x: Tree
    path: str
    eps: float

    @classmethod
    def of(cls, claim: Claim, *, wrap: bool = True) -> Model:
        """The model of a claim with drawn inputs; ``wrap`` moves the points into their cell.

        Raises:
            UsageError: the source does not have exactly one leaf of positions.
        """
        places = positions_of(claim.source)
        if len(places) != 1:
            raise UsageError(
                "Forces and cutoffs need exactly one leaf of positions in the source: eh.Positions(n, group)."
            )
        subject = Subject(claim)
        x = subject.through(claim.draw(SAMPLES, wrap=wrap), torch.float32)
        with subject.guarded():
            subject.working(x)
            exact = subject.probe_reference(x) is not None
        dtype = "float64" if exact else str(claim.dtype).removeprefix("torch.")
        return cls(claim, subject, x, places[0][0], EPS[dtype])

    @property
    def positions(self) -> torch.Tensor:
        """The positions [sample, n, d]."""
        found: torch.Tensor = dict(leaves(self.x))[self.path]
        return found

    def at(self, positions: torch.Tensor) -> dict[str, torch.Tensor]:
        """The outputs by path, for points at these positions."""
        where = iter([path for path, _ in leaves(self.claim.source)])
        x = tree_map(lambda v: positions if next(where) == self.path else v, self.x)
        y = self.subject.reference(x) if self.subject.has_reference else self.subject.working(x)
        return dict(leaves(y))

    def energy(self, path: str, positions: torch.Tensor) -> torch.Tensor:
        """The energy [sample]."""
        return self.at(positions)[path].reshape(len(positions))

    def noise(self, path: str, positions: torch.Tensor) -> torch.Tensor:
        """The rounding error of the energy [sample]: from its own size, and from rounding of the positions."""
        here = self.energy(path, positions)
        found = self.eps * here.abs()
        for moved in perturbed(positions, self.claim.seed, self.eps):
            found = torch.maximum(found, (self.energy(path, moved) - here).abs())
        return found


def judge(error: float, bound: float, power: float) -> tuple[Verdict, Reason]:
    """The verdict on an error, its bound and its power: finite first, then the error, then the power."""
    if not (math.isfinite(error) and math.isfinite(bound)):
        message = "the energy or its differences are NaN or infinite where the positions are finite."
        return Verdict.BROKEN, Reason(code=Code.NONFINITE, message=message)
    if not (error <= bound):
        return Verdict.BROKEN, Reason(code=Code.ERROR, message=f"the error {error:.2g} exceeds {bound:.2g}.")
    if not (power > 1):
        message = (
            "differences of the energy do not converge as steps get smaller: is it discontinuous, or in half precision?"
        )
        return Verdict.AMBIGUOUS, Reason(code=Code.ROUGH, message=message)
    if power < LEAST_POWER:
        message = f"the check detects only faults larger than {1 / power:.1g}: check in float64."
        return Verdict.AMBIGUOUS, Reason(code=Code.LOW_POWER, message=message)
    return Verdict.EXACT, Reason(code=Code.EXACT, message="")


def result(
    claim: Claim, name: str, verdict: Verdict, reason: Reason, error: float, bound: float, power: float
) -> CheckResult:
    """A result with its error, bound and power."""
    return describe(claim, name, verdict, reason).model_copy(
        update={"samples": SAMPLES, "error": error, "bound": bound, "power": power}
    )


def not_claimed(claim: Claim, name: str, message: str) -> CheckResult:
    """A SKIPPED result: the fields do not declare the property."""
    return describe(claim, name, Verdict.SKIPPED, Reason(code=Code.NOT_CLAIMED, message=message))
