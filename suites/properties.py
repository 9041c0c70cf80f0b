"""The table of properties: name, function, and how often a run plans the property. Loads no array library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..harness.adapters.adapter import Feature
from ..harness.errors import UsageError, unknown
from ..harness.installed import resolve

if TYPE_CHECKING:
    from ..harness.claim.claim import Claim
    from ..harness.claim.outcome import Outcome

#: The function that checks one property of one claim. Plans name it and worker processes load it.
SUITE = "equiharness.suites.check:run_property"


@dataclass(frozen=True, kw_only=True)
class Property:
    """A statement about a claim.

    Args:
        function: "module:function" inside ``suites``; the function takes a claim and returns an outcome.
        once: a run plans the property only in the first of its dtypes, because the statement is judged in float64 or
            over all precisions, or because it is about batches and strides, which do not depend on the precision.
        once_by_day: as ``once``, unless the run is a whole one, as at night: what the property found in another
            precision, equivariance in that precision found too.
        seedless: a run plans the property only for the first seed of a configuration, because actions have no weights
            and compiled code does not depend on the weights.
        points: the property is about a system of points. Such properties replace ``equivariance`` there and are never
            planned for an adapter.
        compiles: the checks of a run go to one worker process, because each process that compiles starts a compiler.
        by_hand: ``check`` asks for the property, and a run does not: there robustness says the same and more.
        needs: the feature of a claim without which the property is SKIPPED; a run does not plan it for a case that
            lacks this feature.
    """

    function: str
    once: bool = False
    once_by_day: bool = False
    seedless: bool = False
    points: bool = False
    compiles: bool = False
    by_hand: bool = False
    needs: Feature | None = None

    def __call__(self, claim: Claim, **options: Any) -> Outcome:
        """Check the property on a claim."""
        outcome: Outcome = resolve(f"{__package__}.{self.function}")(claim, **options)
        return outcome


#: The properties by name, in the order in which they are checked and shown.
PROPERTIES: Mapping[str, Property] = {
    "homomorphism": Property(function="forward.homomorphism:homomorphism", once=True, seedless=True),
    "equivariance": Property(function="forward.equivariance:equivariance"),
    "off_grid": Property(function="forward.off_grid:off_grid", once=True, needs=Feature.OFF_GRID),
    "aliasing": Property(function="forward.aliasing:aliasing", once=True, needs=Feature.BAND_LIMIT),
    "worst_case": Property(function="forward.worst_case:worst_case", once=True),
    "adjoint": Property(function="backward.gradients:adjoint", once_by_day=True),
    "parameter_gradient": Property(
        function="backward.gradients:parameter_gradient", once_by_day=True, needs=Feature.PARAMETERS
    ),
    "gradcheck": Property(function="backward.finite_differences:gradcheck", once=True),
    "batch": Property(function="usage.batch:batch", by_hand=True),
    "robustness": Property(function="usage.robustness:robustness", once=True),
    "integration": Property(function="forward.integration:integration", once_by_day=True),
    "composition": Property(function="usage.composition:composition", once=True, needs=Feature.SAME_FIELDS),
    "training": Property(function="usage.training:training", once=True, needs=Feature.PARAMETERS),
    "precision": Property(function="usage.precision:precision", once=True),
    "parity": Property(function="usage.parity:parity", once_by_day=True, needs=Feature.TWINS),
    "backends": Property(
        function="usage.backends:backends", once=True, seedless=True, compiles=True, needs=Feature.BACKENDS
    ),
    "rotations": Property(function="points.motions:rotations", points=True),
    "reflections": Property(function="points.motions:reflections", points=True),
    "translations": Property(function="points.motions:translations", points=True),
    "permutations": Property(function="points.motions:permutations", points=True),
    "forces": Property(function="points.forces:forces", points=True),
    "smoothness": Property(function="points.smoothness:smoothness", points=True),
}
#: The properties that a run plans for an adapter.
PLANNED = tuple(name for name, known in PROPERTIES.items() if not (known.points or known.by_hand))


def find(name: str) -> Property:
    """The property with this name.

    Raises:
        UsageError: no property has this name; the message suggests the closest name.
    """
    if name not in PROPERTIES:
        raise UsageError(unknown("property", name, PROPERTIES))
    return PROPERTIES[name]


def once(*, whole: bool) -> tuple[str, ...]:
    """The properties that a run plans in its first precision only."""
    return tuple(name for name in PLANNED if PROPERTIES[name].once or (PROPERTIES[name].once_by_day and not whole))


def planned(chosen: tuple[str, ...] = (), *, whole: bool = False) -> dict[str, Any]:
    """The arguments of ``plan`` that select the properties and how often each is planned.

    Args:
        chosen: names of properties; empty: all properties.
        whole: whether the run is a whole one, as at night.

    Raises:
        UsageError: a name belongs to no property that runs plan.
    """
    for name in chosen:
        if name not in PLANNED:
            raise UsageError(unknown("property", name, PLANNED))
    return {
        "properties": chosen or PLANNED,
        "suite": SUITE,
        "once": once(whole=whole),
        "whole": whole,
        "seedless": tuple(name for name in PLANNED if PROPERTIES[name].seedless),
        "together": tuple(name for name in PLANNED if PROPERTIES[name].compiles),
        "needs": {name: needs for name in PLANNED if (needs := PROPERTIES[name].needs) is not None},
    }
