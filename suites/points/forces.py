"""Forces: F = -dE/dx, along random directions of all points at once, compared with limits of finite differences."""

from __future__ import annotations

import time

import torch

from ...harness.claim.claim import Claim
from ...harness.claim.outcome import Outcome
from ...harness.errors import UsageError
from ...harness.fields.atoms import Energy, Forces
from ...harness.trees import leaves
from ...harness.verdict.decide import SAFETY
from ...harness.verdict.result import CheckResult, Code, Reason, Verdict
from .limits import FIRST_STEP, STEPS, Limit, Model, extrapolate, judge, not_claimed, result

#: Number of random directions. Each moves all points, so every direction detects the fault of one point.
DIRECTIONS = 4


def forces(claim: Claim) -> Outcome:
    """The forces of the target are -dE/dx of its energy, along random directions of all points at once.

    Returns:
        EXACT or BROKEN(GRADIENT), with the factor if the forces are a multiple of -dE/dx; VACUOUS or AMBIGUOUS if the
        forces of other points would pass too; SKIPPED if no target leaf is ``Forces``.
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
    forces, noise = y[path], model.noise(energy, x)
    generator = torch.Generator().manual_seed(claim.seed + 4)
    step = FIRST_STEP * float(_nearest(x).min())
    slopes, errors, along, others = [], [], [], []
    for _ in range(DIRECTIONS):
        v = torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x)
        limit = _slope(model, energy, x, v, step, noise)
        slopes.append(-limit.value)
        errors.append(limit.error)
        along.append((forces * v).flatten(1).sum(1))
        others.append((forces.roll(1, 1) * v).flatten(1).sum(1))
    wanted, found = torch.stack(slopes), torch.stack(along)
    if not wanted.any() and not found.any():
        reason = Reason(
            code=Code.VACUOUS, message="the energy does not change when points move, so the check proves nothing."
        )
        return result(claim, "forces", Verdict.VACUOUS, reason, 0.0, SAFETY * model.eps, 0.0)
    # Each direction has its own bound, so a rough direction (a pair crosses a cutoff) affects only its own entry.
    scale = wanted.square().mean().sqrt().clamp(min=1e-300)
    bounds = SAFETY * (torch.stack(errors) / scale).clamp(min=model.eps)
    errors_ = (found - wanted).abs() / scale
    worst = int((errors_ / bounds).argmax())
    error, bound = float(errors_.flatten()[worst]), float(bounds.flatten()[worst])
    wrong = [w - wanted for w in (torch.stack(others), -found, 0 * found)]
    power = min(float((w.abs() / scale / bounds).max()) for w in wrong)
    verdict, reason = judge(error, bound, power)
    if verdict is Verdict.BROKEN and reason.code == Code.ERROR:
        reason = Reason(code=Code.GRADIENT, message=_how_forces_differ(found, wanted, error, bound))
    return result(claim, "forces", verdict, reason, error, bound, power).model_copy(
        update={"leaf": path, "element": f"sample {worst % len(x)}"}
    )


def _slope(model: Model, energy: str, x: torch.Tensor, v: torch.Tensor, step: float, noise: torch.Tensor) -> Limit:
    """dE/dv [sample] by central differences."""
    values, rounding = [], []
    for k in range(STEPS):
        h = step / 2**k
        difference = model.energy(energy, x + h * v) - model.energy(energy, x - h * v)
        values.append(difference / (2 * h))
        rounding.append(noise / h)
    return extrapolate(values, rounding, 2)


def _how_forces_differ(found: torch.Tensor, wanted: torch.Tensor, error: float, bound: float) -> str:
    text = f"the forces are not -dE/dx: they differ by {error:.2g} where finite differences explain {bound:.2g}"
    factor = float((found * wanted).sum() / wanted.square().sum()) if wanted.any() else 0.0
    rest = (found - factor * wanted).abs().max() / max(float(wanted.square().mean().sqrt()), 1e-300)
    if abs(factor) > bound and float(rest) < 0.01 * error:
        return f"{text}; they are {factor:.6g} times -dE/dx."
    return f"{text}. Return -torch.autograd.grad(energy.sum(), positions)[0], or add the missing term."


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
