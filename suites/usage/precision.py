"""Precision: how many bits this layer loses in each arithmetic, and how many the problem itself loses.

    P = ||f_p(round x) - f_*(round x)|| / D        lost bits = log2(P / eps_p)        allowed: LOST_BITS[p] + log2 C

f_* is f in float64. C is the conditioning of the problem: the change of the output when the input, or every constant of
the layer, changes by eps. C is measured in float64, so that an accumulation in half precision does not increase C.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from ...harness.claim.claim import Claim
from ...harness.claim.evaluation import Subject, seeded
from ...harness.claim.outcome import Outcome, describe
from ...harness.claim.recast import recast
from ...harness.claim.scale import Scale
from ...harness.errors import UsageError
from ...harness.precisions import EPS, LOST_BITS
from ...harness.trees import Tree, leaves, tree_map
from ...harness.verdict.result import Code, ElementResult, Reason, Verdict
from ..rounding import Kappa, largest, largest_of, perturbed, values_of

#: Relative perturbation for C: large compared with the eps of float64, and small enough to be linear.
SMALL = EPS["float32"]


@dataclass(frozen=True)
class Mode:
    """One arithmetic: inputs in ``dtype``, products rounded to ``eps``."""

    name: str
    dtype: torch.dtype
    eps: float
    allowed: float
    autocast: torch.dtype | None = None
    tf32: bool = False


#: TF32 keeps ten bits of a factor, like float16.
MODES = (
    Mode("float32", torch.float32, EPS["float32"], LOST_BITS["float32"]),
    Mode("TF32", torch.float32, EPS["float16"], LOST_BITS["float16"], tf32=True),
    Mode("autocast to bfloat16", torch.float32, EPS["bfloat16"], LOST_BITS["bfloat16"], autocast=torch.bfloat16),
    Mode("bfloat16", torch.bfloat16, EPS["bfloat16"], LOST_BITS["bfloat16"]),
    Mode("float16", torch.float16, EPS["float16"], LOST_BITS["float16"]),
)


def precision(claim: Claim) -> Outcome:
    """The precision that the layer loses in float32, TF32 (on a GPU), under autocast, in bfloat16 and in float16.

    Args:
        claim: a claim of any dtype except float64, because no more precise arithmetic is available. The claim's dtype
            decides the verdict; the other modes are only reported.

    Returns:
        EXACT if the claim's dtype loses no more bits than allowed. IMPRECISE(PRECISION) with the number of bits if it
        loses more, for example by a sum in half precision or by TF32. One row for each mode in which the layer can be
        computed: P is the error, the allowed loss is the bound, and the reason lists the bits.
        AMBIGUOUS(ILL_CONDITIONED) if the problem itself may lose every digit, VACUOUS if the output is constant,
        SKIPPED(NO_REFERENCE) if there is no float64 form.
    """
    start = time.perf_counter()
    if claim.dtype is torch.float64:
        text = "no reference is more precise than float64: the check in float32 covers all lower precisions."
        return Outcome(describe(claim, "precision", Verdict.SKIPPED, Reason(code=Code.NO_REFERENCE, message=text)))
    subject = Subject(claim)
    with subject.guarded():
        x = subject.through(claim.draw(claim.samples), claim.dtype)
        y = subject.probe_reference(x)
        if y is None:
            text = "the layer cannot be computed in float64."
            return Outcome(describe(claim, "precision", Verdict.SKIPPED, Reason(code=Code.NO_REFERENCE, message=text)))
        scales = [Scale.of(leaf, v) for (_, leaf), (_, v) in zip(leaves(claim.target), leaves(y), strict=True)]
        condition = _conditioning(subject, x, y, scales)
        own = str(claim.dtype).removeprefix("torch.")
        rows: dict[str, ElementResult] = {}
        missing: dict[str, str] = {}
        for mode in MODES:
            try:
                loss = _loss(claim, subject, mode, x, scales)
            except _Unavailable as error:
                missing[mode.name] = str(error)
                continue
            allowed = mode.eps * 2**mode.allowed * condition
            rows[mode.name] = ElementResult(element=mode.name, error=loss, bound=allowed, precision=loss)
    row = rows.get(own)
    power = 0.0 if row is None else _power(scales, y, row.bound)
    verdict, reason = _verdict(own, rows, missing, condition, power)
    numbers = {} if row is None else {"error": row.error, "bound": row.bound, "precision": row.precision}
    bits = 0.0 if row is None or row.error == 0 else _bits(row.error, EPS[own])
    return Outcome(
        describe(claim, "precision", verdict, reason).model_copy(
            update={
                **numbers,
                "samples": claim.samples,
                "power": None if row is None else power,
                "kappa": condition,
                "lost_bits": bits,
                "elements": tuple(rows.values()),
                "seconds": time.perf_counter() - start,
                "seconds_in_layer": subject.seconds,
            }
        )
    )


class _Unavailable(Exception):
    """The layer cannot be computed in a mode, or not on this machine."""


def _loss(claim: Claim, subject: Subject, mode: Mode, x: Tree, scales: list[Scale]) -> float:
    """P of one mode, the worst over leaves, summands and samples; infinite if the output is not finite."""
    if mode.tf32 and claim.device == "cpu":
        raise _Unavailable("TF32 is an arithmetic of GPUs")
    function = claim.function if mode.dtype is claim.dtype else recast(claim.function, mode.dtype, own=claim.dtype)
    given = subject.through(x, mode.dtype)
    exact = subject.reference(given)
    call = claim.bind(function)
    try:
        with seeded(claim.call_seed, claim.device), torch.no_grad(), _arithmetic(claim, mode):
            y = call(tree_map(lambda v: v.to(mode.dtype) if v.is_floating_point() else v, given))
    except UsageError:
        raise
    except Exception as error:  # an operator without this dtype may raise any error
        raise _Unavailable(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}") from error
    found = [v.detach().double() for _, v in leaves(tree_map(lambda _, v: v, claim.target, y))]
    exact_values = [v for _, v in leaves(exact)]
    if not all(bool(v.isfinite().all()) for v in found):
        return math.inf
    losses = [s.rounding(_project(s, a) - b) for s, a, b in zip(scales, found, exact_values, strict=True)]
    return largest_of(largest(v) for v in losses)


def _project(scale: Scale, value: torch.Tensor) -> torch.Tensor:
    projected: torch.Tensor = getattr(scale.field, "project", lambda v: v)(value)
    return projected


@contextlib.contextmanager
def _arithmetic(claim: Claim, mode: Mode) -> Iterator[None]:
    """Switch on autocast or TF32 as the mode requires; TF32 is off in the other modes."""
    flags: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [flag.allow_tf32 for flag in flags]
    device = torch.device(claim.device).type
    try:
        for flag in flags:
            flag.allow_tf32 = mode.tf32
        with torch.autocast(device, mode.autocast) if mode.autocast is not None else contextlib.nullcontext():
            yield
    finally:
        for flag, value in zip(flags, before, strict=True):
            flag.allow_tf32 = value


def _conditioning(subject: Subject, x: Tree, y: Tree, scales: list[Scale]) -> float:
    """C, at least 1: relative change of the output / relative change of inputs and constants."""
    outputs, kappa = values_of(y), Kappa()
    for draw, nudged in enumerate(perturbed(x, subject.claim.seed, SMALL)):
        for moved in (subject.reference(nudged), subject.perturbed(x, SMALL, subject.claim.seed + draw)):
            for scale, a, b in zip(scales, values_of(moved), outputs, strict=True):
                kappa.add_change(scale.rounding(a - b).amax(1, keepdim=True), SMALL)
    return kappa.worst_condition


def _power(scales: list[Scale], y: Tree, bound: float) -> float:
    """The power: error of another sample's output / bound. A total loss would have such an error."""
    variation = [s.rounding(v - v.roll(1, 0)) for s, (_, v) in zip(scales, leaves(y), strict=True)]
    wrong = largest_of(largest(v) for v in variation)
    return wrong / bound if bound > 0 else math.inf


