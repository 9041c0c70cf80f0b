"""Backward passes: adjoint and parameter gradient, two statements on the derivative of f(a_g x) = b_g f(x).

    adjoint               a_g^T J(a_g x)^T w = J(x)^T b_g^T w             for every w
    parameter gradient    d/dtheta <f(a_g x), w> = d/dtheta <f(x), b_g^T w>

Transposes are vector-Jacobian products, of the actions too, so that any action will do: orthogonal, projecting onto a
band, or a function. Both sides start from a_e x (the band, where there is one) and end in b_e. The statement for
generators implies it for their products.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from ..harness.claim import Claim
from ..harness.error import Scale
from ..harness.errors import UsageError
from ..harness.fields import Field
from ..harness.groups import Element
from ..harness.reference import recast
from ..harness.subject import Subject, full_float32, seeded
from ..harness.trees import Tree, leaves, tree_map
from ..harness.verdict import (
    EPS,
    SAFETY,
    CheckResult,
    ElementError,
    Evidence,
    Reason,
    Verdict,
    claim_eps,
    decide,
    lost_bits,
    tightest_eps,
)
from .aliasing import aliases, excuse
from .equivariance import jittered
from .homomorphism import defect
from .measurement import PERTURBATIONS, SAMPLES, largest, nudge
from .outcome import Outcome, describe

#: Elements beside the generators: in a finite group the statement for generators implies the rest, and one more is a
#: second look; in a continuous one the generators of a grid's symmetries and one Haar sample generate a dense subgroup.
OTHERS = 1
#: Wrong target actions tried at each element: the power is the largest of their errors, and any one is large.
WRONG = 2

#: What autograd says of a graph that was used up.
FREED = "backward through the graph a second time"

#: Gradients by place: an input's path for the adjoint, a parameter's name for the parameter gradient.
Gradients = dict[str, torch.Tensor]


def adjoint(claim: Claim) -> Outcome:
    """The input gradient is equivariant: a_g^T J(a_g x)^T w = J(x)^T b_g^T w.

    Args:
        claim: its function must be differentiable in some floating input.

    Returns:
        EXACT, or BROKEN where a right forward has a wrong backward. SKIPPED(NOT_DIFFERENTIABLE) where the output
        carries no gradient, SKIPPED(NO_EXACT_ELEMENTS) where no element maps the grid onto itself.
    """
    return _check(claim, "adjoint")


def parameter_gradient(claim: Claim) -> Outcome:
    """The gradient of every parameter is the same from both sides: d<f(a_g x), w> = d<f(x), b_g^T w>.

    It holds where the function is equivariant for every value of its parameters, so that training cannot break it.

    Args:
        claim: ``claim.modules`` hold the parameters.

    Returns:
        EXACT, or BROKEN where a weight gradient is wrong or single weights may move alone. Gradients are measured
        against the norm of all of them jointly. SKIPPED(NO_PARAMETERS) without any.
    """
    return _check(claim, "parameter_gradient")


def _check(claim: Claim, name: str) -> Outcome:
    try:
        outcome = _measured(claim, name)
        return _tie(claim, name) or outcome if outcome.result.reason.code == "ERROR" else outcome
    except RuntimeError as error:
        if FREED not in str(error):
            raise
        text = (
            "the layer frees its own graph by differentiating inside: its backward is checked with create_graph=True."
        )
        return Outcome(describe(claim, name, Verdict.SKIPPED, Reason(code="NOT_DIFFERENTIABLE", message=text)))


def _tie(claim: Claim, name: str) -> Outcome | None:
    """The outcome of inputs moved by 1e-4, where these pass: at a tie or a kink a layer has no gradient to judge."""
    moved = replace(claim, inputs=lambda count, generator: jittered(claim.draw(count), claim.seed))
    outcome = _measured(moved, name)
    if outcome.result.verdict in (Verdict.BROKEN, Verdict.SKIPPED):
        return None
    message = "fails on tied inputs and passes when they are moved by 1e-4: the layer has no gradient there."
    told = {"verdict": Verdict.AMBIGUOUS, "reason": Reason(code="TIE", message=message)}
    return replace(outcome, result=outcome.result.model_copy(update=told))


def _measured(claim: Claim, name: str) -> Outcome:
    start = time.perf_counter()
    rng = np.random.default_rng(claim.seed)
    elements = _elements(claim, rng)
    with Subject(claim).guarded():
        loop = _Loop(claim, name == "adjoint")
        skipped = _not_applicable(claim, elements, loop)
        if skipped is not None:
            return Outcome(describe(claim, name, Verdict.SKIPPED, skipped))
        loop.measure_defect(elements)
        for g in elements:
            loop.visit(g)
    # An unused input or a bias before a norm has no gradient of its own: the places are proof together.
    power = max(_power_units(tally) for tally in loop.tallies)
    judged = [(tally, *_judge(claim, loop, tally, power)) for tally in loop.tallies]
    tally, evidence, index, verdict, reason = max(judged, key=lambda row: (row[3].severity, _ratio(row[1])))
    result = _report(claim, name, elements, tally, evidence, index)
    if (verdict is Verdict.BROKEN or reason.code == "CONSTANTS_IN_SINGLE") and aliases(claim):
        verdict, reason = Verdict.SKIPPED, excuse(claim, evidence.error)
    seconds = {"seconds": time.perf_counter() - start, "seconds_in_layer": loop.seconds}
    return Outcome(result.model_copy(update={"verdict": verdict, "reason": reason, **seconds}))


def _elements(claim: Claim, rng: np.random.Generator) -> list[Element]:
    """Generators and a few others, of those that need no interpolation; never the identity."""
    if claim.refined is not None:
        return []
    exact = [g for g in claim.representatives(rng, 2) if claim.exact(g) and not g.is_identity]
    if claim.elements:
        return exact
    generators = [g for g in claim.group.generators if claim.exact(g) and not g.is_identity]
    rest = [g for g in exact if all(g is not h for h in generators)]
    if generators:
        order = rng.permutation(len(rest)) if claim.group.order is not None else range(len(rest))
        rest = [rest[i] for i in order[:OTHERS]]
    return generators + rest


def _not_applicable(claim: Claim, elements: Sequence[Element], loop: _Loop) -> Reason | None:
    if not elements:
        return Reason(code="NO_EXACT_ELEMENTS", message=f"no element of {claim.group.name} maps the grid onto itself.")
    if not loop.wanted(loop.x):
        if loop.on_inputs:
            return Reason(code="NOT_DIFFERENTIABLE", message="no input is a floating tensor.")
        return Reason(code="NO_PARAMETERS", message="the layer has no parameters.")
    if not loop.has_reference:
        text = "the layer cannot be computed in float64, so rounding in its gradients has no bound."
        return Reason(code="NO_REFERENCE", message=text)
    if not loop.differentiable:
        return Reason(code="NOT_DIFFERENTIABLE", message="the output carries no gradient: only the forward can hold.")
    return None


@dataclass
class _Tally:
    """What one place has shown so far, worst over samples, an entry for each element."""

    place: str
    size: _Size
    kappa: torch.Tensor = field(default_factory=lambda: torch.ones(1, dtype=torch.float64))
    errors: list[torch.Tensor] = field(default_factory=list)
    seen: list[float] = field(default_factory=list)
    precision: list[float] = field(default_factory=list)
    wrong: list[torch.Tensor] = field(default_factory=list)
    other: list[torch.Tensor] = field(default_factory=list)


class _Size:
    """What a gradient's error is relative to: its own size over samples, or all parameter gradients jointly."""

    def __init__(self, leaf: Any, gradient: torch.Tensor, joint: float) -> None:
        self.scale = Scale.of(leaf, gradient) if leaf is not None else None
        self.joint = joint

    def relative(self, difference: torch.Tensor) -> torch.Tensor:
        """Errors [summand], the worst over samples; 0/0 = 0."""
        if self.scale is not None:
            return self.scale.relative(difference).amax(0)
        norm = float(torch.linalg.vector_norm(difference))
        error = 0.0 if norm == 0 else norm / self.joint if self.joint > 0 else math.inf
        return torch.tensor([error], dtype=torch.float64)


