"""The cyclic and dihedral groups of the plane, for every N, counted by angle."""

import re
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]
ComplexArray: TypeAlias = npt.NDArray[np.complex128]


class PlanarGroup:
    """C_N, N rotations, or D_N, with as many reflections: element k turns by 2 pi k / N, element N + k reflects first.

    Args:
        name: "C8", "D6", ... for any N >= 1.

    Attributes:
        elements: float64 [|G|, 2, 2], acting on centred coordinates in array-axis order; quarter turns are integers.
        mul: int64 [|G|, |G|]; ``mul[i, j]`` is the index of E_i E_j.
        inv: int64 [|G|]; ``inv[i]`` is the index of E_i^-1.

    Raises:
        ValueError: another name.

    Example:
        >>> group = PlanarGroup("D3")
        >>> group.order, group.mul[1].tolist(), group.inv.tolist()
        (6, [1, 2, 0, 4, 5, 3], [0, 2, 1, 3, 4, 5])
    """

    dim = 2

    def __init__(self, name: str) -> None:
        match = re.fullmatch(r"([CD])([1-9]\d*)", name) if isinstance(name, str) else None
        if match is None:
            raise ValueError(f"unknown planar group {name!r}; known are 'C<N>' and 'D<N>' for every N >= 1")
        self.name = name
        self.rotations = int(match[2])
        self.reflects = match[1] == "D"
        n = self.rotations
        turn, flip = np.arange(n), np.arange(2 if self.reflects else 1)
        k, f = np.tile(turn, len(flip)), np.repeat(flip, n)
        # (r^a s^f)(r^b s^e) = r^(a + b) s^e for f = 0 and r^(a - b) s^(1 + e) for f = 1.
        product = (k[:, None] + np.where(f[:, None] == 1, -k, k)) % n
        self.mul: IntArray = (product + n * ((f[:, None] + f) % 2)).astype(np.int64)
        self.inv: IntArray = np.argmax(self.mul == 0, axis=1).astype(np.int64)
        self.turns: IntArray = k
        self.flips: IntArray = f
        z = self.phases(1)
        mirror = np.where(f == 1, -1.0, 1.0)
        rows = [np.stack([z.real, -z.imag * mirror], -1), np.stack([z.imag, z.real * mirror], -1)]
        self.elements: FloatArray = np.stack(rows, -2) + 0.0  # no negative zeros

    @property
    def order(self) -> int:
        """Number of elements |G|."""
        return len(self.inv)

    def phases(self, frequency: int) -> ComplexArray:
        """exp(2 pi i m k / N) of every element, exact at quarter turns."""
        quarters = 4 * frequency * self.turns / self.rotations
        exact = np.array([1, 1j, -1, -1j])[np.round(quarters).astype(np.int64) % 4]
        found: ComplexArray = np.where(quarters == np.round(quarters), exact, np.exp(0.5j * np.pi * quarters))
        return found

    def __len__(self) -> int:
        return self.order

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PlanarGroup) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"PlanarGroup({self.name})"
