"""kappa, the factor by which a layer amplifies rounding: the one place that draws perturbations and combines them.

    P = ||f_32(x) - f_*(x)|| / D          what a run in float32 loses
    C = ||f_*(x + xi) - f_*(x)|| / (eps D),  |xi| = eps |x|          the conditioning of the problem
    kappa = max(1, C, min(P / eps_32, 2^8 max(1, C)))

P alone would let a layer that computes in half precision widen its own bound; C is measured at few points. So P counts
up to 2^8 C, eight bits more than the problem and the algorithm lose in float64. C includes the noise of f_* itself, up
to 2^8 P / eps_32: sums that cancel lose the same digits in every precision, and float32 inside float64 does not. What a
layer loses beyond that is no structure: ``decide`` calls it IMPRECISE(PRECISION). The gradient of a linear map does not
depend on the input, so its C is 0, and it still rounds: below 1, C counts 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import torch

from ..harness.claim.claim import Claim
from ..harness.fields.field import Field
from ..harness.precisions import EPS
from ..harness.trees import Tree, leaves, tree_map

#: Number of random-sign perturbations for the conditioning C.
PERTURBATIONS = 3
#: Relative distance of two points on opposite sides of x: a kink lies between them with this probability alone.
ASIDE = 2.0**-32
#: Float32 rounding counts up to this many times the conditioning, and the noise of f_* up to this many times it:
#: 8 bits, as many as LOST_BITS.
BEYOND = 2.0**8


class Kappa:
    """kappa for each summand, from the losses and changes added so far; their largest counts.

    Entries that are not finite give no information about rounding: a summand that is zero for every input has no size
    to be relative to, and NaN is judged as NaN elsewhere. They count 0.

    Example:
        >>> kappa = Kappa()
        >>> kappa.add_change(torch.tensor([2.0, 50.0]) * EPS["float64"])
        >>> kappa.add_loss(torch.tensor([7000.0, 3.0]) * EPS["float32"])
        >>> kappa.value.tolist(), kappa.condition.tolist()
        ([512.0, 50.0], [2.0, 50.0])
    """

    def __init__(self) -> None:
        self._loss = self._change = self._noise = self._floor = torch.zeros(1, dtype=torch.float64)

    def add_loss(self, relative: torch.Tensor) -> None:
        """Add P, the relative losses [..., summand] of a run in float32."""
        self._loss = _larger(self._loss, relative, EPS["float32"])

    def add_change(self, relative: torch.Tensor, eps: float = EPS["float64"]) -> None:
        """Add the relative changes [..., summand] of an output whose input, or whose constants, changed by ``eps``."""
        self._change = _larger(self._change, relative, eps)

    def add_noise(self, relative: torch.Tensor) -> None:
        """Add the relative noise [..., summand] of f_* itself: what it gives where only its own rounding differs."""
        self._noise = _larger(self._noise, relative, EPS["float64"])

    def add_floor(self, relative: torch.Tensor, eps: float) -> None:
        """Add the relative scatter [..., summand] of a layer without f_*, in units of ``eps``. It counts in full."""
        self._floor = _larger(self._floor, relative, eps)

    def _combined(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """C, the loss that counts and the floor, [summand] each."""
        known = (self._loss, self._change, self._noise, self._floor)
        loss, change, noise, floor = torch.broadcast_tensors(*(v.to(self._change.device) for v in known))
        condition = torch.maximum(change, torch.minimum(noise, BEYOND * loss.clamp(min=1.0)))
        return condition, torch.minimum(loss, BEYOND * condition.clamp(min=1.0)), floor

    @property
    def value(self) -> torch.Tensor:
        """kappa [summand], at least 1."""
        return torch.stack(self._combined()).amax(0).clamp(min=1.0)

    @property
    def condition(self) -> torch.Tensor:
        """C [summand], at least 1."""
        return self._combined()[0].clamp(min=1.0)

    @property
    def worst(self) -> float:
        """The largest kappa of all summands."""
        return float(self.value.max())

    @property
    def worst_condition(self) -> float:
        """The largest C of all summands, at least 1."""
        return float(self.condition.max())


def _larger(known: torch.Tensor, relative: torch.Tensor, eps: float) -> torch.Tensor:
    """The entrywise maximum of what is known and of new relative errors [..., summand], in units of eps."""
    rows = torch.where(relative.isfinite(), relative, 0.0).double().reshape(-1, relative.shape[-1])
    if not rows.numel():
        return known
    return torch.maximum(*torch.broadcast_tensors(known.to(rows), rows.amax(0) / eps))


def samples_of(claim: Claim) -> Tree:
    """The samples at which a claim is checked, float64: exact in the working precision, and on the source's band.

    Those of float64 claims are exact in float32 too, because P compares the two precisions at one point.
    """
    return settled(claim, claim.draw(claim.samples))


def settled(claim: Claim, x: Tree) -> Tree:
    """Inputs as ``samples_of`` gives them: rounded once, then projected on the source's band."""
    dtype = torch.float32 if claim.dtype is torch.float64 else claim.dtype
    x = tree_map(lambda v: v.to(dtype).double() if v.is_floating_point() else v, x)
    return tree_map(lambda leaf, v: leaf.project(v) if isinstance(leaf, Field) else v, claim.source, x)


