"""Composition: stacks of a layer are equivariant, and their errors grow with depth no faster than rounding.

    f o s o f o ... o f        s = relu if the action permutes the values, else the identity

A layer that is equivariant on noise may fail on its own outputs: borders, zeros after a relu, values of another size.
Whole networks, with pools and upsampling, are layers of their own.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from ...harness.claim.claim import Claim
from ...harness.claim.outcome import Outcome, describe
from ...harness.fields.domains import Grid, Points, Vector
from ...harness.fields.field import Field
from ...harness.verdict.result import CheckResult, Code, ElementResult, Reason, Verdict, worst
from ..forward.equivariance import equivariance

#: Layers in a stack. With doubled depths, a ratio shows the growth.
DEPTHS = (1, 2, 4)


def composition(claim: Claim) -> Outcome:
    """Stacks of 1, 2 and 4 layers with nonlinearities between them are equivariant under the claim's group.

    Args:
        claim: source and target are one field.

    Returns:
        The worst depth's verdict, with one part for each depth; the reason includes the growth of the error.
        SKIPPED(NOT_COMPOSABLE) if the output cannot be an input of the layer.
    """
    start = time.perf_counter()
    field = claim.source
    if not isinstance(field, Field) or str(field) != str(claim.target) or claim.refined is not None:
        text = "the field of the output is not that of the input. To check a network, check it as one layer."
        return Outcome(describe(claim, "composition", Verdict.SKIPPED, Reason(code=Code.NOT_COMPOSABLE, message=text)))
    generators = {g.name for g in claim.group.generators}
    parts: list[CheckResult] = []
    picture = None
    for depth in DEPTHS:
        stack = replace(
            claim,
            function=_stack(claim.function, depth, _between(field)),
            reference=None if claim.reference is None else _stack(claim.reference, depth, _between(field)),
            modules=claim.modules,
            twins=(),
        )
        outcome = equivariance(stack, keep=lambda g: g.name in generators, name=f"composition: depth {depth}")
        if depth > 1 and outcome.result.verdict is Verdict.VACUOUS:
            text = f"{depth} layers give one output for every input: nothing is left to compare."
            dead = Reason(code=Code.DIES_OUT, message=text)
            parts.append(outcome.result.model_copy(update={"verdict": Verdict.SKIPPED, "reason": dead}))
            break
        parts.append(outcome.result)
        if worst(parts) is outcome.result:
            picture = outcome.picture
        if outcome.result.verdict is Verdict.SKIPPED:
            break
    decisive = worst(parts)
    rows = tuple(
        ElementResult(
            element=part.property.removeprefix("composition: "),
            error=part.error,
            bound=part.bound or 0.0,
            seen=part.seen or 0.0,
            precision=part.precision or 0.0,
        )
        for part in parts
        if part.error is not None
    )
    reason = decisive.reason
    if decisive.passed and rows:
        reason = Reason(code=reason.code, message=" ".join(filter(None, [reason.message, _growth(parts)])))
    return Outcome(
        decisive.model_copy(
            update={
                "property": "composition",
                "reason": reason,
                "elements": rows,
                "parts": tuple(parts),
                "seconds": time.perf_counter() - start,
                "seconds_in_layer": sum(p.seconds_in_layer for p in parts),
            }
        ),
        picture,
    )


def _stack(layer: Callable[..., Any], depth: int, between: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    if depth == 1:
        return layer  # itself, so that what other properties computed serves here too

    def run(x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = layer(x)
        for _ in range(depth - 1):
            y = layer(between(y))
        return y

    return run


def _between(field: Field) -> Callable[[torch.Tensor], torch.Tensor]:
    """Relu if it is equivariant, which requires that the action permutes values; else the identity."""
    permuted = isinstance(field.domain, (Grid, Points, Vector)) and all(
        rep.permutation(g) is not None for _, rep in field.fibre.terms for g in field.group.generators
    )
    return torch.relu if permuted else lambda y: y


def _growth(parts: list[CheckResult]) -> str:
    """The growth: precision lost by the deepest stack / precision lost by one layer."""
    first, last = parts[0].precision or 0.0, parts[-1].precision or 0.0
    if not (first > 0 and last > 0 and math.isfinite(last)):
        return ""
    return f"{DEPTHS[len(parts) - 1]} layers lose {last / first:.1f} times what one loses to rounding."
