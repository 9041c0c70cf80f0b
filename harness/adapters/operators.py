"""The operators on which implementations are compared: geometry as plain data, and every size in one place.

``Implementation.case_of`` returns an adapter's case for an operator. Sizes are those of a first layer or a middle
layer of published networks, scaled so that one CPU core takes milliseconds.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from .adapter import Case, Family, Implementation, Value
from .registry import implementations


@dataclass(frozen=True)
class Operator:
    """One operator at one size.

    Args:
        name: name for people and for the command line.
        kind: the mathematical operator; adapters choose a case by kind and parameters.
        family: the domain of its signals.
        parameters: geometry.
        batch: samples in one call.
    """

    name: str
    kind: str
    family: Family
    parameters: Mapping[str, Value] = field(default_factory=dict)
    batch: int = 8


def _grid(kind: str, group: str, size: int, kernel: int, fields: tuple[int, int], batch: int = 8) -> Operator:
    octahedral = group in ("O", "Oh")
    parameters: dict[str, Value] = {"group": group, "size": size, "kernel": kernel}
    parameters |= {"fields_in": fields[0], "fields_out": fields[1]}
    return Operator(f"{kind} {group}", kind, Family.OCTAHEDRAL if octahedral else Family.PLANAR, parameters, batch)


#: Kinds of operators.
LIFTING, GROUP = "lifting", "group convolution"
SPHERE, ROTATIONS, ZONAL, TRANSFORM = "S2 convolution", "SO3 convolution", "zonal convolution", "spherical transform"
PRODUCT = "tensor product"

OPERATORS = (
    _grid(LIFTING, "C4", 33, 5, (3, 8)),
    _grid(GROUP, "C4", 33, 3, (8, 8)),
    _grid(GROUP, "D4", 33, 3, (4, 4)),
    _grid(GROUP, "C8", 33, 5, (4, 4)),
    _grid(LIFTING, "O", 9, 3, (2, 1)),
    _grid(GROUP, "O", 9, 3, (1, 1), batch=4),
    Operator(f"{SPHERE} b=16", SPHERE, Family.SPHERICAL, {"b": 16, "channels": 4}, batch=4),
    Operator(f"{ROTATIONS} b=8", ROTATIONS, Family.SPHERICAL, {"b": 8, "channels": 4}, batch=4),
    Operator(f"{TRANSFORM} b=16", TRANSFORM, Family.SPHERICAL, {"b": 16, "channels": 8}),
    Operator(f"{ZONAL} b=16", ZONAL, Family.SPHERICAL, {"b": 16, "channels": 8}),
    Operator(PRODUCT, PRODUCT, Family.POINTS, {}, batch=256),
)


@dataclass(frozen=True)
class TimedCase:
    """One implementation in one comparison: operator, implementation, configuration and batch size."""

    operator: str
    implementation: str
    case: Case
    batch: int


def comparisons(names: Sequence[str] = (), operators: str = "*", cases: str = "*") -> list[tuple[TimedCase, ...]]:
    """The timed cases of each operator, which are timed side by side: one for each chosen implementation.

    An implementation that is chosen by name and computes none of the operators is timed alone, on its own cases.

    Args:
        names: names or glob patterns of implementations; empty for all installed ones.
        operators: glob pattern on the operators' names.
        cases: glob pattern on the names of cases.

    Raises:
        UsageError: a name matches nothing.
    """
    chosen = [i for i in _chosen(names) if i.version is not None]
    found = []
    for operator in OPERATORS:
        if fnmatch.fnmatchcase(operator.name, operators):
            timed_cases = (_timed_case(operator, implementation) for implementation in chosen)
            found.append(tuple(e for e in timed_cases if e is not None and fnmatch.fnmatchcase(e.case.name, cases)))
    return [*filter(None, found), *(_alone(chosen, cases) if names and operators == "*" else ())]


def every_installed(pattern: str = "*") -> list[tuple[TimedCase, ...]]:
    """The timed cases of every installed implementation: the operators it computes, else its first own case.

    Args:
        pattern: glob pattern on names of implementations.
    """
    chosen = [i for i in _chosen([pattern]) if i.version is not None]
    found = [tuple(filter(None, (_timed_case(operator, i) for i in chosen))) for operator in OPERATORS]
    alone = {e.implementation: (e,) for side_by_side in reversed(list(_alone(chosen, "*"))) for e in side_by_side}
    return [*filter(None, found), *reversed(alone.values())]


def _chosen(names: Sequence[str]) -> list[Implementation]:
    from ..errors import UsageError, unknown

    known = {i.name: i for i in implementations()}
    for name in names:
        if not fnmatch.filter(known, name):
            raise UsageError(unknown("implementation", name, known))
    return [i for i in known.values() if not names or any(fnmatch.fnmatchcase(i.name, n) for n in names)]


def _timed_case(operator: Operator, implementation: Implementation) -> TimedCase | None:
    case = implementation.case_of(operator.kind, operator.parameters)
    return None if case is None else TimedCase(operator.name, implementation.name, case, operator.batch)


def _alone(chosen: Iterable[Implementation], cases: str) -> Iterable[tuple[TimedCase, ...]]:
    for implementation in chosen:
        if all(_timed_case(operator, implementation) is None for operator in OPERATORS):
            for case in implementation.cases():
                if fnmatch.fnmatchcase(case.name, cases):
                    yield (TimedCase(implementation.name, implementation.name, case, 8),)
