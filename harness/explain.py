"""A check result as a readable page: PASS or FAIL and why first, the numbers after."""

from __future__ import annotations

from .verdict import CheckResult, Verdict


def headline(result: CheckResult, *, named: bool = True) -> str:
    """One line: label, verdict, what was checked (of whom, unless the reader knows), the decisive number."""
    subject = " ".join(part for part in (result.implementation, result.case) if part) or "layer"
    text = f"{result.label}  {result.verdict}  {result.property}" + (f" of {subject}" if named else "")
    if result.error is not None and result.bound is not None:
        text += f": error {result.error:.2e}, bound {result.bound:.2e}, ratio {result.ratio:.2g}"
    elif result.limit is not None:
        text += f": error in the limit of fine grids in [{result.limit[0]:.1g}, {result.limit[1]:.1g}]"
    return text


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
        if part.fails and part.reason.message and part.reason != result.reason:
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
        lines.append(f"  power    faults down to {1 / result.power:.1e} of a wrong action would have been seen")
    if result.seen is not None and result.precision is not None:
        lines.append(
            f"  {result.dtype:8} error as computed {result.seen:.1e}, of which rounding {result.precision:.1e}"
        )
    for row in result.resolutions:
        lines.append(
            f"  size {row.size:<4}error {row.error:.3g}, interpolation floor {row.floor:.1g}, "
            f"unconstrained {row.control:.2g}"
        )
    if result.gain is not None:
        lines.append(f"  gain     {result.gain:.3g} times closer than an unconstrained layer")
    return lines
