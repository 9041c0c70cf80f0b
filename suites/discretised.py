"""Discretised layers without a grid: a nonlinearity on samples of a sphere or of a group leaves an error of its own.

That error falls with the size of the input: a small input meets the linear part of the nonlinearity, which the samples
carry exactly. What a table in float32 does is relative to the input, so its error stays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from ..harness.claim.claim import Claim
from ..harness.claim.outcome import Outcome
from ..harness.fields.domains import Grid
from ..harness.fields.field import Field
from ..harness.trees import Tree, leaves, tree_map
from ..harness.verdict.result import CheckResult, Code, Reason, Verdict

#: Properties that are asked again at smaller inputs.
ASKED = ("equivariance", "adjoint")
#: The smaller inputs, and the fall of the error that tells samples from tables: a table's error stays, that of samples
#: falls at least like the input.
SMALLER = 2.0**-4
FALLS = 2.0**-2


def named_as_discretised(claim: Claim, result: CheckResult, property_: Callable[[Claim], Outcome]) -> CheckResult:
    """The result; where samples inside the layer explain the error, its reason says so, and it is no table's.

    Args:
        claim: the claim.
        result: its result; one that neither is BROKEN(ERROR) nor blames constants in float32 is returned unchanged.
        property_: the property that gave the result.
    """
    blamed = result.verdict is Verdict.IMPRECISE and result.reason.code == Code.CONSTANTS_IN_SINGLE
    broken = result.verdict is Verdict.BROKEN and result.reason.code == Code.ERROR
    if result.property not in ASKED or not (blamed or broken) or not result.error or _on_grids(claim):
        return result
    if blamed and has_single_tables(claim):
        return result
    smaller = _error_at(claim, property_, SMALLER)
    if smaller is None or not smaller <= FALLS * result.error:
        return result
    text = (
        f"the error {result.error:.2g} falls to {smaller:.2g} for inputs {1 / SMALLER:g} times smaller, as that of a "
        "nonlinearity does that acts on samples of a sphere or of a group, or on components of a vector. On samples: "
        "the layer is discretised, so declare the error that you accept, Approximate(ceiling=0.05), or give its "
        "resolutions, Claim(refined=...). On components: apply it to norms or scalars."
    )
    if broken:
        text = f"{result.reason.message} {text[0].upper()}{text[1:]}"
    reason = Reason(code=Code.ERROR, message=text)
    return result.model_copy(update={"verdict": Verdict.BROKEN, "reason": reason})


def _on_grids(claim: Claim) -> bool:
    fields = [leaf for side in (claim.source, claim.target) for _, leaf in leaves(side)]
    return any(isinstance(leaf, Field) and isinstance(leaf.domain, Grid) for leaf in fields)


def has_single_tables(claim: Claim) -> bool:
    """Whether a tensor of the layer's modules has the digits of float32 only; True if the layer holds no tensors.

    Numbers that bfloat16 holds too, such as 0, 1 and 1/2, are nobody's lost digits.
    """
    tensors = [t for m in claim.modules for t in (*m.parameters(), *m.buffers()) if t.is_floating_point()]

    def single(t: torch.Tensor) -> bool:
        return torch.equal(t.double(), t.float().double()) and not torch.equal(t.double(), t.bfloat16().double())

    return not tensors or any(single(t.detach()) for t in tensors)


def _error_at(claim: Claim, property_: Callable[[Claim], Outcome], factor: float) -> float | None:
    """The error of the property at inputs times a factor; None where it cannot be asked."""

    def inputs(count: int, generator: torch.Generator) -> Tree:
        return tree_map(lambda v: factor * v if v.is_floating_point() else v, claim.draw(count))

    try:
        return property_(replace(claim, inputs=inputs, modules=claim.modules)).result.error
    except Exception:  # an experiment that the layer cannot run gives no evidence
        return None
