"""The commands of the command line, and the exit codes of their errors."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..harness.errors import HarnessError, MissingDependencyError, UsageError
from . import __doc__ as HELP
from .bench import bench
from .common import console as _console
from .compare import compare
from .merge import merge
from .report import report
from .run import Request, requested, results_of, resumed, verified
from .search import search
from .trend import trend

if TYPE_CHECKING:
    from ..harness.adapters.adapter import Implementation
    from ..harness.records.baseline import Entry, Worse
    from ..harness.verdict.result import CheckResult

app = typer.Typer(
    help=HELP,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

baseline = typer.Typer(
    help="Manage the baseline: the verdicts and error levels that a project has accepted.", no_args_is_help=True
)
app.add_typer(baseline, name="baseline")
app.command()(bench)
app.command()(compare)
app.command()(merge)
app.command()(trend)
app.command()(report)
app.command()(search)

#: The most checks for which `verify` writes a report by itself. A report holds every result in memory. Reading a record
#: takes 22 kB a check at its peak (measured with 3,864 checks of all libraries), so 40,000 checks take 880 MB. The
#: nightly profile of all registered implementations has 33,804 checks.
REPORTED = 40_000


@app.command("list")
def list_() -> None:
    """List every registered implementation, installed or not.

    Example: `equiharness list`
    """
    from ..harness.adapters.registry import implementations

    console = _console()
    if not console.is_terminal:
        for adapter in implementations():
            known = adapter.version or f"not installed: {adapter.install or 'pip install ' + adapter.library}"
            console.print(f"{adapter.name}\t{_families(adapter)}\t{adapter.library}\t{known}", markup=False)
        return
    from rich.table import Table

    table = Table("implementation", "family", "cases", "library")
    for adapter in implementations():
        version = adapter.version
        library = f"{adapter.library} {version}" if version else f"not installed: {adapter.install or adapter.library}"
        table.add_row(adapter.name, _families(adapter), str(sum(1 for _ in adapter.cases())), library)
    console.print(table)


def _families(adapter: Implementation) -> str:
    """The families of an adapter's cases, in the order of the cases."""
    return ", ".join(dict.fromkeys(adapter.family_of(case) for case in adapter.cases())) or adapter.family


@app.command()
def verify(
    names: Annotated[
        list[str] | None, typer.Argument(help="Names or glob patterns of implementations; all by default.")
    ] = None,
    prop: Annotated[list[str] | None, typer.Option("--property", help="Check only this property (repeatable).")] = None,
    dtype: Annotated[list[str] | None, typer.Option(help="float32, float64, bfloat16 or float16 (repeatable).")] = None,
    case: Annotated[str, typer.Option(help="Glob pattern on case names, e.g. 'group=C4*'.")] = "*",
    device: Annotated[str | None, typer.Option(help="torch device; cpu by default.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of weights, inputs and elements; 0 by default.")] = None,
    profile: Annotated[
        str | None, typer.Option(help="ci, or nightly: whole, five seeds, and generated configurations too.")
    ] = None,
    whole: Annotated[
        bool,
        typer.Option(
            "--whole", help="Every element of finite groups, not generators and two more; gradients in every precision."
        ),
    ] = False,
    threads: Annotated[int, typer.Option(help="torch threads per process; 0 leaves torch's default.")] = 1,
    jobs: Annotated[int, typer.Option(help="Worker processes; 0: one per core, or none for a short plan.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for run.jsonl, report.html and report.md.")] = Path("out"),
    html: Annotated[
        bool | None,
        typer.Option("--html/--no-html", help="Write the HTML report; by default if its libraries are installed."),
    ] = None,
    strict: Annotated[bool, typer.Option(help="IMPRECISE counts as a failure.")] = False,
    against: Annotated[
        Path | None, typer.Option(help="Baseline file: worse verdicts, larger errors and missing checks fail.")
    ] = None,
    limit: Annotated[
        float | None, typer.Option(help="Seconds allowed for one check; a slower one is killed, the others continue.")
    ] = None,
    scheduler: Annotated[
        str, typer.Option(help="Address of a Dask scheduler, tcp://host:port; local starts one on this machine.")
    ] = "",
    shard: Annotated[str, typer.Option(help="i/n: run only part i of n parts of the plan; see merge.")] = "",
    resume: Annotated[
        Path | None, typer.Option(help="Continue this run.jsonl in place, with the options that it was started with.")
    ] = None,
) -> None:
    """Check that layers are equivariant and write the record and the report.

    Settings that are not given here come from [tool.equiharness] in this folder's pyproject.toml.

    Examples: `equiharness verify 'equiharness.*' --dtype float64 --out out`; `equiharness verify --resume out`
    """
    from ..harness.config import read_settings
    from ..harness.records.baseline import read_baseline

    settings = read_settings(Path()).merged({"profile": profile, "device": device, "seed": seed}, "the command line")
    against = against or (Path(settings.baseline) if settings.baseline else None)
    accepted = read_baseline(against) if against is not None else {}  # before the run: a wrong path fails at once
    manner: dict[str, Any] = {"jobs": jobs, "scheduler": scheduler, "limit": limit}
    request = requested(names, prop, dtype or settings.dtype, case, settings, threads, whole=whole, **manner)
    if resume is None:
        record = out / "run.jsonl"
        tally = verified(request, record, shard=shard)
    else:
        record = resume / "run.jsonl" if resume.is_dir() else resume
        given = any((names, prop, dtype, case != "*", device, seed is not None, profile, whole))
        request, tally = resumed(request, record, given=given, shard=shard)
    worse = _worse(accepted, record, request) if against is not None else None
    if tally.checks <= REPORTED or html:
        _write_reports(record, record.parent, html=html, worse=worse, against=str(against))
    else:
        text = f"Report skipped: more than {REPORTED:,} checks. Write it with `equiharness report {record}`."
        _console().print(text, markup=False)
    for line in worse or ():
        _console().print(f"worse than {against}: {line}", markup=False)
    raise typer.Exit(1 if worse else tally.exit_code(strict=strict or settings.strict))


