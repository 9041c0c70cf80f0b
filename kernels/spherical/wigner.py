"""Wigner matrices from a recurrence in the degree, stable at every angle.

Convention: R(alpha, beta, gamma) = Z(alpha) Y(beta) Z(gamma), D^l_mn = e^{i m alpha} d^l_mn(beta) e^{i n gamma}, with
the standard small d (d^1_{1,0} = -sin beta / sqrt 2). All the arithmetic here is float64.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

Array = NDArray[np.float64]
Integers = NDArray[np.int64]


def sorted_pairs(orders: int) -> tuple[Integers, Integers]:
    """Return (m, n) for all |n| <= m < orders; the pair (m, n) is at row m^2 + m + n."""
    m = np.repeat(np.arange(orders), 2 * np.arange(orders) + 1)
    return m, np.arange(orders * orders) - m * m - m


def small_d_by_degree(bandwidth: int, m: Integers, n: Integers, betas: Array) -> Iterator[Array]:
    """Yield d^l_mn(beta) for l = 0 .. bandwidth - 1 on the given pairs |n| <= m, m ascending.

    Each array is [number of pairs with m <= l, len(betas)] and is valid until the next one is asked for; the other
    pairs follow from d_nm = (-1)^(m-n) d_mn and d_{-m,-n} = (-1)^(m-n) d_mn.

    Starts at l = m from d^m_mn = (-1)^(m-n) sqrt(C(2m, m+n)) cos(beta/2)^(m+n) sin(beta/2)^(m-n) and climbs with the
    three-term recurrence in l (Kostelec and Rockmore 2008), whose wanted solution is the growing one, hence stable:

        d^l = l (2l-1) / sqrt((l^2 - m^2)(l^2 - n^2))
              * [(cos beta - m n / (l (l-1))) d^{l-1}  -  sqrt(((l-1)^2 - m^2)((l-1)^2 - n^2)) / ((l-1)(2l-1)) d^{l-2}].
    """
    cos = np.cos(betas)
    m2, n2, mn = (m * m)[:, None], (n * n)[:, None], (m * n)[:, None].astype(np.float64)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, 2 * bandwidth + 1)))])
    previous, current = np.zeros((2, len(m), len(betas)))
    known = 0
    for l in range(bandwidth):
        if known:
            a, b, c = m2[:known], n2[:known], mn[:known]
            if l > 1:
                back = np.sqrt((((l - 1) ** 2 - a) * ((l - 1) ** 2 - b)).astype(np.float64)) / ((l - 1) * (2 * l - 1))
                climb = (cos - c / (l * (l - 1))) * current[:known] - back * previous[:known]
            else:  # d^0 = 1: the term m n / (l (l-1)) is absent, and so is d^{-1}
                climb = cos * current[:known]
            previous[:known] = climb * (l * (2 * l - 1) / np.sqrt(((l * l - a) * (l * l - b)).astype(np.float64)))
            previous, current = current, previous
        new = slice(known, int(np.searchsorted(m, l, side="right")))
        current[new] = _seed(l, n[new], betas, log_factorial)
        known = new.stop
        yield current[:known]


def _seed(l: int, n: Integers, betas: Array, log_factorial: Array) -> Array:
    """Return d^l_{l,n}: in logarithms, because C(2l, l+n) overflows long before the product does."""
    half = betas[None, :] / 2
    up, down = (l + n)[:, None], (l - n)[:, None]
    log_binomial = (log_factorial[2 * l] - log_factorial[l + n] - log_factorial[l - n])[:, None]
    with np.errstate(divide="ignore", invalid="ignore", under="ignore"):
        # 0 log 0 = 0: at the poles the powers with exponent zero are one, the others zero
        log_cos = np.where(up == 0, 0.0, up * np.log(np.maximum(np.cos(half), 0.0)))
        log_sin = np.where(down == 0, 0.0, down * np.log(np.maximum(np.sin(half), 0.0)))
        magnitude: Array = np.exp(0.5 * log_binomial + log_cos + log_sin)
    return np.where(down % 2 == 1, -magnitude, magnitude)


def full_matrix(l: int, values: Array) -> Array:
    """Unfold the (l+1)^2 pairs |n| <= m <= l, in the order of `sorted_pairs`, to d^l: [len(betas), 2l+1, 2l+1]."""
    order = np.arange(-l, l + 1)
    m, n = order[:, None], order[None, :]
    # Bring every (m, n) to |n| <= m: reflect through the antidiagonal (no sign), then through the diagonal.
    reflect = m + n < 0
    p, q = np.where(reflect, -n, m), np.where(reflect, -m, n)
    swap = p < q
    p, q = np.where(swap, q, p), np.where(swap, p, q)
    sign = np.where(swap & ((m - n) % 2 != 0), -1.0, 1.0)
    return np.ascontiguousarray(np.moveaxis(values[p * p + p + q] * sign[..., None], -1, 0))


def wigner_d(l: int, beta: ArrayLike | Tensor) -> Tensor:
    """Compute the Wigner small-d matrix of degree l: how degree-l harmonics mix under a rotation by beta about y.

    Args:
        l: degree, l >= 0.
        beta: angles in radians, any shape, any real number.

    Returns:
        d^l_mn(beta), float64, `[*beta.shape, 2l+1, 2l+1]`, rows m and columns n from -l to l.

    Raises:
        ValueError: if l is negative.

    Example:
        >>> wigner_d(1, 0.0).diagonal().tolist()
        [1.0, 1.0, 1.0]
        >>> round(float(wigner_d(1, 1.0)[2, 1]), 6)     # d^1_{1,0} = -sin(1) / sqrt(2)
        -0.59501

    Source: Kostelec and Rockmore, FFTs on the rotation group, 2008; sign convention of Sakurai.
    """
    if l < 0:
        raise ValueError(f"the degree l must be at least 0, got {l}")
    angles = torch.as_tensor(beta, dtype=torch.float64).detach().cpu()
    flat = angles.reshape(-1).numpy()
    # The recurrence is for [0, pi]. Beyond, d(2 pi - b) = d(-b) = d(b)^T: reduce and transpose.
    reduced = np.mod(flat, 2 * np.pi)
    beyond = reduced > np.pi
    m, n = sorted_pairs(l + 1)
    *_, values = small_d_by_degree(l + 1, m, n, np.where(beyond, 2 * np.pi - reduced, reduced))
    matrix = full_matrix(l, values)
    matrix = np.where(beyond[:, None, None], np.swapaxes(matrix, 1, 2), matrix)
    return torch.from_numpy(matrix).reshape(*angles.shape, 2 * l + 1, 2 * l + 1)


def wigner_D(l: int, alpha: ArrayLike | Tensor, beta: ArrayLike | Tensor, gamma: ArrayLike | Tensor) -> Tensor:
    """Compute the Wigner D matrix of degree l, a unitary representation of SO(3): D(R1 R2) = D(R1) D(R2).

    Args:
        l: degree, l >= 0.
        alpha: first Euler angle (about z) in radians, any shape.
        beta: second Euler angle (about y) in radians, a shape that broadcasts with alpha.
        gamma: third Euler angle (about z) in radians, a shape that broadcasts with alpha and beta.

    Returns:
        D^l_mn = e^{i m alpha} d^l_mn(beta) e^{i n gamma}, complex128, `[..., 2l+1, 2l+1]`.

    Raises:
        ValueError: if l is negative.

    Example:
        >>> D = wigner_D(2, 0.1, 0.2, 0.3)
        >>> bool(torch.allclose(D @ D.mH, torch.eye(5, dtype=torch.complex128)))
        True

    Source: Cohen et al., Spherical CNNs, 2018; D_m0 = sqrt(4 pi / (2l+1)) Y_lm(beta, alpha), Condon-Shortley phase.
    """
    d = wigner_d(l, beta)
    order = torch.arange(-l, l + 1, dtype=torch.float64)
    left = torch.as_tensor(alpha, dtype=torch.float64).detach().cpu()[..., None] * order
    right = torch.as_tensor(gamma, dtype=torch.float64).detach().cpu()[..., None] * order
    phase = left[..., :, None] + right[..., None, :]
    return torch.polar(torch.ones_like(phase), phase) * d
