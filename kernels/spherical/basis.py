"""The real-form matrices conj D^l at arbitrary rotations: kernels on a grid, slow transforms, exact rotations."""

import numpy as np
import torch
from torch import Tensor

from .layout import so3_rows, trigonometric
from .wigner import Array, full_matrix, small_d_by_degree, sorted_pairs


def so3_basis(points: Array, b: int, dtype: torch.dtype, transposed: bool = False) -> Tensor:
    """Return the real form of conj D^l, formula (1) of `layout`, at points (beta, alpha, gamma): [P, so3_rows(b)].

    With `transposed`, each degree is stored column by column.
    """
    betas, which = np.unique(points[:, 0], return_inverse=True)
    alpha, gamma = (orders_last(points[:, axis], b) for axis in (1, 2))
    out = torch.empty(len(points), so3_rows(b), dtype=dtype)
    m, n = sorted_pairs(b)
    for l, values in enumerate(small_d_by_degree(b, m, n, betas)):
        d = full_matrix(l, values)[:, l:, :]
        direct, mirrored = d[:, :, l:], d[:, :, l::-1] * np.where(np.arange(l + 1) % 2, -1.0, 1.0)
        plus, minus = (direct + mirrored)[which], (direct - mirrored)[which]
        a, c = alpha[:, : l + 1], gamma[:, : l + 1]
        full = np.empty((len(points), l + 1, 2, l + 1, 2))
        for s, sign_s in ((0, 1.0), (1, -1.0)):
            for t, sign_t in ((0, 1.0), (1, -1.0)):
                same = sign_s * plus * a[:, :, None, s] * c[:, None, :, t]
                full[:, :, s, :, t] = same - sign_t * minus * a[:, :, None, 1 - s] * c[:, None, :, 1 - t]
        matrix = full.reshape(len(points), 2 * l + 2, 2 * l + 2)
        kept = np.arange(2 * l + 2) != 1  # sin(0 alpha) is no basis function
        matrix = matrix[:, kept][:, :, kept]
        if transposed:
            matrix = np.swapaxes(matrix, 1, 2)
        out[:, so3_rows(l) : so3_rows(l + 1)] = torch.from_numpy(matrix.reshape(len(points), -1))
    return out


def s2_basis(points: Array, b: int, dtype: torch.dtype) -> Tensor:
    """Return the real form of conj D^l_m0 at points (beta, alpha): [P, b^2]."""
    betas, which = np.unique(points[:, 0], return_inverse=True)
    alpha = orders_last(points[:, 1], b) * np.array([np.sqrt(2.0), -np.sqrt(2.0)])
    out = torch.empty(len(points), b * b, dtype=dtype)
    orders = np.arange(b)
    for l, d in enumerate(small_d_by_degree(b, orders, np.zeros(b, np.int64), betas)):
        values = (d.T[which][:, :, None] * alpha[:, : l + 1]).reshape(len(points), -1)
        out[:, l * l : (l + 1) ** 2] = torch.from_numpy(values[:, np.arange(2 * l + 2) != 1])
    return out


def orders_last(angle: Array, b: int) -> Array:
    """Return cos(m angle), sin(m angle): [P, b, 2]."""
    both = trigonometric(np.arange(b)[:, None] * angle[None, :])
    return np.moveaxis(both.reshape(b, 2, -1), -1, 0)
