"""Homomorphism: the actions are group actions. The other properties assume this.

a_e = id        a_g a_h = a_gh        ||a_g v|| = ||v|| (fields)

On spherical signals a_e is the projection on the band, v lies in the band, and the norm is that of the quadrature.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from ...harness.claim.claim import Claim
from ...harness.claim.evaluation import Subject
from ...harness.claim.outcome import Outcome, describe
from ...harness.fields.field import Acted, Field
from ...harness.precisions import EPS
from ...harness.symmetry.groups import Element
from ...harness.trees import Tree, leaves
from ...harness.verdict.decide import LARGEST_DEFECT
from ...harness.verdict.result import Code, ElementResult, Reason, Verdict
from ..rounding import largest_of

#: Pairs of elements tried by an equivariance check; the property homomorphism tries every element with the generators.
QUICK_PAIRS = 3


#: Samples of an output for the test of a target action: as many as in the check of a layer.
BATCH = 4


def defect(claim: Claim, x: Tree, y: Tree, elements: Sequence[Element]) -> float:
    """delta: the largest float64 defect of source and target actions on one sample, over a few pairs of elements."""
    moving = [g for g in elements if not g.is_identity]
    pairs = [(g, moving[(i + 1) % len(moving)]) for i, g in enumerate(moving[:QUICK_PAIRS])]
    # Only generators that do not commute can distinguish a_g a_h = a_gh from a_g a_h = a_hg.
    pairs += itertools.permutations([g for g in claim.group.generators if claim.exact(g)], 2)
    sides = _sides(claim, x, y)
    return largest_of(_known_defect(claim, leaf, v[:1], g, h) for leaf, v in sides for g, h in pairs)


def _known_defect(claim: Claim, leaf: Any, v: torch.Tensor, g: Element, h: Element) -> float:
    """The defect of a pair; the properties of a claim share it, because a field's linear action shows it at any v."""
    if not isinstance(leaf, Field) or not bool(v.isfinite().all()) or not v.any():
        return pair_defect(claim, leaf, v, g, h)
    key = ("defect", id(leaf), g.matrix.tobytes(), h.matrix.tobytes())
    # The leaf is kept with its defect, so that no other leaf can get its id.
    return float(claim.memo.get(key, lambda: (pair_defect(claim, leaf, v, g, h), leaf))[0])


def pair_defect(claim: Claim, leaf: Any, v: torch.Tensor, g: Element, h: Element) -> float:
    """The relative defect of a_g a_h = a_gh, of a_e = id and of the norm of a_g v."""
    if not v.is_floating_point():
        return 0.0
    if isinstance(leaf, Field):
        v = leaf.project(v)
    size = _norm(leaf, v)
    if size == 0:
        return 0.0
    hv = leaf.act(h, v)
    ghv, direct = leaf.act(g, hv), leaf.act(claim.group.compose(g, h), v)
    if ghv.shape != direct.shape:
        return float("inf")
    defects = [_norm(leaf, ghv - direct), _norm(leaf, leaf.act(claim.group.identity, v) - v)]
    if isinstance(leaf, Field):
        # A permutation keeps the multiset of values exactly; summed in another order, the norm differs by rounding.
        change = abs(_norm(leaf, hv) - size)
        defects.append(change if change > 8 * EPS["float64"] * size else 0.0)
    return largest_of(defects) / size


