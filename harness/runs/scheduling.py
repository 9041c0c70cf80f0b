"""A plan on any ``concurrent.futures.Executor``: at most one call per worker runs, and results are yielded at once.

Each worker handles one case at a time. Its next checks are sent when the results of the previous ones are back, so
the same worker is idle and has already built the claim; an executor that can choose gives it the call. Finished results
are yielded before new checks start. No check is queued in a worker that may die.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Executor, Future
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

from ..claim.outcome import Outcome
from ..errors import EquiharnessError, UsageError
from ..verdict.codes import Code, Verdict
from .checks import lost, run_check
from .plan import Check, Task

#: Seconds after which a call of several checks returns its finished results. A record reaches the disk once a second. A
#: twentieth of that makes the wait of a finished check negligible, and is 50 times the cost of sending a call.
SLICE = 0.05

#: A call for an executor: it makes some of the given checks, at least the first. Its future returns their outcomes.
Call = Callable[[Sequence[Check]], Any]


class LostCheckError(EquiharnessError):
    """A check killed its worker process. Only that check is reported as crashed."""

    def __init__(self, verdict: Verdict, code: Code, message: str) -> None:
        super().__init__(verdict, code, message)
        self.verdict, self.code, self.message = verdict, code, message


class ExecutorLostError(UsageError):
    """The executor itself failed. The run ends, and its record can be resumed."""


def run_slice(checks: Sequence[Check], run: Callable[[Check], Outcome] = run_check) -> list[Outcome]:
    """Make checks one after another until the time of a slice is up, at least the first."""
    begin, outcomes = time.perf_counter(), []
    for check in checks:
        outcomes.append(run(check))
        if time.perf_counter() - begin > SLICE:
            break
    return outcomes


class NearExecutor(Executor):
    """An executor that gives a call to the process that made the last call with its key, and kept what it built."""

    def submit_near(self, key: Hashable, fn: Callable[..., Any], /, *args: Any) -> Future[Any]:
        """Schedule a call; an idle process that made the last call with this key takes it."""
        raise NotImplementedError


@dataclass(frozen=True)
class Engine:
    """An executor with the parameters for running a plan on it.

    Args:
        executor: the executor that takes calls.
        width: number of workers, and of calls that run at the same time.
        call: the function to submit, with a tuple of checks.
        batch: largest number of checks in a call.
        name: name of the executor in error messages.
    """

    executor: Executor
    width: int = 1
    call: Call = run_slice
    batch: int = 1
    name: str = "The executor"

    def submit(self, task: Task) -> Future[Any]:
        """Submit the first checks of a task."""
        checks = task.checks[: self.batch]
        if isinstance(self.executor, NearExecutor):
            return self.executor.submit_near(task.key, self.call, checks)
        return self.executor.submit(self.call, checks)


def stream(tasks: Iterable[Task], engine: Engine | None = None) -> Iterator[tuple[int, Outcome]]:
    """Outcomes in the order in which they finish, each with the position of its check in the plan.

    Args:
        tasks: the tasks; one task is read ahead for each worker.
        engine: the engine; None makes each check in this process when its outcome is requested.

    Raises:
        ExecutorLostError: the executor failed. Outcomes that were yielded before are valid.
    """
    if engine is None:
        for task in tasks:
            for position, check in zip(task.positions, task.checks, strict=True):
                yield position, run_check(check)
        return
    finished: SimpleQueue[Future[list[Outcome]]] = SimpleQueue()
    running: dict[Future[list[Outcome]], Task] = {}
    waiting = iter(tasks)

    def send(task: Task) -> None:
        try:
            future = engine.submit(task)
        except UsageError:
            raise
        except Exception as error:  # an executor that has failed may raise anything
            raise _lost(engine, error) from error
        running[future] = task
        future.add_done_callback(finished.put)

    try:
        for task in itertools.islice(waiting, engine.width):
            send(task)
        while running:
            future = finished.get()
            task = running.pop(future)
            outcomes = _outcomes(engine, future, task)
            following = task.after(len(outcomes)) or next(waiting, None)
            failure: ExecutorLostError | None = None
            try:
                if following is not None:
                    send(following)  # before the outcomes are written: the worker does not wait for the disk
            except ExecutorLostError as error:
                failure = error
            yield from zip(task.positions, outcomes, strict=False)
            if failure is not None:
                raise failure
    except ExecutorLostError:
        for future, task in running.items():  # results that other workers have finished are valid
            if future.done() and not future.cancelled() and future.exception() is None:
                yield from zip(task.positions, future.result(), strict=False)
        raise
    finally:
        for future in running:
            future.cancel()


def _outcomes(engine: Engine, future: Future[list[Outcome]], task: Task) -> list[Outcome]:
    try:
        return future.result()
    except LostCheckError as error:
        return [lost(task.checks[0], error.verdict, error.code, error.message)]
    except UsageError:
        raise
    except (Exception, CancelledError) as error:
        raise _lost(engine, error) from error


def _lost(engine: Engine, error: BaseException) -> ExecutorLostError:
    if isinstance(error, CancelledError):  # this process cancelled nothing: the executor did
        return ExecutorLostError(f"{engine.name} is gone.")
    return ExecutorLostError(f"{engine.name} failed ({type(error).__name__}: {' '.join(str(error).split())}).")
