"""The verdict on one leaf of an exact claim. The possible reasons are tested in a fixed order."""

from __future__ import annotations

import math

from ..precisions import EPS, LOST_BITS, claim_eps
from .codes import Code, Verdict
from .result import Data, Reason

#: S: the margin between the largest rounding error observed on a sample and the bound. The errors of layers that are
#: known to be correct lie 15 to 50 times below bound = S * kappa * eps. Two evaluations add at most a factor 2 of
#: rounding error, and new draws exceed the maximum over tens of draws by another small factor, so 16 = 2 * 8.
SAFETY = 16.0


class Evidence(Data):
    """The input of ``decide`` for one leaf of one claim. Norms are relative, in float64.

    ``unit_bound`` is S * kappa, and the bound is unit_bound * (eps + defect). ``condition`` is C, the conditioning of
    the problem alone, against which the loss of precision is held. ``repeatable`` is whether two calls agree, up to
    sums in another order; ``scatter`` is by how much they differ then. ``hidden_error`` is the error without its mean
    over samples, and ``hidden_bound`` is the largest such error that rounding every constant to float32 explains. A
    constant part of the output (a large bias) has a large rounding error, and that error must not hide a fault in the
    rest of the output. ``single_unit`` is S kappa as float32 inside the layer shows it, if it was measured: from the
    change of the output when the input changes by float32's epsilon. ``wrong`` is W: the error that a wrong target
    action would have given, the smallest over elements; ``failing_wrong`` is W in units of the largest errors that do
    not fail, of an epsilon of float32 each, if they are known for each summand. ``forward`` is whether outputs are
    compared, and not gradients, which jump wherever rounding crosses a kink.
    """

    dtype: str
    error: float
    unit_bound: float
    kappa: float
    condition: float = 1.0
    defect: float = 0.0
    wrong: float = 0.0
    wrong_unit: float | None = None
    finite: bool = True
    repeatable: bool = True
    scatter: float = 0.0
    stateful: tuple[str, ...] = ()
    estimated: bool = False
    jitter_passes: bool = False
    hidden_error: float = 0.0
    hidden_bound: float = 0.0
    single_unit: float = 0.0
    failing_wrong: float | None = None
    precision: float = 0.0
    forward: bool = False
    allowed_lost_bits: float | None = None

    def bound(self, eps: float) -> float:
        """S kappa (eps + defect)."""
        return self.unit_bound * (eps + self.defect)

    @property
    def explained_by_single(self) -> bool:
        """Whether rounding to float32 inside explains the error, and the check would have seen a fault beyond it."""
        unit = max(self.unit_bound, self.single_unit)
        if not (self.hidden_error <= self.hidden_bound and self.error <= unit * (EPS["float32"] + self.defect)):
            return False
        return self.power(EPS["float32"]) * self.unit_bound >= LEAST_POWER * unit

    @property
    def coarsest(self) -> float:
        """The largest loss of precision that rounding to the coarsest dtype inside explains: S C eps of bfloat16."""
        return SAFETY * max(1.0, self.condition) * EPS["bfloat16"]

    def power(self, eps: float) -> float:
        """W / bound, both at the fibre summand where the wrong action is most visible."""
        unit = self.wrong_unit if self.wrong_unit is not None else self.unit_bound
        scale = unit * (eps + self.defect)
        value = self.wrong / scale if scale > 0 else (math.inf if self.wrong > 0 else 0.0)
        return 0.0 if math.isnan(value) else value

    @property
    def failing_power(self) -> float:
        """W / the largest error that does not fail: 1 / it is the smallest fault that fails the check.

        Errors of a float64 claim up to the bound of float32, and of a half-precision claim up to the bound of its own
        dtype, are IMPRECISE, which is no failure. Where the bound of float32 proves too little, only what meets that of
        float64 passes.
        """
        full = self.dtype in ("float32", "float64") and not self.estimated
        if full and self.power(EPS["float32"]) < LEAST_POWER:
            return self.power(EPS["float64"])
        if self.failing_wrong is not None and self.dtype in ("float32", "float64"):
            return self.failing_wrong / (EPS["float32"] + self.defect)
        if self.estimated or self.dtype == "float32":
            return self.power(claim_eps(self.dtype))
        if self.dtype == "float64":
            widened = max(1.0, self.single_unit / self.unit_bound) if self.unit_bound > 0 else 1.0
            return self.power(EPS["float32"]) / widened
        return self.power(EPS[self.dtype])


