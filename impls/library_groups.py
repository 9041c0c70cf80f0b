"""Groups of escnn and e2cnn beside the harness's groups of the same matrices.

The harness knows an element by its matrix, the libraries know it by their own parameters. A ``GroupReading`` translates
in both directions: finite groups by comparing matrices, infinite ones by the library's own map from O(2) or O(3).
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..harness.errors import UsageError
from ..harness.symmetry.groups import (
    SAME,
    ContinuousGroup,
    Element,
    Group,
    Matrix,
    element_name,
    group,
    signed_permutations,
)
from ..harness.symmetry.representations import Representation, representation

#: Elements whose determinants are looked at to see whether an infinite group has reflections.
PROBES = 16


@dataclass(frozen=True, eq=False)
class GroupReading:
    """A group of a library.

    Args:
        symmetry: the harness's group of the same matrices.
        matrix: the matrix of an element of the library.
        theirs: the library's element of an element of the harness, whose matrix it has.
    """

    symmetry: Group
    matrix: Callable[[Any], Matrix]
    theirs: Callable[[Element], Any]

    def require(self, symmetry: Group) -> None:
        """Require that a group is a subgroup of this one, so that it can act on this group's fields.

        Raises:
            UsageError: the group has other elements.
        """
        if symmetry is self.symmetry or symmetry.name == self.symmetry.name:
            return
        generators = symmetry.generators if symmetry.order is not None else symmetry.representatives(_rng(), 2)
        for g in generators:
            if len(g.matrix) != self.symmetry.dim:
                raise UsageError(
                    f"{symmetry.name} acts on {symmetry.dim} axes and the group {self.symmetry.name} of the field type "
                    f"acts on {self.symmetry.dim}: leave the group out, or give a subgroup of {self.symmetry.name}."
                )
            try:
                self.theirs(g)
            except UsageError:
                raise UsageError(
                    f"{g} of {symmetry.name} is no element of {self.symmetry.name}, the group of the field type: "
                    f"leave the group out, or give a subgroup of {self.symmetry.name}."
                ) from None


def restricted(library: Any, parent: GroupReading, include: Callable[[Any], Any]) -> tuple[GroupReading, GroupReading]:
    """The reading of a subgroup with its parent's matrices, and the reading of the parent's fields under it.

    Args:
        library: the library's subgroup.
        parent: the reading of the whole group.
        include: the element of the whole group of an element of the subgroup.
    """

    def matrix(g: Any) -> Matrix:
        return parent.matrix(include(g))

    name = f"{library.name} in {parent.symmetry.name}"
    if library.order() > 0:
        below = finite_reading(list(library.elements), matrix, name)
    else:
        below = LibraryGroup(name, library, matrix).reading()
    return below, GroupReading(below.symmetry, parent.matrix, lambda g: include(below.theirs(g)))


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


def tidy(matrix: Any) -> Matrix:
    """A float64 matrix without the rounding errors of entries that are integers."""
    array = np.asarray(matrix, dtype=np.float64)
    rounded = np.round(array)
    found: Matrix = np.where(np.abs(array - rounded) < 1e-9, rounded, array)
    return found


def finite_reading(elements: Sequence[Any], matrix: Callable[[Any], Any], name: str) -> GroupReading:
    """A finite group: the named group of the harness where it has the same matrices, else a group of its own.

    Args:
        elements: every element of the library's group.
        matrix: the orthogonal matrix of an element; different elements have different matrices.
        name: what a group of its own is called.
    """
    matrices = np.array([tidy(matrix(g)) for g in elements])
    symmetry = _named(matrices) or Group(matrices, name)
    flat = matrices.reshape(len(matrices), -1)

    def theirs(g: Element) -> Any:
        inner = flat @ g.matrix.ravel() if g.matrix.size == flat.shape[1] else np.zeros(len(flat))
        best = int(inner.argmax())
        if abs(inner[best] - symmetry.dim) > SAME:
            raise UsageError(f"{symmetry.name} has no element {g}: take a group that has it, or one of its subgroups.")
        return elements[best]

    return GroupReading(symmetry, lambda g: tidy(matrix(g)), theirs)


def _named(matrices: Matrix) -> Group | None:
    """C_n, D_n, O or O_h with exactly these matrices, in any order."""
    order, dim = len(matrices), matrices.shape[-1]
    proper = bool((np.linalg.det(matrices) > 0).all())
    names = {
        2: f"C{order}" if proper else f"D{order // 2}",
        3: {24: "O", 48: "Oh"}.get(order, ""),
    }
    if not names.get(dim):
        return None
    known = group(names[dim])
    closeness = matrices.reshape(order, -1) @ np.asarray(known.elements, dtype=np.float64).reshape(order, -1).T
    return known if np.abs(closeness.max(1) - dim).max() < SAME else None


class LibraryElement(Element):
    """An element of an infinite group together with the library's own element."""

    theirs: Any

    def __init__(self, matrix: Matrix, theirs: Any) -> None:
        super().__init__(element_name(matrix), matrix)
        object.__setattr__(self, "theirs", theirs)


