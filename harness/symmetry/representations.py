"""Representations of a group, and fibres as sums of them. They define how an element mixes the channels of a field."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from .groups import SAME, Element, Group, Matrix
from .groups import group as as_group


@dataclass(frozen=True, eq=False)
class Representation:
    """A homomorphism from a group to matrices of size ``dim``, evaluated in float64.

    Args:
        name: name in the grammar of fibres: trivial, regular, quotient(H), standard, irrep(l).
        dim: size of the matrices.
        of: function from an element to its matrix [dim, dim].
        invariant: row vector [dim] that every element fixes; None if every element fixes only zero. The integral of a
            field is its mean over space, projected on this vector.
    """

    name: str
    dim: int
    of: Callable[[Element], Matrix] = field(repr=False)
    invariant: NDArray[np.float64] | None = field(default=None, repr=False)
    _permutations: dict[Element, NDArray[np.int64] | None] = field(default_factory=dict, repr=False)

    def permutation(self, g: Element) -> NDArray[np.int64] | None:
        """Index array p with (rho(g) v)[i] = v[p[i]] when rho(g) is a permutation, else None."""
        if g not in self._permutations:
            matrix = self.of(g)
            permutes = bool(
                np.array_equal(matrix, np.round(matrix)) and (matrix >= 0).all() and (matrix.sum(1) == 1).all()
            )
            self._permutations[g] = matrix.argmax(1).astype(np.int64) if permutes else None
        return self._permutations[g]


@dataclass(frozen=True, eq=False)
class Fibre:
    """A direct sum of representations with multiplicities. Channels run over the copies, then over the components."""

    terms: tuple[tuple[int, Representation], ...]

    @property
    def size(self) -> int:
        """Number of channels."""
        return sum(count * rep.dim for count, rep in self.terms)

    @property
    def blocks(self) -> Iterator[Representation]:
        """One representation for each block of channels, in order."""
        return (rep for count, rep in self.terms for _ in range(count))

    def __str__(self) -> str:
        return " + ".join(f"{count}*{rep.name}" for count, rep in self.terms)


def fibre(spec: str | Fibre, group: Group) -> Fibre:
    """Parse a sum such as "3*trivial + 8*regular" into a fibre of the group.

    Example:
        >>> from equiharness import group
        >>> fibre("3*trivial + 2*regular", group("C4")).size
        11
    """
    if isinstance(spec, Fibre):
        return spec
    terms = []
    for term in spec.split("+"):
        match = re.fullmatch(r"\s*(?:(\d+)\s*\*\s*)?([a-z]+)\s*(?:\(([^()]*)\))?\s*", term)
        if match is None:
            raise UsageError(
                f"Cannot read {term.strip()!r} in the fibre {spec!r}: write for example '3*trivial + regular'."
            )
        if match[1] is not None and int(match[1]) == 0:
            raise UsageError(f"{term.strip()!r} in the fibre {spec!r} has no copies: leave this term out.")
        terms.append((int(match[1] or 1), representation(match[2], match[3], group)))
    return Fibre(tuple(terms))


def representation(kind: str, argument: str | None, group: Group) -> Representation:
    """The representation named ``kind`` of ``group``: trivial, regular, quotient(H), standard or irrep(l)."""
    if kind == "trivial":
        return Representation("trivial", 1, lambda g: np.ones((1, 1)), np.ones(1))
    if kind == "standard":
        return Representation("standard", group.dim, lambda g: g.matrix)
    if kind == "regular":
        return _permutation_representation("regular", group, [group.identity_index] if _finite(group, kind) else [])
    if kind == "quotient":
        _finite(group, kind)
        if not argument:
            raise UsageError("quotient needs the subgroup, for example 'quotient(C2)'.")
        return _permutation_representation(f"quotient({argument})", group, group.subgroup(as_group(argument)))
    if kind == "irrep":
        match = re.fullmatch(r"\s*(\d+)\s*(?:,?\s*([eo]))?\s*", argument or "")
        if match is None:
            raise UsageError("irrep needs its degree, for example 'irrep(1)', or with parity 'irrep(1, e)'.")
        return _irrep(int(match[1]), match[2], group)
    raise UsageError(f"Unknown fibre {kind!r}. Known: trivial, regular, quotient(H), standard, irrep(l).")


def _finite(group: Group, kind: str) -> bool:
    if group.order is None:
        raise UsageError(f"{group.name} is infinite and has no {kind} fibre here. Take irrep(l), standard or trivial.")
    return True


def _permutation_representation(name: str, group: Group, subgroup: list[int]) -> Representation:
    """The action of G on its left cosets uH: (rho(g) v)[uH] = v[g^-1 uH]. The trivial H gives the regular one."""
    coset = np.full(len(group), -1)
    first: list[int] = []
    for index in range(len(group)):
        if coset[index] < 0:
            coset[group.mul[index, subgroup]] = len(first)
            first.append(index)

    def matrix(g: Element) -> Matrix:
        inverse = group.inverse(group.element(g)).index
        source = coset[group.mul[inverse, first]]
        permutation: Matrix = np.eye(len(first))[source]
        return permutation

    return Representation(name, len(first), matrix, np.full(len(first), 1 / len(first)))


def _irrep(degree: int, parity: str | None, group: Group) -> Representation:
    name = f"irrep({degree})" if parity is None else f"irrep({degree},{parity})"
    if group.dim == 2:
        if parity is not None:
            raise UsageError("An irrep of a group of the plane has no parity: write 'irrep(1)'.")
        return _planar_irrep(name, degree, group)
    if group.dim == 3:
        odd = (parity or ("o" if degree % 2 else "e")) == "o"
        invariant = np.ones(1) if degree == 0 and not odd else None
        return Representation(name, 2 * degree + 1, functools.partial(_wigner_of, degree, odd), invariant)
    raise UsageError(
        f"irrep(l) is defined for groups of the plane and of space, and {group.name} acts in dimension {group.dim}: "
        "use trivial, regular or standard."
    )


def _planar_irrep(name: str, degree: int, group: Group) -> Representation:
    """R(l t) F^f for the element R(t) F^f, with F = diag(1, -1); one-dimensional if R(l t) = +-1 for all elements."""

    def matrix(g: Element) -> Matrix:
        t = degree * np.arctan2(g.matrix[1, 0], g.matrix[0, 0])
        rotation = np.array([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]])
        return rotation @ np.diag([1.0, -1.0]) if not g.is_proper else rotation

    if degree == 0:
        return Representation(name, 1, lambda g: np.ones((1, 1)), np.ones(1))
    cyclic = group.order is not None and all(np.linalg.det(g.matrix) > 0 for g in group)
    if cyclic and (2 * degree) % len(group) == 0:  # C_N at degree N/2: R(l t) = +-1
        return Representation(name, 1, lambda g: np.round(matrix(g)[:1, :1]))
    return Representation(name, 2, matrix)


def angular_momentum(degree: int) -> NDArray[np.complex128]:
    """Jx, Jy, Jz [3, 2l+1, 2l+1] of degree l in the basis m = -l..l: J+- |m> = sqrt(l(l+1) - m(m +- 1)) |m +- 1>.

    Source: Sakurai, Modern Quantum Mechanics, section 3.5.
    """
    m = np.arange(-degree, degree + 1)
    ladder = np.sqrt(degree * (degree + 1) - m[:-1] * (m[:-1] + 1.0))
    raising = np.diag(ladder, -1).astype(complex)
    return np.stack([(raising + raising.T) / 2, (raising - raising.T) / 2j, np.diag(m).astype(complex)])


@functools.lru_cache(maxsize=64)
def rotation_generators(degree: int) -> NDArray[np.float64]:
    """Generators [3, 2l+1, 2l+1] of rotations about the three axes in the basis of real spherical harmonics.

    The basis is m = -l..l about the third axis; for l = 1 this is the order (y, z, x). The generators follow from the
    angular momenta and the unitary change from complex to real harmonics.
    """
    jx, jy, jz = angular_momentum(degree)
    to_real = np.zeros((2 * degree + 1, 2 * degree + 1), dtype=complex)
    to_real[degree, degree] = 1
    for k in range(1, degree + 1):
        sign = (-1) ** k
        to_real[degree + k, [degree - k, degree + k]] = np.array([1, sign]) / np.sqrt(2)
        to_real[degree - k, [degree - k, degree + k]] = np.array([1j, -1j * sign]) / np.sqrt(2)
    return np.stack([(to_real.conj() @ (-1j * j) @ to_real.T).real for j in (jx, jy, jz)])


def wigner_matrix(degree: int, rotation: Matrix) -> Matrix:
    """Real Wigner matrix D^l(R) = exp(angle n . J) of a rotation, float64, in the basis of ``rotation_generators``."""
    return _wigner_matrix(degree, np.ascontiguousarray(rotation, dtype=np.float64).tobytes())


@functools.lru_cache(maxsize=1024)
def _wigner_matrix(degree: int, raw: bytes) -> Matrix:
    """``wigner_matrix`` with a cache of read-only matrices, because a check applies each element to many signals."""
    if degree == 0:
        return np.ones((1, 1))
    axis, angle = _axis_angle(np.frombuffer(raw, dtype=np.float64).reshape(3, 3))
    generator = np.einsum("a,aij->ij", axis, rotation_generators(degree))
    # exp of a real antisymmetric matrix G, by the Hermitian matrix i G: unitary to machine precision at every degree.
    values, vectors = np.linalg.eigh(1j * generator)
    matrix: Matrix = ((vectors * np.exp(-1j * angle * values)) @ vectors.conj().T).real
    matrix.setflags(write=False)
    return matrix


def _wigner_of(degree: int, odd: bool, g: Element) -> Matrix:
    sign = 1.0 if g.is_proper or not odd else -1.0
    return sign * wigner_matrix(degree, g.matrix if g.is_proper else -g.matrix)


def _axis_angle(rotation: Matrix) -> tuple[NDArray[np.float64], float]:
    """Unit axis and angle of a rotation, from its unit quaternion (stable near 0 and pi)."""
    t = np.trace(rotation)
    k = np.empty((4, 4))
    k[0, 0] = t
    k[0, 1:] = k[1:, 0] = [
        rotation[2, 1] - rotation[1, 2],
        rotation[0, 2] - rotation[2, 0],
        rotation[1, 0] - rotation[0, 1],
    ]
    k[1:, 1:] = rotation + rotation.T - t * np.eye(3)
    # k = 4 q q^T - I (Bar-Itzhack 2000): the column of k + I with the largest diagonal is proportional to q.
    columns = k + np.eye(4)
    q = columns[:, np.argmax(np.diagonal(columns))]
    q = q / np.linalg.norm(q)
    sine = np.linalg.norm(q[1:])
    if sine < SAME:
        return np.array([0.0, 0.0, 1.0]), 0.0
    return q[1:] / sine, float(2 * np.arctan2(sine, q[0]))
