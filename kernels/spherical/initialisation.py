"""Initialisations of spherical kernels, with the fan that the signal really sees.

A kernel of P points is not read as P independent numbers: close points see nearly equal values. For a random
band-limited input whose degrees l < b carry equal power per coefficient the output variance is
s^2 E[kernel^2] sum_i,p,q <f(R x_p) f(R x_q)>; over independent zero-mean weights only p = q survives, so

    Var z = s^2 Var[kernel] * C_in P * Var f        (S2: with 2 b_out s in place of s).

The fan-in is C_in P and the scale s divided out; the fan-out is the same with C_out: the backward pass sums C_out P
terms.
"""

import math
from collections.abc import Sized
from typing import Protocol

import torch
from torch import Tensor


class Convolution(Protocol):
    """What an initialisation needs of an S2Conv or SO3Conv."""

    b_out: int
    axes_in: int
    in_channels: int
    out_channels: int
    scaling: float

    @property
    def kernel(self) -> Tensor:
        """The weights, [C_in, C_out, P]."""

    @property
    def bias(self) -> Tensor | None:
        """One number for each output channel."""

    @property
    def grid(self) -> Sized:
        """The P points of the kernel."""


def spherical_uniform_(layer: Convolution) -> None:
    """Draw the kernel from U(-1, 1) and set the bias to zero: the published initialisation; equivariance is untouched.

    Args:
        layer: an S2Conv or SO3Conv, changed in place.

    Example:
        >>> from equiharness.kernels import SO3Conv
        >>> layer = SO3Conv(1, 1, 2, 2, [(0.0, 0.0, 0.0)])
        >>> spherical_uniform_(layer)
        >>> bool((layer.kernel.abs() <= 1).all())
        True

    Source: Cohen et al., Spherical CNNs, ICLR 2018.
    """
    with torch.no_grad():
        layer.kernel.uniform_(-1.0, 1.0)
        _reset_bias(layer)


def spherical_glorot_(layer: Convolution, gain: float = 1.0) -> None:
    """Draw the kernel so that variance is kept, averaged over forward and backward; equivariance is untouched.

    The effective weight (scale times kernel) gets variance 2 gain^2 / (fan_in + fan_out), fan_in = C_in P, fan_out =
    C_out P.

    Args:
        layer: an S2Conv or SO3Conv, changed in place.
        gain: factor on the standard deviation.

    Example:
        >>> from equiharness.kernels import SO3Conv, so3_near_identity
        >>> spherical_glorot_(SO3Conv(4, 4, 4, 4, so3_near_identity()))

    Source: Glorot and Bengio 2010.
    """
    fan_in, fan_out = fans(layer)
    _normal(layer.kernel, gain * math.sqrt(2.0 / (fan_in + fan_out)) / effective_scale(layer))
    _reset_bias(layer)


def spherical_kaiming_(layer: Convolution, gain: float = math.sqrt(2.0)) -> None:
    """Draw the kernel so that variance is kept in the forward pass through a ReLU; equivariance is untouched.

    The effective weight (scale times kernel) gets variance gain^2 / fan_in, fan_in = C_in P.

    Args:
        layer: an S2Conv or SO3Conv, changed in place.
        gain: factor on the standard deviation, sqrt 2 for a ReLU before the layer.

    Example:
        >>> from equiharness.kernels import SO3Conv, so3_near_identity
        >>> spherical_kaiming_(SO3Conv(4, 4, 4, 4, so3_near_identity()))

    Source: He et al. 2015.
    """
    _normal(layer.kernel, gain / math.sqrt(fans(layer)[0]) / effective_scale(layer))
    _reset_bias(layer)


def fans(layer: Convolution) -> tuple[int, int]:
    """Return how many independent weights each output value sums over, and each input value reaches: C P."""
    points = len(layer.grid)
    return layer.in_channels * points, layer.out_channels * points


def effective_scale(layer: Convolution) -> float:
    """Return the factor between the kernel parameter and the weight that multiplies a value of the signal."""
    return layer.scaling * (2 * layer.b_out if layer.axes_in == 2 else 1)


def _normal(kernel: Tensor, std: float) -> None:
    with torch.no_grad():
        kernel.normal_(0.0, std)


def _reset_bias(layer: Convolution) -> None:
    if layer.bias is not None:
        with torch.no_grad():
            layer.bias.zero_()
