"""Equivariance, forward: E_* and E_p for every exact element, against a derived bound, with proof of power.

D_s = max(||f_*(x_s) - mean||, 1e-3 RMS)      E_* = ||f_*(a_g x) - b_g f_*(x)|| / D
kappa = max(1, P_32/eps_32, C)                bound = S kappa (eps + delta)
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from ..harness.claim import Claim
from ..harness.error import Scale
from ..harness.errors import HarnessError, UsageError
from ..harness.fields import Field, shape_after
from ..harness.groups import Element, haar_independent
from ..harness.pictures import diagram
from ..harness.record import Attachment
from ..harness.subject import Subject
from ..harness.trees import Tree, leaves, tree_map
from ..harness.verdict import (
    EPS,
    SAFETY,
    CheckResult,
    ElementError,
    Evidence,
    Reason,
    Verdict,
    claim_eps,
    decide,
    lost_bits,
    tightest_eps,
)
from .homomorphism import defect

#: Samples in a batch: D needs at least four; a power of two keeps the mean of equal samples exact.
SAMPLES = 4
#: Elements drawn from a continuous group.
HAAR_SAMPLES = 4
#: Random-sign perturbations of relative size eps_64 behind the conditioning C.
PERTURBATIONS = 3
#: Relative move that parts ties: a thousand steps of float32, so that tens of equal values stay apart once rounded.
JITTER = 1e-4
#: Two actions closer than this on a random probe are the same action and prove nothing.
SAME_ACTION = 1e-6


@dataclass(frozen=True)
class Outcome:
    """A result and the picture that goes with it."""

    result: CheckResult
    picture: Attachment | None = None


@dataclass
class _LeafTally:
    """What one target leaf has shown so far; arrays over fibre summands, worst over samples."""

    path: str
    leaf: Any
    scale: Scale
    kappa: torch.Tensor
    errors: list[torch.Tensor] = field(default_factory=list)
    errors_max: list[torch.Tensor] = field(default_factory=list)
    centred: list[torch.Tensor] = field(default_factory=list)
    hidden_kappa: torch.Tensor | None = None
    seen: list[float] = field(default_factory=list)
    precision: list[float] = field(default_factory=list)
    wrong: list[torch.Tensor | None] = field(default_factory=list)
    input_variation: torch.Tensor | None = None


@dataclass
class Measured:
    """Everything the loop over elements found, before any verdict."""

    claim: Claim
    elements: list[Element]
    tallies: list[_LeafTally]
    defect: float
    finite: bool
    repeatable: bool
    stateful: tuple[str, ...]
    estimated: bool
    samples: int
    picture: Attachment | None


def equivariance(claim: Claim, *, jitter: bool = True) -> Outcome:
    """f(a_g x) = b_g f(x) for every element of the claim's group that source and target move without interpolation.

    Args:
        claim: what is claimed.
        jitter: retry a failure with inputs moved by 1e-4, to tell a tie from a fault.

    Returns:
        EXACT, IMPRECISE, AMBIGUOUS, VACUOUS or BROKEN with its reason, the errors of each element, and a diagram.

    Raises:
        UsageError: fields and tensors do not fit.
    """
    start = time.perf_counter()
    rng = np.random.default_rng(claim.seed)
    drawn = claim.group.representatives(rng, HAAR_SAMPLES)
    elements = [g for g in drawn if claim.exact(g)]
    if all(g.is_identity for g in elements):
        reason = Reason(
            code="NO_EXACT_ELEMENTS", message=f"no element of {claim.group.name} maps the grid onto itself."
        )
        return Outcome(describe(claim, "equivariance", Verdict.SKIPPED, reason))
    subject = Subject(claim)
    x = claim.draw(SAMPLES)
    measured = measure(subject, elements, x, rng)
    judged = [_judge(measured, tally, jitter_passes=False) for tally in measured.tallies]
    if any(_needs_closer_look(evidence) for evidence, *_ in judged):
        _look_behind_constants(subject, measured, subject.through(x, claim.dtype))
        judged = [_judge(measured, tally, jitter_passes=False) for tally in measured.tallies]
    if jitter and any(verdict is Verdict.BROKEN and r.code == "ERROR" for _, _, verdict, r in judged):
        moved = measure(subject, elements, _jittered(x, claim.seed), rng)
        passes = all(_judge(moved, t, jitter_passes=False)[2] is not Verdict.BROKEN for t in moved.tallies)
        judged = [_judge(measured, tally, jitter_passes=passes) for tally in measured.tallies]
    elif jitter and any(_lost_in_jumps(evidence, verdict, r) for evidence, _, verdict, r in judged):
        moved = measure(subject, elements, _jittered(x, claim.seed), rng)
        again = [_judge(moved, tally, jitter_passes=False) for tally in moved.tallies]
        if any(verdict is Verdict.BROKEN for _, _, verdict, _ in again):
            measured, judged = moved, again
        elif all(verdict in (Verdict.EXACT, Verdict.IMPRECISE) for _, _, verdict, _ in again):
            judged = [_judge(measured, tally, jitter_passes=True) for tally in measured.tallies]
    result = _report(measured, judged)
    seconds = {"seconds": time.perf_counter() - start, "seconds_in_layer": subject.seconds}
    return Outcome(result.model_copy(update=seconds), measured.picture)


def measure(subject: Subject, elements: Sequence[Element], x: Tree, rng: np.random.Generator) -> Measured:
    """Run the layer over all elements and collect errors, rounding, conditioning and the errors of wrong actions."""
    claim = subject.claim
    with subject.guarded() as changed:
        # Samples are exact in the working precision, and those of float64 claims in float32 too: P_32 compares the
        # two precisions at one point.
        x = subject.through(x, torch.float32 if claim.dtype is torch.float64 else claim.dtype)
        y_p = subject.working(x)
        repeatable = _same(y_p, subject.working(x))
        y = subject.probe_reference(x)
        estimated = y is None
        y = y_p if y is None else y
        claim = replace(claim, target=tree_map(lambda leaf, v: leaf.require_fit(v, "The output"), claim.target, y))
        finite = _finite(y_p) and _finite(y)
        tallies = [_LeafTally(path, leaf, Scale.of(leaf, v), torch.ones(1)) for (path, leaf), (_, v) in _rows(claim, y)]
        loop = _Loop(subject, claim, x, y, y_p, tallies, estimated, rng)
        if finite and repeatable:
            loop.estimate_floor() if estimated else loop.estimate_rounding()
            for g in elements:
                loop.visit(g, elements)
    return Measured(
        claim=claim,
        elements=list(elements),
        tallies=tallies,
        defect=defect(claim, x, y, elements) if finite else 0.0,
        finite=finite and loop.finite,
        repeatable=repeatable,
        stateful=tuple(changed),
        estimated=estimated,
        samples=SAMPLES,
        picture=loop.picture,
    )


class _Loop:
    """The loop over elements, with the outputs at x at hand."""

    def __init__(
        self,
        subject: Subject,
        claim: Claim,
        x: Tree,
        y: Tree,
        y_p: Tree,
        tallies: list[_LeafTally],
        estimated: bool,
        rng: np.random.Generator,
    ) -> None:
        self.subject, self.claim, self.x, self.y, self.y_p = subject, claim, x, y, y_p
        self.tallies, self.estimated, self.rng = tallies, estimated, rng
        self.outputs = [v for _, v in leaves(y)]
        self.working = [v for _, v in leaves(y_p)]
        self.finite = True
        self.picture: Attachment | None = None
        self._worst = -1.0
        self.probes = [torch.from_numpy(rng.standard_normal(v[:1].shape)).to(v.device) for v in self.outputs]

    def estimate_rounding(self) -> None:
        """kappa from the rounding at x and from the conditioning C = ||f_*(x + xi) - f_*(x)|| / (eps_64 D)."""
        self._pool(self._rounding(self.x, self.y, self.y_p), EPS["float32"])
        generator = torch.Generator().manual_seed(self.claim.seed + 1)
        for _ in range(PERTURBATIONS):
            moved = self.subject.reference(tree_map(lambda v: _nudge(v, EPS["float64"], generator), self.x))
            for tally, a, b in zip(self.tallies, _values(moved), self.outputs, strict=True):
                self._raise_kappa(tally, tally.scale.rounding(a - b).amax(0) / EPS["float64"])
        for tally, a, b in zip(self.tallies, self.working, self.outputs, strict=True):
            tally.precision.append(_largest(tally.scale.rounding(a - b)))
            tally.input_variation = tally.scale.relative(b - b.roll(1, 0))

    def estimate_floor(self) -> None:
        """Without f_*: kappa from input noise of relative eps_p and from other positions in the batch."""
        eps_p = EPS[str(self.claim.dtype).removeprefix("torch.")]
        generator = torch.Generator().manual_seed(self.claim.seed + 1)
        noisy = self.subject.working(tree_map(lambda v: _nudge(v, eps_p, generator), self.x))
        turned = self.subject.working(tree_map(lambda v: v.roll(1, 0), self.x))
        scale = claim_eps(str(self.claim.dtype).removeprefix("torch."))
        for tally, a, b, y in zip(self.tallies, _values(noisy), _values(turned), self.working, strict=True):
            self._raise_kappa(tally, torch.full((1,), eps_p / scale, dtype=torch.float64))
            self._raise_kappa(tally, tally.scale.rounding(a - y).amax(0) / scale)
            self._raise_kappa(tally, tally.scale.rounding(b.roll(-1, 0) - y).amax(0) / scale)
            tally.input_variation = tally.scale.relative(y - y.roll(1, 0))

    def visit(self, g: Element, elements: Sequence[Element]) -> None:
        """Errors at one element, on every leaf."""
        claim, subject = self.claim, self.subject
        gx = claim.act(claim.source, g, self.x)
        rounded = subject.through(gx, claim.dtype)
        fgx_p = subject.working(rounded)
        if self.estimated:
            fgx = fgx_rounded = fgx_p
        else:
            fgx = subject.reference(gx)
            fgx_rounded = fgx if _same(gx, rounded) else subject.reference(rounded)
            self._pool(self._rounding(rounded, fgx_rounded, fgx_p), EPS["float32"])
        if not (_finite(fgx) and _finite(fgx_p)):
            self.finite = False
            return
        rows = zip(self.tallies, _values(fgx), _values(fgx_rounded), _values(fgx_p), strict=True)
        targets = []
        for i, (tally, a, a_rounded, a_p) in enumerate(rows):
            target = tally.leaf.act(g, self.outputs[i])
            targets.append(target)
            _same_shape(tally, a, target)
            error = tally.scale.relative(a - target)
            seen = tally.scale.relative(a_p - tally.leaf.act(g, self.working[i]))
            loss = tally.scale.relative(a_p - a_rounded)
            tally.errors.append(error.amax(0))
            tally.centred.append(tally.scale.centred(a - target).amax(0))
            tally.errors_max.append(tally.scale.relative_max(a - target, _amplification(tally.leaf, g)).amax(0))
            tally.seen.append(_largest(seen))
            tally.precision.append(_largest(tally.scale.rounding(a_p - a_rounded)))
            if isinstance(tally.leaf, Field):
                at_x = tally.scale.relative(self.working[i] - self.outputs[i])
                _self_check(seen, error + at_x + loss + tally.scale.relative(a_rounded - a))
            tally.wrong.append(self._wrong(i, tally, g, elements, a, target))
        self._keep_picture(g, gx, fgx, targets)

    def _wrong(
        self, i: int, tally: _LeafTally, g: Element, elements: Sequence[Element], a: torch.Tensor, target: torch.Tensor
    ) -> torch.Tensor | None:
        """Errors [wrong action, sample, summand] that wrong target actions would have given at g; None without any."""
        if g.is_identity:
            return None
        probe, moved = self.probes[i], tally.leaf.act(g, self.probes[i])
        errors = []
        for wrong in self._wrong_actions(tally.leaf, g, elements):
            trial = wrong(probe)
            if trial.shape != moved.shape or _norm(trial - moved) <= SAME_ACTION * _norm(moved):
                continue
            errors.append(tally.scale.relative(a - wrong(self.outputs[i])))
        return torch.stack(errors) if errors else None

    def _wrong_actions(self, leaf: Any, g: Element, elements: Sequence[Element]) -> list[Any]:
        """H_g: identity, g^-1, an independent element, a permuted fibre."""
        others = [self.claim.group.identity, self.claim.group.inverse(g)]
        independent = haar_independent([h for h in elements if not h.is_identity and h is not g], g)
        others += [independent] if independent is not None else []
        if isinstance(leaf, Field):
            others = [h for h in others if shape_after(leaf, h) == shape_after(leaf, g)]
        actions: list[Any] = [lambda v, h=h: leaf.act(h, v) for h in others]
        if isinstance(leaf, Field) and any(rep.dim > 1 for _, rep in leaf.fibre.terms):
            actions.append(lambda v: leaf.permuted_fibre(leaf.act(g, v)))
        return actions

    def _rounding(self, x: Tree, reference: Tree, working: Tree) -> list[torch.Tensor]:
        single = working if self.claim.dtype is torch.float32 else self.subject.single(x)
        if self.claim.dtype is not torch.float32:  # float32 rounds its own input: compare at the same point
            rounded = self.subject.through(x, torch.float32)
            reference = reference if _same(rounded, x) else self.subject.reference(rounded)
        return [a - b for a, b in zip(_values(single), _values(reference), strict=True)]

    def _pool(self, differences: list[torch.Tensor], eps: float) -> None:
        for tally, difference in zip(self.tallies, differences, strict=True):
            self._raise_kappa(tally, tally.scale.rounding(difference).amax(0) / eps)

    @staticmethod
    def _raise_kappa(tally: _LeafTally, value: torch.Tensor) -> None:
        tally.kappa = torch.maximum(tally.kappa.to(value), value)

    def _keep_picture(self, g: Element, gx: Tree, fgx: Tree, targets: list[torch.Tensor]) -> None:
        error = max(float(t.errors[-1].nan_to_num(torch.inf).max()) for t in self.tallies)
        if not g.is_identity and error > self._worst:
            self._worst = error
            moving = iter(targets)
            gfx = tree_map(lambda _: next(moving), self.claim.target)
            self.picture = diagram(self.claim, g.name, self.x, gx, self.y, gfx, fgx)


def _needs_closer_look(evidence: Evidence) -> bool:
    """Errors that only float32 constants could explain."""
    return evidence.bound(EPS["float64"]) < evidence.error <= evidence.bound(EPS["float32"])


def _lost_in_jumps(evidence: Evidence, verdict: Verdict, reason: Reason) -> bool:
    """Errors that a bound beyond the whole output excuses: at a tie the smallest perturbation makes the layer jump."""
    excused = verdict is Verdict.VACUOUS or reason.code in ("ILL_CONDITIONED", "LOW_POWER")
    return excused and evidence.error > SAFETY * claim_eps(evidence.dtype)


def _look_behind_constants(subject: Subject, measured: Measured, x: Tree) -> None:
    """kappa of the input-dependent part: what a float32 rounding of every constant and input does to it, in float64.

    P_32 counts the rounding of a large constant part of the output; this conditioning does not, because the constant
    part cancels in the mean over samples.
    """
    if measured.estimated:
        return
    generator = torch.Generator().manual_seed(measured.claim.seed + 3)
    eps = EPS["float32"]
    with subject.guarded():
        outputs = _values(subject.reference(x))
        for draw in range(PERTURBATIONS):
            nudged = tree_map(lambda v: _nudge(v, eps, generator), x)
            moved = _values(subject.perturbed(nudged, eps, measured.claim.seed + draw))
            for tally, a, b in zip(measured.tallies, moved, outputs, strict=True):
                kappa = (tally.scale.centred(a - b).amax(0) / eps).clamp(min=1)
                tally.hidden_kappa = kappa if tally.hidden_kappa is None else torch.maximum(tally.hidden_kappa, kappa)


def _hidden(tally: _LeafTally, delta: float) -> dict[str, float]:
    """Error and bound of the input-dependent part at its worst element and summand, where it was looked at."""
    if tally.hidden_kappa is None:
        return {}
    bound = SAFETY * tally.hidden_kappa * (EPS["float32"] + delta)
    errors = torch.stack(tally.centred)
    where = int((errors / bound).argmax())
    g, summand = divmod(where, errors.shape[1])
    return {"hidden_error": float(errors[g, summand]), "hidden_bound": float(bound[summand])}


def _judge(measured: Measured, tally: _LeafTally, *, jitter_passes: bool) -> tuple[Evidence, int, Verdict, Reason]:
    """Evidence and verdict of one leaf, and the index of its worst element."""
    dtype = str(measured.claim.dtype).removeprefix("torch.")
    common: dict[str, Any] = {
        "dtype": dtype,
        "finite": measured.finite,
        "repeatable": measured.repeatable,
        "stateful": measured.stateful,
        "estimated": measured.estimated,
        "jitter_passes": jitter_passes,
        "defect": measured.defect,
    }
    if not tally.errors:
        evidence = Evidence(error=0.0, unit_bound=SAFETY, kappa=1.0, **common)
        return evidence, 0, *decide(evidence)
    errors = torch.stack(tally.errors)
    unit = SAFETY * tally.kappa.expand(errors.shape[1])
    ratios = torch.where(errors == 0, 0.0, errors / unit).nan_to_num(torch.inf, torch.inf)
    where = int(ratios.argmax())
    g, summand = divmod(where, errors.shape[1])
    evidence = Evidence(
        error=float(errors[g, summand]),
        unit_bound=float(unit[summand]),
        kappa=float(tally.kappa.expand(errors.shape[1])[summand]),
        wrong=_power_units(tally, unit),
        wrong_unit=1.0,
        precision=max(tally.precision, default=0.0),
        **_hidden(tally, measured.defect),
        **common,
    )
    return evidence, g, *decide(evidence)


def _power_units(tally: _LeafTally, unit: torch.Tensor) -> float:
    """min over g of W(g), in units of S kappa: the worst sample and summand of the best wrong action."""
    powers = [_over(wrong, unit).amax(-1).amin(0).max() for wrong in tally.wrong if wrong is not None]
    if not powers and tally.input_variation is not None:
        powers = [_over(tally.input_variation, unit).max()]
    return float(min(powers)) if powers else 0.0


def _over(errors: torch.Tensor, unit: torch.Tensor) -> torch.Tensor:
    """errors / unit, where a summand that never varies (x/0 = inf) or is lost in rounding counts as no proof."""
    return torch.where(errors.isfinite() & unit.isfinite(), errors / unit, 0.0)


def _report(measured: Measured, judged: list[tuple[Evidence, int, Verdict, Reason]]) -> CheckResult:
    """The worst leaf decides; numbers are those of that leaf."""
    index = max(range(len(judged)), key=lambda i: (judged[i][2].severity, _ratio(judged[i][0])))
    evidence, g, verdict, reason = judged[index]
    tally = measured.tallies[index]
    eps = claim_eps(evidence.dtype)
    kappa_bound = evidence.bound(eps)
    elements = [
        ElementError(
            element=element.name,
            error=_largest(tally.errors[i]),
            error_max=_largest(tally.errors_max[i]),
            bound=kappa_bound,
            seen=tally.seen[i],
            precision=tally.precision[i + 1] if len(tally.precision) > i + 1 else 0.0,
        )
        for i, element in enumerate(measured.elements)
        if i < len(tally.errors)
    ]
    return describe(measured.claim, "equivariance", verdict, reason).model_copy(
        update={
            "samples": measured.samples,
            "error": evidence.error if tally.errors else None,
            "error_max": max((e.error_max for e in elements), default=None),
            "bound": kappa_bound if tally.errors else None,
            "power": evidence.power(tightest_eps(evidence)) if tally.errors else None,
            "kappa": evidence.kappa,
            "seen": max(tally.seen, default=None),
            "precision": evidence.precision,
            "lost_bits": lost_bits(evidence),
            "defect": measured.defect,
            "element": measured.elements[g].name if tally.errors else "",
            "leaf": tally.path,
            "elements": tuple(elements),
        }
    )


def describe(claim: Claim, name: str, verdict: Verdict, reason: Reason) -> CheckResult:
    """A result of this claim without numbers."""
    return CheckResult(
        property=name,
        verdict=verdict,
        reason=reason,
        group=claim.group.name,
        source=_text(claim.source),
        target=_text(claim.target),
        dtype=str(claim.dtype).removeprefix("torch."),
        device=claim.device,
        seed=claim.seed,
        reproduce=claim.reproduce,
    )


def _text(tree: Tree) -> str:
    return ", ".join(f"{path}: {leaf}" if path else str(leaf) for path, leaf in leaves(tree))


def _rows(claim: Claim, y: Tree) -> Any:
    return zip(leaves(claim.target), leaves(tree_map(lambda _, v: v, claim.target, y)), strict=True)


def _values(tree: Tree) -> list[torch.Tensor]:
    return [v for _, v in leaves(tree)]


def _ratio(evidence: Evidence) -> float:
    bound = evidence.bound(claim_eps(evidence.dtype))
    return 0.0 if evidence.error == 0 else evidence.error / bound if bound else float("inf")


def _same(a: Tree, b: Tree) -> bool:
    return all(torch.equal(u, v) or _equal_with_nan(u, v) for u, v in zip(_values(a), _values(b), strict=True))


def _equal_with_nan(u: torch.Tensor, v: torch.Tensor) -> bool:
    return u.shape == v.shape and bool(((u == v) | (u.isnan() & v.isnan())).all())


def _finite(tree: Tree) -> bool:
    return all(bool(v.isfinite().all()) for v in _values(tree))


def _largest(values: torch.Tensor) -> float:
    return float(values.max()) if values.numel() else 0.0


def _norm(values: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(values))


def _same_shape(tally: _LeafTally, a: torch.Tensor, target: torch.Tensor) -> None:
    if a.shape != target.shape:
        raise UsageError(
            f"f(g x) has shape {list(a.shape)} and g f(x) {list(target.shape)}{' in ' + tally.path if tally.path else ''}: "
            "the target field does not move with the source. Give both the same group and matching grids."
        )


def _amplification(leaf: Any, g: Element) -> float:
    """||b_g||_inf, at least 1: the largest row sum of the fibre's matrices."""
    if not isinstance(leaf, Field):
        return 1.0
    return max(1.0, *(float(np.abs(rep.of(g)).sum(1).max()) for _, rep in leaf.fibre.terms))


