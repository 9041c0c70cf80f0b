"""The plan of a run: which checks to make, in what order, and a digest that identifies the plan.

A plan stores one check of each claim with the names of all its properties, to save memory.
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
from dataclasses import dataclass, replace
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
    """The checks of a run in their order. The plan stores claims, and creates a check when it is accessed.

    The claims of one case are successive and differ in dtype. One worker process makes their checks, one after another:
    it builds each claim once, and libraries cache what they compute for a configuration, which serves every precision.

    Args:
        claims: for each claim one of its checks, and the names of the properties to check.
        together: properties whose checks are one task, whatever their cases, because each worker process that makes one
            of them first starts a compiler.

    Example:
        >>> claims = [(Check("a.Layer", Case.of(size=n), "", "float32"), ("adjoint", "parity")) for n in (3, 5)]
        >>> plan = Plan(claims)
        >>> len(plan), plan[2].case.name, plan[-1].property
        (4, 'size=5', 'parity')
        >>> [task.positions for task in plan.tasks(Shard(2, 2))]
        [(2, 3)]
    """

    def __init__(self, claims: Iterable[tuple[Check, Sequence[str]]], together: Collection[str] = ()) -> None:
        self._claims = tuple((check, tuple(names)) for check, names in claims if names)
        self._together = frozenset(together)
        self._starts = list(itertools.accumulate((len(names) for _, names in self._claims), initial=0))

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
        return self._check(number, position - self._starts[number])

    def _check(self, number: int, index: int) -> Check:
        """The check of a claim and one of its properties, by their positions."""
        check, names = self._claims[number]
        return replace(check, property=names[index], joint=len(names) > 1)

    def size(self, shard: Shard = WHOLE) -> int:
        """Number of checks of a shard."""
        return sum(len(self._claims[number][1]) for case in self._dealt(shard) for number in case)

    def positions(self, shard: Shard = WHOLE) -> Iterator[int]:
        """Positions of the checks of a shard, in order."""
        for case in self._dealt(shard):
            for number in case:
                yield from range(self._starts[number], self._starts[number + 1])

    def tasks(self, shard: Shard = WHOLE, done: Sequence[int] = b"") -> Iterator[Task]:
        """The remaining tasks, case by case. Each task is created when it is needed.

        The properties that are kept together are the first task: it is the longest, and other workers finish the others
        meanwhile.

        Args:
            shard: the part of the plan.
            done: for each position, whether its check is done; positions beyond its end are not done.
        """
        if self._together:
            kept = (number for case in self._dealt(shard) for number in case)
            yield from self._task(kept, done, tuple(self._together), together=True)
        for case in self._dealt(shard):
            yield from self._task(case, done, self._claims[case[0]][0].case_key, together=False)

    def _task(self, numbers: Iterable[int], done: Sequence[int], key: Hashable, *, together: bool) -> Iterator[Task]:
        """The task of what remains of some claims: of the properties that are kept together, or of the others."""
        positions: list[int] = []
        checks: list[Check] = []
        for number in numbers:
            for i, name in enumerate(self._claims[number][1]):
                position = self._starts[number] + i
                if (name in self._together) is together and (position >= len(done) or not done[position]):
                    positions.append(position)
                    checks.append(self._check(number, i))
        if checks:
            yield Task(tuple(positions), tuple(checks), key)

    def _dealt(self, shard: Shard) -> Iterator[list[int]]:
        """The numbers of the claims of each case of a shard."""
        numbers = range(len(self._claims))
        cases = (list(case) for _, case in itertools.groupby(numbers, key=lambda n: self._claims[n][0].case_key))
        return itertools.islice(cases, shard.index - 1, None, shard.count)

    @property
    def digest(self) -> str:
        """Identifies the plan: equal for equal checks in equal order."""
        known = hashlib.sha256()
        for check, names in self._claims:
            data = [check.implementation, check.case.name, names, check.dtype, check.device, check.seed]
            data += [check.threads, check.suite, *(["whole"] if check.whole else [])]
            known.update(json.dumps(data).encode() + b"\n")
        return known.hexdigest()[:16]
