"""Wrong actions: controls which show that a check can fail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..harness.claim.claim import Claim
from ..harness.fields.field import Field
from ..harness.symmetry.groups import Element, Group, haar_independent
from ..harness.trees import leaves

#: Two actions whose results on a random probe are closer than this are the same action and prove nothing.
SAME_ACTION = 1e-6


def wrong_actions(
    group: Group, leaf: Any, g: Element, elements: Sequence[Element]
) -> list[Callable[[torch.Tensor], Any]]:
    """Wrong target actions for g: the identity, the inverse, an independent element, a permuted fibre.

    Args:
        group: the claim's group.
        leaf: a leaf of the claim's target.
        g: the element.
        elements: the elements of the check; the independent element is one of them.
    """
    others = [group.identity, group.inverse(g)]
    independent = haar_independent([h for h in elements if not h.is_identity and h is not g], g)
    others += [independent] if independent is not None else []
    if isinstance(leaf, Field):
        others = [h for h in others if leaf.domain.axes_after(h) == leaf.domain.axes_after(g)]
    actions: list[Any] = [lambda v, h=h: leaf.act(h, v) for h in others]
    if isinstance(leaf, Field) and any(rep.dim > 1 for _, rep in leaf.fibre.terms):
        actions.append(lambda v: leaf.permuted_fibre(leaf.act(g, v)))
    return actions


def wrong_elements(claim: Claim, g: Element, probes: list[torch.Tensor]) -> list[Element]:
    """The identity, the inverse of g and the exact generators, if they move the target differently from g.

    Args:
        claim: the claim.
        g: the element.
        probes: a random tensor for each leaf of the target.
    """
    others = [claim.group.identity, claim.group.inverse(g), *(h for h in claim.group.generators if claim.exact(h))]
    return [h for h in others if not same_action(claim, g, h, probes)]


def same_action(claim: Claim, g: Element, h: Element, probes: list[torch.Tensor]) -> bool:
    """Whether h is no wrong action for g: both move the target in the same way, or to different shapes."""
    for (_, leaf), probe in zip(leaves(claim.target), probes, strict=True):
        a, b = leaf.act(g, probe), leaf.act(h, probe)
        if a.shape != b.shape:
            return True
        if float((a - b).norm()) > SAME_ACTION * float(a.norm()):
            return False
    return True
