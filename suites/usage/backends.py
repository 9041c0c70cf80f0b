"""Backends: the compiled and the exported layer agree with the eager layer, forward and backward.

    ||f_c(x) - f(x)|| / D <= S kappa eps        the same for the gradient of <f(x), w> with respect to x

kappa comes from the rounding of the eager layer, compared with float64. A compiler fuses and reorders operations, which
changes only the rounding; a larger difference means a wrong kernel.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from typing import Any

import torch

from ...harness.claim.claim import Claim
from ...harness.claim.evaluation import Stopwatch, Subject, full_float32, seeded
from ...harness.claim.outcome import Outcome, describe
from ...harness.claim.recast import recast
from ...harness.claim.scale import Scale
from ...harness.errors import UsageError
from ...harness.precisions import claim_eps
from ...harness.trees import Tree, leaves, tree_map
from ...harness.verdict.decide import SAFETY, Evidence, decide
from ...harness.verdict.result import CheckResult, Code, ElementResult, Reason, Verdict, worst
from ..rounding import Add, Kappa, largest, neighbours

Runs = dict[str, torch.Tensor]


def backends(claim: Claim) -> Outcome:
    """Outputs and input gradients of the compiled and the exported layer agree with the eager layer within the bounds.

    Args:
        claim: ``claim.backends`` names the backends: "inductor" and "aot_eager" (torch.compile), "export"
            (torch.export). Inductor needs a C++ compiler; without a compiler aot_eager replaces it.

    Returns:
        The worst backend's verdict, with one part for each backend. SKIPPED(NO_BACKEND) if the claim names none.
    """
    if not claim.backends:
        reason = Reason(
            code=Code.NO_BACKEND,
            message="only one case of each family is compiled and exported, and this is another case.",
        )
        return Outcome(describe(claim, "backends", Verdict.SKIPPED, reason))
    with Subject(claim).guarded():
        parts = [_compare(claim, name) for name in dict.fromkeys(map(_available, claim.backends))]
    decisive = worst(parts)
    seconds = {"seconds": sum(p.seconds for p in parts), "seconds_in_layer": sum(p.seconds_in_layer for p in parts)}
    return Outcome(decisive.model_copy(update={"property": "backends", "parts": tuple(parts), **seconds}))


def _available(name: str) -> str:
    if name == "inductor" and not any(map(shutil.which, ("c++", "g++", "clang++"))):
        return "aot_eager"
    return name


def _compare(claim: Claim, backend: str) -> CheckResult:
    start, watch = time.perf_counter(), Stopwatch()
    name = f"backends: {backend}"
    x = tree_map(lambda v: v.to(claim.dtype).double() if v.is_floating_point() else v, claim.draw(claim.samples))
    eager = claim.bind(claim.function)
    generator = torch.Generator().manual_seed(claim.seed + 11)
    found = _run(claim, eager, claim.dtype, x, generator, watch)
    single = (
        found
        if claim.dtype is torch.float32
        else _run(claim, _recast(claim, "f32"), torch.float32, x, generator, watch)
    )
    exact = (
        found
        if claim.dtype is torch.float64
        else _run(claim, _recast(claim, "f64"), torch.float64, x, generator, watch)
    )
    try:
        made = _make(claim, backend, x)
    except UsageError:
        raise
    except Exception as error:
        text = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        crashed = Reason(code=Code.CRASHED, message=f"{backend} cannot take the layer: {text}")
        return describe(claim, name, Verdict.CRASHED, crashed)
    note = ""
    try:
        other = _run(claim, claim.bind(made), claim.dtype, x, generator, watch)
    except RuntimeError:
        if backend != "export":
            raise
        note = "exported for inference: the program has no backward."
        other = _run(claim, claim.bind(made), claim.dtype, x, generator, watch, differentiate=False)
    again = _run(claim, claim.bind(made), claim.dtype, x, generator, watch, differentiate=not note)
    f64 = _recast(claim, "f64")
    noisy = list(neighbours(lambda v: _run(claim, f64, torch.float64, v, generator, watch), x, claim.seed))
    judged = _evidence(claim, {place: exact[place] for place in other}, single, noisy, found, (other, again))
    decided = {place: decide(evidence) for place, evidence in judged.items()}
    place = max(judged, key=lambda p: (decided[p][0].severity, judged[p].error / judged[p].unit_bound))
    evidence, (verdict, reason) = judged[place], decided[place]
    if note and verdict is Verdict.EXACT:
        reason = Reason(code=reason.code, message=note)
    bound = evidence.bound(claim_eps(evidence.dtype))
    return describe(claim, name, verdict, reason).model_copy(
        update={
            "samples": claim.samples,
            "error": evidence.error,
            "bound": bound,
            "power": evidence.failing_power,
            "kappa": evidence.kappa,
            "leaf": place,
            "elements": tuple(
                ElementResult(element=p, error=e.error, bound=e.bound(claim_eps(e.dtype))) for p, e in judged.items()
            ),
            "seconds": time.perf_counter() - start,
            "seconds_in_layer": watch.seconds,
        }
    )


def _evidence(
    claim: Claim, exact: Runs, single: Runs, noisy: list[tuple[Runs, Add]], eager: Runs, made: tuple[Runs, Runs]
) -> dict[str, Evidence]:
    """The evidence from two runs of the compiled layer and one of the eager layer, at every place of f_*."""
    fields = {f"output {p}".strip(): leaf for p, leaf in leaves(claim.target)}
    fields |= {f"input gradient {p}".strip(): leaf for p, leaf in leaves(claim.source)}
    judged = {}
    for place, value in exact.items():
        first, second = (run[place] for run in made)
        scale = Scale.of(fields[place], value)
        kappa = Kappa()
        kappa.add_loss(scale.rounding(single[place] - value).amax(1, keepdim=True))
        for run, add in noisy:
            add(kappa, scale.rounding(run[place] - value).amax(1, keepdim=True))
        judged[place] = Evidence(
            dtype=str(claim.dtype).removeprefix("torch."),
            error=largest(scale.rounding(first - eager[place])),
            unit_bound=SAFETY * kappa.worst,
            kappa=kappa.worst,
            condition=kappa.worst_condition,
            wrong=largest(scale.rounding(value - value.roll(1, 0))),
            finite=bool(first.isfinite().all()),
            repeatable=torch.equal(first, second),
        )
    # The gradient of a linear map does not depend on the input and proves nothing, so all places share one power.
    power = max(evidence.wrong / evidence.unit_bound for evidence in judged.values())
    return {p: e.model_copy(update={"wrong": power, "wrong_unit": 1.0}) for p, e in judged.items()}


def _recast(claim: Claim, kind: str) -> Callable[[Tree], Tree]:
    if kind == "f64" and claim.reference is not None:
        return claim.bind(claim.reference)
    return claim.bind(recast(claim.function, torch.float64 if kind == "f64" else torch.float32))


def _make(claim: Claim, backend: str, x: Tree) -> Callable[..., Any]:
    """The function compiled or exported, called once."""
    if backend == "export":
        if not isinstance(claim.function, torch.nn.Module) or isinstance(claim.source, dict):
            raise UsageError(
                "torch.export accepts only modules with positional arguments: leave out the backend 'export'."
            )
        given = tree_map(lambda v: v.to(claim.dtype) if v.is_floating_point() else v, x)
        arguments = tuple(given) if isinstance(given, (list, tuple)) else (given,)
        exported: Callable[..., Any] = torch.export.export(claim.function, arguments).module()
        return exported
    torch.compiler.reset()
    compiled: Callable[..., Any] = torch.compile(claim.function, backend=backend, dynamic=False)
    _run(claim, claim.bind(compiled), claim.dtype, x, torch.Generator().manual_seed(0), Stopwatch())
    return compiled


def _run(
    claim: Claim,
    function: Callable[[Tree], Tree],
    dtype: torch.dtype,
    x: Tree,
    generator: torch.Generator,
    watch: Stopwatch,
    *,
    differentiate: bool = True,
) -> Runs:
    """Outputs and input gradients, as float64 values."""
    x = tree_map(lambda v: v.to(dtype, copy=True).requires_grad_(differentiate) if v.is_floating_point() else v, x)
    state = generator.get_state()
    with seeded(claim.call_seed, claim.device), full_float32(), torch.set_grad_enabled(differentiate):
        with watch:
            y = tree_map(lambda _, v: v, claim.target, function(x))
        weights = [torch.randn(v.shape, generator=generator, dtype=torch.float64).to(v) for _, v in leaves(y)]
        product = torch.stack([(v * w).sum() for (_, v), w in zip(leaves(y), weights, strict=True)]).sum()
    generator.set_state(state)  # every run uses the same weights for the outputs
    found = {f"output {path}".strip(): v.detach().double() for path, v in leaves(y)}
    wanted = [(path, v) for path, v in leaves(x) if v.requires_grad]
    if product.requires_grad and wanted:
        with watch:
            gradients = torch.autograd.grad(product, [v for _, v in wanted], allow_unused=True)
        for (path, v), gradient in zip(wanted, gradients, strict=True):
            value = torch.zeros_like(v) if gradient is None else gradient
            found[f"input gradient {path}".strip()] = value.double()
    return found
