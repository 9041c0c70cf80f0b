"""The command line: equiharness list | verify | baseline | bench | compare | trend | report | search | doctor.

Exit codes: 0 all hold or deviate as declared; 1 a claim fails; 2 wrong usage or unreadable input;
3 nothing was checked.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from .cli_bench import bench
from .cli_common import console as _console
from .cli_common import open_record, require_device
from .cli_compare import compare
from .cli_report import report
from .cli_search import search
from .cli_trend import trend
from .harness.errors import HarnessError, MissingDependencyError, UsageError

if TYPE_CHECKING:
    from .harness.baseline import Entry, Worse
    from .harness.config import Settings
    from .harness.record import RecordWriter
    from .harness.registry import Implementation
    from .harness.runner import Cell, CellOutcome
    from .harness.verdict import CheckResult

app = typer.Typer(
    help=__doc__,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

baseline = typer.Typer(help="What a project's checks gave when they were last accepted.", no_args_is_help=True)
app.add_typer(baseline, name="baseline")
app.command()(bench)
app.command()(compare)
app.command()(trend)
app.command()(report)
app.command()(search)

#: Properties in the order they are checked; the suites hold the same names (a test compares them).
PROPERTIES = (
    "homomorphism",
    "equivariance",
    "off_grid",
    "aliasing",
    "worst_case",
    "adjoint",
    "parameter_gradient",
    "gradcheck",
    "robustness",
    "integration",
    "composition",
    "training",
    "precision",
    "parity",
    "backends",
)
#: Judged in float64, over all precisions or over resolutions, whatever the claim's dtype: planned once, in the first
#: dtype of a run.
ONCE = (
    "homomorphism",
    "off_grid",
    "aliasing",
    "worst_case",
    "gradcheck",
    "composition",
    "training",
    "precision",
    "backends",
)
SUITE = "equiharness.suites.check:run_property"


@app.command("list")
def list_() -> None:
    """Every registered implementation, installed or not.

    Example: `equiharness list`
    """
    from .harness.registry import implementations

    console = _console()
    table = Table("implementation", "family", "cases", "library")
    for adapter in implementations():
        version = adapter.version
        library = f"{adapter.library} {version}" if version else f"not installed: {adapter.install or adapter.library}"
        table.add_row(adapter.name, _families(adapter), str(sum(1 for _ in adapter.cases())), library)
    if console.is_terminal:
        console.print(table)
        return
    for adapter in implementations():
        version = adapter.version or f"not installed: {adapter.install or 'pip install ' + adapter.library}"
        console.print(f"{adapter.name}\t{_families(adapter)}\t{adapter.library}\t{version}", markup=False)


def _families(adapter: Implementation) -> str:
    """The families of an adapter's cases, in their order."""
    return ", ".join(dict.fromkeys(adapter.family_of(case) for case in adapter.cases())) or adapter.family


@app.command()
def verify(
    names: Annotated[list[str] | None, typer.Argument(help="Implementations or glob patterns; all by default.")] = None,
    prop: Annotated[list[str] | None, typer.Option("--property", help="Only this property (repeatable).")] = None,
    dtype: Annotated[list[str] | None, typer.Option(help="float32 or float64 (repeatable; both by default).")] = None,
    case: Annotated[str, typer.Option(help="Glob pattern on case names, e.g. 'group=C4*'.")] = "*",
    device: Annotated[str | None, typer.Option(help="torch device; cpu by default.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of weights, inputs and elements; 0 by default.")] = None,
    profile: Annotated[
        str | None, typer.Option(help="ci, or nightly: five seeds, and configurations that nobody listed.")
    ] = None,
    threads: Annotated[int, typer.Option(help="torch threads per process; 0 leaves torch's default.")] = 1,
    jobs: Annotated[int, typer.Option(help="Processes; 0: one per core, or this one alone for a short plan.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for run.jsonl, report.html and report.md.")] = Path("out"),
    html: Annotated[
        bool | None, typer.Option("--html/--no-html", help="Write the HTML report; by default where its libraries are.")
    ] = None,
    strict: Annotated[bool, typer.Option(help="IMPRECISE fails too.")] = False,
    against: Annotated[
        Path | None, typer.Option(help="Baseline: worse verdicts, grown errors and vanished checks fail.")
    ] = None,
) -> None:
    """Check that layers are equivariant and write the record and the report.

    Settings that are not named here come from [tool.equiharness] in this folder's pyproject.toml.

    Example: `equiharness verify 'equiharness.*' --dtype float64 --out out`
    """
    from .harness.baseline import read_baseline
    from .harness.config import read_settings
    from .harness.runner import exit_code

    settings = read_settings(Path()).merged({"profile": profile, "device": device, "seed": seed}, "the command line")
    against = against or (Path(settings.baseline) if settings.baseline else None)
    accepted = read_baseline(against) if against is not None else {}  # before the run: a wrong path costs no time
    chosen = _selection(names, prop, dtype or settings.dtype, case)
    results = _verified(chosen, settings, threads, out, jobs)
    worse = _worse(accepted, results, chosen)
    _write_reports(
        out / "run.jsonl", out, html=html, worse=worse if against is not None else None, against=str(against)
    )
    for line in worse:
        _console().print(f"worse than {against}: {line}", markup=False)
    raise typer.Exit(1 if worse else exit_code(results, strict=strict or settings.strict))


