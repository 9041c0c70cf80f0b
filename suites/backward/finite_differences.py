"""gradcheck: the gradients of autograd against finite differences in float64, first and second order.

For a random direction v through all inputs and parameters at once, and a random weight w,

    <grad <f, w>, v>  =  d/dt <f(. + t v), w>  at t = 0.

The right side is a limit of central differences, whose error ``quotients`` estimates, so no tolerance is chosen. The
second order is the same statement for the gradient; it is left out if the layer has no second derivative. Where the
first order fails, it is repeated along each input and parameter by itself, to name the one that is wrong.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import torch

from ...harness.claim.claim import Claim
from ...harness.claim.evaluation import FREED, Stopwatch, Subject, handed_over, seeded
from ...harness.claim.outcome import Outcome, describe
from ...harness.claim.recast import backward_recast, recast
from ...harness.precisions import EPS
from ...harness.trees import leaves, tree_map
from ...harness.verdict.decide import SAFETY, Evidence, decide
from ...harness.verdict.result import CheckResult, Code, ElementResult, Reason, Verdict, worst
from ..quotients import Limit, derivative
from ..rounding import perturbed

#: Exponents of the steps, each half the one before, relative to the size of the moved tensor. Rounding costs eps / h,
#: truncation h^4 of the fifth derivative; they are equal near eps^(1/5) = 2^-10, but smaller steps cross fewer kinks of
#: piecewise linear maps. So those down to 2^-24 come first.
STEPS = ((-15, -25, -1), (-8, -15, -1))
#: A step along which the claimed gradient changes the value by this share of it; tried where no other step agrees.
RESOLVED = 2.0**-4
#: A slope known to this share of all gradients needs no other step: faults down to 16 millionths are detected.
GOOD_ENOUGH = 1e-6

#: Tensors by place; a place is the path of an input or the name of a parameter.
Places = dict[str, torch.Tensor]


def gradcheck(claim: Claim, *, orders: int = 2) -> Outcome:
    """First derivatives of the function in all inputs and parameters, and second ones if they exist.

    Args:
        claim: its function must be computable in float64; ``claim.modules`` hold the parameters.
        orders: 1 for the first order alone.

    Returns:
        The worse result of both orders, with one part for each. BROKEN names the input or parameter whose gradient is
        not that of the function. SKIPPED(NOT_DIFFERENTIABLE) if the output carries no gradient.
    """
    start = time.perf_counter()
    with Subject(claim).guarded():
        try:
            function = _Scalar(claim)
            differentiable = function.differentiable
        except Exception as error:  # any error of the library: the layer has no float64 form
            reason = Reason(code=Code.NO_REFERENCE, message=f"the layer cannot be computed in float64: {error}")
            return Outcome(describe(claim, "gradcheck", Verdict.SKIPPED, reason))
        if not differentiable:
            reason = Reason(code=Code.NOT_DIFFERENTIABLE, message="the output carries no gradient.")
            return Outcome(describe(claim, "gradcheck", Verdict.SKIPPED, reason))
        try:
            name = "gradcheck: first order"
            first = _order(claim, name, function, function.value, jointly=True)
            if first.verdict is not Verdict.EXACT:  # one direction through all places sees every fault: find its place
                first = _order(claim, name, function, function.value, jointly=False)
            parts = [first]
            gradient = function.gradient_product() if orders > 1 else None
            if gradient is not None:
                second = _order(claim, "gradcheck: second order", function, gradient, jointly=True)
                # Vacuous: the gradient of a linear map without parameters is constant, and its differences are zero.
                parts += [second] if second.verdict not in (Verdict.VACUOUS, Verdict.SKIPPED) else []
        except RuntimeError as error:
            if FREED not in str(error):
                raise
            text = (
                "the layer differentiates inside and frees its own graph: use create_graph=True to check its gradients."
            )
            reason = Reason(code=Code.NOT_DIFFERENTIABLE, message=text)
            return Outcome(describe(claim, "gradcheck", Verdict.SKIPPED, reason))
    decisive = parts[0] if parts[0].verdict.fails else worst(parts)  # a failure of the first order names the place
    result = decisive.model_copy(update={"property": "gradcheck", "parts": tuple(parts)})
    seconds = {"seconds": time.perf_counter() - start, "seconds_in_layer": function.watch.seconds}
    return Outcome(result.model_copy(update=seconds))


class _Scalar:
    """<f, w> as a function of the places, in float64."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.watch = Stopwatch()
        single = torch.float32 if claim.dtype is torch.float64 else claim.dtype
        self.x = tree_map(lambda v: v.to(single).double() if v.is_floating_point() else v, claim.draw(claim.samples))
        self.parameters = {
            n: p for m in claim.modules for n, p in m.named_parameters() if p.is_floating_point() and p.numel()
        }
        inputs = {f"input {path}".strip(): v for path, v in leaves(self.x) if v.is_floating_point() and v.numel()}
        self.at: Places = {**inputs, **{n: p.detach().double() for n, p in self.parameters.items()}}
        self.generator = torch.Generator().manual_seed(claim.seed + 7)
        with torch.no_grad():
            self.weights = [self._noise(v) for v in self._outputs(self.at)]
        #: Whether each output carries a gradient. A force that is no part of a graph cannot be differentiated again.
        self.live = [True] * len(self.weights)

    @property
    def differentiable(self) -> bool:
        """Whether the output carries a gradient."""
        with torch.enable_grad():
            outputs = self._outputs({n: v.detach().requires_grad_() for n, v in self.at.items()})
        self.live = [v.requires_grad for v in outputs]
        return any(self.live)

    def value(self, places: Places, weights: list[torch.Tensor] | None = None) -> torch.Tensor:
        """<f, w>."""
        rows = zip(self._outputs(places), weights or self.weights, self.live, strict=True)
        terms = [(v * w).sum() for v, w, live in rows if live]
        return torch.stack(terms).sum()

    def lost_in_single(self) -> float:
        """|<f_32, w> - <f, w>|: sums that cancel lose as many digits in every precision. 0 where there is no f_32."""
        claim = self.claim
        function = claim.bind(recast(claim.function, torch.float32, own=claim.dtype))
        with torch.no_grad(), seeded(claim.call_seed, claim.device):
            try:
                single = function(tree_map(lambda v: v.float() if v.is_floating_point() else v, self.x))
                values = [v.double() for _, v in leaves(tree_map(lambda _, v: v, claim.target, single))]
            except Exception:  # a layer may have been built for float64
                return 0.0
            rows = zip(values, self._outputs(self.at), self.weights, self.live, strict=True)
            return sum(float(((a - b) * w).sum().abs()) for a, b, w, live in rows if live)

    def gradient_product(self) -> Callable[[Places], torch.Tensor] | None:
        """<grad <f, w>, u> for a random u; None if the gradient has no gradient."""
        directions = {n: self._noise(v) * _size(v) for n, v in self.at.items()}

        def product(places: Places) -> torch.Tensor:
            with torch.enable_grad():
                leaf = {n: v if v.requires_grad else v.detach().requires_grad_() for n, v in places.items()}
                # A backward that cannot be differentiated raises only if w itself carries a gradient.
                value = self.value(leaf, [w.clone().requires_grad_() for w in self.weights])
                found = torch.autograd.grad(value, list(leaf.values()), create_graph=True, allow_unused=True)
                terms = [(g * directions[n]).sum() for n, g in zip(leaf, found, strict=True) if g is not None]
                return torch.stack(terms).sum()

        try:
            trial = {n: v.detach().requires_grad_() for n, v in self.at.items()}
            value = product(trial)
            if value.requires_grad:
                value.backward()  # through all tensors: grad() would miss a failure
        except (RuntimeError, NotImplementedError):  # no double backward; each library raises its own error
            return None
        return product

    def _outputs(self, places: Places) -> list[torch.Tensor]:
        stand_ins: dict[torch.Tensor, torch.Tensor] = {p: places[n] for n, p in self.parameters.items()}
        x = iter([v for n, v in places.items() if n not in self.parameters])
        inputs = tree_map(lambda v: next(x) if v.is_floating_point() and v.numel() else v, self.x)
        claim = self.claim
        function = recast(claim.function, torch.float64, stand_ins=stand_ins, modules=claim.modules, own=claim.dtype)
        with self.watch, seeded(self.claim.call_seed, self.claim.device):
            y = self.claim.bind(function)(handed_over(inputs))
        return [v.double() for _, v in leaves(tree_map(lambda _, v: v, self.claim.target, y))]

    def _noise(self, like: torch.Tensor) -> torch.Tensor:
        return torch.randn(like.shape, generator=self.generator, dtype=torch.float64).to(like.device)


