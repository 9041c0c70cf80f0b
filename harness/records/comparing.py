"""Comparison of two records: which checks and measurements changed, got worse or vanished."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..precisions import EPS
from ..verdict.decide import SAFETY
from ..verdict.result import CheckResult
from .baseline import GROWTH, Entry, compare, entry_of, key_of, worst_by_key
from .lines import Measurement, Run
from .machine import fingerprint
from .ratios import Change, paired

#: Measured errors that are compared without pairs. An error below SAFETY eps counts as rounding.
ERRORS = ("error against float64", "equivariance error")


@dataclass(frozen=True)
class Line:
    """The comparison of one check or measurement that is in one record or in both."""

    change: Change
    what: str
    cause: str

    def data(self) -> dict[str, str]:
        """As JSON data."""
        return {"change": str(self.change), "what": self.what, "cause": self.cause}


@dataclass(frozen=True)
class Changes:
    """The comparison of two records, with notes on what could not be compared."""

    lines: tuple[Line, ...]
    notes: tuple[str, ...]

    @property
    def worse(self) -> bool:
        """Whether anything got worse beyond doubt."""
        return any(line.change is Change.WORSE for line in self.lines)

    def counts(self) -> dict[str, int]:
        """Number of lines of each outcome."""
        return {str(change): sum(line.change is change for line in self.lines) for change in Change}

    def data(self) -> dict[str, Any]:
        """As JSON data."""
        return {"counts": self.counts(), "notes": list(self.notes), "lines": [line.data() for line in self.lines]}


def changes(old: Run, new: Run) -> Changes:
    """Compare two runs: verdicts, error / bound, checks that vanished; time and memory where pairs exist.

    Pairs exist where the samples of both records come from one interleaved run (``Measurement.pair``). Times without
    pairs depend more on the machine than on the code and get no verdict.
    """
    notes = list(_cut(old, "OLD")) + list(_cut(new, "NEW"))
    lines = [*_checks(old, new), *_measurements(old.measurements, new.measurements)]
    lines += _errors(old.measurements, new.measurements)
    unpaired = _unpaired(old, new)
    if unpaired:
        same = fingerprint(old.header.environment) == fingerprint(new.header.environment)
        why = "were not interleaved" if same else "come from different machines and were not interleaved"
        notes.append(
            f"{unpaired} measurements {why}: they get no verdict. Use `equiharness bench --against REV` for a verdict."
        )
    return Changes(tuple(lines), tuple(notes))


def _cut(run: Run, side: str) -> Iterable[str]:
    if run.truncated:
        yield f"{side}: {run.truncated}"
    elif run.end is None:
        yield f"{side} was interrupted: checks that it lacks may still exist."


def _checks(old: Run, new: Run) -> Iterable[Line]:
    """One line for each check of either record."""
    before, after = (worst_by_key((key_of(r), r) for r in run.checks) for run in (old, new))
    worse, better = _causes(before, after), _causes(after, before)
    for key, result in before.items():
        if key in worse:
            # An interrupted run may not have reached a check: such a check is not lost.
            unreached = key not in after and new.end is None
            yield Line(Change.AMBIGUOUS if unreached else Change.WORSE, key, worse[key])
        elif key not in after:
            if entry_of(key, result) is not None:
                yield Line(Change.AMBIGUOUS, key, "only in OLD.")
        elif key in better:
            yield Line(Change.BETTER, key, _verdicts(result, after[key]))
        else:
            yield Line(Change.SAME, key, _ratios(result, after[key]))
    for key, result in after.items():
        if key not in before:
            yield Line(Change.WORSE if result.fails else Change.SAME, key, f"new: {result.verdict}")


def _causes(accepted: Mapping[str, CheckResult], found: Mapping[str, CheckResult]) -> dict[str, str]:
    """Causes, by key, for the checks that are worse in ``found`` than in ``accepted`` by the rules of baselines."""
    entries: dict[str, Entry] = {}
    for key, result in accepted.items():
        entry = entry_of(key, result)
        if entry is not None:
            entries[key] = entry
    return {line.check: line.cause for line in compare(entries, found, lambda key: True)}


def _verdicts(old: CheckResult, new: CheckResult) -> str:
    if old.verdict is not new.verdict:
        return f"was {old.verdict}, is {new.verdict}"
    return _ratios(old, new)


def _ratios(old: CheckResult, new: CheckResult) -> str:
    values = ["nothing" if r.ratio is None else f"{r.ratio:.1e}" for r in (old, new)]
    return f"{new.verdict}, error / bound {values[0]}, now {values[1]}"


def _measurements(old: Iterable[Measurement], new: Iterable[Measurement]) -> Iterable[Line]:
    """One line for each pair of measurements, and one for each measurement that NEW lacks."""
    after = {(m.pair, m.key): m for m in new if m.pair}
    for m in old:
        if not m.pair:
            continue
        partner = after.get((m.pair, m.key))
        if partner is None:
            yield Line(Change.WORSE, m.key, "vanished: OLD could be measured and NEW could not.")
            continue
        ratio = paired(m.samples, partner.samples, higher_is_better=m.better == "higher")
        yield Line(ratio.change, m.key, f"{_value(m)}, now {_value(partner)}; ratio {ratio}")


def _errors(old: Iterable[Measurement], new: Iterable[Measurement]) -> Iterable[Line]:
    """One line for each measured error. Errors need no pairs: they are equal on every machine up to GROWTH."""
    after = {m.key: m for m in new if m.quantity in ERRORS}
    for m in old:
        partner = after.get(m.key)
        if m.quantity in ERRORS and partner is not None:
            rounding = SAFETY * EPS.get(m.dtype, 2.0**-7)
            a, b = max(m.value, rounding), max(partner.value, rounding)
            change = Change.WORSE if not (b <= GROWTH * a) else Change.BETTER if a > GROWTH * b else Change.SAME
            yield Line(change, m.key, f"{m.value:.1e}, now {partner.value:.1e}")


def _value(m: Measurement) -> str:
    return f"{1e3 * m.value:.3g} ms" if m.unit == "s" else f"{m.value:.4g} {m.unit}".strip()


def _unpaired(old: Run, new: Run) -> int:
    """Number of measurements that are in both records without being a pair."""
    keys = {m.key for m in old.measurements if not m.pair and m.unit in ("s", "B", "1/s")}
    return len(keys & {m.key for m in new.measurements if not m.pair})
