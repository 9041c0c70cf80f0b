"""Worker processes as an Executor. A process makes one call at a time, so its death or delay affects that call only."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

from ..errors import UsageError
from ..verdict.codes import Code, Verdict
from .scheduling import Engine, LostCheckError, NearExecutor
from .worker_process import Retiring, run_checks, start

#: A plan with fewer checks runs in this process: starting workers, which import torch and the libraries, takes longer.
FEW_CHECKS = 100
#: Signals that come from outside the process: from a user, a batch system, or the kernel when memory runs out. Crashes
#: of native code raise other signals.
OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
#: Number of attempts to start a process.
STARTS = 3
#: Seconds to wait for the end of a process that closed its connection, before it is killed.
GRACE = 2.0


def workers_for(checks: int, jobs: int = 0, gpus: int = 0) -> int:
    """Number of worker processes for a plan; 0 means that the plan runs in this process.

    Args:
        checks: length of the plan.
        jobs: requested number of processes. 0 means one per GPU, or one per core on a machine without a GPU, and this
            process for a short plan. 1 means this process.
        gpus: number of GPUs that the plan may use.

    Example:
        >>> workers_for(5), workers_for(5, jobs=3), workers_for(1000, gpus=2)
        (0, 3, 2)
    """
    if jobs:
        return jobs if jobs > 1 else 0
    return 0 if checks < FEW_CHECKS else gpus or cores()


def cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus_for(device: str, count: int, environment: Mapping[str, str] | None = None) -> list[str]:
    """The GPUs to distribute to workers, by their names in CUDA_VISIBLE_DEVICES.

    Args:
        device: torch device of the plan. With "cuda" the GPUs are distributed; all workers share a numbered device.
        count: number of GPUs that torch finds.
        environment: environment variables of the process.

    Example:
        >>> gpus_for("cuda", 2, {}), gpus_for("cuda", 2, {"CUDA_VISIBLE_DEVICES": "3,GPU-4f"}), gpus_for("cuda:1", 2)
        (['0', '1'], ['3', 'GPU-4f'], [])
    """
    if device != "cuda":
        return []
    listed = (os.environ if environment is None else environment).get("CUDA_VISIBLE_DEVICES", "")
    names = [name.strip() for name in listed.split(",") if name.strip()]
    return names[:count] if names else [str(number) for number in range(count)]


class Pool(NearExecutor):
    """Executor with one process for each worker, and one call at a time in each process.

    A call raises ``LostCheckError`` if its process ends by itself (a crash of native code, an exit), or if it takes too
    long; its process is then killed. A call is made once more if its process was killed from outside. Other calls go on
    in fresh processes. An idle process that made the last call with the same key takes the next call with this key,
    because it has built the claim; another call with a key goes to the process that has been idle longest, and a call
    without a key to the one that became idle last.

    Args:
        workers: number of processes, which start when they are needed.
        limit: seconds that a call may take; None for no limit.
        gpus: names of GPUs; each worker has one of them, in turn.
        linger: seconds after which an idle process ends; None for never.
        preload: modules that a process loads before its first call.
    """

    def __init__(
        self,
        workers: int,
        *,
        limit: float | None = None,
        gpus: Sequence[str] = (),
        linger: float | None = None,
        preload: Sequence[str] = ("torch",),
    ) -> None:
        self.size, self.limit, self.gpus, self.linger = workers, limit, tuple(gpus), linger
        self.preload = tuple(preload)
        self.closing = False
        self._lock = threading.Lock()
        self._workers: list[_Worker] = []
        self._idle: list[_Worker] = []
        self._waiting: deque[_Call] = deque()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Schedule a call. Function and arguments are sent to another process, which sends the answer back."""
        if kwargs:
            raise TypeError("Pool.submit takes positional arguments only.")
        return self.submit_near(None, fn, *args)

    def submit_near(self, key: Hashable, fn: Callable[..., Any], /, *args: Any) -> Future[Any]:
        """Schedule a call; an idle process that made the last call with this key takes it."""
        call = _Call(fn, args, key)
        with self._lock:
            if self.closing:
                raise RuntimeError("The pool is closed.")
            if self._idle:
                other = self._idle[-1 if key is None else 0]
                worker = next((w for w in self._idle if w.key == key is not None), other)
                self._idle.remove(worker)
                worker.take(call)
            elif len(self._workers) < self.size:
                worker = _Worker(self, self._environment(len(self._workers)))
                self._workers.append(worker)
                worker.take(call)
            else:
                self._waiting.append(call)
        return call.future

    def _environment(self, number: int) -> dict[str, str]:
        return {"CUDA_VISIBLE_DEVICES": self.gpus[number % len(self.gpus)]} if self.gpus else {}

    def next_for(self, worker: _Worker) -> None:
        """Give the next call to an idle worker, or let the worker wait for a call."""
        with self._lock:
            if self._waiting:
                worker.take(self._waiting.popleft())
            elif self.closing:
                worker.calls.put(None)
            else:
                self._idle.append(worker)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes: after their calls, or at once with ``cancel_futures``."""
        with self._lock:
            self.closing = True
            while cancel_futures and self._waiting:
                self._waiting.popleft().future.cancel()
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.calls.put(None)
        for worker in self._workers:
            if cancel_futures:
                worker.kill()
            if wait:
                worker.thread.join()


class _Call:
    """A call and its future, with the key of what its process should keep."""

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...], key: Hashable = None) -> None:
        self.order, self.key = (function, arguments), key
        self.future: Future[Any] = Future()


class _Worker:
    """One process at a time, and the thread that communicates with it."""

    def __init__(self, pool: Pool, environment: Mapping[str, str]) -> None:
        self.pool, self.environment = pool, environment
        self.key: Hashable = None
        self.calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self.process: subprocess.Popen[bytes] | None = None
        self.connection: Connection[Any, Any] | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def take(self, call: _Call) -> None:
        """Make this call next."""
        self.key = call.key
        self.calls.put(call)

    def kill(self) -> None:
        """End the process now."""
        process = self.process
        if process is not None:
            process.kill()

    def _run(self) -> None:
        while True:
            try:
                call = self.calls.get(timeout=self.pool.linger)
            except queue.Empty:
                self._end_process()
                continue
            if call is None:
                self._end_process()
                return
            if not call.future.set_running_or_notify_cancel():
                self.pool.next_for(self)
                continue
            try:
                good, value = self._answer(call)
            except BaseException as error:
                good, value = False, error
            self.pool.next_for(self)  # before the answer: its receiver may submit the next call for this worker
            if good:
                call.future.set_result(value)
            else:
                call.future.set_exception(value)

    def _answer(self, call: _Call) -> tuple[bool, Any]:
        """The answer to a call. The call is made once more if its process was killed from outside."""
        again = True
        while True:
            connection = self._ready()
            try:
                connection.send(call.order)
                if self.pool.limit is not None and not connection.poll(self.pool.limit):
                    self.kill()
                    self._end_process()
                    raise _timed_out(self.pool.limit)
                good, value = connection.recv()
            except (EOFError, ConnectionError) as error:
                code = self._end_process()
                if self.pool.closing:
                    raise CancelledError from error
                if -code in OUTSIDE and again:
                    again = False
                    continue
                raise _died(code) from error
            if isinstance(value, Retiring):
                self._end_process()
                value = value.value
            return good, value

    def _ready(self) -> Connection[Any, Any]:
        """The connection to a process that waits for a call."""
        if self.connection is not None and self.process is not None and self.process.poll() is None:
            return self.connection
        code = self._end_process()
        for _ in range(STARTS):
            self.process, self.connection = start(self.environment, self.pool.preload)
            try:
                if self.pool.closing:  # ``shutdown`` may have missed this new process
                    raise EOFError
                self.connection.recv()
            except (EOFError, ConnectionError) as error:
                if self.pool.closing:
                    self.kill()
                    self._end_process()
                    raise CancelledError from error
                code = self._end_process()
            else:
                return self.connection
        raise UsageError(f"A worker process cannot start: {_ending(code)}. Its output is above; try --jobs 1.")

    def _end_process(self) -> int:
        """End the process if it has not ended, and return its exit code."""
        process, connection = self.process, self.connection
        self.process = self.connection = None
        if connection is not None:
            connection.close()
        if process is None:
            return 0
        try:
            # A process that is ending has its exit code after a moment; a process that hangs is killed.
            code = process.wait(timeout=0 if process.poll() is not None else GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        return code


def _ending(code: int) -> str:
    if code >= 0:
        return f"it ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = str(-code)
    return f"it ended with signal {name} ({(signal.strsignal(-code) or 'unknown').lower()})"


def _died(code: int) -> LostCheckError:
    if -code in OUTSIDE:
        message = (
            f"The check's process was killed twice: {_ending(code)}. The machine was out of memory, or someone killed "
            "the process. Run the check alone."
        )
    else:
        message = f"The check's process crashed: {_ending(code)}. Run the check alone to see the crash."
    return LostCheckError(Verdict.CRASHED, Code.DIED, message)


def _timed_out(limit: float) -> LostCheckError:
    message = f"No result within {limit:g} s; the check's process was killed. Raise --limit, or run the check alone."
    return LostCheckError(Verdict.TIMED_OUT, Code.LIMIT, message)


@contextmanager
def pooled(
    workers: int, *, limit: float | None = None, gpus: Sequence[str] = (), preload: Sequence[str] = ("torch",)
) -> Iterator[Engine]:
    """An engine of processes on this machine. They end with the context. The arguments are those of ``Pool``."""
    pool = Pool(workers, limit=limit, gpus=gpus, preload=preload)
    try:
        yield Engine(pool, workers, run_checks, name="The pool of processes")
    finally:
        pool.shutdown(cancel_futures=True)
