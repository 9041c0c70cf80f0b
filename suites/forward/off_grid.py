"""Equivariance off the grid: elements that need interpolation, judged in the limit of fine grids.

Inputs are smooth and fixed in physical units, so that finer grids sample one function and the moved input is sampled
exactly; only the moved output is interpolated. The claim is APPROXIMATE if the interval of the extrapolated limit
contains zero. A single resolution proves nothing unless the claim declares a ceiling. A grid that is too coarse for the
inputs gives no evidence, so the refinement begins with a grid that resolves the inputs.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...harness.claim.claim import Approximate, Claim, Exact, refit
from ...harness.claim.diagram import diagram
from ...harness.claim.evaluation import Subject
from ...harness.claim.outcome import Outcome, describe
from ...harness.fields.domains import Grid
from ...harness.fields.field import Field, replace_domain
from ...harness.symmetry.groups import Element
from ...harness.trees import leaves, tree_map
from ...harness.verdict.result import Code, Reason, Verdict
from .convergence import ELEMENTS, SAMPLES, ResolutionErrors, Rounding, conclude, rounding_of
from .refinement import refinement
from .smooth_inputs import SmoothInput, grids

CONTROL_SAMPLES = 4
#: Errors are compared inside this disk (half the box is 1): outside, a rotated box and its padding legitimately differ.
DISK = 0.8


def off_grid(claim: Claim) -> Outcome:
    """f(a_g x) against b_g f(x) for elements off the grid, over the resolutions of the claim's contract.

    A claim with resolutions of its own (``refined``) is judged over those resolutions.

    Args:
        claim: source and target are single fields on square or cubic grids (the target may have lost its domain).

    Returns:
        APPROXIMATE with the fitted order, the interval of the limit and the gain over an unconstrained layer; BROKEN
        if the limit is not zero; AMBIGUOUS for a single resolution; SKIPPED if there are no such elements, or if the
        output has the same grid at every resolution.
    """
    if claim.refined is not None:
        return refinement(claim)
    start = time.perf_counter()
    skipped = _not_applicable(claim)
    if skipped:
        return Outcome(describe(claim, "off_grid", Verdict.SKIPPED, Reason(code=Code.NOT_OFF_GRID, message=skipped)))
    contract = claim.contract
    assert isinstance(contract, Approximate)
    rng = np.random.default_rng(claim.seed)
    elements = _elements(claim, rng)
    subject = Subject(claim)
    source: Field = claim.source
    inputs = SmoothInput.draw(rng, SAMPLES, source.fibre.size, source.group.dim)
    table, picture = [], None
    with subject.guarded():
        for grid in grids(_domain(source), contract, lambda grid: _output_size(subject, grid)):
            finest = replace_domain(source, grid)
            row, picture = measure_at(subject, finest, inputs, elements)
            table.append(row)
    if len(table) > 1 and table[0].output == table[-1].output > 1:
        text = f"the output has {table[0].output} points a side at every resolution of the input: there is no limit."
        return Outcome(describe(claim, "off_grid", Verdict.SKIPPED, Reason(code=Code.FIXED_OUTPUT, message=text)))
    x = inputs.sample(_domain(finest).shape).to(claim.device).reshape(finest.tensor_shape(SAMPLES))
    rounding = _rounding(subject, x)
    result = conclude(claim, "off_grid", table, elements, contract, rounding)
    seconds = {"seconds": time.perf_counter() - start, "seconds_in_layer": subject.seconds}
    return Outcome(result.model_copy(update=seconds), picture)


def _output_size(subject: Subject, grid: Grid) -> int:
    """Points on an axis of the output for an input on this grid; 0 if the layer refuses the grid, say as misaligned.

    If the target has no grid, the points of the input are returned.
    """
    [(_, leaf)] = leaves(subject.claim.target)
    if not isinstance(leaf, Field) or not isinstance(leaf.domain, Grid):
        return grid.shape[0]
    shape = replace_domain(subject.claim.source, grid).tensor_shape(2)
    try:
        [(_, y)] = leaves(subject.working(torch.zeros(shape, dtype=torch.float64, device=subject.claim.device)))
    except Exception:  # any error of the library; if the layer refuses every grid, the run itself raises
        return 0
    return int(y.shape[-1])


def _rounding(subject: Subject, x: torch.Tensor) -> Rounding:
    """The rounding at the finest grid, in the norm of the errors there."""

    def apart(a: Any, b: Any) -> float:
        target = tree_map(refit, subject.claim.target, b)
        return float(_relative(target, a, b, b).max())

    return rounding_of(subject, x, apart)


def _not_applicable(claim: Claim) -> str:
    if isinstance(claim.contract, Exact):
        return "the claim is only about elements that need no interpolation."
    if not isinstance(claim.source, Field) or not isinstance(claim.source.domain, Grid):
        return "the source is not a single field on a grid."
    if claim.inputs is not None:
        return "inputs are given, and refining the grid needs inputs of every size."
    if not isinstance(claim.target, Field) and len(list(leaves(claim.target))) != 1:
        return "the target is a tree."
    if len(set(claim.source.domain.shape)) > 1:
        return "the grid is not square or cubic."
    if claim.group.order is not None and all(g.is_signed_permutation for g in claim.group):
        return f"every element of {claim.group.name} maps the grid onto itself."
    return ""


def _domain(field: Field) -> Grid:
    assert isinstance(field.domain, Grid)
    return field.domain


def _elements(claim: Claim, rng: np.random.Generator) -> list[Element]:
    if claim.group.order is None:
        return claim.group.sample(rng, ELEMENTS)
    off = [g for g in claim.group if not g.is_signed_permutation]
    return off[:: max(1, len(off) // ELEMENTS)][:ELEMENTS]


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
