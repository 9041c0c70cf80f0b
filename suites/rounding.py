"""Samples and perturbations for kappa, the factor by which a layer amplifies rounding errors."""

from __future__ import annotations

import torch

from ..harness.trees import Tree, leaves

#: Samples in a batch: D needs at least four, and with a power of two the mean of equal samples is exact.
SAMPLES = 4
#: Number of random-sign perturbations of relative size eps_64 for the conditioning C.
PERTURBATIONS = 3


def values_of(tree: Tree) -> list[torch.Tensor]:
    """The tensors of a tree, in the order of its leaves."""
    return [v for _, v in leaves(tree)]


def is_finite(tree: Tree) -> bool:
    """Whether every value of a tree is finite."""
    # The sum needs one pass over the data. Float64 sums of numbers of float32 size do not overflow in practice.
    return all(bool(v.sum().isfinite()) or bool(v.isfinite().all()) for v in values_of(tree))


def largest(values: torch.Tensor) -> float:
    """The largest entry; 0 for an empty tensor."""
    return float(values.max()) if values.numel() else 0.0


def nudge(value: torch.Tensor, eps: float, generator: torch.Generator) -> torch.Tensor:
    """value + xi with |xi| = eps |value| and random signs; integers stay unchanged."""
    if not value.is_floating_point():
        return value
    signs = torch.randint(0, 2, value.shape, generator=generator).to(value) * 2 - 1
    return value + value * signs * eps
