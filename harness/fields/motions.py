"""Motions of a system of points that are in no matrix group of the plane or of space: translations and renumberings.

Both are groups of the harness, so the same bounds and the same power apply to them. The leaves of a claim are wrapped
for each of them. A translation shifts positions and leaves every other leaf unchanged; a renumbering permutes the
leaves that run over points.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..errors import UsageError
from ..symmetry.groups import SAME, ContinuousGroup, Element, Matrix
from .atoms import Index, Positions
from .domains import Edges, Points
from .field import Acted, Field, Invariant


class Motion(Element):
    """A translation (as an affine matrix) or a renumbering (as a permutation matrix)."""

    def angle_to(self, other: Element) -> float:
        """pi between different motions. Motions have no angle, and every other motion is a fair control."""
        same = self.matrix.shape == other.matrix.shape and np.abs(self.matrix - other.matrix).max() < SAME
        return 0.0 if same else math.pi


class _Motions(ContinuousGroup):
    """Base of both groups: products and inverses of matrices. Elements are sampled, never listed."""

    def __init__(self, name: str, dim: int) -> None:
        self.name, self.dim, self._elements = name, dim, ()

    def motion(self, matrix: Matrix) -> Motion:
        """The element with this matrix."""
        raise NotImplementedError

    def element(self, spec: object) -> Element:
        """The element itself, or the element with a given matrix."""
        if isinstance(spec, Motion):
            return spec
        matrix = np.asarray(spec.matrix if isinstance(spec, Element) else spec, dtype=np.float64)
        if matrix.shape != (self.dim, self.dim):
            raise UsageError(f"{spec!r} is not an element of the {self.name}: give a matrix [{self.dim}, {self.dim}].")
        return self.motion(matrix)

    @property
    def identity(self) -> Element:
        """The motion that moves nothing."""
        return self.motion(np.eye(self.dim))

    def compose(self, first: Element, second: Element) -> Element:
        """The product: apply ``second``, then ``first``."""
        return self.motion(first.matrix @ second.matrix)

    def inverse(self, element: Element) -> Element:
        """The inverse motion."""
        return self.motion(np.linalg.inv(element.matrix))

    def representatives(self, rng: np.random.Generator, count: int) -> list[Element]:
        """The identity, the generators and samples."""
        return [self.identity, *self.generators, *self.sample(rng, count)]


class Translations(_Motions):
    """Shifts of space with a typical length ``length``. Each is an affine matrix [[1, t], [0, 1]].

    Example:
        >>> shifts = Translations(2, 1.0)
        >>> str(shifts.compose(*shifts.generators))
        'shift by (1, 1)'
    """

    def __init__(self, dim: int, length: float) -> None:
        super().__init__("translations", dim + 1)
        self.length = length

    def motion(self, matrix: Matrix) -> Motion:
        """The shift with this affine matrix."""
        shift = matrix[:-1, -1]
        name = "e" if np.abs(shift).max() < SAME else f"shift by ({', '.join(f'{v:.3g}' for v in shift)})"
        return Motion(name, matrix)

    def shift(self, vector: Matrix) -> Motion:
        """The shift by a vector."""
        matrix = np.eye(self.dim)
        matrix[:-1, -1] = vector
        return self.motion(matrix)

    @property
    def generators(self) -> tuple[Element, ...]:
        """A shift by ``length`` along each axis."""
        return tuple(self.shift(self.length * axis) for axis in np.eye(self.dim - 1))

    def sample(self, rng: np.random.Generator, count: int) -> list[Element]:
        """Normally distributed shifts."""
        return [self.shift(self.length * rng.standard_normal(self.dim - 1)) for _ in range(count)]


class Renumberings(_Motions):
    """Permutations of n points: element p sends point i to number p(i).

    Example:
        >>> [str(g) for g in Renumberings(4).generators]
        ['points 0 and 1 swapped', 'points renumbered 1 2 3 0']
    """

    def __init__(self, count: int) -> None:
        super().__init__("permutations", count)

    def motion(self, matrix: Matrix) -> Motion:
        """The permutation with this permutation matrix, which has ones at (p(i), i)."""
        order = np.round(matrix).argmax(0)
        moved = np.flatnonzero(order != np.arange(self.dim))
        if not len(moved):
            name = "e"
        elif len(moved) == 2:
            name = f"points {moved[0]} and {moved[1]} swapped"
        else:
            listed = " ".join(map(str, order[:12]))
            name = f"points renumbered {listed}{' ...' if self.dim > 12 else ''}"
        return Motion(name, np.round(matrix))

    def permutation(self, order: Any) -> Motion:
        """The element that sends point i to number order[i]."""
        matrix = np.zeros((self.dim, self.dim))
        matrix[order, np.arange(self.dim)] = 1
        return self.motion(matrix)

    @property
    def generators(self) -> tuple[Element, ...]:
        """The swap of two points and the cycle of all points."""
        if self.dim < 2:
            return ()
        swap = [1, 0, *range(2, self.dim)]
        cycle = [*range(1, self.dim), 0]
        return tuple(self.permutation(order) for order in ([swap, cycle] if self.dim > 2 else [swap]))

    def sample(self, rng: np.random.Generator, count: int) -> list[Element]:
        """Uniform permutations."""
        return [self.permutation(rng.permutation(self.dim)) for _ in range(count)]


@dataclass(frozen=True)
class Moved(Acted):
    """A leaf with another group's action. Its errors and its pictures are those of the original leaf."""

    leaf: Any = None
    permuting: bool = False

    def summands(self, x: torch.Tensor) -> torch.Tensor:
        """The summands of the original leaf."""
        rows: torch.Tensor = self.leaf.summands(x)
        return rows

    def require_fit(self, x: torch.Tensor, what: str) -> Moved:
        """Require that the tensor fits the original leaf."""
        self.leaf.require_fit(x, what)
        return self

    def permutes(self, g: object) -> bool:
        """Whether the action only permutes values."""
        return self.permuting

    def __str__(self) -> str:
        return str(self.leaf)


