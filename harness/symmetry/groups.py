"""Groups of orthogonal matrices: finite ones listed element by element, continuous ones sampled by Haar measure.

An element acts on the column of centred coordinates **in array-axis order**: (row, column) on the plane,
(depth, row, column) in space. The planar rotation by an angle t is [[cos t, -sin t], [sin t, cos t]], which is
counter-clockwise on a picture whose rows run downwards: one quarter turn is ``rot90(x, 1, (-2, -1))``.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import UsageError

Matrix = NDArray[np.float64]

#: Two matrices closer than this are one element; elements of any group one would list are much further apart.
SAME = 1e-8


@dataclass(frozen=True, eq=False, init=False)
class Element:
    """One element of a group: its matrix on coordinates, a readable name and, in a finite group, its index."""

    name: str
    index: int | None = None

    def __init__(self, name: str, matrix: Matrix, index: int | None = None) -> None:
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "index", index)
        object.__setattr__(self, "_matrix", matrix)

    @property
    def matrix(self) -> Matrix:
        """A copy: elements of groups with a name are shared, and torch takes no read-only array."""
        found: Matrix = self.__dict__["_matrix"].copy()
        return found

    @functools.cached_property
    def is_identity(self) -> bool:
        """Whether the matrix is the identity."""
        return bool(np.abs(self.matrix - np.eye(len(self.matrix))).max() < SAME)

    @functools.cached_property
    def is_signed_permutation(self) -> bool:
        """Whether the element maps every pixel grid of its own onto itself: it moves data without interpolation."""
        return bool(np.abs(self.matrix - np.round(self.matrix)).max() < SAME)

    @functools.cached_property
    def is_orthogonal(self) -> bool:
        """Whether the matrix preserves lengths."""
        return bool(np.abs(self.matrix @ self.matrix.T - np.eye(len(self.matrix))).max() < SAME)

    @functools.cached_property
    def is_proper(self) -> bool:
        """Whether the element is a rotation and no reflection."""
        return bool(np.linalg.det(self.matrix) > 0)

    def angle_to(self, other: Element) -> float:
        """Rotation angle, in radians, of self^-1 other; pi when the two differ by a reflection."""
        relative = self.matrix.T @ other.matrix
        if np.linalg.det(relative) < 0:
            return math.pi
        d = len(relative)
        cosine = np.trace(relative) / 2 if d == 2 else (np.trace(relative) - 1) / 2
        return float(math.acos(min(1.0, max(-1.0, cosine))))

    def __str__(self) -> str:
        return self.name


class Group:
    """A finite group given by its matrices; ``ContinuousGroup`` is the infinite kind.

    Args:
        matrices: orthogonal matrices, shape [order, d, d]. They must contain the identity and be closed under
            products. Their order is the order of the components of a regular fibre.
        name: how the group is called in reports.

    Raises:
        UsageError: the matrices are not orthogonal, repeat, lack the identity, or are not closed.

    Example:
        >>> quarter = [[0, -1], [1, 0]]
        >>> half = [[-1, 0], [0, -1]]
        >>> Group([[[1, 0], [0, 1]], half], name="half turns").order
        2
        >>> Group([[[1, 0], [0, 1]], quarter])
        Traceback (most recent call last):
        ...
        equiharness.UsageError: custom(2) is not closed: element 1 times element 1 is missing. Add ...
    """

    def __init__(self, matrices: ArrayLike, name: str | None = None) -> None:
        array = np.asarray(matrices, dtype=np.float64)
        if array.ndim != 3 or array.shape[1] != array.shape[2] or not len(array):
            raise UsageError(
                f"A group is given by matrices of shape [order, d, d]; these have shape {list(array.shape)}."
            )
        self.name = name or f"custom({len(array)})"
        self.dim: int = array.shape[1]
        if not np.isfinite(array).all() or np.abs(array @ array.transpose(0, 2, 1) - np.eye(self.dim)).max() > SAME:
            raise UsageError(
                f"{self.name} has matrices that are not orthogonal; equivariance is checked for isometries."
            )
        rounded = np.round(array)
        self._signed = bool(np.abs(array - rounded).max() < SAME)
        self._matrices: Matrix = rounded if self._signed else array.copy()
        self._tabulate()
        self._elements = tuple(Element(element_name(m), m, i) for i, m in enumerate(self._matrices))

    def _tabulate(self) -> None:
        """Fill the Cayley table; orthogonal matrices are equal when their inner product is d."""
        flat = self._matrices.reshape(len(self._matrices), -1)
        if (np.abs(flat @ flat.T - self.dim) < SAME).sum() > len(flat):
            raise UsageError(f"{self.name} lists a matrix twice. Keep each element once.")
        products = np.einsum("iab,jbc->ijac", self._matrices, self._matrices).reshape(len(flat), len(flat), -1)
        closeness = products @ flat.T
        self._mul: NDArray[np.int64] = closeness.argmax(-1).astype(np.int64)
        missing = np.argwhere(np.abs(closeness.max(-1) - self.dim) > SAME)
        if len(missing):
            i, j = missing[0]
            raise UsageError(
                f"{self.name} is not closed: element {i} times element {j} is missing. Add the missing products."
            )
        identities = np.flatnonzero(np.abs(flat @ np.eye(self.dim).ravel() - self.dim) < SAME)
        self.identity_index = int(identities[0])  # a closed finite set of invertible matrices contains it
        self._inv: NDArray[np.int64] = np.argmax(self._mul == self.identity_index, axis=1).astype(np.int64)

    @property
    def mul(self) -> NDArray[np.int64]:
        """The Cayley table [order, order]: the index of element i times element j. A copy: groups are shared."""
        return self._mul.copy()

    @property
    def inv(self) -> NDArray[np.int64]:
        """The index of each element's inverse [order]. A copy: groups are shared."""
        return self._inv.copy()

    @property
    def order(self) -> int | None:
        """Number of elements; None for a continuous group."""
        return len(self._elements)

    @property
    def elements(self) -> NDArray[Any]:
        """Matrices [order, d, d]: int64 when every one is a signed permutation, else float64."""
        return self._matrices.astype(np.int64) if self._signed else self._matrices.copy()

    @property
    def improper(self) -> bool:
        """Whether some element is a reflection, an inversion, or another of determinant -1."""
        return bool((np.linalg.det(self._matrices) < 0).any())

    @property
    def identity(self) -> Element:
        """The identity element."""
        return self._elements[self.identity_index]

    @functools.cached_property
    def generators(self) -> tuple[Element, ...]:
        """A small generating set: each next one enlarges the generated subgroup the most."""
        return self.generators_of(self._elements)

    def generators_of(self, elements: Iterable[Element]) -> tuple[Element, ...]:
        """A small set of these elements of the group that generates the subgroup which they generate."""
        indices = [g.index for g in elements if g.index is not None]
        chosen: list[int] = []
        whole = len(self._span(indices))
        while len(self._span(chosen)) < whole:
            spans = [len(self._span([*chosen, index])) for index in indices]
            chosen.append(indices[int(np.argmax(spans))])
        return tuple(self._elements[i] for i in chosen)

    def _span(self, chosen: Sequence[int]) -> set[int]:
        reached, frontier = {self.identity_index}, {self.identity_index}
        while frontier:
            frontier = {int(self._mul[a, c]) for a in frontier for c in chosen} - reached
            reached |= frontier
        return reached

    def __iter__(self) -> Iterator[Element]:
        return iter(self._elements)

    def __len__(self) -> int:
        return len(self._elements)

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        if self.is_named:
            return f"group({self.name!r})"
        return f"Group({self.elements.tolist()}, name={self.name!r})"

    @property
    def is_named(self) -> bool:
        """Whether ``group(self.name)`` is this group."""
        return _named.get(self.name) is self

    def __reduce_ex__(self, protocol: Any) -> Any:
        # Copies and unpickled groups are the one object of their name.
        return (group, (self.name,)) if self.is_named else super().__reduce_ex__(protocol)

    def __contains__(self, spec: object) -> bool:
        try:
            self.element(spec)
        except UsageError:
            return False
        return True

    def element(self, spec: object) -> Element:
        """The element given as an ``Element``, an index or a matrix.

        Raises:
            UsageError: this group has no such element.
        """
        if isinstance(spec, Element):
            if self._owns(spec):
                return spec
            spec = spec.matrix
        if isinstance(spec, (int, np.integer)):
            if not 0 <= int(spec) < len(self):
                raise UsageError(f"{self.name} has elements 0 to {len(self) - 1}, not {spec}.")
            return self._elements[int(spec)]
        matrix = _matrix_of(spec, self)
        inner = self._matrices.reshape(len(self), -1) @ matrix.ravel()
        best = int(inner.argmax())
        if abs(inner[best] - self.dim) > SAME:
            raise UsageError(
                f"{self.name} has no element {np.round(matrix, 4).tolist()} ({element_name(matrix)}). "
                f"Its elements are listed by `list(group)`; take a larger group if the layer should know this one."
            )
        return self._elements[best]

    def compose(self, first: Element, second: Element) -> Element:
        """The product ``first second``: second acts first."""
        if self._owns(first) and self._owns(second):
            return self._elements[self._mul[first.index, second.index]]
        return self.element(first.matrix @ second.matrix)

    def inverse(self, element: Element) -> Element:
        """The inverse element."""
        if self._owns(element):
            return self._elements[self._inv[element.index]]
        return self.element(element.matrix.T)

    def _owns(self, g: Element) -> bool:
        """Whether g is one of this group's own elements, so that tables serve instead of a search by matrix."""
        return g.index is not None and g.index < len(self._elements) and self._elements[g.index] is g

    def sample(self, rng: np.random.Generator, count: int) -> list[Element]:
        """``count`` independent elements, uniform in Haar measure."""
        return [self._elements[i] for i in rng.integers(len(self), size=count)]

    def representatives(self, rng: np.random.Generator, count: int) -> list[Element]:
        """The elements a check runs over: all of a finite group; generators and Haar samples of a continuous one."""
        return list(self._elements)

    def subgroup(self, other: Group) -> list[int]:
        """Indices in this group of the elements of ``other``; a planar subgroup of a group of space fixes axis 0.

        Raises:
            UsageError: ``other`` is not a subgroup.
        """
        if self.dim == 3 and other.dim == 2:
            embedded = np.array([np.eye(3)] * len(other))
            embedded[:, 1:, 1:] = other.elements
            other = Group(embedded, other.name)
        return [self.element(h.matrix).index or 0 for h in other]


