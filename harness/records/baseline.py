"""Baselines: what a project's checks gave when they were last accepted, in one small committed file.

One JSON line for each check, sorted, without anything of the machine it ran on: key, verdict, reason code and level.
The level says how far the error was from what rounding explains, and so how far it may move without anything having
changed:

* ``rounding``: the error was within what rounding explains. For errors of structure, which are those of f_*, that is
  rounding *in float64* (S kappa (eps_64 + delta)), whatever the claim's own precision. Any error within it is rounding
  too, on every machine, with any number of threads and any seed: that is what the bound is derived for. The interval
  is the bound itself, and no digit is kept.
* a number: the error was larger, because constants inside are rounded, the layer is approximate, or no float64
  reference could be had. Then the number is error / bound (the error itself for approximate claims), to two digits.
  The interval reaches up to GROWTH times it. Errors of approximate claims depend on the inputs that the seed draws
  (aliasing of a smooth activation by a factor of 1,000) and are compared at equal seeds only.
"""

from __future__ import annotations

import fnmatch
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import RecordError
from ..precisions import EPS, LOST_BITS, claim_eps
from ..verdict.decide import LARGEST_DEFECT
from ..verdict.result import CheckResult, Verdict
from .writing import write_atomically

SCHEMA = 1
ROUNDING = "rounding"
#: How much a level that is no rounding may grow. ``benchmarks/baseline_intervals.py`` measures how far levels move.
#: Over 420 checks (escnn, e3nn, our layers, layers without a reference): not at all between one and two threads, by at
#: most 1.4 between a processor's own kernels and plain SSE, by at most 1.4 between twelve seeds. The accepted run and
#: the new one may each be that far from the typical one: 1.4^2 = 2. Rounding moved in two checks of three and never
#: left its bound.
GROWTH = 2.0
#: Properties whose error is that of f_*, computed in float64 whatever the claim's own precision. The bounds of all
#: others (a batch against its samples, two implementations, finite differences) are about the arithmetic that they
#: ran in: their errors are rounding up to the bound itself.
STRUCTURAL = frozenset(
    {"equivariance", "rotations", "reflections", "translations", "permutations"}
    | {"integration", "adjoint", "parameter_gradient"}
)


@dataclass(frozen=True)
class Entry:
    """One check as it was accepted."""

    check: str
    verdict: Verdict
    code: str
    level: float | str | None
    seed: int | None = None

    def line(self) -> str:
        """Its line in the file."""
        values = {"check": self.check, "verdict": str(self.verdict), "code": self.code}
        extra = {"level": self.level, "seed": self.seed}
        return json.dumps({**values, **{k: v for k, v in extra.items() if v is not None}}, ensure_ascii=False)


@dataclass(frozen=True)
class Worse:
    """One check that got worse, and why, in one line."""

    check: str
    cause: str

    def __str__(self) -> str:
        return f"{self.check}: {self.cause}"


def key_of(result: CheckResult, name: str = "") -> str:
    """What names a check across runs and machines: who, what, in which precision.

    Args:
        result: one part, not the sum of several.
        name: of the test, for results that belong to no registered implementation.
    """
    who = [name] if name else [result.implementation, result.case]
    return " | ".join(part for part in (*who, result.property, result.dtype) if part)


def in_selection(key: str, names: Sequence[str], properties: Sequence[str], dtypes: Sequence[str], cases: str) -> bool:
    """Whether a check of a registered implementation belongs to a run of these names, properties, dtypes and cases.

    Example:
        >>> in_selection("e3nn.Gate | a=1 | equivariance | float32", ["e3nn.*"], ["equivariance"], ["float32"], "*")
        True
    """
    parts = key.split(" | ")
    if len(parts) != 4:  # checks of tests are named otherwise
        return False
    implementation, case, name, dtype = parts
    named = not names or any(fnmatch.fnmatchcase(implementation, pattern) for pattern in names)
    return named and fnmatch.fnmatchcase(case, cases) and name in properties and dtype in dtypes


def entry_of(check: str, result: CheckResult) -> Entry | None:
    """The entry of one result; None where nothing was checked."""
    if result.verdict is Verdict.SKIPPED:
        return None
    seed = result.seed if result.resolutions else None
    return Entry(check, result.verdict, result.reason.code, level_of(result), seed)


def level_of(result: CheckResult) -> float | str | None:
    """How far the error is from what rounding in float64 explains; None where nothing was measured."""
    if result.resolutions and result.seen is not None:
        return _two_digits(result.seen)
    if result.error is None or result.bound is None:
        return None
    if result.error <= rounding_bound(result):
        return ROUNDING
    ratio = result.ratio
    return _two_digits(ratio) if ratio is not None and math.isfinite(ratio) else None


def rounding_bound(result: CheckResult) -> float:
    """What rounding explains of an error: of f_* in float64 S kappa (eps_64 + delta), of all others their own bound."""
    assert result.bound is not None
    if result.property.split(" in ")[0] not in STRUCTURAL:
        return result.bound
    defect = min(result.defect or 0.0, LARGEST_DEFECT)
    return result.bound * (EPS["float64"] + defect) / (claim_eps(result.dtype) + defect)


def _two_digits(value: float) -> float:
    return float(f"{value:.1e}")


def worst_by_key(results: Iterable[tuple[str, CheckResult]]) -> dict[str, CheckResult]:
    """One result for each key: of several (other seeds, repeated checks) the worst."""
    found: dict[str, CheckResult] = {}
    for key, result in results:
        other = found.get(key)
        if other is None or _badness(result) > _badness(other):
            found[key] = result
    return found


