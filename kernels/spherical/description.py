"""What a kernel grid amounts to: how far it reaches, how many of its points differ, how many weights each band sees."""

from dataclasses import dataclass

import numpy as np
import torch

from . import checks
from .basis import s2_basis, so3_basis
from .wigner import Array


@dataclass(frozen=True)
class Seen:
    """A grid on signals of one bandwidth.

    Attributes:
        bandwidth: b.
        size: effective kernel size: how many samples of the SOFT grid, pi / 2b apart, lie across the cap that holds the
            points; 3 is what 3 x 3 is in the plane.
        rank: how many independent kernels the weights make; fewer than the points where points repeat, or lie closer
            than the band resolves.
    """

    bandwidth: int
    size: float
    rank: int


@dataclass(frozen=True)
class GridDescription:
    """What `KernelGrid.describe` found; printed as a few lines.

    Attributes:
        name: how the grid was made.
        domain: "s2" or "so3".
        points: number of points, of weights for each pair of channels.
        distinct: number of different points.
        reach: largest colatitude, radians: how far from its centre the kernel looks.
        rings: number of different colatitudes.
        seen: size and rank on signals of each bandwidth asked for.
    """

    name: str
    domain: str
    points: int
    distinct: int
    reach: float
    rings: int
    seen: tuple[Seen, ...]

    def __str__(self) -> str:
        where = "S2" if self.domain == "s2" else "SO(3)"
        rings = f"{self.rings} ring" + ("s up to" if self.rings > 1 else " at")
        lines = [
            f"{self.name}: {self.points} points on {where}, {self.distinct} distinct, on {rings} "
            f"{np.degrees(self.reach):.1f} degrees"
        ]
        for s in self.seen:
            lines.append(f"  b = {s.bandwidth:<3} about {s.size:.1f} samples across, rank {s.rank} of {self.points}")
        return "\n".join(lines)


def describe(points: Array, name: str, bandwidths: tuple[int, ...], rtol: float | None) -> GridDescription:
    """Return the description of points [P, 2] or [P, 3]; `KernelGrid.describe` says what is in it."""
    on_sphere = points.shape[1] == 2
    # A sum of P products in float32 is off by up to P u of its largest terms, u = 2^-24: what a direction of the
    # kernel contributes beyond that many times less than the strongest one is lost in the rounding of a layer.
    rtol = len(points) * 2.0**-24 if rtol is None else rtol
    reach = float(points[:, 0].max())
    seen = []
    for given in bandwidths:
        b = checks.bandwidth(given, "a bandwidth")
        table = (s2_basis if on_sphere else so3_basis)(points, b, torch.float64)
        seen.append(Seen(b, 1 + 2 * reach / (np.pi / (2 * b)), int(torch.linalg.matrix_rank(table, rtol=rtol))))
    domain = "s2" if on_sphere else "so3"
    rings = len(np.unique(points[:, 0].round(9)))
    return GridDescription(name, domain, len(points), distinct(points), reach, rings, tuple(seen))


def distinct(points: Array) -> int:
    """Return how many different points or rotations there are, whatever their angles are called.

    Coordinates of unit vectors or matrices are compared to 2^-30: a million times their rounding, and far less than any
    distance that a band resolves. The shift keeps values such as 0 and 1/2 away from where rounding decides.
    """
    cells = np.floor(coordinates(points) * 2.0**30 + 1 / np.pi).astype(np.int64)
    return len(np.unique(cells, axis=0))


def coordinates(points: Array) -> Array:
    """Return unit vectors [P, 3] of points of S2; the first and last columns of rotation matrices [P, 6] of SO(3)."""
    beta, alpha = points[:, 0], points[:, 1]
    z = np.stack([np.sin(beta) * np.cos(alpha), np.sin(beta) * np.sin(alpha), np.cos(beta)], 1)
    if points.shape[1] == 2:
        vectors: Array = z
        return vectors
    down = np.stack([np.cos(beta) * np.cos(alpha), np.cos(beta) * np.sin(alpha), -np.sin(beta)], 1)
    along = np.stack([-np.sin(alpha), np.cos(alpha), np.zeros_like(alpha)], 1)
    gamma = points[:, 2:]
    columns: Array = np.concatenate([np.cos(gamma) * down + np.sin(gamma) * along, z], 1)
    return columns