class _Loop:
    """Gradients of both sides at each element, in float64, float32 and the working precision."""

    def __init__(self, claim: Claim, on_inputs: bool) -> None:
        self.claim, self.on_inputs = claim, on_inputs
        self.seconds = 0.0
        named = [(n, p) for m in claim.modules for n, p in m.named_parameters() if p.is_floating_point()]
        self.parameters = dict(named)
        dtype = torch.float32 if claim.dtype is torch.float64 else claim.dtype
        self.x = tree_map(lambda v: _through(v, dtype), claim.draw(SAMPLES))
        self.differentiable = True
        self.repeatable = self.has_reference = True
        self.defect = 0.0
        self.w: list[torch.Tensor] = []
        self.other_w: list[torch.Tensor] = []
        self.tallies: list[_Tally] = []
        if self.wanted(self.x):
            self._begin()

    def _begin(self) -> None:
        generator = torch.Generator().manual_seed(self.claim.seed + 6)
        identity = self.claim.group.identity
        self.differentiable = False
        try:
            y = self._call(torch.float64, self.x, {})
        except UsageError:
            raise
        except Exception:  # whatever the library raises: without a float64 form there is no f_*
            self.has_reference = False
            self._call(self.claim.dtype, self.x, {})  # a layer that fails in its own precision as well has crashed
            return
        self.w, self.other_w = (
            [torch.randn(v.shape, generator=generator, dtype=torch.float64).to(v.device) for _, v in leaves(y)]
            for _ in range(2)
        )
        # At e: the size of each place, its rounding and its conditioning.
        reference = self.after(identity, torch.float64)
        if reference is None:
            return
        self.differentiable = True
        again = self.after(identity, torch.float64)
        assert again is not None
        self.repeatable = all(torch.equal(v, again[place]) for place, v in reference.items())
        joint = math.sqrt(sum(float(v.square().sum()) for v in reference.values()))
        fields = dict(leaves(self.claim.source)) if self.on_inputs else {}
        self.tallies = [_Tally(place, _Size(fields.get(place), v, joint)) for place, v in reference.items()]
        single = self.after(identity, torch.float32)
        working = single if self.claim.dtype is torch.float32 else self.after(identity, self.claim.dtype)
        for tally in self.tallies:
            assert single is not None
            assert working is not None
            self._raise_kappa(tally, single[tally.place] - reference[tally.place], EPS["float32"])
            tally.precision.append(_worst(tally.size.relative(working[tally.place] - reference[tally.place])))
        noise = torch.Generator().manual_seed(self.claim.seed + 1)
        for _ in range(PERTURBATIONS):
            x = tree_map(lambda v: nudge(v, EPS["float64"], noise), self.x)
            moved = self.after(identity, torch.float64, x)
            for tally in self.tallies:
                assert moved is not None
                self._raise_kappa(tally, moved[tally.place] - reference[tally.place], EPS["float64"])

    def measure_defect(self, elements: Sequence[Element]) -> None:
        """Delta: how far the actions are from being group actions, in float64."""
        targets = iter(self.w)
        y = tree_map(lambda _: next(targets), self.claim.target)
        with torch.no_grad():
            self.defect = defect(self.claim, self.x, y, elements)

    def visit(self, g: Element) -> None:
        """Both sides at one element, and what wrong target actions would have given."""
        group = self.claim.group
        after, before = self.after(g, torch.float64), self.before(g, torch.float64)
        other = self.before(g, torch.float64, weights=self.other_w)
        assert after is not None
        assert before is not None
        assert other is not None
        wrong_elements = [group.identity, group.inverse(g), *(h for h in group.generators if self.claim.exact(h))]
        others = [h for h in wrong_elements if not _same_action(self.claim, g, h, self.w)]
        wrong = [self.before(h, torch.float64) for h in others[:WRONG]]
        native = self.claim.dtype is not torch.float64
        after_p = self.after(g, self.claim.dtype) if native else after
        before_p = self.before(g, self.claim.dtype) if native else before
        for tally in self.tallies:
            place = tally.place
            tally.errors.append(tally.size.relative(after[place] - before[place]))
            assert after_p is not None
            assert before_p is not None
            tally.seen.append(_worst(tally.size.relative(after_p[place] - before_p[place])))
            tally.precision.append(_worst(tally.size.relative(after_p[place] - after[place])))
            if self.claim.dtype is torch.float32:
                self._raise_kappa(tally, after_p[place] - after[place], EPS["float32"])
            shown = [tally.size.relative(after[place] - v[place]) for v in wrong if v is not None]
            # A summand without a gradient (x/0 = inf) is no proof.
            nothing = torch.zeros_like(tally.errors[-1])
            tally.wrong.append(torch.stack([nothing, *shown]).nan_to_num(0.0, 0.0).amax(0))
            tally.other.append(tally.size.relative(after[place] - other[place]).nan_to_num(0.0, 0.0))

    def after(self, g: Element, dtype: torch.dtype, x: Tree = None) -> Gradients | None:
        """Gradient of <b_e f(a_g x), w>."""
        return self._gradients(dtype, self.x if x is None else x, g, self.claim.group.identity, self.w)

    def before(self, g: Element, dtype: torch.dtype, weights: list[torch.Tensor] | None = None) -> Gradients | None:
        """Gradient of <b_g f(a_e x), w>."""
        return self._gradients(dtype, self.x, self.claim.group.identity, g, weights or self.w)

    def wanted(self, x: Tree) -> list[str]:
        """Places whose gradients are compared."""
        if self.on_inputs:
            return [path for path, v in leaves(x) if v.is_floating_point()]
        return list(self.parameters)

    def _gradients(
        self, dtype: torch.dtype, x: Tree, moved: Element, target: Element, weights: list[torch.Tensor]
    ) -> Gradients | None:
        """Gradients as float64 values, or None where the output carries none."""
        claim = self.claim
        x = tree_map(lambda v: v.double().requires_grad_(self.on_inputs) if v.is_floating_point() else v, x)
        theta = {} if self.on_inputs else {n: p.detach().to(dtype).requires_grad_() for n, p in self.parameters.items()}
        with torch.enable_grad():
            # The actions are differentiated in float64 in every run: their precision is not what is judged.
            y = self._call(dtype, claim.act(claim.source, moved, x), theta)
            if y is None:
                return None
            found = [v for _, v in leaves(claim.act(claim.target, target, y))]
            product = sum((v * w.reshape(v.shape)).sum() for v, w in zip(found, weights, strict=True))
        at = [v for _, v in leaves(x) if v.requires_grad] if self.on_inputs else list(theta.values())
        if not isinstance(product, torch.Tensor) or not product.requires_grad:
            return None
        gradients = torch.autograd.grad(product, at, allow_unused=True)
        found = [torch.zeros_like(v) if d is None else d for v, d in zip(at, gradients, strict=True)]
        fields = dict(leaves(claim.source)) if self.on_inputs else {}
        return {
            place: _as_signal(fields.get(place), gradient.double())
            for place, gradient in zip(self.wanted(x), found, strict=True)
        }

    def _call(self, dtype: torch.dtype, x: Tree, theta: Gradients) -> Tree:
        """The function in one precision on float64 values, its output as float64."""
        claim = self.claim
        start = time.perf_counter()
        with seeded(claim.call_seed, claim.device), full_float32(), torch.enable_grad():
            y = self._form(dtype, theta)(tree_map(lambda v: v.to(dtype) if v.is_floating_point() else v, x))
            y = tree_map(lambda _, v: v.double(), claim.target, y)
        self.seconds += time.perf_counter() - start
        return y

    def _form(self, dtype: torch.dtype, theta: Gradients) -> Callable[[Tree], Tree]:
        claim = self.claim
        if not theta:
            if dtype is torch.float64 and claim.reference is not None:
                return claim.bind(claim.reference)
            if dtype is claim.dtype:
                return claim.bind(claim.function)
            return claim.bind(recast(claim.function, dtype))
        stand_ins: dict[torch.Tensor, torch.Tensor] = {self.parameters[n]: leaf for n, leaf in theta.items()}
        return claim.bind(recast(claim.function, dtype, stand_ins=stand_ins, modules=claim.modules))

    @staticmethod
    def _raise_kappa(tally: _Tally, difference: torch.Tensor, eps: float) -> None:
        # A summand whose gradient never varies says nothing about rounding.
        errors = tally.size.relative(difference)
        tally.kappa = torch.maximum(tally.kappa.to(errors), torch.where(errors.isfinite(), errors, 0.0) / eps)


