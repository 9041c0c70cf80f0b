"""Timing on CPU and CUDA with calibrated repetitions and interleaved calls. Raw samples are kept.

A sample is the time of one timed region of ``repeats`` calls in a row, divided by their number. Calls are interleaved
A B C, B C A and so on in one process, so that a slow machine slows all of them. On a CPU the clock reads the CPU time
of the thread if one thread computes, else the wall time. On CUDA it reads events on the current stream. This file
imports nothing of the project: ``revision_worker.py`` loads it by its path, so that two revisions share one clock.
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

#: Largest share of the timed region that the harness may add. Samples are long enough to keep the share below it.
OVERHEAD = 0.01
#: Least seconds of a sample. This is long compared with the clock's own cost (two system calls of about a microsecond
#: read the CPU time of a thread), and short compared with a scheduler's time slice (3 ms on Linux), so that most
#: samples contain no other process.
SAMPLE = 2e-3
#: If the wall time of a sample exceeds the CPU time of its thread by this factor, another process ran meanwhile.
SHARED = 1.02
#: p90 / p10 above which a figure gets a warning: one sample then cannot show a change of 15%.
WIDE = 1.15
#: Bytes to write to flush a cache of unknown size: twice the largest last-level cache of common server cores.
FLUSH = 128 << 20
LARGEST_FLUSH = 512 << 20

Call = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """Raw samples of one call, in seconds. Every statistic is derived from them.

    Args:
        seconds: time of one call, for each kept sample.
        repeats: number of calls in a sample.
        discarded: number of samples left out because another process or a throttled device disturbed them.

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
        """A quantile of the samples, with linear interpolation."""
        ordered = sorted(self.seconds)
        place = share * (len(ordered) - 1)
        low = math.floor(place)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (place - low) * (ordered[high] - ordered[low])

    @property
    def spread(self) -> float:
        """p90 / p10."""
        return self.quantile(0.9) / self.quantile(0.1)

    @property
    def warning(self) -> str:
        """A warning about the reliability of the median; empty if there is none."""
        notes = []
        if self.spread > WIDE:
            notes.append(f"wide spread: p90 is {self.spread:.2f} times p10")
        if self.discarded:
            notes.append(f"{self.discarded} disturbed samples left out")
        return "; ".join(notes)


class Clock:
    """Clock for calls on a device.

    Args:
        device: "cpu" or a CUDA device.
        throttled: function that returns whether the device is throttled; called before and after each CUDA sample.
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
        """Write a buffer of twice the last-level cache's size, so that the next call finds none of its data there."""
        if self._flushed is None:
            self._flushed = torch.empty(flush_bytes(self.device), dtype=torch.uint8, device=self.device)
        self._flushed.fill_(1)

    def calibrate(self, call: Call, shortest: float = SAMPLE) -> int:
        """Number of calls that make a sample ``shortest`` seconds long and keep the clock's own share below OVERHEAD.

        The calibration is also the warm-up: the number doubles until the sample is long enough, and work that is done
        once falls into the first samples.
        """
        shortest = max(shortest, self._cost() / OVERHEAD)
        repeats = 1
        while True:
            seconds = min(self.region(call, repeats)[0] for _ in range(2)) * repeats
            if seconds >= shortest or repeats >= 1 << 20:
                return repeats
            repeats = max(2 * repeats, math.ceil(repeats * min(100.0, shortest / max(seconds, 1e-9))))

    def _cost(self) -> float:
        """Seconds that the timing of an empty region takes."""
        return statistics.median(self.region(lambda: None, 1)[0] for _ in range(20))

    def region(self, call: Call, repeats: int) -> tuple[float, bool]:
        """Seconds of one call, over one region of ``repeats`` calls, and whether the sample was disturbed.

        On a CPU with one thread these are CPU seconds of the thread, which exclude the time of other processes. If the
        call waited voluntarily (a sleep, a lock, a read), or several threads compute, these are wall seconds, because
        the waiting belongs to the call.
        """
        rounds = range(repeats)
        if self.cuda:
            before = self._throttled()
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            for _ in rounds:
                call()
            end.record()
            end.synchronize()
            return (1e-3 * start.elapsed_time(end) / repeats, before or self._throttled())
        waits, busy, begin = _waits(), time.thread_time(), time.perf_counter()
        for _ in rounds:
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
        """Time several calls in turns: A B C, B C A, ..

        Args:
            calls: calls by name, with allocated inputs and prepared tables.
            cold: flush the cache before each sample, outside the timed region; a sample is then one call.
            seconds: time to spend on each call.
            least: least number of samples of each call.
            most: largest number of samples of each call.
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
                        calls[name]()  # untimed: it evicts the data of the other calls from the caches
                    taken[name].append(self.region(calls[name], repeats[name]))
        return {name: kept(samples, repeats[name]) for name, samples in taken.items()}


def kept(samples: Sequence[tuple[float, bool]], repeats: int) -> Timing:
    """The timing without disturbed samples. All samples are kept if most are disturbed: the call itself may wait.

    Args:
        samples: seconds of one call, and whether the sample was disturbed.
        repeats: number of calls in a sample.
    """
    sound = tuple(seconds for seconds, disturbed in samples if not disturbed)
    if 2 * len(sound) < len(samples):
        return Timing(tuple(seconds for seconds, _ in samples), repeats)
    return Timing(sound, repeats, discarded=len(samples) - len(sound))


def _waits() -> int:
    """Number of voluntary context switches of this thread; a value that never repeats, if the system does not count."""
    if not hasattr(resource, "RUSAGE_THREAD"):
        return time.perf_counter_ns()
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw


@contextmanager
def quiet() -> Iterator[None]:
    """Context without garbage collection, which would fall into some of the samples."""
    was = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def flush_bytes(device: torch.device) -> int:
    """Twice the size of the last-level cache: the L2 cache of a GPU, or a CPU's last level if Linux reports it."""
    if device.type == "cuda":
        return 2 * int(torch.cuda.get_device_properties(device).L2_cache_size)
    sizes = [_bytes(path.read_text()) for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")]
    return min(2 * max(sizes, default=FLUSH // 2), LARGEST_FLUSH)


def _bytes(text: str) -> int:
    """Bytes of a size in the notation of sysfs, such as "36608K"."""
    text = text.strip()
    unit = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(text[-1:], 1)
    return int(text.rstrip("KMG") or 0) * unit
