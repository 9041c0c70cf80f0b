"""Timing of two revisions against each other, with pairs of worker processes until the result is clear.

Each pair consists of two fresh processes, one for each revision, that time the same layer in turns. A pair gives one
ratio. ``ratios.paired`` compares pairs, because processes differ by more than the samples of one process.
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
#: Seconds of a sample: long compared with sending an order through a pipe (0.1 ms), which disturbs caches and clocks.
SHORTEST = 5e-3
#: Number of samples of one process for each quantity; odd, so that the median is one of the samples.
ROUNDS = 31
#: Settings of the allocator: keep memory and use huge pages, so that all processes have the same memory. Without these
#: settings the backward pass of one unchanged layer took 4.5 ms in some processes and 11 ms in all samples of others.
ALLOCATOR = {
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "MALLOC_TRIM_THRESHOLD_": str(4 << 30),
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TOP_PAD_": str(64 << 20),
}
WORKER = Path(__file__).with_name("revision_worker.py")


class WorkerError(UsageError):
    """A worker could not carry out an order. The message is the worker's."""


class Worker:
    """A process that has one revision first on its path.

    Args:
        site: folder with the installed revision.
        threads: number of threads of torch and its libraries.
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
        """Send an order. ``answer`` reads the worker's answer."""
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
        """Send an order and read its answer."""
        self.tell(do, **order)
        return self.answer()

    def _last_words(self) -> str:
        self._log.seek(0)
        output = self._log.read().strip().splitlines()[-1:]
        return f"the worker process ended: {' '.join(output) or 'it printed no error'}"

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
    """The comparison of one quantity of one layer: the values of all pairs so far."""

    timed_case: TimedCase
    dtype: str
    quantity: str
    unit: str = "s"
    old: list[float] = field(default_factory=list)
    new: list[float] = field(default_factory=list)
    #: For each side that could not be timed, the reason.
    failed: dict[str, str] = field(default_factory=dict)

    def ratio(self) -> Ratio | None:
        """The ratio new / old; None before the first pair."""
        return paired(self.old, self.new) if self.old else None

    def measurement(self, side: str, pair: str, threads: int) -> Measurement:
        """One side as a line of a record; ``pair`` identifies the comparison."""
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
        """Whether the result is clear, so that no further pair is needed."""
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
        sites: folders of the installed revisions "old" and "new".
        timed_cases: layers with their cases; the same on both sides.
        dtypes: precisions.
        backward: whether to time gradients too.
        seed: seed of weights and inputs.
        threads: number of threads of each worker.
        most: largest number of pairs. A comparison that is still unclear after them stays AMBIGUOUS.
        report: function to call after each pair, with the number of pairs and all comparisons.

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
    """Two fresh processes; with ``swap`` the process of the new revision starts first."""
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
    for worker in workers.values():  # both build at the same time: importing the libraries takes longest
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
    """Compare peak memory. It is the same in every process, so one pair is enough."""
    quantity = "forward" if comparison.quantity == "memory" else "backward"
    found = {name: float(worker.ask("memory", quantity=quantity)["bytes"]) for name, worker in workers.items()}
    comparison.old.append(found["old"])
    comparison.new.append(found["new"])


def _compare_times(workers: Mapping[str, Worker], comparison: RevisionComparison) -> None:
    """Compare times, from samples A B, B A, .. Two successive samples share the state of the machine.

    The value of the old side is its median. The value of the new side is that median times the median ratio of
    successive samples.
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
