"""Actions of an element on the points of a grid: exact where the element permutes the grid, else by interpolation.

Every action is linear and differentiable. It takes torch tensors of any dtype whose last axes are the domain.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from .groups import Matrix

#: Points of the one-dimensional interpolation stencil. Six points are exact for polynomials of degree 5: error O(h^6).
STENCIL = 6


def permuted_shape(matrix: Matrix, shape: Sequence[int]) -> tuple[int, ...]:
    """Shape of a box of pixels after a signed permutation: axis i of the result is axis p(i) of the source."""
    return tuple(shape[p] for p in np.abs(matrix).argmax(1))


def permute_grid(matrix: Matrix, x: torch.Tensor) -> torch.Tensor:
    """(L_g f)(X) = f(g^-1 X) for a signed permutation g of the last d axes: a transpose and flips, exact in any dtype.

    With g[i, p(i)] = s_i, the point g^-1 X has the coordinate s_i X_i on axis p(i). So axis i of the result runs along
    axis p(i) of the source, backwards if s_i = -1.
    """
    d = len(matrix)
    p = np.abs(matrix).argmax(1)
    lead = x.dim() - d
    y = x.permute(*range(lead), *(lead + int(a) for a in p))
    flips = [lead + i for i in range(d) if matrix[i, p[i]] < 0]
    return y.flip(flips) if flips else y


def interpolate_grid(matrix: Matrix, x: torch.Tensor) -> torch.Tensor:
    """(L_g f)(X) = f(g^-1 X) by tensor-product Lagrange interpolation of degree 5; zero outside the box.

    Source: the Lagrange form of the interpolating polynomial (e.g. Berrut and Trefethen, SIAM Review 46, 2004).
    """
    d = len(matrix)
    shape = tuple(x.shape[-d:])
    operator = _stencil(matrix.tobytes(), d, shape).to(device=x.device, dtype=x.dtype)
    y: torch.Tensor = torch.sparse.mm(operator, x.reshape(-1, operator.shape[1]).T)
    return y.T.reshape(x.shape)


@functools.lru_cache(maxsize=32)
def _stencil(raw: bytes, d: int, shape: tuple[int, ...]) -> torch.Tensor:
    """Sparse matrix [points, points] from values on the grid to values on the rotated grid; STENCIL^d weights a row."""
    matrix = np.frombuffer(raw, dtype=np.float64).reshape(d, d)
    centre = (np.array(shape) - 1) / 2
    axes = [np.arange(n) - c for n, c in zip(shape, centre, strict=True)]
    target = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, d)
    source = target @ matrix + centre  # rows of X g are g^-1 X
    inside = ((source > -SLACK) & (source < np.array(shape) - 1 + SLACK)).all(1)
    taps, weights = zip(*(_axis_stencil(source[:, a], shape[a]) for a in range(d)), strict=True)
    columns: NDArray[np.int64] = np.zeros((len(source), 1), dtype=np.int64)
    values = inside.astype(np.float64)[:, None]
    for a in range(d):
        columns = (columns[:, :, None] * shape[a] + taps[a].T[:, None]).reshape(len(source), -1)
        values = (values[:, :, None] * weights[a].T[:, None]).reshape(len(source), -1)
    rows = np.repeat(np.arange(len(source)), columns.shape[1])
    index = torch.from_numpy(np.stack([rows, columns.ravel()]))
    size = (len(source), len(source))
    # The entries are already sorted by row and column, without repetition: sorting them again would take most of the
    # time for grids in space.
    return torch.sparse_coo_tensor(
        index, torch.from_numpy(values.ravel()), size, check_invariants=False, is_coalesced=True
    )


#: A point at most this many pixels outside the box counts as on its edge, because rotated coordinates are rounded.
SLACK = 1e-9


def _axis_stencil(position: NDArray[np.float64], length: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The nearest window of STENCIL nodes inside the axis, and the Lagrange basis at ``position``."""
    width = min(STENCIL, length)
    first = np.clip(np.floor(position).astype(np.int64) - (width // 2 - 1), 0, length - width)
    nodes = first + np.arange(width)[:, None]
    weights = np.ones((width, len(position)))
    for i, j in itertools.permutations(range(width), 2):
        weights[i] *= (position - nodes[j]) / (i - j)
    return nodes, weights