def _verdict(
    own: str, rows: dict[str, ElementResult], missing: dict[str, str], condition: float, power: float
) -> tuple[Verdict, Reason]:
    if own not in rows:
        text = f"cannot be computed in {own}: {missing.get(own, 'not one of the modes')}."
        return Verdict.SKIPPED, Reason(code=Code.NOT_AVAILABLE, message=text)
    report = "; ".join([_line(row) for row in rows.values()] + [f"{name}: not available" for name in missing])
    row = rows[own]
    if not row.error <= row.bound:
        bits = _bits(row.error, EPS[own])
        allowed = LOST_BITS[own] + math.log2(condition)
        text = f"{own} loses {bits:.1f} bits ({allowed:.1f} are usual): look for sums in low precision. {report}."
        return Verdict.IMPRECISE, Reason(code=Code.PRECISION, message=text)
    if power <= 1 and row.bound < 1:
        return Verdict.VACUOUS, Reason(code=Code.VACUOUS, message="the output does not depend on the input.")
    if row.bound >= 1:
        text = f"the problem amplifies errors {condition:.1g} times: {own} may lose most digits unseen. {report}."
        return Verdict.AMBIGUOUS, Reason(code=Code.ILL_CONDITIONED, message=text)
    return Verdict.EXACT, Reason(code=Code.EXACT, message=f"{report}.")


def _line(row: ElementResult) -> str:
    if not math.isfinite(row.error):
        return f"{row.element}: overflows"
    eps = next(mode.eps for mode in MODES if mode.name == row.element)
    beyond = "" if row.error <= row.bound else ", more than usual"
    return f"{row.element}: {row.error:.1e}, {max(_bits(row.error, eps), 0.0):.1f} bits lost{beyond}"


def _bits(loss: float, eps: float) -> float:
    return math.log2(loss / eps) if loss > 0 else 0.0