@baseline.command("update")
def baseline_update(
    names: Annotated[
        list[str] | None, typer.Argument(help="Names or glob patterns of implementations; all by default.")
    ] = None,
    path: Annotated[
        Path | None, typer.Option("--baseline", help="Baseline file; by default that of [tool.equiharness].")
    ] = None,
    record: Annotated[Path | None, typer.Option(help="Accept the results of this run.jsonl; run no checks.")] = None,
    dtype: Annotated[list[str] | None, typer.Option(help="float32 or float64 (repeatable; both by default).")] = None,
    case: Annotated[str, typer.Option(help="Glob pattern on case names.")] = "*",
    seed: Annotated[int | None, typer.Option(help="Seed; 0 by default.")] = None,
    threads: Annotated[int, typer.Option(help="torch threads per process; 0 leaves torch's default.")] = 1,
    jobs: Annotated[int, typer.Option(help="Worker processes; 0: one per core, or none for a short plan.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for run.jsonl.")] = Path("out"),
) -> None:
    """Accept the current results: write verdicts and error levels to a small file that you commit.

    Lines whose levels lie within their interval stay unchanged, whichever machine runs the checks.

    Example: `equiharness baseline update 'e3nn.*' --baseline equiharness-baseline.jsonl`
    """
    from ..harness.config import BASELINE, read_settings
    from ..harness.records.baseline import read_baseline, updated, write_baseline

    settings = read_settings(Path()).merged({"seed": seed}, "the command line")
    path = path or Path(settings.baseline or BASELINE)
    before = read_baseline(path) if path.exists() else {}
    if record is not None:
        listed = sorted({line.implementation for line in results_of(record)})
        request = requested(listed, None, None, "*", settings, threads)
    else:
        record = out / "run.jsonl"
        request = requested(names, None, dtype or settings.dtype, case, settings, threads, jobs=jobs)
        verified(request, record)
    after = updated(before, _by_key(record), request.expects)
    write_baseline(path, after)
    changed = sum(before.get(key) != entry for key, entry in after.items())
    dropped = len(set(before) - set(after))
    _console().print(f"{path}: {len(after)} checks, {changed} new or changed, {dropped} dropped.", markup=False)


def _by_key(record: Path) -> dict[str, CheckResult]:
    from ..harness.records.baseline import key_of, worst_by_key

    return worst_by_key((key_of(result), result) for result in results_of(record))


def _worse(accepted: dict[str, Entry], record: Path, request: Request) -> list[Worse]:
    """Checks that are worse than the baseline. Checks outside the request do not count as missing."""
    from ..harness.records import baseline as baselines

    return baselines.compare(accepted, _by_key(record), request.expects)


@app.command()
def doctor() -> None:
    """List the installed libraries, what uses them, and the install command of each missing one.

    Example: `equiharness doctor`
    """
    from ..harness.adapters.registry import implementations
    from ..harness.installed import distribution_version
    from ..harness.records.environment import capture

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


def _write_reports(record: Path, out: Path, *, html: bool | None, worse: list[Worse] | None, against: str) -> None:
    """Write the reports of a run; with a baseline they list the checks that got worse."""
    from ..harness.records.reading import read_run
    from ..reports.html import Extras
    from .report import write_reports

    lines = [{"change": "WORSE", "what": line.check, "cause": line.cause} for line in worse or ()]
    extras = Extras(changes={"lines": lines} if worse is not None else None, against=against)
    write_reports(read_run(record), record, out, html=html, extras=extras)


def main() -> None:
    """Entry point: print usage errors as one line and exit with code 2."""
    try:
        app()
    except (UsageError, MissingDependencyError) as error:
        _console(stderr=True).print(f"error: {error}", markup=False)
        sys.exit(2)
    except HarnessError as error:
        _console(stderr=True).print(f"internal error: {error}", markup=False)
        sys.exit(2)
    except KeyboardInterrupt:
        _console(stderr=True).print("Interrupted: the record holds every finished check.", markup=False)
        sys.exit(130)
