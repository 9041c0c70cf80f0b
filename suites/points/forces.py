"""Forces: F = -dE/dx, along a random direction of all points at once, compared with limits of finite differences."""

from __future__ import annotations

import math
import time

import torch

from ...harness.claim.claim import Claim
from ...harness.claim.evaluation import seeded
from ...harness.claim.outcome import Outcome
from ...harness.claim.recast import recast
from ...harness.errors import UsageError
from ...harness.fields.atoms import Energy, Forces
from ...harness.precisions import LOST_BITS
from ...harness.trees import leaves, tree_map
from ...harness.verdict.decide import SAFETY
from ...harness.verdict.result import CheckResult, Code, Reason, Verdict
from ..quotients import derivative
from .limits import FIRST_STEP, ROUGH, Model, Noise, judge, not_claimed, result

#: Number of steps, each half the one before, of which usually three or four are needed. The smallest is 2^-24 of the
#: smallest distance between points: a ripple of that length would be finer than the float32 positions.
STEPS = 21
#: A slope known to this share of the slopes needs no further step.
GOOD_ENOUGH = 1e-7
#: Forces that differ by a smaller share were computed from one gradient. It decides only which advice is given.
SAME_FORCES = 1e-9


def forces(claim: Claim) -> Outcome:
    """The forces of the target are -dE/dx of its energy, along a random direction of all points at once.

    Returns:
        EXACT or BROKEN(GRADIENT), with the factor if the forces are a multiple of -dE/dx; IMPRECISE(PRECISION) if a
        float64 energy has the noise of float32; AMBIGUOUS(ROUGH) if no differences converge; VACUOUS or AMBIGUOUS if
        the forces of other points would pass too; SKIPPED if no target leaf is ``Forces``.
    """
    start = time.perf_counter()
    found = [(path, leaf) for path, leaf in leaves(claim.target) if isinstance(leaf, Forces)]
    if not found:
        return Outcome(not_claimed(claim, "forces", "no target leaf is declared as eh.Forces(n, group)."))
    model = Model.of(claim)
    with model.subject.guarded():
        worst = max((_forces_of(model, *pair) for pair in found), key=lambda r: r.verdict.severity)
    seconds = {"seconds": time.perf_counter() - start, "seconds_in_layer": model.subject.seconds}
    return Outcome(worst.model_copy(update=seconds))


def _forces_of(model: Model, path: str, leaf: Forces) -> CheckResult:
    claim, x = model.claim, model.positions
    energy = _energy_of(claim, path, leaf)
    y = model.at(x)
    if not (bool(y[path].isfinite().all()) and bool(y[energy].isfinite().all())):
        message = "the energy or the forces are NaN or infinite where the positions are finite."
        reason = Reason(code=Code.NONFINITE, message=message)
        return result(claim, "forces", Verdict.BROKEN, reason, math.nan, math.nan, 0.0)
    noise = model.noise(energy, x)
    judged = _compared(model, path, energy, y[path], noise)
    unclear = claim.dtype is torch.float64 and not (judged.bound is not None and judged.bound <= SAFETY * GOOD_ENOUGH)
    if judged.verdict is Verdict.BROKEN or unclear:
        rounded = model.noise_of_single(energy, x, noise)
        judged = judged if rounded is noise else _compared(model, path, energy, y[path], rounded)
    return judged


