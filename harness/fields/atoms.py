"""Leaves of atomistic models. The type of a leaf adds motions or properties to a claim, beyond the group's elements.

With ``Positions`` in the source a claim also covers translations of all positions and permutations of the points, in
addition to rotations. With ``Forces`` in the target it claims F = -dE/dx. With an ``Energy`` that has a cutoff it
claims that the energy is smooth at the cutoff.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from ..errors import UsageError
from ..symmetry.groups import Group
from ..symmetry.groups import group as as_group
from ..trees import Tree, leaves, tree_map
from .domains import Points, Vector
from .field import Acted, Field, Invariant, shown

#: The spacing of the lattice for drawn positions, and the edge of a drawn cell, in the model's unit of length.
SPACING, EDGE = 1.5, 8.0
#: Atoms are drawn on a cubic lattice and shifted by at most this share of its spacing. Any two stay 0.6 spacings apart.
JITTER = 0.2
#: Lattice vectors are drawn as edge * (1 + 0.1 noise): sheared, with a condition number below 2 in 99% of draws.
SHEAR = 0.1


class Positions(Field):
    """The positions of n points: tensors [batch, n, d]. The group rotates, translations shift, renumberings permute.

    Args:
        count: number of points.
        group: a group of the plane or of space.
        spacing: spacing of the lattice around which inputs are drawn, in the model's own unit of length. Points stay
            at least 0.6 spacings apart, so that no pair is closer than real atoms are.

    Example:
        >>> Positions(6, "O3").random(4, torch.Generator().manual_seed(0)).shape
        torch.Size([4, 6, 3])
    """

    spacing: float

    def __init__(self, count: int, group: str | Group, *, spacing: float = SPACING) -> None:
        super().__init__(Points(count), group, "standard")
        object.__setattr__(self, "spacing", spacing)

    @property
    def count(self) -> int:
        """Number of points."""
        assert isinstance(self.domain, Points)
        return self.domain.count

    def random(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Points near random sites of a small cubic lattice around the origin."""
        d = self.group.dim
        side = math.ceil(self.count ** (1 / d) - 1e-9)
        axis = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
        sites = torch.stack(torch.meshgrid(*[axis] * d, indexing="ij"), -1).reshape(-1, d)
        chosen = torch.stack([torch.randperm(len(sites), generator=generator)[: self.count] for _ in range(count)])
        noise = 2 * torch.rand(count, self.count, d, generator=generator, dtype=torch.float64) - 1
        return self.spacing * (sites[chosen] + JITTER * noise)

    def __repr__(self) -> str:
        named = "" if self.spacing == SPACING else f", spacing={self.spacing}"
        return f"Positions({self.count}, {shown(self.group)}{named})"


