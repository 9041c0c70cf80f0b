"""Structured inputs: inputs that layers meet in use and that white noise rarely resembles.

Each kind fills a batch of any shape [batch, *channels, *domain] with float64 values. Samples differ from each other,
because a check measures errors relative to the variation of the outputs. The check projects spherical signals to their
band.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch

from ..fields.atoms import draw
from ..fields.field import Field
from ..trees import Tree, tree_map
from .claim import Claim

#: Spread of the kind "wide range": the standard deviation of the logarithm. With 3, one value in a hundred is more than
#: a factor exp(2.6 * 3) = 2000 above or below the median, which exceeds the eleven bits of a half-precision number.
SPREAD = 3.0
#: Number of cosines in a band-limited signal, on each axis: frequencies of 0, 1 and 2 half waves.
WAVES = 3

Kind = Callable[[torch.Tensor, int, torch.Generator], torch.Tensor]


def impulse(noise: torch.Tensor, axes: int, generator: torch.Generator) -> torch.Tensor:
    """The largest value of each sample, and zero elsewhere."""
    flat = noise.flatten(1)
    where = flat.abs().argmax(1, keepdim=True)
    return torch.zeros_like(flat).scatter(1, where, flat.gather(1, where)).reshape(noise.shape)


def one_channel(noise: torch.Tensor, axes: int, generator: torch.Generator) -> torch.Tensor:
    """Noise in one channel of each sample, and zero in the others."""
    lead = noise.flatten(1, noise.dim() - axes - 1)
    kept = torch.randint(lead.shape[1], (len(lead),), generator=generator)
    mask = torch.arange(lead.shape[1])[None] == kept[:, None]
    return (lead * mask.reshape(*mask.shape, *[1] * axes)).reshape(noise.shape)


def constant(noise: torch.Tensor, axes: int, generator: torch.Generator) -> torch.Tensor:
    """One value for each channel, the same at every point."""
    if axes == 0:  # torch takes a mean over no axes as a mean over all axes
        return noise
    return noise.mean(tuple(range(noise.dim() - axes, noise.dim())), keepdim=True).expand_as(noise).clone()


def checkerboard(noise: torch.Tensor, axes: int, generator: torch.Generator) -> torch.Tensor:
    """One value for each channel with alternating signs: the highest frequency of the grid."""
    signs = torch.ones(noise.shape[noise.dim() - axes :], dtype=noise.dtype)
    for axis, length in enumerate(signs.shape):
        alternating = 1.0 - 2.0 * (torch.arange(length) % 2)
        signs = signs * alternating.reshape([-1 if i == axis else 1 for i in range(axes)])
    return constant(noise, axes, generator) * signs


def band_limited(noise: torch.Tensor, axes: int, generator: torch.Generator) -> torch.Tensor:
    """Random sums of the lowest cosines along each axis."""
    value = noise
    for axis in range(noise.dim() - axes, noise.dim()):
        length = noise.shape[axis]
        angles = math.pi * (torch.arange(length, dtype=noise.dtype) + 0.5) / length
        waves = torch.cos(torch.arange(min(WAVES, length))[:, None] * angles)
        projection = waves.mT @ torch.linalg.pinv(waves.mT)
        value = torch.tensordot(value, projection, dims=([axis], [1])).movedim(-1, axis)
    return value


def white(noise: torch.Tensor, axes: int, generator: torch.Generator) -> torch.Tensor:
    """The noise itself."""
    return noise


def wide(noise: torch.Tensor, axes: int, generator: torch.Generator) -> torch.Tensor:
    """Noise times exp(3 n) for normal n: magnitudes over many decades in one sample."""
    return noise * (SPREAD * torch.randn(noise.shape, generator=generator, dtype=noise.dtype)).exp()


#: Kinds of inputs, the simplest first. A search shrinks a failure towards the simplest kind.
KINDS: Mapping[str, Kind] = {
    "impulse": impulse,
    "one channel": one_channel,
    "constant": constant,
    "checkerboard": checkerboard,
    "band-limited": band_limited,
    "white noise": white,
    "wide range": wide,
}


def structured(claim: Claim, kind: str) -> Callable[[int, torch.Generator], Tree] | None:
    """A function that draws inputs of one kind, for ``inputs`` of a claim; None if the claim already has ``inputs``.

    Args:
        claim: the claim. Its fields get inputs of this kind; other leaves (positions, cells, labels) keep their inputs.
        kind: one of ``KINDS``.

    Example:
        >>> from equiharness import Claim, Field, Grid
        >>> field = Field(Grid(3, 3), "C4", "trivial")
        >>> made = structured(Claim(torch.relu, "C4", field, field), "impulse")
        >>> int((made(4, torch.Generator().manual_seed(0)) != 0).sum())
        4
    """
    if claim.inputs is not None:
        return None
    shape = KINDS[kind]

    def made(count: int, generator: torch.Generator) -> Tree:
        def shaped(leaf: object, noise: torch.Tensor) -> torch.Tensor:
            if type(leaf) is not Field:
                return noise
            values = leaf.domain.channels_first(noise)
            axes = len(leaf.domain.axes) or values.dim() - 2
            return leaf.domain.as_given(shape(values, axes, generator), noise)

        return tree_map(shaped, claim.source, draw(claim.source, count, generator))

    return made
