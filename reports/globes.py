"""A signal on the sphere as one picture: its map above, and below it the sphere from the front and from behind."""

from __future__ import annotations

import math
from typing import Any

#: Colatitude and longitude of the viewpoint. The second view is from the opposite point; together they show everything.
VIEW = (math.radians(60), 0.0)


def pictured(numpy: Any, array: Any, side: int = 96) -> Any:
    """The map (beta down, alpha to the right) above two orthographic views, [2 side, 2 side], masked off the sphere.

    Args:
        numpy: the module.
        array: `[rows, columns]`, rows of colatitudes from the north pole to the south, columns alpha_k = 2 pi k /
            columns; values that are not finite are masked too.
        side: pixels of the diameter of the sphere.
    """
    below = numpy.concatenate([globe(numpy, array, side, VIEW), globe(numpy, array, side, opposite(VIEW))], axis=1)
    beta = numpy.pi * (numpy.arange(side) + 0.5) / side
    alpha = numpy.pi * numpy.arange(2 * side) / side
    above = _nearest(numpy, array, *numpy.meshgrid(beta, alpha, indexing="ij"))
    return numpy.ma.masked_invalid(numpy.concatenate([above, below]))


def globe(numpy: Any, array: Any, side: int, view: tuple[float, float]) -> Any:
    """The half of the sphere seen from far above (beta, alpha), north up, NaN outside its rim: [side, side]."""
    beta, alpha = view
    step = (2 * numpy.arange(side) + 1) / side - 1
    right, down = numpy.meshgrid(step, step)
    square = 1 - right**2 - down**2
    towards = numpy.sqrt(numpy.maximum(square, 0))
    # Convert the camera's axes (right, up, towards) to x, y and z of the sphere.
    outward = math.cos(beta) * down + math.sin(beta) * towards  # in the plane of the viewpoint's meridian
    z = math.cos(beta) * towards - math.sin(beta) * down
    x = math.cos(alpha) * outward - math.sin(alpha) * right
    y = math.sin(alpha) * outward + math.cos(alpha) * right
    values = _nearest(numpy, array, numpy.arccos(z.clip(-1, 1)), numpy.arctan2(y, x))
    return numpy.where(square >= 0, values, numpy.nan)


def opposite(view: tuple[float, float]) -> tuple[float, float]:
    """The opposite point of the sphere."""
    return math.pi - view[0], view[1] + math.pi


def _nearest(numpy: Any, array: Any, beta: Any, alpha: Any) -> Any:
    rows, columns = array.shape
    row = numpy.minimum((beta / numpy.pi * rows).astype(int), rows - 1)
    column = numpy.rint(alpha / (2 * numpy.pi) * columns).astype(int) % columns
    return array[row, column]
