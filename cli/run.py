"""A verification run: which checks it makes, where they run, its record and its summary."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ..harness.errors import RecordError, UsageError
from .common import console, open_record, require_device

if TYPE_CHECKING:
    from ..harness.claim.outcome import Outcome
    from ..harness.config import Settings
    from ..harness.records.tally import Tally
    from ..harness.records.writing import RecordWriter
    from ..harness.runs.plan import Plan, Shard
    from ..harness.runs.resume import RecordState
    from ..harness.runs.scheduling import Engine
    from ..harness.verdict.result import CheckResult


#: Options of a request that say how its plan runs, not which checks are in it.
MANNER = ("jobs", "scheduler", "limit")


@dataclass(frozen=True)
class Request:
    """The options of a run: from which its plan is made, where the plan runs, and how long one check may take.

    Args:
        names: names or glob patterns of implementations.
        properties: names of properties.
        dtypes: working precisions.
        cases: glob pattern on case names.
        device: torch device.
        seeds: seeds of weights, inputs and elements.
        drawn: number of configurations to draw for each seed and adapter.
        threads: torch threads of a process.
        whole: check every element of finite groups, and gradients in every precision.
        jobs: worker processes; 0: one per GPU or core, or none for a short plan, which runs in this process.
        scheduler: address of a Dask scheduler; "local" starts one on this machine.
        limit: seconds allowed for one check; None: no limit.
    """

    names: tuple[str, ...]
    properties: tuple[str, ...]
    dtypes: tuple[str, ...]
    cases: str
    device: str
    seeds: tuple[int, ...]
    drawn: int
    threads: int
    whole: bool = False
    jobs: int = 0
    scheduler: str = ""
    limit: float | None = None

    def expects(self, key: str) -> bool:
        """Whether a check of a baseline belongs to this request."""
        from ..harness.records.baseline import in_selection
        from ..suites.properties import once

        first = once(whole=self.whole)
        return any(
            in_selection(key, self.names, properties, dtypes, self.cases)
            for properties, dtypes in (
                ([name for name in self.properties if name not in first], self.dtypes),
                ([name for name in self.properties if name in first], self.dtypes[:1]),
            )
        )

    def plan(self) -> Plan:
        """The plan of the requested checks."""
        from ..harness.runs.checks import check_declarations, plan
        from ..suites.properties import PLANNED, planned

        check_declarations(self.names, PLANNED)
        require_device(self.device)
        return plan(
            self.names,
            **planned(self.properties, whole=self.whole),
            named_properties=() if self.properties == PLANNED else self.properties,
            dtypes=self.dtypes,
            cases=self.cases,
            device=self.device,
            seeds=self.seeds,
            drawn=self.drawn,
            threads=self.threads,
        )

    def data(self) -> dict[str, Any]:
        """The options from which the plan is made, as JSON data for the record."""
        asked = {name: value for name, value in asdict(self).items() if name not in MANNER}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asked.items()}

    def recorded(self, data: dict[str, Any]) -> Self:
        """The request for the plan that ``data`` describes; where and how it runs stays as it is here.

        Raises:
            TypeError: another version of equiharness wrote the data.
        """
        fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in data.items()}
        return replace(self, **fields)

    def engine(self, checks: int) -> AbstractContextManager[Engine | None]:
        """The engine that runs this number of checks; None: they run in this process."""
        from ..harness.runs.pool import gpus_for, pooled, workers_for

        if self.limit is not None and self.limit <= 0:
            raise UsageError(
                f"--limit {self.limit:g} leaves no time for a check. Give a number of seconds above 0, or no limit."
            )
        if self.scheduler:
            from ..harness.runs.cluster import clustered

            return clustered(self.scheduler, jobs=self.jobs, limit=self.limit, device=self.device)
        gpus = gpus_for(self.device, _gpu_count()) if self.device == "cuda" else []
        workers = workers_for(checks, self.jobs, len(gpus))
        if not workers and self.limit is None:
            return nullcontext()
        return pooled(min(max(workers, 1), max(checks, 1)), limit=self.limit, gpus=gpus)


def requested(
    names: Sequence[str] | None,
    prop: Sequence[str] | None,
    dtype: Sequence[str] | None,
    case: str,
    settings: Settings,
    threads: int,
    *,
    whole: bool = False,
    jobs: int = 0,
    scheduler: str = "",
    limit: float | None = None,
) -> Request:
    """The request that options and settings describe.

    Raises:
        UsageError: a property or dtype that does not exist.
    """
    from ..harness.precisions import PLANNED, require_dtypes
    from ..suites.properties import planned

    require_dtypes(dtype or ())
    return Request(
        names=tuple(names or ()),
        properties=planned(tuple(prop or ()))["properties"],
        dtypes=tuple(dtype or PLANNED),
        cases=case,
        device=settings.device,
        seeds=settings.seeds,
        drawn=settings.drawn,
        threads=threads,
        whole=whole or settings.whole,
        jobs=jobs,
        scheduler=scheduler,
        limit=limit,
    )


def _gpu_count() -> int:
    import torch

    return torch.cuda.device_count()


def verified(request: Request, record: Path, *, shard: str = "") -> Tally:
    """Plan the checks, run and record them, and print the summary."""
    from ..harness.records.environment import source_digest
    from ..harness.runs.plan import WHOLE, Shard
    from ..harness.runs.resume import identity

    plan, part = request.plan(), Shard.read(shard) if shard else WHOLE
    more = {"plan": identity(plan, part, request.data(), source_digest())}
    writer = open_record(record, seed=request.seeds[0], planned=plan.size(part), more=more)
    return _finished(request, plan, part, record, writer)


def resumed(request: Request, record: Path, *, given: bool = True, shard: str = "") -> tuple[Request, Tally]:
    """Continue a record: keep the checks that it holds, and run the others.

    Args:
        request: the request.
        record: the record.
        given: whether the plan comes from the request; otherwise it is the one that the record holds.
        shard: the option --shard; empty: the shard that the record holds.

    Raises:
        RecordError: the record cannot be continued: it is damaged, or belongs to another plan, another version of
            equiharness or another version of torch.
    """
    from ..harness.records.environment import capture, source_digest
    from ..harness.runs.plan import Shard
    from ..harness.runs.resume import identity, read_state, reopen, require_same, shard_of

    state = read_state(record)
    if not given:
        try:
            request = request.recorded(state.header.environment["plan"]["asked"])
        except (KeyError, TypeError) as error:
            raise RecordError(
                f"{record} holds no plan: another version of equiharness wrote it. Verify again without --resume."
            ) from error
    part = Shard.read(shard) if shard else shard_of(state.header)
    plan = request.plan()
    require_same(record, state.header, identity(plan, part, request.data(), source_digest()), capture()["versions"])
    if state.ended:
        console().print(f"{record} is complete: no check is left to run.", markup=False)
        summarise(record, state.tally, state.seconds)
        return request, state.tally
    return request, _finished(request, plan, part, record, reopen(record, state), state)


def _finished(
    request: Request, plan: Plan, shard: Shard, record: Path, writer: RecordWriter, before: RecordState | None = None
) -> Tally:
    """Run the checks that are left, record each result at once, and print the summary."""
    from ..harness.records.tally import Tally
    from ..harness.runs.scheduling import stream

    begin = time.perf_counter()
    tally = before.tally if before is not None else Tally()
    total, done = plan.size(shard), before.done if before is not None else b""
    earlier = before.elapsed if before is not None else 0.0
    tasks = plan.tasks(shard, done)
    try:
        with request.engine(total - tally.checks) as engine:
            for position, outcome in _with_progress(stream(tasks, engine), total, tally.checks):
                tally.add(outcome.result, position, _write(writer, outcome, position))
        seconds = time.perf_counter() - begin + earlier
        writer.write(tally.end(seconds))
    except UsageError as error:
        if not tally.checks:
            raise
        held = f"{record} holds {tally.checks} of {total} checks"
        raise UsageError(f"{error} {held}. Continue: equiharness verify --resume {record}") from error
    except KeyboardInterrupt:
        console(stderr=True).print(f"Continue: equiharness verify --resume {record}", markup=False)
        raise
    finally:
        writer.close()
    summarise(record, tally, seconds)
    return tally


def _write(writer: RecordWriter, outcome: Outcome, position: int) -> int:
    """Append a result and its picture to the record, and return the offset of its line."""
    from ..harness.records.lines import CheckLine

    result = outcome.result
    if outcome.picture is not None and not writer.attach(outcome.picture, always=result.verdict.fails):
        result = result.model_copy(update={"attachment": ""})
    return writer.write(CheckLine(result=result, position=position))


def _with_progress(outcomes: Iterator[tuple[int, Outcome]], total: int, done: int) -> Iterator[tuple[int, Outcome]]:
    """Yield the results and show progress: a bar on a terminal, plain lines elsewhere."""
    from ..harness.verdict.result import headline

    screen = console(stderr=True)
    if not screen.is_terminal:
        for number, (position, outcome) in enumerate(outcomes, done + 1):
            # Written without the console, whose layout of a line takes as long as the cheapest check.
            sys.stderr.write(f"[{number}/{total}] {headline(outcome.result)}\n")
            yield position, outcome
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=screen) as progress:
        task = progress.add_task("verify", total=total, completed=done)
        for position, outcome in outcomes:
            if outcome.result.fails:
                progress.console.print(headline(outcome.result), markup=False)
            progress.update(task, advance=1, description=outcome.result.implementation)
            yield position, outcome


def summarise(record: Path, tally: Tally, seconds: float) -> None:
    """Print the failures of a record in the order of its plan, and the counts."""
    from ..harness.records.lines import CheckLine
    from ..harness.records.reading import line_at
    from ..harness.verdict.result import explain

    screen = console()
    for offset in tally.shown():
        line = line_at(record, offset)
        assert isinstance(line, CheckLine)
        screen.print(explain(line.result), markup=False)
    counted = ", ".join(f"{n} {verdict}" for verdict, n in sorted(tally.counts.items()))
    declared = f"; {tally.declared} of these as declared" if tally.declared else ""
    took = f"{seconds:.1f} s ({tally.seconds_in_layers:.1f} s inside the layers)"
    screen.print(f"{tally.checks} checks in {took}: {counted or 'none'}{declared}", markup=False)
    if not tally.checks:
        screen.print("Nothing was checked: no case matches. See `equiharness list`.", markup=False)


def results_of(record: Path) -> Iterator[CheckResult]:
    """Yield the results of a record in the order in which they were written."""
    from ..harness.records.lines import CheckLine
    from ..harness.records.reading import lines_of

    for _, line in lines_of(record):
        if isinstance(line, CheckLine):
            yield line.result
