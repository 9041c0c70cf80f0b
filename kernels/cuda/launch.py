"""Who runs the kernels: a GPU through CuPy, or nobody, and then torch computes the same.

An operator asks `executor_for` and computes with torch where the answer is None. On a GPU a launch goes to torch's
current stream of the tensor's own device, with the addresses of torch's tensors: nothing is copied, nothing waits.
"""

import logging
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor

from . import cache, compile, sources
from .sources import Kernel

_LOG = logging.getLogger(__name__)

# A pointer, or the fields of a C++ struct, passed by value: a numpy array of shape () and a structured dtype.
Argument: TypeAlias = "Tensor | np.ndarray[Any, Any]"


class Executor(Protocol):
    """Runs kernels on tensors."""

    def launch(self, kernel: Kernel, grid: tuple[int, int, int], arguments: Sequence[Argument]) -> None:
        """Launch; the tensors of the arguments are on one device."""

    def empty(self, like: Tensor, shape: Sequence[int], dtype: torch.dtype | None = None) -> Tensor:
        """Memory for a result, contiguous, its content arbitrary."""


class CudaExecutor:
    """Runs kernels on NVIDIA GPUs, compiling each once per architecture and loading it once per device.

    Args:
        cupy: the module; given, because importing it costs a second and needs an installation.
    """

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy
        self._functions: dict[tuple[Kernel, int], Any] = {}
        self._lock = threading.Lock()  # autograd calls from one thread per device

    def launch(self, kernel: Kernel, grid: tuple[int, int, int], arguments: Sequence[Argument]) -> None:
        """Launch on the current stream of the tensors' device."""
        device = next(a.device.index for a in arguments if isinstance(a, Tensor))
        values = [np.uint64(a.data_ptr()) if isinstance(a, Tensor) else a for a in arguments]
        with torch.cuda.device(device):
            stream = self._cupy.cuda.ExternalStream(torch.cuda.current_stream(device).cuda_stream)
            self._function(kernel, device)(grid, (kernel.threads, 1, 1), values, stream=stream)

    def empty(self, like: Tensor, shape: Sequence[int], dtype: torch.dtype | None = None) -> Tensor:
        """Uninitialised memory from torch's allocator."""
        return like.new_empty(tuple(shape), dtype=dtype)

    def _function(self, kernel: Kernel, device: int) -> Any:
        """The kernel on this device, which must be the current one."""
        function = self._functions.get((kernel, device))
        if function is None:
            with self._lock:
                function = self._functions.get((kernel, device)) or self._load(kernel, device)
                self._functions[kernel, device] = function
        return function

    def _load(self, kernel: Kernel, device: int) -> Any:
        major, minor = torch.cuda.get_device_capability(device)
        architecture = f"sm_{major}{minor}"
        module = self._cupy.cuda.function.Module()
        module.load(self.cubin(kernel, architecture))
        return module.get_function(kernel.name)

    def cubin(self, kernel: Kernel, architecture: str) -> bytes:
        """The machine code of a kernel, from the disk where a process has compiled it before."""
        nvrtc = self._cupy.cuda.nvrtc
        text = sources.program([kernel])
        name = cache.key(text, *compile.options(architecture), compile.compiler_version(nvrtc))
        return cache.load_or_build(
            f"{kernel.name}-{architecture}-{name[:16]}.cubin",
            lambda: compile.compile_program(text, kernel.name, architecture, nvrtc).cubin,
        )


# What `running_on` put in the place of the choice below, innermost last. Of the whole process, not of a thread or
# context: autograd computes gradients in threads of its own.
_FORCED: list[Executor | None] = []


@contextmanager
def running_on(executor: Executor | None) -> Iterator[None]:
    """Run the kernels of this process elsewhere for a while: on the host runner, or (None) leave the work to torch.

    Example:
        >>> with running_on(None):
        ...     executor_for(torch.ones(1)) is None
        True
    """
    _FORCED.append(executor)
    try:
        yield
    finally:
        _FORCED.pop()


def executor_for(tensor: Tensor) -> Executor | None:
    """Who runs kernels on this tensor, or None where torch should compute.

    Example:
        >>> executor_for(torch.ones(1)) is None
        True
    """
    if _FORCED:
        return _FORCED[-1]
    return _cuda_executor() if tensor.device.type == "cuda" else None


@lru_cache(maxsize=1)
def _cuda_executor() -> CudaExecutor | None:
    """The executor of this process' GPUs; without CuPy one line in the log says so, once."""
    if os.environ.get("EQUIHARNESS_CUDA_KERNELS", "").lower() == "off":
        _LOG.debug("EQUIHARNESS_CUDA_KERNELS=off: the CUDA kernels are not used, torch computes in their place")
        return None
    if torch.version.cuda is None:
        _LOG.debug("this torch is not built for NVIDIA GPUs: torch computes in the place of the CUDA kernels")
        return None
    try:
        import cupy
    except ImportError as error:
        major = torch.version.cuda.partition(".")[0]
        _LOG.debug(
            "CuPy compiles and launches the CUDA kernels and is not importable (%s); torch computes in their place. "
            "Install it with: pip install equiharness[cuda%s]",
            error,
            major,
        )
        return None
    return CudaExecutor(cupy)
