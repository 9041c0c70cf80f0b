"""Verdicts: what a check concludes, why, and in which order the reasons are weighed.

The order is that of the evidence: a layer that crashed has no error, one that gives NaN has no meaningful error, one
that changes between calls has no single error, a broken action blames the layer for nothing, an error beyond its
bound is a fault, a check that could not have failed is no proof. ``decide`` is that order and nothing else.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Iterable
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

#: S: the margin between the largest rounding error seen on a sample and the bound. Sound layers of known truth sit
#: 15 to 50 times under bound = S * kappa * eps; the rounding errors of two evaluations add at most a factor 2 and a
#: maximum over tens of draws is exceeded by another few, so 16 = 2 * 8.
SAFETY = 16.0


class Verdict(StrEnum):
    """The outcome of one check, from best to worst."""

    EXACT = "EXACT"
    APPROXIMATE = "APPROXIMATE"
    SKIPPED = "SKIPPED"
    IMPRECISE = "IMPRECISE"
    AMBIGUOUS = "AMBIGUOUS"
    VACUOUS = "VACUOUS"
    BROKEN = "BROKEN"
    TIMED_OUT = "TIMED_OUT"
    CRASHED = "CRASHED"

    @property
    def severity(self) -> int:
        """Position from best (0) to worst."""
        return list(Verdict).index(self)

    @property
    def label(self) -> str:
        """What a newcomer reads: PASS, WARN, UNSURE, FAIL or SKIP."""
        return _LABELS[self]

    @property
    def fails(self) -> bool:
        """Whether a check with this verdict fails a run (IMPRECISE only where strictness is asked for)."""
        return self.label in ("FAIL", "UNSURE")


#: What a newcomer reads of a check, from best to worst.
LABELS = ("SKIP", "PASS", "EXPECTED", "WARN", "UNSURE", "FAIL")

_LABELS = {
    Verdict.EXACT: "PASS",
    Verdict.APPROXIMATE: "PASS",
    Verdict.SKIPPED: "SKIP",
    Verdict.IMPRECISE: "WARN",
    Verdict.AMBIGUOUS: "UNSURE",
    Verdict.VACUOUS: "FAIL",
    Verdict.BROKEN: "FAIL",
    Verdict.TIMED_OUT: "FAIL",
    Verdict.CRASHED: "FAIL",
}


class Data(BaseModel):
    """Frozen, strict about unknown names, with infinities and NaN kept in JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class Reason(Data):
    """Why a verdict was given: a stable code for machines, a sentence for people."""

    code: str
    message: str

    def __str__(self) -> str:
        return f"{self.code}: {self.message}" if self.message else self.code


class ElementError(Data):
    """Errors at one group element, worst over samples, leaves and fibre summands."""

    element: str
    error: float
    error_max: float = 0.0
    bound: float
    seen: float = 0.0
    precision: float = 0.0
    power: float | None = None


class Resolution(Data):
    """One resolution of an approximate claim: its error, the action's own, an unconstrained layer's."""

    size: int
    error: float
    floor: float
    control: float


class CheckResult(Data):
    """One verdict for (implementation, case, property, dtype, seed), with all the numbers behind it.

    error is E_*, the structural error in float64 relative to the part of the output that depends on the input; bound
    is what rounding explains; ratio = error / bound; power = how many bounds a wrong action misses by; seen is E_p,
    the error in the working precision; precision is P, the loss of that precision alone. Where the adapter declares
    a deviation for this check, ``expected_verdict`` is what it declares and ``expected`` why.
    """

    property: str
    verdict: Verdict
    reason: Reason
    implementation: str = ""
    case: str = ""
    group: str = ""
    source: str = ""
    target: str = ""
    dtype: str = "float32"
    device: str = "cpu"
    seed: int = 0
    samples: int = 0
    error: float | None = None
    error_max: float | None = None
    bound: float | None = None
    power: float | None = None
    kappa: float | None = None
    seen: float | None = None
    precision: float | None = None
    lost_bits: float | None = None
    defect: float | None = None
    element: str = ""
    leaf: str = ""
    elements: tuple[ElementError, ...] = ()
    resolutions: tuple[Resolution, ...] = ()
    limit: tuple[float, float] | None = None
    order: float | None = None
    gain: float | None = None
    seconds: float = 0.0
    seconds_in_layer: float = 0.0
    reproduce: str = ""
    attachment: str = ""
    parts: tuple[CheckResult, ...] = Field(default=())
    expected: str = ""
    expected_verdict: Verdict | None = None

    @builtins.property  # a field of this class is called property
    def ratio(self) -> float | None:
        """Error / bound; None where nothing was measured."""
        if self.error is None or self.bound is None:
            return None
        return ratio(self.error, self.bound)

    @builtins.property
    def contradiction(self) -> str:
        """Both verdicts, where another one was declared than was found; a skipped check contradicts nothing."""
        if self.expected_verdict in (None, self.verdict) or self.verdict is Verdict.SKIPPED:
            return ""
        return (
            f"declared {self.expected_verdict} ({self.expected}) and found {self.verdict}: mend the layer, or the "
            "declaration in its adapter."
        )

    @builtins.property
    def label(self) -> str:
        """What a newcomer reads: the verdict's label; EXPECTED as declared, FAIL where it was declared otherwise."""
        if self.contradiction:
            return "FAIL"
        return "EXPECTED" if self.verdict is self.expected_verdict else self.verdict.label

    @builtins.property
    def fails(self) -> bool:
        """Whether this check fails a run: a declared deviation does not, and its absence does."""
        return self.label in ("FAIL", "UNSURE")

    @builtins.property
    def rank(self) -> tuple[int, int]:
        """Sort key from best to worst: the label, then the verdict."""
        return LABELS.index(self.label), self.verdict.severity

    @builtins.property
    def passed(self) -> bool:
        """EXACT, APPROXIMATE, IMPRECISE (which warns), or a deviation as declared."""
        return self.label in ("PASS", "WARN", "EXPECTED")

    def __str__(self) -> str:
        from .explain import explain

        return explain(self)


