"""Group actions and integer draws, written from the conventions with plain numpy indexing: no code of the kernels."""

from itertools import permutations, product

import numpy as np
import pytest
import torch


def signed_permutations(dim):
    """Every signed permutation matrix, identity first."""
    matrices = []
    for p in permutations(range(dim)):
        for s in product((1, -1), repeat=dim):
            m = np.zeros((dim, dim), dtype=int)
            for row, (column, sign) in enumerate(zip(p, s, strict=True)):
                m[row, column] = sign
            matrices.append(m)
    return matrices


def rotations(dim):
    return [m for m in signed_permutations(dim) if round(np.linalg.det(m)) == 1]


def by_angle(*, reflections):
    """k quarter turns of rot90 for k = 0, 1, 2, 3, then each of them after the flip of the last axis."""
    turns = [np.array(m) for m in ([[1, 0], [0, 1]], [[0, -1], [1, 0]], [[-1, 0], [0, -1]], [[0, 1], [-1, 0]])]
    return [*turns, *(m @ np.array([[1, 0], [0, -1]]) for m in turns if reflections)]


MATRICES = {
    "C1": [np.eye(2, dtype=int)],
    "C2": [np.eye(2, dtype=int), -np.eye(2, dtype=int)],
    "C4": by_angle(reflections=False),
    "D4": by_angle(reflections=True),
    "O": rotations(3),
    "Oh": signed_permutations(3),
    # Quarter turns about array axis 0: a custom group, cyclic, that leaves one axis alone.
    "C4 about axis 0": [m for m in rotations(3) if m[0, 0] == 1],
    # Exchanging the two axes: a custom group that reverses neither.
    "transposition": [np.eye(2, dtype=int), np.array([[0, 1], [1, 0]])],
}


def as_argument(name):
    """What a layer is given: the name where it is known, else the matrices."""
    return name if name in ("C1", "C2", "C4", "D4", "O", "Oh") else np.array(MATRICES[name])


def move(array, m):
    """f(m^-1 x) for an array whose trailing axes are space: the value at centred x goes to m x."""
    d = len(m)
    lead, box = array.shape[: array.ndim - d], np.array(array.shape[array.ndim - d :])
    out = np.empty((*lead, *(np.abs(m) @ box)), dtype=array.dtype)
    old = np.indices(box).reshape(d, -1)
    new = (m @ (2 * old - (box - 1)[:, None]) + (np.abs(m) @ box - 1)[:, None]) // 2
    out[(..., *new)] = array[(..., *old)]
    return out


def index_of(m, matrices):
    return next(i for i, other in enumerate(matrices) if (np.asarray(other) == m).all())


_QUOTIENTS = {}


def left_quotients(matrices, g):
    """Index of g^-1 h for every h, by multiplying matrices."""
    key = (len(matrices), matrices[-1].tobytes(), g)
    if key not in _QUOTIENTS:
        _QUOTIENTS[key] = [index_of(matrices[g].T @ h, matrices) for h in matrices]
    return _QUOTIENTS[key]


def act(x, m, fibre, matrices):
    """The action of the element m on a tensor [B, C, (fibre), *space], fibre "trivial", "regular" or "vector"."""
    moved = move(x.detach().numpy(), m)
    if fibre == "regular":  # (L_u F)(x, h) = F(u^-1 x, u^-1 h)
        moved = moved[:, :, left_quotients(matrices, index_of(m, matrices))]
    if fibre == "vector":  # (L_u v)(x) = u v(u^-1 x)
        moved = np.einsum("ab,zcb...->zca...", m.astype(moved.dtype), moved)
    return torch.from_numpy(np.ascontiguousarray(moved))


def preimages(m, k):
    """For every tap t of a k^d kernel, the index of m^-1 t: one index array per axis."""
    d = len(m)
    taps = 2 * np.indices((k,) * d).reshape(d, -1) - (k - 1)
    return tuple(((m.T @ taps + (k - 1)) // 2).reshape(d, *(k,) * d))


def integers(seed, *shape):
    """Integers in [-3, 3] as float64: sums of their products are exact in float32 up to 2^24."""
    return np.random.default_rng(seed).integers(-3, 4, shape).astype(np.float64)


@pytest.fixture
def fresh_compiler():
    """No compiled frames, guards or remembered shapes of other tests, before and after."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture(scope="session")
def grid():
    """The helpers of this file, for tests: importlib import mode offers no sibling imports."""

    class Helpers:
        pass

    helpers = (signed_permutations, as_argument, move, index_of, left_quotients, act, preimages, integers)
    for helper in helpers:
        setattr(Helpers, helper.__name__, staticmethod(helper))
    Helpers.MATRICES = MATRICES
    return Helpers