@baseline.command("update")
def baseline_update(
    names: Annotated[list[str] | None, typer.Argument(help="Implementations or glob patterns; all by default.")] = None,
    path: Annotated[Path | None, typer.Option("--baseline", help="The file; as in [tool.equiharness].")] = None,
    record: Annotated[Path | None, typer.Option(help="Accept this run.jsonl in place of a new run.")] = None,
    dtype: Annotated[list[str] | None, typer.Option(help="float32 or float64 (repeatable; both by default).")] = None,
    case: Annotated[str, typer.Option(help="Glob pattern on case names.")] = "*",
    seed: Annotated[int | None, typer.Option(help="Seed; 0 by default.")] = None,
    threads: Annotated[int, typer.Option(help="torch threads per process; 0 leaves torch's default.")] = 1,
    jobs: Annotated[int, typer.Option(help="Processes; 0: one per core, or this one alone for a short plan.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for run.jsonl.")] = Path("out"),
) -> None:
    """Accept what checks give now: write their verdicts and levels to a small file to commit.

    Lines whose levels lie within their interval stay as they are, on whatever machine it runs.

    Example: `equiharness baseline update 'e3nn.*' --baseline equiharness-baseline.jsonl`
    """
    from .harness.baseline import read_baseline, updated, write_baseline
    from .harness.config import BASELINE, read_settings
    from .harness.record import read_run

    settings = read_settings(Path()).merged({"seed": seed}, "the command line")
    path = path or Path(settings.baseline or BASELINE)
    before = read_baseline(path) if path.exists() else {}
    if record is not None:
        results = read_run(record).checks
        chosen = _selection(sorted({r.implementation for r in results}), None, None, "*")
    else:
        chosen = _selection(names, None, dtype or settings.dtype, case)
        results = _verified(chosen, settings, threads, out, jobs)
    after = updated(before, _by_key(results), chosen.expects)
    write_baseline(path, after)
    changed = sum(before.get(key) != entry for key, entry in after.items())
    dropped = len(set(before) - set(after))
    _console().print(f"{path}: {len(after)} checks, {changed} new or changed, {dropped} dropped.", markup=False)


@dataclass(frozen=True)
class _Selection:
    """What of the plan was asked for."""

    names: tuple[str, ...]
    properties: tuple[str, ...]
    dtypes: tuple[str, ...]
    cases: str

    def expects(self, key: str) -> bool:
        """Whether a baseline's check belongs to it."""
        from .harness.baseline import in_selection

        return in_selection(key, self.names, self.properties, self.dtypes, self.cases)


def _selection(
    names: Sequence[str] | None, prop: Sequence[str] | None, dtype: Sequence[str] | None, case: str
) -> _Selection:
    from .harness.registry import unknown
    from .harness.runner import DTYPES

    for name in prop or ():
        if name not in PROPERTIES:
            raise UsageError(unknown("property", name, PROPERTIES))
    for name in dtype or ():
        if name not in DTYPES:
            raise UsageError(unknown("dtype", name, DTYPES))
    return _Selection(tuple(names or ()), tuple(prop or PROPERTIES), tuple(dtype or DTYPES), case)


def _verified(chosen: _Selection, settings: Settings, threads: int, out: Path, jobs: int = 0) -> list[CheckResult]:
    """Plan, run, record, and sum up on the terminal."""
    from .harness.pool import workers_for
    from .harness.runner import check_declarations, plan

    check_declarations(chosen.names, PROPERTIES)
    require_device(settings.device)
    cells = plan(
        chosen.names,
        chosen.properties,
        suite=SUITE,
        once=ONCE,
        dtypes=chosen.dtypes,
        cases=chosen.cases,
        device=settings.device,
        seeds=settings.seeds,
        drawn=settings.drawn,
        threads=threads,
    )
    begin = time.perf_counter()
    results = _record(cells, out / "run.jsonl", settings.seed, workers_for(len(cells), jobs))
    _summarise(results, time.perf_counter() - begin)
    return results


def _by_key(results: Iterable[CheckResult]) -> dict[str, CheckResult]:
    from .harness.baseline import key_of, worst_by_key

    return worst_by_key((key_of(result), result) for result in results)


def _worse(accepted: dict[str, Entry], results: Iterable[CheckResult], chosen: _Selection) -> list[Worse]:
    """Each check that got worse; what a run was not asked for has not vanished."""
    from .harness import baseline as baselines

    return baselines.compare(accepted, _by_key(results), chosen.expects)


