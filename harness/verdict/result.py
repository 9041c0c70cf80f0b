"""Verdicts: what a check concludes, why, and in which order the possible reasons are tested.

Each reason is tested only where the earlier ones do not apply. A layer that crashed has no error. A layer that returns
NaN has no meaningful error. A layer that changes between calls has no single error. With a wrong action the error is
not the layer's. An error beyond its bound is a fault. A check that could not have failed proves nothing. ``decide``
implements this order.
"""

from __future__ import annotations

import builtins
import math
import traceback
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationInfo, field_validator

from .codes import LABELS, Code, Verdict

__all__ = [
    "CAUSES",
    "LABELS",
    "CheckResult",
    "Code",
    "Data",
    "ElementResult",
    "Reason",
    "Resolution",
    "Verdict",
    "WavelengthError",
    "explain",
    "headline",
    "ratio",
    "worst",
]


class Data(BaseModel):
    """Base of the data classes: frozen, refuses unknown names, keeps infinities and NaN in JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class Reason(Data):
    """The reason for a verdict: a stable code for programs and a sentence for people.

    A code is one of ``Code``, as a member or by its name. Records may hold codes of other versions.
    """

    code: Code
    message: str

    @field_validator("code", mode="before")
    @classmethod
    def _of_a_record(cls, code: object, info: ValidationInfo) -> object:
        return Code.read(code) if info.mode == "json" and isinstance(code, str) else code

    def __str__(self) -> str:
        return f"{self.code}: {self.message}" if self.message else self.code


class ElementResult(Data):
    """Errors at one group element: the largest over samples, leaves and fibre summands."""

    element: str
    error: float
    error_max: float = 0.0
    bound: float
    seen: float = 0.0
    precision: float = 0.0
    power: float | None = None


class Resolution(Data):
    """One resolution of an approximate claim: the layer's error, the action's error, an unconstrained layer's error."""

    size: int
    error: float
    floor: float
    control: float


class WavelengthError(Data):
    """The error off the grid of inputs of one wavelength, in pixels: E / ||y|| of the worst element and summand."""

    pixels: float
    error: float


class CheckResult(Data):
    """One verdict for (implementation, case, property, dtype, seed), with all the numbers behind it.

    error is E_*, the structural error in float64 relative to the part of the output that depends on the input; bound is
    the largest error that rounding explains; ratio = error / bound; power = error of the best wrong action / the
    largest error that does not fail, so 1 / power is the smallest fault that fails; seen is E_p, the error in the
    working precision; precision is P, the loss of that precision alone. Off the grid ``wavelengths`` holds the errors
    at some wavelengths, separation is D, the error under the nearest wrong action over the error under the claimed one,
    and share is 1/D for the longest waves. Where the adapter declares a deviation for this check, ``expected_verdict``
    is the declared verdict and ``expected`` is the declared reason. seconds is the time of the check, seconds_in_layer
    its part inside the layer, and seconds_building the time before it in which the claim was built: 0 where an earlier
    check of the same claim built it.
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
    condition: float | None = None
    seen: float | None = None
    precision: float | None = None
    lost_bits: float | None = None
    defect: float | None = None
    element: str = ""
    leaf: str = ""
    elements: tuple[ElementResult, ...] = ()
    resolutions: tuple[Resolution, ...] = ()
    wavelengths: tuple[WavelengthError, ...] = ()
    separation: float | None = None
    share: float | None = None
    limit: tuple[float, float] | None = None
    order: float | None = None
    gain: float | None = None
    seconds: float = 0.0
    seconds_in_layer: float = 0.0
    seconds_building: float = 0.0
    reproduce: str = ""
    attachment: str = ""
    parts: tuple[CheckResult, ...] = Field(default=())
    expected: str = ""
    expected_verdict: Verdict | None = None
    #: The error of a crash, for whoever made the check in this process; records and other processes have the sentence.
    _exception: BaseException | None = PrivateAttr(default=None)

    @builtins.property
    def exception(self) -> BaseException | None:
        """The error that the layer raised, with its traceback, where the verdict is CRASHED."""
        return self._exception

    @builtins.property
    def traceback(self) -> str:
        """The traceback of ``exception`` as text; empty where there is none."""
        return "".join(traceback.format_exception(self._exception)) if self._exception is not None else ""

    def with_exception(self, error: BaseException | None) -> CheckResult:
        """The same result with the error behind it."""
        result = self.model_copy()
        result._exception = error
        return result

    def __getstate__(self) -> dict[builtins.str, Any]:
        # Errors of libraries may refuse to be pickled; tracebacks always do.
        state = super().__getstate__()
        return {**state, "__pydantic_private__": {"_exception": None}}

    @builtins.property  # a field of this class is called property
    def ratio(self) -> float | None:
        """error / bound; None where nothing was measured."""
        if self.error is None or self.bound is None:
            return None
        return ratio(self.error, self.bound)

    @builtins.property
    def contradiction(self) -> str:
        """Declared and found verdict where the two differ, else empty. A skipped check contradicts no declaration."""
        if self.expected_verdict in (None, self.verdict) or self.verdict is Verdict.SKIPPED:
            return ""
        return (
            f"declared {self.expected_verdict} ({self.expected}) and found {self.verdict}: correct the layer, or the "
            "declaration in its adapter."
        )

    @builtins.property
    def label(self) -> str:
        """The verdict's label; EXPECTED where the adapter declares this verdict, FAIL where it declares another."""
        if self.contradiction:
            return "FAIL"
        return "EXPECTED" if self.verdict is self.expected_verdict else self.verdict.label

    @builtins.property
    def fails(self) -> bool:
        """Whether this check fails a run. A declared deviation does not fail it; the absence of that deviation does."""
        return self.label in ("FAIL", "UNSURE")

    @builtins.property
    def rank(self) -> tuple[int, int]:
        """Sort key from best to worst: the label, then the verdict."""
        return LABELS.index(self.label), self.verdict.severity

    @builtins.property
    def passed(self) -> bool:
        """Whether the check passed: EXACT, APPROXIMATE, IMPRECISE (with a warning), or a declared deviation."""
        return self.label in ("PASS", "WARN", "EXPECTED")

    def __bool__(self) -> bool:
        """``passed``, so that ``assert eh.check(...)`` fails where the claim does not hold."""
        return self.passed

    def __str__(self) -> str:

        return explain(self)


