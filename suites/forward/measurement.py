"""The measuring loop of an equivariance check: errors, rounding, conditioning and the errors of wrong actions.

    D_s = max(||f_*(x_s) - mean||, 1e-3 RMS)      E_* = ||f_*(a_g x) - b_g f_*(x)|| / D
    P = ||f_p - f_*|| / D                         C = ||f_*(x + xi) - f_*(x)|| / (eps_64 D)

This module only measures; ``equivariance`` gives the verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from ...harness.claim.claim import Claim
from ...harness.claim.diagram import ROTATED_VIEWS, diagram
from ...harness.claim.evaluation import Subject
from ...harness.claim.memo import state_of
from ...harness.claim.scale import Scale
from ...harness.errors import HarnessError, UsageError
from ...harness.fields.field import Field
from ...harness.precisions import EPS, claim_eps
from ...harness.records.lines import Attachment
from ...harness.symmetry.groups import Element
from ...harness.trees import Tree, leaves, tree_map
from ...harness.verdict.decide import LARGEST_DEFECT, Evidence, decide
from ...harness.verdict.result import Reason, Verdict
from ..controls import SAME_ACTION, wrong_actions
from ..rounding import Kappa, is_finite, largest, largest_of, neighbours, nudge, perturbed, values_of
from .homomorphism import defect

#: Elements at which a float64 claim is also run in float32, for kappa. Moved samples count as samples, and S allows for
#: the rounding errors of all samples at POOLED elements.
POOLED = 8
#: Sums in another order scatter 2^29 times less in float64 than in float32; a random layer does not.
SCATTERS_LESS = 2.0**20
#: Where no float64 form exists, this many steps of the working precision may be sums in another order.
SCATTERED_BITS = 2.0**6
#: A wrong action moves a typical output by about the output's own size. If it moves an output by less than this share,
#: the sample may be the cause. The number decides only how many samples are used, never a verdict.
NEARLY_SYMMETRIC = 1e-2


@dataclass
class LeafTally:
    """The measurements of one target leaf; arrays over fibre summands, worst over samples."""

    path: str
    leaf: Any
    scale: Scale
    kappa: Kappa = field(default_factory=Kappa)
    errors: list[torch.Tensor] = field(default_factory=list)
    errors_max: list[torch.Tensor] = field(default_factory=list)
    centred: list[torch.Tensor] = field(default_factory=list)
    hidden_kappa: torch.Tensor | None = None
    single_kappa: torch.Tensor | None = None
    seen: list[float] = field(default_factory=list)
    precision: list[float] = field(default_factory=list)
    wrong: list[torch.Tensor | None] = field(default_factory=list)
    input_variation: torch.Tensor | None = None


@dataclass
class Measured:
    """All measurements of the loop over elements, before any verdict."""

    claim: Claim
    elements: list[Element]
    tallies: list[LeafTally]
    defect: float
    finite: bool
    repeatable: bool
    scatter: float
    stateful: tuple[str, ...]
    estimated: bool
    samples: int
    picture: Attachment | None
    #: f_p(x) of the first call.
    first: Tree
    #: (g, g x, f(g x)) of the first sample at the first elements, for the stabilised view.
    rotated: tuple[tuple[Element, Tree, Tree], ...] = ()


def measure(subject: Subject, elements: Sequence[Element], x: Tree, rng: np.random.Generator) -> Measured:
    """Run the layer at all elements and collect errors, rounding, conditioning and the errors of wrong actions."""
    claim = subject.claim
    with subject.guarded() as changed:
        y_p = subject.working(x)
        again = subject.working(x, fresh=True)
        y = subject.probe_reference(x)
        estimated = y is None
        y = y_p if y is None else y
        claim = replace(claim, target=tree_map(lambda leaf, v: leaf.require_fit(v, "The output"), claim.target, y))
        finite = is_finite(y_p) and is_finite(y)
        repeatable, scatter = repeats(subject, x, y_p, again)
        tallies = [LeafTally(path, leaf, Scale.of(leaf, v)) for (path, leaf), (_, v) in _rows(claim, y)]
        loop = _Loop(subject, claim, x, y, y_p, tallies, estimated, rng)
        if finite and repeatable:
            loop.estimate_floor() if estimated else loop.estimate_rounding()
            for tally in tallies if scatter else []:
                tally.kappa.add_floor(torch.full((1,), scatter, dtype=torch.float64), claim_eps(loop.dtype))
            moved = [loop.moved(g) for g in elements]
            if not estimated:
                exact = [v for gx, rounded in moved for v in (gx, rounded)[: 1 if rounded is gx else 2]]
                subject.evaluate_together(x, [rounded for _, rounded in moved], exact)
            for g, (gx, rounded) in zip(elements, moved, strict=True):
                loop.visit(g, elements, gx, rounded)
    return Measured(
        claim=claim,
        elements=list(elements),
        tallies=tallies,
        defect=defect(claim, x, y, elements) if finite else 0.0,
        finite=finite and loop.finite,
        repeatable=repeatable,
        scatter=scatter,
        stateful=tuple(changed),
        estimated=estimated,
        samples=claim.samples,
        picture=loop.picture,
        first=y_p,
        rotated=tuple(loop.rotated),
    )


class _Loop:
    """The loop over elements, with the stored outputs at x."""

    def __init__(
        self,
        subject: Subject,
        claim: Claim,
        x: Tree,
        y: Tree,
        y_p: Tree,
        tallies: list[LeafTally],
        estimated: bool,
        rng: np.random.Generator,
    ) -> None:
        self.subject, self.claim, self.x, self.y, self.y_p = subject, claim, x, y, y_p
        self.tallies, self.estimated, self.rng = tallies, estimated, rng
        self.outputs = [v for _, v in leaves(y)]
        self.working = [v for _, v in leaves(y_p)]
        self.finite = True
        self.picture: Attachment | None = None
        self.rotated: list[tuple[Element, Tree, Tree]] = []
        self.dtype = str(claim.dtype).removeprefix("torch.")
        self._worst = -1.0
        self._pooled = 0
        #: P and I at x together: x is exact in the working precision, except for the projection on a band.
        self.loss_at_x = [t.scale.relative(a - b) for t, a, b in zip(tallies, self.working, self.outputs, strict=True)]
        self.probes = [torch.from_numpy(rng.standard_normal(v[:1].shape)).to(v.device) for v in self.outputs]

    def estimate_rounding(self) -> None:
        """kappa from the rounding at x and from the conditioning C = ||f_*(x + xi) - f_*(x)|| / (eps_64 D)."""
        rounded = self.subject.through(self.x, self.claim.dtype)
        y = self.y if same_values(rounded, self.x) else self.subject.reference(rounded)
        self._pool(self._rounding(rounded, y, self.y_p))
        for moved, add in neighbours(self.subject.reference, self.x, self.claim.seed):
            for tally, a, b in zip(self.tallies, values_of(moved), self.outputs, strict=True):
                add(tally.kappa, tally.scale.rounding(a - b))
        for tally, a, b in zip(self.tallies, self.working, values_of(y), strict=True):
            tally.precision.append(largest(tally.scale.rounding(a - b)))
            tally.input_variation = tally.scale.relative(b - b.roll(1, 0))

    def estimate_floor(self) -> None:
        """kappa without f_*: from input noise of relative size eps_p and from other positions in the batch."""
        eps_p = EPS[str(self.claim.dtype).removeprefix("torch.")]
        generator = torch.Generator().manual_seed(self.claim.seed + 1)
        noisy = self.subject.working(tree_map(lambda v: nudge(v, eps_p, generator), self.x))
        rolled = self.subject.working(tree_map(lambda v: v.roll(1, 0), self.x))
        scale = claim_eps(str(self.claim.dtype).removeprefix("torch."))
        for tally, a, b, y in zip(self.tallies, values_of(noisy), values_of(rolled), self.working, strict=True):
            tally.kappa.add_floor(torch.full((1,), eps_p, dtype=torch.float64), scale)
            tally.kappa.add_floor(tally.scale.rounding(a - y), scale)
            tally.kappa.add_floor(tally.scale.rounding(b.roll(-1, 0) - y), scale)
            tally.input_variation = tally.scale.relative(y - y.roll(1, 0))

    def moved(self, g: Element) -> tuple[Tree, Tree]:
        """a_g x, and a_g x rounded to the working precision."""
        gx = self.claim.act(self.claim.source, g, self.x)
        # x is exact in the working precision, and so is a permutation of it.
        permutes = all(leaf.permutes(g) for _, leaf in leaves(self.claim.source))
        return gx, gx if permutes else self.subject.through(gx, self.claim.dtype)

    def visit(self, g: Element, elements: Sequence[Element], gx: Tree, rounded: Tree) -> None:
        """Measure the errors at one element, on every leaf."""
        claim, subject = self.claim, self.subject
        fgx_p = subject.working(rounded)
        if self.estimated or subject.own_reference:
            fgx = fgx_rounded = fgx_p
        else:
            fgx = subject.reference(gx)
            fgx_rounded = fgx if rounded is gx or same_values(gx, rounded) else subject.reference(rounded)
        if not (is_finite(fgx) and is_finite(fgx_p)):
            self.finite = False
            return
        if not self.estimated and claim.dtype is not torch.float32 and self._pooled < POOLED:
            self._pooled += 1
            self._pool(self._rounding(rounded, fgx_rounded, fgx_p))
        rows = zip(self.tallies, values_of(fgx), values_of(fgx_rounded), values_of(fgx_p), strict=True)
        targets = []
        for i, (tally, a, a_rounded, a_p) in enumerate(rows):
            target = tally.leaf.act(g, self.outputs[i])
            targets.append(target)
            _same_shape(tally, a, target)
            difference = a - target
            error = tally.scale.relative(difference)
            tally.errors.append(error.amax(0))
            # The mean over samples is subtracted only from errors that rounding in float64 cannot explain.
            suspicious = bool((error > LARGEST_DEFECT).any())
            tally.centred.append((tally.scale.centred(difference) if suspicious else error).amax(0))
            tally.errors_max.append(tally.scale.relative_max(difference, _amplification(tally.leaf, g)).amax(0))
            self._precision(i, tally, g, error, a, a_rounded, a_p)
            tally.wrong.append(self._wrong(i, tally, g, elements, a))
        self._keep_picture(g, gx, fgx, targets)

    def _precision(
        self,
        i: int,
        tally: LeafTally,
        g: Element,
        error: torch.Tensor,
        a: torch.Tensor,
        a_rounded: torch.Tensor,
        a_p: torch.Tensor,
    ) -> None:
        """Measure E_p and P at a_g x, and check the triangle inequality between them."""
        if a_p is a:  # the working run is the reference, so the seen error is the structural error
            tally.seen.append(largest(error))
            tally.precision.append(0.0)
            return
        rounding = a_p - a_rounded
        loss = tally.scale.rounding(rounding)
        tally.precision.append(largest(loss))
        if self.claim.dtype is torch.float32:
            tally.kappa.add_loss(loss)
        seen = tally.scale.relative(a_p - tally.leaf.act(g, self.working[i]))
        tally.seen.append(largest(seen))
        if isinstance(tally.leaf, Field):
            parts = error + self.loss_at_x[i] + tally.scale.relative(rounding)
            _self_check(seen, parts if a_rounded is a else parts + tally.scale.relative(a_rounded - a))

    def _wrong(
        self, i: int, tally: LeafTally, g: Element, elements: Sequence[Element], a: torch.Tensor
    ) -> torch.Tensor | None:
        """The errors [wrong action, sample, summand] of wrong target actions at g; None if there is no wrong action.

        W is a maximum over samples. The sample with the largest deviation bounds W from below at a fraction of the
        cost. If that output is nearly symmetric by itself (a constant one), the other samples are used too.
        """
        if g.is_identity:
            return None
        probe, moved = self.probes[i], tally.leaf.act(g, self.probes[i])
        trials = [(wrong, wrong(probe)) for wrong in wrong_actions(self.claim.group, tally.leaf, g, elements)]
        others = [
            wrong
            for wrong, trial in trials
            if trial.shape == moved.shape and _norm(trial - moved) > SAME_ACTION * _norm(moved)
        ]
        if not others:
            return None
        order = tally.scale.euclidean.sum(1).argsort(descending=True).tolist()
        found: list[torch.Tensor] = []
        for s in order:
            y, fgx = self.outputs[i][s : s + 1], a[s : s + 1]
            found.append(torch.stack([tally.scale.relative_of(s, fgx - wrong(y)) for wrong in others]))
            if bool(found[-1].amax(-1).amin(0).max() > NEARLY_SYMMETRIC):
                break
        return torch.cat(found, 1)

    def _rounding(self, x: Tree, reference: Tree, working: Tree) -> list[torch.Tensor]:
        single = working if self.claim.dtype is torch.float32 else self.subject.single(x)
        if (
            self.claim.dtype is not torch.float32
        ):  # float32 rounds its input, so both runs are compared at the rounded point
            rounded = self.subject.through(x, torch.float32)
            reference = reference if same_values(rounded, x) else self.subject.reference(rounded)
        return [a - b for a, b in zip(values_of(single), values_of(reference), strict=True)]

    def _pool(self, differences: list[torch.Tensor]) -> None:
        for tally, difference in zip(self.tallies, differences, strict=True):
            tally.kappa.add_loss(tally.scale.rounding(difference))

    def _keep_picture(self, g: Element, gx: Tree, fgx: Tree, targets: list[torch.Tensor]) -> None:
        error = max(float(t.errors[-1].nan_to_num(torch.inf).max()) for t in self.tallies)
        if not g.is_identity and len(self.rotated) < ROTATED_VIEWS:
            self.rotated.append((g, tree_map(lambda v: v[:1], gx), tree_map(lambda v: v[:1], fgx)))
        if not g.is_identity and error > self._worst:
            self._worst = error
            moving = iter(targets)
            gfx = tree_map(lambda _: next(moving), self.claim.target)
            self.picture = diagram(self.claim, g, self.x, gx, self.y, gfx, fgx)


def unfit(subject: Subject, x: Tree) -> Reason | None:
    """Why no property could judge the layer at x in its own precision: NaN, two results of one input, moved buffers."""
    with subject.guarded() as changed:
        y, again = subject.working(x), subject.working(x, fresh=True)
        repeatable, scatter = repeats(subject, x, y, again)
    evidence = Evidence(
        dtype=str(subject.claim.dtype).removeprefix("torch."),
        error=0.0,
        unit_bound=1.0,
        kappa=1.0,
        finite=is_finite(y),
        repeatable=repeatable,
        scatter=scatter,
        stateful=tuple(changed),
    )
    verdict, reason = decide(evidence)
    return reason if verdict is Verdict.BROKEN else None


def repeats(subject: Subject, x: Tree, y: Tree, again: Tree) -> tuple[bool, float]:
    """Whether two calls at x agree but for sums in another order, and by how much of the output they differ.

    Sums in another order differ by rounding, so in float64 by 2^-29 of what they do in float32. A layer that draws
    random numbers, or whose output depends on earlier calls, differs by as much in every precision.
    """
    if same_values(y, again) or not (is_finite(y) and is_finite(again)):
        return True, 0.0
    seen = _apart(y, again)
    eps = EPS[str(subject.claim.dtype).removeprefix("torch.")]
    if seen > SCATTERED_BITS * eps and _moves_buffers(subject, x):
        return False, seen
    if subject.claim.dtype is torch.float64:
        fine, coarse = seen, _apart(subject.single(x), subject.single(x, fresh=True))
    else:
        if not subject.has_reference:
            return seen <= SCATTERED_BITS * eps, seen
        fine, coarse = _apart(subject.reference(x), subject.reference(x, fresh=True)), seen
    return fine <= max(LARGEST_DEFECT, coarse / SCATTERS_LESS), seen


def _moves_buffers(subject: Subject, x: Tree) -> bool:
    """Whether a call changes the tensors of the claim's modules, so that the next call may differ for that reason."""
    before = state_of(subject.claim.modules)
    subject.working(x, fresh=True)
    return state_of(subject.claim.modules) != before


