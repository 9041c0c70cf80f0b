"""How benchmarks/gpu.py measures: a clock, cold and hot caches, the machine's own ceilings, its state before and after.

On CUDA: events on the current stream around one call each. Hot: the call follows itself. Cold: a buffer of twice the
L2 cache is written between the calls, outside the timed region. On a CPU the same with a wall clock, to exercise this
code; its figures say nothing about a GPU.
"""

import statistics
import subprocess
import time
from dataclasses import asdict, dataclass, field

import torch


@dataclass
class Clock:
    """Times calls on a device."""

    device: str
    l2_bytes: int = 0
    _flush: torch.Tensor | None = field(default=None, repr=False)

    @classmethod
    def on(cls, device):
        if device != "cuda":
            return cls(device)
        return cls(device, torch.cuda.get_device_properties(0).L2_cache_size)

    def synchronize(self):
        if self.device == "cuda":
            torch.cuda.synchronize()

    def _flush_cache(self):
        if self.l2_bytes:
            if self._flush is None:
                self._flush = torch.empty(2 * self.l2_bytes, dtype=torch.uint8, device=self.device)
            self._flush.fill_(1)

    def sample(self, call, cold):
        """Milliseconds of one call."""
        if cold:
            self._flush_cache()
        if self.device != "cuda":
            start = time.perf_counter()
            call()
            return 1e3 * (time.perf_counter() - start)
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        end.synchronize()
        return start.elapsed_time(end)

    def interleaved(self, calls, cold, seconds, least=5, most=50):
        """Raw samples per name: A B C, B C A, .. until the seconds are spent; each name was called twice before."""
        for call in calls.values():
            call()
            call()
        self.synchronize()
        names, samples = list(calls), {name: [] for name in calls}
        deadline = time.perf_counter() + seconds
        for turn in range(most):
            if turn >= least and time.perf_counter() > deadline:
                break
            for i in range(len(names)):
                name = names[(turn + i) % len(names)]
                samples[name].append(self.sample(calls[name], cold))
        return samples


@dataclass(frozen=True)
class Ceilings:
    """What this machine reaches: bytes moved (read plus written) and products of large matrices."""

    bytes_per_second: float
    float32_per_second: float
    tf32_per_second: float
    bfloat16_per_second: float
    float64_per_second: float

    @property
    def three_tf32_per_second(self):
        """Of the accuracy of float32, by three products of TF32 numbers."""
        return self.tf32_per_second / 3

    def floor_ms(self, flops, moved, precision="float32"):
        """The larger of the two times that no implementation can beat."""
        rate = getattr(self, f"{precision}_per_second")
        return 1e3 * max(flops / rate, moved / self.bytes_per_second)


def measure_ceilings(clock, small):
    """Median of ten large copies, and of ten large products on random data in each precision."""
    size = 2**20 if small else 2**30
    source, target = (torch.rand(size // 4, device=clock.device) for _ in range(2))
    copy = clock.interleaved({"copy": lambda: target.copy_(source)}, False, 0, 10)["copy"]
    n = 128 if small else 8192
    rates = {}
    for name, dtype in (
        ("float32", torch.float32), ("tf32", torch.float32), ("bfloat16", torch.bfloat16), ("float64", torch.float64)
    ):  # fmt: skip
        side = n // 2 if dtype == torch.float64 else n
        a, b = (torch.randn(side, side, device=clock.device).to(dtype) for _ in range(2))
        with tf32(name == "tf32"):
            samples = clock.interleaved({name: lambda a=a, b=b: a @ b}, False, 0, 10)[name]
        rates[f"{name}_per_second"] = 2 * side**3 / (1e-3 * statistics.median(samples))
    return Ceilings(2 * size / (1e-3 * statistics.median(copy)), **rates)


class tf32:
    """Allow TF32 in matrix products and convolutions within a block, or forbid it."""

    def __init__(self, allowed):
        self.allowed = allowed

    def __enter__(self):
        self.before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = self.allowed

    def __exit__(self, *_):
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = self.before


STATE = "clocks.sm,clocks.mem,power.draw,temperature.gpu,clocks_throttle_reasons.active"


def device_state(device):
    """Clocks, power, temperature and reasons for throttling, from nvidia-smi; empty where there is none."""
    if device != "cuda":
        return {}
    try:
        command = ["nvidia-smi", f"--query-gpu={STATE}", "--format=csv,noheader,nounits", "-i", "0"]
        values = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
        return dict(zip(STATE.split(","), (value.strip() for value in values.split(",")), strict=True))
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return {"error": str(error)}


def describe(ceilings):
    return asdict(ceilings)
