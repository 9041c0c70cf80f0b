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
from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self, overload

from ..adapters.adapter import Case
from ..errors import UsageError

#: "module:function" of the suite that turns (property, claim) into an outcome. The engine contains no property's name;
#: the command line and the test plugin choose the suite of a plan.
Suite = str


@dataclass(frozen=True, slots=True)
class Check:
    """One check to make, as plain data.

    ``drawn`` marks a configuration that was drawn, neither listed nor named. ``whole`` asks for every element of a
    finite group. ``joint`` says that the run checks other properties of the claim too.
    """

    implementation: str
    case: Case
    property: str
    dtype: str
    device: str = "cpu"
    seed: int = 0
    threads: int = 0
    suite: Suite = ""
    drawn: bool = False
    whole: bool = False
    joint: bool = False

    @builtins.property  # a field of this class is called property
    def command(self) -> str:
        """The command line that repeats this check."""
        words = ["equiharness", "verify", self.implementation, "--case", self.case.name, "--property", self.property]
        words += ["--dtype", self.dtype, "--seed", str(self.seed)]
        words += ["--device", self.device] if self.device != "cpu" else []
        words += ["--whole"] if self.whole else []
        return shlex.join(words)

    @builtins.property
    def id(self) -> str:
        """Identifies the check within its run."""
        return f"{self.implementation}|{self.case.name}|{self.property}|{self.dtype}|{self.device}|{self.seed}"

    @builtins.property
    def case_key(self) -> tuple[Any, ...]:
        """Identifies the case of the check: equal for its other properties and precisions."""
        return (self.implementation, self.case.name, self.device, self.seed, self.threads, self.suite, self.drawn)


@dataclass(frozen=True, slots=True)
class Block:
    """The checks of one claim. One worker process makes them one after another, so that it builds the claim once.

    The blocks of one case are successive in a plan and differ in dtype. One worker process makes them too: libraries
    cache what they compute for a configuration, and that serves every precision.
    """

    implementation: str
    case: Case
    properties: tuple[str, ...]
    dtype: str
    device: str = "cpu"
    seed: int = 0
    threads: int = 0
    suite: Suite = ""
    drawn: bool = False
    whole: bool = False

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
            self.whole,
            len(self.properties) > 1,
        )

    @builtins.property
    def case_key(self) -> tuple[Any, ...]:
        """Identifies the case of the block: equal for the blocks of its other precisions."""
        return self.check(0).case_key

    def data(self) -> list[Any]:
        """The data that identify the block."""
        what = [self.implementation, self.case.name, self.properties, self.dtype]
        return [*what, self.device, self.seed, self.threads, self.suite, *(["whole"] if self.whole else [])]


@dataclass(frozen=True, slots=True)
class Task:
    """Checks that remain to be made and that one worker should make, with their positions in the plan.

    They are the checks of one case, or of the properties that are kept together. ``key`` identifies what they share.
    """

    positions: tuple[int, ...]
    checks: tuple[Check, ...]
    key: Hashable = None

    def after(self, done: int) -> Task | None:
        """The task without its first ``done`` checks; None if no check is left."""
        return Task(self.positions[done:], self.checks[done:], self.key) if done < len(self.checks) else None


@dataclass(frozen=True, slots=True)
class Shard:
    """One part of a plan that several machines share. The cases are dealt to the parts in turn.

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
        together: properties whose checks are one task, whatever their cases, because each worker process that makes one
            of them first starts a compiler.

    Example:
        >>> plan = Plan([Block("a.Layer", Case.of(size=n), ("adjoint", "parity"), "float32") for n in (3, 5)])
        >>> len(plan), plan[2].case.name, plan[-1].property
        (4, 'size=5', 'parity')
        >>> [task.positions for task in plan.tasks(Shard(2, 2))]
        [(2, 3)]
    """

    def __init__(self, blocks: Iterable[Block], together: Collection[str] = ()) -> None:
        self.blocks = tuple(block for block in blocks if block.properties)
        self.together = frozenset(together)
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
        return sum(len(block.properties) for case in self._dealt(shard) for _, block in case)

    def positions(self, shard: Shard = WHOLE) -> Iterator[int]:
        """Positions of the checks of a shard, in order."""
        for case in self._dealt(shard):
            for start, block in case:
                yield from range(start, start + len(block.properties))

    def tasks(self, shard: Shard = WHOLE, done: Sequence[int] = b"") -> Iterator[Task]:
        """The remaining tasks, case by case. Each task is created when it is needed.

        The properties that are kept together are the first task: it is the longest, and other workers finish the others
        meanwhile.

        Args:
            shard: the part of the plan.
            done: for each position, whether its check is done; positions beyond its end are not done.
        """
        if self.together:
            kept = (block for case in self._dealt(shard) for block in case)
            yield from self._task(kept, done, tuple(self.together), together=True)
        for case in self._dealt(shard):
            yield from self._task(case, done, case[0][1].case_key, together=False)

    def _task(
        self, blocks: Iterable[tuple[int, Block]], done: Sequence[int], key: Hashable, *, together: bool
    ) -> Iterator[Task]:
        """The task of what remains of some blocks: of the properties that are kept together, or of the others."""
        positions: list[int] = []
        checks: list[Check] = []
        for start, block in blocks:
            for i, name in enumerate(block.properties):
                if (name in self.together) is together and (start + i >= len(done) or not done[start + i]):
                    positions.append(start + i)
                    checks.append(block.check(i))
        if checks:
            yield Task(tuple(positions), tuple(checks), key)

    def _dealt(self, shard: Shard) -> Iterator[list[tuple[int, Block]]]:
        """The blocks of each case of a shard, with the position at which each block begins."""
        numbered = zip(self._starts, self.blocks, strict=False)
        cases = (list(blocks) for _, blocks in itertools.groupby(numbered, key=lambda pair: pair[1].case_key))
        return itertools.islice(cases, shard.index - 1, None, shard.count)

    @property
    def digest(self) -> str:
        """Identifies the plan: equal for equal checks in equal order."""
        known = hashlib.sha256()
        for block in self.blocks:
            known.update(json.dumps(block.data()).encode() + b"\n")
        return known.hexdigest()[:16]
