"""The plan on spawned processes: one task per claim, so that a claim is built once; a worker's death costs one cell."""

from __future__ import annotations

import itertools
import multiprocessing
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

from .runner import Cell, CellOutcome, execute, run_cell, unmeasured
from .verdict import Verdict

#: Below this many cells starting workers (each imports torch and the libraries, seconds) costs more than it saves.
FEW_CELLS = 100


def workers_for(cells: int, jobs: int = 0) -> int:
    """How many processes a plan runs on.

    Args:
        cells: length of the plan.
        jobs: what was asked for; 0 means one per core, and none beside this process for a short plan.

    Example:
        >>> workers_for(5), workers_for(5, jobs=3)
        (1, 3)
    """
    if jobs:
        return jobs
    return 1 if cells < FEW_CELLS else cores()


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def groups(cells: Iterable[Cell]) -> list[tuple[Cell, ...]]:
    """Neighbouring cells of one claim."""
    return [tuple(group) for _, group in itertools.groupby(cells, key=_claim_of)]


def _claim_of(cell: Cell) -> tuple[str, str, str, str, int]:
    return (cell.implementation, cell.case.name, cell.device, cell.dtype, cell.seed)


def run_group(cells: Sequence[Cell]) -> list[CellOutcome]:
    """Check cells one after another; what a worker is sent."""
    return [run_cell(cell) for cell in cells]


def execute_on(cells: Sequence[Cell], workers: int) -> Iterator[tuple[int, CellOutcome]]:
    """Outcomes as they finish, each with the position of its cell in the plan.

    Processes are spawned, so nothing of this one leaks into a check. Where a worker dies (killed, out of memory, a
    crash of native code), the cells it may have had are run again, one process each, and the one that dies again is
    CRASHED.

    Args:
        cells: the plan.
        workers: processes; 1 runs the plan here.
    """
    if workers <= 1:
        yield from enumerate(execute(cells))
        return
    waiting = list(reversed(_numbered(groups(cells))))
    while waiting:
        suspects: list[tuple[int, tuple[Cell, ...]]] = []
        yield from _until_a_worker_dies(waiting, suspects, workers)
        for start, group in suspects:
            for offset, cell in enumerate(group):
                yield start + offset, _alone(cell)


def _numbered(listed: list[tuple[Cell, ...]]) -> list[tuple[int, tuple[Cell, ...]]]:
    starts = itertools.accumulate((len(group) for group in listed), initial=0)
    return list(zip(starts, listed, strict=False))


def _until_a_worker_dies(
    waiting: list[tuple[int, tuple[Cell, ...]]], suspects: list[tuple[int, tuple[Cell, ...]]], workers: int
) -> Iterator[tuple[int, CellOutcome]]:
    """Run groups off ``waiting``; those that were under way when a worker died are left in ``suspects``."""
    running: dict[Future[list[CellOutcome]], tuple[int, tuple[Cell, ...]]] = {}
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            while waiting or running:
                # No more than the workers hold: a pool that breaks then names few suspects.
                while waiting and len(running) < workers:
                    start, group = waiting[-1]
                    running[pool.submit(run_group, group)] = (start, group)
                    waiting.pop()
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    outcomes = future.result()
                    start, _ = running.pop(future)
                    yield from enumerate(outcomes, start)
        except BrokenProcessPool:
            suspects += sorted(running.values(), key=lambda numbered: numbered[0])


def _alone(cell: Cell) -> CellOutcome:
    """One cell in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(run_cell, cell).result()
        except BrokenProcessPool:
            message = "Its process died: killed, out of memory, or a crash of native code. Run it alone to see it."
            return unmeasured(cell, Verdict.CRASHED, "DIED", message)
