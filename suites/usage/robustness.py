"""Robustness: the output for one sample does not depend on the memory layout of the batch or on the other samples.

    alone           f(x)_s = f(x_s)                  a batch of one, and no leak between samples
    layouts         strided, channels-last, expanded memory: the same values
    NaN             in one sample's input changes no other sample's output
    empty batch     an output of no samples
    scales          inputs 2^k times larger or smaller lose no more precision than rounding explains
    determinism     two backward passes are bitwise equal

Values are compared with f_* at the same input, with the same bound as equivariance.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from ...harness.claim.claim import Claim
from ...harness.claim.evaluation import Subject
from ...harness.claim.outcome import Outcome, describe
from ...harness.claim.scale import Scale
from ...harness.errors import EquiharnessError, UsageError
from ...harness.precisions import EPS, claim_eps
from ...harness.trees import Tree, leaves, tree_map
from ...harness.verdict.decide import SAFETY, Evidence, decide, lost_bits
from ...harness.verdict.result import Code, ElementResult, Reason, Verdict
from ..rounding import Kappa, largest, largest_of, neighbours, perturbed, samples_of, values_of

#: Exponents k of the factors 2^k; squares, sums of thousands of values and inverses still fit the dtype's exponents.
LARGE = {"float64": 400, "float32": 45, "bfloat16": 45, "float16": 4}
SMALL = {"float64": -400, "float32": -45, "bfloat16": -45, "float16": -4}


@dataclass(frozen=True)
class _Row:
    """One statement: its evidence, or the error that was raised."""

    name: str
    evidence: Evidence | None
    failure: str = ""


def robustness(claim: Claim) -> Outcome:
    """Check the statements of this module on one batch, each separately; the worst statement decides and is named.

    Returns:
        EXACT, or BROKEN(NOT_ROBUST) with the name of the failed statement: samples influence each other, the memory
        layout changes the output, an empty batch raises an error, NaN spreads, or values of unusual size are lost.
    """
    start = time.perf_counter()
    subject = Subject(claim, whole=True)  # parts outside a band must not leak either
    with subject.guarded():
        trials = Trials(subject)
        rows = list(trials.rows()) if trials.finite else []
    if not rows:
        reason = Reason(code=Code.NONFINITE, message="the output is not finite on ordinary inputs.")
        return Outcome(describe(claim, "robustness", Verdict.BROKEN, reason))
    judged = [(row, *_judge(row)) for row in rows]
    row, verdict, reason = max(judged, key=lambda j: (j[1].severity, _ratio(j[0].evidence)))
    evidence = row.evidence
    eps = claim_eps(str(claim.dtype).removeprefix("torch."))
    numbers: dict[str, Any] = (
        {}
        if evidence is None
        else {
            "error": evidence.error,
            "bound": evidence.bound(eps),
            "kappa": evidence.kappa,
            "power": evidence.failing_power,
            "precision": evidence.precision,
            "lost_bits": lost_bits(evidence),
        }
    )
    elements = tuple(
        ElementResult(element=r.name, error=e.error, bound=e.bound(eps), precision=e.precision)
        for r in rows
        if (e := r.evidence) is not None
    )
    result = describe(claim, "robustness", verdict, reason).model_copy(
        update={
            **numbers,
            "samples": claim.samples,
            "element": row.name,
            "elements": elements,
            "seconds": time.perf_counter() - start,
            "seconds_in_layer": subject.seconds,
        }
    )
    return Outcome(result)


def _judge(row: _Row) -> tuple[Verdict, Reason]:
    if row.evidence is None:
        return Verdict.BROKEN, Reason(code=Code.NOT_ROBUST, message=f"{row.name}: {row.failure}")
    verdict, reason = decide(row.evidence)
    if verdict is Verdict.BROKEN:
        return verdict, Reason(code=Code.NOT_ROBUST, message=f"{row.name}: {reason.message}")
    if reason.code == Code.LOW_POWER and row.evidence.dtype in ("float16", "bfloat16"):
        # Two runs in half precision agree only to half precision, so smaller faults cannot be detected.
        return Verdict.EXACT, Reason(code=Code.EXACT, message="")
    return verdict, reason


def _ratio(evidence: Evidence | None) -> float:
    return math.inf if evidence is None else evidence.error / evidence.bound(claim_eps(evidence.dtype))


class OtherShapeError(EquiharnessError):
    """A sample alone has an output of another shape than in the batch."""


class Trials:
    """Runs the layer on one batch for each statement."""

    def __init__(self, subject: Subject) -> None:
        self.subject, self.claim = subject, subject.claim
        self.dtype = str(self.claim.dtype).removeprefix("torch.")
        self.x = samples_of(self.claim)
        self.working = values_of(subject.working(self.x))
        reference = subject.probe_reference(self.x)
        self.reference = self.working if reference is None else values_of(reference)
        self.finite = _finite([*self.working, *self.reference])
        self.leaves = [leaf for _, leaf in leaves(self.claim.target)]
        self.scales = [Scale.of(leaf, v) for leaf, v in zip(self.leaves, self.reference, strict=True)]
        self.kappa = self._kappa()

    def rows(self) -> Iterator[_Row]:
        """Yield every statement that applies."""
        yield self._tried("a sample alone", self.alone)
        yield self._tried("strided memory", lambda: self._laid_out(_strided))
        if any(v.dim() in (4, 5) for v in values_of(self.x)):
            yield self._tried("channels-last memory", lambda: self._laid_out(_channels_last))
        yield self._tried("expanded memory", self._expanded)
        yield self._tried("NaN in another sample", self._isolated)
        yield self._tried("an empty batch", self._empty)
        yield self._tried("large values", lambda: self._scaled(2.0 ** LARGE[self.dtype]))
        yield self._tried("small values", lambda: self._scaled(2.0 ** SMALL[self.dtype]))
        yield self._tried("two backward passes", self._backward_twice)

    def _tried(self, name: str, statement: Callable[[], Evidence | None]) -> _Row:
        try:
            evidence = statement()
        except UsageError:
            raise
        except Exception as error:
            return _Row(name, None, f"raises {type(error).__name__}: {error}")
        return _Row(name, evidence if evidence is not None else self._evidence(0.0))

    def alone(self) -> Evidence:
        """Compare f_*(x)_s with f_*(x_s) for each sample, in float64, where rounding cannot hide a leak."""
        form = self.subject.reference if self.subject.has_reference else self.subject.working
        alone = [values_of(form(tree_map(lambda v, i=i: v[i : i + 1], self.x))) for i in range(self.claim.samples)]
        together = self.reference if self.subject.has_reference else self.working
        for v, w in zip(alone[0], together, strict=True):
            if v.shape != w[:1].shape:
                raise OtherShapeError(
                    f"a sample alone has the output {list(v.shape)}, and the first of the batch {list(w[:1].shape)}."
                )
        return self._compare([torch.cat(rows) for rows in zip(*alone, strict=True)], together)

    def reordered(self) -> Evidence:
        """Compare f_* of the samples in another order with f_*(x) in that order."""
        form = self.subject.reference if self.subject.has_reference else self.subject.working
        found = values_of(form(tree_map(lambda v: v.roll(1, 0), self.x)))
        together = self.reference if self.subject.has_reference else self.working
        return self._compare([v.roll(-1, 0) for v in found], together)

    def _laid_out(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Evidence:
        return self._compare(self._raw(tree_map(change, self.subject.rounded(self.x))), self.working, working=True)

    def _expanded(self) -> Evidence:
        """Repeat one sample by expanded memory, without copies."""
        x = tree_map(lambda v: v[:1].expand(v.shape), self.subject.rounded(self.x))
        dense = self._raw(tree_map(lambda v: v.clone(memory_format=torch.contiguous_format), x))
        return self._compare(self._raw(x), dense, working=True)

    def _isolated(self) -> Evidence:
        """Set the first sample to NaN and compare the other samples."""

        def spoil(v: torch.Tensor) -> torch.Tensor:
            if not v.is_floating_point():
                return v
            v = v.clone()
            v[0] = torch.nan
            return v

        found = self._raw(tree_map(spoil, self.subject.rounded(self.x)))
        others = [torch.cat([w[:1], v[1:]]) for v, w in zip(found, self.working, strict=True)]
        return self._compare(others, self.working, working=True)

    def _empty(self) -> None:
        outputs = self._raw(tree_map(lambda v: v[:0], self.subject.rounded(self.x)))
        wanted = [(0, *v.shape[1:]) for v in self.working]
        if [tuple(v.shape) for v in outputs] != wanted:
            raise ValueError(f"shapes {[tuple(v.shape) for v in outputs]} instead of {wanted}")

    def _scaled(self, factor: float) -> Evidence | None:
        """Compare f_p with f_* at inputs of unusual size, if f_* can be represented in p."""
        if not self.subject.has_reference:
            return None
        x = tree_map(lambda v: v * factor if v.is_floating_point() else v, self.x)
        x = self.subject.through(x, self.claim.dtype)
        exact = values_of(self.subject.reference(x))
        info = torch.finfo(self.claim.dtype)
        sizes = [float(v.abs().max()) if v.numel() else 1.0 for v in exact]
        if not all(info.tiny / EPS[self.dtype] < s < info.max * EPS["float16"] for s in sizes):
            return None
        found = values_of(self.subject.working(x))
        # Next to a bias, the part that depends on a small input is legitimately rounded away, so errors are relative to
        # the whole output.
        error = largest_of(_of_whole(leaf, a, b) for leaf, a, b in zip(self.leaves, found, exact, strict=True))
        here = largest_of(_of_whole(*row) for row in zip(self.leaves, self.working, self.reference, strict=True))
        # This is a loss of precision, not of structure. The bound comes from the loss at ordinary size and from the
        # rounding of the input at this size, where other terms may cancel.
        allowed = max(here, EPS[self.dtype])
        if error > SAFETY * allowed:
            allowed = max(allowed, self._rounding_of_input(x, exact))
        unit = SAFETY * allowed / claim_eps(self.dtype)
        finite = _finite(found)
        return Evidence(dtype=self.dtype, error=error, unit_bound=unit, kappa=unit / SAFETY, wrong=1.0, finite=finite)

    def _rounding_of_input(self, x: Tree, exact: list[torch.Tensor]) -> float:
        """The change of f_* when x is rounded to p, relative to the whole output."""
        found = []
        for nudged in perturbed(x, self.claim.seed, EPS[self.dtype]):
            moved = values_of(self.subject.reference(nudged))
            found += [_of_whole(leaf, a, b) for leaf, a, b in zip(self.leaves, moved, exact, strict=True)]
        return max((v for v in found if math.isfinite(v)), default=0.0)

    def _backward_twice(self) -> None:
        first, second = self._gradient(), self._gradient()
        if first is None or second is None:
            return
        if not all(torch.equal(a, b) for a, b in zip(first, second, strict=True)):
            raise ValueError("the gradients of two identical calls differ")

    def _gradient(self) -> list[torch.Tensor] | None:
        x = tree_map(lambda v: v.detach().clone().requires_grad_(v.is_floating_point()), self.subject.rounded(self.x))
        if self.claim.call_seed is not None:
            torch.manual_seed(self.claim.call_seed)
        with torch.enable_grad():
            y = [v for _, v in leaves(self.claim.bind(self.claim.function)(x)) if v.is_floating_point()]
            if not any(v.requires_grad for v in y):
                return None
            product = torch.stack([v.double().sin().sum() for v in y]).sum()
        wanted = [v for v in values_of(x) if v.requires_grad]
        return [g for g in torch.autograd.grad(product, wanted, allow_unused=True) if g is not None]

    def _raw(self, x: Tree) -> list[torch.Tensor]:
        """The layer's outputs for tensors in their own memory layout."""
        if self.claim.call_seed is not None:
            torch.manual_seed(self.claim.call_seed)
        with torch.no_grad():
            y = self.claim.bind(self.claim.function)(x)
        return values_of(tree_map(lambda _, v: v.double(), self.claim.target, y))

    def _compare(self, found: list[torch.Tensor], wanted: list[torch.Tensor], *, working: bool = False) -> Evidence:
        pairs = zip(self.scales, found, wanted, strict=True)
        errors = [s.relative(a - b) for s, a, b in pairs]
        error = largest_of(largest(e) for e in errors)
        # Finite values were wanted, so others are no lack of evidence.
        finite = not _finite(wanted) or _finite(found)
        # Two working runs differ by the rounding of the working precision itself.
        coarse = EPS[self.dtype] / claim_eps(self.dtype) if working else 1.0
        return self._evidence(error, coarse, finite=finite)

    def _evidence(self, error: float, coarse: float = 1.0, *, finite: bool = True) -> Evidence:
        unit = SAFETY * self.kappa * max(1.0, coarse)
        varies = max(largest(s.relative(v - v.roll(1, 0))) for s, v in zip(self.scales, self.reference, strict=True))
        wrong = varies if math.isfinite(varies) else 0.0
        return Evidence(dtype=self.dtype, error=error, unit_bound=unit, kappa=self.kappa, wrong=wrong, finite=finite)

    def _kappa(self) -> float:
        """kappa of the unchanged batch."""
        kappa = Kappa()
        if not self.finite or not self.subject.has_reference:
            return 1.0
        rounded = self.subject.through(self.x, torch.float32)
        single, exact = values_of(self.subject.single(rounded)), values_of(self.subject.reference(rounded))
        for scale, a, b in zip(self.scales, single, exact, strict=True):
            kappa.add_loss(scale.rounding(a - b).amax(1, keepdim=True))
        for moved, add in neighbours(self.subject.reference, self.x, self.claim.seed):
            for scale, a, b in zip(self.scales, values_of(moved), self.reference, strict=True):
                add(kappa, scale.rounding(a - b).amax(1, keepdim=True))
        return kappa.worst


def _finite(values: list[torch.Tensor]) -> bool:
    return all(bool(v.isfinite().all()) for v in values)


def _of_whole(leaf: Any, found: torch.Tensor, exact: torch.Tensor) -> float:
    """The worst ||f_p - f_*|| / ||f_*|| over samples and summands; zero summands are left out."""
    sizes = torch.linalg.vector_norm(leaf.summands(exact), dim=-1)
    errors = torch.linalg.vector_norm(leaf.summands(found - exact), dim=-1)
    return float((errors / sizes)[sizes > 0].max()) if bool((sizes > 0).any()) else 0.0


def _strided(v: torch.Tensor) -> torch.Tensor:
    """The same values in memory with gaps and with reversed axes."""
    if v.dim() < 2:
        return v
    room = v.new_empty(*(2 * n for n in reversed(v.shape)))
    view = room[tuple(slice(None, None, 2) for _ in v.shape)].permute(*reversed(range(v.dim())))
    return view.copy_(v)


def _channels_last(v: torch.Tensor) -> torch.Tensor:
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return v.contiguous(memory_format=formats[v.dim()]) if v.dim() in formats else v
