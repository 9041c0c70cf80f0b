"""What a run gave, counted as it goes: the results themselves lie in the record, and nobody holds them all."""

from __future__ import annotations

from array import array
from collections.abc import Iterator

from ..verdict.result import CheckResult, Verdict

#: So few checks are all shown in full, those that hold and those that deviate as declared too: a screen holds them.
FEW = 3


class Tally:
    """Counts of a run, and where in its record the failures are."""

    def __init__(self) -> None:
        self.checks = 0
        self.counts: dict[str, int] = {}
        self.failing = 0
        self.warned = 0
        self.declared = 0
        self.seconds_in_layers = 0.0
        #: Position in the plan and offset in the record of each failure, flat: 16 bytes for each.
        self._failures = array("q")
        #: The same of the first checks, whatever they gave.
        self._first = array("q")

    def add(self, result: CheckResult, position: int = 0, offset: int = -1) -> None:
        """Count one result.

        Args:
            result: the result.
            position: of its check in the plan.
            offset: of its line in the record; negative: it is in none.
        """
        label = result.label
        self.checks += 1
        self.counts[result.verdict] = self.counts.get(result.verdict, 0) + 1
        self.failing += result.fails
        self.warned += label == "WARN"
        self.declared += label == "EXPECTED"
        self.seconds_in_layers += result.seconds_in_layer
        if result.fails and offset >= 0:
            self._failures.extend((position, offset))
        if self.checks <= FEW and offset >= 0:
            self._first.extend((position, offset))

    def failures(self) -> Iterator[int]:
        """Offsets of the failures' lines in the record, in the order of the plan."""
        return _offsets(self._failures)

    def shown(self) -> Iterator[int]:
        """Offsets of the lines to show in full: the failures; every check where there are few."""
        return _offsets(self._first) if self.checks <= FEW else self.failures()

    def exit_code(self, *, strict: bool = False) -> int:
        """0 all hold or deviate as declared; 1 a claim fails or a declared deviation is gone; 3 nothing was checked."""
        if self.counts.get(Verdict.SKIPPED, 0) == self.checks:
            return 3
        return 1 if self.failing or (strict and self.warned) else 0


def _offsets(flat: array[int]) -> Iterator[int]:
    pairs = sorted(zip(flat[::2], flat[1::2], strict=True))
    return (offset for _, offset in pairs)
