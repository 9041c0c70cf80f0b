"""The CUDA C++ sources of the package, as one text per program.

A program is a source with its local includes written out once each, and one line per kernel that it should contain:
the same text for every compiler and nothing to find on a path.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

_INCLUDE = re.compile(r'^#include "(.+)"$')


@dataclass(frozen=True)
class Kernel:
    """One instantiation of a kernel template.

    Args:
        source: the file, such as "grid_exact.cu".
        macro: the macro of that file which defines a kernel, such as "GRID_EXACT_FORWARD".
        name: the name that the kernel gets.
        parameters: the further arguments of the macro, as they stand in C++.
        threads: threads per block.
    """

    source: str
    macro: str
    name: str
    parameters: tuple[str, ...]
    threads: int

    @property
    def line(self) -> str:
        """The line of C++ that defines the kernel."""
        return f"{self.macro}({', '.join((self.name, *self.parameters))})"


def program(kernels: Sequence[Kernel], prelude: Sequence[str] = ()) -> str:
    """The text of a program with these kernels.

    Args:
        kernels: of one or several sources.
        prelude: sources to put in front: the shim of the host.

    Returns:
        C++, complete but for the standard headers that the shim of the host includes.

    Example:
        >>> from equiharness.kernels.cuda.ragged import KERNELS
        >>> text = program(KERNELS[:1])
        >>> '#include "' in text, text.count("struct Tile {")
        (False, 1)
    """
    seen: set[str] = set()
    parts = [_inlined(name, seen) for name in (*prelude, *dict.fromkeys(kernel.source for kernel in kernels))]
    return "".join(parts) + "".join(f"{kernel.line}\n" for kernel in kernels)


def read(name: str) -> str:
    """The text of one source file of the package."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _inlined(name: str, seen: set[str]) -> str:
    """A source with its includes in place of their lines; what was included before is left out."""
    if name in seen:
        return ""
    seen.add(name)
    lines = [f'#line 1 "{name}"']
    for number, line in enumerate(read(name).splitlines(), start=1):
        include = _INCLUDE.match(line)
        if include:
            lines += [_inlined(include[1], seen).rstrip("\n"), f'#line {number + 1} "{name}"']
        elif line != "#pragma once":
            lines.append(line)
        else:
            lines.append("")
    return "\n".join(lines) + "\n"
