"""Timing on CPU and CUDA: calibrated repetitions, interleaved calls, raw samples kept.

A sample is one timed region: ``repeats`` calls in a row, divided by their number. Calls are interleaved A B C, B C A
and so on in one process, so that whatever slows the machine slows them all. On a CPU time is that of the thread where
it computes alone, else that on the wall; on CUDA events on the current stream. This file imports nothing of the
project: ``worker.py`` loads it by its path, so that two revisions are timed by one clock.
"""

from __future__ import annotations

import gc
import math
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

#: The harness may add this share to the timed region; a sample is long enough that it adds less.
OVERHEAD = 0.01
#: Seconds. A sample at least this long spans several ticks of the clock's coarsest part (the CPU time of a thread is
#: read by a system call of about a microsecond, twice), and is still short beside a scheduler's time slice (3 ms on
#: Linux), so that most samples see no other process at all.
SAMPLE = 2e-3
#: A sample whose wall time exceeds the CPU time of its thread by this factor was shared with another process.
SHARED = 1.02
#: p90 / p10 beyond which a figure carries a warning: the distance at which a change of 15% drowns in one sample.
WIDE = 1.15
#: Bytes written to flush a cache whose size cannot be read: twice the largest last level of common servers' cores.
FLUSH = 128 << 20
LARGEST_FLUSH = 512 << 20

Call = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """Raw samples of one call, in seconds; every statistic is derived from them.

    Args:
        seconds: time of one call in each sample that was kept.
        repeats: calls in a sample.
        discarded: samples left out because another process or a throttled device had part of them.

    Example:
        >>> timing = Timing((1.0, 1.1, 1.0, 2.0), repeats=1)
        >>> timing.median, timing.least
        (1.05, 1.0)
        >>> timing.warning
        'wide spread: p90 is 1.73 times p10'
    """

    seconds: tuple[float, ...]
    repeats: int = 1
    discarded: int = 0

    @property
    def median(self) -> float:
        """The middle sample."""
        return statistics.median(self.seconds)

    @property
    def least(self) -> float:
        """The fastest sample."""
        return min(self.seconds)

    def quantile(self, share: float) -> float:
        """A quantile, linear between samples."""
        ordered = sorted(self.seconds)
        place = share * (len(ordered) - 1)
        low = math.floor(place)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (place - low) * (ordered[high] - ordered[low])

    @property
    def spread(self) -> float:
        """p90 over p10."""
        return self.quantile(0.9) / self.quantile(0.1)

    @property
    def warning(self) -> str:
        """What a reader has to know before believing the median; empty where there is nothing."""
        notes = []
        if self.spread > WIDE:
            notes.append(f"wide spread: p90 is {self.spread:.2f} times p10")
        if self.discarded:
            notes.append(f"{self.discarded} disturbed samples left out")
        return "; ".join(notes)


