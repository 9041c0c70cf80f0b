"""The Fourier transform of a finite group over the reals: an orthogonal basis in which every correlation is in blocks.

Every map y(g) = sum_h psi(g^-1 h) F(h) = sum_u psi(u) F(g u) commutes with left translations, so on the functions that
transform by one irreducible representation it acts on the copies of that representation alone, and alike on all of its
components. The basis puts such functions next to each other:

    real type (dimension d)       sqrt(d / |G|) rho_cb(g),  c, b < d     c counts blocks that are equal, b what is mixed
    complex type (dimension 2)    sqrt(2 / |G|) rho_c0(g),  c < 2        one block, both functions are mixed

Sum over irreps of copies * size^2 multiplications take the place of |G|^2: 64 of 576 for O, 128 of 2304 for O_h, 6 of
16 for C4.

Source: Serre, Linear Representations of Finite Groups, sections 2.4 and 13.2.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .groups import GridGroup, IntArray

FloatArray: TypeAlias = npt.NDArray[np.float64]

# Eigenvalues of one eigenspace differ by rounding alone (about |G| 2^-53 of their size), those of a random operator by
# about 1 / |G|: this is the geometric middle for |G| <= 48.
_SAME = 1e-8


@dataclass(frozen=True)
class Block:
    """What belongs to one irreducible representation.

    Args:
        copies: blocks that are equal.
        size: of each.
        right: [|G|, size, size], how F(g) -> F(g u) acts within a block; psi acts as sum_u psi(u) of it.
    """

    copies: int
    size: int
    right: FloatArray


@dataclass(frozen=True)
class GroupTransform:
    """The transform of a group.

    Args:
        basis: orthogonal [|G|, |G|]; rows are functions on G, ordered by block, copy, index within the block.
        blocks: of the irreducible representations, by size.
    """

    basis: FloatArray
    blocks: tuple[Block, ...]

    @property
    def products(self) -> int:
        """Multiplications of one correlation in this basis, |G|^2 in the group itself."""
        return sum(block.copies * block.size**2 for block in self.blocks)


@lru_cache(maxsize=64)
def group_transform(group: GridGroup) -> GroupTransform:
    """The transform of a group of signed permutations.

    Raises:
        ValueError: the group has an irreducible representation of another type than those of the module's description;
            no group of signed permutations of two or three axes does.

    Example:
        >>> from equiharness.kernels.grid.groups import grid_group
        >>> transform = group_transform(grid_group("O"))
        >>> [(block.copies, block.size) for block in transform.blocks], transform.products
        ([(1, 1), (1, 1), (2, 2), (3, 3), (3, 3)], 64)
    """
    proper = np.flatnonzero(np.linalg.det(group.elements) > 0)
    if (
        group.dim == 3
        and len(proper) < group.order
        and (group.elements == -np.eye(3, dtype=np.int64)).all((1, 2)).any()
    ):
        return _with_inversion(group, proper)
    found: dict[tuple[int, ...], FloatArray] = {}
    for space in _irreducible_subspaces(group):
        representation = np.einsum("ha,uhb->uab", space, space[group.mul[group.inv]])  # rho(u) = V^T L_u V
        character = representation.trace(axis1=1, axis2=2)
        found.setdefault(tuple(np.rint(character).astype(int)), representation)
    parts = [_part(representation, group.mul) for representation in found.values()]
    parts.sort(key=lambda part: (part[1].size, part[1].copies))
    return GroupTransform(np.concatenate([rows for rows, _ in parts]), tuple(block for _, block in parts))


def inversion_order(group: GridGroup) -> IntArray:
    """The elements of a group in which kernels read them: rotations, then their products with the inversion.

    Example:
        >>> from equiharness.kernels.grid.groups import grid_group
        >>> group = grid_group("Oh")
        >>> order = inversion_order(group)
        >>> bool((group.elements[order[24:]] == -group.elements[order[:24]]).all())
        True
    """
    proper = np.flatnonzero(np.linalg.det(group.elements) > 0)
    inversion = np.flatnonzero((group.elements == -np.eye(group.dim, dtype=np.int64)).all((1, 2)))
    if group.dim != 3 or not len(inversion):
        return np.arange(group.order)
    return np.concatenate([proper, group.mul[inversion[0], proper]])


def _with_inversion(group: GridGroup, proper: IntArray) -> GroupTransform:
    """The transform of rotations times the inversion: even functions, then odd ones, each as those on the rotations."""
    half, order = group_transform(GridGroup(group.elements[proper])), inversion_order(group)
    basis, parts = np.empty((group.order, group.order)), []
    for rows, sign in ((slice(None, len(proper)), 1.0), (slice(len(proper), None), -1.0)):
        basis[rows, order] = np.concatenate([half.basis, sign * half.basis], 1) / np.sqrt(2)
        for block in half.blocks:
            right = np.empty((group.order, block.size, block.size))
            right[order] = np.concatenate([block.right, sign * block.right])
            parts.append(Block(block.copies, block.size, right))
    return GroupTransform(basis, tuple(parts))


def _irreducible_subspaces(group: GridGroup) -> list[FloatArray]:
    """Orthonormal bases [|G|, d] of spaces of functions that left translations keep and that have no such part.

    They are the eigenspaces of a random symmetric operator that commutes with left translations.
    """
    drawn = np.random.default_rng(0).standard_normal(group.order)
    drawn = drawn + drawn[group.inv]
    values, vectors = np.linalg.eigh(drawn[group.mul[group.inv]])  # A_gh = f(g^-1 h)
    starts = np.flatnonzero(np.diff(values, prepend=-np.inf) > _SAME * np.abs(values).max())
    return [np.ascontiguousarray(space) for space in np.split(vectors, starts[1:], axis=1)]


def _part(representation: FloatArray, mul: IntArray) -> tuple[FloatArray, Block]:
    """Basis functions and block of one irreducible representation [|G|, d, d]."""
    order, d = representation.shape[:2]
    norm = round(float((representation.trace(axis1=1, axis2=2) ** 2).mean()))
    if norm == 1:
        copies, size, functions = d, d, representation.transpose(1, 2, 0)
    elif norm == 2 and d == 2:
        copies, size, functions = 1, 2, representation[:, :, 0].T[None]
    else:
        raise ValueError(
            f"an irreducible representation of dimension {d} whose character has norm {norm} is of no type known here; "
            f"use backend='fast'"
        )
    rows = np.sqrt(d / order) * functions  # [copy, index, g]
    right = np.einsum("ag,bgu->uab", rows[0], rows[0][:, mul])  # <e_a, e_b(. u)>
    return rows.reshape(-1, order), Block(copies, size, right)


def packed(transform: GroupTransform) -> dict[str, Any]:
    """The transform as tables of a layer: the bits of float64 numbers, which no change of a module's dtype rounds.

    Returns:
        "fourier_basis" int64 [|G|, |G|] and "fourier_right" int64 [sum of size^2, |G|].
    """
    right = [block.right.reshape(block.right.shape[0], -1).T for block in transform.blocks]
    tables = {"fourier_basis": transform.basis, "fourier_right": np.concatenate(right)}
    return {name: np.ascontiguousarray(table).view(np.int64) for name, table in tables.items()}
