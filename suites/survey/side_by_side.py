"""One comparison from its plain description: build every entrant in every setting, then time them in turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

from ...harness.adapters.adapter import Cost, Implementation
from ...harness.adapters.operators import Entrant
from ...harness.adapters.registry import find
from ...harness.errors import MissingDependencyError
from ...harness.records.lines import Measurement
from ...harness.timing.clock import Clock
from ...harness.timing.roofline import Ceilings
from ...harness.timing.timed_layer import Contender, prepare
from .throughput import Effort, Entry, throughput


def contest(
    entrants: Sequence[Entrant],
    *,
    dtype: str,
    settings: Sequence[str],
    clock: Clock,
    ceilings: Ceilings,
    seed: int = 0,
    effort: Effort | None = None,
    left_out: Callable[[str], None] = lambda line: None,
) -> Iterator[Measurement]:
    """Time the entrants of one operator side by side.

    Args:
        entrants: implementations with their cases.
        dtype: a torch dtype, or "tf32".
        settings: "eager", "channels_last", "compiled".
        clock: of the device.
        ceilings: of this machine in this dtype.
        seed: of weights and inputs.
        effort: what is measured and how long.
        left_out: told about each entrant that could not be built or run, and why.

    Yields:
        Measurements of all that could run.
    """
    entries: dict[str, Entry] = {}
    for entrant in entrants:
        for setting in settings:
            label = f"{entrant.implementation} | {entrant.case.name} | {setting} | {dtype}"
            try:
                entries[label] = _entry(entrant, setting, dtype, str(clock.device), seed)
            except MissingDependencyError as error:
                left_out(f"{label}: {error}")
            except Exception as error:  # a library may refuse a dtype or a setting in any way
                left_out(f"{label}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
    if entries:
        yield from throughput(entries, clock=clock, ceilings=ceilings, effort=effort)


def _entry(entrant: Entrant, setting: str, dtype: str, device: str, seed: int) -> Entry:
    adapter = find(entrant.implementation)
    adapter.require()
    working = "float32" if dtype == "tf32" else dtype
    contender: Contender = prepare(
        lambda: adapter.build(entrant.case, device=device, dtype=working, seed=seed),
        batch=entrant.batch,
        setting=setting,
        allow_tf32=dtype == "tf32",
    )
    template = Measurement(
        implementation=entrant.implementation,
        case=entrant.case.name,
        quantity="",
        value=0.0,
        unit="",
        better="lower",
        operator=entrant.operator,
        dtype=dtype,
        device=device,
        batch=entrant.batch,
        threads=torch.get_num_threads(),
        setting=setting,
    )
    return Entry(contender, template, _cost(adapter, entrant, working))


def _cost(adapter: Implementation, entrant: Entrant, dtype: str) -> Cost | None:
    """The adapter's account, which is in float32, at the size of this dtype; None where it gives none."""
    try:
        cost = adapter.cost(entrant.case)
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
