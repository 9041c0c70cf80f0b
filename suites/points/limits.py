"""Limits of finite differences, each with its own error, and the verdict on a comparison of two limits.

Derivatives and one-sided values come only from the outputs of a model, never from its own differentiation. The bound is
S times the error that ``quotients`` gives with each limit.
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
from ...harness.precisions import EPS, LOST_BITS
from ...harness.trees import Tree, leaves, tree_map
from ...harness.verdict.decide import LEAST_POWER
from ...harness.verdict.result import CheckResult, Code, Reason, Verdict
from ..quotients import BEYOND
from ..rounding import nudge

#: The first step, as a share of the smallest distance between points, or of the cutoff.
FIRST_STEP = 1 / 16
#: Number of one-sided steps: the smallest is 2^-11 of the cutoff, where a difference quotient in float64 still has
#: twelve digits; the scheme selects the best rows.
STEPS = 8
#: A random move of all coordinates by this share of them, for a precision of 52 bits: of ten coordinates rounded to
#: float32 inside, some come out otherwise, and the energy's curvature contributes 2^-56 of itself.
NEARBY = 28 / 52
#: Bits of the energy that may be noise, as in LOST_BITS.
QUIET = 2.0 ** LOST_BITS["float64"]
#: A scatter below this share of float32's steps is curvature.
LEAST_STEP = 2.0**-3
#: An energy that changes by this many of float32's steps is rounded otherwise.
CHANGE = 4


@dataclass(frozen=True)
class Noise:
    """The rounding error of an energy [sample].

    ``expected`` follows from the size of the energy and of its change when positions are rounded. ``seen`` is the noise
    at nearby points: the larger of the two, which a model that computes in float32 inside shows.
    """

    expected: torch.Tensor
    seen: torch.Tensor

    @property
    def lost_bits(self) -> float:
        """The bits by which the seen noise exceeds the expected one."""
        share = float((self.seen / self.expected).nan_to_num(0.0).max())
        return math.log2(share) if share > 0 else 0.0


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
        # Forces are the gradient of the energy as it is computed, with all its rounding.
        subject = Subject(claim, as_it_is=True)
        x = subject.through(claim.draw(claim.samples, wrap=wrap), torch.float32)
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

    def noise(self, path: str, positions: torch.Tensor) -> Noise:
        """The rounding error of the energy, from its own size, its slope and its scatter at two points nearby."""
        here = self.energy(path, positions)
        shift = self.eps**NEARBY
        up, scatter = self._scatter(path, positions, here, shift)
        expected = torch.maximum(self.eps * here.abs(), (up - here).abs() * self.eps / shift)
        expected = expected.nan_to_num(0.0, 0.0, 0.0).amax().expand_as(here)
        if bool((scatter > QUIET * expected).any()):
            # At a quarter of the distance curvature is 16 times smaller, and rounding is not.
            _, nearer = self._scatter(path, positions, here, shift / 4)
            scatter = nearer if float(nearer.amax()) < float(scatter.amax()) / 8 else scatter
        seen = torch.minimum(scatter.nan_to_num(0.0, 0.0).amax().expand_as(here), BEYOND * expected)
        return Noise(expected, torch.maximum(seen, expected))

    def noise_of_single(self, path: str, positions: torch.Tensor, noise: Noise) -> Noise:
        """The noise of an energy that may be rounded to float32 at its end: seen where it changes by some such steps.

        Less than LEAST_STEP of the energy counts as curvature, and leaves the noise as it is.
        """
        here = self.energy(path, positions)
        step = EPS["float32"] * here.abs().amax()
        largest, change, shift = torch.zeros_like(step), torch.zeros_like(step), EPS["float32"] / 2
        while bool(change <= CHANGE * step) and shift < FIRST_STEP / 16:
            shift *= 4
            up, scatter = self._scatter(path, positions, here, shift)
            change = (up - here).abs().nan_to_num(0.0, 0.0).amax()
            largest = torch.maximum(largest, scatter.nan_to_num(0.0, 0.0).amax())
        if not bool(largest > LEAST_STEP * step):
            return noise
        return Noise(noise.expected, torch.maximum(noise.seen, torch.minimum(largest, BEYOND * noise.expected)))

    def _scatter(
        self, path: str, positions: torch.Tensor, here: torch.Tensor, shift: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """E(x + h) and |3 E(x + h) + E(x - 3h) - 4 E(x)| / 4, in which the slope cancels."""
        up, down = (
            self.energy(path, nudge(positions, factor * shift, torch.Generator().manual_seed(self.claim.seed + 1)))
            for factor in (1, -3)
        )
        return up, ((3 * up + down) / 4 - here).abs()


#: The reason where differences give no derivative.
ROUGH = "differences of the energy do not converge as steps get smaller: is it discontinuous, or in half precision?"


def judge(error: float, bound: float, power: float) -> tuple[Verdict, Reason]:
    """The verdict on an error, its bound and its power. Numbers that are NaN decide nothing."""
    if math.isnan(error) or not math.isfinite(bound):
        return Verdict.AMBIGUOUS, Reason(code=Code.ROUGH, message=ROUGH)
    if not (error <= bound):
        return Verdict.BROKEN, Reason(code=Code.ERROR, message=f"the error {error:.2g} exceeds {bound:.2g}.")
    if not (power > 1):
        return Verdict.AMBIGUOUS, Reason(code=Code.ROUGH, message=ROUGH)
    if power < LEAST_POWER:
        message = f"the check detects only faults larger than {1 / power:.1g}: check in float64."
        return Verdict.AMBIGUOUS, Reason(code=Code.LOW_POWER, message=message)
    return Verdict.EXACT, Reason(code=Code.EXACT, message="")


def result(
    claim: Claim, name: str, verdict: Verdict, reason: Reason, error: float, bound: float, power: float
) -> CheckResult:
    """A result with its error, bound and power."""
    return describe(claim, name, verdict, reason).model_copy(
        update={"samples": claim.samples, "error": error, "bound": bound, "power": power}
    )


def not_claimed(claim: Claim, name: str, message: str) -> CheckResult:
    """A SKIPPED result: the fields do not declare the property."""
    return describe(claim, name, Verdict.SKIPPED, Reason(code=Code.NOT_CLAIMED, message=message))