class Cell(Field):
    """Lattice vectors in rows: tensors [batch, d, d]. The group rotates each row; translations do not change it.

    Args:
        group: a group of the plane or of space.
        edge: typical length of the drawn vectors.
    """

    edge: float

    def __init__(self, group: str | Group, *, edge: float = EDGE) -> None:
        found = as_group(group)
        super().__init__(Vector(), found, f"{found.dim}*standard", split=True)
        object.__setattr__(self, "edge", edge)

    def random(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Slightly sheared cubic cells."""
        d = self.group.dim
        noise = torch.randn(count, d, d, generator=generator, dtype=torch.float64)
        return self.edge * (torch.eye(d, dtype=torch.float64) + SHEAR * noise)

    def __repr__(self) -> str:
        named = "" if self.edge == EDGE else f", edge={self.edge}"
        return f"Cell({shown(self.group)}{named})"


class Forces(Field):
    """Forces on n points: tensors [batch, n, d], claimed to be F = -dE/dx of an energy in the same target.

    Args:
        count: number of points.
        group: the group of the positions.
        energy: name of the energy's leaf.
    """

    energy: str

    def __init__(self, count: int, group: str | Group, *, energy: str = "energy") -> None:
        super().__init__(Points(count), group, "standard")
        object.__setattr__(self, "energy", energy)

    def __repr__(self) -> str:
        assert isinstance(self.domain, Points)
        named = "" if self.energy == "energy" else f", energy={self.energy!r}"
        return f"Forces({self.domain.count}, {shown(self.group)}{named})"


@dataclass(frozen=True, init=False, repr=False)
class Energy(Invariant):
    """An energy: one number for each sample, tensors [batch] or [batch, 1]. Invariant under all motions.

    Args:
        cutoff: a distance. If given, the claim includes that the energy and its slope are continuous where the
            distance of two points crosses the cutoff.
    """

    cutoff: float | None = None

    def __init__(self, *, cutoff: float | None = None) -> None:
        super().__init__()
        object.__setattr__(self, "cutoff", cutoff)

    def require_fit(self, x: torch.Tensor, what: str) -> Energy:
        """Require one number for each sample."""
        if x.dim() == 0 or x.numel() != len(x):
            raise UsageError(
                f"{what} has shape {list(x.shape)}, and the target declares an energy: return one number per sample, "
                "shape [batch] (a model of one sample without a batch axis: check(..., batched=False))."
            )
        return self

    def __repr__(self) -> str:
        return "Energy()" if self.cutoff is None else f"Energy(cutoff={self.cutoff})"


@dataclass(frozen=True, repr=False)
class Index:
    """Indices of points, such as the ends of edges. No rotation changes them; a renumbering renames them.

    Args:
        count: number of points; entries lie in 0 .. count - 1.
        shape: shape of one sample: (2, m) for the ends of m edges, drawn without loops.

    Example:
        >>> Index(6, (2, 30)).random(4, torch.Generator().manual_seed(0)).shape
        torch.Size([4, 2, 30])
    """

    count: int
    shape: tuple[int, ...] | None = None

    def random(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Random points. For edges (2, m) random ordered pairs, without repetition while there are enough pairs."""
        if self.shape is None:
            raise UsageError(f"{self} has no shape to draw inputs from: write Index(6, (2, 30)), or pass inputs=.")
        if len(self.shape) != 2 or self.shape[0] != 2 or self.count < 2:
            return torch.randint(0, self.count, (count, *self.shape), generator=generator)
        pairs = torch.tensor([(i, j) for i in range(self.count) for j in range(self.count) if i != j]).T
        wanted = self.shape[1]
        rounds = -(-wanted // pairs.shape[1])
        order = [
            torch.cat([torch.randperm(pairs.shape[1], generator=generator) for _ in range(rounds)])[:wanted]
            for _ in range(count)
        ]
        return torch.stack([pairs[:, o] for o in order])

    def act(self, g: object, x: torch.Tensor) -> torch.Tensor:
        """Return the tensor itself: no rotation renames points."""
        return x

    def exact(self, g: object) -> bool:
        """Always true: no value changes."""
        return True

    def permutes(self, g: object) -> bool:
        """Always true: no value changes."""
        return True

    def permuted_fibre(self, x: torch.Tensor) -> None:
        """None: there is no fibre."""

    def summands(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, 1, values]."""
        return x.reshape(len(x), 1, -1).double()

    def require_fit(self, x: torch.Tensor, what: str) -> Index:
        """Require integers within range."""
        if x.is_floating_point() or (x.numel() and not 0 <= int(x.min()) <= int(x.max()) < self.count):
            raise UsageError(
                f"{what} does not fit {self}: give the indices of points, whole numbers from 0 to {self.count - 1}."
            )
        return self

    def __repr__(self) -> str:
        return f"Index({self.count})" if self.shape is None else f"Index({self.count}, {self.shape})"


#: The types that a tree of fields may have at its leaves.
LEAVES = (Field, Invariant, Acted, Index)


def positions_of(tree: Tree) -> list[tuple[str, Positions]]:
    """(path, leaf) of every ``Positions`` in a tree."""
    return [(path, leaf) for path, leaf in leaves(tree) if isinstance(leaf, Positions)]


def draw(tree: Tree, count: int, generator: torch.Generator, *, wrap: bool = True) -> Tree:
    """Random inputs for every leaf. If the tree has a cell, points are wrapped into it (with ``wrap``).

    Points drawn around the origin would be far from their periodic images, and a model that ignores its cell would
    pass. The wrapped points lie near different corners of the cell, so that only a model that uses the cell finds all
    neighbours.
    """
    values = tree_map(lambda leaf: leaf.random(count, generator), tree)
    drawn = dict(leaves(values))
    cells = [drawn[path] for path, leaf in leaves(tree) if isinstance(leaf, Cell)]
    if not cells or not wrap:
        return values

    def wrapped(leaf: object, x: torch.Tensor) -> torch.Tensor:
        if not isinstance(leaf, Positions):
            return x
        fractions = torch.linalg.solve(cells[0], x, left=False)
        inside: torch.Tensor = (fractions - fractions.floor()) @ cells[0]
        return inside

    return tree_map(wrapped, tree, values)