def still_repeats(subject: Subject, measured: Measured, x: Tree) -> bool:
    """Whether the layer says of x what it said before all the other calls, up to the scatter of its calls."""
    if not (measured.finite and measured.repeatable):
        return True
    with subject.guarded():
        now = subject.working(x, fresh=True)
    eps = EPS[str(subject.claim.dtype).removeprefix("torch.")]
    return _apart(measured.first, now) <= max(SCATTERED_BITS * eps, 2 * measured.scatter)


def _apart(a: Tree, b: Tree) -> float:
    """The largest difference of two outputs, relative to the size of the first."""
    pairs = zip(values_of(a), values_of(b), strict=True)
    return largest_of(_norm(u - v) / max(_norm(u), 1e-300) for u, v in pairs)


def look_behind_constants(subject: Subject, measured: Measured, x: Tree) -> None:
    """kappa of the input-dependent part: its change when every constant and input is rounded to float32, in float64.

    P_32 includes the rounding of a large constant part of the output; this conditioning does not, because the mean
    over samples is subtracted. Of a float64 claim the function as it is may round to float32 inside: its change when
    only the input changes by float32's epsilon is ``single_kappa``.
    """
    if measured.estimated:
        return
    eps = EPS["float32"]
    own = measured.claim.dtype is torch.float64
    with subject.guarded():
        outputs = values_of(subject.reference(x))
        for draw, nudged in enumerate(perturbed(x, measured.claim.seed, eps)):
            changed = [values_of(subject.perturbed(nudged, eps, measured.claim.seed + draw))]
            changed += [values_of(subject.reference(nudged))] if own else []
            for moved in changed:
                for tally, a, b in zip(measured.tallies, moved, outputs, strict=True):
                    kappa = (tally.scale.centred(a - b).amax(0) / eps).clamp(min=1)
                    tally.hidden_kappa = _larger(tally.hidden_kappa, kappa)
            for tally, a, b in zip(measured.tallies, changed[-1] if own else [], outputs, strict=own):
                kappa = (tally.scale.rounding(a - b).amax(0) / eps).clamp(min=1)
                tally.single_kappa = _larger(tally.single_kappa, kappa)


