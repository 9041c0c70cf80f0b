"""Did it get worse? Paired ratios with bootstrap intervals: SAME, BETTER, WORSE or AMBIGUOUS."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from ..errors import MissingDependencyError, UsageError

#: Smallest factor that counts as a change. One-thread medians of one unchanged layer over 24 processes lay between 0.93
#: and 1.06: a new process alone changes the times by that much, without any change of the code.
FACTOR = 1.06
#: Confidence of the interval. A comparison is evaluated after every pair from LEAST to MOST, 25 times. So for an
#: unchanged layer at most 25 * 0.1% of comparisons miss, and a false alarm also needs a median beyond the factor.
CONFIDENCE = 0.999
#: With fewer pairs it is too likely that all of them lie on one side of the true ratio: 2 (1/2)^8 < 1%.
LEAST = 8
MOST = 32
#: Five resamples lie beyond either end of the interval.
RESAMPLES = 9_999


class Change(StrEnum):
    """The outcome of one comparison."""

    SAME = "SAME"
    BETTER = "BETTER"
    WORSE = "WORSE"
    AMBIGUOUS = "AMBIGUOUS"


@dataclass(frozen=True)
class Ratio:
    """The ratio new / old with its interval; a ratio below 1 is better."""

    change: Change
    value: float
    low: float
    high: float
    pairs: int

    def __str__(self) -> str:
        return f"{self.change}: {self.value:.3f} [{self.low:.3f}, {self.high:.3f}] over {self.pairs} pairs"


def paired(old: Sequence[float], new: Sequence[float], *, higher_is_better: bool = False) -> Ratio:
    """Compare samples that were taken in pairs.

    WORSE: the median ratio exceeds FACTOR and its interval excludes 1. BETTER: the median ratio is below 1 / FACTOR and
    its interval excludes 1. SAME: the whole interval lies within the factor. AMBIGUOUS: anything else, and fewer than
    LEAST pairs that differ.

    Args:
        old: positive samples.
        new: the partners of these samples, in the same order.
        higher_is_better: for rates: ratios are then inverted.

    Raises:
        UsageError: the samples do not form pairs.
        MissingDependencyError: scipy is not installed.

    Example:
        >>> print(paired([1.0] * 8, [1.2] * 8))
        WORSE: 1.200 [1.200, 1.200] over 8 pairs
    """
    if len(old) != len(new) or not old:
        raise UsageError(f"{len(old)} and {len(new)} samples form no pairs: compare records of one interleaved run.")
    if min(*old, *new) <= 0:
        return _with_zeros(old, new)
    logs = [math.log(b / a) * (-1 if higher_is_better else 1) for a, b in zip(old, new, strict=True)]
    low, high = _interval(logs)
    value = statistics.median(logs)
    return Ratio(_change(value, low, high, len(logs)), math.exp(value), math.exp(low), math.exp(high), len(logs))


def _with_zeros(old: Sequence[float], new: Sequence[float]) -> Ratio:
    """The ratio where a sample is zero (memory of a view): equal medians are SAME, a larger new median is WORSE."""
    a, b = statistics.median(old), statistics.median(new)
    change = Change.SAME if a == b else Change.WORSE if b > a else Change.BETTER
    ratio = 1.0 if a == b else math.inf if a == 0 else b / a
    return Ratio(change, ratio, ratio, ratio, len(old))


def _change(value: float, low: float, high: float, pairs: int) -> Change:
    limit = math.log(FACTOR)
    if pairs < LEAST and low != high:
        return Change.AMBIGUOUS
    if value > limit and low > 0:
        return Change.WORSE
    if value < -limit and high < 0:
        return Change.BETTER
    return Change.SAME if -limit <= low and high <= limit else Change.AMBIGUOUS


def _interval(logs: Sequence[float]) -> tuple[float, float]:
    """Percentile bootstrap of the median."""
    if min(logs) == max(logs):
        return logs[0], logs[0]
    try:
        import numpy as np
        from scipy import stats
    except ImportError as error:
        raise MissingDependencyError(
            "Intervals of ratios need scipy. Install it: pip install 'equiharness[bench]'"
        ) from error
    found = stats.bootstrap(
        (np.asarray(logs),),
        np.median,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)
