"""Aliasing: nonlinear layers on band-limited signals, judged in the limit of large bandwidths.

A pointwise function of a signal of degrees l < b has all degrees. On a grid of bandwidth b, degrees from b on become
aliases, which do not move with a rotation as they should. This error falls as the grid is refined, at a rate set by the
function's smoothness; the error of a fault does not fall. Inputs have few degrees and are fixed in physical units, so
that they and their rotations are exact at every bandwidth.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...harness.claim.claim import Approximate, Claim
from ...harness.claim.diagram import diagram
from ...harness.claim.evaluation import Subject
from ...harness.claim.memo import state_of
from ...harness.claim.outcome import Outcome, describe
from ...harness.claim.scale import Scale
from ...harness.errors import HarnessError
from ...harness.fields.field import Field, replace_domain
from ...harness.precisions import EPS, claim_eps
from ...harness.records.lines import Attachment
from ...harness.symmetry.groups import Element
from ...harness.symmetry.harmonics import Band
from ...harness.trees import Tree, leaves, tree_map
from ...harness.verdict.decide import SAFETY
from ...harness.verdict.result import Code, Reason, Verdict
from ..rounding import Kappa, neighbours, samples_of
from .convergence import ELEMENTS, SAMPLES, BandwidthErrors, Rounding, conclude, rounding_of
from .homomorphism import defect

#: Number of degrees of the inputs: more than a constant and a gradient.
INPUT_DEGREES = 4
#: Least bandwidth of the coarsest grid by number of axes; larger on S2, which is cheap and whose errors vary more.
LEAST_BANDWIDTH = {2: 2 * INPUT_DEGREES, 3: INPUT_DEGREES}


def aliasing(claim: Claim) -> Outcome:
    """f(a_g x) against b_g f(x) for a nonlinear f, over the bandwidths of the claim's contract.

    Args:
        claim: the source is a single field on Sphere or Rotations, and the function accepts signals of every bandwidth.
            A function of one bandwidth only is AMBIGUOUS, unless the contract declares a ceiling.

    Returns:
        APPROXIMATE with the fitted order, the interval of the limit and the gain over an unconstrained layer; BROKEN
        if the limit is not zero; SKIPPED if the property equivariance judges the layer exactly.
    """
    start = time.perf_counter()
    if not may_alias(claim) or not isinstance(claim.source, Field):
        reason = Reason(code=Code.NOT_BAND_LIMITED, message="the source is not a single field on Sphere or Rotations.")
        return Outcome(describe(claim, "aliasing", Verdict.SKIPPED, reason))
    if not aliases(claim):
        reason = Reason(code=Code.NOTHING_ALIASES, message="the layer is affine or exact: equivariance judges it.")
        return Outcome(describe(claim, "aliasing", Verdict.SKIPPED, reason))
    contract = claim.contract
    assert isinstance(contract, Approximate)
    elements = _elements(claim)
    band = _band(_source(claim))
    lift = max(1.0, LEAST_BANDWIDTH[band.axes] / (band.b * min(contract.factors)))
    scaled = [_resized(claim, factor * lift) for factor in contract.factors]
    table: list[BandwidthErrors] = []
    refused, picture, seconds = "", None, 0.0
    try:
        for finest, x in zip(scaled, _inputs([_source(c) for c in scaled], claim), strict=True):
            row, picture, inside = _at(finest, elements, x)
            table.append(row)
            seconds += inside
    except HarnessError:
        raise
    except Exception as error:  # a layer built for one bandwidth may raise any error for others
        refused = f" The layer refuses other bandwidths ({type(error).__name__}: {error})."
        finest, x = claim, claim.draw(SAMPLES)
        row, picture, seconds = _at(finest, elements, x)
        table = [row]
    result = conclude(claim, "aliasing", table, elements, contract, _rounding(finest, elements, x))
    reason = result.reason.model_copy(update={"message": result.reason.message + refused})
    spent = {"seconds": time.perf_counter() - start, "seconds_in_layer": seconds}
    return Outcome(result.model_copy(update={**spent, "reason": reason}), picture)


def may_alias(claim: Claim) -> bool:
    """Whether aliasing may explain errors: signals are band-limited, and the contract is ``Approximate``."""
    on_band = any(isinstance(leaf, Field) and leaf.band_limited for _, leaf in leaves(claim.source))
    return on_band and isinstance(claim.contract, Approximate)


def aliases(claim: Claim) -> bool:
    """Whether a layer is not affine and has an error under one rotation that rounding does not explain.

    An affine layer creates no new degrees, so aliasing cannot explain its errors, unless the contract declares an
    order or a ceiling (a discretised integral).
    """
    return may_alias(claim) and _aliased_error(claim) is not None


def _aliased_error(claim: Claim) -> float | None:
    """The error that aliases cause under one rotation; None where they cause none. Measured once for all properties."""
    contract = claim.contract
    assert isinstance(contract, Approximate)

    def measured() -> tuple[float | None, Claim]:
        probe = _Probe(claim)
        declared = contract.order is not None or contract.ceiling is not None
        return (probe.error_of_a_rotation() if declared or probe.bends() else None), claim

    # The claim is kept with its error, so that no other claim can get its id.
    error: float | None = claim.memo.get(("aliases", id(claim), state_of(claim.modules)), measured)[0]
    return error


def is_affine(claim: Claim) -> bool:
    """Whether f(u) + f(v) = f(u + v) + f(0) up to rounding."""
    return not _Probe(claim).bends()


class _Probe:
    """A claim's function at u, v, u + v and 0, and the rounding of its outputs."""

    def __init__(self, claim: Claim) -> None:
        self.claim, self.subject = claim, Subject(claim)
        drawn = samples_of(claim)
        self.x = tree_map(lambda v: _sum_of_two(v) if v.is_floating_point() else v[[0, 0, 0, 0]], drawn)
        with self.subject.guarded():
            exact = self.subject.probe_reference(self.x)
            self.run = self.subject.working if exact is None else self.subject.reference
            self.y = self.run(self.x) if exact is None else exact
            rounded = self.run(self.subject.through(self.x, torch.float32))
            single = self.subject.single(self.x)
        rows = zip(leaves(claim.target), leaves(self.y), strict=True)
        self.scales = [Scale.of(leaf, y) for (_, leaf), (_, y) in rows]
        self.kappa = self._kappa(single, rounded)
        self.eps = EPS["float32"] if exact is None else claim_eps(str(claim.dtype).removeprefix("torch."))

    def _kappa(self, single: Tree, rounded: Tree) -> float:
        kappa = Kappa()
        kappa.add_loss(torch.tensor([self._apart(single, rounded)]))
        if self.subject.has_reference:
            with self.subject.guarded():
                for moved, add in neighbours(self.run, self.x, self.claim.seed):
                    add(kappa, torch.tensor([self._apart(moved, self.y)]))
        return kappa.worst

    def bends(self) -> bool:
        """Whether the function is not affine, beyond the rounding of a layer that computes in float32."""
        sums = tree_map(lambda _, y: (y[:1] + y[1:2] - y[2:3] - y[3:]).expand_as(y), self.claim.target, self.y)
        nothing = tree_map(lambda _, y: torch.zeros_like(y), self.claim.target, self.y)
        # The sum has four outputs, each with a rounding error within S kappa eps.
        return not (self._apart(sums, nothing) <= 4 * SAFETY * self.kappa * EPS["float32"])

    def error_of_a_rotation(self) -> float | None:
        """The error of f(a_g x) = b_g f(x) for one element; None where rounding explains it."""
        claim = self.claim
        g = next(g for g in _elements(claim) if not g.is_identity)
        with self.subject.guarded():
            y = self.run(claim.act(claim.source, claim.group.identity, self.x))
            moved = self.run(claim.act(claim.source, g, self.x))
        delta = defect(claim, self.x, y, [claim.group.identity, g])
        error = self._apart(moved, claim.act(claim.target, g, y))
        return None if error <= SAFETY * self.kappa * (self.eps + delta) else error

    def _apart(self, a: Tree, b: Tree) -> float:
        """The largest relative difference of two outputs; NaN counts as infinite."""
        rows = zip(self.scales, leaves(a), leaves(b), strict=True)
        return max(float(scale.relative(u - v).max().nan_to_num(torch.inf)) for scale, (_, u), (_, v) in rows)


