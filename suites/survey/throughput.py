"""Throughput: what a layer costs, beside how well it holds.

Forward in evaluation mode, forward and backward in training mode, hot and cold, interleaved over implementations of one
operator; one-off costs apart; peak memory; the share of the hardware's floor. Beside every time stand the error against
float64 and the equivariance error in the working precision, since speed is compared at equal accuracy only.
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
from ...harness.timing.timed_layer import Contender
from ...harness.trees import Tree, leaves, tree_map
from ..forward.equivariance import HAAR_SAMPLES
from ..rounding import SAMPLES, largest, values_of

#: Elements at which the equivariance error in the working precision is taken: it is rounding, alike at all of them.
ELEMENTS = 8


@dataclass(frozen=True)
class Effort:
    """How long and what is measured.

    Args:
        seconds: for each figure of each contender.
        cold: whether cold figures are taken beside the hot ones.
        backward: whether training is timed.
        errors: whether accuracy is measured.
    """

    seconds: float = 1.0
    cold: bool = True
    backward: bool = True
    errors: bool = True


@dataclass(frozen=True)
class Figure:
    """One timed quantity: its name, the mode of the modules, how its call is made."""

    quantity: str
    training: bool
    call: Callable[[Contender], Callable[[], object]]
    cold: bool = False


def figures(effort: Effort) -> list[Figure]:
    """What is timed, in this order."""
    hot = [Figure("forward", False, Contender.forward)]
    if effort.backward:
        hot += [
            Figure("forward training", True, Contender.forward_training),
            Figure("backward", True, Contender.backward),
        ]
    chilled = [f for f in hot if f.quantity != "forward training"] if effort.cold else []
    return [*hot, *(Figure(f"{f.quantity} cold", f.training, f.call, cold=True) for f in chilled)]


@dataclass
class Entry:
    """One contender of a comparison: what its measurements have in common, its work, its timings as they come."""

    contender: Contender
    template: Measurement
    cost: Cost | None = None
    taken: dict[str, Timing] = field(default_factory=dict)

    def measured(
        self, quantity: str, value: float, unit: str, *, samples: tuple[float, ...] = (), note: str = ""
    ) -> Measurement:
        """One measurement; lower is better but of rates and shares."""
        better = "higher" if unit == "1/s" or quantity.startswith("share of floor") else "lower"
        changes = {"quantity": quantity, "value": value, "unit": unit, "better": better, "note": note}
        backend = self.contender.backend()  # of the call just timed
        return self.template.model_copy(update={**changes, "samples": samples, "backend": backend})


def throughput(
    entries: Mapping[str, Entry], *, clock: Clock, ceilings: Ceilings, effort: Effort | None = None
) -> Iterator[Measurement]:
    """Everything about contenders for one operator, their calls interleaved.

    Args:
        entries: by any name.
        clock: of the device.
        ceilings: of this machine in the contenders' precision, taken in the same run.
        effort: how much.

    Yields:
        Measurements: times in seconds of one call with their raw samples, memory in bytes, errors without a unit.
    """
    effort = effort or Effort()
    for entry in entries.values():
        yield entry.measured("build", entry.contender.build_seconds, "s", note="once")
        yield entry.measured("first call", entry.contender.first_seconds, "s", note="once")
    for figure in figures(effort):
        for name, timing in timed(figure, entries, clock, effort.seconds).items():
            entries[name].taken[figure.quantity] = timing
            yield entries[name].measured(
                figure.quantity, timing.median, "s", samples=timing.seconds, note=timing.warning
            )
    for entry in entries.values():
        forward, batch = entry.taken["forward"], entry.template.batch
        rates = tuple(batch / s for s in forward.seconds)
        yield entry.measured("samples per second", batch / forward.median, "1/s", samples=rates)
        yield from floors(entry, ceilings)
        yield from memory(entry)
        if effort.errors:
            yield from errors(entry)


def timed(figure: Figure, entries: Mapping[str, Entry], clock: Clock, seconds: float) -> dict[str, Timing]:
    """One quantity of all contenders that have it."""
    with ExitStack() as modes:
        calls = {}
        for name, entry in entries.items():
            if figure.call is Contender.backward and not entry.contender.differentiable:
                continue
            modes.enter_context(entry.contender.mode(training=figure.training))
            calls[name] = figure.call(entry.contender)
        return clock.interleaved(calls, cold=figure.cold, seconds=seconds) if calls else {}


def floors(entry: Entry, ceilings: Ceilings) -> Iterator[Measurement]:
    """The time that the work takes at least on this machine, and which share of the measured time that is."""
    if entry.cost is None:
        return
    work = cost_of_batch(entry.cost, entry.template.batch)
    for quantity, flops, moved in (
        ("forward", work.flops, work.bytes),
        ("backward", work.backward_flops - work.flops, work.backward_bytes - work.bytes),
    ):
        if quantity in entry.taken:
            floor = ceilings.floor(flops, moved)
            yield entry.measured(f"floor of {quantity}", floor, "s")
            yield entry.measured(f"share of floor, {quantity}", floor / entry.taken[quantity].median, "")
            if moved > 0:
                yield entry.measured(f"intensity of {quantity}", flops / moved, "flop/B")


def memory(entry: Entry) -> Iterator[Measurement]:
    """Peak memory of inference and of a step of training."""
    contender, device = entry.contender, entry.contender.claim.device
    with contender.mode(training=False):
        yield entry.measured("memory", float(peak_bytes(contender.forward(), device)), "B")
    if "backward" in entry.taken:
        with contender.mode(training=True):
            yield entry.measured("training memory", float(peak_bytes(contender.step(), device)), "B")


def errors(entry: Entry) -> Iterator[Measurement]:
    """P = ||f_p(x) - f_*(x)|| / D and E_p = ||f_p(round a_g x) - b_g f_p(x)|| / D, as in the verification."""
    contender, claim = entry.contender, entry.contender.claim
    x = claim.draw(SAMPLES)
    with contender.mode(training=False):
        exact = Subject(claim).reference(x)
        y = _run(contender, x)
        scales = {
            path: Scale.of(leaf, v) for (path, leaf), v in zip(leaves(claim.target), values_of(exact), strict=True)
        }

        def apart(a: Tree, b: Tree) -> float:
            pairs = zip(scales.values(), values_of(a), values_of(b), strict=True)
            return max(largest(scale.relative(u - v)) for scale, u, v in pairs)

        yield entry.measured("error against float64", apart(y, exact), "")
        drawn = claim.group.representatives(np.random.default_rng(claim.seed), HAAR_SAMPLES)
        elements = [g for g in drawn if claim.exact(g) and not g.is_identity][:ELEMENTS]
        moved = [apart(_run(contender, claim.act(claim.source, g, x)), claim.act(claim.target, g, y)) for g in elements]
        if moved:
            yield entry.measured("equivariance error", max(moved), "")


def _run(contender: Contender, x: Tree) -> Tree:
    """What the timed function makes of float64 values, on the band where the target has one."""
    rounded = tree_map(lambda v: v.to(contender.claim.dtype) if v.is_floating_point() else v, x)
    with torch.no_grad():
        y = contender.function(rounded)
    return tree_map(
        lambda leaf, v: leaf.project(v.double()) if isinstance(leaf, Field) else v.double(), contender.claim.target, y
    )