def _judge(claim: Claim, loop: _Loop, tally: _Tally, power: float) -> tuple[Evidence, int, Verdict, Reason]:
    """Evidence and verdict of one place, and the index of its worst element."""
    errors = torch.stack(tally.errors)
    unit = SAFETY * tally.kappa.expand(errors.shape[1])
    ratios = torch.where(errors == 0, 0.0, errors / unit).nan_to_num(torch.inf, torch.inf)
    g, summand = divmod(int(ratios.argmax()), errors.shape[1])
    evidence = Evidence(
        dtype=str(claim.dtype).removeprefix("torch."),
        error=float(errors[g, summand]),
        unit_bound=float(unit[summand]),
        kappa=float(unit[summand]) / SAFETY,
        wrong=power,
        wrong_unit=1.0,
        precision=max(tally.precision),
        finite=not bool(errors.isnan().any()),
        repeatable=loop.repeatable,
        defect=loop.defect,
    )
    return evidence, g, *decide(evidence)


def _power_units(tally: _Tally) -> float:
    """Min over elements of what a wrong action gives, in units of S kappa.

    No action changes an invariant's gradient or a bias': there the gradient of another <f, w> is the control.
    """
    unit = SAFETY * tally.kappa
    wrong = float((torch.stack(tally.wrong) / unit).amax(1).min())
    return wrong if wrong > EPS["float32"] else float((torch.stack(tally.other) / unit).amax(1).min())


