"""What the kernels cost before they run: registers, spills and shared memory, for any GPU, on any machine.

The NVRTC of the wheel nvidia-cuda-nvrtc needs neither driver nor GPU nor CuPy; `Nvrtc` calls it through ctypes, with
the names of CuPy's binding, so that both go through `compile.compile_program`.
"""

import ctypes
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from . import compile, sources
from .sources import Kernel


class Nvrtc:
    """NVRTC of the wheel.

    Args:
        folder: where libnvrtc lies; that of the installed wheel by default.

    Raises:
        ImportError: there is no such library; with the command that installs it.
    """

    def __init__(self, folder: Path | None = None) -> None:
        folder = folder or wheel_folder()
        libraries = sorted(folder.glob("libnvrtc.so.*")) if folder else []
        if folder is None or not libraries:
            raise ImportError("NVRTC is not installed: pip install nvidia-cuda-nvrtc==13.0.88")
        for builtins in sorted(folder.glob("libnvrtc-builtins.so.*")):
            ctypes.CDLL(str(builtins), ctypes.RTLD_GLOBAL)
        self._library = ctypes.CDLL(str(libraries[0]))
        self._library.nvrtcGetErrorString.restype = ctypes.c_char_p

    def getVersion(self) -> tuple[int, int]:
        """Major and minor version."""
        numbers = (ctypes.c_int * 2)()
        self._call("nvrtcVersion", ctypes.byref(numbers, 0), ctypes.byref(numbers, ctypes.sizeof(ctypes.c_int)))
        return numbers[0], numbers[1]

    def getSupportedArchs(self) -> list[int]:
        """Architectures that the compiler knows, such as 90, in ascending order."""
        count = ctypes.c_int()
        self._call("nvrtcGetNumSupportedArchs", ctypes.byref(count))
        numbers = (ctypes.c_int * count.value)()
        self._call("nvrtcGetSupportedArchs", numbers)
        return list(numbers)

    def createProgram(
        self, text: str, name: str, headers: Sequence[str], include_names: Sequence[str]
    ) -> ctypes.c_void_p:
        """A handle; headers must be empty, a program of `sources` is complete."""
        if headers or include_names:
            raise ValueError("a program of `sources` includes its headers; pass none")
        handle = ctypes.c_void_p()
        self._call("nvrtcCreateProgram", ctypes.byref(handle), text.encode(), name.encode(), 0, None, None)
        return handle

    def compileProgram(self, handle: ctypes.c_void_p, options: Sequence[str]) -> None:
        """Compile; the log tells what went wrong."""
        words = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
        self._call("nvrtcCompileProgram", handle, len(options), words)

    def getCUBIN(self, handle: ctypes.c_void_p) -> bytes:
        """The machine code."""
        return self._text("CUBIN", handle)

    def getProgramLog(self, handle: ctypes.c_void_p) -> str:
        """What the compiler said."""
        return self._text("ProgramLog", handle).rstrip(b"\0").decode()

    def destroyProgram(self, handle: ctypes.c_void_p) -> None:
        """Free a handle."""
        self._call("nvrtcDestroyProgram", ctypes.byref(handle))

    def _text(self, what: str, handle: ctypes.c_void_p) -> bytes:
        size = ctypes.c_size_t()
        self._call(f"nvrtcGet{what}Size", handle, ctypes.byref(size))
        content = ctypes.create_string_buffer(size.value)
        self._call(f"nvrtcGet{what}", handle, content)
        return content.raw

    def _call(self, name: str, *arguments: object) -> None:
        status = getattr(self._library, name)(*arguments)
        if status:
            raise RuntimeError(f"{name}: {self._library.nvrtcGetErrorString(status).decode()}")


def wheel_folder() -> Path | None:
    """Where the wheel nvidia-cuda-nvrtc (of CUDA 13, or 12) has its libraries, None without it."""
    spec = find_spec("nvidia")
    for root in (spec.submodule_search_locations or ()) if spec else ():
        for folder in ("cu13/lib", "cuda_nvrtc/lib"):
            if list((Path(root) / folder).glob("libnvrtc.so.*")):
                return Path(root) / folder
    return None


@dataclass(frozen=True)
class Resources:
    """What one thread and one block of a kernel take.

    Args:
        registers: per thread.
        stack: bytes of local memory per thread: arrays that are not in registers.
        spilled: bytes per thread that spilled registers are stored to and loaded from.
        shared: bytes of shared memory per block.
    """

    registers: int
    stack: int
    spilled: int
    shared: int


def resources(kernel: Kernel, architecture: str, nvrtc: Nvrtc) -> Resources:
    """Compile a kernel and read what it takes.

    Args:
        kernel: which.
        architecture: such as "sm_90".
        nvrtc: the compiler.
    """
    text = sources.program([kernel])
    return read_log(compile.compile_program(text, kernel.name, architecture, nvrtc, ["--ptxas-options=--verbose"]).log)


def read_log(log: str) -> Resources:
    """The figures in the assembler's report on a program of one kernel.

    Example:
        >>> read_log("0 bytes stack frame, 8 bytes spill stores, 4 bytes spill loads; "
        ...          "Used 32 registers, used 1 barriers, 1024 bytes smem")
        Resources(registers=32, stack=0, spilled=12, shared=1024)
    """

    def number(pattern: str) -> int:
        found = re.search(pattern, log)
        return int(found[1]) if found else 0

    registers = number(r"Used (\d+) registers")
    if not registers:
        raise ValueError(f"no report of the assembler in this log: {log!r}")
    spilled = number(r"(\d+) bytes spill stores") + number(r"(\d+) bytes spill loads")
    return Resources(registers, number(r"(\d+) bytes stack frame"), spilled, number(r"(\d+) bytes smem"))


# The low 12 bits of an instruction of 16 bytes (sm_70 and newer) say what it does, whatever its operands.
_OPERATIONS = {0x23C: "HMMA", 0xFAE: "LDGSTS", 0x223: "FFMA", 0x22B: "DFMA", 0xB1D: "BAR"}
_ELF_SECTIONS = struct.Struct(
    "<40x q 10x h h h"
)  # of a 64-bit ELF file: where its section headers are, size, number, names
_SECTION = struct.Struct("<I I Q Q Q Q")  # name, type, flags, address, offset, size


def instructions(cubin: bytes, kernel: str) -> dict[str, int]:
    """How many instructions of each kind the code of a kernel has: tensor cores, asynchronous copies, multiply-adds.

    Args:
        cubin: from `compile.compile_program`.
        kernel: its name.

    Returns:
        Counts by the assembler's names, of those in the code, however often they are executed.

    Raises:
        ValueError: the cubin has no such kernel.
    """
    start, size, count, names = _ELF_SECTIONS.unpack_from(cubin)
    headers = [_SECTION.unpack_from(cubin, start + i * size) for i in range(count)]
    strings = headers[names][4]
    wanted = b".text." + kernel.encode() + b"\0"
    for name, _, _, _, offset, length in headers:
        if cubin.startswith(wanted, strings + name):
            code = [int.from_bytes(cubin[at : at + 2], "little") & 0xFFF for at in range(offset, offset + length, 16)]
            return {operation: code.count(number) for number, operation in _OPERATIONS.items()}
    raise ValueError(f"the cubin has no kernel {kernel}")
