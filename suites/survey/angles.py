"""What a layer does to rotations, angle by angle: error, and gain over a layer without symmetry, at one resolution.

The property ``off_grid`` asks whether the error vanishes on fine grids; here the grid stays as it is, since what a
coarser or finer grid loses is lost at the resolution of the signal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...harness.claim.claim import Claim
from ...harness.claim.evaluation import Subject
from ...harness.fields.domains import Grid
from ...harness.fields.field import Field
from ...harness.symmetry.groups import Element, Group, element_name, group
from ..forward.off_grid import measure_at
from ..forward.smooth_inputs import SmoothInput

SAMPLES = 8


@dataclass(frozen=True)
class AngleResult:
    """The worst relative error over smooth samples at one angle.

    Args:
        degrees: of the rotation.
        error: ||f(a_g x) - b_g f(x)|| / ||f(x) - mean||, away from the border.
        floor: the same of the source's action alone: what interpolation costs.
        gain: the error of a random convolution without symmetry, divided by this one.
    """

    degrees: float
    error: float
    floor: float
    gain: float


def errors_by_angle(
    function: Callable[..., Any], size: int, degrees: Sequence[float], *, seed: int = 0
) -> list[AngleResult]:
    """The errors of a function of scalar planes [B, 1, size, size] under rotations by these angles.

    Example:
        >>> [quarter] = errors_by_angle(lambda x: x[..., ::2, ::2], 17, [90])
        >>> quarter.error
        0.0
    """
    of = group("SO2")
    source = Field(Grid(size, size), of, "1*trivial")
    claim = Claim(function, of, source, source, seed=seed)
    inputs = SmoothInput.draw(np.random.default_rng(seed), SAMPLES, 1, 2)
    subject, found = Subject(claim), []
    with subject.guarded():
        for angle in degrees:
            row, _ = measure_at(subject, source, inputs, [_rotation(of, angle)])
            error = float(row.errors.max())
            gain = row.control / error if error else math.inf
            found.append(AngleResult(angle, error, row.floor, gain))
    return found


def _rotation(of: Group, degrees: float) -> Element:
    t = math.radians(degrees)
    matrix = np.array([[math.cos(t), -math.sin(t)], [math.sin(t), math.cos(t)]])
    if degrees % 90 == 0:
        matrix = np.round(matrix)
    return of.element(Element(element_name(matrix), matrix))