def _compared(model: Model, path: str, energy: str, forces: torch.Tensor, noise: Noise) -> CheckResult:
    """The forces against the slopes of an energy with this noise."""
    claim, x = model.claim, model.positions
    # One direction for each sample. It moves all points, so every direction detects the fault of one point.
    generator = torch.Generator().manual_seed(claim.seed + 4)
    v = torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x)
    found, other = (forces * v).flatten(1).sum(1), (forces.roll(1, 1) * v).flatten(1).sum(1)
    slope = derivative(
        lambda h: model.energy(energy, x + h[:, None, None] * v),
        [[FIRST_STEP * _nearest(x) / 2**k for k in range(STEPS)]],
        noise.seen,
        claimed=-found,
        enough=GOOD_ENOUGH * found.square().mean().sqrt().expand_as(found),
    )
    known = slope.error.isfinite()
    wanted = torch.where(known, -slope.value, 0.0)
    if not bool(known.any()):
        reason = Reason(code=Code.ROUGH, message=ROUGH)
        return result(claim, "forces", Verdict.AMBIGUOUS, reason, math.nan, math.inf, 0.0)
    if not wanted.any() and not found.any():
        reason = Reason(
            code=Code.VACUOUS, message="the energy does not change when points move, so the check proves nothing."
        )
        return result(claim, "forces", Verdict.VACUOUS, reason, 0.0, SAFETY * model.eps, 0.0)
    # Each sample has its own bound, so a rough direction (a pair crosses a cutoff) affects only its own entry. Where no
    # quotients converge, the bound is infinite.
    scale = wanted[known].square().mean().sqrt().clamp(min=1e-300)
    bounds = SAFETY * (slope.error / scale).clamp(min=model.eps)
    errors = torch.where(known, (found - wanted).abs() / scale, 0.0)
    worst = int((errors / bounds).argmax()) if bool(errors.any()) else int(bounds.argmin())
    error, bound = float(errors[worst]), float(bounds[worst])
    power = min(float((w.abs() / scale / bounds).max()) for w in (other - wanted, -found - wanted, wanted))
    verdict, reason = judge(error, bound, power)
    if verdict is Verdict.BROKEN and reason.code == Code.ERROR:
        by_autograd = _by_autograd(model, energy, forces)
        message = _how_forces_differ(found[known], wanted[known], error, bound, by_autograd)
        reason = Reason(code=Code.GRADIENT, message=message)
    elif verdict is Verdict.EXACT and noise.lost_bits > LOST_BITS["float64"] and claim.dtype is torch.float64:
        message = (
            f"the forces are -dE/dx as far as the energy can tell, and the energy loses {noise.lost_bits:.0f} of "
            "float64's bits: look for float32 inside."
        )
        verdict, reason = Verdict.IMPRECISE, Reason(code=Code.PRECISION, message=message)
    return result(claim, "forces", verdict, reason, error, bound, power).model_copy(
        update={"leaf": path, "element": f"sample {worst}"}
    )


def _by_autograd(model: Model, energy: str, forces: torch.Tensor) -> bool | None:
    """Whether the forces are the gradient that autograd gives of the energy; None if it gives none."""
    claim, where = model.claim, iter([path for path, _ in leaves(model.claim.source)])
    function = claim.reference or recast(claim.function, torch.float64, own=claim.dtype)
    x = model.positions.clone().requires_grad_()
    try:
        with torch.enable_grad(), seeded(claim.call_seed, claim.device):
            # The points are a product, no leaf, so that models may mark their inputs or write into them.
            given = tree_map(lambda v: 1.0 * x if next(where) == model.path else v.clone(), model.x)
            y = dict(leaves(claim.bind(function)(given)))[energy]
            gradient = torch.autograd.grad(y.sum(), x)[0]
    except Exception:  # an experiment that the model cannot run gives no evidence
        return None
    return float((forces + gradient).norm()) <= SAME_FORCES * float(forces.norm())


def _how_forces_differ(
    found: torch.Tensor, wanted: torch.Tensor, error: float, bound: float, by_autograd: bool | None
) -> str:
    text = f"the forces are not -dE/dx: they differ by {error:.2g} where finite differences explain {bound:.2g}"
    factor = float((found * wanted).sum() / wanted.square().sum()) if wanted.any() else 0.0
    rest = (found - factor * wanted).abs().max() / max(float(wanted.square().mean().sqrt()), 1e-300)
    if abs(factor) > bound and float(rest) < 0.01 * error:
        return f"{text}; they are {factor:.6g} times -dE/dx."
    if by_autograd is None:
        return f"{text}. Return -torch.autograd.grad(energy.sum(), positions)[0], or add the missing term."
    if by_autograd:
        return (
            f"{text}. They are the gradient that autograd gives, so a term of the energy is detached or has a wrong "
            "backward: add the missing term."
        )
    return f"{text}. Return -torch.autograd.grad(energy.sum(), positions)[0]: its gradient is another one."


def _energy_of(claim: Claim, path: str, leaf: Forces) -> str:
    """The path of the energy of the forces: their sibling with the declared name, or the only ``Energy``."""
    known = dict(leaves(claim.target))
    sibling = f"{path.rpartition('.')[0]}.{leaf.energy}".lstrip(".")
    energies = [p for p, other in known.items() if isinstance(other, Energy)]
    if sibling in known:
        return sibling
    if len(energies) == 1:
        return energies[0]
    raise UsageError(
        f"The energy of the forces {path} is not clear. Name its leaf: eh.Forces(n, group, energy='energy')."
    )


def _nearest(x: torch.Tensor) -> torch.Tensor:
    """The smallest distance between points [sample]; 1 for a single point."""
    distances = torch.cdist(x, x)
    far = distances + torch.eye(x.shape[1]).to(x) * distances.amax().clamp(min=1.0)
    return far.flatten(1).amin(1).clamp(min=1e-3)
