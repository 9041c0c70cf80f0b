"""Counts of the results of a run. The results themselves are in the record, and memory never holds all of them."""

from __future__ import annotations

from array import array
from collections.abc import Iterator

from ..verdict.result import CheckResult, Verdict
from .lines import EndLine

#: A run of at most this many checks shows all of them in full, passing and expected ones too: they fit on a screen.
FEW = 3


class Tally:
    """Counts of a run, and the places of its failures in the record."""

    def __init__(self) -> None:
        self.checks = 0
        self.counts: dict[str, int] = {}
        self.failing = 0
        self.warned = 0
        self.declared = 0
        self.seconds_in_layers = self.seconds_building = 0.0
        #: Position in the plan and offset in the record of each failure, one after the other: 16 bytes a failure.
        self._failures = array("q")
        #: The same numbers for the first checks, whatever their verdicts.
        self._first = array("q")

    def add(self, result: CheckResult, position: int = 0, offset: int = -1) -> None:
        """Count one result.

        Args:
            result: the result.
            position: position of the check in the plan.
            offset: offset of the result's line in the record; negative if the result is in no record.
        """
        label = result.label
        self.checks += 1
        self.counts[result.verdict] = self.counts.get(result.verdict, 0) + 1
        self.failing += result.fails
        self.warned += label == "WARN"
        self.declared += label == "EXPECTED"
        self.seconds_in_layers += result.seconds_in_layer
        self.seconds_building += result.seconds_building
        if result.fails and offset >= 0:
            self._failures.extend((position, offset))
        if self.checks <= FEW and offset >= 0:
            self._first.extend((position, offset))

    def failures(self) -> Iterator[int]:
        """Offsets of the failures' lines in the record, in the order of the plan."""
        return _offsets(self._failures)

    def shown(self) -> Iterator[int]:
        """Offsets of the lines to show in full: every check of a run of at most FEW checks, else the failures."""
        return _offsets(self._first) if self.checks <= FEW else self.failures()

    def end(self, seconds: float) -> EndLine:
        """The last line of a record with these counts, of a run of this many seconds."""
        return EndLine(
            seconds=seconds,
            seconds_in_layers=self.seconds_in_layers,
            seconds_building=self.seconds_building,
            counts=self.counts,
        )

    def exit_code(self, *, strict: bool = False) -> int:
        """0 all hold or deviate as declared; 1 a claim fails or a declared deviation is gone; 3 nothing was checked."""
        if self.counts.get(Verdict.SKIPPED, 0) == self.checks:
            return 3
        return 1 if self.failing or (strict and self.warned) else 0


def _offsets(flat: array[int]) -> Iterator[int]:
    pairs = sorted(zip(flat[::2], flat[1::2], strict=True))
    return (offset for _, offset in pairs)
