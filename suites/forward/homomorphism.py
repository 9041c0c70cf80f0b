"""Homomorphism: the actions are group actions. The other properties assume this.

a_e = id        a_g a_h = a_gh        ||a_g v|| = ||v|| (fields)

On spherical signals a_e is the projection on the band, v lies in the band, and the norm is that of the quadrature.
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Sequence
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
    sides = [_Action(claim, leaf, v[:1]) for leaf, v in _sides(claim, x, y)]
    return largest_of(_known_defect(claim, side, g, h) for side in sides for g, h in pairs)


def _known_defect(claim: Claim, side: _Action, g: Element, h: Element) -> float:
    """The defect of a pair; the properties of a claim share it, because a field's linear action shows it at any v."""
    if not isinstance(side.leaf, Field) or not side.shows:
        return side.defect(g, h)
    key = ("defect", id(side.leaf), g.matrix.tobytes(), h.matrix.tobytes())
    # The leaf is kept with its defect, so that no other leaf can get its id.
    return float(claim.memo.get(key, lambda: (side.defect(g, h), side.leaf))[0])


class _Action:
    """The action of one leaf on one tensor v. Each element acts on v once, however many pairs it is part of."""

    def __init__(self, claim: Claim, leaf: Any, v: torch.Tensor) -> None:
        self.claim, self.leaf, self.given = claim, leaf, v
        self._moved: dict[bytes, torch.Tensor] = {}

    @functools.cached_property
    def shows(self) -> bool:
        """Whether v is finite and not zero, so that a linear action has its defects on it."""
        return bool(self.given.isfinite().all()) and bool(self.given.any())

    @functools.cached_property
    def v(self) -> torch.Tensor:
        """The tensor; of a band-limited signal the part in the band."""
        return self.leaf.project(self.given) if isinstance(self.leaf, Field) else self.given

    @functools.cached_property
    def size(self) -> float:
        """The norm of v."""
        return _norm(self.leaf, self.v)

    def moved(self, g: Element) -> torch.Tensor:
        """a_g v."""
        key = g.matrix.tobytes()
        if key not in self._moved:
            self._moved[key] = self.leaf.act(g, self.v)
        return self._moved[key]

    @functools.cached_property
    def identity_defect(self) -> float:
        """The norm of a_e v - v."""
        return _norm(self.leaf, self.moved(self.claim.group.identity) - self.v)

    def defect(self, g: Element, h: Element) -> float:
        """The relative defect of a_g a_h = a_gh, of a_e = id and of the norm of a_h v."""
        if not self.given.is_floating_point() or self.size == 0:
            return 0.0
        leaf, hv = self.leaf, self.moved(h)
        ghv, direct = leaf.act(g, hv), self.moved(self.claim.group.compose(g, h))
        if ghv.shape != direct.shape:
            return float("inf")
        defects = [_norm(leaf, ghv - direct), self.identity_defect]
        if isinstance(leaf, Field):
            # A permutation keeps the multiset of values exactly; summed in another order, the norm differs by rounding.
            change = abs(_norm(leaf, hv) - self.size)
            defects.append(change if change > 8 * EPS["float64"] * self.size else 0.0)
        return largest_of(defects) / self.size

    def power(self, g: Element) -> float:
        """The relative error of the identity in place of a_g."""
        if g.is_identity or not self.given.is_floating_point() or self.size == 0:
            return 0.0
        moved = self.moved(g)
        return _norm(self.leaf, moved - self.v) / self.size if moved.shape == self.v.shape else 1.0


def homomorphism(claim: Claim, outputs: Tree | None = None) -> Outcome:
    """Every exact element against the generators, on source and target, judged at 1e-12.

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
    sides = [_Action(claim, leaf, v) for leaf, v in _sides(claim, x, y)]
    elements = [g for g in claim.group.representatives(rng, 4) if claim.exact(g)]
    if all(g.is_identity for g in elements) and any(not g.is_identity for g in claim.group.generators):
        text = f"no element of {claim.group.name} maps the grid onto itself, so no action is exact: off_grid judges it."
        return Outcome(
            describe(claim, "homomorphism", Verdict.SKIPPED, Reason(code=Code.NO_EXACT_ELEMENTS, message=text))
        )
    partners = [g for g in claim.group.generators if claim.exact(g)] or elements
    rows = []
    for g in elements:
        error = largest_of(side.defect(g, h) for side in sides for h in partners)
        rows.append(ElementResult(element=g.name, error=error, bound=LARGEST_DEFECT))
    worst = max(rows, key=lambda r: r.error if r.error == r.error else float("inf"))
    # The error of the identity in place of a_g, for the element with the largest error on either side.
    power = max((side.power(g) for side in sides for g in elements), default=0.0) / LARGEST_DEFECT
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
