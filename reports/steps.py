"""Change points of a series: runs at which its level changed permanently."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

#: Probability of a false change point in a series without a change. The largest excursion of the cumulated ranks is
#: that of a Brownian bridge: P(sup > b) = 2 exp(-2 b^2) for small probabilities (Kolmogorov), so
#: b = sqrt(log(2 / P) / 2).
CHANCE = 1e-3
LIMIT = math.sqrt(math.log(2 / CHANCE) / 2)
#: Smaller changes of a level are ignored: a new process alone can cause them.
FACTOR = 1.06
#: In fewer runs no step can exceed LIMIT: if all ranks are sorted, the excursion is sqrt(3 n) / 4.
LEAST = math.ceil((4 * LIMIT) ** 2 / 3)


@dataclass(frozen=True)
class Step:
    """The level before and after the run at ``index``."""

    index: int
    before: float
    after: float

    @property
    def factor(self) -> float:
        """The level after / the level before."""
        return self.after / self.before if self.before else math.inf


def steps(values: Sequence[float]) -> list[Step]:
    """The changes of a series' level, found from ranks, so that single outliers have no effect.

    Splits the series at the largest excursion of the cumulated, centred ranks while this excursion is significant
    (Pettitt 1979; binary segmentation). Steps below FACTOR are left out. A split needs at least LEAST runs.

    Example:
        >>> [s.index for s in steps([1.0, 1.1] * 20 + [2.0, 2.1] * 20)]
        [40]
        >>> steps([1.0, 1.1] * 40)
        []
    """
    x = np.asarray(values, dtype=np.float64)
    cuts = sorted(_cuts(x, 0))
    found = []
    edges = [0, *cuts, len(x)]
    for i, cut in enumerate(cuts):
        before, after = float(np.median(x[edges[i] : cut])), float(np.median(x[cut : edges[i + 2]]))
        low, high = sorted((before, after))
        if high > FACTOR * low:
            found.append(Step(cut, before, after))
    return found


def _cuts(x: Values, start: int) -> list[int]:
    n = len(x)
    if n < LEAST:
        return []
    centred = _ranks(x)
    size = math.sqrt(float(np.mean(centred**2)))
    if size == 0:
        return []
    excursion = np.abs(np.cumsum(centred)[:-1]) / (size * math.sqrt(n))
    cut = int(np.argmax(excursion)) + 1
    if excursion[cut - 1] <= LIMIT:
        return []
    return [*_cuts(x[:cut], start), start + cut, *_cuts(x[cut:], start + cut)]


def _ranks(x: Values) -> Values:
    """The mean ranks, centred."""
    _, place, counts = np.unique(x, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mean = last - (counts - 1) / 2
    centred: Values = mean[place] - (len(x) + 1) / 2
    return centred
