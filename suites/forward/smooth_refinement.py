"""Smooth inputs on finer and finer grids: for layers that no single pixel can judge.

Such a layer sees the border of the grid from everywhere (a global pool, attention), or depends on the place (a mask, a
coordinate). Its inputs are smooth, vanish near the border and are fixed in physical units, so that finer grids sample
one function and the moved input is sampled exactly; only a moved output on a grid is interpolated. The claim is
APPROXIMATE if the interval of the extrapolated limit contains zero, and BROKEN(LIMIT) if it does not.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...harness.claim.claim import Approximate, Claim, refit
from ...harness.claim.diagram import diagram
from ...harness.claim.evaluation import Subject
from ...harness.fields.domains import Grid
from ...harness.fields.field import Field, replace_domain
from ...harness.symmetry.groups import Element
from ...harness.trees import leaves, tree_map
from ...harness.verdict.result import CheckResult, Code, Reason, Verdict
from ..controls import SAME_ACTION
from ..waves.smooth_inputs import SmoothInput, grids
from ..waves.wave_rule import SAME
from .convergence import SAMPLES, STUDENT, ResolutionErrors, Rounding, conclude, rounding_of

CONTROL_SAMPLES = 4
#: Errors are compared inside this disk (half the box is 1): outside, a rotated box and its padding legitimately differ.
DISK = 0.8


def refine(
    subject: Subject, elements: list[Element], contract: Approximate, output: Any, *, by_source: bool
) -> tuple[CheckResult, Any] | None:
    """The verdict on smooth inputs over grids, and a diagram; None if the layer refuses the grids.

    Args:
        subject: the layer.
        elements: elements off the grid.
        contract: its factors are those of the grids; it has no ceiling.
        output: points on an axis of the output for an input on a grid; 0 if the layer refuses that grid.
        by_source: whether a limit of zero must be told from that of a wrong source action: where it cannot be, the
            verdict is AMBIGUOUS(BORDER).
    """
    source: Field = subject.claim.source
    inputs = SmoothInput.draw(np.random.default_rng(subject.claim.seed), SAMPLES, source.fibre.size, source.group.dim)
    table, picture = [], None
    chosen = grids(_domain(source), contract, output)
    if any(output(grid) == 0 for grid in chosen):
        return None
    with subject.guarded():
        for grid in chosen:
            row, picture = measure_at(subject, replace_domain(source, grid), inputs, elements)
            table.append(row)
    finest = replace_domain(source, chosen[-1])
    x = inputs.sample(chosen[-1].shape).to(subject.claim.device).reshape(finest.tensor_shape(SAMPLES))
    rounding = _rounding(subject, x)
    result = conclude(subject.claim, "off_grid", table, elements, contract, rounding)
    if by_source and result.verdict is Verdict.APPROXIMATE:
        result = _told_from_wrong(subject, finest, inputs, elements, table[-1], rounding, result)
    return result, picture


def _told_from_wrong(
    subject: Subject,
    source: Field,
    inputs: SmoothInput,
    elements: list[Element],
    row: ResolutionErrors,
    rounding: Rounding,
    result: CheckResult,
) -> CheckResult:
    """The result, if the nearest wrong source action leaves a larger error; where fibres do not move, other inputs."""
    wrong = np.stack([_wrong(subject, source, inputs, g, rounding) for g in elements])
    logs = np.log(np.maximum(wrong, 1e-300) / np.maximum(row.errors, 1e-300))
    middle = logs.mean(1)
    high = middle + STUDENT * logs.std(1, ddof=1) / np.sqrt(logs.shape[1])
    worst = int(middle.argmin())
    apart = math.inf if not row.errors.any() else float(np.exp(min(middle[worst], 700.0)))
    update: dict[str, Any] = {"separation": apart}
    if wrong.mean(1).min() == 0 or rounding.surely_explains(float(wrong.mean(1).min())):
        text = (
            "the layer sees the border of its grid from everywhere, so that only smooth inputs that vanish there can "
            "judge it, and for them no wrong action can be told from the claimed one."
        )
        update |= {"verdict": Verdict.AMBIGUOUS, "reason": Reason(code=Code.BORDER, message=text)}
    elif high[worst] < np.log(SAME):
        text = (
            f"another action fits the layer as well: the nearest wrong one leaves {update['separation']:.2g} times the "
            "error of the claimed one, for smooth inputs on the finest grid."
        )
        update |= {"verdict": Verdict.BROKEN, "reason": Reason(code=Code.ACTION, message=text)}
    return result.model_copy(update=update)


def _wrong(subject: Subject, source: Field, inputs: SmoothInput, g: Element, rounding: Rounding) -> NDArray[np.float64]:
    """The errors [sample] if the input's fibre is moved by the nearest other element.

    Where no fibre moves, or the layer does not mind, as an invariant of the mean, the inputs are exchanged.
    """
    shape, layout = _domain(source).shape, source.tensor_shape(SAMPLES)
    device = subject.claim.device
    y = subject.working(inputs.sample(shape).to(device).reshape(layout))
    target = tree_map(refit, subject.claim.target, y)
    [(_, leaf)] = leaves(target)
    [(_, plain)] = leaves(y)
    right = inputs.moved(source, g)
    group = source.group
    others = (
        [k for k in group if k.index != g.index]
        if group.order is not None
        else [group.identity, group.inverse(g), *group.generators]
    )
    fibres = [inputs.moved(source, k).values for k in others]
    far = [float(np.abs(values - right.values).max()) for values in fibres]
    candidates = [(d, i) for i, d in enumerate(far) if d > SAME_ACTION * float(np.abs(right.values).max())]
    if candidates:
        moved = replace(right, values=fibres[min(candidates)[1]]).sample(shape).to(device).reshape(layout)
        [(_, u)] = leaves(subject.working(moved))
        errors = _relative(leaf, u, leaf.act(g, plain), plain)
        if not rounding.surely_explains(float(errors.mean())):
            return errors
    return _relative(leaf, plain.roll(1, 0), plain, plain)


def _rounding(subject: Subject, x: torch.Tensor) -> Rounding:
    """The rounding at the finest grid, in the norm of the errors there."""

    def apart(a: Any, b: Any) -> float:
        target = tree_map(refit, subject.claim.target, b)
        return float(_relative(target, a, b, b).max())

    return rounding_of(subject, x, apart)


def _domain(field: Field) -> Grid:
    assert isinstance(field.domain, Grid)
    return field.domain


def measure_at(
    subject: Subject, source: Field, inputs: SmoothInput, elements: list[Element]
) -> tuple[ResolutionErrors, Any]:
    """Measure the errors of all elements at one resolution."""
    claim = subject.claim
    shape = _domain(source).shape
    layout = source.tensor_shape(SAMPLES)
    x = inputs.sample(shape).to(claim.device).reshape(layout)
    y = subject.working(x)
    target = tree_map(refit, claim.target, y)
    control = _unconstrained(claim, x, y, shape)
    g = elements[0]  # one element and few samples suffice: an unconstrained layer is equally wrong everywhere
    few = inputs.moved(source, g).sample(shape).to(claim.device).reshape(layout)[:CONTROL_SAMPLES]
    control_y = control(x[:CONTROL_SAMPLES])
    [(_, leaf)] = leaves(target)
    unconstrained = float(_relative(leaf, control(few), leaf.act(g, control_y), control_y).max())
    errors, floors, picture = [], [], None
    for g in elements:
        moved = inputs.moved(source, g).sample(shape).to(claim.device).reshape(layout)
        fgx, gfx = subject.working(moved), tree_map(lambda leaf, v, g=g: leaf.act(g, v), target, y)
        errors.append(_relative(leaf, fgx, gfx, y))
        rotated = source.act(g, x[:CONTROL_SAMPLES])  # few samples suffice for the error of interpolation
        floors.append(float(_relative(source, moved[:CONTROL_SAMPLES], rotated, x[:CONTROL_SAMPLES]).max()))
        picture = picture or diagram(replace(claim, source=source, target=target), g, x, moved, y, gfx, fgx)
    points = leaf.domain.shape[0] if isinstance(leaf, Field) and isinstance(leaf.domain, Grid) else 1
    return ResolutionErrors(shape[0], np.stack(errors), max(floors), unconstrained, points), picture


def _relative(leaf: Any, a: torch.Tensor, b: torch.Tensor, y: torch.Tensor) -> NDArray[np.float64]:
    """The error [sample] of the worst fibre summand inside the disk, relative to the deviation of y from its mean.

    The error of a very small summand is relative to a thousandth of the largest summand: smooth inputs give almost no
    response in high-frequency filters, and the relative error of that response has no meaning.
    """
    mask = _disk(leaf, y)
    rows = leaf.summands((a - b) * mask).norm(dim=-1)
    deviation = leaf.summands((y - y.mean(0, keepdim=True)) * mask).norm(dim=-1)
    size = torch.maximum(deviation, 1e-3 * deviation.square().mean(0, keepdim=True).sqrt())
    size = torch.maximum(size, 1e-3 * size.amax(1, keepdim=True))
    relative = torch.where(rows == 0, torch.zeros_like(rows), rows / size).amax(1)
    found: NDArray[np.float64] = relative.cpu().numpy()
    return found


def _disk(leaf: Any, y: torch.Tensor) -> torch.Tensor:
    if not isinstance(leaf, Field) or not isinstance(leaf.domain, Grid):
        return torch.ones((), dtype=y.dtype, device=y.device)
    shape = y.shape[-leaf.domain.dim :]
    axes = [(torch.arange(n, dtype=torch.float64) - (n - 1) / 2) / ((n - 1) / 2) for n in shape]
    radius = torch.stack(torch.meshgrid(*axes, indexing="ij")).norm(dim=0)
    mask: torch.Tensor = (radius <= DISK).to(y)
    return mask


def _unconstrained(claim: Claim, x: torch.Tensor, y: torch.Tensor, shape: tuple[int, ...]) -> Any:
    """A layer without symmetry: a random convolution from the source's to the target's channels and size."""
    [(_, target)] = leaves(claim.target)
    dim = len(shape)
    generator = torch.Generator().manual_seed(claim.seed)
    channels = target.fibre.size if isinstance(target, Field) else y[0].numel()
    weight = torch.randn(channels, claim.source.fibre.size, *([5] * dim), generator=generator, dtype=torch.float64).to(
        x.device
    )
    convolve = torch.nn.functional.conv2d if dim == 2 else torch.nn.functional.conv3d

    def control(v: torch.Tensor) -> torch.Tensor:
        z = convolve(v.reshape(len(v), -1, *shape), weight, padding=2)
        if isinstance(target, Field) and isinstance(target.domain, Grid):
            size = tuple(y.shape[-dim:])
            mode = "bilinear" if dim == 2 else "trilinear"
            z = (
                z
                if z.shape[-dim:] == size
                else torch.nn.functional.interpolate(z, size=size, mode=mode, align_corners=True)
            )
            return z.reshape(len(z), *y.shape[1:])
        return (z * _position(shape).to(z)).flatten(2).mean(-1).reshape(len(z), *y.shape[1:])

    return control


def _position(shape: tuple[int, ...]) -> torch.Tensor:
    """A ramp, so that a pooled control depends on the position of its input."""
    return torch.linspace(0, 1, shape[-1], dtype=torch.float64).expand(shape)
