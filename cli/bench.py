"""``equiharness bench``: time layers side by side, or this working tree against another revision."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..harness.errors import UsageError, unknown
from .common import console, open_record, require_device

if TYPE_CHECKING:
    from ..harness.adapters.operators import TimedCase
    from ..harness.records.lines import Run

SETTINGS = ("eager", "channels_last", "compiled")


@dataclass(frozen=True)
class _Plan:
    """The options of a timing run."""

    dtypes: tuple[str, ...]
    settings: tuple[str, ...]
    device: str
    seed: int
    threads: int
    seconds: float
    cold: bool
    backward: bool
    errors: bool


def bench(
    names: Annotated[
        list[str] | None, typer.Argument(help="Names or glob patterns of implementations; all by default.")
    ] = None,
    operator: Annotated[str, typer.Option(help="Glob pattern on operators, e.g. 'group convolution*'.")] = "*",
    case: Annotated[str, typer.Option(help="Glob pattern on case names.")] = "*",
    dtype: Annotated[
        list[str] | None, typer.Option(help="float32 (default), float64, bfloat16, float16, tf32 (repeatable).")
    ] = None,
    setting: Annotated[
        list[str] | None, typer.Option(help="eager (default), channels_last, compiled (repeatable).")
    ] = None,
    device: Annotated[str, typer.Option(help="torch device.")] = "cpu",
    seed: Annotated[int, typer.Option(help="Seed of weights and inputs.")] = 0,
    threads: Annotated[int, typer.Option(help="torch threads; 0 leaves torch's default.")] = 1,
    seconds: Annotated[float, typer.Option(help="Seconds for each measurement of each implementation.")] = 1.0,
    cold: Annotated[bool, typer.Option(help="Also time calls with flushed caches.")] = True,
    backward: Annotated[bool, typer.Option(help="Also measure training.")] = True,
    errors: Annotated[bool, typer.Option(help="Also measure errors.")] = True,
    against: Annotated[
        str | None, typer.Option(metavar="REV", help="Time this working tree against a revision of its repository.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for bench.jsonl and bench.md.")] = Path("out"),
) -> None:
    """Measure layers: forward and backward time, memory, errors, and the share of the hardware limit.

    Implementations of one operator are timed alternately in one process. The record keeps the raw samples. With
    --against, both revisions are installed and timed alternately in pairs of fresh processes; the exit code is 1 if
    this tree is worse.

    Example: `equiharness bench --operator 'group convolution C4' --seconds 2`
    """
    from ..harness.adapters.operators import comparisons
    from ..harness.precisions import TIMED, require_dtypes

    dtypes, settings = tuple(dtype or ("float32",)), tuple(setting or ("eager",))
    require_dtypes(dtypes, TIMED)
    for name in settings:
        if name not in SETTINGS:
            raise UsageError(unknown("setting", name, SETTINGS))
    require_device(device)
    plan = _Plan(dtypes, settings, device, seed, threads, seconds, cold, backward, errors)
    chosen = comparisons(names or (), operator, case)
    if not chosen:
        console().print("Nothing was timed: no operator or case matches. See `equiharness list`.", markup=False)
        raise typer.Exit(3)
    if against is not None:
        from .against import against as compare_revisions

        if device != "cpu" or settings != ("eager",):
            raise UsageError("--against times only eager layers on the CPU: leave --device and --setting out.")
        timed_cases = [timed_case for group in chosen for timed_case in group]
        found = compare_revisions(
            against, timed_cases, dtypes=dtypes, backward=backward, seed=seed, threads=threads or 1, out=out
        )
        raise typer.Exit(1 if found.worse else 0)
    run = _timed(chosen, plan, out / "bench.jsonl")
    _write_table(run, out / "bench.md")
    raise typer.Exit(0 if run.measurements else 3)


def _timed(chosen: Sequence[tuple[TimedCase, ...]], plan: _Plan, path: Path) -> Run:
    """Run every comparison in every precision, and record each measurement at once."""
    import torch

    from ..harness.records.lines import EndLine
    from ..harness.records.machine import machine_state, open_nvml
    from ..harness.records.reading import read_run
    from ..harness.timing.clock import Clock
    from ..harness.timing.roofline import measure_ceilings
    from ..suites.survey.side_by_side import side_by_side
    from ..suites.survey.throughput import Effort

    if plan.threads:
        torch.set_num_threads(plan.threads)
    nvml = open_nvml(plan.device) if plan.device.startswith("cuda") else None
    clock = Clock(plan.device, nvml.throttled if nvml is not None else None)
    begin = time.perf_counter()
    ceilings = {dtype: measure_ceilings(clock, dtype) for dtype in plan.dtypes}
    more = {
        "machine_state": machine_state(plan.device, nvml),
        "ceilings": {dtype: found.data() for dtype, found in ceilings.items()},
    }
    rounds = [(timed_cases, dtype) for timed_cases in chosen for dtype in plan.dtypes]
    effort = Effort(plan.seconds, plan.cold, plan.backward, plan.errors)
    screen = console(stderr=True)
    writer = open_record(path, seed=plan.seed, planned=len(rounds), more=more)
    done = 0
    try:
        for number, (timed_cases, dtype) in enumerate(rounds, 1):
            screen.print(f"[{number}/{len(rounds)}] {timed_cases[0].operator}, {dtype}", markup=False)
            for line in side_by_side(
                timed_cases,
                dtype=dtype,
                settings=plan.settings,
                clock=clock,
                ceilings=ceilings[dtype],
                seed=plan.seed,
                effort=effort,
                left_out=lambda text: screen.print(f"left out: {text}", markup=False),
            ):
                writer.write(line)
                done += 1
        state, seconds = machine_state(plan.device, nvml), time.perf_counter() - begin
        writer.write(EndLine(seconds=seconds, seconds_in_layers=0.0, counts={"measurements": done}, state=state))
    finally:
        writer.close()
    return read_run(path)


def _write_table(run: Run, path: Path) -> None:
    from ..harness.records.writing import write_atomically
    from ..reports.throughput import render_throughput

    text = render_throughput(run)
    write_atomically(path, text)
    console().print(text, markup=False)
    console().print(f"{path.with_suffix('.jsonl')} and {path}", markup=False)
