"""A worker process: it takes calls, answers each call, and ends with the process that started it."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from typing import Any

from ..claim.outcome import Outcome
from ..verdict.codes import Verdict
from .plan import Check
from .scheduling import run_slice

#: Seconds between two tests of whether the process that started this one still runs.
WATCH = 0.5


@dataclass(frozen=True)
class Retiring:
    """An answer after which the worker process must be replaced."""

    value: Any


def start(
    environment: Mapping[str, str], preload: Sequence[str] = ()
) -> tuple[subprocess.Popen[bytes], Connection[Any, Any]]:
    """Start a fresh process that serves calls, and return it with the connection to it.

    The process is a new interpreter, so that no state of this process reaches a check. It is not a child in the sense
    of multiprocessing, because the workers of a cluster may not have such children.

    Args:
        environment: environment variables to set in the process before it loads anything.
        preload: modules that every call needs. They are loaded early, so that the first call's time excludes them.
    """
    ours, theirs = Pipe()
    call = f"serve({theirs.fileno()}, {tuple(preload)!r})"
    code = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import serve; {call}"
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            env={**os.environ, **environment},
        )
    finally:
        theirs.close()
    return process, ours


def serve(handle: int, preload: Sequence[str] = ()) -> None:
    """Answer calls until the connection closes. An exception is also sent as an answer."""
    calls: Connection[Any, Any] = Connection(handle)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupted run ends its workers itself
    os.dup2(2, 1)  # output that a library prints goes to standard error
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    for name in preload:
        with suppress(ImportError):  # the call that needs the module raises the error
            importlib.import_module(name)
    calls.send(None)
    while True:
        try:
            function, arguments = calls.recv()
        except EOFError:
            return
        try:
            answer = (True, function(*arguments))
        except Exception as error:
            answer = (False, error)
        calls.send(answer)


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(WATCH)
    os._exit(1)


def run_checks(checks: Sequence[Check]) -> list[Outcome] | Retiring:
    """Make checks. If their device no longer works, the answer retires the worker process."""
    outcomes = run_slice(checks)
    broken = any(o.result.verdict is Verdict.CRASHED and not answers(o.result.device) for o in outcomes)
    return Retiring(outcomes) if broken else outcomes


def answers(device: str) -> bool:
    """Whether a device still computes. After some errors a CUDA context fails in every call until its process ends.

    Example:
        >>> answers("cpu")
        True
    """
    if not device.startswith("cuda"):
        return True
    import torch

    try:
        return float(torch.ones(2, device=device).sum()) == 2.0
    except Exception:
        return False
