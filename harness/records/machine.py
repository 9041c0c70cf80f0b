"""The state of a machine during timing: load and affinity; a GPU's clocks, power, temperature, throttle reasons."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from typing import Any

#: NVML's reasons for clocks lower than requested, as bits: software power cap, hardware slowdown, software and hardware
#: thermal slowdown, power brake. The reasons "idle" and "clocks set by the user" are not among them.
THROTTLED = 0x4 | 0x8 | 0x20 | 0x40 | 0x80
#: Environment fields that must match for timings to be comparable.
FINGERPRINT = ("processor", "machine", "cores", "python")
_LIBRARY = "libnvidia-ml.so.1"


def machine_state(device: str = "cpu", nvml: Nvml | None = None) -> dict[str, Any]:
    """Load average and affinity now, and the state of the GPU that is timed."""
    state: dict[str, Any] = {}
    if hasattr(os, "getloadavg"):
        state["load"] = [round(x, 2) for x in os.getloadavg()]
    if hasattr(os, "sched_getaffinity"):
        state["affinity"] = sorted(os.sched_getaffinity(0))
    if device.startswith("cuda"):
        found = nvml or open_nvml(device)
        state["gpu"] = found.state() if found is not None else {"note": f"{_LIBRARY} cannot be loaded"}
    return state


def fingerprint(environment: Mapping[str, Any]) -> str:
    """Digest of the kind of machine of a record: processor, cores, GPUs, Python, torch and its threads.

    Example:
        >>> fingerprint({"processor": "a"}) == fingerprint({"processor": "b"})
        False
    """
    torch = environment.get("torch") or {}
    parts = [environment.get(key) for key in FINGERPRINT]
    parts += [torch.get("threads"), torch.get("devices"), (environment.get("versions") or {}).get("torch")]
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:12]


class Nvml:
    """One GPU, read through NVIDIA's management library.

    Args:
        library: the loaded library.
        uuid: UUID of the GPU, as torch reports it.
    """

    def __init__(self, library: Any, uuid: str) -> None:
        self._library, self._handle = library, ctypes.c_void_p()
        name = uuid if uuid.startswith("GPU-") else f"GPU-{uuid}"
        if library.nvmlInit_v2() or library.nvmlDeviceGetHandleByUUID(name.encode(), ctypes.byref(self._handle)):
            raise OSError(f"NVML has no GPU {name}")

    def _ask(self, function: str, *words: int, kind: Any = ctypes.c_uint) -> int | None:
        value = kind()
        failed = getattr(self._library, function)(self._handle, *words, ctypes.byref(value))
        return None if failed else int(value.value)

    def reasons(self) -> int:
        """NVML's reasons for clocks lower than requested, as bits; 0 where the GPU reports none."""
        return self._ask("nvmlDeviceGetCurrentClocksThrottleReasons", kind=ctypes.c_ulonglong) or 0

    def throttled(self) -> bool:
        """Whether the GPU is slowed down now because of power or heat."""
        return bool(self.reasons() & THROTTLED)

    def state(self) -> dict[str, Any]:
        """Clocks in MHz, power in W, temperature in degrees Celsius, reasons for throttling."""
        power = self._ask("nvmlDeviceGetPowerUsage")
        return {
            "sm_clock": self._ask("nvmlDeviceGetClockInfo", 1),
            "memory_clock": self._ask("nvmlDeviceGetClockInfo", 2),
            "power": None if power is None else power / 1000,
            "temperature": self._ask("nvmlDeviceGetTemperature", 0),
            "throttle_reasons": self.reasons(),
        }


def open_nvml(device: str, load: Callable[[str], Any] = ctypes.CDLL) -> Nvml | None:
    """NVML for a CUDA device of torch; None where the library or the GPU is missing."""
    try:
        import torch

        uuid = str(torch.cuda.get_device_properties(device).uuid)
        return Nvml(load(_LIBRARY), uuid)
    except (OSError, AttributeError, RuntimeError, AssertionError):
        return None
