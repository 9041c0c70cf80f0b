"""The validity map: for which sizes, kernels, strides and paddings does the claim of a layer hold?

This module knows nothing about convolutions. Every geometry is built and judged like any other claim, and the law is
the simplest congruence that separates the geometries where the claim holds from those where it does not.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

from ...harness.claim.claim import Claim
from ...harness.errors import UsageError
from ...harness.records.validity import SYMBOLS, Geometry, Law, Point, ValidityMap
from ..forward.equivariance import equivariance

#: Coefficients tried for each parameter, small ones first: enough for windows that count each voxel once or twice.
COEFFICIENTS = (0, 1, -1, 2, -2)
#: Boxes with every remainder mod 2 and mod 3, and small windows, strides and paddings.
SIZES, KERNELS, STRIDES, PADDINGS = (7, 8, 9, 10), (1, 2, 3, 4, 5), (1, 2, 3), (0, 1)


def sweep(
    *,
    sizes: Sequence[int] = SIZES,
    kernels: Sequence[int | None] = KERNELS,
    strides: Sequence[int | None] = STRIDES,
    paddings: Sequence[int | None] = PADDINGS,
    output_paddings: Sequence[int | None] = (None,),
) -> Iterator[Geometry]:
    """Every combination of parameters; output paddings must be smaller than the stride.

    Example:
        >>> len(list(sweep(sizes=(8, 9), kernels=(3,), paddings=(0,), output_paddings=(0, 1))))
        10
    """
    for n, k, s, p, q in itertools.product(sizes, kernels, strides, paddings, output_paddings):
        if q is None or q < (s or 1):
            yield Geometry(n, k, s, p, q)


def validity_map(
    layer: str, library: str, build: Callable[[Geometry], Claim], geometries: Iterable[Geometry]
) -> ValidityMap:
    """Judge a layer's claim at every geometry, and find the law of the geometries where it holds.

    Args:
        layer: name of the layer.
        library: name of its library.
        build: returns the claim of a geometry; raises ValueError or RuntimeError if the layer refuses the geometry.
        geometries: geometries from `sweep`.

    Returns:
        A point for every geometry (SKIPPED if the layer refuses it), and the law.
    """
    points, group = [], ""
    for geometry in geometries:
        try:
            claim = build(geometry)
        except (ValueError, RuntimeError, AssertionError):
            points.append(Point(geometry, "SKIPPED"))
            continue
        group = claim.group.name
        result = equivariance(claim).result
        points.append(Point(geometry, str(result.verdict), result.error))
    return ValidityMap(layer, library, group, tuple(points), find_law(points))


def find_law(points: Iterable[Point]) -> Law:
    """The simplest law (a N + b p + c k + d q + e) mod s = 0 that predicts where a claim holds.

    The simplest law has the smallest sum of absolute coefficients. Its first coefficient is positive. If no law
    explains every point, the law that explains most points is returned with its count.

    Raises:
        UsageError: no point has a decided verdict.

    Example:
        >>> where = [Geometry(n, k, s, 0) for n in (7, 8, 9, 10) for k in (2, 3) for s in (1, 2, 3)]
        >>> marks = [(g, "EXACT" if (g.size - g.kernel) % g.stride == 0 else "BROKEN") for g in where]
        >>> find_law([Point(*m) for m in marks]).text
        '(N - k) mod s = 0'
    """
    decided = [(p.geometry, p.holds) for p in points if p.holds is not None]
    if not decided:
        raise UsageError("No geometry has a decided verdict, so no law can be found: give larger boxes.")
    truth = [holds for _, holds in decided]
    if len(set(truth)) == 1:
        return Law("always" if truth[0] else "never", len(truth), len(truth))
    names = [n for n in ("size", "padding", "kernel", "output_padding") if _varies(decided, n)]
    modulus = "stride" if _varies(decided, "stride") else ""
    best = 0
    fits: list[tuple[int, ...]] = []
    for coefficients in itertools.product(COEFFICIENTS, repeat=len(names) + 1):
        if next((c for c in coefficients if c), 0) <= 0 or not any(coefficients[:-1]):
            continue
        agree = sum(_law_holds(g, names, coefficients, modulus) == holds for g, holds in decided)
        best, fits = (
            (agree, [coefficients]) if agree > best else (best, [*fits, coefficients] if agree == best else fits)
        )
    fits.sort(key=lambda c: (sum(map(abs, c)), [abs(v) for v in c], [-v for v in c]))
    texts = [_text(names, c, modulus) for c in fits]
    return Law(texts[0], best, len(decided), tuple(texts[1:5]))


def _varies(decided: Sequence[tuple[Geometry, bool | None]], name: str) -> bool:
    return len({getattr(g, name) for g, _ in decided}) > 1


def _law_holds(geometry: Geometry, names: Sequence[str], coefficients: Sequence[int], modulus: str) -> bool:
    value = sum(c * getattr(geometry, n) for c, n in zip(coefficients, names, strict=False)) + coefficients[-1]
    return bool(value % (getattr(geometry, modulus) if modulus else 2) == 0)


def _text(names: Sequence[str], coefficients: Sequence[int], modulus: str) -> str:
    terms = [(c, SYMBOLS[n]) for c, n in zip(coefficients, names, strict=False)] + [(coefficients[-1], "")]
    text = ""
    for c, symbol in terms:
        if c:
            size = f"{abs(c) if abs(c) > 1 or not symbol else ''}{symbol}"
            text += (f" {'-' if c < 0 else '+'} " if text else "") + size
    return f"({text}) mod {SYMBOLS[modulus] if modulus else 2} = 0"
