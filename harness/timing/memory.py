"""Peak memory of a call: what its tensors need beside those that were there before."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch


def peak_bytes(call: Callable[[], object], device: str = "cpu") -> int:
    """Bytes that a call has allocated at its worst moment; the same in every run on a CPU.

    Args:
        call: called once.
        device: "cpu", where torch's profiler sees every allocation of a tensor, or a CUDA device, where its
            allocator keeps the peak.

    Example:
        >>> peak_bytes(lambda: torch.ones(1000) + torch.ones(1000))
        12000
    """
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        torch.cuda.synchronize(device)
        return int(torch.cuda.max_memory_allocated(device) - before)
    activities = [torch.profiler.ProfilerActivity.CPU]
    with _silent(), torch.profiler.profile(activities=activities, profile_memory=True, acc_events=True) as profiler:
        kept = call()
    del kept
    events = profiler.profiler.kineto_results.events()
    held = peak = 0
    for event in sorted((e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


@contextmanager
def _silent() -> Iterator[None]:
    """The profiler's native part writes a line to the process's standard error when it starts and stops."""
    sys.stderr.flush()
    saved = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
