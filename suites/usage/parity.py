"""Parity: two implementations of one operator with the same parameters agree forward and backward.

    E_* = ||f(x) - h(x)|| / D        gradients: the same for <f(x), w> with respect to the input and the parameters

Everything is computed in float64. The bound comes from the rounding of both: kappa = max(1, P_32/eps_32 of f, of h, C),
bound = S kappa eps. The power is the largest error of wrongly mapped parameters, another sample or a wrong backward.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import torch

from ...harness.claim.claim import Claim, Operator, Twin
from ...harness.claim.evaluation import Stopwatch, full_float32
from ...harness.claim.outcome import Outcome, describe
from ...harness.claim.recast import recast
from ...harness.claim.scale import Scale
from ...harness.errors import MissingDependencyError, UsageError
from ...harness.precisions import claim_eps
from ...harness.trees import Tree, leaves, tree_map
from ...harness.verdict.decide import SAFETY, Evidence, decide, lost_bits
from ...harness.verdict.result import CheckResult, Code, ElementResult, Reason, Verdict, worst
from ..rounding import Kappa, largest, largest_of, neighbours

Parameters = Mapping[str, torch.Tensor]


def parity(claim: Claim) -> Outcome:
    """Both implementations of every pair that the claim's adapter names have the same outputs and gradients.

    Args:
        claim: ``claim.twins`` builds the pairs; outputs are compared on the claim's target.

    Returns:
        The worst pair's verdict, with one part for each pair: EXACT if rounding explains the differences, IMPRECISE if
        one implementation has constants in single precision. SKIPPED without pairs, or if the other library of every
        pair is missing.

    Raises:
        UsageError: the outputs of a pair differ in shape.
    """
    if not claim.twins:
        reason = Reason(code=Code.NO_TWIN, message="the adapter names no second implementation of this operator.")
        return Outcome(describe(claim, "parity", Verdict.SKIPPED, reason))
    parts = [_compare(claim, build) for build in claim.twins]
    decisive = worst(parts)
    seconds = {"seconds": sum(p.seconds for p in parts), "seconds_in_layer": sum(p.seconds_in_layer for p in parts)}
    return Outcome(decisive.model_copy(update={**seconds, "property": "parity", "parts": tuple(parts)}))


def _compare(claim: Claim, build: Callable[[], Twin]) -> CheckResult:
    start = time.perf_counter()
    try:
        twin: Twin = build()
    except MissingDependencyError as error:
        return describe(claim, "parity", Verdict.SKIPPED, Reason(code=Code.NOT_INSTALLED, message=str(error)))
    pair = _Pair(claim, twin)
    measured = _measure(pair)
    judged = [(place, evidence, *decide(evidence)) for place, evidence in measured.items()]
    place, evidence, verdict, reason = max(judged, key=lambda row: (row[2].severity, _ratio(row[1])))
    eps = claim_eps(evidence.dtype)
    rows = tuple(
        ElementResult(
            element=str(where),
            error=e.error,
            bound=e.bound(eps),
            precision=e.precision,
            power=e.failing_power,
        )
        for where, e in measured.items()
    )
    return describe(claim, f"parity: {twin.name}", verdict, reason).model_copy(
        update={
            "samples": claim.samples,
            "error": evidence.error,
            "bound": evidence.bound(eps),
            "power": evidence.failing_power,
            "kappa": evidence.kappa,
            "precision": evidence.precision,
            "lost_bits": lost_bits(evidence),
            "leaf": str(place),
            "elements": rows,
            "seconds": time.perf_counter() - start,
            "seconds_in_layer": pair.watch.seconds,
        }
    )


def _ratio(evidence: Evidence) -> float:
    bound = evidence.bound(claim_eps(evidence.dtype))
    return 0.0 if evidence.error == 0 else evidence.error / bound


class Kind(StrEnum):
    """The kinds of compared tensors."""

    OUTPUT = "output"
    INPUT = "input gradient"
    PARAMETER = "gradient of"


@dataclass(frozen=True)
class Place:
    """One compared tensor: an output or input gradient by its path in the tree, or a parameter gradient by its name."""

    kind: Kind
    path: str

    def __str__(self) -> str:
        return f"{self.kind} {self.path}".strip()


#: Outputs and gradients of one run, as float64 values.
Run = dict[Place, torch.Tensor]


class _Pair:
    """Runs both implementations of a twin on one batch, in any precision."""

    def __init__(self, claim: Claim, twin: Twin) -> None:
        self.claim, self.twin = claim, twin
        self.watch = Stopwatch()
        dtype = torch.float32 if claim.dtype is torch.float64 else claim.dtype
        # Values are exact in the working precision, so inputs, parameters and cotangents are equal in all runs.
        self.x = tree_map(lambda v: _through(v, dtype), claim.draw(claim.samples))
        self.parameters = {n: _through(p.detach().double(), dtype) for n, p in twin.parameters.items()}
        generator = torch.Generator().manual_seed(claim.seed + 4)
        with torch.no_grad():
            y = recast(twin.first, torch.float64)(self.parameters, self.x)
        noise = [torch.randn(v.shape, generator=generator, dtype=torch.float64) for _, v in leaves(y)]
        self.cotangents = [_through(w, dtype).to(claim.device) for w in noise]

    def run(
        self,
        operator: Operator,
        dtype: torch.dtype,
        *,
        x: Tree = None,
        parameters: Parameters | None = None,
        cotangents: list[torch.Tensor] | None = None,
    ) -> Run:
        """Outputs, and gradients of <f(x), w> with respect to input and parameters."""
        x = tree_map(lambda v: _leaf(v, dtype), self.x if x is None else x)
        theta = {n: _leaf(p, dtype) for n, p in (self.parameters if parameters is None else parameters).items()}
        native = dtype is self.claim.dtype and dtype is not torch.float64
        with full_float32(), torch.enable_grad(), self.watch:
            y = (operator if native else recast(operator, dtype))(theta, x)
            outputs = [v for _, v in leaves(y)]
            self._require_one_shape(outputs)
            product = sum(
                (v * w.to(v.dtype)).sum() for v, w in zip(outputs, cotangents or self.cotangents, strict=True)
            )
        wanted = {Place(Kind.INPUT, path): v for path, v in leaves(x) if v.requires_grad}
        wanted |= {Place(Kind.PARAMETER, n): p for n, p in theta.items()}
        with self.watch:
            gradients = torch.autograd.grad(product, list(wanted.values()), allow_unused=True)
        found = {Place(Kind.OUTPUT, path): v.detach().double() for path, v in leaves(y)}
        for (place, v), gradient in zip(wanted.items(), gradients, strict=True):
            found[place] = torch.zeros_like(v).double() if gradient is None else gradient.double()
        return found

    def both(self, dtype: torch.dtype) -> list[Run]:
        """One run of each implementation."""
        return [self.run(self.twin.first, dtype), self.run(self.twin.second, dtype)]

    def mistaken(self) -> list[Run]:
        """Runs with faults: wrongly mapped parameters, inputs of other samples, the gradient of another <y, w>.

        These runs use the first implementation, because the second is often a slow formula summed term by term.
        """
        generator = torch.Generator().manual_seed(self.claim.seed + 5)
        wrong = {
            n: -p.flatten()[torch.randperm(p.numel(), generator=generator).to(p.device)].reshape(p.shape)
            for n, p in self.parameters.items()
        }
        rolled = tree_map(lambda v: v.roll(1, 0), self.x)
        other = [torch.randn(w.shape, generator=generator, dtype=torch.float64).to(w) for w in self.cotangents]
        return [
            self.run(self.twin.first, torch.float64, parameters=wrong),
            self.run(self.twin.first, torch.float64, x=rolled),
            self.run(self.twin.first, torch.float64, cotangents=other),
        ]

    def _require_one_shape(self, outputs: list[torch.Tensor]) -> None:
        if [v.shape for v in outputs] != [w.shape for w in self.cotangents]:
            raise UsageError(
                f"The implementations of {self.twin.name!r} differ in shape: {[list(v.shape) for v in outputs]} and "
                f"{[list(w.shape) for w in self.cotangents]}. Map the layouts in the adapter's twin."
            )


def _measure(pair: _Pair) -> dict[Place, Evidence]:
    """The evidence for every output, input gradient and parameter gradient."""
    claim, twin = pair.claim, pair.twin
    exact, single = pair.both(torch.float64), pair.both(torch.float32)
    working = {torch.float32: single, torch.float64: exact}.get(claim.dtype) or pair.both(claim.dtype)
    again, mistaken = pair.run(twin.first, torch.float64), pair.mistaken()
    noisy = list(neighbours(lambda x: pair.run(twin.first, torch.float64, x=x), pair.x, claim.seed))
    finite = all(_finite(run) for run in (*exact, *working))
    repeatable = not finite or all(torch.equal(v, again[place]) for place, v in exact[0].items())
    found = {}
    for place in exact[0]:
        size = _Size(claim, place, exact[0])

        def apart(run: Run, other: Run, place: Place = place, size: _Size = size) -> float:
            return size.relative(run[place] - other[place])

        # A place that does not depend on the input has size 0 and no information about rounding.
        kappa = Kappa()
        for a, b in zip(single, exact, strict=True):
            kappa.add_loss(_one(apart(a, b)))
        for run, add in noisy:
            add(kappa, _one(apart(run, exact[0])))
        found[place] = Evidence(
            dtype=str(claim.dtype).removeprefix("torch."),
            error=apart(exact[1], exact[0]),
            unit_bound=SAFETY * kappa.worst,
            kappa=kappa.worst,
            condition=kappa.worst_condition,
            wrong=largest_of(apart(run, exact[0]) for run in mistaken),
            precision=largest_of(apart(a, b) for a, b in zip(working, exact, strict=True)),
            finite=finite,
            repeatable=repeatable,
        )
    return found


class _Size:
    """The size that errors at one place are divided by.

    For outputs and input gradients, this is the part that varies over samples; for parameter gradients, their joint
    norm, because a gradient that vanishes (of a bias before a norm) consists of rounding only.
    """

    def __init__(self, claim: Claim, place: Place, run: Run) -> None:
        self.scale: Scale | None = None
        if place.kind is Kind.PARAMETER:
            joint = [v.flatten() for p, v in run.items() if p.kind is Kind.PARAMETER]
            self.norm = float(torch.linalg.vector_norm(torch.cat(joint)))
        else:
            side = claim.target if place.kind is Kind.OUTPUT else claim.source
            self.scale = Scale.of(dict(leaves(side))[place.path], run[place])

    def relative(self, difference: torch.Tensor) -> float:
        """The error of the worst sample and summand; 0/0 = 0, and NaN stays NaN."""
        if self.scale is not None:
            return largest(self.scale.relative(difference))
        norm = float(torch.linalg.vector_norm(difference))
        return 0.0 if norm == 0 else norm / self.norm if self.norm > 0 else math.inf


def _finite(run: Run) -> bool:
    return all(bool(v.isfinite().all()) for v in run.values())


def _one(error: float) -> torch.Tensor:
    return torch.tensor([error], dtype=torch.float64)


def _through(value: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return value.to(dtype).double() if value.is_floating_point() else value


def _leaf(value: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    if not value.is_floating_point():
        return value
    return value.detach().to(dtype, copy=True).requires_grad_()
