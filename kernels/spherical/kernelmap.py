"""From the weights of a kernel on SO(3) to its spectrum Y^l_nk = sum_p kernel_p conj D^l_nk(g_p), in real form.

Two ways, chosen by what they cost:

* direct: one matrix product with the table of conj D at every point, P terms per coefficient;
* by rings, for grids of few distinct beta: first the sums over each ring of cos, sin(n alpha) cos, sin(k gamma), then,
per
  coefficient, the two terms of formula (1) of `layout` for each beta, gathered in one pass. For `so3_near_identity`,
  192 points on 3 rings, that is 6 terms instead of 192, and a table 16 times smaller.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..cuda.launch import executor_for
from ..cuda.synthesis_operators import ring_product, weighted_rows
from .basis import orders_last, so3_basis
from .layout import so3_rows
from .linear import linear, sum_rows
from .tables import without_denormals
from .wigner import Array, Integers, full_matrix, small_d_by_degree, sorted_pairs

# Gathering a row costs about as much as this many multiplications of it.
_GATHER_COST = 16


class KernelMap(Protocol):
    """What a convolution asks of a grid."""

    def spectra(self, weights: Tensor) -> Tensor:
        """Return the spectra of kernels: [P, C_in C_out] -> [so3_rows(b), C_in C_out], each degree stored [k, n]."""


@dataclass(frozen=True)
class Direct:
    """The table of conj D at every point: [P, so3_rows(b)]."""

    table: Tensor

    def spectra(self, weights: Tensor) -> Tensor:
        """Return the spectra of kernels."""
        return torch.mm(self.table.t(), weights)


@dataclass(frozen=True)
class ByRings:
    """Sums over rings, and the gather of (1); the transpose of the gather has bags of different sizes, `offsets`."""

    rings: tuple[tuple[Tensor, Tensor], ...]  # the points of each ring, cos and sin products [P_ring, orders^2]
    terms: Tensor
    weights: Tensor
    source: Tensor
    source_weights: Tensor
    offsets: Tensor

    def spectra(self, weights: Tensor) -> Tensor:
        """Return the spectra of kernels, on a GPU in two launches."""
        if executor_for(weights) is not None:
            order = torch.cat([points for points, _ in self.rings])
            waves = torch.cat([waves for _, waves in self.rings])
            sums = ring_product(waves, weights.index_select(0, order), [len(points) for points, _ in self.rings])
            return weighted_rows(
                sums, (self.terms, self.weights, None), (self.source, self.source_weights, self.offsets)
            )  # fmt: skip
        sums = torch.cat([torch.mm(waves.t(), weights.index_select(0, points)) for points, waves in self.rings])
        return linear(
            sums,
            lambda sums: sum_rows(sums, self.terms, self.weights),
            lambda y: sum_rows(y.contiguous(), self.source, self.source_weights, self.offsets),
        )


def kernel_map(points: Array, b: int, dtype: torch.dtype, device: torch.device) -> KernelMap:
    """Return the cheaper map for degrees l < b at points (beta, alpha, gamma)."""
    betas, which = np.unique(points[:, 0], return_inverse=True)
    if 2 * len(betas) * _GATHER_COST > len(points):
        return Direct(so3_basis(points, b, dtype, True).to(device))
    waves = [orders_last(points[:, axis], b).reshape(len(points), -1)[:, np.arange(2 * b) != 1] for axis in (1, 2)]
    rings = []
    for ring in range(len(betas)):
        members = np.flatnonzero(which == ring)
        product = waves[0][members, :, None] * waves[1][members, None, :]
        rings.append(
            (
                torch.from_numpy(members).to(device),
                torch.from_numpy(product.reshape(len(members), -1)).to(device, dtype),
            )
        )
    terms, weights = _gather(betas, b)
    weights = without_denormals(weights, np.dtype(np.float32 if dtype == torch.float32 else np.float64))
    order = np.argsort(terms.reshape(-1), kind="stable")
    cells = len(betas) * (2 * b - 1) ** 2
    offsets = np.searchsorted(terms.reshape(-1)[order], np.arange(cells))
    return ByRings(
        tuple(rings),
        torch.from_numpy(terms).to(device),
        torch.from_numpy(weights).to(device),
        torch.from_numpy(order // terms.shape[1]).to(device),
        torch.from_numpy(weights.reshape(-1)[order]).to(device),
        torch.from_numpy(offsets).to(device),
    )


def _gather(betas: Array, b: int) -> tuple[Integers, Array]:
    """Return cells (ring, n, k) and weights of the coefficients, degree by degree [k, n]: [so3_rows(b), 2 rings]."""
    terms = np.empty((so3_rows(b), 2 * len(betas)), np.int64)
    weights = np.empty((so3_rows(b), 2 * len(betas)))
    size = 2 * b - 1
    ring = np.arange(len(betas)) * size * size
    pair_m, pair_n = sorted_pairs(b)
    for l, values in enumerate(small_d_by_degree(b, pair_m, pair_n, betas)):
        d = full_matrix(l, values)[:, l:, :]
        direct, mirrored = d[:, :, l:], d[:, :, l::-1] * np.where(np.arange(l + 1) % 2, -1.0, 1.0)
        stored = np.arange(2 * l + 1)
        k, n = (axis.reshape(-1) for axis in np.meshgrid(stored, stored, indexing="ij"))
        order_k, order_n = (k + 1) // 2, (n + 1) // 2
        sign_k, sign_n = np.where((k > 0) & (k % 2 == 0), -1.0, 1.0), np.where((n > 0) & (n % 2 == 0), -1.0, 1.0)
        # Cosine and sine of one order are neighbours: 2m - 1 and 2m. (At order 0 the second term of (1) vanishes.)
        other_k, other_n = (np.where(i == 0, 0, i + np.where(i % 2 == 1, 1, -1)) for i in (k, n))
        rows = slice(so3_rows(l), so3_rows(l + 1))
        terms[rows, 0::2] = ring + (n * size + k)[:, None]
        terms[rows, 1::2] = ring + (other_n * size + other_k)[:, None]
        weights[rows, 0::2] = (direct + mirrored)[:, order_n, order_k].T * sign_n[:, None]
        weights[rows, 1::2] = (direct - mirrored)[:, order_n, order_k].T * -sign_k[:, None]
    return terms, weights