def _order(
    claim: Claim, name: str, scalar: _Scalar, function: Callable[[Places], torch.Tensor], *, jointly: bool
) -> CheckResult:
    """One order of derivatives: at every place separately, or along one direction through all places."""
    at = scalar.at
    generator = torch.Generator().manual_seed(claim.seed + 8)
    leaf = {n: v.detach().requires_grad_() for n, v in at.items()}
    with torch.enable_grad():
        value = function(leaf)
        found: Sequence[torch.Tensor | None] = [None] * len(leaf)
        if value.requires_grad:  # else the function declares itself constant, and its gradient is zero
            with scalar.watch:
                found = backward_recast(value, list(leaf.values()), torch.float64)
    gradients = {n: torch.zeros_like(v) if g is None else g for (n, v), g in zip(at.items(), found, strict=True)}
    inputs = [n for n in at if n not in scalar.parameters]
    first = function == scalar.value
    if (
        first
        and inputs
        and all(g is None for n, g in zip(at, found, strict=True) if n in inputs)
        and value.requires_grad
    ):
        # The layer detaches all its inputs and says so by handing out no gradient: only its weights can be checked.
        at = {n: v for n, v in at.items() if n not in inputs}
    directions = {n: torch.randn(v.shape, generator=generator, dtype=torch.float64).to(v) for n, v in at.items()}
    # Errors are relative to the joint norm of all gradients, each in units of the step of its place.
    scale = math.sqrt(sum((float(gradients[n].norm()) * _size(v)) ** 2 for n, v in at.items()))
    noise = _noise_of(function, scalar.at, claim.seed)
    if first:
        noise = max(noise, scalar.lost_in_single() * EPS["float64"] / EPS["float32"])
    found_at = {}
    if not at:
        reason = Reason(code=Code.NOT_DIFFERENTIABLE, message="no gradient reaches an input, and there are no weights.")
        return describe(claim, name, Verdict.SKIPPED, reason)
    for places in [list(at)] if jointly else [[n] for n in at]:
        along = {n: directions[n] * _size(at[n]) for n in places}
        claimed = sum(float((gradients[n] * v).sum()) for n, v in along.items())
        slope = _slope(function, scalar.at, along, claimed, GOOD_ENOUGH * scale, noise)
        found_at["all at once" if jointly else places[0]] = _evidence(claimed, slope, scale)
    judged = [(place, evidence, *decide(evidence)) for place, evidence in found_at.items()]
    place, evidence, verdict, reason = max(judged, key=lambda j: (j[2].severity, j[1].error / j[1].unit_bound))
    # Differences are taken of the float64 form, whose rounding is in the bound: float32 excuses nothing here.
    excused = verdict is Verdict.IMPRECISE or reason.code == Code.LOW_POWER
    beyond = excused and not (evidence.error <= evidence.bound(EPS["float64"]))
    if beyond or (verdict is Verdict.BROKEN and reason.code != Code.NONFINITE):
        text = (
            f"the gradient of {place} differs from the function's derivative by {evidence.error:.2g} of all gradients."
        )
        verdict, reason = Verdict.BROKEN, Reason(code=Code.GRADIENT, message=text)
    if verdict is Verdict.VACUOUS:
        text = "the gradient is zero, and so are the differences: nothing is proved by it."
        if evidence.wrong > 0:
            text = "the slope is lost in the rounding of the values: nothing is proved by it."
        reason = Reason(code=Code.VACUOUS, message=text)
    elif reason.code == Code.UNMEASURED:
        text = "difference quotients do not converge as steps get smaller: the function has kinks or jumps everywhere."
        reason = Reason(code=Code.ROUGH, message=text)
    return describe(claim, name, verdict, reason).model_copy(
        update={
            "dtype": "float64",
            "samples": claim.samples,
            "error": evidence.error,
            "bound": evidence.bound(EPS["float64"]),
            "power": evidence.power(EPS["float64"]),
            "kappa": evidence.kappa,
            "leaf": place,
            "elements": tuple(
                ElementResult(element=n, error=e.error, bound=e.bound(EPS["float64"])) for n, e in found_at.items()
            ),
        }
    )


