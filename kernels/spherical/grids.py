"""Kernel grids: the points (beta, alpha) of S2 or (beta, alpha, gamma) of SO(3) where a kernel has its weights."""

from typing import Any, Literal

import numpy as np
import torch

from . import checks
from .basis import s2_basis
from .description import GridDescription, describe
from .kernelmap import KernelMap, kernel_map
from .plots import plot
from .quadrature import soft_betas
from .wigner import Array

Domain = Literal["s2", "so3"]
_WIDTH = {"s2": 2, "so3": 3}


class KernelGrid:
    """A set of points of S2 or SO(3), equivariant under nothing by itself: it is where a kernel lives.

    Immutable, and compared by its points; layers that share a grid share its tables.

    Args:
        points: `[P, 2]` as (beta, alpha) or `[P, 3]` as (beta, alpha, gamma), radians, 0 <= beta <= pi; finite; P >= 1.
        name: how the grid was made, for reports.

    Raises:
        ValueError: if the array has another width or no points, or a point is not finite or outside [0, pi].

    Example:
        >>> grid = KernelGrid([[0.1, 0.0], [0.1, 3.14]])
        >>> grid.domain, len(grid)
        ('s2', 2)

    Source: Cohen et al. 2018, section 5: spatially localised kernels.
    """

    def __init__(self, points: Any, name: str = "points") -> None:
        array = np.array(
            points.detach().cpu().numpy() if isinstance(points, torch.Tensor) else points, dtype=np.float64
        )
        if array.ndim != 2 or array.shape[1] not in (2, 3) or len(array) == 0:
            raise ValueError(
                f"a kernel grid is an array [P, 2] of (beta, alpha) or [P, 3] of (beta, alpha, gamma), "
                f"P >= 1; got shape {array.shape}"
            )
        if not np.isfinite(array).all():
            raise ValueError(
                f"a kernel grid has finite angles; point {int(np.argmin(np.isfinite(array).all(1)))} has not"
            )
        # A pole written in float32 is up to 9e-8 beyond pi: the pole is meant.
        outside = (array[:, 0] < -1e-6) | (array[:, 0] > np.pi + 1e-6)
        if outside.any():
            where = int(np.argmax(outside))
            raise ValueError(
                f"point {where} of the kernel grid has beta = {array[where, 0]:.6g}, outside [0, pi]: beta comes "
                "first, and beta > pi is the point (2 pi - beta, alpha + pi[, gamma - pi])"
            )
        array[:, 0] = array[:, 0].clip(0.0, np.pi)
        array.setflags(write=False)
        self._points, self._name = array, name
        self._tables: dict[tuple[int, torch.dtype, str], torch.Tensor] = {}
        self._maps: dict[tuple[int, torch.dtype, str], KernelMap] = {}

    @property
    def points(self) -> Array:
        """The points, `[P, 2]` or `[P, 3]`, float64, read-only."""
        return self._points

    @property
    def domain(self) -> Domain:
        """`"s2"` or `"so3"`."""
        return "s2" if self._points.shape[1] == 2 else "so3"

    @property
    def name(self) -> str:
        """How the grid was made."""
        return self._name

    def s2_table(self, b: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        """Return (kept) the real form of conj D^l_m0, l < b, at the points of a grid on S2: `[P, b^2]`."""
        key = (b, dtype, str(device))
        if key not in self._tables:
            self._tables[key] = s2_basis(self._points, b, dtype).to(device)
        return self._tables[key]

    def so3_map(self, b: int, dtype: torch.dtype, device: torch.device) -> KernelMap:
        """Return (kept) the map from kernels to spectra of degrees l < b, on a grid on SO(3)."""
        key = (b, dtype, str(device))
        if key not in self._maps:
            self._maps[key] = kernel_map(self._points, b, dtype, device)
        return self._maps[key]

    def describe(self, *bandwidths: int, rtol: float | None = None) -> GridDescription:
        """Compute what the kernel amounts to: reach, distinct points, and per bandwidth its size and rank.

        Args:
            *bandwidths: of the signals that the kernel will see (8 by default). The rank is that of a table of P rows
                and b^2 (S2) or b (4 b^2 - 1) / 3 (SO(3)) columns: minutes for thousands of points at b = 16.
            rtol: singular values below this share of the largest do not count. By default P 2^-24: what is smaller is
                lost in the rounding of a float32 layer.

        Returns:
            A `GridDescription`: print it, or read its fields.

        Raises:
            ValueError: for a bandwidth below 1.
            TypeError: for a bandwidth that is no whole number.

        Example:
            >>> print(s2_near_identity(n_beta=1).describe(4, 16))
            s2_near_identity: 8 points on S2, 8 distinct, on 1 ring at 22.5 degrees
              b = 4   about 3.0 samples across, rank 7 of 8
              b = 16  about 9.0 samples across, rank 8 of 8

        Source: Cohen et al. 2018, section 5; Strang, Linear algebra, for the rank.
        """
        return describe(self._points, self._name, bandwidths or (8,), rtol)

    def plot(self, axes: Any = None, view: tuple[float, float] = (0.7, 0.0)) -> Any:
        """Draw the points on the sphere; on SO(3) where they take the north pole, with a tick for the angle about it.

        Args:
            axes: matplotlib axes to draw on; by default those of a new figure, `grid.plot().figure`.
            view: the (beta, alpha) that the eye is above, radians. What lies behind is drawn faintly.

        Returns:
            The axes.

        Raises:
            ImportError: if matplotlib is not installed: `pip install 'equiharness[report]'`.

        Example:
            >>> len(s2_near_identity().plot().lines) > 3
            True

        Source: elementary.
        """
        return plot(self._points, repr(self).strip("<>"), axes, view)

    def __len__(self) -> int:
        """Return the number of points."""
        return len(self._points)

    def __eq__(self, other: object) -> bool:
        """Compare by points."""
        return isinstance(other, KernelGrid) and np.array_equal(self._points, other._points)

    def __hash__(self) -> int:
        """Hash the points."""
        return hash(self._points.tobytes())

    def __repr__(self) -> str:
        """Say what the grid is."""
        return f"<{self._name}: {len(self)} points on {'S2' if self.domain == 's2' else 'SO(3)'}>"

    def __deepcopy__(self, memo: dict[int, object]) -> "KernelGrid":
        """Return itself: it is immutable, and copies of a layer go on sharing its tables."""
        return self

    def __reduce__(self) -> tuple[type["KernelGrid"], tuple[Array, str]]:
        """Pickle the points, not the tables."""
        return KernelGrid, (np.array(self._points), self._name)


def as_grid(grid: object, domain: Domain) -> KernelGrid:
    """Return a KernelGrid on the wanted domain, from a KernelGrid or from any array of points."""
    result = grid if isinstance(grid, KernelGrid) else KernelGrid(grid)
    if result.domain != domain:
        order = "(beta, alpha)" if domain == "s2" else "(beta, alpha, gamma)"
        raise ValueError(
            f"this needs points [P, {_WIDTH[domain]}] as {order}; the grid has width {_WIDTH[result.domain]}"
        )
    return result


def _count(value: int, name: str) -> int:
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
    return int(value)


def _circle(n: int) -> Array:
    """Return 2 pi k / n, k < n."""
    angles: Array = 2 * np.pi * np.arange(n) / n
    return angles


def _product(*axes: Array) -> Array:
    """Return all combinations, the first axis slowest."""
    return np.stack([axis.reshape(-1) for axis in np.meshgrid(*axes, indexing="ij")], 1)


def _rings(max_beta: float, n_beta: int) -> Array:
    betas: Array = np.arange(1, _count(n_beta, "n_beta") + 1) * max_beta / n_beta
    return betas


def _belt(max_beta: float, n_beta: int) -> Array:
    """Return colatitudes from pi/2 - max_beta to pi/2 + max_beta (a single one: the first, as linspace has it)."""
    return np.linspace(np.pi / 2 - max_beta, np.pi / 2 + max_beta, _count(n_beta, "n_beta"))


def s2_near_identity(
    max_beta: float = np.pi / 8, n_alpha: int = 8, n_beta: int = 3, include_pole: bool = False
) -> KernelGrid:
    """Compute rings around the north pole of S2, for a kernel that is local on the sphere (equivariant under SO(3)).

    Args:
        max_beta: radius of the outer ring, radians.
        n_alpha: points per ring, alpha_k = 2 pi k / n_alpha.
        n_beta: rings, beta_i = i max_beta / n_beta, i = 1 .. n_beta.
        include_pole: add the pole itself, as the first point.

    Returns:
        A grid of n_beta n_alpha points (one more with the pole), beta slowest.

    Raises:
        ValueError: if a count is below 1 or max_beta outside [0, pi].

    Example:
        >>> s2_near_identity()
        <s2_near_identity: 24 points on S2>

    Source: Cohen et al. 2018, section 5.
    """
    points = _product(_rings(max_beta, n_beta), _circle(_count(n_alpha, "n_alpha")))
    if include_pole:
        points = np.concatenate([np.zeros((1, 2)), points])
    return KernelGrid(points, "s2_near_identity")


def s2_equatorial(max_beta: float = 0.0, n_alpha: int = 32, n_beta: int = 1) -> KernelGrid:
    """Compute rings around the equator of S2, for a kernel that compares a point with its great circle (under SO(3)).

    Args:
        max_beta: half-width of the belt, radians.
        n_alpha: points per ring, alpha_k = 2 pi k / n_alpha.
        n_beta: rings, from pi/2 - max_beta to pi/2 + max_beta.

    Returns:
        A grid of n_beta n_alpha points, beta slowest.

    Raises:
        ValueError: if a count is below 1 or the belt leaves [0, pi].

    Example:
        >>> s2_equatorial(n_alpha=16)
        <s2_equatorial: 16 points on S2>

    Source: Cohen et al. 2018, section 5.
    """
    return KernelGrid(_product(_belt(max_beta, n_beta), _circle(_count(n_alpha, "n_alpha"))), "s2_equatorial")


def s2_soft(b: int) -> KernelGrid:
    """Compute the whole SOFT grid of S2, for a global kernel (equivariant under SO(3)).

    Args:
        b: bandwidth.

    Returns:
        A grid of 4 b^2 points, in the order of a flattened signal.

    Raises:
        ValueError: if b is not positive.

    Example:
        >>> len(s2_soft(4))
        64

    Source: Kostelec and Rockmore 2008.
    """
    b = checks.bandwidth(b)
    return KernelGrid(_product(soft_betas(b), _circle(2 * b)), "s2_soft")


def so3_near_identity(
    max_beta: float = np.pi / 8,
    max_gamma: float = 2 * np.pi,
    n_alpha: int = 8,
    n_beta: int = 3,
    n_gamma: int | None = None,
    compatible: bool = False,
) -> KernelGrid:
    """Compute rotations near the identity, for a kernel that is local on SO(3) (equivariant under SO(3)).

    Args:
        max_beta: largest tilt, radians.
        max_gamma: largest alpha + gamma, radians; from pi on it means every angle.
        n_alpha: directions of the tilt, alpha_k = 2 pi k / n_alpha.
        n_beta: tilts, beta_i = i max_beta / n_beta, i = 1 .. n_beta.
        n_gamma: angles about the own axis, n_alpha by default.
        compatible: always take gamma + alpha = linspace(-max_gamma, max_gamma, n_gamma), ends included, as published
            models do. Over the full circle that repeats points (168 distinct of 192 by default): so from pi on the
            default is gamma + alpha = 2 pi k / n_gamma instead.

    Returns:
        A grid of n_beta n_alpha n_gamma points, beta slowest, gamma fastest.

    Raises:
        ValueError: if a count is below 1 or max_beta outside [0, pi].

    Example:
        >>> so3_near_identity()
        <so3_near_identity: 192 points on SO(3)>

    Source: Cohen et al. 2018, section 5.
    """
    n_gamma = _count(n_alpha if n_gamma is None else n_gamma, "n_gamma")
    ends_included = compatible or max_gamma < np.pi
    turn = np.linspace(-max_gamma, max_gamma, n_gamma) if ends_included else _circle(n_gamma)
    points = _product(_rings(max_beta, n_beta), _circle(_count(n_alpha, "n_alpha")), turn)
    points[:, 2] -= points[:, 1]
    return KernelGrid(points, "so3_near_identity")


def so3_equatorial(
    max_beta: float = 0.0, max_gamma: float = np.pi / 8, n_alpha: int = 32, n_beta: int = 1, n_gamma: int = 2
) -> KernelGrid:
    """Compute rotations that take the pole to the equator, for a kernel along great circles (equivariant under SO(3)).

    Args:
        max_beta: half-width of the belt, radians.
        max_gamma: gamma = linspace(-max_gamma, max_gamma, n_gamma), radians.
        n_alpha: points per ring, alpha_k = 2 pi k / n_alpha.
        n_beta: rings, from pi/2 - max_beta to pi/2 + max_beta.
        n_gamma: angles about the own axis.

    Returns:
        A grid of n_beta n_alpha n_gamma points, beta slowest, gamma fastest.

    Raises:
        ValueError: if a count is below 1 or the belt leaves [0, pi].

    Example:
        >>> so3_equatorial()
        <so3_equatorial: 64 points on SO(3)>

    Source: Cohen et al. 2018, section 5.
    """
    gamma = np.linspace(-max_gamma, max_gamma, _count(n_gamma, "n_gamma"))
    return KernelGrid(_product(_belt(max_beta, n_beta), _circle(_count(n_alpha, "n_alpha")), gamma), "so3_equatorial")


def so3_soft(b: int) -> KernelGrid:
    """Compute the whole SOFT grid of SO(3), for a global kernel (equivariant under SO(3)).

    Args:
        b: bandwidth.

    Returns:
        A grid of 8 b^3 points, in the order of a flattened signal.

    Raises:
        ValueError: if b is not positive.

    Example:
        >>> len(so3_soft(4))
        512

    Source: Kostelec and Rockmore 2008.
    """
    b = checks.bandwidth(b)
    return KernelGrid(_product(soft_betas(b), _circle(2 * b), _circle(2 * b)), "so3_soft")
