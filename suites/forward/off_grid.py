"""Equivariance off the grid: elements that would need interpolation, judged by plane waves at the pixel that they keep.

The rule is that of ``wave_rule``. It is about one spot of the output, so a layer must move with its input, or it is
judged beside the centre and on the whole plane too. A layer that sees the border from everywhere is judged on the plane
alone, by ``smooth_refinement``; a layer with a resolution of its own by ``refinement``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from ...harness.claim.claim import LONG, Approximate, Claim, Exact
from ...harness.claim.diagram import diagram
from ...harness.claim.evaluation import Subject
from ...harness.claim.outcome import Outcome, describe
from ...harness.errors import UsageError
from ...harness.fields.domains import Grid
from ...harness.fields.field import Field
from ...harness.symmetry.groups import Element, Group, element_name
from ...harness.trees import leaves
from ...harness.verdict.decide import LARGEST_DEFECT
from ...harness.verdict.result import CheckResult, Code, ElementResult, Reason, Verdict, WavelengthError, by_wavelength
from ..waves.fixed_pixels import SIZES, Beside, FixedPixels, Spot, Waves, beside, central_spots, moves_with_its_input
from ..waves.smooth_inputs import round_window
from ..waves.wave_errors import Setting, control_error, defect_of, rounding_at, wave_errors
from ..waves.wave_rule import Judged, WaveErrors, by_ceiling, judge_waves, stated, wavelengths_of
from .refinement import refinement
from .smooth_refinement import refine

#: Samples of a first look; where they do not decide, four times as many halve the intervals.
SAMPLE_STEPS = (32, 128, 512)
#: Products and sums that a next look may cost. It is counted and not timed, so that verdicts are those of any machine.
LARGEST_LOOK = 2.0**35
#: Representatives of the elements off the grid.
ELEMENTS = 3
#: Angles of a continuous group: they are farthest from quarter and from eighth turns.
ANGLES = (45.0, 22.5)


def off_grid(claim: Claim) -> Outcome:
    """f(a_g x) against b_g f(x) for elements off the grid, in the limit of long waves and against wrong actions.

    A claim with resolutions of its own (``refined``) is judged over those resolutions.

    Args:
        claim: source and target are single fields on square or cubic grids (the target may have lost its domain).

    Returns:
        APPROXIMATE with the errors at some wavelengths, the distance D from the nearest wrong action and the order by
        which it grows; BROKEN(LIMIT, ACTION or PLATEAU); AMBIGUOUS(PLATEAU) if a small part stays, LOW_POWER or BORDER
        if nothing tells right from wrong; SKIPPED if there are no such elements.
    """
    if claim.refined is not None:
        return refinement(claim)
    start = time.perf_counter()
    skipped = _not_applicable(claim)
    if skipped:
        return Outcome(describe(claim, "off_grid", Verdict.SKIPPED, Reason(code=Code.NOT_OFF_GRID, message=skipped)))
    subject = Subject(claim, shares=False)
    with subject.guarded():
        result, picture = _judged(claim, subject)
    seconds = {"seconds": time.perf_counter() - start, "seconds_in_layer": subject.seconds}
    return Outcome(result.model_copy(update=seconds), picture)


def _not_applicable(claim: Claim) -> str:
    if isinstance(claim.contract, Exact):
        return "the claim is only about elements that need no interpolation."
    if not isinstance(claim.source, Field) or not isinstance(claim.source.domain, Grid):
        return "the source is not a single field on a grid."
    if claim.inputs is not None:
        return "inputs are given, and off the grid they would have to be moved between pixels."
    if not isinstance(claim.target, Field) and len(list(leaves(claim.target))) != 1:
        return "the target is a tree."
    if len(set(claim.source.domain.shape)) > 1:
        return "the grid is not square or cubic."
    if claim.group.order is not None and all(g.is_signed_permutation for g in claim.group):
        return f"every element of {claim.group.name} maps the grid onto itself."
    return ""


def elements_off_grid(claim: Claim) -> tuple[list[Element], tuple[Element, ...]]:
    """Representatives of the elements off the grid, up to exact ones, and the exact elements H of the group.

    Elements of one coset H g differ by elements that the exact part judges.
    """
    group = claim.group
    exact = _exact_elements(group)
    if claim.elements:
        named = [g for g in claim.elements if not g.is_signed_permutation]
        return named or _representatives(claim, exact), exact
    return _representatives(claim, exact), exact


def _exact_elements(group: Group) -> tuple[Element, ...]:
    """The elements that map a square or cubic grid onto itself."""
    if group.order is not None:
        return tuple(g for g in group if g.is_signed_permutation)
    found, pending = [group.identity], [group.identity]
    while pending:
        g = pending.pop()
        for h in group.generators:
            product = np.round(g.matrix @ h.matrix)
            if all(np.abs(product - k.matrix).max() > 0.5 for k in found):
                found.append(Element(element_name(product), product))
                pending.append(found[-1])
    return tuple(found)


def _representatives(claim: Claim, exact: Sequence[Element]) -> list[Element]:
    group = claim.group
    if group.order is None:
        turns = [_turn(angle, axis, group.dim) for angle, axis in zip(ANGLES, (2, 0), strict=True)]
        inside = [g for g in turns if _contains(group, g)]  # a group about one axis has no others
        drawn = group.sample(np.random.default_rng(claim.seed), ELEMENTS - len(inside))
        return [*inside, *(g for g in drawn if not g.is_signed_permutation)]
    known: set[int | None] = set()
    found = []
    for g in group:
        if g.is_signed_permutation or g.index in known:
            continue
        found.append(g)
        known |= {group.compose(h, g).index for h in exact}
    if claim.whole_group or len(found) <= ELEMENTS:
        return found
    return [found[i] for i in np.linspace(0, len(found) - 1, ELEMENTS).round().astype(int)]


def _contains(group: Group, g: Element) -> bool:
    try:
        group.element(g.matrix)
    except UsageError:
        return False
    return True


def _turn(degrees: float, axis: int, dim: int) -> Element:
    """The rotation by an angle, in space about an axis of the array."""
    t = math.radians(degrees)
    plane = np.array([[math.cos(t), -math.sin(t)], [math.sin(t), math.cos(t)]])
    matrix = np.eye(dim)
    others = [a for a in range(dim) if dim == 2 or a != axis]
    matrix[np.ix_(others, others)] = plane
    return Element(element_name(matrix), matrix)


def _judged(claim: Claim, subject: Subject) -> tuple[CheckResult, Any]:
    """The result and a diagram."""
    contract = claim.contract
    assert isinstance(contract, Approximate)
    elements, exact = elements_off_grid(claim)
    layer = FixedPixels(subject)
    probe = torch.zeros(2, layer.source.fibre.size, *layer.own.shape, dtype=torch.float64)
    layer.exact = subject.probe_reference(probe.to(claim.device).reshape(layer.source.tensor_shape(2))) is not None
    spots = central_spots(layer)
    if not spots:
        return _seeing_the_border(claim, subject, layer, contract, elements, exact)
    spot = _place(layer, spots, claim, elements, exact)
    result, judged, rounding, picture = _at_spot(layer, spot, claim, contract, elements, exact)
    if judged.verdict is Verdict.BROKEN or layer.has_one_size:
        return result, picture
    second = beside(layer)
    if moves_with_its_input(layer, second, rounding):
        return result, picture
    return _beside(claim, subject, layer, second, contract, elements, exact, result, picture)


def _seeing_the_border(
    claim: Claim,
    subject: Subject,
    layer: FixedPixels,
    contract: Approximate,
    elements: list[Element],
    exact: tuple[Element, ...],
) -> tuple[CheckResult, Any]:
    """The result of a layer whose every pixel sees the border: inputs that vanish there, and finer and finer grids."""
    own = max(3, layer.own.shape[0])
    tried = [n for n in (SIZES[layer.own.dim][-2] - 1 + own % 2, own) if layer.size(n)]
    shape = (max(tried),) * layer.own.dim
    middle = layer.size(shape[0]) // 2 if layer.on_grid else 0
    spot = Spot(shape, (middle,) * layer.own.dim if layer.on_grid else (), (0.0,) * layer.own.dim)
    setting = replace(
        _setting(layer, spot, claim, SAMPLE_STEPS[0], exact, wavelengths_of(contract)), window=round_window(shape)
    )
    rows = wave_errors(setting, elements)
    errors = tuple(WavelengthError(pixels=w, error=max(r.error_of_largest(w) for r in rows)) for w in stated(contract))
    declared = by_ceiling(errors, contract)
    if declared is not None:
        return describe(claim, "off_grid", *declared).model_copy(update={"wavelengths": errors}), None
    if layer.has_one_size:
        text = f"the output has {layer.size(own)} points a side at every resolution of the input: there is no limit."
        return describe(claim, "off_grid", Verdict.SKIPPED, Reason(code=Code.FIXED_OUTPUT, message=text)), None
    plane = refine(subject, elements, contract, _sizes(layer), by_source=True)
    if plane is not None:
        return plane[0].model_copy(update={"wavelengths": errors}), plane[1]
    text = (
        "the layer sees the border of its grid from everywhere, and it takes no grid of another size: declare a "
        f"ceiling, Approximate(ceiling=0.05, wavelength=6). Error {by_wavelength(errors)}."
    )
    reason = Reason(code=Code.BORDER, message=text)
    return describe(claim, "off_grid", Verdict.AMBIGUOUS, reason).model_copy(update={"wavelengths": errors}), None


def _sizes(layer: FixedPixels) -> Callable[[Grid], int]:
    return lambda grid: layer.size(grid.shape[0])


def _beside(
    claim: Claim,
    subject: Subject,
    layer: FixedPixels,
    second: Beside | None,
    contract: Approximate,
    elements: list[Element],
    exact: tuple[Element, ...],
    result: CheckResult,
    picture: Any,
) -> tuple[CheckResult, Any]:
    """The result of a layer that does not move with its input: the plane decides, or the pixel beside the centre."""
    on_plane = replace(contract, ceiling=None, wavelength=None)
    plane = refine(subject, elements, on_plane, _sizes(layer), by_source=False)
    if plane is not None and plane[0].verdict is Verdict.BROKEN:
        text = (
            f"the layer depends on the place. On smooth inputs over the whole grid: {plane[0].reason.message} At the "
            f"centre alone the error is {by_wavelength(result.wavelengths)}."
        )
        reason = Reason(code=plane[0].reason.code, message=text)
        return plane[0].model_copy(update={"reason": reason}), plane[1]
    if plane is None and second is not None:
        other, judged, _, drawn = _at_spot(layer, second.spot, claim, contract, elements, exact)
        if judged.verdict.severity > result.verdict.severity:
            text = f"the layer depends on the place: two pixels beside the centre, {judged.reason.message}"
            return other.model_copy(update={"reason": Reason(code=judged.reason.code, message=text)}), drawn
    return result, picture


def _place(
    layer: FixedPixels, spots: tuple[Spot, ...], claim: Claim, elements: list[Element], exact: tuple[Element, ...]
) -> Spot:
    """The point under the pixel: of two conventions that a size allows, the one that the layer follows."""
    if len(spots) == 1:
        return spots[0]

    def error(spot: Spot) -> float:
        setting = _setting(layer, spot, claim, SAMPLE_STEPS[0], exact, (LONG, 4 * LONG))
        rows = wave_errors(setting, elements[:1])
        return float(rows[0].right[1].sum())

    return min(spots, key=error)


def _setting(
    layer: FixedPixels,
    spot: Spot,
    claim: Claim,
    samples: int,
    exact: tuple[Element, ...],
    wavelengths: tuple[float, ...],
) -> Setting:
    rng = np.random.default_rng(claim.seed)
    waves = Waves.draw(rng, samples, layer.source.fibre.size, layer.own.dim)
    return Setting(layer, spot, waves, wavelengths, claim.group, exact)


def _at_spot(
    layer: FixedPixels,
    spot: Spot,
    claim: Claim,
    contract: Approximate,
    elements: list[Element],
    exact: tuple[Element, ...],
) -> tuple[CheckResult, Judged, float, Any]:
    """The rule at one pixel: result, verdict, the largest error that rounding explains, and a diagram."""
    wavelengths = wavelengths_of(contract)
    cost = None
    for samples in SAMPLE_STEPS:
        setting = _setting(layer, spot, claim, samples, exact, wavelengths)
        rows = wave_errors(setting, elements)
        channels = _channels(layer, spot)
        delta = defect_of(setting, elements, channels)
        if samples == SAMPLE_STEPS[0]:
            own, single = rounding_at(setting, rows, min(delta, LARGEST_DEFECT))
        judged = _with_rounding(rows, own, single, contract, claim, delta)
        if not judged.open or samples == SAMPLE_STEPS[-1]:
            break
        cost = _cost(layer, spot) * len(wavelengths) * (len(elements) + 1) if cost is None else cost
        if cost * 4 * samples > LARGEST_LOOK:
            break
    control = control_error(setting, elements, channels)
    return _report(claim, rows, judged, control, samples), judged, float(own.max()), _picture(setting, judged, elements)


def _channels(layer: FixedPixels, spot: Spot) -> int:
    y = layer.output(torch.zeros(2, layer.source.fibre.size, *spot.shape, dtype=torch.float64))
    return int(layer.at(y, spot.pixel).shape[-1])


def _cost(layer: FixedPixels, spot: Spot) -> float:
    """Products and sums of one sample."""
    with _Work() as work:
        layer.output(torch.ones(2, layer.source.fibre.size, *spot.shape, dtype=torch.float64), fresh=True)
    return float(work.done) / 2


class _Work(TorchFunctionMode):
    """Counts products: of convolutions and matrix products in full, elsewhere one for each value of a result."""

    def __init__(self) -> None:
        super().__init__()
        self.done = 0.0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        name, each = getattr(func, "__name__", ""), 1
        tensors = [a for a in args if isinstance(a, torch.Tensor)]
        if len(tensors) > 1 and name.startswith("conv"):
            each = tensors[1][0].numel()
        elif len(tensors) > 1 and name == "linear":
            each = tensors[1].shape[-1]
        elif len(tensors) > 1 and name in ("matmul", "mm", "bmm", "__matmul__"):
            each = tensors[0].shape[-1]
        if isinstance(found, torch.Tensor):
            self.done += each * found.numel()
        return found


def _with_rounding(
    rows: list[WaveErrors], own: Any, single: Any, contract: Approximate, claim: Claim, delta: float
) -> Judged:
    """The verdict; a float64 claim that holds only up to what float32 explains is IMPRECISE."""
    if delta > LARGEST_DEFECT:
        text = f"the fibre's matrices violate the group law by {delta:.1e}: correct the fibre before judging the layer."
        return Judged(Verdict.BROKEN, Reason(code=Code.ACTION, message=text))
    judged = judge_waves(rows, own, contract)
    if claim.dtype is not torch.float64 or judged.verdict is Verdict.APPROXIMATE:
        return judged
    in_single = judge_waves(rows, single, contract)
    if in_single.verdict is not Verdict.APPROXIMATE:
        # An error of constant inputs that float32 explains is no fault: what else the waves show decides.
        return in_single if judged.reason.code is Code.LIMIT else judged
    text = (
        f"holds to float32 accuracy only: for constant inputs an error of {in_single.limit:.1g} stays, and float64 "
        f"explains {float(own.max()):.1g}. Some constant or table inside was computed in float32. "
        f"{in_single.reason.message}"
    )
    reason = Reason(code=Code.CONSTANTS_IN_SINGLE, message=text)
    return replace(in_single, verdict=Verdict.IMPRECISE, reason=reason)


def _report(claim: Claim, rows: list[WaveErrors], judged: Judged, control: float, samples: int) -> CheckResult:
    errors = [ElementResult(element=r.element.name, error=r.error(LONG), bound=math.nan) for r in rows]
    seen = max(e.error for e in errors)
    return describe(claim, "off_grid", judged.verdict, judged.reason).model_copy(
        update={
            "samples": samples,
            "element": judged.element.name if judged.element is not None else "",
            "seen": seen,
            "elements": tuple(errors),
            "wavelengths": judged.errors,
            "separation": judged.separation,
            "share": judged.share,
            "order": judged.order if judged.order is not None and math.isfinite(judged.order) else None,
            "gain": control / seen if seen > 0 else math.inf,
        }
    )


def _picture(setting: Setting, judged: Judged, elements: list[Element]) -> Any:
    """The diagram of one wave of 6 px at the worst element, where the output has a grid."""
    layer, claim = setting.layer, setting.layer.subject.claim
    if not layer.on_grid or judged.verdict is Verdict.VACUOUS:
        return None
    g = judged.element or elements[0]
    q = np.array(setting.spot.point)
    one = Waves(setting.waves.directions[:2], setting.waves.values[:2])
    grid = Grid(*setting.spot.shape)
    source = Field(grid, layer.source.group, layer.source.fibre)
    x, gx = (w.sample(grid.shape, q, LONG) for w in (one, one.moved(g, layer.mix_in(g))))
    y, fgx = layer.output(x), layer.output(gx)
    target = Field(Grid(*y.shape[2:]), layer.leaf.group, layer.leaf.fibre)
    return diagram(replace(claim, source=source, target=target), g, x, gx, y, target.act(g, y), fgx)