def ratio(error: float, bound: float) -> float:
    """error / bound with 0/0 = 0."""
    if error == 0:
        return 0.0
    return error / bound if bound > 0 else math.inf


#: Properties in the order in which a user would name causes. Among equally bad parts the report shows the first: a
#: layer that is not equivariant has a gradient that is not, and one with a wrong gradient may be equivariant.
CAUSES = (
    "equivariance",
    "rotations",
    "reflections",
    "translations",
    "permutations",
    "forces",
    "smoothness",
    "batch",
    "off_grid",
    "aliasing",
    "integration",
    "homomorphism",
    "gradcheck",
    "adjoint",
    "parameter_gradient",
)


def worst(results: Iterable[CheckResult]) -> CheckResult:
    """The result with the worst verdict; among equals the first of CAUSES. Any verdict outweighs SKIPPED.

    Raises:
        ValueError: there are no results.
    """
    listed = list(results)
    tried = [r for r in listed if r.verdict is not Verdict.SKIPPED] or listed
    return max(tried, key=lambda r: (*r.rank, -_place(r), r.ratio or 0.0))


def _place(result: CheckResult) -> int:
    """The place of the result's property among the causes; the last for all others."""
    name = result.property.split(" in ")[0]
    return CAUSES.index(name) if name in CAUSES else len(CAUSES)


def headline(result: CheckResult, *, named: bool = True) -> str:
    """One line: label, verdict, property, implementation (if ``named``) and the decisive number."""
    subject = " ".join(part for part in (result.implementation, result.case) if part) or "layer"
    text = f"{result.label}  {result.verdict}  {result.property}" + (f" of {subject}" if named else "")
    if result.error is not None and result.bound is not None:
        text += f": error {result.error:.2e}, bound {result.bound:.2e}, ratio {result.ratio:.2g}"
    elif result.wavelengths:
        text += f": error {by_wavelength(result.wavelengths)}"
    elif result.limit is not None:
        text += f": error in the limit of fine grids in [{result.limit[0]:.1g}, {result.limit[1]:.1g}]"
    return text


def by_wavelength(rows: Iterable[WavelengthError]) -> str:
    """The errors with their wavelengths, in words.

    Example:
        >>> by_wavelength([WavelengthError(pixels=3, error=0.19), WavelengthError(pixels=6, error=0.031)])
        '0.19 at 3 px, 0.031 at 6 px'
    """
    return ", ".join(f"{row.error:.2g} at {row.pixels:g} px" for row in rows)


def explain(result: CheckResult) -> str:
    """The report that ``print(result)`` shows."""
    lines = [headline(result)]
    if result.contradiction:
        lines.append(f"  expected {result.contradiction}")
    elif result.expected:
        lines.append(f"  expected {result.expected}")
    if result.reason.message:
        lines.append(f"  why      {result.reason}")
    lines += _numbers(result)
    for part in result.parts:
        lines.append(f"  {headline(part, named=False)}")
        told = part.fails or part.verdict is Verdict.SKIPPED
        if told and part.reason.message and part.reason != result.reason:
            lines.append(f"    why    {part.reason}")
    if result.reproduce and result.verdict is not Verdict.EXACT:
        lines.append(f"  again    {result.reproduce}")
    return "\n".join(lines)


def _numbers(result: CheckResult) -> list[str]:
    lines = []
    if result.group:
        lines.append(
            f"  claim    {result.group}: {result.source} -> {result.target}, {result.dtype}, seed {result.seed}"
        )
    if result.element:
        where = f" in {result.leaf}" if result.leaf else ""
        lines.append(f"  worst    {result.element}{where}")
    if result.power is not None and result.power > 0:
        lines.append(f"  power    faults down to {1 / result.power:.1e} of a wrong action fail")
    if result.seen is not None and result.precision is not None:
        lines.append(
            f"  {result.dtype:8} error as computed {result.seen:.1e}, of which rounding {result.precision:.1e}"
        )
    for row in result.resolutions:
        lines.append(
            f"  size {row.size:<4}error {row.error:.3g}, interpolation floor {row.floor:.1g}, "
            f"unconstrained {row.control:.2g}"
        )
    if result.wavelengths:
        lines.append(f"  error    {by_wavelength(result.wavelengths)}")
    if result.separation is not None and result.share is not None and math.isfinite(result.separation):
        lines.append(
            f"  nearest  the best wrong action leaves {result.separation:.3g} times more; for long waves "
            f"{result.share:.2g} of its error stays"
        )
    if result.gain is not None:
        lines.append(f"  gain     {result.gain:.3g} times closer than an unconstrained layer")
    return lines
