"""A plan on any ``concurrent.futures.Executor``: results as they finish, and no more under way than there are workers.

Each worker has one claim under way. Its next checks are sent when those before are back, so they find the same worker
idle and the claim built; what has finished is never kept waiting by what has not begun, and nothing is queued in a
worker that may die.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Executor, Future
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

from ..errors import EquiharnessError, UsageError
from ..verdict.result import Verdict
from .checks import CheckOutcome, run_check, unmeasured
from .plan import Check, Task

#: Seconds after which a call that checks several checks sends back what it has. A record is due once a second; a
#: twentieth of that keeps what a finished check waits for negligible, and is 50 times what it costs to send a call.
SLICE = 0.05

#: What an executor is given to do: check some of these checks, the first at least. Its future gives their outcomes.
Call = Callable[[Sequence[Check]], Any]


class LostCheckError(EquiharnessError):
    """A check killed its worker process. Only that check is reported as crashed."""

    def __init__(self, verdict: Verdict, code: str, message: str) -> None:
        super().__init__(verdict, code, message)
        self.verdict, self.code, self.message = verdict, code, message


class ExecutorLostError(UsageError):
    """The executor itself failed: the run ends here, and its record can be continued."""


def run_slice(checks: Sequence[Check], run: Callable[[Check], CheckOutcome] = run_check) -> list[CheckOutcome]:
    """Make checks one after another for as long as a slice lasts: the first at least."""
    begin, outcomes = time.perf_counter(), []
    for check in checks:
        outcomes.append(run(check))
        if time.perf_counter() - begin > SLICE:
            break
    return outcomes


@dataclass(frozen=True)
class Engine:
    """Where a plan runs.

    Args:
        executor: takes calls.
        width: workers: as many calls are under way at once.
        call: what is submitted, with a tuple of checks.
        batch: at most so many checks in a call.
        name: what error messages call it.
    """

    executor: Executor
    width: int = 1
    call: Call = run_slice
    batch: int = 1
    name: str = "The executor"


def stream(tasks: Iterable[Task], engine: Engine | None = None) -> Iterator[tuple[int, CheckOutcome]]:
    """Outcomes as they finish, each with the position of its check in the plan.

    Args:
        tasks: what is to be done; read as far ahead as there are workers.
        engine: where; None runs each check here when its outcome is asked for.

    Raises:
        ExecutorLostError: the executor failed. What was yielded before is sound.
    """
    if engine is None:
        for task in tasks:
            for position, check in zip(task.positions, task.checks, strict=True):
                yield position, run_check(check)
        return
    finished: SimpleQueue[Future[list[CheckOutcome]]] = SimpleQueue()
    running: dict[Future[list[CheckOutcome]], Task] = {}
    waiting = iter(tasks)

    def send(task: Task) -> None:
        try:
            future = engine.executor.submit(engine.call, task.checks[: engine.batch])
        except UsageError:
            raise
        except Exception as error:  # whatever an engine says when it is gone
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
            lost: ExecutorLostError | None = None
            try:
                if following is not None:
                    send(following)  # before the outcomes are written: the worker does not wait for the disk
            except ExecutorLostError as error:
                lost = error
            yield from zip(task.positions, outcomes, strict=False)
            if lost is not None:
                raise lost
    except ExecutorLostError:
        for future, task in running.items():  # what others had finished is sound
            if future.done() and not future.cancelled() and future.exception() is None:
                yield from zip(task.positions, future.result(), strict=False)
        raise
    finally:
        for future in running:
            future.cancel()


def _outcomes(engine: Engine, future: Future[list[CheckOutcome]], task: Task) -> list[CheckOutcome]:
    try:
        return future.result()
    except LostCheckError as error:
        return [unmeasured(task.checks[0], error.verdict, error.code, error.message)]
    except UsageError:
        raise
    except (Exception, CancelledError) as error:
        raise _lost(engine, error) from error


def _lost(engine: Engine, error: BaseException) -> ExecutorLostError:
    if isinstance(error, CancelledError):  # nobody here cancelled it
        return ExecutorLostError(f"{engine.name} is gone.")
    return ExecutorLostError(f"{engine.name} failed ({type(error).__name__}: {' '.join(str(error).split())}).")
