"""Cutoffs: the energy and its slope have the same limit from both sides when a pair of points crosses the cutoff."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from ...harness.claim.claim import Claim
from ...harness.claim.outcome import Outcome, describe
from ...harness.fields.atoms import Cell, Energy, Index, positions_of
from ...harness.trees import leaves, tree_map
from ...harness.verdict.decide import SAFETY
from ...harness.verdict.result import CheckResult, Code, ElementResult, Reason, Verdict
from ..quotients import Limit, extrapolate
from .limits import FIRST_STEP, STEPS, Model, judge, not_claimed, result

#: Number of directions tried to find one in which an atom moves away from all others.
OUTWARD = 64


def smoothness(claim: Claim) -> Outcome:
    """The energy and its slope have the same limit from both sides when a pair of points crosses the cutoff.

    Returns:
        EXACT or BROKEN(JUMP, KINK); VACUOUS if the energy does not depend on that pair; SKIPPED without a cutoff.
    """
    start = time.perf_counter()
    found = [(path, leaf) for path, leaf in leaves(claim.target) if isinstance(leaf, Energy) and leaf.cutoff]
    if not found or not positions_of(claim.source):
        message = "no energy is declared with a cutoff: eh.Energy(cutoff=5.0), with eh.Positions among the inputs."
        return Outcome(not_claimed(claim, "smoothness", message))
    model = _far_from_images(Model.of(claim, wrap=False), max(leaf.cutoff or 0 for _, leaf in found))
    with model.subject.guarded():
        worst = max((_smoothness_of(model, *pair) for pair in found), key=lambda r: r.verdict.severity)
    seconds = {"seconds": time.perf_counter() - start, "seconds_in_layer": model.subject.seconds}
    return Outcome(worst.model_copy(update=seconds))


def _far_from_images(model: Model, cutoff: float) -> Model:
    """The model in cells so large that no image of a point is near when one pair is moved apart to the cutoff."""
    extent = float(model.positions.abs().max())

    def grown(leaf: Any, v: torch.Tensor) -> torch.Tensor:
        if not isinstance(leaf, Cell):
            return v
        return v * max(1.0, 4 * (extent + cutoff) / float(torch.linalg.matrix_norm(v, -2).min()))

    return replace(model, x=tree_map(grown, model.claim.source, model.x))


def _smoothness_of(model: Model, path: str, leaf: Energy) -> CheckResult:
    claim, cutoff = model.claim, float(leaf.cutoff or 0)
    if model.positions.shape[1] < 2:
        reason = Reason(code=Code.ONE_POINT, message="one point has no pair that could cross the cutoff.")
        return describe(claim, "smoothness", Verdict.SKIPPED, reason)
    ray = _Ray.through(model)

    def energy(distance: float) -> torch.Tensor:
        return model.energy(path, ray.at(distance))

    here = energy(cutoff)
    sides = []
    for sign in (1, -1):
        # Rounding is measured one step away, because at the cutoff itself the least nudge may change sides.
        noise = model.noise(path, ray.at(cutoff * (1 + sign * FIRST_STEP)))
        sides.append(_one_sided(energy, cutoff, sign, noise.seen))
    (outer, slope_out), (inner, slope_in) = sides
    # The scale is the change of the pair's energy over half a cutoff; for the slope, this change / cutoff.
    scale = (energy(cutoff / 2) - here).abs().max()
    if float(scale) == 0:
        reason = Reason(
            code=Code.VACUOUS,
            message=f"the energy does not change when a pair moves from {cutoff:g} to half of it: nothing is proved.",
        )
        return result(claim, "smoothness", Verdict.VACUOUS, reason, 0.0, SAFETY * model.eps, 0.0)
    rows = [
        (Code.JUMP, "energy jumps", _jump(outer, inner, scale, model.eps)),
        (Code.KINK, "force jumps", _jump(slope_out, slope_in, scale / cutoff, model.eps)),
    ]
    code, what, (error, bound) = max(rows, key=lambda row: row[2][0] / row[2][1])
    verdict, reason = judge(error, bound, 1 / bound)
    if verdict is Verdict.BROKEN:
        text = f"the {what} by {error:.2g} of what the pair contributes where a pair crosses {cutoff:g}"
        reason = Reason(code=code, message=f"{text}; multiply each pair's term by an envelope that vanishes there.")
    elements = tuple(ElementResult(element=w, error=e, bound=b) for _, w, (e, b) in rows)
    return result(claim, "smoothness", verdict, reason, error, bound, 1 / bound).model_copy(
        update={"leaf": path, "element": f"a pair at {cutoff:g}", "elements": elements}
    )


def _jump(a: Limit, b: Limit, scale: torch.Tensor, eps: float) -> tuple[float, float]:
    """The relative difference of two limits, worst over samples, and the bound from their errors."""
    error = (a.value - b.value).abs() / scale
    bound = SAFETY * ((a.error + b.error) / scale).clamp(min=eps)
    worst = int((error / bound).argmax())
    return float(error[worst]), float(bound[worst])


def _one_sided(
    energy: Callable[[float], torch.Tensor], cutoff: float, sign: int, rounding: torch.Tensor
) -> tuple[Limit, Limit]:
    """The limits of the energy and of its slope towards the cutoff, from outside (1) or inside (-1)."""
    steps = [FIRST_STEP * cutoff / 2**k for k in range(STEPS + 1)]
    values = [energy(cutoff + sign * h) for h in steps]
    limit = extrapolate(values, [rounding] * len(steps), 1)
    quotients = [(a - b) / (sign * h / 2) for a, b, h in zip(values, values[1:], steps, strict=False)]
    slopes = extrapolate(quotients, [4 * rounding / h for h in steps[:-1]], 1)
    return limit, slopes


@dataclass(frozen=True)
class _Ray:
    """In each sample one point moves along a ray that starts at another point and leads away from all others."""

    positions: torch.Tensor
    start: torch.Tensor
    moved: torch.Tensor
    direction: torch.Tensor

    @classmethod
    def through(cls, model: Model) -> _Ray:
        x = model.positions
        generator = torch.Generator().manual_seed(model.claim.seed + 5)
        tried = torch.randn(OUTWARD, x.shape[-1], generator=generator, dtype=torch.float64).to(x)
        tried = tried / tried.norm(dim=-1, keepdim=True)
        start, moved, chosen = [], [], []
        for s in range(len(x)):
            pairs = _pairs(model, s)
            heights = tried @ x[s].T
            # The distance by which the pair's first point is ahead of all others except the moved point.
            ahead = []
            for i, j in pairs:
                others = [k for k in range(x.shape[1]) if k not in (i, j)]
                behind = heights[:, others].amax(1) if others else heights[:, i] - 1
                ahead.append((heights[:, i] - behind).max(0))
            best = max(range(len(pairs)), key=lambda p: float(ahead[p].values))
            start.append(pairs[best][0])
            moved.append(pairs[best][1])
            chosen.append(tried[ahead[best].indices])
        return cls(x, torch.tensor(start), torch.tensor(moved), torch.stack(chosen))

    def at(self, distance: float) -> torch.Tensor:
        """The positions with the moved point at this distance from the ray's start."""
        x, rows = self.positions.clone(), torch.arange(len(self.positions))
        x[rows, self.moved] = x[rows, self.start] + distance * self.direction
        return x


def _pairs(model: Model, sample: int) -> list[tuple[int, int]]:
    """Pairs that may interact: the edges of the inputs, or else neighbours in the list of points."""
    count = model.positions.shape[1]
    for (_, leaf), (_, value) in zip(leaves(model.claim.source), leaves(model.x), strict=True):
        if isinstance(leaf, Index) and value.dim() == 3 and value.shape[1] == 2:
            return [(int(i), int(j)) for i, j in value[sample].T.tolist() if i != j]
    return [(i, (i + 1) % count) for i in range(count)]
