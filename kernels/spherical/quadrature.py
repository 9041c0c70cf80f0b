"""Quadrature on the SOFT grid and the integrals it gives: the invariants that a plain mean is not."""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from . import checks
from .wigner import Array


def soft_betas(b: int) -> Array:
    """Return beta_j = pi (2j + 1) / (4b), j = 0 .. 2b - 1."""
    betas: Array = np.pi * (2 * np.arange(2 * b) + 1) / (4 * b)
    return betas


@lru_cache(maxsize=64)
def _weights(b: int) -> Tensor:
    beta = soft_betas(b)[:, None]
    odd = 2 * np.arange(b)[None, :] + 1
    return torch.from_numpy(np.sin(beta[:, 0]) * (np.sin(odd * beta) / odd).sum(1) / (4 * b**3))


def quadrature_weights(b: int) -> Tensor:
    """Compute the weights w_j under which sums over the SOFT grid are Haar integrals over SO(3), of total mass 1.

    w_j = 1 / (4 b^3) sin(beta_j) sum_{k<b} sin((2k+1) beta_j) / (2k+1): exact for degrees below 2b, and
    sum_j w_j = 1 / (2b)^2, one point of alpha and gamma out of 2b each.

    Args:
        b: bandwidth, at least 1.

    Returns:
        `[2b]`, float64, one weight per beta.

    Raises:
        ValueError: if b is not positive.
        TypeError: if b is not a whole number.

    Example:
        >>> w = quadrature_weights(8)
        >>> round(float(w.sum()) * 16 * 16, 12)
        1.0

    Source: Driscoll and Healy 1994; Kostelec and Rockmore 2008.
    """
    return _weights(checks.bandwidth(b)).clone()


def so3_integrate(x: Tensor) -> Tensor:
    """Compute the Haar integral of each SO(3) signal, invariant under every rotation of SO(3).

    Args:
        x: `[..., beta, alpha, gamma]`, each 2b long, float32 or float64.

    Returns:
        sum_j w_j x over the last three axes, of total mass 1: `[...]`, same dtype.

    Raises:
        ValueError: if the last three axes are not of one even length.
        TypeError: if the dtype is neither float32 nor float64.

    Example:
        >>> so3_integrate(torch.ones(2, 3, 8, 8, 8, dtype=torch.float64)).shape
        torch.Size([2, 3])

    Source: Cohen et al. 2018, section 5.
    """
    b = checks.signal(x, 3)
    return x.sum((-1, -2)) @ _weights(b).to(x)


def s2_integrate(x: Tensor) -> Tensor:
    """Compute the integral of each spherical signal over S2 (area normalised to 1), invariant under SO(3).

    Args:
        x: `[..., beta, alpha]`, each 2b long, float32 or float64.

    Returns:
        sum 2b w_j x over the last two axes, of total mass 1: `[...]`, same dtype.

    Raises:
        ValueError: if the last two axes are not of one even length.
        TypeError: if the dtype is neither float32 nor float64.

    Example:
        >>> round(float(s2_integrate(torch.ones(8, 8, dtype=torch.float64))), 12)
        1.0

    Source: Driscoll and Healy 1994.
    """
    b = checks.signal(x, 2)
    return x.sum(-1) @ (2 * b * _weights(b)).to(x)
