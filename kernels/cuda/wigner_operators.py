"""A torch operator on wigner.cu: the beta step of the transforms, linear; `transform` pairs it with its transpose.

Importing this module registers the operator with torch, which keeps it for the life of the process.
"""

import torch
from torch import Tensor

from ..spherical import octant
from .launch import executor_for
from .wigner import beta_step as launch_beta_step

_LIBRARY = torch.library.Library("equiharness", "FRAGMENT")
_LIBRARY.define(
    "beta_step(Tensor table, Tensor weights, Tensor source, Tensor(a!) out, int degrees, bool analyse, "
    "bool quadrature) -> ()"
)


def _beta_step(
    table: Tensor, weights: Tensor, source: Tensor, out: Tensor, degrees: int, analyse: bool, quadrature: bool
) -> None:
    space, spectrum = (source, out) if analyse else (out, source)
    executor = executor_for(source)
    if executor is None:
        _by_torch(table, weights, space, spectrum, degrees, analyse, quadrature)
    else:
        launch_beta_step(
            executor, table, weights, space, spectrum, degrees, analyse=analyse, quadrature=quadrature
        )  # fmt: skip


def _by_torch(
    table: Tensor, weights: Tensor, space: Tensor, spectrum: Tensor, degrees: int, analyse: bool, quadrature: bool
) -> None:
    both = torch.cat([weights, weights.flip(0)]) if quadrature else torch.ones_like(weights).repeat(2)
    power = 2 if space.dim() == 4 else 1
    degree = torch.arange(degrees, device=space.device)
    factor = (2 * degree + 1).repeat_interleave((2 * degree + 1) ** power).to(space.dtype)[:, None]
    factor = torch.ones_like(factor) if quadrature else factor
    batch, rows, channels = spectrum.shape
    if analyse:
        function = octant.so3_beta if power == 2 else octant.s2_beta
        found = factor * function(table, space * both, degrees)
        spectrum.copy_(found.view(rows, batch, channels).transpose(0, 1))
    else:
        transposed = octant.so3_beta_transposed if power == 2 else octant.s2_beta_transposed
        transposed(table, factor * spectrum.transpose(0, 1).reshape(rows, -1), space, degrees)
        space.mul_(both)


def _beta_step_fake(
    table: Tensor, weights: Tensor, source: Tensor, out: Tensor, degrees: int, analyse: bool, quadrature: bool
) -> None:
    return None


for _key in ("CPU", "CUDA"):
    _LIBRARY.impl("beta_step", _beta_step, _key)
torch.library.register_fake("equiharness::beta_step", _beta_step_fake, lib=_LIBRARY)


def beta_step(
    table: Tensor, weights: Tensor, source: Tensor, out: Tensor, degrees: int, analyse: bool, quadrature: bool
) -> None:
    """Multiply every order, or pair of orders, by its table; a step of the transform, writes out.

    Args:
        table: the octant of the Wigner table, or the northern half of the Legendre table: see `wigner.beta_step`.
        weights: quadrature weights of the northern colatitudes, [b].
        source: space [orders, orders, 4 items, 2b] or [orders, 2 items, 2b] (analysis), or the spectrum [batch, rows,
            channels] in real form (synthesis); float32 or float64.
        out: the other of the two; orders that are not there are not written on a GPU: pass zeros.
        degrees: number of degrees.
        analyse: which way.
        quadrature: times the weights; without, times 2 l + 1.
    """
    torch.ops.equiharness.beta_step(table, weights, source, out, degrees, analyse, quadrature)
