"""The rule off the grid: LIMIT, ACTION and ORDER, from squared errors of waves at one pixel that the element keeps.

E(lambda) is the error under the claimed action, E_k(lambda) the error under a wrong action k, D = min_k E_k / E.

    LIMIT   the error of constant inputs, the limit of long waves, is above what rounding explains
    ACTION  D at 6 to 24 px is below sqrt(2): the claimed action fits no better than another one
    ORDER   D does not grow from 24 to 96 px: a part 1/D of the error of a wrong action stays for smooth inputs

E and E_k both fall as waves get longer, so an error alone proves nothing. Their ratio grows without bound for a sound
layer and tends to a constant for a layer that acts otherwise than the claim says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from ...harness.claim.claim import LONG, Approximate
from ...harness.symmetry.groups import Element
from ...harness.verdict.result import Code, Reason, Verdict, WavelengthError, by_wavelength

Array = NDArray[np.float64]

#: Wavelengths in pixels whose errors every answer states.
STATED = (3.0, 6.0, 12.0)
#: Wavelengths at which D is held against SAME: from three times Nyquist's, because sampled 3x3 filters are really wrong
#: at shorter ones.
ACTS = (6.0, 12.0, 24.0)
#: Wavelengths between which D must grow: 24 px is more than four kernels of five; at 96 px a wrong action leaves
#: 2 pi / 96 = 6e-2, four decades above rounding.
ORDER = (24.0, 96.0)
#: The same for a summand that has all but faded at 96 px: a filter of frequency m responds like wavelength^-m.
FADED = (6.0, 24.0)
WAVELENGTHS = tuple(sorted({*STATED, *ACTS, *ORDER}))
#: The claimed action must leave less than half of the squared error that any other action leaves. For unrelated filters
#: both are equal in expectation, for filters that were never rotated exactly.
SAME = math.sqrt(2.0)
#: The least order of D that can be told from a plateau. Sound filters have order 1 to 3, kinks (ReLU) 1/2.
LEAST_ORDER = 0.2
#: A part of at least this size that stays is a fault; a smaller one may be that of small filters.
FAULT = 0.5
#: The size of a summand that counts as faded, relative to its largest. Errors of the summands of one field are relative
#: to at least this part of the largest summand.
FAINT = 1e-3
#: Two-sided level of an interval.
LEVEL = 0.05


@dataclass(frozen=True)
class WaveErrors:
    """Squared errors at one element: [wavelength, sample, summand], and [alternative, ...] for wrong actions.

    Args:
        element: the element.
        right: |u - rho_out(g) y|^2 with u = f(a_g x) and y = f(x) at the kept pixel, both less f(0).
        size: |y|^2.
        wrong: the squared errors under the alternatives.
        apart: how far an alternative is from the claimed action, squared; one that changes nothing is dropped.
        constant: ``right`` for constant inputs [sample, summand].
        constant_size: ``size`` for constant inputs.
    """

    element: Element
    right: Array
    size: Array
    wrong: Array
    apart: Array
    constant: Array
    constant_size: Array
    wavelengths: tuple[float, ...] = WAVELENGTHS

    def at(self, wavelength: float) -> int:
        """The index of a wavelength."""
        return self.wavelengths.index(wavelength)

    @property
    def largest(self) -> Array:
        """The largest mean square [summand] at any wavelength, at least (FAINT/1000)^2 of that of the largest."""
        big = np.maximum(self.size.mean(1).max(0), self.constant_size.mean(0))
        floor: Array = np.maximum(big, (1e-3 * FAINT) ** 2 * big.max())
        return floor

    def error(self, wavelength: float) -> float:
        """E / ||y|| of the worst summand; a faint summand is compared with FAINT of the largest one."""
        i = self.at(wavelength)
        size = self.size[i].mean(0)
        size = np.maximum(size, FAINT**2 * size.max())
        right = self.right[i].mean(0)
        worst = np.divide(right, size, out=np.where(right > 0, np.inf, 0.0), where=size > 0).max()
        return float(math.sqrt(worst))

    def error_of_largest(self, wavelength: float) -> float:
        """E of the worst summand, relative to its largest size at any wavelength; for inputs that end at the border.

        A pool over space gives almost nothing for a short wave, and the relative error of that has no meaning.
        """
        size = np.maximum(self.largest, FAINT**2 * self.largest.max())
        right = self.right[self.at(wavelength)].mean(0)
        return float(math.sqrt((right / size).max())) if size.max() > 0 else 0.0


@dataclass(frozen=True)
class Judged:
    """The verdict of the rule, with its numbers."""

    verdict: Verdict
    reason: Reason
    errors: tuple[WavelengthError, ...] = ()
    limit: float = 0.0
    separation: float | None = None
    share: float | None = None
    order: float | None = None
    element: Element | None = None
    #: Whether more samples could change the verdict.
    open: bool = False


@dataclass
class _Bounds:
    """Intervals [element, summand] of log D and of its order; NaN where nothing tells the action of a summand."""

    low: list[Array] = field(default_factory=list)
    high: list[Array] = field(default_factory=list)
    middle: list[Array] = field(default_factory=list)

    def add(self, middle: Array, low: Array, high: Array) -> None:
        self.middle.append(middle)
        self.low.append(low)
        self.high.append(high)


def judge_waves(rows: Sequence[WaveErrors], rounding: Array, contract: Approximate) -> Judged:
    """The verdict on the errors at some elements.

    Args:
        rows: the errors, one row for each element.
        rounding: R [summand], the relative error that rounding explains.
        contract: its ceiling, if it has one, decides; its order is held against that of D.
    """
    if not all(np.isfinite(a).all() for r in rows for a in (r.right, r.size, r.wrong, r.constant, r.constant_size)):
        text = "the output has NaN or infinite values where the input is finite."
        return Judged(Verdict.BROKEN, Reason(code=Code.NONFINITE, message=text))
    errors = tuple(WavelengthError(pixels=w, error=max(r.error(w) for r in rows)) for w in stated(contract))
    worst = max(rows, key=lambda r: r.error(LONG))
    if max(float(r.largest.max()) for r in rows) == 0:
        text = "the output does not depend on the input: every wrong action would have passed too."
        return Judged(Verdict.VACUOUS, Reason(code=Code.VACUOUS, message=text), errors, element=worst.element)
    acts, orders, shares = _Bounds(), _Bounds(), []
    samples, tests = rows[0].right.shape[1], len(rows) * len(rounding)
    sure, accusing = student(LEVEL, samples - 1), student(LEVEL / tests, samples - 1)
    for row in rows:
        floor = rounding**2 * row.largest
        acts.add(*_action(row, floor, sure, accusing))
        share, *order = _order(row, floor, sure, accusing)
        orders.add(*order)
        shares.append(share)
    limits = np.array([np.sqrt(r.constant.mean(0) / r.largest) for r in rows])
    numbers = {
        "errors": errors,
        "limit": float(limits.max()),
        "separation": _smallest(_exp(np.stack(acts.middle))),
        "share": _largest(np.stack(shares)),
        "order": _smallest(np.stack(orders.middle)),
    }

    def result(verdict: Verdict, code: Code, text: str, at: Array | None = None, *, more: bool = False) -> Judged:
        element = worst.element if at is None else rows[int(np.argmax(at.max(1)))].element
        return Judged(verdict, Reason(code=code, message=text), element=element, open=more, **numbers)  # type: ignore[arg-type]

    told = by_wavelength(errors)
    if contract.ceiling is not None:
        error = next(e.error for e in errors if e.pixels == held_at(contract))
        good = error <= contract.ceiling
        text = f"error {error:.3g} at {held_at(contract):g} px, declared ceiling {contract.ceiling:.3g}; in all {told}."
        return result(Verdict.APPROXIMATE if good else Verdict.BROKEN, Code.CEILING, text)
    if not (limits <= rounding).all():
        where = limits / rounding
        text = (
            f"for constant inputs, the limit of long waves, an error of {limits.max():.2g} stays, and rounding "
            f"explains {rounding[int(np.argmax(where.max(0)))]:.2g}: f(rho c) is not rho f(c). Error {told}."
        )
        return result(Verdict.BROKEN, Code.LIMIT, text, where)
    low, high, growth, fall = (np.stack(v) for v in (acts.low, acts.high, orders.low, orders.high))
    if np.isnan(high).all() or np.isnan(growth).all():
        text = "no wrong action can be told from the claimed one at these inputs: the answer would have been the same."
        return result(Verdict.AMBIGUOUS, Code.LOW_POWER, text, more=True)
    if np.nanmin(high) < math.log(SAME):
        distance = math.exp(float(np.nanmin(np.stack(acts.middle))))
        text = (
            f"another action fits the layer as well: under the nearest wrong action the error is {distance:.2g} times "
            f"that under the claimed one, at wavelengths of 6 to 24 px. Error {told}."
        )
        return result(Verdict.BROKEN, Code.ACTION, text, -np.nan_to_num(high, nan=np.inf))
    stays = np.nan_to_num(fall, nan=np.inf) < LEAST_ORDER
    if stays.any():
        where = np.where(stays, np.stack(shares), 0.0)
        part = float(where.max())
        text = f"a part of {part:.2g} of what a wrong action leaves stays wrong however smooth the input. Error {told}."
        if part >= FAULT:
            return result(Verdict.BROKEN, Code.PLATEAU, text, where, more=True)
        text += (
            " 3x3 filters of frequency 2 do that, and so do filters at a wrong angle: "
            "declare a ceiling at a wavelength that you need, Approximate(ceiling=0.05, wavelength=6)."
        )
        return result(Verdict.AMBIGUOUS, Code.PLATEAU, text, where, more=True)
    if contract.order is not None and np.nanmin(fall) < contract.order:
        text = f"the wrong part falls like wavelength^-{numbers['order']:.2g}, the claim declares {contract.order:g}."
        return result(Verdict.BROKEN, Code.ORDER, text, -np.nan_to_num(fall, nan=np.inf))
    if np.nanmin(low) < math.log(SAME) or np.nanmin(growth) < LEAST_ORDER:
        text = f"{samples} samples do not tell the claimed action from another one. Error {told}."
        return result(Verdict.AMBIGUOUS, Code.LOW_POWER, text, more=True)
    if math.isinf(numbers["order"] or math.inf):  # type: ignore[arg-type]
        return result(
            Verdict.APPROXIMATE, Code.ROUNDING, f"the error of long waves is at rounding level. Error {told}."
        )
    text = (
        f"error {told}. A wrong action leaves at least {numbers['separation']:.3g} times more, and the wrong part "
        f"falls like wavelength^-{numbers['order']:.2g}."
    )
    return result(Verdict.APPROXIMATE, Code.CONVERGES, text)


def held_at(contract: Approximate) -> float:
    """The wavelength at which a ceiling is held."""
    return LONG if contract.wavelength is None else float(contract.wavelength)


def stated(contract: Approximate) -> list[float]:
    """The wavelengths whose errors the answer states."""
    return sorted({*STATED, *([held_at(contract)] if contract.ceiling is not None else [])})


def by_ceiling(errors: Sequence[WavelengthError], contract: Approximate) -> tuple[Verdict, Reason] | None:
    """The verdict of a declared ceiling on the errors by wavelength; None without a ceiling."""
    if contract.ceiling is None:
        return None
    error = next(e.error for e in errors if e.pixels == held_at(contract))
    text = (
        f"error {error:.3g} at {held_at(contract):g} px, declared ceiling {contract.ceiling:.3g}; in all "
        f"{by_wavelength(errors)}."
    )
    verdict = Verdict.APPROXIMATE if error <= contract.ceiling else Verdict.BROKEN
    return verdict, Reason(code=Code.CEILING, message=text)


def wavelengths_of(contract: Approximate) -> tuple[float, ...]:
    """The wavelengths to measure: those of the rule, and that of a ceiling."""
    return tuple(sorted({*WAVELENGTHS, *([held_at(contract)] if contract.ceiling is not None else [])}))


def _action(row: WaveErrors, floor: Array, sure: float, accusing: float) -> tuple[Array, Array, Array]:
    """log D [summand] with its interval: the wavelength at which the action is seen best decides."""
    found = []
    for wavelength in ACTS:
        i = row.at(wavelength)
        middle, error = _logs(row.wrong[:, i], row.right[i])
        middle = np.where(row.apart[:, i].mean(1) > floor, middle, np.inf)
        best = middle.argmin(0)[None]
        middle, error = np.take_along_axis(middle, best, 0)[0], np.take_along_axis(error, best, 0)[0]
        middle = np.where(np.isinf(middle), np.nan, middle)
        middle = np.where(row.right[i].mean(0) <= floor, np.inf, middle)
        found.append((middle, middle - sure * error, middle + accusing * error))
    stacks = [np.stack([f[n] for f in found]) for n in range(3)]
    middle, low, high = (np.where(np.isnan(s).all(0), np.nan, np.where(np.isnan(s), -np.inf, s).max(0)) for s in stacks)
    return middle, low, high


def _order(row: WaveErrors, floor: Array, sure: float, accusing: float) -> tuple[Array, Array, Array, Array]:
    """The share 1/D for long waves, and the order of D with its interval, [summand] each."""
    faded = row.size[row.at(ORDER[1])].mean(0) <= FAINT**2 * row.largest
    far, near = (_order_between(row, floor, sure, accusing, pair) for pair in (ORDER, FADED))
    share, middle, low, high = (np.where(faded, b, a) for a, b in zip(far, near, strict=True))
    return share, middle, low, high


def _order_between(
    row: WaveErrors, floor: Array, sure: float, accusing: float, pair: tuple[float, float]
) -> tuple[Array, Array, Array, Array]:
    a, b = (row.at(w) for w in pair)
    wrong = np.where(row.apart[:, b].mean(1) > floor, row.wrong[:, b].mean(1), np.inf)
    best = wrong.argmin(0)
    summands = np.arange(len(floor))
    wa, wb = (row.wrong[:, i][best, :, summands].T for i in (a, b))
    span = math.log(pair[1] / pair[0])
    (la, ja), (lb, jb) = (_jackknife(w, row.right[i]) for w, i in ((wa, a), (wb, b)))
    middle, error = (lb - la) / span, _deviation((jb - ja) / span)
    unknown, settled = np.isinf(wrong.min(0)), row.right[b].mean(0) <= floor
    known = np.where(unknown, np.nan, middle)
    middle, low, high = (np.where(settled, np.inf, v) for v in (known, known - sure * error, known + accusing * error))
    share = np.where(settled, 0.0, np.where(unknown, 0.0, np.exp(-lb)))
    return share, middle, low, high


def _logs(wrong: Array, right: Array) -> tuple[Array, Array]:
    """log sqrt(sum wrong / sum right) [alternative, summand] and its jackknife standard error over samples."""
    full, without = _jackknife(wrong, right[None])
    return full, _deviation(without, axis=1)


def _jackknife(wrong: Array, right: Array) -> tuple[Array, Array]:
    """The log of the ratio from all samples, and from all samples but one [..., sample, summand]."""

    def log(a: Array, b: Array) -> Array:
        found: Array = 0.5 * (np.log(np.maximum(a, 1e-300)) - np.log(np.maximum(b, 1e-300)))
        return found

    whole, base = wrong.sum(-2), right.sum(-2)
    return log(whole, base), log(whole[..., None, :] - wrong, base[..., None, :] - right)


def _deviation(without: Array, axis: int = 0) -> Array:
    count = without.shape[axis]
    found: Array = np.sqrt((count - 1) / count * ((without - without.mean(axis, keepdims=True)) ** 2).sum(axis))
    return found


def student(level: float, freedom: int) -> float:
    """The two-sided quantile of Student's distribution, by the expansion of Fisher and Cornish in 1 / freedom.

    Example:
        >>> round(student(0.05, 31), 3), round(student(0.05, 127), 3)
        (2.04, 1.979)
    """
    z = NormalDist().inv_cdf(1 - level / 2)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    found: float = z + sum(term / freedom ** (k + 1) for k, term in enumerate(terms))
    return found


def _exp(logs: Array) -> Array:
    """exp without overflow; infinite logs stay infinite."""
    found: Array = np.where(np.isposinf(logs), np.inf, np.exp(np.minimum(logs, 700.0)))
    return found


def _smallest(values: Array) -> float | None:
    return None if np.isnan(values).all() else float(np.nanmin(values))


def _largest(values: Array) -> float | None:
    return None if np.isnan(values).all() else float(np.nanmax(values))
