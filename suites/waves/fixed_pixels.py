"""Plane waves on a grid, and the pixels at which a layer's output is compared under elements off the grid.

An element g turns the plane about a point q and leaves q where it is, so (g y)(q) = rho(g) y(q): nothing of the output
is interpolated. The moved input is a sum of waves too, so its values on the grid are exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...harness.claim.claim import refit
from ...harness.claim.evaluation import LARGEST_BATCH, SAME_SAMPLE, Subject
from ...harness.errors import UsageError
from ...harness.fields.domains import Grid, Vector
from ...harness.fields.field import Field, replace_domain
from ...harness.symmetry.groups import Element
from ...harness.trees import leaves
from .smooth_inputs import centred

Array = NDArray[np.float64]

#: Waves in a sum. Two have 31 degrees of freedom in 32 samples and a direction of their own each.
WAVES = 2
#: Sizes of grids that are tried, smallest first; even ones are smaller by one. Results do not depend on the size where
#: the kept pixel does not see the border.
SIZES = {2: (9, 13, 17, 33, 65), 3: (7, 9, 13, 17)}
#: Pixels between the centre and the second pixel.
ASIDE = 2
#: Samples of noise for questions about what a pixel depends on.
PROBES = 4
#: Values of inputs in one call.
VALUES = LARGEST_BATCH // 4


@dataclass(frozen=True)
class Waves:
    """x(p) = sum_b Re[a_b exp(2 pi i d_b.(p - q) / wavelength)]: the same d and a at every wavelength.

    Args:
        directions: unit vectors d [sample, wave, axis].
        values: complex a [sample, wave, channel].
    """

    directions: Array
    values: NDArray[np.complex128]

    @classmethod
    def draw(cls, rng: np.random.Generator, samples: int, channels: int, dim: int) -> Waves:
        """Directions uniform on the sphere, values complex normal."""
        d = rng.standard_normal((samples, WAVES, dim))
        a = rng.standard_normal((2, samples, WAVES, channels))
        return cls(d / np.linalg.norm(d, axis=-1, keepdims=True), a[0] + 1j * a[1])

    def moved(self, g: Element, mix: Array) -> Waves:
        """a_g x for the turn about q by g and the fibre's matrix ``mix``."""
        return Waves(self.directions @ g.matrix.T, self.values @ mix.T)

    def mixed(self, mix: Array) -> Waves:
        """The same waves with other values."""
        return Waves(self.directions, self.values @ mix.T)

    @property
    def at_centre(self) -> Array:
        """x(q) [sample, channel]."""
        found: Array = self.values.real.sum(1)
        return found

    def sample(self, shape: tuple[int, ...], q: Array, wavelength: float) -> torch.Tensor:
        """Values [sample, channel, *shape] on a grid."""
        axes = [np.arange(n) - (n - 1) / 2 for n in shape]
        points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(shape)) - q
        phase = (2 * math.pi / wavelength) * (self.directions @ points.T)
        parts = np.concatenate([np.cos(phase), np.sin(phase)], 1)
        weights = np.concatenate([self.values.real, -self.values.imag], 1)
        found = weights.transpose(0, 2, 1) @ parts
        return torch.from_numpy(found.reshape(len(found), -1, *shape))

    def filtered(self, weight: Array, offsets: Array, wavelength: float) -> Array:
        """sum_o weight[.., channel, o] x(q + o) [sample, ..]: what one convolution gives at q."""
        phase = (2 * math.pi / wavelength) * (self.directions @ offsets.T)
        x = np.einsum("sbc,sbo->sco", self.values, np.exp(1j * phase)).real
        found: Array = np.einsum("dco,sco->sd", weight, x)
        return found