def perturbed(x: Tree, seed: int, eps: float = EPS["float64"]) -> Iterator[Tree]:
    """Inputs that differ from x by random signs times eps |x|: PERTURBATIONS draws, the same for the same seed."""
    generator = torch.Generator().manual_seed(seed + 1)
    for _ in range(PERTURBATIONS):
        yield tree_map(lambda v: nudge(v, eps, generator), x)


#: Adds the relative difference of an output from f_*(x) to a kappa.
Add = Callable[["Kappa", torch.Tensor], None]


def neighbours(run: Callable[[Tree], Tree], x: Tree, seed: int) -> Iterator[tuple[Tree, Add]]:
    """Outputs of f_* that would equal f_*(x) but for rounding, each with the method that adds its difference.

    At the inputs of ``perturbed`` the input was rounded otherwise. The mean (3 f_*(x + h) + f_*(x - 3 h)) / 4, with
    |h| = 2^-32 |x|, was computed otherwise: it differs from f_*(x) by 2^-64 of the curvature of a smooth function. It
    shows sums that cancel inside the layer, which a change of the last bit of x only shows by luck. At x - h the
    rounding of such a sum would be that at x + h, reversed.
    """
    for moved in perturbed(x, seed):
        yield run(moved), Kappa.add_change
    generators = (torch.Generator().manual_seed(seed + 1) for _ in range(2))
    up, down = (
        run(tree_map(lambda v, g=g, factor=factor: nudge(v, factor * ASIDE, g), x))
        for g, factor in zip(generators, (1, -3), strict=True)
    )
    yield tree_map(lambda a, b: (3 * a + b) / 4 if a.is_floating_point() else a, up, down), Kappa.add_noise


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


def largest_of(numbers: Iterable[float], least: float = 0.0) -> float:
    """The largest number, at least ``least``; NaN if any is NaN, which ``max`` drops.

    Example:
        >>> largest_of([1.0, math.nan]), largest_of([], 1.0)
        (nan, 1.0)
    """
    listed = [least, *numbers]
    return math.nan if any(math.isnan(v) for v in listed) else max(listed)


def nudge(value: torch.Tensor, eps: float, generator: torch.Generator) -> torch.Tensor:
    """value + xi with |xi| = eps |value| and random signs; integers stay unchanged."""
    if not value.is_floating_point():
        return value
    signs = torch.randint(0, 2, value.shape, generator=generator).to(value) * 2 - 1
    return value + value * signs * eps
