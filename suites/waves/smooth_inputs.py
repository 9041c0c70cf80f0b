"""Smooth inputs, which are fixed in physical units, and the grids that resolve them."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ...harness.claim.claim import Approximate
from ...harness.fields.domains import Grid, Vector
from ...harness.fields.field import Field
from ...harness.symmetry.groups import Element

#: Number of bumps of a smooth random input, and their width and spread by number of axes, in units of half the box. In
#: space, where grids have more points, the bumps are wider and closer to the centre.
BUMPS = 6
WIDTH = {2: 0.16, 3: 0.25}
SPREAD = {2: 0.35, 3: 0.25}
#: From this radius on, a window takes inputs smoothly to zero at radius 1. Without the window, the box would cut off
#: other parts of a rotated input, and an integral would differ by them on every grid.
WINDOW = 0.8
#: Largest factor from one grid to the next by number of axes: the number of points grows by 4, and by 3.4 in space.
STEP = {2: 2.0, 3: 1.5}
#: Largest stride for which a centred output is searched.
LARGEST_STRIDE = 8


@dataclass(frozen=True)
class SmoothInput:
    """A sum of Gaussian bumps with random centres and fibre values in a round window, as a continuous function."""

    centres: NDArray[np.float64]
    values: NDArray[np.float64]

    @classmethod
    def draw(cls, rng: np.random.Generator, count: int, channels: int, dim: int) -> SmoothInput:
        """``count`` samples of random bumps."""
        centres = rng.standard_normal((count, BUMPS, dim))
        centres *= SPREAD[dim] * rng.random((count, BUMPS, 1)) / np.linalg.norm(centres, axis=-1, keepdims=True)
        return cls(centres, rng.standard_normal((count, BUMPS, channels)))

    def moved(self, field: Field, g: Element) -> SmoothInput:
        """(a_g f)(X) = rho(g) f(g^-1 X): g moves the centres, rho(g) moves the values."""
        flat = torch.from_numpy(self.values.reshape(-1, self.values.shape[-1]))
        mixed = Field(Vector(), field.group, field.fibre).act(g, flat).numpy().reshape(self.values.shape)
        return SmoothInput(self.centres @ g.matrix.T, mixed)

    def sample(self, shape: tuple[int, ...]) -> torch.Tensor:
        """Values [count, channels, *shape] on a grid whose half width is 1."""
        half = (max(shape) - 1) / 2
        axes = [(np.arange(n) - (n - 1) / 2) / half for n in shape]
        profile = np.ones((*self.centres.shape[:2], *([1] * len(shape))))
        for a, axis in enumerate(axes):
            view = [1] * len(shape)
            view[a] = -1
            distance = axis.reshape(view) - self.centres[..., a].reshape(*self.centres.shape[:2], *([1] * len(shape)))
            profile = profile * np.exp(-0.5 * (distance / WIDTH[len(shape)]) ** 2)
        profile = profile * _window(np.sum(np.stack(np.meshgrid(*axes, indexing="ij")) ** 2, axis=0))
        samples, bumps = self.centres.shape[:2]
        mixed = np.einsum("sbc,sbp->scp", self.values, profile.reshape(samples, bumps, -1))
        return torch.from_numpy(mixed.reshape(samples, -1, *shape))


def round_window(shape: tuple[int, ...]) -> torch.Tensor:
    """The window of smooth inputs on a grid."""
    axes = [(np.arange(n) - (n - 1) / 2) / ((n - 1) / 2) for n in shape]
    return torch.from_numpy(_window(np.sum(np.stack(np.meshgrid(*axes, indexing="ij")) ** 2, axis=0)))


def _window(square: NDArray[np.float64]) -> NDArray[np.float64]:
    """A window of squared radii: 1 inside, 0 outside, with three continuous derivatives."""
    t = ((1 - np.sqrt(square)) / (1 - WINDOW)).clip(0, 1)
    found: NDArray[np.float64] = t**4 * (35 - 84 * t + 70 * t**2 - 20 * t**3)
    return found


def grids(own: Grid, contract: Approximate, output: Callable[[Grid], int]) -> list[Grid]:
    """The grids of a claim on ``own``, coarsest first: refined by the contract's factors, in steps of at most STEP.

    The coarsest grid resolves the inputs and the outputs, which are interpolated. A Gaussian of width w on a grid of
    spacing h <= w has fallen to exp(-pi^2 / 2) = 0.7% at the grid's highest frequency, pi / h. At h = 2 w it would
    be 29%, and the error would not follow powers of h.

    Args:
        own: the claim's grid, square or cubic.
        contract: its factors are used if the grids resolve inputs and outputs.
        output: points on an axis of the output for an input on a grid; 0 if the layer refuses that grid.

    Example:
        >>> def sizes(n, output=lambda grid: grid.shape[0], dim=2):
        ...     return [grid.shape[0] for grid in grids(Grid(*[n] * dim), Approximate(), output)]
        >>> sizes(33), sizes(9), sizes(1), sizes(8), sizes(9, dim=3)
        ([17, 33, 65], [15, 29, 57], [15, 29, 57], [14, 28, 56], [9, 13, 19])
        >>> sizes(9, lambda grid: (grid.shape[0] - 1) // 2 + 1)  # of stride 2
        [29, 57, 113]
    """
    factors = contract.factors
    needed = math.ceil(2 / WIDTH[own.dim]) + 1
    odd = own.shape[0] % 2
    first = _at_least(needed, own.resized(factors[0]), odd)
    coarse = output(first)
    if coarse < needed and (fine := output(first.resized(2))) > coarse:
        more = math.ceil((needed - coarse) * first.shape[0] / (fine - coarse))
        first = _at_least(first.shape[0] + more, first, odd)
    ratios = (min(b / a, STEP[own.dim]) for a, b in itertools.pairwise(factors))
    return [centred(first.resized(r), output) for r in itertools.accumulate(ratios, operator.mul, initial=1.0)]


def _at_least(points: int, grid: Grid, odd: int) -> Grid:
    """The grid, or a grid with this number of points on each side if it has fewer; one more point to match ``odd``."""
    return grid if grid.shape[0] >= points else Grid(*[points + (points + odd) % 2] * grid.dim)


def centred(grid: Grid, output: Callable[[Grid], int]) -> Grid:
    """This grid, or the next larger grid with a centred output: with stride s, the size at which the output grows.

    An output that is off the centre would be off by a share of a point that changes from grid to grid.
    """
    n = grid.shape[0]
    sizes = range(n, n + LARGEST_STRIDE)
    points = [output(Grid(*[size] * grid.dim)) for size in (n - 1, n)]
    if 1 <= points[1] <= points[0] or points[1] == 0:
        for size in sizes[1:]:
            points.append(output(Grid(*[size] * grid.dim)))
            if points[-1] > points[-2]:
                return Grid(*[size] * grid.dim)
    return grid
