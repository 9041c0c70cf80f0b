"""The same kernels on a CPU, through host_shim.cuh: for machines without a GPU, and for sanitizers.

`plain` is a library in this process. `address` (AddressSanitizer and UndefinedBehaviorSanitizer) and `thread`
(ThreadSanitizer) are programs that make one launch each, since a sanitizer ends the process where it finds something.
"""

import ctypes
import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import sources
from .cache import key
from .launch import Argument
from .sources import Kernel

# -ffp-contract=off: the compiler may fuse a multiply-add in one copy of a loop and not in another.
_COMMON = ("-std=c++17", "-ffp-contract=off")
# Looked for in one build of the three: all have the same text.
_WARNINGS = ("-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas")
_SANITIZE = ("-g1", "-fno-omit-frame-pointer", "-pthread")
BUILDS = {
    # Hidden: the loader merges unique symbols of all libraries of a process, and with them their tables of kernels.
    "plain": ("-O1", "-fPIC", "-shared", "-fvisibility=hidden", *_COMMON, *_WARNINGS),
    # -Og: every check of -O1, compiled in half the time.
    "address": ("-Og", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", *_SANITIZE, *_COMMON),
    "thread": ("-O1", "-fsanitize=thread", *_SANITIZE, *_COMMON),
}
#: Build -> what the loader puts in front of the kernels.
PRELUDE = {"plain": ("host_shim.cuh",), "address": ("host_main.cuh",), "thread": ("host_main.cuh",)}

_BITS = {torch.bfloat16: torch.int16}  # numpy has no such type: move the bits


class KernelFault(RuntimeError):
    """A kernel did on the host what would hang a GPU or corrupt its memory; with the report of the build."""


def compiler() -> str | None:
    """The C++ compiler of this machine, None where there is none."""
    return shutil.which(os.environ.get("CXX", "g++"))


@lru_cache
def compiler_version(command: str) -> str:
    """What the compiler says about itself, its target included: part of the name of everything that it made."""
    return subprocess.run([command, "-v"], capture_output=True, text=True, check=True).stderr


def build(text: str, kind: str, folder: Path) -> Path:
    """Compile a program for the host, unless the folder has it.

    The name of the result is a digest of the text (includes are written out in it), the compiler with its version and
    the flags. The result is written elsewhere and renamed when it is whole, so an interrupted build leaves no result.

    Args:
        text: from `sources.program`, with the prelude of the build.
        kind: "plain", "address" or "thread".
        folder: where the result stays. Several processes may use one folder.

    Raises:
        RuntimeError: no compiler, or it refused.
    """
    command = compiler()
    if command is None:
        raise RuntimeError("running kernels on the host needs a C++ compiler: install g++, or name one in CXX")
    flags = BUILDS[kind]
    path = folder / f"{kind}-{key(text, command, compiler_version(command), *flags)[:32]}"
    with _unless_stored(path) as workspace:
        if workspace is not None:
            prelude = sources.program([], PRELUDE[kind])
            if text.startswith(prelude):
                header = _compile_prelude(prelude, kind, folder, command)
                text, flags = text.removeprefix(prelude), (*flags, "-include", str(header / "prelude.hpp"))
            (workspace / "program.cpp").write_text(text, encoding="utf-8")
            _run_compiler([command, *flags, "-o", workspace / "result", workspace / "program.cpp"])
            with open(workspace / "result", "rb") as result:
                os.fsync(result.fileno())  # a rename must not reach the disk before the content does
            os.replace(workspace / "result", path)
    return path


def _compile_prelude(prelude: str, kind: str, folder: Path, command: str) -> Path:
    """A folder with the prelude of a build as prelude.hpp and, precompiled, as prelude.hpp.gch.

    The compiler takes the precompiled header where it fits the call, otherwise the text beside it.
    """
    flags = tuple(flag for flag in BUILDS[kind] if flag != "-shared")
    path = folder / f"prelude-{kind}-{key(prelude, command, compiler_version(command), *flags)[:32]}"
    with _unless_stored(path) as workspace:
        if workspace is not None:
            made = workspace / "made"
            made.mkdir()
            (made / "prelude.hpp").write_text(prelude, encoding="utf-8")
            _run_compiler([command, *flags, "-xc++-header", "-o", made / "prelude.hpp.gch", made / "prelude.hpp"])
            with open(made / "prelude.hpp.gch", "rb") as result:
                os.fsync(result.fileno())
            os.rename(made, path)
    return path


@contextmanager
def _unless_stored(path: Path) -> Iterator[Path | None]:
    """A workspace to make a result in, None where the path exists; processes that want the same wait for each other."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(f"{path}.lock", "w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                with tempfile.TemporaryDirectory(dir=path.parent, prefix=f"{path.name}.part") as workspace:
                    yield Path(workspace)
                return
    os.utime(path)  # used: `prune` counts from here
    yield None


def _run_compiler(words: Sequence[str | Path]) -> None:
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{words[0]} did not compile the kernels for the host:\n{done.stderr}")


class HostExecutor:
    """Runs kernels on the CPU.

    Args:
        program: from `build`.
        kind: "plain", "address" or "thread".
        backwards: let the threads of a block run from the last to the first.

    Attributes:
        launched: the names of the kernels that ran, in order.
    """

    def __init__(self, program: Path, kind: str, *, backwards: bool = False) -> None:
        self._program = program
        self._library = ctypes.CDLL(str(program)) if kind == "plain" else None
        self._backwards = backwards
        self.launched: list[str] = []

    def launch(self, kernel: Kernel, grid: tuple[int, int, int], arguments: Sequence[Argument]) -> None:
        """Launch and wait.

        Raises:
            KernelFault: a divergent barrier, or whatever the sanitizers of the build found.
        """
        self.launched.append(kernel.name)
        if self._library is not None:
            self._call(self._library, kernel, grid, arguments)
        else:
            self._spawn(kernel, grid, arguments)

    def empty(self, like: Tensor, shape: Sequence[int], dtype: torch.dtype | None = None) -> Tensor:
        """Memory full of NaN, so that a result that nobody wrote is seen."""
        return like.new_full(tuple(shape), float("nan"), dtype=dtype)

    def _call(
        self, library: ctypes.CDLL, kernel: Kernel, grid: tuple[int, int, int], arguments: Sequence[Argument]
    ) -> None:
        # As the driver of a GPU wants it: per argument, the address of its value.
        pointers = [ctypes.c_void_p(a.data_ptr()) if isinstance(a, Tensor) else None for a in arguments]
        places = [
            a.ctypes.data if pointer is None else ctypes.addressof(pointer)  # type: ignore[union-attr]
            for a, pointer in zip(arguments, pointers, strict=True)
        ]
        message = ctypes.create_string_buffer(512)
        failed = library.shim_launch(
            kernel.name.encode(),
            (ctypes.c_uint * 3)(*grid),
            ctypes.c_uint(kernel.threads),
            ctypes.c_int(self._backwards),
            (ctypes.c_void_p * len(places))(*places),
            message,
            ctypes.c_size_t(len(message)),
        )
        if failed:
            raise KernelFault(message.value.decode())

    def _spawn(self, kernel: Kernel, grid: tuple[int, int, int], arguments: Sequence[Argument]) -> None:
        memory = [_flat(a) for a in arguments if isinstance(a, Tensor)]
        with tempfile.TemporaryDirectory() as folder:
            given, result = Path(folder) / "launch", Path(folder) / "result"
            given.write_bytes(_launch_file(kernel, grid, arguments, self._backwards))
            done = subprocess.run([self._program, given, result], capture_output=True, text=True, env=_environment())
            if done.returncode:
                raise KernelFault(done.stderr)
            content = result.read_bytes()
        for flat in memory:
            size, old = flat.numel() * flat.element_size(), flat.view(torch.uint8)
            new = torch.frombuffer(bytearray(content[:size]), dtype=torch.uint8) if size else old
            if not torch.equal(old, new):  # what the kernel only read stays untouched: autograd counts writes
                old.copy_(new)
            content = content[size:]


def _launch_file(kernel: Kernel, grid: tuple[int, int, int], arguments: Sequence[Argument], backwards: bool) -> bytes:
    """What host_main.cuh reads: numbers of 8 bytes, and content preceded by its size."""

    def numbers(values: Iterable[int]) -> bytes:
        return np.asarray(list(values), np.int64).tobytes()

    name = kernel.name.encode()
    parts = [numbers([len(name)]), name, numbers([*grid, kernel.threads, backwards, len(arguments)])]
    for argument in arguments:
        is_memory = isinstance(argument, Tensor)
        content = _bytes(argument) if isinstance(argument, Tensor) else argument.tobytes()
        parts += [numbers([is_memory, len(content)]), content]
    return b"".join(parts)


def _flat(tensor: Tensor) -> Tensor:
    """The memory from a tensor's first element to its last, whatever its strides."""
    steps = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.detach().as_strided((steps + 1 if tensor.numel() else 0,), (1,))


def _bytes(tensor: Tensor) -> bytes:
    content: bytes = _flat(tensor).view(_BITS.get(tensor.dtype, tensor.dtype)).numpy().tobytes()
    return content


def _environment() -> dict[str, str]:
    """Sanitizers report once and end with an error; no hunt for leaks, which needs rights that containers lack."""
    return {
        **os.environ,
        "ASAN_OPTIONS": "detect_leaks=0:halt_on_error=1:detect_stack_use_after_return=0",
        "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
        "TSAN_OPTIONS": "halt_on_error=1:exitcode=66",
    }


def executor(text: str, kind: str, folder: Path, **options: Any) -> HostExecutor:
    """Build a program and run it."""
    return HostExecutor(build(text, kind, folder), kind, **options)