def _sum_of_two(x: torch.Tensor) -> torch.Tensor:
    """[u, v, u + v, 0] of the first two samples."""
    return torch.stack([x[0], x[1], x[0] + x[1], torch.zeros_like(x[0])])


def excuse(claim: Claim) -> Reason:
    """The reason of an exact property that skips a layer because the property aliasing judges it."""
    error = _aliased_error(claim)
    seen = f" (error {error:.2g} of one rotation at this bandwidth)" if error is not None else ""
    text = f"the layer holds in the limit of large bandwidths{seen}: the property aliasing judges it there."
    return Reason(code=Code.ALIASES, message=text)


def _elements(claim: Claim) -> list[Element]:
    """Haar samples, or the same number of elements of a finite group."""
    if claim.group.order is None:
        return claim.group.sample(np.random.default_rng(claim.seed), ELEMENTS)
    moving = [g for g in claim.group if not g.is_identity]
    return moving[:: max(1, len(moving) // ELEMENTS)][:ELEMENTS]


def _resized(claim: Claim, factor: float) -> Claim:
    """The claim of the same function between fields with ``factor`` times the bandwidth."""

    def scaled(leaf: Any) -> Any:
        return replace_domain(leaf, leaf.domain.resized(factor)) if isinstance(leaf, Field) else leaf

    source, target = tree_map(scaled, claim.source), tree_map(scaled, claim.target)
    return replace(claim, source=source, target=target, reference=None, inputs=None)


def _source(claim: Claim) -> Field:
    assert isinstance(claim.source, Field)
    return claim.source


def _inputs(sources: list[Field], claim: Claim) -> list[torch.Tensor]:
    """One set of signals of degrees below INPUT_DEGREES, on the grid of each source."""
    if claim.inputs is not None:
        raise ValueError("the given inputs have one bandwidth")
    few = sources[0].domain.resized(INPUT_DEGREES / _band(sources[0]).b)
    small = _band(replace_domain(sources[0], few))
    generator = torch.Generator().manual_seed(claim.seed)
    spectrum = small.draw(sources[0].tensor_shape(SAMPLES)[: -small.axes], generator)
    bands = [_band(source) for source in sources]
    return [band.synthesise(band.extended(spectrum)).to(claim.device) for band in bands]


def _band(field: Field) -> Band:
    band = field.domain.band
    assert band is not None
    return band


def _at(claim: Claim, elements: list[Element], x: torch.Tensor) -> tuple[BandwidthErrors, Attachment, float]:
    """The errors of all elements at one bandwidth, the picture of the first element, and the seconds in the layer."""
    subject, source = Subject(claim), _source(claim)
    with subject.guarded():
        x = source.project(x)
        y = subject.probe_reference(x)
        run = subject.working if y is None else subject.reference
        y = run(x) if y is None else y
        scales = [Scale.of(leaf, v) for (_, leaf), (_, v) in zip(leaves(claim.target), leaves(y), strict=True)]
        errors, floors, picture = [], [], None
        for g in elements:
            gx = source.act(g, x)
            fgx, gfx = run(gx), claim.act(claim.target, g, y)
            errors.append(_worst(scales, fgx, gfx))
            floors.append(source.norm(source.act(claim.group.inverse(g), gx) - x) / source.norm(x))
            picture = picture or diagram(claim, g, x, gx, y, gfx, fgx)
        control = _control(claim, run, elements[0], x, source)
    assert picture is not None
    return BandwidthErrors(_band(source).b, np.stack(errors), max(floors), control), picture, subject.seconds


def _rounding(claim: Claim, elements: list[Element], x: torch.Tensor) -> Rounding:
    """The rounding at one bandwidth."""

    def apart(a: Tree, b: Tree) -> float:
        scales = [Scale.of(leaf, v) for (_, leaf), (_, v) in zip(leaves(claim.target), leaves(b), strict=True)]
        return float(_worst(scales, a, b).max())

    return rounding_of(Subject(claim), _source(claim).project(x), apart, elements)


def _control(claim: Claim, run: Any, g: Element, x: torch.Tensor, source: Field) -> float:
    """The error of a layer without symmetry: this layer after a factor that grows from the north pole to the south."""
    rings, *rest = source.domain.axes
    ramp = torch.linspace(0, 2, rings, dtype=x.dtype, device=x.device).reshape(-1, *[1] * len(rest))
    y = run(ramp * x)
    scales = [Scale.of(leaf, v) for (_, leaf), (_, v) in zip(leaves(claim.target), leaves(y), strict=True)]
    return float(_worst(scales, run(ramp * source.act(g, x)), claim.act(claim.target, g, y)).max())


def _worst(scales: list[Scale], a: Tree, b: Tree) -> NDArray[np.float64]:
    """Relative error [sample] of the worst leaf and summand."""
    pairs = zip(scales, leaves(a), leaves(b), strict=True)
    rows = [scale.relative(u - v).amax(1) for scale, (_, u), (_, v) in pairs]
    found: NDArray[np.float64] = torch.stack(rows).amax(0).cpu().numpy()
    return found
