"""Domains of spherical signals: S2 and SO(3), sampled on rings. Every rotation acts on them exactly."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass

import torch

from ..errors import UsageError
from ..symmetry.groups import Element, Group
from ..symmetry.harmonics import Band, Rings, equiangular_rings, gauss_rings, soft_rings
from .domains import Domain


class BandLimited(Domain):
    """Base of S2 and SO(3): elements act exactly on the signals of degrees l < b, and integrals are quadratures.

    The action first projects a signal to the band, so the identity is a projection. Norms use the quadrature, because
    rotations are orthogonal in no other norm.
    """

    dim = 3
    b: int

    @property
    def band(self) -> Band:
        """Transforms on this grid, shared by all equal domains."""
        raise NotImplementedError

    @property
    def exact_degrees(self) -> int:
        """The quadrature is exact for all harmonics of degrees below this number, but not for all of this degree."""
        raise NotImplementedError

    def permutes(self, g: Element) -> bool:
        """Always false, because even the identity is a projection."""
        return False

    def move(self, g: Element, x: torch.Tensor) -> torch.Tensor:
        """f(g^-1 .), computed in the spectrum.

        Raises:
            UsageError: the tensor does not hold real numbers.
        """
        try:
            return self.band.rotate(g.matrix, x)
        except TypeError as error:
            raise UsageError(f"{error}.") from error

    def mean(self, y: torch.Tensor) -> torch.Tensor:
        """The integral by quadrature, in the dtype of y."""
        rings = y.flatten(3).mean(-1)
        return rings @ self.band.weights.to(rings)

    def naive_mean(self, y: torch.Tensor) -> torch.Tensor:
        """A common wrong integral, as a control: the plain mean over samples, which are dense at the poles."""
        return y.flatten(2).mean(-1)

    def noise(self, count: int, channels: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
        """Band-limited noise."""
        return self.band.noise((count, *channels), generator)


#: Rings of each grid of S2, and the least number of rings whose quadrature is exact for products of two signals of
#: degrees below b, which have degree 2b - 2.
_RINGS: dict[str, tuple[Callable[[int], Rings], Callable[[int], int]]] = {
    "soft": (soft_rings, lambda b: 2 * b),
    "gauss": (gauss_rings, lambda b: b),
    "equiangular": (equiangular_rings, lambda b: max(2, 2 * b - 1)),
}


@dataclass(frozen=True, repr=False)
class Sphere(BandLimited):
    """Signals on S2 of degrees l < b: tensors [batch, *channels, beta, alpha], the north pole at beta = 0.

    Rotations act on (x, y, z). beta is the angle from z and alpha the angle from x. Reflections act too.

    Args:
        b: bandwidth.
        grid: "soft", beta_j = pi (2j+1) / 4b; "gauss", Gauss-Legendre rings; "equiangular", with both poles.
        shape: number of rings, and number of points alpha_k = 2 pi k / n on each ring; by default the least number of
            rings and 2b points.

    Example:
        >>> Sphere(4).axes, Sphere(4, grid="gauss").axes
        ((8, 8), (4, 8))
    """

    b: int
    _: KW_ONLY
    grid: str = "soft"
    shape: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        _require_bandwidth(self.b)
        if self.grid not in _RINGS:
            raise UsageError(f"Unknown grid {self.grid!r} of the sphere. Known: {', '.join(_RINGS)}.")
        rings, angles = self.axes
        least = _RINGS[self.grid][1](self.b)
        if rings < least or angles < 2 * self.b - 1 or (self.grid == "soft" and rings % 2):
            even = ", an even number," if self.grid == "soft" else ""
            raise UsageError(
                f"{self} is too coarse for its bandwidth: degrees below {self.b} need at least {least} rings{even} "
                f"and {2 * self.b - 1} angles. Lower b or refine the grid."
            )

    def __repr__(self) -> str:
        parts = [f"{self.b}", *([f"grid={self.grid!r}"] if self.grid != "soft" else [])]
        return f"Sphere({', '.join([*parts, *([f'shape={self.shape}'] if self.shape else [])])})"

    @property
    def axes(self) -> tuple[int, ...]:
        """Rings and angles."""
        return self.shape or (_RINGS[self.grid][1](self.b), 2 * self.b)

    @property
    def exact_degrees(self) -> int:
        """2b on the default shapes: the limit of the rings, or the order that the angles alias to order 0."""
        rings, angles = self.axes
        of_rings = {"soft": rings, "gauss": 2 * rings, "equiangular": rings + rings % 2}[self.grid]
        return min(of_rings, angles)

    @property
    def band(self) -> Band:
        """Transforms between rings and spectra."""
        rings, angles = self.axes
        return _band(self.b, self.grid, rings, angles, False)

    def resized(self, factor: float) -> Sphere:
        """The sphere with ``factor`` times the bandwidth, on the same kind of grid with the same oversampling."""
        b = max(1, round(self.b * factor))
        if self.shape is None:
            return Sphere(b, grid=self.grid)
        least = _RINGS[self.grid][1]
        spare = (self.shape[0] - least(self.b)) * b // self.b
        angles = max(2 * b - 1, round(self.shape[1] * b / self.b))
        return Sphere(b, grid=self.grid, shape=(least(b) + spare + spare % 2, angles))


@dataclass(frozen=True, repr=False)
class Rotations(BandLimited):
    """Signals on SO(3) of degrees l < b: tensors [batch, *channels, beta, alpha, gamma], each axis of length 2b.

    The SOFT grid of Euler angles R = Z(alpha) Y(beta) Z(gamma): beta_j = pi (2j+1) / 4b, alpha_k = gamma_k = pi k / b.
    Rotations act from the left, (g f)(R) = f(g^-1 R).

    Args:
        b: bandwidth.

    Example:
        >>> Rotations(4).axes
        (8, 8, 8)
    """

    b: int

    def __post_init__(self) -> None:
        _require_bandwidth(self.b)

    def __repr__(self) -> str:
        return f"Rotations({self.b})"

    @property
    def axes(self) -> tuple[int, ...]:
        """Three angles."""
        return (2 * self.b,) * 3

    def accept(self, group: Group) -> None:
        """Require a group of rotations of space.

        Raises:
            UsageError: the group acts on the plane, or has reflections.
        """
        super().accept(group)
        if group.improper:
            raise UsageError(
                f"{group.name} has reflections, which do not act on SO(3): claim SO3, or another group of rotations."
            )

    @property
    def exact_degrees(self) -> int:
        """2b."""
        return 2 * self.b

    @property
    def band(self) -> Band:
        """Transforms between the SOFT grid and spectra."""
        return _band(self.b, "soft", 2 * self.b, 2 * self.b, True)

    def resized(self, factor: float) -> Rotations:
        """The same domain with ``factor`` times the bandwidth."""
        return Rotations(max(1, round(self.b * factor)))


def _require_bandwidth(b: object) -> None:
    if not isinstance(b, int) or isinstance(b, bool) or b < 1:
        raise UsageError(f"A bandwidth is the number of degrees, a whole number of at least 1; got {b!r}.")


@functools.lru_cache(maxsize=16)
def _band(b: int, grid: str, rings: int, angles: int, on_group: bool) -> Band:
    made: Rings = _RINGS[grid][0](rings)
    return Band(made, angles, b, on_group=on_group)
