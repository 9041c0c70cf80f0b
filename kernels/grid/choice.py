"""backend="auto": which way of computing a layer is the fastest, measured once per shape and remembered.

A decision is made for one layer geometry, input shape, dtype, device and use (inference or training), and kept in this
process and in a file of the user's cache folder. The file's name is a digest of all that the answer depends on: also
the machine, its threads, torch's version and flags, and the sources of the kernels, so an answer never outlives its
reasons. Once decided it is the same in every thread and process: the first file written wins.

`EQUIHARNESS_AUTO=off` measures nothing and reads nothing: "auto" then means the default.
"""

import os
import platform
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

import torch
from torch import Tensor

from ..cuda.cache import cache_folder, key
from ..cuda.launch import executor_for

#: A call to be timed.
Call = Callable[[], object]

# Calls of each candidate: the first warms up, the fastest of the others counts. Interference only ever adds time, so
# the fastest of three is within it what the call costs.
_ROUNDS = 4

# Multiply-adds of a call below which nothing is measured: some milliseconds on a core of a CPU, and less than the
# launches of a GPU; the dozen calls of a measurement would not be earned back.
_LEAST_WORK = 2**27


class Chooser:
    """Decides between candidates by measurement, once for each key.

    Args:
        folder: where decisions are kept, None for no files.
        clock: seconds, for tests.

    Example:
        >>> chooser = Chooser(None, iter([0, 1, 1, 3] * 4).__next__)
        >>> chooser.choose("key", {"slow": lambda: None, "slower": lambda: None}), chooser.known("key")
        ('slow', 'slow')
    """

    def __init__(self, folder: Path | None, clock: Callable[[], float] = time.perf_counter) -> None:
        self._folder, self._clock = folder, clock
        self._known: dict[str, str] = {}
        self._lock = threading.RLock()

    def known(self, name: str) -> str | None:
        """What was decided for a key, in this process or, read once, in another; None where nothing was."""
        found = self._known.get(name)
        if found is None and self._folder is not None:
            with suppress(OSError):
                found = self._folder.joinpath(name).read_text(encoding="utf-8", errors="replace").strip()
        return found

    def choose(self, name: str, candidates: Mapping[str, Call]) -> str:
        """The name of the fastest candidate; measured where no valid decision is known.

        Args:
            name: the key.
            candidates: what to time, by name; the first is the default, which wins where all others fail.
        """
        found = self._known.get(name)
        if found is not None and found in candidates:
            return found
        with self._lock:  # threads that ask the same measure once, and never side by side
            found = self.known(name)
            if found is None or found not in candidates:
                found = self._stored(name, self._fastest(candidates), candidates)
            self._known[name] = found
        return found

    def _fastest(self, candidates: Mapping[str, Call]) -> str:
        """By the fastest call of each, taken in turns."""
        seconds = {name: float("inf") for name in candidates}
        left = dict(candidates)
        for turn in range(_ROUNDS):
            for name, call in list(left.items()):
                try:
                    start = self._clock()
                    call()
                    taken = self._clock() - start
                except RuntimeError:  # out of memory, or no algorithm for this shape: not a candidate
                    del left[name]
                    seconds[name] = float("inf")
                    continue
                if turn > 0:
                    seconds[name] = min(seconds[name], taken)
        return min(seconds, key=seconds.__getitem__)

    def _stored(self, name: str, decided: str, candidates: Mapping[str, Call]) -> str:
        """Write a decision unless another process has; what then stands in the file."""
        if self._folder is None:
            return decided
        temporary = None
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=self._folder, suffix=".part", delete=False) as file:
                temporary = file.name
                file.write(decided)
            path = self._folder / name
            try:
                os.link(temporary, path)  # atomic, and refused where the file exists
            except FileExistsError:
                other = path.read_text(encoding="utf-8", errors="replace").strip()
                if other in candidates:
                    return other
                os.replace(temporary, path)  # damaged, or of candidates that are no more
        except OSError:
            pass  # a read-only or full folder: decided for this process alone
        finally:
            if temporary is not None:
                Path(temporary).unlink(missing_ok=True)
        return decided


@lru_cache(maxsize=1)
def chooser() -> Chooser:
    """The one of this process, in the user's cache folder."""
    return Chooser(cache_folder().parent / "auto")


def measuring() -> bool:
    """Whether decisions are made at all."""
    return os.environ.get("EQUIHARNESS_AUTO", "").lower() != "off"


def worth_measuring(work: float) -> bool:
    """Whether a call of so many multiply-adds is."""
    return work >= _LEAST_WORK


def is_plain_call(*tensors: Tensor) -> bool:
    """Whether tensors hold numbers that a clock can be put to: no trace, transform, fake tensor or captured stream."""
    if torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None:
        return False
    if any(type(t) not in (Tensor, torch.nn.Parameter) or t.device.type not in ("cpu", "cuda") for t in tensors):
        return False
    if any(torch._C._functorch.is_functorch_wrapped_tensor(t) for t in tensors):
        return False
    return not (tensors[0].device.type == "cuda" and torch.cuda.is_current_stream_capturing())


def key_of(x: Tensor, *more: object) -> str:
    """The name of a decision on an input: a digest of it, of what else is given, and of this machine."""
    flags = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark
    words = (
        *more, tuple(x.shape), x.stride(), x.dtype, torch.is_autocast_enabled(x.device.type),
        torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), *flags,
        executor_for(x) is not None, *_machine(x.device.type, x.device.index), _sources(),
    )  # fmt: skip
    return key(*map(repr, words))[:32]


def synchronised(call: Call, device: torch.device) -> Call:
    """The call, until the device has done it."""
    if device.type != "cuda":
        return call

    def wait() -> None:
        call()
        torch.cuda.synchronize(device)

    return wait


@lru_cache(maxsize=8)
def _machine(kind: str, index: int | None) -> tuple[str, ...]:
    words = (platform.node(), platform.machine(), platform.processor(), str(os.cpu_count()), torch.__version__)
    return (*words, torch.cuda.get_device_name(index), str(torch.version.cuda)) if kind == "cuda" else (*words, kind)


@lru_cache(maxsize=1)
def _sources() -> str:
    """A digest of the kernels of this package, in CUDA and in torch."""
    package = files(__package__)
    folders = (package, package.joinpath("..", "cuda"))
    texts = [
        file.read_text(encoding="utf-8")
        for folder in folders
        for file in sorted(folder.iterdir(), key=lambda f: f.name)
        if file.name.endswith((".py", ".cu", ".cuh"))
    ]
    return key(*texts)