def _larger(known: torch.Tensor | None, kappa: torch.Tensor) -> torch.Tensor:
    return kappa if known is None else torch.maximum(known, kappa)


def _rows(claim: Claim, y: Tree) -> Any:
    return zip(leaves(claim.target), leaves(tree_map(lambda _, v: v, claim.target, y)), strict=True)


def same_values(a: Tree, b: Tree) -> bool:
    """Whether two trees hold the same values, NaN in the same places included."""
    return all(torch.equal(u, v) or _equal_with_nan(u, v) for u, v in zip(values_of(a), values_of(b), strict=True))


def _equal_with_nan(u: torch.Tensor, v: torch.Tensor) -> bool:
    return u.shape == v.shape and bool(((u == v) | (u.isnan() & v.isnan())).all())


def _norm(values: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(values))


def _same_shape(tally: LeafTally, a: torch.Tensor, target: torch.Tensor) -> None:
    if a.shape != target.shape:
        raise UsageError(
            f"f(g x) has shape {list(a.shape)} and g f(x) {list(target.shape)}"
            f"{' in ' + tally.path if tally.path else ''}: "
            "the target field does not move with the source. Give both the same group and matching grids."
        )


def _amplification(leaf: Any, g: Element) -> float:
    """||b_g||_inf, at least 1: the largest row sum of the fibre's matrices."""
    if not isinstance(leaf, Field):
        return 1.0
    return max(1.0, *(float(np.abs(rep.of(g)).sum(1).max()) for _, rep in leaf.fibre.terms))


def _self_check(seen: torch.Tensor, sum_of_parts: torch.Tensor) -> None:
    """Check the triangle inequality E_p <= E_* + P(x) + P(a_g x) + I; a failure is a bug of the harness."""
    if bool((seen > sum_of_parts * (1 + 1e-6) + 1e-14).any()):
        raise HarnessError(
            f"The seen error {float(seen.max()):.3e} exceeds the sum of its parts {float(sum_of_parts.max()):.3e}: "
            "this is a bug of equiharness; please report it with the line that reproduces it."
        )
