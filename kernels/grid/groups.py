"""Finite groups of signed permutation matrices: the grid symmetries of the plane and of space.

A group is its table: integer matrices in array-axis order, products and inverses by index. Everything else in this
folder (filter banks, vector actions, geometry checks) is derived from the matrices, never from a group's name.
"""

from collections.abc import Callable, Sequence
from itertools import permutations, product
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

IntArray: TypeAlias = npt.NDArray[np.int64]


@runtime_checkable
class HasElements(Protocol):
    """Any object that carries its group elements as one array [|G|, d, d]."""

    @property
    def elements(self) -> Any:
        """Matrices [|G|, d, d] in array-axis order."""


class GridGroup:
    """A finite group of signed permutation matrices acting about the centre of a box.

    Args:
        elements: matrices [|G|, d, d], d = 2 or 3, acting on centred coordinates in array-axis order. Integers, or
            floats within 1e-6 of integers. The identity is moved to index 0; the others keep the order given.
        name: how the group prints.

    Attributes:
        elements: int64 [|G|, d, d]; element 0 is the identity.
        mul: int64 [|G|, |G|]; ``mul[i, j]`` is the index of E_i E_j.
        inv: int64 [|G|]; ``inv[i]`` is the index of E_i^-1.

    Raises:
        ValueError: not [|G|, d, d], not signed permutations, repeated elements, no identity, or not closed.

    Example:
        >>> group = GridGroup([[[1, 0], [0, 1]], [[-1, 0], [0, -1]]])
        >>> group.order, group.dim, group.inv.tolist()
        (2, 2, [0, 1])
    """

    def __init__(self, elements: npt.ArrayLike, name: str = "custom") -> None:
        matrices = _identity_first(_signed_permutations(elements))
        codes = _codes(matrices)
        products = _codes(np.einsum("iab,jbc->ijac", matrices, matrices))
        # _identity_first has ruled out repetitions, so the position in sorted order is unique.
        ranking = np.argsort(codes)
        mul = ranking[np.searchsorted(codes, products, sorter=ranking).clip(max=len(codes) - 1)]
        missing = np.argwhere(codes[mul] != products)
        if len(missing):
            i, j = missing[0]
            raise ValueError(
                f"not a group: the product of elements {matrices[i].tolist()} and {matrices[j].tolist()} is missing; "
                f"add every product (a finite set of matrices that is closed under products is a group)"
            )
        self.name = name
        self.elements: IntArray = matrices
        self.mul: IntArray = mul
        self.inv: IntArray = np.argmax(mul == 0, axis=1)

    @property
    def order(self) -> int:
        """Number of elements |G|."""
        return len(self.elements)

    @property
    def dim(self) -> int:
        """Number of spatial axes d."""
        return int(self.elements.shape[-1])

    def __len__(self) -> int:
        return self.order

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GridGroup) and np.array_equal(self.elements, other.elements)

    def __hash__(self) -> int:
        return hash(self.elements.tobytes())

    def __repr__(self) -> str:
        return f"GridGroup({self.name}, |G|={self.order}, d={self.dim})"


# What a layer accepts as its group.
GroupLike: TypeAlias = str | GridGroup | HasElements | npt.ArrayLike


def grid_group(group: GroupLike) -> GridGroup:
    """The table of a group given by name, by matrices, or by any object with an ``elements`` array.

    Args:
        group: "C1", "C2", "C4", "D1", "D2", "D4" (d = 2), "O", "Oh" (d = 3), an array [|G|, d, d], or an object
            whose ``elements`` is such an array.

    Returns:
        The group, identity first. Groups of the plane are listed by angle: element k of C4 is k quarter turns,
        ``torch.rot90(x, k, (-2, -1))``; D4 lists those four, then each of them after s, the reflection that flips
        the last axis. O and Oh are ordered as itertools gives them: for p in permutations(range(3)), for s in
        product((1, -1), repeat=3), M[i, p[i]] = s[i], keeping the members.

    Raises:
        ValueError: an unknown name, or matrices that are no group of signed permutations.

    Example:
        >>> grid_group("C4").elements.tolist()[1]
        [[0, -1], [1, 0]]
    """
    if isinstance(group, GridGroup):
        return group
    if isinstance(group, str):
        if group not in _NAMED:
            raise ValueError(
                f"unknown grid group {group!r}; known are {', '.join(_NAMED)}. "
                f"Any other group: pass its signed permutation matrices as an array [|G|, d, d]"
            )
        return GridGroup(_NAMED[group](), group)
    if isinstance(group, HasElements):
        return GridGroup(group.elements, str(getattr(group, "name", "custom")))
    return GridGroup(group)


