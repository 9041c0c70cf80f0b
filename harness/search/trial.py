"""One trial of a search, as plain data: which configuration, element, input, property, precision and seed.

A trial is written as one line of JSON; the line makes the same check again on any machine.
"""

from __future__ import annotations

import builtins
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from ..adapters.adapter import Case, Implementation
from ..errors import MissingDependencyError, UsageError
from ..installed import resolve
from ..verdict.result import CheckResult, Reason, Verdict

if TYPE_CHECKING:
    from ..claim.claim import Claim
    from ..symmetry.groups import Element, Group


#: Rotation angles are drawn in this many steps of a half turn, so that a failing one is a readable number.
STEPS = 1800


@dataclass(frozen=True)
class DrawnElement:
    """An element other than the identity, before it is known of which group.

    Args:
        rank: in a finite group, the place among its elements by rotation angle, proper ones first.
        steps: of a continuous group, the rotation angle in tenths of a degree.
        axis: of a rotation in space, up to length; zero stands for the first coordinate axis.
        mirror: take an improper element where the group has them.
    """

    rank: int = 0
    steps: int = STEPS // 2
    axis: tuple[int, int, int] = (0, 0, 0)
    mirror: bool = False

    def of(self, group: Group, keep: Any = None) -> Element:
        """The element of this group; ``keep`` says which ones may be taken.

        Raises:
            UsageError: there is none.
        """
        if group.order is None:
            made = group.element(self._matrix(group))
            if keep is None or keep(made):
                return made
        listed = list(group) if group.order is not None else list(group.generators)
        usable = [g for g in listed if not g.is_identity and (keep is None or keep(g))]
        if not usable:
            raise UsageError(f"{group.name} has no element but the identity that needs no interpolation.")
        usable.sort(key=lambda g: (not g.is_proper, group.identity.angle_to(g)))
        return usable[self.rank % len(usable)]

    def _matrix(self, group: Group) -> Any:
        """Rodrigues' formula R = 1 + sin(t) K + (1 - cos t) K^2 about the axis; a mirror negates the first axis."""
        import numpy as np

        angle = math.pi * self.steps / STEPS
        if group.dim == 2:
            matrix = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        else:
            axis = np.array(self.axis if any(self.axis) else (1, 0, 0), dtype=float)
            x, y, z = axis / np.linalg.norm(axis)
            cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
            matrix = np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross
        if self.mirror and group.improper:
            matrix = matrix @ np.diag([-1.0] + [1.0] * (group.dim - 1))
        return matrix


@dataclass(frozen=True)
class Trial:
    """One check of a search.

    Example:
        >>> trial = Trial("torch.nn.Conv2d", Case.of(group="C4", size=3))
        >>> Trial.read(trial.text) == trial
        True
    """

    implementation: str
    case: Case
    element: DrawnElement = field(default_factory=DrawnElement)
    inputs: str = "white noise"
    property: str = "equivariance"
    dtype: str = "float32"
    seed: int = 0
    device: str = "cpu"

    @builtins.property  # a field of this class is called property
    def text(self) -> str:
        """One line of JSON."""
        return json.dumps(self.data)

    @builtins.property
    def data(self) -> dict[str, Any]:
        """Numbers and texts alone."""
        data = asdict(self)
        data["case"] = {"name": self.case.name, "parameters": dict(self.case.parameters)}
        return data

    @classmethod
    def read(cls, text: str) -> Self:
        """The trial that a line of JSON, or what it was read into, says.

        Raises:
            UsageError: it is no trial.
        """
        try:
            data = json.loads(text)
            element = DrawnElement(**{**data["element"], "axis": tuple(data["element"]["axis"])})
            return cls(**{**data, "case": Case(data["case"]["name"], data["case"]["parameters"]), "element": element})
        except (ValueError, TypeError, KeyError) as error:
            raise UsageError(
                f"{text[:60]!r} is no trial ({error}): paste the whole line that the search printed, quotes included."
            ) from error

    @builtins.property
    def parameters(self) -> Mapping[str, Any]:
        """Everything but the seed, flat: what a failure can depend on."""
        element = {"rank": self.element.rank, "steps": self.element.steps, "mirror": self.element.mirror}
        return {**self.case.parameters, **element, "inputs": self.inputs, "dtype": self.dtype}


def run_trial(adapter: Implementation, trial: Trial, suite: str) -> CheckResult:
    """Make the check of a trial; whatever is raised becomes CRASHED.

    Args:
        adapter: builds the claim.
        trial: what to check.
        suite: "module:function" that checks one property of one claim.
    """
    try:
        claim = adapter.build(trial.case, device=trial.device, dtype=trial.dtype, seed=trial.seed)
        outcome = resolve(suite)(trial.property, focused(claim, trial))
        result: CheckResult = outcome.result
    except MissingDependencyError as error:
        reason = Reason(code="NOT_INSTALLED", message=str(error))
        result = CheckResult(property=trial.property, verdict=Verdict.SKIPPED, reason=reason, dtype=trial.dtype)
    except Exception as error:
        reason = Reason(code="CRASHED", message=f"{type(error).__name__}: {error}")
        result = CheckResult(property=trial.property, verdict=Verdict.CRASHED, reason=reason, dtype=trial.dtype)
    declared = adapter.declared(trial.property, trial.case, dtype=trial.dtype, device=trial.device)
    named = {"implementation": adapter.name, "case": trial.case.name, "seed": trial.seed}
    return result.model_copy(update={**named, **declared})


def focused(claim: Claim, trial: Trial) -> Claim:
    """The claim on the trial's element and inputs."""
    from ..claim.inputs import structured

    inputs = structured(claim, trial.inputs) or claim.inputs
    usable = claim.refined is None
    chosen = (trial.element.of(claim.group, claim.exact),) if usable and _has_exact(claim) else ()
    return replace(claim, inputs=inputs, elements=chosen)


def _has_exact(claim: Claim) -> bool:
    of = claim.group
    listed = list(of) if of.order is not None else list(of.generators)
    return any(not g.is_identity and claim.exact(g) for g in listed)


def failed(result: CheckResult) -> bool:
    """Whether a trial found a fault. Little power, ties and bad conditioning are the odd input's, not the layer's."""
    if result.verdict not in (Verdict.BROKEN, Verdict.CRASHED, Verdict.TIMED_OUT):
        return False
    return result.verdict is not result.expected_verdict