class ContinuousGroup(Group):
    """SO(d) or O(d) for d = 2, 3, with Haar sampling.

    Example:
        >>> import numpy as np
        >>> so3 = ContinuousGroup(3, reflections=False)
        >>> [g] = so3.sample(np.random.default_rng(0), 1)
        >>> bool(abs(np.linalg.det(g.matrix) - 1) < 1e-12)
        True
    """

    def __init__(self, dim: int, *, reflections: bool) -> None:
        self.dim = dim
        self.reflections = reflections
        self.name = f"{'O' if reflections else 'SO'}{dim}"
        self._elements = ()

    def __repr__(self) -> str:
        return f"group({self.name!r})" if self.is_named else self.name

    @property
    def order(self) -> None:
        """None: the group is infinite."""
        return None

    @property
    def elements(self) -> NDArray[Any]:
        """Not available: an infinite group has no list of elements."""
        raise UsageError(f"{self.name} is infinite: draw elements with `sample`, or take a finite subgroup.")

    @property
    def improper(self) -> bool:
        """Whether the group has reflections."""
        return self.reflections

    @property
    def identity(self) -> Element:
        """The identity element."""
        return Element("e", np.eye(self.dim))

    @property
    def generators(self) -> tuple[Element, ...]:
        """The grid symmetries that generate the largest finite group of signed permutations inside."""
        return group(_GRID_SUBGROUP[self.name]).generators

    def __iter__(self) -> Iterator[Element]:
        raise UsageError(f"{self.name} is infinite: draw elements with `sample`, or take a finite subgroup.")

    def __len__(self) -> int:
        raise UsageError(f"{self.name} is infinite: it has no length.")

    def element(self, spec: object) -> Element:
        """The element given as an ``Element`` or a matrix.

        Raises:
            UsageError: the matrix is not orthogonal, or a reflection in a group of rotations.
        """
        # Elements come back as they are: naming one anew for every action would cost more than the action.
        if not isinstance(spec, Element) or spec.matrix.shape != (self.dim, self.dim):
            spec = Element("", _matrix_of(spec.matrix if isinstance(spec, Element) else spec, self))
        found, matrix = spec, spec.matrix
        if not found.is_orthogonal:
            raise UsageError(f"{np.round(matrix, 4).tolist()} is not orthogonal, so it is no element of {self.name}.")
        if not self.reflections and not found.is_proper:
            raise UsageError(f"{element_name(matrix)} is a reflection and {self.name} has none. Take O{self.dim}.")
        return found if found.name else Element(element_name(matrix), matrix)

    def sample(self, rng: np.random.Generator, count: int) -> list[Element]:
        """``count`` independent elements, uniform in Haar measure (QR of a Gaussian matrix with fixed signs)."""
        drawn = []
        for _ in range(count):
            q, r = np.linalg.qr(rng.standard_normal((self.dim, self.dim)))
            q = q * np.sign(np.diagonal(r))
            if not self.reflections and np.linalg.det(q) < 0:
                q[:, 0] = -q[:, 0]
            drawn.append(Element(element_name(q), q))
        return drawn

    def representatives(self, rng: np.random.Generator, count: int) -> list[Element]:
        """The identity, the generators of the grid subgroup, Haar samples, and their products with generators."""
        generators = list(self.generators)
        samples = self.sample(rng, count)
        mixed = [self.compose(g, h) for g, h in zip(itertools.cycle(generators), samples[: count // 2], strict=False)]
        return [self.identity, *generators, *samples, *mixed]


_GRID_SUBGROUP = {"SO2": "C4", "O2": "D4", "SO3": "O", "O3": "Oh"}


#: The groups that have names, each made once: elements of one name are the same objects everywhere.
_named: dict[str, Group] = {}


def group(spec: str | ArrayLike | Group) -> Group:
    """The group called ``spec``: C<n>, D<n>, O, Oh, SO2, O2, SO3, O3, or the finite group of a list of matrices.

    A name always gives the same object. C_n and D_n list their elements by angle: element k of C_n is the rotation by
    360 k / n degrees, for C4 ``torch.rot90(x, k, (-2, -1))``; D_n lists those n, then each of them after the
    reflection diag(1, -1), which flips the last axis. O and Oh list signed permutations: for p in
    permutations(range(3)), for s in product((1, -1), repeat=3), M[i, p[i]] = s[i]; O keeps those of determinant 1.

    Example:
        >>> [str(g) for g in group("C4")]
        ['e', 'rotation by 90°', 'rotation by 180°', 'rotation by -90°']
        >>> len(group("Oh")), group("C4") is group("C4")
        (48, True)
    """
    if isinstance(spec, Group):
        return spec
    if not isinstance(spec, str):
        return Group(spec)
    name = spec.strip().replace("_", "").replace("(", "").replace(")", "").upper()
    name = "Oh" if name == "OH" else name
    if name not in _named:
        _named.setdefault(name, _made(name, spec))  # two threads may make one, the first is kept
    return _named[name]


def group_of(matrices: ArrayLike, name: str) -> Group:
    """The group called ``name`` where it lists exactly these matrices in this order, else a group of its own."""
    try:
        known = group(name)
    except UsageError:
        return Group(matrices, name)
    array = np.asarray(matrices, dtype=np.float64)
    same = known.order == len(array) and known.dim == array.shape[-1]
    return known if same and np.abs(known.elements - array).max() < SAME else Group(array, name)


def _made(name: str, spec: str) -> Group:
    if name in _GRID_SUBGROUP:
        return ContinuousGroup(int(name[-1]), reflections=name[0] == "O")
    if name in ("O", "Oh"):
        matrices = signed_permutations(3)
        keep = matrices if name == "Oh" else matrices[np.linalg.det(matrices) > 0]
        return Group(keep, name)
    match = re.fullmatch(r"([CD])([1-9]\d*)", name)
    if match is None:
        raise UsageError(f"Unknown group {spec!r}. Known: C<n>, D<n>, O, Oh, SO2, O2, SO3, O3, or a list of matrices.")
    return Group(_planar(int(match[2]), reflections=match[1] == "D"), name)


def signed_permutations(dim: int) -> Matrix:
    """All signed permutation matrices of size ``dim``: permutations first, then signs; the identity is the first."""
    found = []
    for p in itertools.permutations(range(dim)):
        for s in itertools.product((1, -1), repeat=dim):
            m = np.zeros((dim, dim))
            m[range(dim), p] = s
            found.append(m)
    return np.array(found)


def _planar(n: int, *, reflections: bool) -> Matrix:
    """C_n, or D_n: the rotations by angle, then each of them after the reflection of the last axis."""
    angles = 2 * np.pi * np.arange(n) / n
    rotations = np.array([[[math.cos(t), -math.sin(t)], [math.sin(t), math.cos(t)]] for t in angles])
    return np.concatenate([rotations, rotations @ np.diag([1.0, -1.0])]) if reflections else rotations


def _matrix_of(spec: object, owner: Group) -> Matrix:
    try:
        matrix = np.asarray(spec, dtype=np.float64)
    except (TypeError, ValueError):
        matrix = np.empty(0)
    if matrix.shape != (owner.dim, owner.dim):
        raise UsageError(
            f"{spec!r} names no element of {owner.name}: give an Element, "
            f"{'an index, ' if owner.order else ''}or a matrix of shape [{owner.dim}, {owner.dim}]."
        )
    return matrix


def element_name(matrix: Matrix) -> str:
    """A name a reader can picture: 'rotation by 90°', 'reflection across 45°', 'rotation by 120° about (1, 1, 1)'."""
    if np.abs(matrix - np.eye(len(matrix))).max() < SAME:
        return "e"
    if len(matrix) == 2:
        angle = math.degrees(math.atan2(matrix[1, 0], matrix[0, 0]))
        if np.linalg.det(matrix) > 0:
            return f"rotation by {_tidy(angle if angle > -180 + SAME else 180.0)}°"
        return f"reflection across {_tidy(angle / 2)}°"
    if len(matrix) == 3:
        return _name_in_space(matrix)
    return "element " + np.array2string(np.round(matrix, 3).ravel(), separator=",")


def _name_in_space(matrix: Matrix) -> str:
    improper = np.linalg.det(matrix) < 0
    rotation = -matrix if improper else matrix
    if np.abs(rotation - np.eye(3)).max() < SAME:
        return "inversion"
    angle = math.acos(min(1.0, max(-1.0, (np.trace(rotation) - 1) / 2)))
    # The axis is the column of R + R^T + (1 - tr R) I of largest norm; its sign from the antisymmetric part.
    symmetric = rotation + rotation.T + (1 - np.trace(rotation)) * np.eye(3)
    axis = symmetric[:, np.linalg.norm(symmetric, axis=0).argmax()]
    twist = np.array(
        [rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]]
    )
    if axis @ twist < 0 or (np.abs(twist).max() < SAME and axis[np.abs(axis).argmax()] < 0):
        axis = -axis
    axis = axis / np.abs(axis).max()
    text = f"rotation by {_tidy(math.degrees(angle))}° about ({', '.join(_tidy(a, 2) for a in axis)})"
    return f"inversion and {text}" if improper else text


def _tidy(value: float, digits: int = 3) -> str:
    text = f"{round(value, digits):g}"
    return "0" if text == "-0" else text


def haar_independent(elements: Iterable[Element], g: Element, degrees: float = 30.0) -> Element | None:
    """The first element at least ``degrees`` away from ``g``, or None."""
    return next((h for h in elements if h.angle_to(g) >= math.radians(degrees) - SAME), None)