class LibraryGroup(ContinuousGroup):
    """An infinite group of a library other than SO(d) and O(d): cylinders, cones, rotations about one axis.

    Args:
        name: what it is called in reports.
        library: the library's group, which multiplies and samples its elements.
        matrix: the orthogonal matrix of an element.
        restrict: the library's element with this matrix, or None; without it matrices name no element.
    """

    def __init__(
        self,
        name: str,
        library: Any,
        matrix: Callable[[Any], Any],
        restrict: Callable[[Matrix], Any] | None = None,
    ) -> None:
        self.name = name
        self.dim = len(tidy(matrix(library.identity)))
        self._elements = ()
        self._library, self._matrix, self._restrict = library, matrix, restrict
        drawn = self.sample(_rng(), PROBES)
        self.reflections = any(not g.is_proper for g in drawn)

    def __repr__(self) -> str:
        return self.name

    def made(self, theirs: Any) -> LibraryElement:
        """The element that the library calls ``theirs``."""
        return LibraryElement(tidy(self._matrix(theirs)), theirs)

    @property
    def identity(self) -> Element:
        """The identity element."""
        return self.made(self._library.identity)

    @functools.cached_property
    def generators(self) -> tuple[Element, ...]:
        """Generators of the subgroup that moves a grid onto itself; empty without base space."""
        if self._restrict is None:
            return ()
        found = [m for m in signed_permutations(self.dim) if self._found(m) is not None]
        return tuple(self.element(g.matrix) for g in Group(np.array(found)).generators)

    def _found(self, matrix: Matrix) -> Any:
        """The library's element with this matrix, or None."""
        theirs = self._restrict(matrix) if self._restrict is not None else None
        if theirs is None or np.abs(tidy(self._matrix(theirs)) - matrix).max() > SAME:
            return None
        return theirs

    def element(self, spec: object) -> Element:
        """The element given as an ``Element`` or a matrix.

        Raises:
            UsageError: the group has no such element.
        """
        if isinstance(spec, LibraryElement) and spec.theirs.group == self._library:
            return spec
        matrix = spec.matrix if isinstance(spec, Element) else np.asarray(spec, dtype=np.float64)
        fits = matrix.shape == (self.dim, self.dim)
        theirs = self._found(matrix) if fits else None
        if theirs is None:
            if fits and np.abs(matrix - np.eye(self.dim)).max() < SAME:
                return self.identity
            raise UsageError(
                f"{self.name} has no element {np.round(matrix, 4).tolist()}: draw elements with `sample`, or take a "
                "larger group if the layer should know this one."
            )
        return self.made(theirs)

    def compose(self, first: Element, second: Element) -> Element:
        """The product ``first second``: second acts first."""
        return self.made(self._own(first) @ self._own(second))

    def inverse(self, element: Element) -> Element:
        """The inverse element."""
        return self.made(~self._own(element))

    def _own(self, g: Element) -> Any:
        return self.element(g).theirs  # type: ignore[attr-defined]

    def sample(self, rng: np.random.Generator, count: int) -> list[Element]:
        """``count`` elements that the library draws from this generator's seeds."""
        with numpy_seeded(int(rng.integers(2**32))):
            return [self.made(self._library.sample()) for _ in range(count)]

    def reading(self) -> GroupReading:
        """Translate the elements of this group."""
        return GroupReading(self, lambda g: tidy(self._matrix(g)), self._own)


@contextlib.contextmanager
def numpy_seeded(seed: int) -> Iterator[None]:
    """Context in which numpy's global generator, from which the libraries draw, has this seed."""
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)


def faithful(irreps: Iterable[Any], elements: Sequence[Any]) -> Callable[[Any], Matrix]:
    """The matrices of an irrep that tells these elements apart, or of a direct sum of several.

    Args:
        irreps: orthogonal irreps, of which the smallest are taken.
        elements: elements of a group that has no matrices of its own.

    Raises:
        UsageError: the irreps do not tell the elements apart.
    """
    known = sorted(irreps, key=lambda irrep: irrep.size)
    whole = next((irrep for irrep in known if _distinct([irrep], elements) == len(elements)), None)
    taken: list[Any] = []
    classes = 1
    for irrep in known if whole is None else [whole]:
        found = _distinct([*taken, irrep], elements)
        if found > classes:
            taken, classes = [*taken, irrep], found
        if classes == len(elements):
            return lambda g: block_diagonal([np.asarray(rep(g), dtype=np.float64) for rep in taken])
    raise UsageError(
        "The irreps of this group that are built do not tell its elements apart: build more of them, or write the "
        "claim with eh.group([...]), a list of matrices."
    )


def _distinct(reps: Sequence[Any], elements: Sequence[Any]) -> int:
    rows = [np.concatenate([np.asarray(rep(g), dtype=np.float64).ravel() for rep in reps]) for g in elements]
    return len(np.unique(np.round(rows, 6), axis=0))


def block_diagonal(blocks: Sequence[Any]) -> Matrix:
    """The matrix with these blocks."""
    size = sum(len(b) for b in blocks)
    joined, start = np.zeros((size, size)), 0
    for block in blocks:
        joined[start : start + len(block), start : start + len(block)] = block
        start += len(block)
    return joined


def library_representation(rep: Any, reading: GroupReading) -> Representation:
    """A library's representation as float64 matrices; those of a finite group that permute are made exact.

    Args:
        rep: the representation; called with an element it gives a matrix.
        reading: the group of the representation.
    """
    symmetry = reading.symmetry
    if rep.is_trivial():
        return representation("trivial", None, symmetry)

    @functools.lru_cache(maxsize=64)  # a check moves many tensors by the same few elements
    def matrix(g: Element) -> Matrix:
        found = np.asarray(rep(reading.theirs(g)), dtype=np.float64)
        rounded = np.round(found)
        return rounded if np.abs(found - rounded).max() < SAME else found

    if symmetry.order is None:
        return Representation(rep.name, rep.size, matrix)
    matrices = {g: matrix(g) for g in symmetry}
    every = np.array(list(matrices.values()))
    permutes = bool((every == np.round(every)).all() and (every.sum(-1) == 1).all() and (every >= 0).all())
    invariant = every.mean(0)[0] if permutes else None
    return Representation(rep.name, rep.size, lambda g: matrices[g] if g in matrices else matrix(g), invariant)