def _self_check(seen: torch.Tensor, sum_of_parts: torch.Tensor) -> None:
    """E_p <= E_* + P(x) + P(a_g x) + I, a triangle inequality: its failure would be a bug of the harness."""
    if bool((seen > sum_of_parts * (1 + 1e-6) + 1e-14).any()):
        raise HarnessError(
            f"The seen error {float(seen.max()):.3e} exceeds the sum of its parts {float(sum_of_parts.max()):.3e}: "
            "this is a bug of equiharness; please report it with the line that reproduces it."
        )


def _nudge(value: torch.Tensor, eps: float, generator: torch.Generator) -> torch.Tensor:
    """value + xi with |xi| = eps |value| and random signs; integers stay."""
    if not value.is_floating_point():
        return value
    signs = torch.randint(0, 2, value.shape, generator=generator).to(value) * 2 - 1
    return value + value * signs * eps


def _jittered(x: Tree, seed: int) -> Tree:
    generator = torch.Generator().manual_seed(seed + 2)

    def move(value: torch.Tensor) -> torch.Tensor:
        if not value.is_floating_point():
            return value
        noise = torch.randn(value.shape, generator=generator, dtype=torch.float64).to(value)
        return value + JITTER * value.square().mean().sqrt() * noise

    return tree_map(move, x)
