"""Baselines: the accepted results of a project's checks, in one small committed file.

The file has one JSON line for each check, sorted: key, verdict, reason code and level. It holds nothing about the
machine. The level is the distance of the error from what rounding explains. It determines how much the error may
change before the check counts as worse:

* ``rounding``: rounding explained the error. The errors of structure are those of f_*; for them rounding means
  rounding *in float64* (S kappa (eps_64 + delta)), whatever the claim's own precision. The bound is derived for every
  machine, number of threads and seed, so any later error within it is rounding too. The interval is the bound itself,
  and the file stores no digits of the error.
* a number: the error was larger, because constants inside the layer are rounded, the layer is approximate, or no
  float64 reference could be computed. The number is error / bound (the error itself for approximate claims), to two
  digits. The interval reaches up to GROWTH times this number. Errors of approximate claims depend on the inputs that
  the seed draws (the aliasing of a smooth activation by a factor of 1,000) and are compared at equal seeds only.
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
#: The factor by which a level that is a number may grow. ``benchmarks/baseline_intervals.py`` measures how much levels
#: change. Over 420 checks (escnn, e3nn, our layers, layers without a reference) they did not change between one and two
#: threads, changed by at most 1.4 between a processor's own kernels and plain SSE, and by at most 1.4 between twelve
#: seeds. The accepted run and the new run may each be that far from the typical run: 1.4^2 = 2. Errors of level
#: ``rounding`` changed in two checks of three and never exceeded their bound.
GROWTH = 2.0
#: Properties whose error is that of f_*, computed in float64 whatever the claim's own precision. All other properties
#: (a batch against its samples, two implementations, finite differences) have bounds for the arithmetic that computed
#: them: their errors are rounding up to the bound itself.
STRUCTURAL = frozenset(
    {"equivariance", "rotations", "reflections", "translations", "permutations"}
    | {"integration", "adjoint", "parameter_gradient"}
)


#: What to do about a damaged baseline.
_REWRITE = "Write it again: equiharness baseline update, or pytest --equiharness-update-baseline."


@dataclass(frozen=True)
class Entry:
    """The accepted result of one check."""

    check: str
    verdict: Verdict
    code: str
    level: float | str | None
    seed: int | None = None

    def line(self) -> str:
        """The entry's line in the file."""
        values = {"check": self.check, "verdict": str(self.verdict), "code": self.code}
        extra = {"level": self.level, "seed": self.seed}
        return json.dumps({**values, **{k: v for k, v in extra.items() if v is not None}}, ensure_ascii=False)


@dataclass(frozen=True)
class Worse:
    """One check that got worse, and the cause in one line."""

    check: str
    cause: str

    def __str__(self) -> str:
        return f"{self.check}: {self.cause}"


def key_of(result: CheckResult, name: str = "") -> str:
    """The key that identifies a check across runs and machines: implementation, case, property and precision.

    Args:
        result: the result of one property, not one that combines several.
        name: name of the test, for results that belong to no registered implementation.
    """
    subject = [name] if name else [result.implementation, result.case]
    return " | ".join(part for part in (*subject, result.property, result.dtype) if part)


def in_selection(key: str, names: Sequence[str], properties: Sequence[str], dtypes: Sequence[str], cases: str) -> bool:
    """Whether a check of a registered implementation is in the scope of a run of names, properties, dtypes and cases.

    Example:
        >>> in_selection("e3nn.Gate | a=1 | equivariance | float32", ["e3nn.*"], ["equivariance"], ["float32"], "*")
        True
    """
    parts = key.split(" | ")
    if len(parts) != 4:  # checks of tests have keys of another form
        return False
    implementation, case, name, dtype = parts
    named = not names or any(fnmatch.fnmatchcase(implementation, pattern) for pattern in names)
    return named and fnmatch.fnmatchcase(case, cases) and name in properties and dtype in dtypes


def entry_of(check: str, result: CheckResult) -> Entry | None:
    """The entry of one result; None where nothing was checked."""
    if result.verdict is Verdict.SKIPPED:
        return None
    seed = result.seed if _in_a_limit(result) else None
    return Entry(check, result.verdict, result.reason.code, level_of(result), seed)


def _in_a_limit(result: CheckResult) -> bool:
    """Whether the claim was judged in a limit, of fine grids or of long waves, so that its error has no bound."""
    return bool(result.resolutions or result.wavelengths)


def level_of(result: CheckResult) -> float | str | None:
    """The distance of the error from what rounding in float64 explains; None where nothing was measured."""
    if _in_a_limit(result) and result.seen is not None:
        return _two_digits(result.seen)
    if result.error is None or result.bound is None:
        return None
    if result.error <= rounding_bound(result):
        return ROUNDING
    ratio = result.ratio
    return _two_digits(ratio) if ratio is not None and math.isfinite(ratio) else None


