"""From a program to the machine code of one GPU architecture, by NVRTC.

NVRTC is called through CuPy, which every machine that launches the kernels has. The flags below are all there are: the
tests compile the same text with the same flags by the NVRTC of a wheel (`resources`), on machines without a GPU.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


def options(architecture: str) -> tuple[str, ...]:
    """The compiler's flags; a name with sm_ makes NVRTC emit machine code (a cubin), not PTX.

    Contraction to fused multiply-adds is on, as by default: said here because the canonical order relies on every sum
    being compiled alike, not on which instruction it is.

    Args:
        architecture: such as "sm_90".

    Example:
        >>> options("sm_90")
        ('--gpu-architecture=sm_90', '--std=c++17', '--fmad=true')
    """
    return (f"--gpu-architecture={architecture}", "--std=c++17", "--fmad=true")


def compiler_version(nvrtc: Any) -> str:
    """The version of the compiler, such as "13.0": part of the key of everything that it made."""
    major, minor = nvrtc.getVersion()
    return f"{major}.{minor}"


@dataclass(frozen=True)
class Compiled:
    """Machine code, and what the compiler said about it."""

    cubin: bytes
    log: str


def compile_program(text: str, name: str, architecture: str, nvrtc: Any, extra: Sequence[str] = ()) -> Compiled:
    """Compile a program.

    Args:
        text: the program, from `sources.program`.
        name: how the compiler calls it in its messages.
        architecture: such as "sm_90".
        nvrtc: CuPy's binding, ``cupy.cuda.nvrtc``, or `resources.Nvrtc`.
        extra: flags that change what is said, not what is made.

    Raises:
        RuntimeError: the compiler refused; with its log and the way around.
    """
    handle = nvrtc.createProgram(text, f"{name}.cu", (), ())
    try:
        nvrtc.compileProgram(handle, (*options(architecture), *extra))
        return Compiled(_whole(nvrtc.getCUBIN(handle)), nvrtc.getProgramLog(handle))
    except Exception as error:
        raise RuntimeError(
            f"NVRTC {compiler_version(nvrtc)} did not compile {name} for {architecture}: {error}\n"
            f"{nvrtc.getProgramLog(handle)}\n"
            f"Set EQUIHARNESS_CUDA_KERNELS=off to compute with torch instead, and report this log."
        ) from error
    finally:
        nvrtc.destroyProgram(handle)


# Of the header of a 64-bit ELF file: where program and section headers start, size and number of each.
_ELF = struct.Struct("<32x q q 6x h h h h")


def _whole(cubin: bytes) -> bytes:
    """The cubin with its last byte: CuPy 14.2's binding drops it, taking it for the end of a text.

    It is the zero at the end of the last program header, and where CuPy hands its own cubins to the driver the byte
    behind a Python string stands in for it. On the disk nothing would.
    """
    program_start, section_start, program_size, programs, section_size, sections = _ELF.unpack_from(cubin)
    end = max(program_start + program_size * programs, section_start + section_size * sections)
    return cubin + b"\0" if len(cubin) == end - 1 else cubin