def former_places(group: GridGroup) -> list[int] | None:
    """Where each element stood before named groups of the plane were listed by angle; None where nothing moved.

    Until then C4, D2 and D4 were listed like O and Oh, as signed permutations in the order of itertools.
    """
    if group.name not in _PLANAR or group != grid_group(group.name):
        return None
    former = [m.tolist() for m in _hyperoctahedral(2)]
    members = [m for m in former if m in group.elements.tolist()]
    places = [members.index(m) for m in group.elements.tolist()]
    return places if places != sorted(places) else None


def _hyperoctahedral(dim: int) -> list[IntArray]:
    """All signed permutation matrices of size dim: permutations first, then signs, as itertools gives them."""
    matrices = []
    for p in permutations(range(dim)):
        for s in product((1, -1), repeat=dim):
            matrix = np.zeros((dim, dim), dtype=np.int64)
            matrix[range(dim), p] = s
            matrices.append(matrix)
    return matrices


def _by_angle(quarter_turns: Sequence[int], *, reflections: bool) -> list[IntArray]:
    """Rotations by multiples of 90 degrees in the order given, then each of them after the reflection diag(1, -1)."""
    quarter, reflection = np.array([[0, -1], [1, 0]]), np.diag([1, -1])
    rotations = [np.linalg.matrix_power(quarter, k) for k in quarter_turns]
    return [*rotations, *(r @ reflection for r in rotations if reflections)]


def _octahedral(*, reflections: bool) -> list[IntArray]:
    return [m for m in _hyperoctahedral(3) if reflections or round(float(np.linalg.det(m))) == 1]


# D1 reflects array axis 1; D2 adds the reflection of axis 0.
_PLANAR: dict[str, Callable[[], list[IntArray]]] = {
    "C1": lambda: _by_angle([0], reflections=False),
    "C2": lambda: _by_angle([0, 2], reflections=False),
    "C4": lambda: _by_angle(range(4), reflections=False),
    "D1": lambda: _by_angle([0], reflections=True),
    "D2": lambda: _by_angle([0, 2], reflections=True),
    "D4": lambda: _by_angle(range(4), reflections=True),
}
_NAMED: dict[str, Callable[[], list[IntArray]]] = {
    **_PLANAR,
    "O": lambda: _octahedral(reflections=False),
    "Oh": lambda: _octahedral(reflections=True),
}


def _signed_permutations(elements: npt.ArrayLike) -> IntArray:
    """The matrices as int64, refused unless each is a signed permutation of 2 or 3 axes."""
    given = np.asarray(elements, dtype=np.float64)
    if given.ndim != 3 or given.shape[1] != given.shape[2] or given.shape[1] not in (2, 3) or not len(given):
        raise ValueError(f"group elements must be an array [|G|, d, d] with d = 2 or 3; got shape {list(given.shape)}")
    matrices: IntArray = np.rint(given).astype(np.int64)
    magnitudes = np.abs(matrices)
    # 1e-6: cosines and sines of quarter turns computed in float32 or better are this close to integers.
    close = np.abs(given - matrices).max(axis=(1, 2)) < 1e-6
    signed = (magnitudes.sum(axis=1) == 1).all(axis=1) & (magnitudes.sum(axis=2) == 1).all(axis=1)
    wrong = np.flatnonzero(~(close & signed))
    if len(wrong):
        raise ValueError(
            f"element {wrong[0]} is no signed permutation matrix: {given[wrong[0]].tolist()}. Only symmetries of the "
            f"grid (quarter turns, reflections) move voxels onto voxels; keep those, e.g. C4 instead of C8"
        )
    return matrices


def _identity_first(matrices: IntArray) -> IntArray:
    """The same matrices with the identity at index 0 and the others in their order."""
    codes = _codes(matrices)
    if len(np.unique(codes)) != len(codes):
        raise ValueError("group elements are repeated; pass each matrix once")
    identity = np.flatnonzero(codes == _codes(np.eye(matrices.shape[-1], dtype=np.int64)))
    if not len(identity):
        raise ValueError("not a group: the identity matrix is missing; add it")
    at = int(identity[0])
    order: Sequence[int] = [at, *range(at), *range(at + 1, len(matrices))]
    return np.ascontiguousarray(matrices[order])


def _codes(matrices: IntArray) -> IntArray:
    """One integer per matrix: its entries + 1 read as base-3 digits, hence distinct for distinct matrices."""
    digits = 3 ** np.arange(matrices.shape[-1] ** 2, dtype=np.int64)
    codes: IntArray = (matrices.reshape(*matrices.shape[:-2], -1) + 1) @ digits
    return codes
