"""Models of points: rotations, reflections, translations and permutations as separate properties.

rotations, reflections: f(a_g x) = b_g f(x) for the proper and for the improper elements of the claim's group.
translations: a shift of all positions shifts the positions among the outputs and changes nothing else.
permutations: a renumbering of the points renumbers the outputs of each point and changes nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ...harness.claim.claim import Claim
from ...harness.claim.outcome import Outcome, describe
from ...harness.fields.atoms import Positions, positions_of
from ...harness.fields.motions import Renumberings, Translations, renumbered, still, translated
from ...harness.symmetry.groups import Group
from ...harness.trees import leaves, tree_map
from ...harness.verdict.result import CheckResult, Code, Reason, Verdict
from ..forward.equivariance import equivariance

#: The statement about the model if one of these properties is broken.
DEPENDS = {
    "translations": "the output depends on where the origin lies",
    "permutations": "the output depends on the order of the points",
}


def rotations(claim: Claim) -> Outcome:
    """Check the proper elements of the claim's group."""
    return equivariance(claim, keep=lambda g: g.is_proper, name="rotations")


def reflections(claim: Claim) -> Outcome:
    """Check the improper elements of the claim's group."""
    return equivariance(claim, keep=lambda g: not g.is_proper, name="reflections")


def has_reflections(group: Group) -> bool:
    """Whether a group has improper elements."""
    return any(not g.is_proper for g in group.generators)


def translations(claim: Claim) -> Outcome:
    """Check shifts of all positions, of about the length of the positions' spread.

    Returns:
        As for equivariance; SKIPPED if no source leaf is ``Positions``.
    """
    found = positions_of(claim.source)
    if not found:
        return Outcome(_not_claimed(claim, "translations"))
    values = dict(leaves(claim.draw(1)))
    length = max(float(values[path].std()) for path, _ in found)
    return _under(claim, Translations(claim.group.dim, length or 1.0), translated)


def permutations(claim: Claim) -> Outcome:
    """Check renumberings of the points, in the positions and in every leaf with the same number of points.

    Returns:
        As for equivariance; SKIPPED if no source leaf is ``Positions``.
    """
    found = positions_of(claim.source)
    if not found:
        return Outcome(_not_claimed(claim, "permutations"))
    count = max(leaf.count for _, leaf in found)
    if count < 2:
        reason = Reason(code=Code.ONE_POINT, message="one point has no other order.")
        return Outcome(describe(claim, "permutations", Verdict.SKIPPED, reason))
    return _under(claim, Renumberings(count), lambda leaf: renumbered(leaf, count))


def _under(claim: Claim, group: Group, wrap: Callable[[Any], Any]) -> Outcome:
    moved = replace(
        claim,
        group=group,
        source=tree_map(wrap, claim.source),
        target=tree_map(wrap, claim.target),
        inputs=lambda count, generator: claim.draw(count),
        modules=claim.modules,
    )
    outcome = equivariance(moved, name=group.name)
    reason = outcome.result.reason
    if outcome.result.verdict is not Verdict.BROKEN or reason.code != Code.ERROR:
        return outcome
    named = Reason(code=Code.ERROR, message=f"{DEPENDS[group.name]}: {reason.message}")
    return replace(outcome, result=outcome.result.model_copy(update={"reason": named}))


def _not_claimed(claim: Claim, name: str) -> CheckResult:
    message = "no leaf of the source holds positions: declare one as eh.Positions(n, group)."
    return describe(claim, name, Verdict.SKIPPED, Reason(code=Code.NOT_CLAIMED, message=message))


def with_still(claim: Claim, path: str) -> Claim:
    """The claim with one source leaf kept still: no element moves it."""
    where = iter([p for p, _ in leaves(claim.source)])
    return replace(
        claim,
        source=tree_map(lambda leaf: still(leaf) if next(where) == path else leaf, claim.source),
        inputs=lambda count, generator: claim.draw(count),
        modules=claim.modules,
    )


def is_system(claim: Claim) -> bool:
    """Whether the source holds positions, so that the claim is about Euclidean motions and renumberings."""
    return any(isinstance(leaf, Positions) for _, leaf in leaves(claim.source))
