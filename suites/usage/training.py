"""Training: the claim still holds after a few steps of an optimiser; every parameter is restored afterwards.

A parametrisation whose gradient leaves the subspace of equivariant weights (filters stored for each rotation, or a
projection made only once at the start) is equivariant when it is built, and drifts with every step.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch

from ...harness.claim.claim import Claim
from ...harness.claim.evaluation import FREED, Subject, full_float32, seeded
from ...harness.claim.outcome import Outcome, describe
from ...harness.symmetry.groups import Element
from ...harness.trees import leaves, tree_map
from ...harness.verdict.result import Code, Reason, Verdict
from ..forward.aliasing import aliases, excuse
from ..forward.equivariance import equivariance

#: Steps of Adam. Each step changes every weight that has a gradient by about RATE times the weights' size, whatever the
#: gradient's scale, so the drift of one step is thousands of float32 bounds.
STEPS = 3
RATE = 0.03


def training(claim: Claim) -> Outcome:
    """The layer is still equivariant after ``STEPS`` steps of Adam towards random targets.

    Args:
        claim: ``claim.modules`` hold the parameters; modules train in train mode and are judged in their own mode.

    Returns:
        The result of equivariance for the trained layer, at the generators of a finite group. SKIPPED(NO_PARAMETERS) if
        there are no parameters; SKIPPED(NOT_DIFFERENTIABLE) if no parameter has a gradient or the layer frees its own
        graph; SKIPPED(BROKEN_UNTRAINED) if the layer is not equivariant before training; SKIPPED(ALIASES) for
        nonlinear layers on the sphere; SKIPPED if equivariance does not apply.
    """
    start = time.perf_counter()
    parameters = [p for m in claim.modules for p in m.parameters() if p.is_floating_point() and p.numel()]
    if not parameters:
        reason = Reason(code=Code.NO_PARAMETERS, message="the layer has no parameters.")
        return Outcome(describe(claim, "training", Verdict.SKIPPED, reason))
    if aliases(claim):
        return Outcome(describe(claim, "training", Verdict.SKIPPED, excuse(claim)))
    with _as_before(claim) as own_modes:
        try:
            moved = _train(claim, parameters)
        except RuntimeError as error:
            if FREED not in str(error):
                raise
            text = "the layer differentiates inside and frees its own graph, so this check cannot train it."
            return Outcome(
                describe(claim, "training", Verdict.SKIPPED, Reason(code=Code.NOT_DIFFERENTIABLE, message=text))
            )
        if not moved:
            reason = Reason(code=Code.NOT_DIFFERENTIABLE, message="no parameter has a gradient: nothing was trained.")
            return Outcome(describe(claim, "training", Verdict.SKIPPED, reason))
        own_modes()
        # A separate reference still has the old weights, so f_* is the trained layer in float64.
        outcome = equivariance(replace(claim, reference=None), keep=_generators(claim), name="training")
    if outcome.result.verdict is Verdict.BROKEN and equivariance(claim).result.verdict is Verdict.BROKEN:
        reason = Reason(
            code=Code.BROKEN_UNTRAINED,
            message="the layer is not equivariant before training: see the property equivariance.",
        )
        return Outcome(describe(claim, "training", Verdict.SKIPPED, reason))
    result = outcome.result.model_copy(update={"seconds": time.perf_counter() - start})
    return Outcome(result, outcome.picture)


def _generators(claim: Claim) -> Callable[[Element], bool] | None:
    """Whether an element is a generator, for finite groups whose generators need no interpolation; else None."""
    generators = [] if claim.elements else [g for g in claim.group.generators if not g.is_identity]
    finite = claim.group.order is not None and bool(generators)
    return set(generators).__contains__ if finite and all(claim.exact(g) for g in generators) else None


def _train(claim: Claim, parameters: Sequence[torch.nn.Parameter]) -> bool:
    """Make a few steps of Adam, and return whether any weight changed."""
    subject = Subject(claim)
    x = subject.rounded(claim.draw(claim.samples))
    function = claim.bind(claim.function)
    size = max(float(torch.cat([p.detach().double().flatten() for p in parameters]).square().mean().sqrt()), RATE)
    optimiser = torch.optim.Adam(parameters, lr=RATE * size)
    generator = torch.Generator().manual_seed(claim.seed + 9)
    before = [p.detach().clone() for p in parameters]
    targets: list[torch.Tensor] = []
    for module in claim.modules:
        module.train()
    with seeded(claim.seed if claim.call_seed is None else claim.call_seed, claim.device), full_float32():
        for _ in range(STEPS):
            with torch.enable_grad():
                y = [v for _, v in leaves(tree_map(lambda _, v: v, claim.target, function(x)))]
                if not targets:
                    targets = [torch.randn(v.shape, generator=generator, dtype=torch.float64).to(v) for v in y]
                loss = torch.stack([(v - t).square().mean() for v, t in zip(y, targets, strict=True)]).sum()
            if not loss.requires_grad:
                return False
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    optimiser.zero_grad()
    return any(not torch.equal(old, new) for old, new in zip(before, parameters, strict=True))


@contextlib.contextmanager
def _as_before(claim: Claim) -> Iterator[Callable[[], None]]:
    """Restore parameters, gradients, buffers and modes at the end; yields a function that restores the modes early."""
    saved = {id(t): (t, t.detach().clone()) for m in claim.modules for t in (*m.parameters(), *m.buffers())}
    gradients = [(p, p.grad) for m in claim.modules for p in m.parameters()]
    modes = [(part, part.training) for m in claim.modules for part in m.modules()]

    def own_modes() -> None:
        for module in claim.modules:
            mode = _of(modes, module)
            # Through train mode: a layer may expand its filters again only when it leaves train mode.
            module.train()
            module.train(mode)
        for part, mode in modes:
            part.training = mode

    try:
        yield own_modes
    finally:
        with torch.no_grad():
            for tensor, value in saved.values():
                tensor.copy_(value)
        for parameter, gradient in gradients:
            parameter.grad = gradient
        own_modes()


def _of(modes: Sequence[tuple[torch.nn.Module, bool]], module: torch.nn.Module) -> bool:
    return next(mode for part, mode in modes if part is module)
