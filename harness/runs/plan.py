"""The plan of a run: which checks to make, in what order, and a digest that identifies the plan.

Checks are stored grouped by claim to save memory.
"""

from __future__ import annotations

import bisect
import builtins
import hashlib
import itertools
import json
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self, overload

from ..adapters.adapter import Case
from ..errors import UsageError

#: "module:function" of the suite that turns (property, claim) into an outcome. The engine contains no property's name;
#: the command line and the test plugin choose the suite of a plan.
Suite = str


@dataclass(frozen=True, slots=True)
class Check:
    """One check to make, as plain data. ``drawn`` marks a configuration that was drawn, neither listed nor named."""

    implementation: str
    case: Case
    property: str
    dtype: str
    device: str = "cpu"
    seed: int = 0
    threads: int = 0
    suite: Suite = ""
    drawn: bool = False

    @builtins.property  # a field of this class is called property
    def command(self) -> str:
        """The command line that repeats this check."""
        words = ["equiharness", "verify", self.implementation, "--case", self.case.name, "--property", self.property]
        words += ["--dtype", self.dtype, "--seed", str(self.seed)]
        words += ["--device", self.device] if self.device != "cpu" else []
        return shlex.join(words)

    @builtins.property
    def id(self) -> str:
        """Identifies the check within its run."""
        return f"{self.implementation}|{self.case.name}|{self.property}|{self.dtype}|{self.device}|{self.seed}"


@dataclass(frozen=True, slots=True)
class Block:
    """The checks of one claim. One worker process makes them one after another, so that it builds the claim once."""

    implementation: str
    case: Case
    properties: tuple[str, ...]
    dtype: str
    device: str = "cpu"
    seed: int = 0
    threads: int = 0
    suite: Suite = ""
    drawn: bool = False

    def check(self, index: int) -> Check:
        """The check at an index of the block."""
        return Check(
            self.implementation,
            self.case,
            self.properties[index],
            self.dtype,
            self.device,
            self.seed,
            self.threads,
            self.suite,
            self.drawn,
        )

    def data(self) -> list[Any]:
        """The data that identify the block."""
        what = [self.implementation, self.case.name, self.properties, self.dtype]
        return [*what, self.device, self.seed, self.threads, self.suite]


@dataclass(frozen=True, slots=True)
class Task:
    """Checks of one claim that remain to be made, with their positions in the plan."""

    positions: tuple[int, ...]
    checks: tuple[Check, ...]

    def after(self, done: int) -> Task | None:
        """The task without its first ``done`` checks; None if no check is left."""
        return Task(self.positions[done:], self.checks[done:]) if done < len(self.checks) else None


@dataclass(frozen=True, slots=True)
class Shard:
    """One part of a plan that several machines share. The claims are dealt to the parts in turn.

    Example:
        >>> str(Shard.read("2/3"))
        '2/3'
    """

    index: int = 1
    count: int = 1

    @classmethod
    def read(cls, text: str) -> Self:
        """The shard of "i/n".

        Raises:
            UsageError: the text is not a shard.
        """
        found = re.fullmatch(r"(\d+)/(\d+)", text.strip())
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise UsageError(f"--shard {text} is not a part of a plan. Give i/n with i from 1 to n: --shard 1/3.")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


WHOLE = Shard()


class Plan(Sequence[Check]):
    """The checks of a run in their order. The plan stores blocks, and creates a check when it is accessed.

    Args:
        blocks: the claims, each with its properties.

    Example:
        >>> plan = Plan([Block("a.Layer", Case.of(size=n), ("adjoint", "parity"), "float32") for n in (3, 5)])
        >>> len(plan), plan[2].case.name, plan[-1].property
        (4, 'size=5', 'parity')
        >>> [task.positions for task in plan.tasks(Shard(2, 2))]
        [(2, 3)]
    """

    def __init__(self, blocks: Iterable[Block]) -> None:
        self.blocks = tuple(block for block in blocks if block.properties)
        self._starts = list(itertools.accumulate((len(b.properties) for b in self.blocks), initial=0))

    def __len__(self) -> int:
        return self._starts[-1]

    @overload
    def __getitem__(self, index: int) -> Check: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Check]: ...
    def __getitem__(self, index: int | slice) -> Check | Sequence[Check]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(index)
        number = bisect.bisect_right(self._starts, position) - 1
        return self.blocks[number].check(position - self._starts[number])

    def size(self, shard: Shard = WHOLE) -> int:
        """Number of checks of a shard."""
        return sum(len(block.properties) for _, block in self._dealt(shard))

    def positions(self, shard: Shard = WHOLE) -> Iterator[int]:
        """Positions of the checks of a shard, in order."""
        for start, block in self._dealt(shard):
            yield from range(start, start + len(block.properties))

    def tasks(self, shard: Shard = WHOLE, done: Sequence[int] = b"") -> Iterator[Task]:
        """The remaining tasks, claim by claim. Each task is created when it is needed.

        Args:
            shard: the part of the plan.
            done: for each position, whether its check is done; positions beyond its end are not done.
        """
        for start, block in self._dealt(shard):
            left = [i for i in range(len(block.properties)) if start + i >= len(done) or not done[start + i]]
            if left:
                yield Task(tuple(start + i for i in left), tuple(block.check(i) for i in left))

    def _dealt(self, shard: Shard) -> Iterator[tuple[int, Block]]:
        numbered = zip(self._starts, self.blocks, strict=False)
        return itertools.islice(numbered, shard.index - 1, None, shard.count)

    @property
    def digest(self) -> str:
        """Identifies the plan: equal for equal checks in equal order."""
        known = hashlib.sha256()
        for block in self.blocks:
            known.update(json.dumps(block.data()).encode() + b"\n")
        return known.hexdigest()[:16]