def ratio(error: float, bound: float) -> float:
    """Error / bound with 0/0 = 0."""
    if error == 0:
        return 0.0
    return error / bound if bound > 0 else math.inf


class Evidence(Data):
    """Everything ``decide`` looks at, for one leaf of one claim. Norms are relative, in float64.

    ``unit_bound`` is S * kappa: the bound is unit_bound * (eps + defect). ``hidden_error`` is the error without its
    mean over samples and ``hidden_bound`` what rounding every constant to float32 explains of it: a constant part of
    the output (a large bias) has a large rounding error, which must not hide a fault in the part beside it.
    ``wrong`` is W, the smallest error over
    elements that a wrong target action would have given.
    """

    dtype: str
    error: float
    unit_bound: float
    kappa: float
    defect: float = 0.0
    wrong: float = 0.0
    wrong_unit: float | None = None
    finite: bool = True
    repeatable: bool = True
    stateful: tuple[str, ...] = ()
    estimated: bool = False
    jitter_passes: bool = False
    hidden_error: float = 0.0
    hidden_bound: float = 0.0
    precision: float = 0.0
    allowed_lost_bits: float | None = None

    def bound(self, eps: float) -> float:
        """S kappa (eps + defect)."""
        return self.unit_bound * (eps + self.defect)

    def power(self, eps: float) -> float:
        """W over the bound: both taken at the fibre summand where the wrong action shows best."""
        unit = self.wrong_unit if self.wrong_unit is not None else self.unit_bound
        scale = unit * (eps + self.defect)
        value = self.wrong / scale if scale > 0 else (math.inf if self.wrong > 0 else 0.0)
        return 0.0 if math.isnan(value) else value


EPS = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
#: Bits a dtype may lose to rounding, beside log2 kappa, before the loss is reported as IMPRECISE(PRECISION).
LOST_BITS = {"float64": 8.0, "float32": 8.0, "float16": 3.0, "bfloat16": 3.0}
#: A larger float64 defect of an action is a mistake in the action; no irrep or permutation comes near it.
LARGEST_DEFECT = 1e-12
#: Below this power a check passes too easily to be called proof.
LEAST_POWER = 100.0


def claim_eps(dtype: str) -> float:
    """Machine epsilon a claim's structure is judged by: that of float64, or of float32 for float32 and below."""
    return EPS["float64"] if dtype == "float64" else EPS["float32"]


