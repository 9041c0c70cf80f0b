"""Samples and perturbations behind kappa, the factor by which a layer enlarges rounding errors."""

from __future__ import annotations

import torch

from ..harness.trees import Tree, leaves

#: Samples in a batch: D needs at least four; a power of two keeps the mean of equal samples exact.
SAMPLES = 4
#: Random-sign perturbations of relative size eps_64 behind the conditioning C.
PERTURBATIONS = 3


def values_of(tree: Tree) -> list[torch.Tensor]:
    """The tensors of a tree, in the order of its leaves."""
    return [v for _, v in leaves(tree)]


def is_finite(tree: Tree) -> bool:
    """Whether every value of a tree is finite."""
    # A sum of float64 numbers of float32 size overflows for no real tensor, and passes over the data once.
    return all(bool(v.sum().isfinite()) or bool(v.isfinite().all()) for v in values_of(tree))


def largest(values: torch.Tensor) -> float:
    """The largest entry, 0 of nothing."""
    return float(values.max()) if values.numel() else 0.0


def nudge(value: torch.Tensor, eps: float, generator: torch.Generator) -> torch.Tensor:
    """Value + xi with |xi| = eps |value| and random signs; integers stay."""
    if not value.is_floating_point():
        return value
    signs = torch.randint(0, 2, value.shape, generator=generator).to(value) * 2 - 1
    return value + value * signs * eps
