"""Every property once: its name, the function that checks it, and how often a run plans it. Loads no array library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..harness.errors import UsageError, unknown
from ..harness.installed import resolve

if TYPE_CHECKING:
    from ..harness.claim.claim import Claim
    from ..harness.claim.outcome import Outcome

#: Checks one property of one claim: what plans name, and worker processes load.
SUITE = "equiharness.suites.check:run_property"


@dataclass(frozen=True, kw_only=True)
class Property:
    """A statement about a claim.

    Args:
        function: "module:function" inside ``suites``; takes the claim, returns an outcome.
        once: a run plans it in the first of its dtypes only. The statement is judged in float64 or over all precisions,
            or is about batches and strides, which no precision changes.
        seedless: a run plans it for the first seed of a configuration only. Actions have no weights, and compiled code
            does not depend on the weights.
        points: it is about a system of points; such properties take the place of ``equivariance`` there and are
            never planned for an adapter.
    """

    function: str
    once: bool = False
    seedless: bool = False
    points: bool = False

    def __call__(self, claim: Claim) -> Outcome:
        """Check it."""
        outcome: Outcome = resolve(f"{__package__}.{self.function}")(claim)
        return outcome


#: By name, in the order in which they are checked and shown.
PROPERTIES: Mapping[str, Property] = {
    "homomorphism": Property(function="forward.homomorphism:homomorphism", once=True, seedless=True),
    "equivariance": Property(function="forward.equivariance:equivariance"),
    "off_grid": Property(function="forward.off_grid:off_grid", once=True),
    "aliasing": Property(function="forward.aliasing:aliasing", once=True),
    "worst_case": Property(function="forward.worst_case:worst_case", once=True),
    "adjoint": Property(function="backward.gradients:adjoint"),
    "parameter_gradient": Property(function="backward.gradients:parameter_gradient"),
    "gradcheck": Property(function="backward.finite_differences:gradcheck", once=True),
    "robustness": Property(function="usage.robustness:robustness", once=True),
    "integration": Property(function="forward.integration:integration"),
    "composition": Property(function="usage.composition:composition", once=True),
    "training": Property(function="usage.training:training", once=True),
    "precision": Property(function="usage.precision:precision", once=True),
    "parity": Property(function="usage.parity:parity"),
    "backends": Property(function="usage.backends:backends", once=True, seedless=True),
    "rotations": Property(function="points.motions:rotations", points=True),
    "reflections": Property(function="points.motions:reflections", points=True),
    "translations": Property(function="points.motions:translations", points=True),
    "permutations": Property(function="points.motions:permutations", points=True),
    "forces": Property(function="points.forces:forces", points=True),
    "smoothness": Property(function="points.smoothness:smoothness", points=True),
}
#: The properties that a run plans for an adapter.
PLANNED = tuple(name for name, known in PROPERTIES.items() if not known.points)


def find(name: str) -> Property:
    """The property of this name.

    Raises:
        UsageError: there is none; the message suggests the closest.
    """
    if name not in PROPERTIES:
        raise UsageError(unknown("property", name, PROPERTIES))
    return PROPERTIES[name]


def planned(chosen: tuple[str, ...] = ()) -> dict[str, Any]:
    """The arguments of ``plan`` that say which properties are checked, and how often.

    Args:
        chosen: names; none means all.

    Raises:
        UsageError: one of them is not a property that runs plan.
    """
    for name in chosen:
        if name not in PLANNED:
            raise UsageError(unknown("property", name, PLANNED))
    return {
        "properties": chosen or PLANNED,
        "suite": SUITE,
        "once": tuple(name for name in PLANNED if PROPERTIES[name].once),
        "seedless": tuple(name for name in PLANNED if PROPERTIES[name].seedless),
    }
