"""Difference quotients that choose their own steps: derivatives from values alone, each with its own error.

    d(h) = (f(h) - f(-h)) / 2h = f'(0) + c1 h^2 + c2 h^4 + ...

The steps halve, and Neville's scheme extrapolates the quotients to h = 0. The error of an entry is its distance from
its neighbours plus the amplified rounding. This estimate means something only where the quotients converge, so an entry
is believed only where the distance of successive quotients shrinks by about 4, and so does f(h) + f(-h) - 2 f(0), or
where rounding explains them. At a kink the latter shrinks by 2: there is no slope.

A function may have structure that is finer than a step: a stiff potential has a ripple, and a network has kinks. The
quotients at coarse steps can then converge to the slope of the smooth part. So the steps go on until a believed slope
is accurate enough and agrees with the claimed one. If a slope from finer steps contradicts one from coarser steps, and
the next steps confirm it, the finer one counts: it has seen the structure. If none does, the most accurate slope
counts, whatever was claimed.

Source: Ridders, Advances in Engineering Software 4 (1982).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ..harness.precisions import EPS
from ..harness.verdict.decide import SAFETY

#: Quotients whose distance is at most this many times their rounding have converged as far as rounding allows: each of
#: the two is off by its own rounding, and the measured rounding is one draw.
WITHIN_ROUNDING = 4.0
#: Distances shrink at least by this where they shrink by about 4: 2^1.5, halfway to the 2 of a kink.
LEAST_SHRINKING = 2.0**1.5
#: Rows that must confirm a slope which contradicts the one from coarser steps. Values that are rounded to a few digits
#: can give one quotient twice in a row.
CONFIRMED = 2
#: Noise counts up to 2^8 times what float32 would do, as in ``rounding``: half precision inside excuses nothing.
BEYOND = 2.0**8 * EPS["float32"] / EPS["float64"]


@dataclass(frozen=True)
class Limit:
    """Values of a limit with the error of each: infinite where nothing converged."""

    value: torch.Tensor
    error: torch.Tensor

    def agrees(self, claimed: torch.Tensor) -> torch.Tensor:
        """Where a claimed value differs from the limit by no more than S times the limit's error."""
        return self.error.isfinite() & ((claimed - self.value).abs() <= SAFETY * self.error)

    def contradicts(self, other: Limit) -> torch.Tensor:
        """Where two limits differ by more than both errors allow."""
        both = self.error.isfinite() & other.error.isfinite()
        return both & ~((other.value - self.value).abs() <= SAFETY * (self.error + other.error))

    def replaced(self, where: torch.Tensor, other: Limit) -> Limit:
        """This limit, and the other one in some places."""
        return Limit(torch.where(where, other.value, self.value), torch.where(where, other.error, self.error))

    def refined(self, finer: Limit) -> Limit:
        """Of each two limits the more accurate one; the one from finer steps where the two contradict each other."""
        return self.replaced(self.contradicts(finer) | (finer.error < self.error), finer)


class Scheme:
    """Neville's scheme for values at h, h/2, h/4, ... with errors c1 h^p + c2 h^2p + ..., one row for each step.

    Args:
        power: p, 2 for central differences, 1 for one-sided ones.
        strict: believe only rows whose values approach each other as the power says.

    Example:
        >>> scheme = Scheme(2)
        >>> for s in (2.0**-k for k in range(4)):
        ...     scheme.add(torch.tensor([3 + 2 * s**2 - s**4]).double(), torch.zeros(1))
        >>> scheme.limit.value.item(), scheme.limit.error.item()
        (3.0, 0.0)
    """

    def __init__(self, power: int, *, strict: bool = True) -> None:
        self.power, self.strict = power, strict
        self._row: list[torch.Tensor] = []
        self._noise: list[torch.Tensor] = []
        self._last: torch.Tensor | None = None
        self._limit: Limit | None = None
        #: A limit that contradicts the one found before, and the number of rows that have confirmed it.
        self._other: Limit | None = None
        self._confirmed: torch.Tensor | None = None

    @property
    def limit(self) -> Limit:
        """The believed entry with the least error; an infinite error where there is none."""
        assert self._limit is not None
        return self._limit

    def add(self, value: torch.Tensor, rounding: torch.Tensor, smooth: torch.Tensor | None = None) -> None:
        """Add the value at the next step, its rounding error, and where the step is small enough to be believed."""
        if self._limit is None:
            self._row, self._noise = [value], [rounding]
            self._limit = self._other = Limit(value, torch.full_like(value, torch.inf))
            self._confirmed = torch.zeros_like(value)
            return
        believed = self._converges(value, rounding) if self.strict else torch.ones_like(value, dtype=torch.bool)
        believed = believed if smooth is None else believed & smooth
        row, noise = [value], [rounding]
        best = Limit(value, torch.full_like(value, torch.inf))
        for j in range(1, len(self._row) + 1):
            factor = 2.0 ** (self.power * j)
            row.append((factor * row[j - 1] - self._row[j - 1]) / (factor - 1))
            noise.append((factor * noise[j - 1] + self._noise[j - 1]) / (factor - 1))
            error = torch.maximum((row[j] - row[j - 1]).abs(), (row[j] - self._row[j - 1]).abs()) + noise[j]
            error = torch.where(believed & error.isfinite(), error, torch.inf)
            best = best.replaced(error < best.error, Limit(row[j], error))
        self._row, self._noise = row, noise
        self._take(best)

    def _take(self, best: Limit) -> None:
        """The row's best entry, unless it contradicts the limit and nothing has confirmed it yet."""
        assert self._limit is not None
        assert self._other is not None
        assert self._confirmed is not None
        contradicts = self._limit.contradicts(best)
        confirms = contradicts & self._other.error.isfinite() & ~self._other.contradicts(best)
        self._confirmed = torch.where(confirms, self._confirmed + 1, 0.0)
        other = self._other.replaced(~confirms | (best.error < self._other.error), best)
        self._other = other.replaced(~contradicts, Limit(best.value, torch.full_like(best.error, torch.inf)))
        self._limit = self._limit.replaced(~contradicts & (best.error < self._limit.error), best)
        self._limit = self._limit.replaced(contradicts & (self._confirmed >= CONFIRMED), self._other)

    def _converges(self, value: torch.Tensor, rounding: torch.Tensor) -> torch.Tensor:
        """Whether this value is nearer to the last one than that was to its own predecessor, or as near as rounding."""
        distance, last = (value - self._row[0]).abs(), self._last
        explained = distance <= WITHIN_ROUNDING * (rounding + self._noise[0])
        self._last = distance
        if last is None:
            return torch.zeros_like(explained)
        least: float = LEAST_SHRINKING ** (self.power / 2)
        return explained | (least * distance <= last)