def _report(
    claim: Claim, name: str, elements: Sequence[Element], tally: _Tally, evidence: Evidence, g: int
) -> CheckResult:
    bound = evidence.bound(claim_eps(evidence.dtype))
    rows = tuple(
        ElementError(
            element=element.name,
            error=_worst(tally.errors[i]),
            bound=bound,
            seen=tally.seen[i],
            precision=tally.precision[i + 1],
        )
        for i, element in enumerate(elements)
    )
    return describe(claim, name, Verdict.EXACT, Reason(code="", message="")).model_copy(
        update={
            "samples": SAMPLES,
            "error": evidence.error,
            "bound": bound,
            "power": evidence.power(tightest_eps(evidence)),
            "kappa": evidence.kappa,
            "seen": max(tally.seen),
            "precision": evidence.precision,
            "lost_bits": lost_bits(evidence),
            "element": elements[g].name,
            "leaf": tally.place,
            "elements": rows,
        }
    )


def _ratio(evidence: Evidence) -> float:
    bound = evidence.bound(claim_eps(evidence.dtype))
    return 0.0 if evidence.error == 0 else evidence.error / bound


def _same_action(claim: Claim, g: Element, h: Element, probes: list[torch.Tensor]) -> bool:
    """Whether g and h move the target alike, or to different boxes: then h is no wrong action for g."""
    for (_, leaf), probe in zip(leaves(claim.target), probes, strict=True):
        a, b = leaf.act(g, probe), leaf.act(h, probe)
        if a.shape != b.shape:
            return True
        if float((a - b).norm()) > 1e-6 * float(a.norm()):
            return False
    return True


def _as_signal(leaf: Any, gradient: torch.Tensor) -> torch.Tensor:
    """A gradient by values as the gradient in the inner product of the action, which it moves like the input."""
    return leaf.gradient(gradient) if isinstance(leaf, Field) else gradient


def _worst(errors: torch.Tensor) -> float:
    return math.nan if bool(errors.isnan().any()) else largest(errors)


def _through(value: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return value.to(dtype).double() if value.is_floating_point() else value
