"""Two revisions against each other: alternating worker processes, one pair after another until the answer is clear.

Each pair is two fresh processes, one for each revision, that time the same layer in turns. What one pair
gives is one ratio; pairs are what ``comparison.paired`` compares, since processes differ by more than the samples
within one.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from ..adapters.operators import TimedCase
from ..errors import UsageError
from ..records.lines import Measurement
from ..records.ratios import LEAST, MOST, Change, Ratio, paired

SIDES = ("old", "new")
#: Seconds of a sample: long beside an order's way through a pipe (0.1 ms), after which caches and clocks settle again.
SHORTEST = 5e-3
#: Samples of one process for each quantity; odd, so that the median is one of them.
ROUNDS = 31
#: Memory that is kept and lies in huge pages is the same in every process; without, one unchanged layer's backward pass
#: took 4.5 ms in some processes and 11 ms in others, for as long as they lived.
ALLOCATOR = {
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "MALLOC_TRIM_THRESHOLD_": str(4 << 30),
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TOP_PAD_": str(64 << 20),
}
WORKER = Path(__file__).with_name("revision_worker.py")


class WorkerError(UsageError):
    """A worker could not carry out an order; the message is its own."""


class Worker:
    """A process that has one revision first on its path.

    Args:
        site: folder with the installed revision.
        threads: for torch and the libraries below it.
    """

    def __init__(self, site: Path, threads: int = 1) -> None:
        path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH", "")]))
        count = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115  closed with the worker
        self._process = subprocess.Popen(
            [sys.executable, str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**os.environ, **ALLOCATOR, **count, "PYTHONPATH": path},
            cwd=site,
        )

    def tell(self, do: str, **order: object) -> None:
        """Give an order; its answer is read by ``answer``."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **order}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise WorkerError(self._last_words()) from error

    def answer(self) -> dict[str, Any]:
        """The next answer.

        Raises:
            WorkerError: the order failed, or the worker died.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise WorkerError(self._last_words())
        found: dict[str, Any] = json.loads(line)
        if "error" in found:
            raise WorkerError(found["error"])
        return found

    def ask(self, do: str, **order: object) -> dict[str, Any]:
        """An order and its answer."""
        self.tell(do, **order)
        return self.answer()

    def _last_words(self) -> str:
        self._log.seek(0)
        said = self._log.read().strip().splitlines()[-1:]
        return f"the worker died: {' '.join(said) or 'it said nothing'}"

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._log):
            if stream is not None:
                stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


@dataclass
class RevisionComparison:
    """One quantity of one layer: what pairs gave so far."""

    timed_case: TimedCase
    dtype: str
    quantity: str
    unit: str = "s"
    old: list[float] = field(default_factory=list)
    new: list[float] = field(default_factory=list)
    #: Why one side could not be timed; the side is named.
    failed: dict[str, str] = field(default_factory=dict)

    def ratio(self) -> Ratio | None:
        """New over old; None before the first pair."""
        return paired(self.old, self.new) if self.old else None

    def measurement(self, side: str, pair: str, threads: int) -> Measurement:
        """One side as a line of a record; ``pair`` names the comparison."""
        samples = tuple(self.old if side == "old" else self.new)
        return Measurement(
            implementation=self.timed_case.implementation,
            case=self.timed_case.case.name,
            quantity=self.quantity,
            value=statistics.median(samples) if samples else 0.0,
            unit=self.unit,
            better="lower",
            samples=samples,
            operator=self.timed_case.operator,
            dtype=self.dtype,
            device="cpu",
            batch=self.timed_case.batch,
            threads=threads,
            setting="eager",
            pair=pair,
            note="; ".join(f"{name}: {reason}" for name, reason in self.failed.items()),
        )

    @property
    def settled(self) -> bool:
        """Whether another pair would not change the answer."""
        if self.failed or self.unit == "B":
            return bool(self.failed or self.old)
        return len(self.old) >= LEAST and paired(self.old, self.new).change is not Change.AMBIGUOUS


def compare_revisions(
    sites: Mapping[str, Path],
    timed_cases: Sequence[TimedCase],
    *,
    dtypes: Sequence[str] = ("float32",),
    backward: bool = True,
    seed: int = 0,
    threads: int = 1,
    most: int = MOST,
    report: Callable[[int, Sequence[RevisionComparison]], None] = lambda pair, comparisons: None,
) -> list[RevisionComparison]:
    """Time layers of two installed revisions against each other.

    Args:
        sites: "old" and "new": the folders they are installed in.
        timed_cases: layers with their cases; the same on both sides.
        dtypes: precisions.
        backward: whether gradients are timed too.
        seed: of weights and inputs.
        threads: of each worker.
        most: pairs after which an answer that is still open stays AMBIGUOUS.
        report: called after each pair with its number and all comparisons.

    Returns:
        One comparison for each layer, precision and quantity.
    """
    quantities = ("forward", "backward") if backward else ("forward",)
    comparisons = [
        (
            [RevisionComparison(timed_case, dtype, quantity) for quantity in quantities]
            + [
                RevisionComparison(timed_case, dtype, name, "B")
                for name in ("memory", "training memory")[: len(quantities)]
            ]
        )
        for timed_case in timed_cases
        for dtype in dtypes
    ]
    listed = [comparison for group in comparisons for comparison in group]
    for pair in range(most):
        if all(comparison.settled for comparison in listed):
            break
        with _workers(sites, threads, swap=pair % 2 == 1) as workers:
            for group in comparisons:
                waiting = [comparison for comparison in group if not comparison.settled]
                if waiting:
                    _time_both(workers, waiting, seed, threads)
        report(pair + 1, listed)
    return listed


@contextmanager
def _workers(sites: Mapping[str, Path], threads: int, *, swap: bool) -> Iterator[dict[str, Worker]]:
    """Two fresh processes; which one starts first alternates."""
    names = SIDES[::-1] if swap else SIDES
    made: dict[str, Worker] = {}
    try:
        for name in names:
            made[name] = Worker(sites[name], threads)
        yield made
    finally:
        for worker in made.values():
            worker.close()


def _time_both(
    workers: Mapping[str, Worker], comparisons: Sequence[RevisionComparison], seed: int, threads: int
) -> None:
    """Build one layer on both sides, then time its quantities in turns."""
    timed_case = comparisons[0].timed_case
    order = {
        "implementation": timed_case.implementation,
        "case": timed_case.case.name,
        "parameters": dict(timed_case.case.parameters),
        "dtype": comparisons[0].dtype,
        "seed": seed,
        "batch": timed_case.batch,
        "threads": threads,
    }
    for worker in workers.values():  # both at once: importing the libraries takes longest
        worker.tell("build", **order)
    built, failed = {}, {}
    for name, worker in workers.items():
        try:
            built[name] = worker.answer()
        except WorkerError as error:
            failed[name] = str(error)
    for comparison in comparisons:
        comparison.failed.update(failed)
        training = comparison.quantity in ("backward", "training memory")
        if not failed and training and not all(side["differentiable"] for side in built.values()):
            comparison.failed["both"] = "nothing to differentiate"
        if not comparison.failed:
            try:
                (_compare_memory if comparison.unit == "B" else _compare_times)(workers, comparison)
            except WorkerError as error:
                comparison.failed["both"] = str(error)


def _compare_memory(workers: Mapping[str, Worker], comparison: RevisionComparison) -> None:
    """Peak memory: the same in every process, one pair tells all."""
    quantity = "forward" if comparison.quantity == "memory" else "backward"
    found = {name: float(worker.ask("memory", quantity=quantity)["bytes"]) for name, worker in workers.items()}
    comparison.old.append(found["old"])
    comparison.new.append(found["new"])


def _compare_times(workers: Mapping[str, Worker], comparison: RevisionComparison) -> None:
    """Samples A B, B A, ..: neighbours in time share whatever else the machine does, so their ratios are compared.

    The pair gives the old side's median, and beside it that median times the median ratio of neighbours.
    """
    quantity, names = comparison.quantity, list(workers)
    repeats = max(w.ask("calibrate", quantity=quantity, shortest=SHORTEST)["repeats"] for w in workers.values())
    olds, ratios = [], []
    for turn in range(ROUNDS):
        found = {}
        for name in names if turn % 2 == 0 else reversed(names):
            found[name] = workers[name].ask("sample", quantity=quantity, repeats=repeats)["seconds"]
        olds.append(found["old"])
        ratios.append(found["new"] / found["old"])
    median = statistics.median(olds)
    comparison.old.append(median)
    comparison.new.append(median * statistics.median(ratios))
