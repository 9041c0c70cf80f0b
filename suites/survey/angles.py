"""The error of a layer under rotations, angle by angle, and the gain over a layer without symmetry, at one resolution.

The property ``off_grid`` judges the claim. Here the grid is fixed, because the error at
the resolution of the signal is the quantity of interest.
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
from ..forward.smooth_refinement import measure_at
from ..waves.smooth_inputs import SmoothInput

SAMPLES = 8


@dataclass(frozen=True)
class AngleResult:
    """The worst relative error over smooth samples at one angle.

    Args:
        degrees: angle of the rotation.
        error: ||f(a_g x) - b_g f(x)|| / ||f(x) - mean||, away from the border.
        floor: the error of the source's action alone, which comes from interpolation.
        gain: error of a random convolution without symmetry / error of this layer.
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
    plane = group("SO2")
    source = Field(Grid(size, size), plane, "1*trivial")
    claim = Claim(function, plane, source, source, seed=seed)
    inputs = SmoothInput.draw(np.random.default_rng(seed), SAMPLES, 1, 2)
    subject, found = Subject(claim), []
    with subject.guarded():
        for angle in degrees:
            row, _ = measure_at(subject, source, inputs, [_rotation(plane, angle)])
            error = float(row.errors.max())
            gain = row.control / error if error else math.inf
            found.append(AngleResult(angle, error, row.floor, gain))
    return found


def _rotation(plane: Group, degrees: float) -> Element:
    t = math.radians(degrees)
    matrix = np.array([[math.cos(t), -math.sin(t)], [math.sin(t), math.cos(t)]])
    if degrees % 90 == 0:
        matrix = np.round(matrix)
    return plane.element(Element(element_name(matrix), matrix))
