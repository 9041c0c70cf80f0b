"""Throughput: the cost of a layer, together with its accuracy.

Measured are the forward pass in evaluation mode and the forward and backward passes in training mode, hot and cold,
interleaved over implementations of one operator; one-off costs; peak memory; and the share of the hardware's floor.
Each layer also has its error against float64 and its equivariance error in the working precision, because speed is
comparable only at equal accuracy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np
import torch

from ...harness.adapters.adapter import Cost
from ...harness.claim.evaluation import Subject
from ...harness.claim.scale import Scale
from ...harness.fields.field import Field
from ...harness.records.lines import Measurement
from ...harness.timing.clock import Clock, Timing
from ...harness.timing.memory import peak_bytes
from ...harness.timing.roofline import Ceilings, cost_of_batch
from ...harness.timing.timed_layer import TimedLayer
from ...harness.trees import Tree, leaves, tree_map
from ..forward.equivariance import HAAR_SAMPLES
from ..rounding import largest, values_of

#: Elements for the equivariance error in the working precision; this error is rounding, similar at all elements.
ELEMENTS = 8


@dataclass(frozen=True)
class Effort:
    """What to measure, and for how long.

    Args:
        seconds: seconds for each figure of each timed layer.
        cold: whether to measure cold figures in addition to hot ones.
        backward: whether to time training.
        errors: whether to measure accuracy.
    """

    seconds: float = 1.0
    cold: bool = True
    backward: bool = True
    errors: bool = True


@dataclass(frozen=True)
class Figure:
    """One timed quantity: its name, the mode of the modules, and the function that makes its call."""

    quantity: str
    training: bool
    call: Callable[[TimedLayer], Callable[[], object]]
    cold: bool = False


def figures(effort: Effort) -> list[Figure]:
    """The timed quantities, in the order of the measurements."""
    hot = [Figure("forward", False, TimedLayer.forward)]
    if effort.backward:
        hot += [
            Figure("forward training", True, TimedLayer.forward_training),
            Figure("backward", True, TimedLayer.backward),
        ]
    chilled = [f for f in hot if f.quantity != "forward training"] if effort.cold else []
    return [*hot, *(Figure(f"{f.quantity} cold", f.training, f.call, cold=True) for f in chilled)]


@dataclass
class MeasuredLayer:
    """One timed layer of a comparison: the template of its measurements, its work, and its timings so far."""

    timed_layer: TimedLayer
    template: Measurement
    cost: Cost | None = None
    taken: dict[str, Timing] = field(default_factory=dict)

    def measured(
        self, quantity: str, value: float, unit: str, *, samples: tuple[float, ...] = (), note: str = ""
    ) -> Measurement:
        """One measurement; lower is better, except for rates and shares."""
        better = "higher" if unit == "1/s" or quantity.startswith("share of floor") else "lower"
        changes = {"quantity": quantity, "value": value, "unit": unit, "better": better, "note": note}
        backend = self.timed_layer.backend()  # the backend of the last timed call
        return self.template.model_copy(update={**changes, "samples": samples, "backend": backend})


def throughput(
    layers: Mapping[str, MeasuredLayer], *, clock: Clock, ceilings: Ceilings, effort: Effort | None = None
) -> Iterator[Measurement]:
    """Measure the timed layers of one operator, with interleaved calls.

    Args:
        layers: timed layers by any name.
        clock: clock of the device.
        ceilings: limits of this machine in the timed layers' precision, measured in the same run.
        effort: what to measure, and for how long.

    Yields:
        Measurements: times in seconds of one call with their raw samples, memory in bytes, errors without a unit.
    """
    effort = effort or Effort()
    for layer in layers.values():
        yield layer.measured("build", layer.timed_layer.build_seconds, "s", note="once")
        yield layer.measured("first call", layer.timed_layer.first_seconds, "s", note="once")
    for figure in figures(effort):
        for name, timing in timed(figure, layers, clock, effort.seconds).items():
            layers[name].taken[figure.quantity] = timing
            yield layers[name].measured(
                figure.quantity, timing.median, "s", samples=timing.seconds, note=timing.warning
            )
    for layer in layers.values():
        forward, batch = layer.taken["forward"], layer.template.batch
        rates = tuple(batch / s for s in forward.seconds)
        yield layer.measured("samples per second", batch / forward.median, "1/s", samples=rates)
        yield from floors(layer, ceilings)
        yield from memory(layer)
        if effort.errors:
            yield from errors(layer)


def timed(figure: Figure, layers: Mapping[str, MeasuredLayer], clock: Clock, seconds: float) -> dict[str, Timing]:
    """Time one quantity of all timed layers that have it."""
    with ExitStack() as modes:
        calls = {}
        for name, layer in layers.items():
            if figure.call is TimedLayer.backward and not layer.timed_layer.differentiable:
                continue
            modes.enter_context(layer.timed_layer.mode(training=figure.training))
            calls[name] = figure.call(layer.timed_layer)
        return clock.interleaved(calls, cold=figure.cold, seconds=seconds) if calls else {}


def floors(layer: MeasuredLayer, ceilings: Ceilings) -> Iterator[Measurement]:
    """The least time that the work needs on this machine, and the share floor / measured time."""
    if layer.cost is None:
        return
    work = cost_of_batch(layer.cost, layer.template.batch)
    for quantity, flops, moved in (
        ("forward", work.flops, work.bytes),
        ("backward", work.backward_flops - work.flops, work.backward_bytes - work.bytes),
    ):
        if quantity in layer.taken:
            floor = ceilings.floor(flops, moved)
            yield layer.measured(f"floor of {quantity}", floor, "s")
            yield layer.measured(f"share of floor, {quantity}", floor / layer.taken[quantity].median, "")
            if moved > 0:
                yield layer.measured(f"intensity of {quantity}", flops / moved, "flop/B")


def memory(layer: MeasuredLayer) -> Iterator[Measurement]:
    """Peak memory of inference and of one training step."""
    timed_layer, device = layer.timed_layer, layer.timed_layer.claim.device
    with timed_layer.mode(training=False):
        yield layer.measured("memory", float(peak_bytes(timed_layer.forward(), device)), "B")
    if "backward" in layer.taken:
        with timed_layer.mode(training=True):
            yield layer.measured("training memory", float(peak_bytes(timed_layer.step(), device)), "B")


def errors(layer: MeasuredLayer) -> Iterator[Measurement]:
    """P = ||f_p(x) - f_*(x)|| / D and E_p = ||f_p(round a_g x) - b_g f_p(x)|| / D, as in the verification."""
    timed_layer, claim = layer.timed_layer, layer.timed_layer.claim
    x = claim.draw(claim.samples)
    with timed_layer.mode(training=False):
        exact = Subject(claim).reference(x)
        y = _run(timed_layer, x)
        scales = {
            path: Scale.of(leaf, v) for (path, leaf), v in zip(leaves(claim.target), values_of(exact), strict=True)
        }

        def apart(a: Tree, b: Tree) -> float:
            pairs = zip(scales.values(), values_of(a), values_of(b), strict=True)
            return max(largest(scale.relative(u - v)) for scale, u, v in pairs)

        yield layer.measured("error against float64", apart(y, exact), "")
        drawn = claim.group.representatives(np.random.default_rng(claim.seed), HAAR_SAMPLES)
        elements = [g for g in drawn if claim.exact(g) and not g.is_identity][:ELEMENTS]
        moved = [
            apart(_run(timed_layer, claim.act(claim.source, g, x)), claim.act(claim.target, g, y)) for g in elements
        ]
        if moved:
            yield layer.measured("equivariance error", max(moved), "")


def _run(timed_layer: TimedLayer, x: Tree) -> Tree:
    """Outputs of the timed function for float64 values, projected on the band if the target has one."""
    rounded = tree_map(lambda v: v.to(timed_layer.claim.dtype) if v.is_floating_point() else v, x)
    with torch.no_grad():
        y = timed_layer.function(rounded)
    return tree_map(
        lambda leaf, v: leaf.project(v.double()) if isinstance(leaf, Field) else v.double(), timed_layer.claim.target, y
    )
