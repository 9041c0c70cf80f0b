"""Peak memory of a call: memory a call allocates on top of what was already allocated, at its peak."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch


def peak_bytes(call: Callable[[], object], device: str = "cpu") -> int:
    """Bytes that a call has allocated at its peak. On a CPU the number is the same in every run.

    Args:
        call: the function to call, once.
        device: "cpu", where torch's profiler records every allocation of a tensor, or a CUDA device, where the
            allocator records the peak.

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
    """Context that discards standard error: the profiler's native code writes a line to it at start and at stop."""
    sys.stderr.flush()
    saved = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