def _stay(g: object, x: torch.Tensor) -> torch.Tensor:
    return x


def still(leaf: Any) -> Moved:
    """The leaf with an action that changes nothing."""
    return Moved(_stay, leaf, permuting=True)


def translated(leaf: Any) -> Moved:
    """The leaf under translations: positions are shifted, every other leaf is unchanged."""

    def shift(g: Any, x: torch.Tensor) -> torch.Tensor:
        return x + torch.as_tensor(np.ascontiguousarray(g.matrix[:-1, -1]), dtype=x.dtype, device=x.device)

    return Moved(shift, leaf) if isinstance(leaf, Positions) else still(leaf)


def renumbered(leaf: Any, count: int) -> Moved:
    """The leaf under renumberings of ``count`` points: axes over points are permuted, indices of points renamed."""
    domain = leaf.domain if isinstance(leaf, Field) else leaf.at if isinstance(leaf, Invariant) else None
    function: Callable[[Any, torch.Tensor], torch.Tensor] = _stay
    if isinstance(domain, Points) and not isinstance(domain, Edges) and domain.count == count:
        function = _permute
    elif isinstance(leaf, Index) and leaf.count == count:
        function = _rename
    return Moved(function, leaf, permuting=True)


def _permute(g: Any, x: torch.Tensor) -> torch.Tensor:
    """(p x)[p(i)] = x[i] along axis 1."""
    return x.index_select(1, torch.as_tensor(g.matrix.argmax(1), device=x.device))


def _rename(g: Any, x: torch.Tensor) -> torch.Tensor:
    """v -> p(v) for every entry."""
    return torch.as_tensor(g.matrix.argmax(0), device=x.device)[x]