def homomorphism(claim: Claim, outputs: Tree | None = None) -> Outcome:
    """Every exact element against the generators, on source and target, judged at 1e-12 and 8 sqrt(n) eps.

    Args:
        claim: its fields are tested; its function is called only if ``act_out`` needs an output.
        outputs: a tree of target tensors to act on; by default white noise for fields.

    Returns:
        EXACT or BROKEN(ACTION); power = error of a wrong element's action / bound.
    """
    start = time.perf_counter()
    rng = np.random.default_rng(claim.seed)
    x = claim.draw(1)
    y = outputs if outputs is not None else _targets(claim)
    sides = _sides(claim, x, y)
    elements = [g for g in claim.group.representatives(rng, 4) if claim.exact(g)]
    if all(g.is_identity for g in elements) and any(not g.is_identity for g in claim.group.generators):
        text = f"no element of {claim.group.name} maps the grid onto itself, so no action is exact: off_grid judges it."
        return Outcome(
            describe(claim, "homomorphism", Verdict.SKIPPED, Reason(code=Code.NO_EXACT_ELEMENTS, message=text))
        )
    partners = [g for g in claim.group.generators if claim.exact(g)] or elements
    rows = []
    for g in elements:
        error = largest_of(pair_defect(claim, leaf, v, g, h) for leaf, v in sides for h in partners)
        rows.append(ElementResult(element=g.name, error=error, bound=LARGEST_DEFECT))
    worst = max(rows, key=lambda r: r.error if r.error == r.error else float("inf"))
    power = _power(claim, sides, elements) / LARGEST_DEFECT
    verdict, reason = _decide(worst, power)
    result = describe(claim, "homomorphism", verdict, reason).model_copy(
        update={
            "samples": 1,
            "error": worst.error,
            "bound": LARGEST_DEFECT,
            "defect": worst.error,
            "power": power,
            "element": worst.element,
            "elements": tuple(rows),
            "seconds": time.perf_counter() - start,
        }
    )
    return Outcome(result)


def _decide(worst: ElementResult, power: float) -> tuple[Verdict, Reason]:
    if not (worst.error <= LARGEST_DEFECT):
        message = f"a_g a_h differs from a_gh by {worst.error:.1e}: correct the action first, then check the layer."
        return Verdict.BROKEN, Reason(code=Code.ACTION, message=message)
    if not (power > 1):
        message = "no element moves source or target, so the claim is empty: give fields that the group moves."
        return Verdict.VACUOUS, Reason(code=Code.VACUOUS, message=message)
    return Verdict.EXACT, Reason(code=Code.EXACT, message="")


def _power(claim: Claim, sides: list[tuple[Any, torch.Tensor]], elements: Iterable[Element]) -> float:
    """The error of the identity in place of a_g, for the element with the largest error on either side."""
    found = 0.0
    for leaf, v in sides:
        for g in elements:
            if g.is_identity or not v.is_floating_point() or _norm(leaf, v) == 0:
                continue
            moved = leaf.act(g, v)
            found = max(found, _norm(leaf, moved - v) / _norm(leaf, v) if moved.shape == v.shape else 1.0)
    return found


def _sides(claim: Claim, x: Tree, y: Tree) -> list[tuple[Any, torch.Tensor]]:
    by_path = dict(leaves(x))
    sides = [(leaf, by_path[path]) for path, leaf in leaves(claim.source)]
    outputs = dict(leaves(y))
    return sides + [(leaf, outputs[path]) for path, leaf in leaves(claim.target) if path in outputs]


def _targets(claim: Claim) -> Tree:
    """Tensors for the target actions: white noise for fields, outputs of the layer for actions given as functions."""
    drawn = _noise(claim.target, claim.seed)
    if any(isinstance(leaf, Acted) for _, leaf in leaves(claim.target)):
        subject = Subject(claim)
        with subject.guarded(), torch.no_grad():
            found = dict(leaves(subject.working(claim.draw(BATCH))))
        drawn = {**{path: v[:1] for path, v in found.items()}, **drawn}
    return drawn


def _noise(target: Tree, seed: int) -> Tree:
    generator = torch.Generator().manual_seed(seed)
    return {path: leaf.random(1, generator) for path, leaf in leaves(target) if isinstance(leaf, Field)}


def _norm(leaf: Any, v: torch.Tensor) -> float:
    return leaf.norm(v) if isinstance(leaf, Field) else float(torch.linalg.vector_norm(v.detach()))
