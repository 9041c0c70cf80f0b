"""One trial of a search as plain data: configuration, element, input, property, precision and seed.

A trial is written as one line of JSON. The line repeats the same check on any machine.
"""

from __future__ import annotations

import builtins
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from ..adapters.adapter import Case, Implementation
from ..adapters.making import make_check, named
from ..errors import UsageError
from ..verdict.codes import Verdict
from ..verdict.result import CheckResult

if TYPE_CHECKING:
    from ..claim.claim import Claim
    from ..symmetry.groups import Element, Group


#: Number of steps in a half turn. Rotation angles are whole numbers of steps, so that a failing angle is readable.
STEPS = 1800


@dataclass(frozen=True)
class DrawnElement:
    """An element other than the identity, for a group that is not yet known.

    Args:
        rank: for a finite group, the position among its elements sorted by rotation angle, proper elements first.
        steps: for a continuous group, the rotation angle in tenths of a degree.
        axis: axis of a rotation in space, up to length; zero stands for the first coordinate axis.
        mirror: whether to take an improper element if the group has any.
    """

    rank: int = 0
    steps: int = STEPS // 2
    axis: tuple[int, int, int] = (0, 0, 0)
    mirror: bool = False

    def of(self, group: Group, keep: Any = None) -> Element:
        """The corresponding element of a group; ``keep`` is a condition on elements.

        Raises:
            UsageError: no element other than the identity meets the condition.
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
        """The trial as numbers and strings."""
        data = asdict(self)
        data["case"] = {"name": self.case.name, "parameters": dict(self.case.parameters)}
        return data

    @classmethod
    def read(cls, text: str) -> Self:
        """Read a trial from a line of JSON.

        Raises:
            UsageError: the line is not a trial.
        """
        try:
            data = json.loads(text)
            element = DrawnElement(**{**data["element"], "axis": tuple(data["element"]["axis"])})
            return cls(**{**data, "case": Case(data["case"]["name"], data["case"]["parameters"]), "element": element})
        except (ValueError, TypeError, KeyError) as error:
            raise UsageError(
                f"{text[:60]!r} is not a trial ({error}): paste the whole line that the search printed, with quotes."
            ) from error

    @builtins.property
    def parameters(self) -> Mapping[str, Any]:
        """All parameters that a failure can depend on, without the seed, in one flat dict."""
        element = {"rank": self.element.rank, "steps": self.element.steps, "mirror": self.element.mirror}
        return {**self.case.parameters, **element, "inputs": self.inputs, "dtype": self.dtype}


def run_trial(adapter: Implementation, trial: Trial, suite: str) -> CheckResult:
    """Make the check of a trial. An exception becomes the verdict CRASHED.

    Args:
        adapter: the adapter that builds the claim.
        trial: the trial.
        suite: "module:function" that checks one property of one claim.
    """

    def build() -> Claim:
        claim = adapter.build(trial.case, device=trial.device, dtype=trial.dtype, seed=trial.seed)
        return focused(claim, trial)

    outcome = make_check(trial.property, suite, build, dtype=trial.dtype, device=trial.device)
    return named(outcome.result, adapter, trial.case, trial.seed)


def focused(claim: Claim, trial: Trial) -> Claim:
    """The claim restricted to the trial's element and inputs."""
    from ..claim.inputs import structured

    inputs = structured(claim, trial.inputs) or claim.inputs
    usable = claim.refined is None
    chosen = (trial.element.of(claim.group, claim.exact),) if usable and _has_exact(claim) else ()
    return replace(claim, inputs=inputs, elements=chosen)


def _has_exact(claim: Claim) -> bool:
    group = claim.group
    listed = list(group) if group.order is not None else list(group.generators)
    return any(not g.is_identity and claim.exact(g) for g in listed)


def failed(result: CheckResult) -> bool:
    """Whether a trial found a fault. Low power, ties and bad conditioning come from an unusual input, not the layer."""
    if result.verdict not in (Verdict.BROKEN, Verdict.CRASHED, Verdict.TIMED_OUT):
        return False
    return result.verdict is not result.expected_verdict