def tightest_eps(evidence: Evidence) -> float:
    """Epsilon of the tightest bound the error meets: float64's where it can, else the claim's own."""
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
    eps = claim_eps(evidence.dtype)
    bound = evidence.bound(eps)
    if not (evidence.error <= bound):
        return _beyond_bound(evidence, eps, bound)
    if not (evidence.hidden_error <= evidence.hidden_bound):
        return Verdict.BROKEN, Reason(
            code="HIDDEN",
            message=f"beside a large constant part, the input-dependent error is {evidence.hidden_error:.2g} and "
            f"rounding of the layer's constants explains {evidence.hidden_bound:.2g}.",
        )
    if evidence.jitter_passes and evidence.error > SAFETY * eps:
        return Verdict.AMBIGUOUS, _tie()
    power = evidence.power(tightest_eps(evidence))
    if not (power > 1):
        return Verdict.VACUOUS, Reason(
            code="VACUOUS",
            message="every wrong action would have passed too: the output does not depend on the input, or is "
            "symmetric by itself. Check that the layer uses its input.",
        )
    if bound >= 1:
        return Verdict.AMBIGUOUS, _ill_conditioned(evidence)
    if power < LEAST_POWER:
        return Verdict.AMBIGUOUS, Reason(
            code="LOW_POWER",
            message=f"only faults larger than {1 / power:.1g} of a wrong action would have been seen; "
            "a better conditioned input or float64 raises the power.",
        )
    allowed = evidence.allowed_lost_bits
    allowed = LOST_BITS[evidence.dtype] + math.log2(max(1.0, evidence.kappa)) if allowed is None else allowed
    if lost_bits(evidence) > allowed:
        return Verdict.IMPRECISE, Reason(
            code="PRECISION",
            message=f"structure holds, but {evidence.dtype} loses {lost_bits(evidence):.1f} bits "
            f"({allowed:.1f} are usual): look for accumulation in low precision.",
        )
    return Verdict.EXACT, Reason(code="EXACT", message="")


def _unfit_to_judge(evidence: Evidence) -> tuple[Verdict, Reason] | None:
    if not evidence.finite:
        return Verdict.BROKEN, Reason(
            code="NONFINITE", message="the output has NaN or infinite values where the input is finite."
        )
    if not evidence.repeatable:
        return Verdict.BROKEN, Reason(
            code="NONDETERMINISTIC",
            message="two calls on the same input differ: put the layer in eval(), or declare a seed for each call.",
        )
    if evidence.stateful:
        return Verdict.BROKEN, Reason(
            code="STATEFUL",
            message=f"calling the layer changes {', '.join(evidence.stateful)}: put it in eval(), "
            "or freeze those buffers.",
        )
    if evidence.defect > LARGEST_DEFECT:
        return Verdict.BROKEN, Reason(
            code="ACTION",
            message=f"the action itself fails to be a group action by {evidence.defect:.1e}: mend act_in, act_out or "
            "the adapter before judging the layer.",
        )
    return None


def _beyond_bound(evidence: Evidence, eps: float, bound: float) -> tuple[Verdict, Reason]:
    error = evidence.error
    sound_in_single = evidence.hidden_error <= evidence.hidden_bound
    if evidence.dtype == "float64" and sound_in_single and error <= evidence.bound(EPS["float32"]):
        return Verdict.IMPRECISE, Reason(
            code="CONSTANTS_IN_SINGLE",
            message="holds to float32 accuracy only: some constant or table inside was computed in float32.",
        )
    if evidence.dtype in ("float16", "bfloat16") and error <= evidence.bound(EPS[evidence.dtype]):
        return Verdict.IMPRECISE, Reason(
            code="CONSTANTS_IN_HALF",
            message=f"holds to {evidence.dtype} accuracy only: some constant or table inside was rounded to it.",
        )
    if evidence.jitter_passes:
        return Verdict.AMBIGUOUS, _tie()
    if evidence.estimated and error <= SAFETY * bound:
        return Verdict.AMBIGUOUS, Reason(
            code="ESTIMATED",
            message="no float64 reference could be had, and the error is near the estimated rounding floor.",
        )
    if bound >= 1:
        return Verdict.AMBIGUOUS, _ill_conditioned(evidence)
    if bound > 0 and math.isfinite(error):
        text = f"the error {error:.2g} is {error / bound:.2g} times what rounding explains ({bound:.2g})."
    elif math.isfinite(error):
        text = f"the error is {error:.2g} and rounding explains none."
    else:
        text = "the output does not depend on the input, yet f(g x) and g f(x) differ."
    return Verdict.BROKEN, Reason(code="ERROR", message=text)


def _tie() -> Reason:
    return Reason(
        code="TIE",
        message="fails on tied inputs and passes when they are moved by 1e-4: the layer jumps (max, top-k, sign).",
    )


def _ill_conditioned(evidence: Evidence) -> Reason:
    return Reason(
        code="ILL_CONDITIONED",
        message=f"rounding alone may change the whole output (condition {evidence.kappa:.1g} in {evidence.dtype}): "
        "check in float64, or rescale the problem.",
    )


#: Of equally bad parts these are shown: the ones that the claim is about.
CENTRAL = ("equivariance", "rotations")


def worst(results: Iterable[CheckResult]) -> CheckResult:
    """The result with the worst verdict; among equals equivariance itself. SKIPPED never outweighs a verdict.

    Raises:
        ValueError: there are no results.
    """
    listed = list(results)
    tried = [r for r in listed if r.verdict is not Verdict.SKIPPED] or listed
    return max(tried, key=lambda r: (*r.rank, r.property.split(" in ")[0] in CENTRAL, r.ratio or 0.0))
