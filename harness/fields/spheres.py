"""Domains of spherical signals: S2 and SO(3), sampled on rings, moved exactly by every rotation."""

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
    """What S2 and SO(3) share: elements act on the signals of degrees l < b, exactly; integrals are quadratures.

    The action projects on the band first, so that the identity is a projection; norms are those of the quadrature, in
    which alone rotations are orthogonal.
    """

    dim = 3
    b: int

    @property
    def band(self) -> Band:
        """Transforms on this grid, made once for all equal domains."""
        raise NotImplementedError

    @property
    def exact_degrees(self) -> int:
        """The quadrature integrates harmonics of degrees below this exactly, and not all of this degree."""
        raise NotImplementedError

    def permutes(self, g: Element) -> bool:
        """Never: the identity itself projects."""
        return False

    def move(self, g: Element, x: torch.Tensor) -> torch.Tensor:
        """f(g^-1 .), in the spectrum.

        Raises:
            UsageError: the tensor does not hold real numbers.
        """
        try:
            return self.band.rotate(g.matrix, x)
        except TypeError as error:
            raise UsageError(f"{error}.") from error

    def mean(self, y: torch.Tensor) -> torch.Tensor:
        """The quadrature, in the dtype of y."""
        rings = y.flatten(3).mean(-1)
        return rings @ self.band.weights.to(rings)

    def naive_mean(self, y: torch.Tensor) -> torch.Tensor:
        """The plain mean over samples, which are dense at the poles."""
        return y.flatten(2).mean(-1)

    def noise(self, count: int, channels: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
        """Band-limited noise."""
        return self.band.noise((count, *channels), generator)


#: Rings of the grids of S2, and the least number of them whose quadrature is exact for products of two signals of
#: degrees below b: degree 2b - 2.
_RINGS: dict[str, tuple[Callable[[int], Rings], Callable[[int], int]]] = {
    "soft": (soft_rings, lambda b: 2 * b),
    "gauss": (gauss_rings, lambda b: b),
    "equiangular": (equiangular_rings, lambda b: max(2, 2 * b - 1)),
}


@dataclass(frozen=True, repr=False)
class Sphere(BandLimited):
    """Signals on S2 of degrees l < b: tensors [batch, *channels, beta, alpha], the north pole at beta = 0.

    Rotations act on (x, y, z), beta measured from z and alpha from x; reflections are elements too.

    Args:
        b: bandwidth.
        grid: "soft", beta_j = pi (2j+1) / 4b; "gauss", Gauss-Legendre rings; "equiangular", with both poles.
        shape: numbers of rings and of points alpha_k = 2 pi k / n on each; by default the least rings and 2b points.

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
        """2b on the default shapes: that of the rings, or the order that equally spaced angles take for a constant."""
        rings, angles = self.axes
        of_rings = {"soft": rings, "gauss": 2 * rings, "equiangular": rings + rings % 2}[self.grid]
        return min(of_rings, angles)

    @property
    def band(self) -> Band:
        """Transforms between rings and spectra."""
        rings, angles = self.axes
        return _band(self.b, self.grid, rings, angles, False)

    def resized(self, factor: float) -> Sphere:
        """``factor`` times the bandwidth, on a grid of the same kind, as much finer than needed as this one."""
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
        """Rotations alone.

        Raises:
            UsageError: the group is one of the plane, or has reflections.
        """
        super().accept(group)
        if group.improper:
            raise UsageError(
                f"{group.name} has reflections, which take SO(3) out of itself: claim SO3, or a group of rotations."
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
        """``factor`` times the bandwidth."""
        return Rotations(max(1, round(self.b * factor)))


def _require_bandwidth(b: object) -> None:
    if not isinstance(b, int) or isinstance(b, bool) or b < 1:
        raise UsageError(f"A bandwidth is a whole number from 1 on, the number of degrees; got {b!r}.")


@functools.lru_cache(maxsize=16)
def _band(b: int, grid: str, rings: int, angles: int, on_group: bool) -> Band:
    made: Rings = _RINGS[grid][0](rings)
    return Band(made, angles, b, on_group=on_group)
