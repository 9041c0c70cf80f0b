"""The search for failures: it tries known failures, then draws trials in rounds, and shrinks each new failure."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..adapters.adapter import Implementation
from ..verdict.result import CheckResult, Verdict
from . import corpus
from .corpus import Found
from .strategies import profile, trials
from .trial import Trial, failed, run_trial

#: Seconds that the search may still shrink a failure after its own time is up.
GRACE = 20.0


@dataclass
class SearchProgress:
    """The progress of a search so far."""

    seconds: float = 0.0
    tried: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    found: list[Found] = field(default_factory=list)
    #: Failures of the corpus that no longer fail.
    mended: list[Found] = field(default_factory=list)
    #: Failures of the corpus that still fail.
    known: list[Found] = field(default_factory=list)

    @property
    def anything(self) -> bool:
        """Whether any trial was checked, not skipped."""
        return any(n for verdict, n in self.verdicts.items() if verdict != Verdict.SKIPPED)


class Search:
    """Searches one implementation for failures.

    Args:
        adapter: the implementation.
        properties: names of properties to check; properties that do not apply are skipped.
        dtypes: working precisions.
        suite: "module:function" that checks one property of one claim.
        folder: folder of the corpus; None for a search without a corpus.
        seed: seed of the first round; each later round adds one.
        device: torch device.
        report: function to call after every trial.
    """

    def __init__(
        self,
        adapter: Implementation,
        properties: Sequence[str],
        dtypes: Sequence[str] = ("float32",),
        *,
        suite: str,
        folder: Path | None = None,
        seed: int = 0,
        device: str = "cpu",
        report: Callable[[SearchProgress], None] = lambda progress: None,
    ) -> None:
        self.adapter, self.suite, self.folder, self.seed, self.report = adapter, suite, folder, seed, report
        self.strategy = trials(adapter, properties, dtypes, device=device)
        self.progress = SearchProgress()
        self._begin = time.perf_counter()
        self._until = float("inf")
        self._results: dict[str, CheckResult] = {}
        self._shrinking = self._drawn = False
        self._plain: Trial | None = None

    def run(self, seconds: float) -> SearchProgress:
        """Replay the corpus, then search for this many seconds, and for at least one trial."""
        self._begin = time.perf_counter()
        self._until = self._begin + seconds
        self.replay()
        number = 0
        while number == 0 or time.perf_counter() < self._until:
            self.round("search", self.seed + number)
            number += 1
        return self.progress

    def replay(self) -> None:
        """Try every failure of the corpus again."""
        for known in corpus.load(self.folder, self.adapter.name) if self.folder is not None else []:
            still = failed(self._result(known.trial))
            (self.progress.known if still else self.progress.mended).append(known)

    def round(self, name: str, seed: int = 0) -> Found | None:
        """One round of a profile's length. Returns the new failure it found, shrunk, or None."""
        from hypothesis import find
        from hypothesis.errors import NoSuchExample

        chosen, rng = profile(name), random.Random(seed)
        self._shrinking = False
        if self._plain is None:
            self._plain = find(self.strategy, lambda trial: True, settings=chosen, random=random.Random(0))
        try:
            smallest: Trial = find(self.strategy, self._is_new, settings=chosen, random=rng)
        except NoSuchExample:
            return None
        found = Found.of(smallest, self._plain, self._result(smallest), self._library)
        self.progress.found.append(found)
        if self.folder is not None:
            corpus.save(self.folder, found)
        self.report(self.progress)
        return found

    @property
    def _library(self) -> str:
        return f"{self.adapter.library} {self.adapter.version or ''}".strip()

    def _is_new(self, trial: Trial) -> bool:
        """Whether a trial shows a failure that is not yet known. After the time is up only the first trial is made."""
        late = self._drawn and time.perf_counter() > self._until + (GRACE if self._shrinking else 0.0)
        if late and trial.text not in self._results:
            return False
        self._drawn = True
        result = self._result(trial)
        known = [*self.progress.known, *self.progress.found]
        new = failed(result) and not any(k.explains(trial, result) for k in known)
        self._shrinking |= new
        return new

    def _result(self, trial: Trial) -> CheckResult:
        if trial.text not in self._results:
            result = run_trial(self.adapter, trial, self.suite)
            self._results[trial.text] = result
            self.progress.tried += 1
            self.progress.verdicts[result.verdict] += 1
            self.progress.seconds = time.perf_counter() - self._begin
            self.report(self.progress)
        return self._results[trial.text]