def _evidence(claimed: float, slope: Limit, scale: float) -> Evidence:
    """Error and bound in units of all gradients; a function without a gradient proves nothing."""
    unit = scale if scale > 0 else 1.0
    kappa = max(1.0, float(slope.error) / unit / EPS["float64"])
    return Evidence(
        dtype="float64",
        error=abs(claimed - float(slope.value)) / unit,
        unit_bound=SAFETY * kappa,
        kappa=kappa,
        wrong=1.0 if scale > 0 else 0.0,  # a zero gradient would have this error
        finite=math.isfinite(claimed),  # without a slope the bound is infinite
    )


def _noise_of(function: Callable[[Places], torch.Tensor], at: Places, seed: int) -> float:
    """The change of a value when all places are rounded otherwise: where sums cancel, more than its own last bit."""
    with torch.no_grad():
        here = float(function(at).detach())
        found = [abs(float(function(moved).detach()) - here) for moved in perturbed(at, seed)]
    return max((v for v in found if math.isfinite(v)), default=0.0)


def _slope(
    function: Callable[[Places], torch.Tensor], at: Places, along: Places, claimed: float, enough: float, noise: float
) -> Limit:
    """The derivative along one direction, [1]."""

    def moved(t: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return function({**at, **{n: at[n] + float(t) * v for n, v in along.items()}}).detach().reshape(1)

    def one(value: float) -> torch.Tensor:
        return torch.tensor([value], dtype=torch.float64)

    ladders = [[one(2.0**k) for k in range(*steps)] for steps in STEPS]
    # A function that oscillates within the smallest step has slopes that no step so far could see.
    size = max(noise, abs(float(moved(one(0.0)))))
    finest = RESOLVED * size / abs(claimed) if claimed and math.isfinite(claimed) else 0.0
    if 0 < finest < float(ladders[0][-1]):
        ladders.append([one(finest * 2.0**k) for k in (2, 1, 0)])
    return derivative(moved, ladders, one(noise), claimed=one(claimed), enough=one(enough))


def _size(v: torch.Tensor) -> float:
    """The RMS of the entries; 1 for a tensor of zeros."""
    size = float(v.square().mean().sqrt())
    return size if size > 0 else 1.0
