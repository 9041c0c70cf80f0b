"""Layers with a resolution of their own (say, a grid on the sphere inside): the error must vanish in its limit."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import torch

from ...harness.claim.claim import Approximate, Claim
from ...harness.claim.evaluation import Subject
from ...harness.claim.outcome import Outcome, describe
from ...harness.claim.scale import Scale
from ...harness.symmetry.groups import Element
from ...harness.trees import Tree, leaves, tree_map
from ...harness.verdict.result import Verdict
from .convergence import ELEMENTS, SAMPLES, ResolutionErrors, conclude, rounding_of
from .measurement import unfit


def refinement(claim: Claim) -> Outcome:
    """f_h(a_g x) against b_g f_h(x) in float64, for finer and finer h.

    Args:
        claim: its ``refined`` gives the function at a multiple of the resolution.

    Returns:
        APPROXIMATE if the interval of the extrapolated limit contains zero, else BROKEN, as for ``off_grid``.
    """
    start = time.perf_counter()
    assert claim.refined is not None
    contract = claim.contract if isinstance(claim.contract, Approximate) else Approximate()
    rng = np.random.default_rng(claim.seed)
    elements = [g for g in claim.group.sample(rng, ELEMENTS + 1) if not g.is_identity][:ELEMENTS]
    x = claim.draw(SAMPLES)
    own = Subject(claim)
    fault, seconds = unfit(own, x), own.seconds
    if fault is not None:
        return Outcome(describe(claim, "off_grid", Verdict.BROKEN, fault))
    table = []
    for factor in contract.factors:
        size, function = claim.refined(factor)
        subject = Subject(replace(claim, function=function, reference=None, refined=None, modules=()))
        with subject.guarded():
            table.append(_at(subject, size, elements, x))
        seconds += subject.seconds

    def apart(a: Tree, b: Tree) -> float:
        return float(_worst(_scales(subject.claim, b), a, b).max())

    result = conclude(claim, "off_grid", table, elements, contract, rounding_of(subject, x, apart, elements))
    spent = {"seconds": time.perf_counter() - start, "seconds_in_layer": seconds}
    return Outcome(result.model_copy(update=spent))


def _at(subject: Subject, size: int, elements: list[Element], x: Tree) -> ResolutionErrors:
    """Errors [element, sample] at one resolution; the control does not move the output."""
    claim = subject.claim
    y = subject.reference(x)
    target = tree_map(lambda leaf, v: leaf.require_fit(v, "The output"), claim.target, y)
    scales = _scales(replace(claim, target=target), y)
    errors, controls = [], []
    for g in elements:
        fgx = subject.reference(claim.act(claim.source, g, x))
        gfx = claim.act(target, g, y)
        errors.append(_worst(scales, fgx, gfx))
        controls.append(_worst(scales, fgx, y))
    return ResolutionErrors(size, np.stack(errors), 0.0, float(np.stack(controls).max()))


def _scales(claim: Claim, y: Tree) -> list[Scale]:
    return [Scale.of(leaf, v) for (_, leaf), (_, v) in zip(leaves(claim.target), leaves(y), strict=True)]


def _worst(scales: list[Scale], a: Tree, b: Tree) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Relative error [sample] of the worst leaf and summand."""
    pairs = zip(scales, leaves(a), leaves(b), strict=True)
    rows = [scale.relative(u - v).amax(1) for scale, (_, u), (_, v) in pairs]
    found: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = torch.stack(rows).amax(0).cpu().numpy()
    return found