def _badness(result: CheckResult) -> tuple[int, float]:
    skipped = result.verdict is Verdict.SKIPPED
    ratio = result.ratio if result.ratio is not None else result.seen or 0.0
    return (-1 if skipped else result.verdict.severity, math.inf if math.isnan(ratio) else ratio)


def compare(
    baseline: Mapping[str, Entry], results: Mapping[str, CheckResult], expected: Callable[[str], bool]
) -> list[Worse]:
    """What got worse.

    Args:
        baseline: what was accepted.
        results: what was found, by key.
        expected: whether a key of the baseline should have been checked in this run (a run of a part checks a part).

    Returns:
        One entry for each check with a worse verdict, an error beyond its interval, or no result at all.
    """
    worse = []
    for key, entry in baseline.items():
        if key in results:
            cause = _cause(entry, results[key])
        else:
            cause = "vanished: it was checked in the baseline and not in this run." if expected(key) else ""
        if cause:
            worse.append(Worse(key, cause))
    return worse


def _cause(entry: Entry, result: CheckResult) -> str:
    """Why a result is worse than its entry, in one line; empty where it is not."""
    if result.verdict is Verdict.SKIPPED:
        return f"no longer checked: {result.reason}"
    if result.verdict.severity > entry.verdict.severity and not _just_beyond(result):
        return f"was {entry.verdict}, is {result.verdict}: {_one_line(result)}"
    if entry.level == ROUNDING and result.error is not None and result.bound is not None:
        limit = rounding_bound(result)
        if not (result.error <= limit):
            return f"the error has grown from rounding (at most {limit:.1e}) to {result.error:.1e}."
        return ""
    level = level_of(result)
    if entry.seed is not None and entry.seed != result.seed:
        return ""
    if isinstance(entry.level, float) and isinstance(level, float) and not (level <= GROWTH * entry.level):
        what = "error" if result.resolutions else "error / bound"
        return f"{what} has grown from {entry.level:.1e} to {level:.1e}, more than seeds and machines explain."
    return ""


def _just_beyond(result: CheckResult) -> bool:
    """Whether a loss of precision exceeds what is usual by no more than it may move between machines."""
    if result.reason.code != "PRECISION" or result.lost_bits is None:
        return False
    usual = LOST_BITS.get(result.dtype, 0.0) + math.log2(max(1.0, result.kappa or 1.0))
    return result.lost_bits <= usual + math.log2(GROWTH)


def _one_line(result: CheckResult) -> str:
    return " ".join((result.reason.message or str(result.reason)).split())


def updated(
    baseline: Mapping[str, Entry], results: Mapping[str, CheckResult], expected: Callable[[str], bool]
) -> dict[str, Entry]:
    """The baseline after accepting a run.

    Lines within their interval stay as they are, so that updating on another machine changes nothing. What the run
    should have checked and did not is dropped; what it had no business with is kept.
    """
    kept = {key: entry for key, entry in baseline.items() if key not in results and not expected(key)}
    for key, result in results.items():
        new, old = entry_of(key, result), baseline.get(key)
        if new is not None:
            kept[key] = old if old is not None and _same(old, new) else new
    return kept


def _same(old: Entry, new: Entry) -> bool:
    if (old.verdict, old.code, old.seed) != (new.verdict, new.code, new.seed):
        return False
    if isinstance(old.level, float) and isinstance(new.level, float):
        return old.level / GROWTH <= new.level <= old.level * GROWTH
    return old.level == new.level


def write_baseline(path: Path, entries: Mapping[str, Entry]) -> None:
    """Write the file, sorted, atomically.

    Raises:
        RecordError: the path cannot be written.
    """
    header = json.dumps({"equiharness_baseline": SCHEMA})
    lines = [header, *(entries[key].line() for key in sorted(entries))]
    write_atomically(path, "\n".join(lines) + "\n")


def read_baseline(path: Path) -> dict[str, Entry]:
    """Read a baseline.

    Raises:
        RecordError: there is no such file, or it is damaged; the message names the line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise RecordError(
            f"There is no baseline {path}. Make one: equiharness baseline update --baseline {path}, "
            "or pytest --equiharness-update-baseline."
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"Cannot read {path}: {error}.") from error
    if not lines:
        raise RecordError(f"{path} is empty: no baseline was written. Update it.")
    values = [_values(path, number, text) for number, text in enumerate(lines, 1)]
    version = values[0].get("equiharness_baseline")
    if version != SCHEMA:
        raise RecordError(f"{path}, line 1: no baseline of schema {SCHEMA} (found {version!r}). Update it.")
    listed = [_entry(path, number, row) for number, row in enumerate(values[1:], 2)]
    return {entry.check: entry for entry in listed}


def _values(path: Path, number: int, text: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except json.JSONDecodeError:
        values = None
    if not isinstance(values, dict):
        raise RecordError(f"{path}, line {number}: no entry of a baseline. Update it, or mend the line.")
    return values


def _entry(path: Path, number: int, values: dict[str, Any]) -> Entry:
    try:
        verdict, extra = Verdict(values["verdict"]), (values.get("level"), values.get("seed"))
        return Entry(values["check"], verdict, values["code"], *extra)
    except (ValueError, KeyError) as error:
        raise RecordError(f"{path}, line {number}: no entry of a baseline. Update it, or mend the line.") from error