def extrapolate(values: Sequence[torch.Tensor], rounding: Sequence[torch.Tensor], power: int) -> Limit:
    """The limit at h = 0 of values at h, h/2, h/4, ..., each with its rounding error; ``power`` as for ``Scheme``."""
    scheme = Scheme(power, strict=False)
    for value, error in zip(values, rounding, strict=True):
        scheme.add(value, error)
    return scheme.limit


def derivative(
    function: Callable[[torch.Tensor], torch.Tensor],
    ladders: Sequence[Sequence[torch.Tensor]],
    noise: torch.Tensor,
    *,
    claimed: torch.Tensor,
    enough: torch.Tensor,
) -> Limit:
    """The slopes of functions of one variable at 0, by central differences.

    Args:
        function: values [n] at the points t [n].
        ladders: each a sequence of steps [n] that halve, the largest first. A later ladder is tried only where no
            earlier one was accurate enough.
        noise: the rounding error of each value.
        claimed: the slopes as claimed. They decide only how many steps are tried.
        enough: a slope with at most this error needs no further step, if it agrees with the claimed one.

    Returns:
        The slopes with their errors: infinite where no quotients converge.

    Example:
        >>> steps = [torch.tensor([2.0**-k]).double() for k in range(12)]
        >>> slope = torch.ones(1).double()
        >>> found = derivative(torch.sin, [steps], 1e-16 * slope, claimed=slope, enough=1e-9 * slope)
        >>> abs(found.value.item() - 1) <= found.error.item() < 1e-9
        True
    """
    known: Limit | None = None
    smallest: torch.Tensor | None = None
    here = function(torch.zeros_like(noise))
    for steps in ladders:
        scheme, moved = Scheme(2), torch.zeros_like(noise, dtype=torch.bool)
        bent = torch.zeros_like(noise)
        for h in steps:
            ends = function(h), function(-h)
            difference = ends[0] - ends[1]
            eps = torch.maximum(noise, EPS["float64"] * torch.maximum(ends[0].abs(), ends[1].abs()))
            # Equal values at both ends after unequal ones: the step is below what the values resolve. They say nothing
            # against a claimed slope; of a function that is constant between jumps they confirm the claimed zero.
            rounding = torch.where(moved & (difference == 0) & (claimed != 0), torch.inf, eps / h)
            moved = moved | (difference != 0)
            last, bent = bent, (ends[0] + ends[1] - 2 * here).abs()
            smooth = (LEAST_SHRINKING * bent <= last) | (bent <= WITHIN_ROUNDING * 4 * eps)
            scheme.add(difference / (2 * h), rounding, smooth)
            if bool(((scheme.limit.error <= enough) & scheme.limit.agrees(claimed)).all()):
                return scheme.limit
        if known is None:
            known = scheme.limit
        elif smallest is not None and bool((steps[-1] < smallest).all()):
            known = known.refined(scheme.limit)
        else:
            known = scheme.limit.refined(known)
        smallest = steps[-1] if smallest is None else torch.minimum(smallest, steps[-1])
        if bool(((known.error <= enough) & known.agrees(claimed)).all()):
            return known
    assert known is not None
    return known