class Clock:
    """Times calls on a device.

    Args:
        device: "cpu" or a CUDA device.
        throttled: says whether the device is throttled now; asked before and after each CUDA sample.
    """

    def __init__(self, device: str = "cpu", throttled: Callable[[], bool] | None = None) -> None:
        self.device = torch.device(device)
        self.cuda = self.device.type == "cuda"
        self._throttled = throttled or (lambda: False)
        self._flushed: torch.Tensor | None = None

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.cuda:
            torch.cuda.synchronize(self.device)

    def flush(self) -> None:
        """Write a buffer of twice the last cache, so that the next call finds nothing of its own there."""
        if self._flushed is None:
            self._flushed = torch.empty(flush_bytes(self.device), dtype=torch.uint8, device=self.device)
        self._flushed.fill_(1)

    def calibrate(self, call: Call, shortest: float = SAMPLE) -> int:
        """Repetitions after which a sample is ``shortest`` seconds long and the clock's own share below OVERHEAD.

        Warms up on the way: the number doubles until the sample is long enough, and the first samples hold whatever
        is done once.
        """
        shortest = max(shortest, self._cost() / OVERHEAD)
        repeats = 1
        while True:
            seconds = min(self.region(call, repeats)[0] for _ in range(2)) * repeats
            if seconds >= shortest or repeats >= 1 << 20:
                return repeats
            repeats = max(2 * repeats, math.ceil(repeats * min(100.0, shortest / max(seconds, 1e-9))))

    def _cost(self) -> float:
        """Seconds that timing an empty region takes."""
        return statistics.median(self.region(lambda: None, 1)[0] for _ in range(20))

    def region(self, call: Call, repeats: int) -> tuple[float, bool]:
        """Seconds of one call, over one region of ``repeats`` calls, and whether something else was there meanwhile.

        On a CPU with one thread these are the thread's own CPU seconds, without what other processes had of the CPU;
        where the call waited of its own accord (a voluntary switch: a sleep, a lock, a read), or several threads
        compute, that waiting belongs to the call and it is wall time.
        """
        turns = range(repeats)
        if self.cuda:
            before = self._throttled()
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            for _ in turns:
                call()
            end.record()
            end.synchronize()
            return (1e-3 * start.elapsed_time(end) / repeats, before or self._throttled())
        waits, busy, begin = _waits(), time.thread_time(), time.perf_counter()
        for _ in turns:
            call()
        seconds = time.perf_counter() - begin
        busy = time.thread_time() - busy
        if torch.get_num_threads() > 1 or _waits() != waits:
            return seconds / repeats, False
        return busy / repeats, seconds > SHARED * busy

    def interleaved(
        self,
        calls: Mapping[str, Call],
        *,
        cold: bool = False,
        seconds: float = 1.0,
        least: int = 10,
        most: int = 1000,
    ) -> dict[str, Timing]:
        """Time several calls A B C, B C A, .. in turns.

        Args:
            calls: by name; inputs are allocated, tables set up.
            cold: flush the cache before each sample, outside the timed region; a sample is then one call.
            seconds: stop when so much time is spent for each call.
            least: samples of each call at least.
            most: samples of each call at most.
        """
        repeats = {name: self.calibrate(call) for name, call in calls.items()}
        if cold:
            repeats = dict.fromkeys(calls, 1)
        self.synchronize()
        names, taken = list(calls), {name: list[tuple[float, bool]]() for name in calls}
        deadline = time.perf_counter() + seconds * len(names)
        with quiet():
            for turn in range(most):
                if turn >= least and time.perf_counter() > deadline:
                    break
                for i in range(len(names)):
                    name = names[(turn + i) % len(names)]
                    if cold:
                        self.flush()
                    else:
                        calls[name]()  # what the others left in the caches is no part of a hot figure
                    taken[name].append(self.region(calls[name], repeats[name]))
        return {name: kept(samples, repeats[name]) for name, samples in taken.items()}


def kept(samples: Sequence[tuple[float, bool]], repeats: int) -> Timing:
    """Without the disturbed samples, unless they are the most: then the call itself may be what waits.

    Args:
        samples: seconds of one call, and whether the sample was disturbed.
        repeats: calls in a sample.
    """
    sound = tuple(seconds for seconds, disturbed in samples if not disturbed)
    if 2 * len(sound) < len(samples):
        return Timing(tuple(seconds for seconds, _ in samples), repeats)
    return Timing(sound, repeats, discarded=len(samples) - len(sound))


def _waits() -> int:
    """How often this thread gave up the CPU of its own accord; always another number where nobody counts."""
    if not hasattr(resource, "RUSAGE_THREAD"):
        return time.perf_counter_ns()
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw


@contextmanager
def quiet() -> Iterator[None]:
    """No garbage collection within: it would fall into whichever sample comes next."""
    was = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def flush_bytes(device: torch.device) -> int:
    """Twice the last cache: the second level of a GPU, the last level of a CPU where Linux says its size."""
    if device.type == "cuda":
        return 2 * int(torch.cuda.get_device_properties(device).L2_cache_size)
    sizes = [_bytes(path.read_text()) for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")]
    return min(2 * max(sizes, default=FLUSH // 2), LARGEST_FLUSH)


def _bytes(text: str) -> int:
    """The size that sysfs writes as "36608K"."""
    text = text.strip()
    unit = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(text[-1:], 1)
    return int(text.rstrip("KMG") or 0) * unit
