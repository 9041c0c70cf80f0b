"""The layers written as their formulas, tap by tap: slow, any dtype, differentiable, the oracle of the fast paths.

Nothing here is shared with the filter banks of the fast path: the moved tap g^-1 t is computed from the matrix of g,
and no bank is ever formed.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .groups import GridGroup, IntArray


def lifting(x: Tensor, w: Tensor, group: GridGroup, *, stride: int, padding: int, mode: str) -> Tensor:
    """y_o(X, g) = sum_{i,t} w_oi(g^-1 t) x_i(X + t): [B, i, *X], [o, i, *k] to [B, o, g, *X]."""
    k, y = w.shape[-1], []
    windows = list(_windows(x, group.dim, k, stride, padding, mode))
    for m in group.elements:
        y_g = x.new_zeros(())
        for t, x_t in windows:
            y_g = y_g + torch.einsum("oi,bi...->bo...", _tap(w, _moved(m.T, t, k)), x_t)
        y.append(y_g)
    return torch.stack(y, 2)


def regular(x: Tensor, w: Tensor, group: GridGroup, *, stride: int, padding: int, mode: str) -> Tensor:
    """y_o(X, g) = sum_{i,h,t} w_oi(g^-1 t, g^-1 h) F_i(X + t, h): [B, i, h, *X], [o, i, u, *k] to [B, o, g, *X]."""
    k, y = w.shape[-1], []
    windows = list(_windows(x, group.dim, k, stride, padding, mode))
    for g, m in enumerate(group.elements):
        u = group.mul[group.inv[g]].tolist()  # u[h] = g^-1 h
        y_g = x.new_zeros(())
        for t, x_t in windows:
            y_g = y_g + torch.einsum("oih,bih...->bo...", _tap(w, _moved(m.T, t, k))[:, :, u], x_t)
        y.append(y_g)
    return torch.stack(y, 2)


def vector_lifting(x: Tensor, w: Tensor, group: GridGroup, *, stride: int, padding: int, mode: str) -> Tensor:
    """y_o(X, g) = sum_{i,a,t} w_oia(g^-1 t) (M_g^-1 v_i(X + t))_a: [B, i, d, *X], [o, i, a, *k] to [B, o, g, *X]."""
    k, y = w.shape[-1], []
    for m in group.elements:
        turned = torch.einsum("ab,zib...->zia...", torch.tensor(m.T.tolist()).to(x), x)  # M_g^-1 v
        y_g = x.new_zeros(())
        for t, v_t in _windows(turned, group.dim, k, stride, padding, mode):
            y_g = y_g + torch.einsum("oia,zia...->zo...", _tap(w, _moved(m.T, t, k)), v_t)
        y.append(y_g)
    return torch.stack(y, 2)


def vector_projection(x: Tensor, w: Tensor, group: GridGroup, *, stride: int, padding: int, mode: str) -> Tensor:
    """y_oa(X) = sum_{i,h,t} (M_h w_oi(h^-1 t))_a F_i(X + t, h): [B, i, h, *X], [o, i, a, *k] to [B, o, d, *X]."""
    k, y = w.shape[-1], x.new_zeros(())
    for t, x_t in _windows(x, group.dim, k, stride, padding, mode):
        for h, m in enumerate(group.elements):
            turned = torch.einsum("ab,oib->oia", torch.tensor(m.tolist()).to(w), _tap(w, _moved(m.T, t, k)))  # M_h w
            y = y + torch.einsum("oia,zi...->zoa...", turned, x_t[:, :, h])
    return y


def pointwise(x: Tensor, a: Tensor, group: GridGroup) -> Tensor:
    """z_o(x, g) = sum_{i,h} a_oi(g^-1 h) F_i(x, h): [B, i, h, *X] and [o, i, u] to [B, o, g, *X]."""
    z = []
    for g in range(group.order):
        u = group.mul[group.inv[g]].tolist()  # u[h] = g^-1 h
        z.append(torch.einsum("oih,bih...->bo...", a[:, :, u], x))
    return torch.stack(z, 2)


def depthwise(x: Tensor, s: Tensor, group: GridGroup, *, stride: int, padding: int, mode: str) -> Tensor:
    """y_c(X, g) = sum_t s_c(g^-1 t) F_c(X + t, g): [B, c, g, *X] and [c, *k] to [B, c, g, *X]."""
    k, y = s.shape[-1], []
    for g, m in enumerate(group.elements):
        y_g = x.new_zeros(())
        for t, x_t in _windows(x[:, :, g], group.dim, k, stride, padding, mode):
            y_g = y_g + torch.einsum("c,bc...->bc...", _tap(s, _moved(m.T, t, k)), x_t)
        y.append(y_g)
    return torch.stack(y, 2)


def pairwise(x: Tensor, a: Tensor, s: Tensor, group: GridGroup, *, stride: int, padding: int, mode: str) -> Tensor:
    """y_o(X, g) = sum_{i,h,t} a_oi(g^-1 h) s_oi(g^-1 t) F_i(X + t, h): [o, i, u] and [o, i, *k]."""
    k, y = s.shape[-1], []
    windows = list(_windows(x, group.dim, k, stride, padding, mode))
    for g, m in enumerate(group.elements):
        u = group.mul[group.inv[g]].tolist()  # u[h] = g^-1 h
        y_g = x.new_zeros(())
        for t, x_t in windows:
            y_g = y_g + torch.einsum("oih,bih...->bo...", a[:, :, u] * _tap(s, _moved(m.T, t, k))[..., None], x_t)
        y.append(y_g)
    return torch.stack(y, 2)


def transposed(
    formula: Callable[..., Tensor],
    x: Tensor,
    weights: Sequence[Tensor],
    group: GridGroup,
    *,
    stride: int,
    padding: int,
    output_padding: int = 0,
) -> Tensor:
    """y(X, g) = sum_x w(g^-1 (X - s x)) F(x): a formula above, of the signal with s - 1 zeros between its voxels.

    With t = s x - X the sum runs over w(g^-1 (-t)) F^(X + t): the taps of the last weight are reversed. Only those
    taps meet a voxel that fall on one; the voxels that the padding p takes away are cut off at both ends.
    """
    dim, k = group.dim, weights[-1].shape[-1]
    lead, box = x.shape[: x.dim() - dim], x.shape[x.dim() - dim :]
    stuffed = x.new_zeros((*lead, *((n - 1) * stride + 1 for n in box)))
    apart: tuple[Any, ...] = (..., *(slice(None, None, stride),) * dim)
    stuffed[apart] = x
    reverse = tuple(range(-dim, 0))
    full = formula(stuffed, *weights[:-1], weights[-1].flip(reverse), group, stride=1, padding=k - 1, mode="zeros")
    longer = F.pad(full, (0, output_padding) * dim)
    out = [(n - 1) * stride + k - 2 * padding + output_padding for n in box]
    kept: tuple[Any, ...] = (..., *(slice(padding, padding + m) for m in out))
    return longer[kept]


def _tap(w: Tensor, t: tuple[int, ...]) -> Tensor:
    """w(..., t), its last axes indexed by t."""
    return w.flatten(-len(t))[..., int(np.ravel_multi_index(t, w.shape[-len(t) :]))]


def _moved(m: IntArray, t: tuple[int, ...], k: int) -> tuple[int, ...]:
    """Index of the tap m t, for the tap with index t; centred coordinates are t - (k-1)/2, doubled to stay integers."""
    return tuple(int(c + k - 1) // 2 for c in m @ [2 * i - (k - 1) for i in t])


def _windows(
    x: Tensor, dim: int, k: int, stride: int, padding: int, mode: str
) -> Iterator[tuple[tuple[int, ...], Tensor]]:
    """For every tap index t, the values x(X + t) for all outputs X: input index s X - p + t."""
    lead = x.shape[: x.dim() - dim]
    flat = x.flatten(1, len(lead) - 1) if len(lead) > 2 else x
    padded = F.pad(flat, (padding,) * (2 * dim), mode="circular" if mode == "circular" else "constant")
    padded = padded.reshape(*lead, *padded.shape[2:])
    last = [(n - k) // stride * stride for n in padded.shape[x.dim() - dim :]]
    for t in torch.cartesian_prod(*[torch.arange(k)] * dim).tolist():
        x_t = padded
        for axis, (i, n) in enumerate(zip(t, last, strict=True), start=x.dim() - dim):
            x_t = x_t[(slice(None),) * axis + (slice(i, i + n + 1, stride),)]
        yield tuple(t), x_t