@app.command()
def doctor() -> None:
    """What is installed, what for, and the exact command for what is missing.

    Example: `equiharness doctor`
    """
    from .harness.environment import capture
    from .harness.registry import distribution_version, implementations

    console = _console()
    environment = capture()
    console.print(
        f"python {environment['python']} on {environment['platform']}, {environment['cores']} cores", markup=False
    )
    needs = [
        ("torch", "every layer", "pip install torch"),
        ("jinja2", "HTML and Markdown reports", "pip install 'equiharness[report]'"),
        ("plotly", "plots in the HTML report", "pip install 'equiharness[report]'"),
        ("itables", "tables in the HTML report", "pip install 'equiharness[report]'"),
        ("matplotlib", "figures of a report", "pip install 'equiharness[report]'"),
        ("pandas", "tables of a report as files", "pip install 'equiharness[report]'"),
    ]
    for adapter in implementations():
        need = (adapter.library, f"the {adapter.library} adapters", adapter.install or f"pip install {adapter.library}")
        if adapter.library != "equiharness" and need not in needs:
            needs.append(need)
    for name, purpose, install in needs:
        version = distribution_version(name)
        console.print(
            f"{name:12} {version or 'missing':10} for {purpose}" + ("" if version else f": {install}"), markup=False
        )
    console.print(_devices(), markup=False)


def _devices() -> str:
    try:
        import torch
    except ImportError as error:
        return f"torch cannot be imported: {error}. Install it: pip install torch"
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return f"torch runs on the CPU with {torch.get_num_threads()} threads" + (
        f" and on {', '.join(names)}" if names else ""
    )


def _record(cells: list[Cell], path: Path, seed: int, workers: int) -> list[CheckResult]:
    """Run the plan and write each result as it comes; an interruption keeps all lines written before it."""
    from .harness.record import EndLine, counts

    begin = time.perf_counter()
    writer = open_record(path, seed=seed, planned=len(cells))
    results: dict[int, CheckResult] = {}
    try:
        for position, outcome in _with_progress(cells, workers):
            results[position] = outcome.result
            _write(writer, outcome, position)
        done = [results[position] for position in sorted(results)]
        inside = sum(r.seconds_in_layer for r in done)
        writer.write(EndLine(seconds=time.perf_counter() - begin, seconds_in_layers=inside, counts=counts(done)))
    finally:
        writer.close()
    return done


def _write(writer: RecordWriter, outcome: CellOutcome, position: int) -> None:
    from .harness.record import CheckLine

    result = outcome.result
    if outcome.attachment is not None and not writer.attach(outcome.attachment, always=result.verdict.fails):
        result = result.model_copy(update={"attachment": ""})
    writer.write(CheckLine(result=result, cell=position))


def _with_progress(cells: list[Cell], workers: int) -> Iterator[tuple[int, CellOutcome]]:
    """Run the plan behind a progress bar on a terminal, with plain lines elsewhere."""
    from .harness.explain import headline
    from .harness.pool import execute_on

    console = _console(stderr=True)
    if not console.is_terminal:
        for number, (position, outcome) in enumerate(execute_on(cells, workers), 1):
            console.print(f"[{number}/{len(cells)}] {headline(outcome.result)}", markup=False)
            yield position, outcome
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("verify", total=len(cells))
        for position, outcome in execute_on(cells, workers):
            if outcome.result.fails:
                progress.console.print(headline(outcome.result), markup=False)
            progress.update(task, advance=1, description=outcome.result.implementation)
            yield position, outcome


def _summarise(results: Iterable[CheckResult], seconds: float) -> None:
    from .harness.explain import explain
    from .harness.record import counts

    console, listed = _console(), list(results)
    for result in listed:
        if result.fails:
            console.print(explain(result), markup=False)
    tally = ", ".join(f"{n} {verdict}" for verdict, n in sorted(counts(listed).items()))
    known = sum(r.label == "EXPECTED" for r in listed)
    declared = f"; {known} of these as declared" if known else ""
    inside = sum(r.seconds_in_layer for r in listed)
    took = f"{seconds:.1f} s ({inside:.1f} s inside the layers)"
    console.print(f"{len(listed)} checks in {took}: {tally or 'none'}{declared}", markup=False)
    if not listed:
        console.print("Nothing was checked: no case matches. See `equiharness list`.", markup=False)


def _write_reports(record: Path, out: Path, *, html: bool | None, worse: list[Worse] | None, against: str) -> None:
    """The reports of a run, with what got worse than its baseline where it has one."""
    from .cli_report import write_reports
    from .harness.record import read_run
    from .reports.html import Beside

    lines = [{"change": "WORSE", "what": line.check, "cause": line.cause} for line in worse or ()]
    beside = Beside(changes={"lines": lines} if worse is not None else None, against=against)
    write_reports(read_run(record), record, out, html=html, beside=beside)


def main() -> None:
    """Entry point: usage errors become one line and exit code 2."""
    try:
        app()
    except (UsageError, MissingDependencyError) as error:
        _console(stderr=True).print(f"error: {error}", markup=False)
        sys.exit(2)
    except HarnessError as error:
        _console(stderr=True).print(f"internal error: {error}", markup=False)
        sys.exit(2)
    except KeyboardInterrupt:
        _console(stderr=True).print("Interrupted: the record holds what was finished.", markup=False)
        sys.exit(130)


if __name__ == "__main__":
    main()