class FixedPixels:
    """A claim's layer on grids of any size, seen at single pixels of its output. Every number is float64.

    Args:
        subject: the layer; its source is a field on a square or cubic grid, its target one leaf.
    """

    def __init__(self, subject: Subject) -> None:
        self.subject, claim = subject, subject.claim
        assert isinstance(claim.source, Field)
        assert isinstance(claim.source.domain, Grid)
        self.source, self.own = claim.source, claim.source.domain
        [(_, self.leaf)] = leaves(claim.target)
        self.on_grid = isinstance(self.leaf, Field) and isinstance(self.leaf.domain, Grid)
        self.exact = True
        self._sizes: dict[int, int] = {}

    def output(self, x: torch.Tensor, *, fresh: bool = False) -> torch.Tensor:
        """f_*(x) for x [sample, channel, *grid]: in float64 if the layer has such a form."""
        run = self.subject.reference if self.exact else self.subject.working
        layout = replace_domain(self.source, Grid(*x.shape[2:])).tensor_shape(len(x))
        [(_, y)] = leaves(run(x.to(self.subject.claim.device).reshape(layout), fresh=fresh))
        return self._fitting(y)

    def variant(self, run: Callable[[torch.Tensor], object], x: torch.Tensor) -> torch.Tensor:
        """The output of another run of the subject at the same inputs."""
        layout = replace_domain(self.source, Grid(*x.shape[2:])).tensor_shape(len(x))
        [(_, y)] = leaves(run(x.to(self.subject.claim.device).reshape(layout)))
        return self._fitting(y)

    def _fitting(self, y: torch.Tensor) -> torch.Tensor:
        leaf = refit(self.leaf, y)
        leaf.require_fit(y, "The output")
        return leaf.domain.channels_first(y).cpu() if self.on_grid else y.reshape(len(y), -1).cpu()

    def outputs(self, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        """The outputs at several batches of one size, many samples to a call if the claim allows it."""
        claim = self.subject.claim
        together = max(1, VALUES // inputs[0].numel()) if claim.batched and claim.call_seed is None else 1
        found: list[torch.Tensor] = []
        for start in range(0, len(inputs), together):
            group = inputs[start : start + together]
            found += self.output(torch.cat(group)).split([len(x) for x in group])
        return found

    def at(self, y: torch.Tensor, pixel: tuple[int, ...]) -> Array:
        """The values [sample, channel] of an output at a pixel."""
        index: Any = (..., *pixel) if self.on_grid else ...
        found: Array = y.numpy()[index]
        return found

    def size(self, points: int) -> int:
        """Points on an axis of the output for an input of this size; 0 if the layer refuses it.

        If the output has no grid, the points of the input are returned.
        """
        if not self.on_grid:
            return points if points not in self._sizes and self._accepts(points) else self._sizes.get(points, points)
        if points not in self._sizes:
            y = self._zeros(points)
            self._sizes[points] = 0 if y is None else int(y.shape[-1])
        return self._sizes[points]

    @property
    def has_one_size(self) -> bool:
        """Whether the output is a grid of one size, of more than a point, whatever the size of the input."""
        n = max(5, self.own.shape[0])
        return self.on_grid and self.size(n) == self.size(2 * n - n % 2) > 1

    def _accepts(self, points: int) -> bool:
        accepted = self._zeros(points) is not None
        self._sizes[points] = points if accepted else 0
        return accepted

    def _zeros(self, points: int) -> torch.Tensor | None:
        shape = [points] * self.own.dim
        try:
            return self.output(torch.zeros(2, self.source.fibre.size, *shape, dtype=torch.float64))
        except UsageError:
            raise
        except Exception:  # any error of the library: the layer does not take grids of this size
            return None

    def summand_squares(self, values: Array) -> Array:
        """Squared norms [sample, summand] of values [sample, channel]."""
        v = torch.from_numpy(values)
        rows = self._vector().summands(v) if isinstance(self.leaf, Field) else v.reshape(len(v), 1, -1)
        found: Array = rows.square().sum(-1).numpy()
        return found

    def mix_in(self, g: Element) -> Array:
        """rho_in(g)."""
        return _matrix(Field(Vector(), self.source.group, self.source.fibre), g, self.source.fibre.size)

    def mix_out(self, g: Element, channels: int) -> Array:
        """rho_out(g); the identity on invariant leaves."""
        return _matrix(self._vector(), g, channels) if isinstance(self.leaf, Field) else np.eye(channels)

    def _vector(self) -> Field:
        assert isinstance(self.leaf, Field)
        return Field(Vector(), self.leaf.group, self.leaf.fibre)


def _matrix(field: Field, g: Element, channels: int) -> Array:
    found: Array = field.act(g, torch.eye(channels, dtype=torch.float64)).numpy().T
    return found


@dataclass(frozen=True)
class Spot:
    """A pixel of the output and the point of the input under it, on a grid of the input."""

    shape: tuple[int, ...]
    pixel: tuple[int, ...]
    point: tuple[float, ...]


@dataclass(frozen=True)
class Beside:
    """The pixel beside the centre, on the smallest grid on which it does not see the border.

    Args:
        spot: the pixel.
        shift: pixels of the input, and of the output, that a step of the grid moves both by.
        reach: pixels of the input from the border on which the pixel does not depend.
    """

    spot: Spot
    shift: tuple[int, int]
    reach: int


def central_spots(layer: FixedPixels) -> tuple[Spot, ...]:
    """The centre of the smallest grid whose border it does not see; empty if it sees it on every grid.

    Sizes have the parity of the claim's grid, and the output is centred, so that strides keep their phase. Even outputs
    have the pixel beside the centre; where the step of the grid is not clear, two points may lie under it. A layer
    whose output has one size whatever the input's is another layer on every grid: it is judged on the claim's own.
    """
    if layer.has_one_size:
        found = _central(layer, layer.own.shape[0])
        return () if _sees_border(layer, found[0]) else found
    none = True
    for n in _grids(layer):
        none = False
        found = _central(layer, n)
        if not _sees_border(layer, found[0]):
            return found
    if none:
        layer.output(torch.zeros(2, layer.source.fibre.size, *layer.own.shape, dtype=torch.float64))  # raises
    return ()


def beside(layer: FixedPixels) -> Beside | None:
    """The second pixel; None if there is none, or if its place under the output is not known."""
    for n in _grids(layer) if layer.on_grid else ():
        step, clear = _step(layer, n)
        m, dim = layer.size(n), layer.own.dim
        if not clear:
            return None
        aside = ASIDE if m // 2 + ASIDE < m else 1
        if m // 2 + aside >= m:
            continue
        half = 0.0 if m % 2 else 0.5
        pixel = (m // 2 + aside, *[m // 2] * (dim - 1))
        spot = Spot((n,) * dim, pixel, ((half + aside) * step, *[half * step] * (dim - 1)))
        if not _sees_border(layer, spot):
            shift = (round(ASIDE * step), ASIDE) if step >= 1 else (1, round(1 / step))
            return Beside(spot, shift, n // 2 - math.ceil(aside * step))
    return None


def _grids(layer: FixedPixels) -> Iterator[int]:
    """Sizes that the layer takes, smallest first."""
    own = layer.own.shape[0]
    usual = [n - 1 + own % 2 for n in SIZES[layer.own.dim]]
    # A smaller grid than the usual ones is taken only by layers that refuse those.
    tried = [*sorted({*usual, own}), own][own < usual[0] :] if own > 2 else usual
    return (n for n in (_centred(layer, n) for n in tried) if layer.size(n))


def _centred(layer: FixedPixels, points: int) -> int:
    return centred(Grid(*[points] * layer.own.dim), lambda grid: layer.size(grid.shape[0])).shape[0]


def _central(layer: FixedPixels, n: int) -> tuple[Spot, ...]:
    dim, m = layer.own.dim, layer.size(n)
    shape = (n,) * dim
    if not layer.on_grid:
        return (Spot(shape, (), (0.0,) * dim),)
    if m % 2 or n == 1:
        return (Spot(shape, (m // 2,) * dim, (0.0,) * dim),)
    step, clear = _step(layer, n)
    steps = (step,) if clear and step >= 1 else (step, (n - 1) / (m - 1))
    return tuple(Spot(shape, (m // 2,) * dim, (0.5 * s,) * dim) for s in steps)


def _step(layer: FixedPixels, n: int) -> tuple[float, bool]:
    """Pixels of the input from one pixel of the output to the next, and whether two sizes agree on it."""
    m = layer.size(n)
    for more in range(1, 9):
        grown = layer.size(n + more) - m
        if grown > 0:
            if layer.size(n + 2 * more) - m == 2 * grown and (more % grown == 0 or grown % more == 0):
                return more / grown, True
            break
    return (1.0, True) if n == m else (n / m, False)


def _sees_border(layer: FixedPixels, spot: Spot) -> bool:
    """Whether the output at the pixel changes if other noise stands on the border of the input."""
    generator = torch.Generator().manual_seed(layer.subject.claim.seed)
    x, other = torch.randn(2, PROBES, layer.source.fibre.size, *spot.shape, generator=generator, dtype=torch.float64)
    inside = (slice(None), slice(None), *[slice(1, -1)] * len(spot.shape))
    other[inside] = x[inside]
    a, b = (layer.at(layer.output(v), spot.pixel) for v in (x, other))
    eps = torch.finfo(torch.float64 if layer.exact else layer.subject.claim.dtype).eps
    return not bool((np.abs(a - b) <= SAME_SAMPLE * eps * np.abs(a).max()).all())


def moves_with_its_input(layer: FixedPixels, second: Beside | None, rounding: float) -> bool:
    """Whether the output moves by as much as the input, away from the border; False if its step is not known.

    It is asked on the claim's own grid if that is larger: a mask may begin far from the centre.

    Args:
        layer: the layer.
        second: the second pixel, whose reach says which pixels the border cannot touch.
        rounding: the relative difference that rounding explains.
    """
    if second is None:
        return not layer.on_grid
    step, moved = second.shift
    n = max(second.spot.shape[0], _centred(layer, max(3, layer.own.shape[0])))
    n = n if layer.size(n) else second.spot.shape[0]
    m, dim = layer.size(n), layer.own.dim
    generator = torch.Generator().manual_seed(layer.subject.claim.seed)
    x = torch.randn(PROBES, layer.source.fibre.size, *[n] * dim, generator=generator, dtype=torch.float64)
    keep = math.floor((n // 2 - second.reach) * moved / step)  # pixels of the output about the centre, on each side
    low, high = max(0, m // 2 - keep), min(m, m // 2 + keep + 1)
    y = layer.output(x)
    for axis in range(dim):
        a, b = y, layer.output(x.roll(step, 2 + axis))
        for other in range(2, 2 + dim):
            shifted = moved if other == 2 + axis else 0
            length = max(1, high - low - shifted)
            a, b = a.narrow(other, low, length), b.narrow(other, low + shifted, length)
        if not bool((a - b).abs().max() <= rounding * a.square().mean().sqrt()):
            return False
    return True