#: An action with a larger float64 defect is wrong: the defects of irreps and permutations are far smaller.
LARGEST_DEFECT = 1e-12
#: A check with a smaller power passes too easily to count as evidence.
LEAST_POWER = 100.0


def tightest_eps(evidence: Evidence) -> float:
    """Epsilon of the tightest bound that the error meets: float64's if the error meets it, else the claim's own."""
    if evidence.estimated:  # nothing was computed in float64
        return claim_eps(evidence.dtype)
    return EPS["float64"] if evidence.error <= evidence.bound(EPS["float64"]) else claim_eps(evidence.dtype)


def lost_bits(evidence: Evidence) -> float:
    """log2 of the precision loss in units of the dtype's epsilon."""
    return math.log2(evidence.precision / EPS[evidence.dtype]) if evidence.precision > 0 else 0.0


def decide(evidence: Evidence) -> tuple[Verdict, Reason]:
    """The verdict on one leaf of an exact claim, in the documented order."""
    fault = _unfit_to_judge(evidence)
    if fault is not None:
        return fault
    unknown = _unmeasured(evidence)
    if unknown:
        return Verdict.AMBIGUOUS, Reason(
            code=Code.UNMEASURED,
            message=f"{unknown} came out as NaN or infinite from finite outputs, so this check decides nothing: try "
            "inputs of another size, or float64.",
        )
    eps = claim_eps(evidence.dtype)
    bound = evidence.bound(eps)
    if not (evidence.error <= bound):
        return _beyond_bound(evidence, eps, bound)
    if not (evidence.hidden_error <= evidence.hidden_bound):
        return Verdict.BROKEN, Reason(
            code=Code.HIDDEN,
            message=f"the output has a large constant part. The error of the rest is {evidence.hidden_error:.2g}, and "
            f"rounding of the layer's constants explains {evidence.hidden_bound:.2g}: look for a fault in that rest.",
        )
    if evidence.jitter_passes and evidence.error > SAFETY * eps:
        return Verdict.AMBIGUOUS, _tie()
    power = evidence.power(tightest_eps(evidence))
    if not (power > 1):
        return Verdict.VACUOUS, Reason(
            code=Code.VACUOUS,
            message="every wrong action would have passed too: the output does not depend on the input, or is "
            "symmetric by itself. Check that the layer uses its input.",
        )
    if bound >= 1:
        return Verdict.AMBIGUOUS, _ill_conditioned(evidence)
    if power < LEAST_POWER:
        return Verdict.AMBIGUOUS, _low_power(power)
    allowed = evidence.allowed_lost_bits
    allowed = LOST_BITS[evidence.dtype] + math.log2(max(1.0, evidence.condition)) if allowed is None else allowed
    other = evidence.forward and not evidence.jitter_passes and evidence.precision > evidence.coarsest
    if other and evidence.dtype == "float32":
        return Verdict.BROKEN, Reason(
            code=Code.ERROR,
            message=f"float32 computes another function: it differs from float64 by {evidence.precision:.2g} of the "
            f"output, and rounding to bfloat16 inside explains {evidence.coarsest:.2g}. Look for a branch on the "
            "dtype, a kernel of this precision alone, or cancellation.",
        )
    if lost_bits(evidence) > allowed:
        return Verdict.IMPRECISE, Reason(
            code=Code.PRECISION,
            message=f"structure holds, but {evidence.dtype} loses {lost_bits(evidence):.1f} bits "
            f"({allowed:.1f} are usual): look for accumulation in low precision.",
        )
    return Verdict.EXACT, Reason(code=Code.EXACT, message=" ".join(notes(evidence)))


#: What the numbers of the evidence are, in the order in which they are named. An infinite error is an error: the output
#: does not depend on the input, yet f(g x) and g f(x) differ. So is an infinite defect.
NUMBERS = {
    "error": "the error",
    "hidden_error": "the error without its mean",
    "defect": "the defect of the actions",
    "kappa": "kappa",
    "unit_bound": "the bound",
    "condition": "the conditioning",
    "single_unit": "the bound in float32",
    "hidden_bound": "the bound without the mean",
    "wrong": "the error of a wrong action",
    "wrong_unit": "the bound of a wrong action",
    "failing_wrong": "the error of a wrong action",
    "scatter": "the difference of two calls",
    "precision": "the loss of precision",
    "allowed_lost_bits": "the number of allowed bits",
}
MAY_BE_INFINITE = ("error", "hidden_error", "defect", "allowed_lost_bits")


