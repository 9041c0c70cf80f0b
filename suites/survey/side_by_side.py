"""One comparison: build every timed case in every setting, then time the layers alternately."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

from ...harness.adapters.adapter import Cost, Implementation
from ...harness.adapters.operators import TimedCase
from ...harness.adapters.registry import find
from ...harness.errors import MissingDependencyError
from ...harness.records.lines import Measurement
from ...harness.timing.clock import Clock
from ...harness.timing.roofline import Ceilings
from ...harness.timing.timed_layer import TimedLayer, prepare
from .throughput import Effort, MeasuredLayer, throughput


def side_by_side(
    timed_cases: Sequence[TimedCase],
    *,
    dtype: str,
    settings: Sequence[str],
    clock: Clock,
    ceilings: Ceilings,
    seed: int = 0,
    effort: Effort | None = None,
    left_out: Callable[[str], None] = lambda line: None,
) -> Iterator[Measurement]:
    """Time the timed cases of one operator side by side.

    Args:
        timed_cases: implementations with their cases.
        dtype: a torch dtype, or "tf32".
        settings: "eager", "channels_last", "compiled".
        clock: clock of the device.
        ceilings: limits of this machine in this dtype.
        seed: seed of weights and inputs.
        effort: what to measure, and for how long.
        left_out: called with a line about each timed case that cannot be built or run.

    Yields:
        Measurements of all timed cases that run.
    """
    layers: dict[str, MeasuredLayer] = {}
    for timed_case in timed_cases:
        for setting in settings:
            label = f"{timed_case.implementation} | {timed_case.case.name} | {setting} | {dtype}"
            try:
                layers[label] = _measured_layer(timed_case, setting, dtype, str(clock.device), seed)
            except MissingDependencyError as error:
                left_out(f"{label}: {error}")
            except Exception as error:  # a library may refuse a dtype or a setting in any way
                left_out(f"{label}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
    if layers:
        yield from throughput(layers, clock=clock, ceilings=ceilings, effort=effort)


def _measured_layer(timed_case: TimedCase, setting: str, dtype: str, device: str, seed: int) -> MeasuredLayer:
    adapter = find(timed_case.implementation)
    adapter.require()
    working = "float32" if dtype == "tf32" else dtype
    timed_layer: TimedLayer = prepare(
        lambda: adapter.build(timed_case.case, device=device, dtype=working, seed=seed),
        batch=timed_case.batch,
        setting=setting,
        allow_tf32=dtype == "tf32",
    )
    template = Measurement(
        implementation=timed_case.implementation,
        case=timed_case.case.name,
        quantity="",
        value=0.0,
        unit="",
        better="lower",
        operator=timed_case.operator,
        dtype=dtype,
        device=device,
        batch=timed_case.batch,
        threads=torch.get_num_threads(),
        setting=setting,
    )
    return MeasuredLayer(timed_layer, template, _cost(adapter, timed_case, working))


def _cost(adapter: Implementation, timed_case: TimedCase, dtype: str) -> Cost | None:
    """The adapter's cost, which is given for float32, in the size of this dtype; None if the adapter gives no cost."""
    try:
        cost = adapter.cost(timed_case.case)
    except NotImplementedError:
        return None
    share = torch.finfo(getattr(torch, dtype)).bits / 32
    return Cost(
        cost.flops,
        share * cost.bytes,
        cost.backward_flops,
        share * cost.backward_bytes,
        cost.call_flops,
        share * cost.call_bytes,
    )
