"""The table of the blind set off the grid: every layer, what it is, and what the checks say of it.

Usage, in tests/meta: python -m zoo.off_grid_table [part of a name ...]
"""

import sys
import time
import warnings
from collections import Counter
from dataclasses import dataclass

import torch
from equiharness.harness.verdict.result import CheckResult, Verdict, worst
from equiharness.suites.check import run_property

from .off_grid_layers import LAYERS, Layer

#: What is asked of each layer, as ``check`` asks it.
PROPERTIES = ("equivariance", "off_grid")
#: Verdicts that let a layer pass.
PASSES = (Verdict.EXACT, Verdict.APPROXIMATE, Verdict.IMPRECISE)


@dataclass(frozen=True)
class Row:
    """A layer with the answer to it."""

    layer: Layer
    result: CheckResult
    off_grid: CheckResult
    seconds: float

    @property
    def passed(self):
        return self.result.verdict in PASSES

    @property
    def code(self):
        return f"{self.result.verdict}({self.result.reason.code})"

    def __str__(self):
        errors = " ".join(f"{row.error:.2g}" for row in self.off_grid.wavelengths)
        share = "" if self.off_grid.share is None else f"{self.off_grid.share:.2g}"
        found = f"{self.result.property}: {self.code}"
        return f"{self.layer.truth:7s}{self.layer.name:72s}{found:42s}{share:9s}{errors:28s}{self.seconds:.2f} s"


def judged(layer: Layer) -> Row:
    """The worst answer to a layer, in float64."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        claim = layer.claim(torch.float64)
        start = time.process_time()
        results = [run_property(name, claim).result for name in PROPERTIES]
    return Row(layer, worst(results), results[-1], time.process_time() - start)


def counts(rows):
    """How many layers of each truth were accused, unsure or passed, and how many were unsure without a PLATEAU."""
    found = Counter()
    for row in rows:
        broken = row.result.verdict is Verdict.BROKEN
        kind = "accused" if broken else "passed" if row.passed else "unsure"
        found[row.layer.truth, kind] += 1
        if kind == "unsure" and row.result.reason.code != "PLATEAU":
            found[row.layer.truth, "unsure without a plateau"] += 1
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    chosen = [layer for layer in LAYERS if not sys.argv[1:] or any(text in layer.name for text in sys.argv[1:])]
    rows = []
    for layer in chosen:
        rows.append(judged(layer))
        print(rows[-1], flush=True)
    for (truth, kind), count in sorted(counts(rows).items()):
        print(f"{truth} {kind}: {count}")
    middle = sorted(row.seconds for row in rows)[len(rows) // 2]
    print(f"{len(rows)} layers; seconds of processor time of a layer: {middle:.2f} in the middle")
