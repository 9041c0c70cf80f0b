"""Time, memory, build time and equivariance error of every installed implementation.

All figures of one revision are taken in one process by ``setup_cache``, those of one operator in turns; the benchmarks
read them. asv holds lower for better, so times are tracked and rates are not; errors are tracked in units of eps, which
are positive. A figure that could not be taken raises: asv stores null, and ``benchmarks/guard.py`` counts those. Where
a library's compiled part does not load here, the layer is left out by name, and asv stores NaN. Nothing here touches a
device or loads an array library when it is imported.
"""

import json
import os
from pathlib import Path

from equiharness.harness.adapters.operators import every_installed

#: float32; its unit of rounding.
EPS = 2.0**-23
#: Seconds for each figure; EQUIHARNESS_SECONDS changes it.
SECONDS = 0.3

#: In the place of figures: the reason why there are none.
ABSENT = "absent"

COMPARISONS = every_installed(os.environ.get("EQUIHARNESS_IMPLEMENTATIONS", "*"))


def label(operator, implementation):
    """The name of one timed layer on the dashboard."""
    return implementation if operator == implementation else f"{operator}: {implementation}"


def measure():
    """Figures by timed layer and quantity; the record of the run where EQUIHARNESS_RECORD says."""
    import torch
    from equiharness.harness.timing.clock import Clock
    from equiharness.harness.timing.roofline import measure_ceilings
    from equiharness.suites.survey.side_by_side import side_by_side
    from equiharness.suites.survey.throughput import Effort

    torch.set_num_threads(1)
    clock = Clock()
    ceilings = measure_ceilings(clock)
    effort = Effort(float(os.environ.get("EQUIHARNESS_SECONDS", SECONDS)), cold=False)
    figures, lines, left_out = {}, [], []
    for timed_cases in COMPARISONS:
        figures.update(absent(timed_cases))
        for line in side_by_side(
            timed_cases,
            dtype="float32",
            settings=["eager"],
            clock=clock,
            ceilings=ceilings,
            effort=effort,
            left_out=left_out.append,
        ):
            lines.append(line)
            name = label(line.operator, line.implementation)
            figures.setdefault(name, {})[line.quantity] = float(line.value)
    write_record(lines, left_out, ceilings.data())
    return figures


def absent(timed_cases):
    """Why some cannot be built here at all, by timed layer."""
    from equiharness.harness.adapters.registry import find
    from equiharness.harness.errors import MissingDependencyError

    found = {}
    for timed_case in timed_cases:
        try:
            find(timed_case.implementation).require()
        except MissingDependencyError as error:
            found[label(timed_case.operator, timed_case.implementation)] = {ABSENT: str(error)}
    return found


def write_record(lines, left_out, ceilings):
    """The same figures with their raw samples, for ``equiharness compare`` and the trend page."""
    from equiharness.harness.records.environment import capture
    from equiharness.harness.records.lines import EndLine, RunLine
    from equiharness.harness.records.machine import machine_state
    from equiharness.harness.records.writing import RecordWriter

    path = os.environ.get("EQUIHARNESS_RECORD")
    if not path:
        return
    header = json.loads(os.environ.get("EQUIHARNESS_HEADER", "{}"))
    environment = {**capture(), **header, "ceilings": {"float32": ceilings}, "machine_state": machine_state()}
    started = header.get("started", "")
    writer = RecordWriter(
        Path(path), RunLine(started=started, command="asv run", seed=0, planned=len(lines), environment=environment)
    )
    for line in lines:
        writer.write(line)
    counts = {"measurements": len(lines), "left out": len(left_out)}
    writer.write(EndLine(seconds=0.0, seconds_in_layers=0.0, counts=counts, state={"left_out": left_out}))
    writer.close()


class Layers:
    """One parameter: who computes what."""

    params = [label(e.operator, e.implementation) for comparison in COMPARISONS for e in comparison]  # noqa: RUF012  asv's form
    param_names = ["layer"]  # noqa: RUF012  asv's form
    timeout = 3600

    def setup_cache(self):
        """Everything, once for each revision."""
        return measure()

    setup_cache.timeout = 3600

    def setup(self, figures, layer):
        """Leave out what cannot be built here."""
        if ABSENT in figures.get(layer, {}):
            raise NotImplementedError(figures[layer][ABSENT])

    def track_forward(self, figures, layer):
        """Microseconds of a call in evaluation mode."""
        return 1e6 * figures[layer]["forward"]

    def track_backward(self, figures, layer):
        """Microseconds of the gradients."""
        return 1e6 * figures[layer]["backward"]

    def track_memory(self, figures, layer):
        """Peak bytes of inference."""
        return figures[layer]["memory"]

    def track_training_memory(self, figures, layer):
        """Peak bytes of a step of training."""
        return figures[layer]["training memory"]

    def track_build(self, figures, layer):
        """Microseconds of building the layer, once."""
        return 1e6 * figures[layer]["build"]

    def track_equivariance_error(self, figures, layer):
        """In units of eps."""
        return figures[layer]["equivariance error"] / EPS


# Pinned: without, every edit of a function orphans what was tracked before.
for _name, _unit in (
    ("track_forward", "us"),
    ("track_backward", "us"),
    ("track_memory", "bytes"),
    ("track_training_memory", "bytes"),
    ("track_build", "us"),
    ("track_equivariance_error", "eps"),
):
    _benchmark = getattr(Layers, _name)
    _benchmark.unit, _benchmark.version = _unit, "1"