def _unmeasured(evidence: Evidence) -> str:
    """The first number that is NaN, or infinite where that says nothing; empty if there is none."""
    for name, text in NUMBERS.items():
        value = getattr(evidence, name)
        if value is not None and (math.isnan(value) or (math.isinf(value) and name not in MAY_BE_INFINITE)):
            return text
    return ""


def notes(evidence: Evidence) -> list[str]:
    """What is worth knowing of a layer whose claim holds: buffers that calls move, and results that scatter."""
    found = []
    if evidence.stateful:
        some = ", ".join(evidence.stateful[:3]) + (", ..." if len(evidence.stateful) > 3 else "")
        found.append(f"calls change {some}; the output at one input stays the same.")
    if evidence.scatter > 0:
        found.append(f"two calls differ by {evidence.scatter:.1g} of the output, as sums in another order do.")
    return found


def _unfit_to_judge(evidence: Evidence) -> tuple[Verdict, Reason] | None:
    if not evidence.finite:
        return Verdict.BROKEN, Reason(
            code=Code.NONFINITE, message="the output has NaN or infinite values where the input is finite."
        )
    if not evidence.repeatable and evidence.stateful:
        return Verdict.BROKEN, Reason(
            code=Code.STATEFUL,
            message=f"the output depends on earlier calls, which change {', '.join(evidence.stateful)}: put the layer "
            "in eval(), or freeze those buffers.",
        )
    if not evidence.repeatable:
        return Verdict.BROKEN, Reason(
            code=Code.NONDETERMINISTIC,
            message="two calls on the same input differ.",
        )
    if evidence.defect > LARGEST_DEFECT:
        return Verdict.BROKEN, Reason(
            code=Code.ACTION,
            message=f"the action violates the group law by {evidence.defect:.1e}: correct act_in, act_out or the "
            "adapter before judging the layer.",
        )
    return None


def _beyond_bound(evidence: Evidence, eps: float, bound: float) -> tuple[Verdict, Reason]:
    error = evidence.error
    if evidence.dtype == "float64" and evidence.explained_by_single:
        return Verdict.IMPRECISE, Reason(
            code=Code.CONSTANTS_IN_SINGLE,
            message="holds to float32 accuracy only: some constant, table or value inside was rounded to float32.",
        )
    if evidence.dtype == "float64" and error <= evidence.bound(EPS["float32"]) and not evidence.jitter_passes:
        power = evidence.power(EPS["float32"])
        if evidence.hidden_error <= evidence.hidden_bound and power < LEAST_POWER:
            return Verdict.AMBIGUOUS, _low_power(power)
    if evidence.dtype in ("float16", "bfloat16") and error <= evidence.bound(EPS[evidence.dtype]):
        return Verdict.IMPRECISE, Reason(
            code=Code.CONSTANTS_IN_HALF,
            message=f"holds to {evidence.dtype} accuracy only: some constant or table inside was rounded to it.",
        )
    if evidence.jitter_passes:
        return Verdict.AMBIGUOUS, _tie()
    if evidence.estimated and error <= SAFETY * bound:
        return Verdict.AMBIGUOUS, Reason(
            code=Code.ESTIMATED,
            message="no float64 reference could be computed, and the error is near the estimated rounding error: "
            "write the layer so that it runs in float64.",
        )
    if bound >= 1:
        return Verdict.AMBIGUOUS, _ill_conditioned(evidence)
    if bound > 0 and math.isfinite(error):
        text = f"the error {error:.2g} is {error / bound:.2g} times what rounding explains ({bound:.2g})."
    elif math.isfinite(error):
        text = f"the error is {error:.2g} and rounding explains none of it."
    else:
        text = "the output does not depend on the input, yet f(g x) and g f(x) differ."
    return Verdict.BROKEN, Reason(code=Code.ERROR, message=text)


def _low_power(power: float) -> Reason:
    seen = f"only faults larger than {1 / power:.1g} of a wrong action" if power > 0 else "no fault"
    return Reason(
        code=Code.LOW_POWER,
        message=f"{seen} would have been seen; a better conditioned input or float64 raises the power.",
    )


def _tie() -> Reason:
    return Reason(
        code=Code.TIE,
        message="fails on tied inputs and passes when they are changed by 1e-4: the layer jumps (max, top-k, sign).",
    )


def _ill_conditioned(evidence: Evidence) -> Reason:
    return Reason(
        code=Code.ILL_CONDITIONED,
        message=f"rounding alone may change the whole output (condition {evidence.kappa:.1g} in {evidence.dtype}): "
        "check in float64, or rescale the problem.",
    )
