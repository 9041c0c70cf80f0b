"""Attribution: small experiments that find the part of the model that breaks a claim.

* Only improper elements fail: the layer is equivariant under rotations and not under reflections.
* The claim holds if one input is not moved, or the output ignores that input: the layer does not move that input.
* The claim holds in the other mode: the model is equivariant in eval() and not in train().
* Two calls agree if torch's generators start from one seed: the layer draws random numbers, and no element moves them.

Each experiment is an equivariance check of its own. The experiments run only if the verdict is BROKEN.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from ..harness.claim.claim import Claim
from ..harness.claim.evaluation import Subject, mode
from ..harness.claim.outcome import Outcome
from ..harness.fields.atoms import Cell
from ..harness.fields.field import Field
from ..harness.trees import Tree, leaves, tree_map
from ..harness.verdict.result import CheckResult, Code, Reason, Verdict
from .points.motions import with_still

#: In a cell this many times larger, the images of every point are beyond any cutoff.
FAR = 1000.0
#: Properties about elements of the claim's own group.
STRUCTURAL = ("equivariance", "rotations", "reflections")
SOUND = (Verdict.EXACT, Verdict.IMPRECISE)

Property = Callable[[Claim], Outcome]


def attribute(claim: Claim, result: CheckResult, property_: Property) -> CheckResult:
    """The result; the findings of the experiments are added to its reason.

    Args:
        claim: the broken claim.
        result: its result; a result that is not BROKEN is returned unchanged.
        property_: the property that gave the result.
    """
    if result.verdict is not Verdict.BROKEN:
        return result
    found = [text for text in (_mode(claim, property_), *_structural(claim, result, property_)) if text]
    found += [text for text in (_noise(claim, result),) if text]
    if not found:
        return result
    reason = Reason(code=result.reason.code, message=" ".join([result.reason.message, *found]))
    return result.model_copy(update={"reason": reason})


def _structural(claim: Claim, result: CheckResult, property_: Property) -> list[str]:
    if result.reason.code not in ("ERROR", "HIDDEN") or result.property not in STRUCTURAL:
        return []
    return [_reflections_only(result), _input_at_fault(claim, property_)]


def _reflections_only(result: CheckResult) -> str:
    failing = [e.element for e in result.elements if not (e.error <= e.bound)]
    proper = [e for e in result.elements if not _improper(e.element)]
    if failing and all(_improper(name) for name in failing) and len(proper) > 1:
        return "Only reflections fail: the layer is equivariant under the rotations."
    return ""


def _improper(name: str) -> bool:
    return name.startswith(("inversion", "reflection"))


def _input_at_fault(claim: Claim, property_: Property) -> str:
    """The input that the layer moves wrongly, if there are several inputs and one of them explains the failure."""
    moving = [path for path, leaf in leaves(claim.source) if _moves(leaf)]
    if len(moving) < 2:
        return ""
    for path in moving:
        if _holds(property_, with_still(claim, path)):
            return f"The claim holds when `{path}` is not moved: the layer does not transform `{path}`."
    for path in moving:
        if _ignored(claim, path):
            return f"The output does not depend on `{path}`: the layer uses other data in place of `{path}`."
    for path, leaf in leaves(claim.source):
        if path not in moving:
            continue
        if isinstance(leaf, Cell):
            if _holds(property_, _scaled(claim, path, FAR, wrap=False)):
                return f"The claim holds when `{path}` is {FAR:g} times larger: the fault is in how `{path}` is used."
        elif _holds(property_, _scaled(claim, path, 0.0)):
            return f"The claim holds when `{path}` is zero: the fault is in how `{path}` is used."
    return ""


def _moves(leaf: Any) -> bool:
    return isinstance(leaf, Field) and any(rep.name != "trivial" for _, rep in leaf.fibre.terms)


def _holds(property_: Property, claim: Claim) -> bool:
    try:
        return property_(claim).result.verdict in SOUND
    except Exception:  # an experiment that the model cannot run gives no evidence
        return False


def _ignored(claim: Claim, path: str) -> bool:
    """Whether the output stays the same when one input is exchanged between samples."""
    subject = Subject(claim)
    x = claim.draw(claim.samples)
    try:
        with subject.guarded():
            before, after = subject.working(x), subject.working(_replaced(claim, x, path, lambda v: v.roll(1, 0)))
    except Exception:
        return False
    return all(torch.equal(u, v) for (_, u), (_, v) in zip(leaves(before), leaves(after), strict=True))


def _scaled(claim: Claim, path: str, factor: float, *, wrap: bool = True) -> Claim:
    def inputs(count: int, generator: torch.Generator) -> Tree:
        return _replaced(claim, claim.draw(count, wrap=wrap), path, lambda v: factor * v)

    return replace(claim, inputs=inputs, modules=claim.modules)


def _replaced(claim: Claim, x: Tree, path: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Tree:
    where = iter([p for p, _ in leaves(claim.source)])
    return tree_map(lambda _, v: change(v) if next(where) == path else v, claim.source, x)


def _noise(claim: Claim, result: CheckResult) -> str:
    """A sentence about the random numbers that the layer draws, if calls differ for that reason."""
    if result.reason.code == Code.NONDETERMINISTIC:
        if not _depends_on_seed(claim, 0, 0):
            return (
                "The layer draws its noise from torch's generator: declare a seed for each call (call_seed=0), or make "
                "the noise an input."
            )
        return "A seed for each call does not make them agree: look for another source of random numbers, or a race."
    claimed = result.reason.code == Code.ERROR and result.property in (*STRUCTURAL, "translations", "permutations")
    seed = claim.call_seed
    if not claimed or seed is None or not _depends_on_seed(claim, seed, seed + 1):
        return ""
    return (
        "The layer draws random numbers, and no element moves this noise: with one seed for each call both sides get "
        "the same noise. Make the noise an input, with a field that says how it moves."
    )


def _depends_on_seed(claim: Claim, first: int, second: int) -> bool:
    """Whether outputs at one input differ between calls that start from these two seeds."""
    x = claim.draw(claim.samples)
    outputs = []
    try:
        for seed in (first, second):
            subject = Subject(replace(claim, call_seed=seed, modules=claim.modules))
            with subject.guarded():
                outputs.append(subject.working(x, fresh=True))
    except Exception:  # an experiment that the model cannot run gives no evidence
        return first == second
    return not all(torch.equal(u, v) for (_, u), (_, v) in zip(leaves(outputs[0]), leaves(outputs[1]), strict=True))


def _mode(claim: Claim, property_: Property) -> str:
    """A sentence if a model in training mode is equivariant in eval() mode, else an empty text."""
    if not any(m.training for module in claim.modules for m in module.modules()) or not _depends_on_mode(claim):
        return ""
    try:
        with mode(claim, training=False):
            holds = _holds(property_, claim)
    except NotImplementedError:  # an exported module has one mode
        return ""
    return "It is equivariant in eval() and not in train()." if holds else ""


def _depends_on_mode(claim: Claim) -> bool:
    """Whether eval() changes the output; if it does not, every property has the same result in both modes."""
    subject = Subject(claim)
    x = claim.draw(claim.samples)
    try:
        with subject.guarded():
            before = subject.working(x)
            with mode(claim, training=False):
                after = subject.working(x)
    except Exception:  # a model that fails in a mode depends on the mode
        return True
    return not all(torch.equal(u, v) for (_, u), (_, v) in zip(leaves(before), leaves(after), strict=True))