def rounding_bound(result: CheckResult) -> float:
    """Largest error that rounding explains: S kappa (eps_64 + delta) for errors of f_*, else the check's own bound."""
    assert result.bound is not None
    if result.property.split(" in ")[0] not in STRUCTURAL:
        return result.bound
    defect = min(result.defect or 0.0, LARGEST_DEFECT)
    return result.bound * (EPS["float64"] + defect) / (claim_eps(result.dtype) + defect)


def _two_digits(value: float) -> float:
    return float(f"{value:.1e}")


def worst_by_key(results: Iterable[tuple[str, CheckResult]]) -> dict[str, CheckResult]:
    """The worst result of each key; several results have one key where a check ran from several seeds or repeatedly."""
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
    """The checks that got worse.

    Args:
        baseline: the accepted entries, by key.
        results: the new results, by key.
        expected: whether a key of the baseline is in the scope of this run (a run may cover a part of the baseline).

    Returns:
        One object for each check with a worse verdict, an error beyond its interval, or no result at all.
    """
    worse = []
    missing = _missing(results.values())
    for key, entry in baseline.items():
        if key in results:
            cause = _cause(entry, results[key])
        else:
            # A run has one check of an implementation whose library is missing; it states why the others vanished.
            vanished = "vanished: it was checked in the baseline and not in this run."
            cause = missing.get(key.split(" | ")[0], vanished) if expected(key) else ""
        if cause:
            worse.append(Worse(key, cause))
    return worse


def _missing(results: Iterable[CheckResult]) -> dict[str, str]:
    """The causes for implementations of which nothing could be checked because their library is missing."""
    skipped: dict[str, str] = {}
    checked = set()
    for result in results:
        if result.reason.code == "NOT_INSTALLED":
            skipped[result.implementation] = _cause_of_skip(result)
        else:
            checked.add(result.implementation)
    return {name: cause for name, cause in skipped.items() if name not in checked}


def _cause(entry: Entry, result: CheckResult) -> str:
    """Why a result is worse than its entry, in one line; empty where it is not."""
    if result.verdict is Verdict.SKIPPED:
        return _cause_of_skip(result)
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
        what = "error" if _in_a_limit(result) else "error / bound"
        return f"{what} has grown from {entry.level:.1e} to {level:.1e}, more than seeds and machines explain."
    return ""


def _cause_of_skip(result: CheckResult) -> str:
    return f"no longer checked: {result.reason}"


def _just_beyond(result: CheckResult) -> bool:
    """Whether a loss of precision exceeds the usual loss by no more than machines may differ."""
    if result.reason.code != "PRECISION" or result.lost_bits is None:
        return False
    usual = LOST_BITS.get(result.dtype, 0.0) + math.log2(max(1.0, result.condition or result.kappa or 1.0))
    return result.lost_bits <= usual + math.log2(GROWTH)


def _one_line(result: CheckResult) -> str:
    return " ".join((result.reason.message or str(result.reason)).split())


def updated(
    baseline: Mapping[str, Entry], results: Mapping[str, CheckResult], expected: Callable[[str], bool]
) -> dict[str, Entry]:
    """The baseline after accepting a run.

    Entries whose results are within their interval stay unchanged, so that an update on another machine changes
    nothing. Entries that the run should have checked and did not check are dropped; entries outside the scope of the
    run are kept.
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
    """Write the sorted entries to a file, atomically.

    Raises:
        RecordError: the path cannot be written.
    """
    header = json.dumps({"equiharness_baseline": SCHEMA})
    lines = [header, *(entries[key].line() for key in sorted(entries))]
    write_atomically(path, "\n".join(lines) + "\n")


def read_baseline(path: Path) -> dict[str, Entry]:
    """Read a baseline.

    Raises:
        RecordError: there is no such file, or the file is damaged; the message names the line.
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
        raise RecordError(f"{path} is empty: no baseline was written. {_REWRITE}")
    values = [_values(path, number, text) for number, text in enumerate(lines, 1)]
    version = values[0].get("equiharness_baseline")
    if version != SCHEMA:
        raise RecordError(f"{path}, line 1: not a baseline of schema {SCHEMA} (found {version!r}). {_REWRITE}")
    listed = [_entry(path, number, row) for number, row in enumerate(values[1:], 2)]
    return {entry.check: entry for entry in listed}


def _values(path: Path, number: int, text: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except json.JSONDecodeError:
        values = None
    if not isinstance(values, dict):
        raise RecordError(f"{path}, line {number}: not an entry of a baseline. {_REWRITE}")
    return values


def _entry(path: Path, number: int, values: dict[str, Any]) -> Entry:
    try:
        verdict, extra = Verdict(values["verdict"]), (values.get("level"), values.get("seed"))
        return Entry(values["check"], verdict, values["code"], *extra)
    except (ValueError, KeyError) as error:
        raise RecordError(f"{path}, line {number}: not an entry of a baseline. {_REWRITE}") from error
