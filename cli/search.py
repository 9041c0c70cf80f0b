"""The command ``equiharness search``: look for a configuration, an element and an input on which a layer fails."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from ..harness.errors import UsageError

if TYPE_CHECKING:
    from ..harness.adapters.adapter import Implementation
    from ..harness.search.corpus import Found
    from ..harness.search.search import SearchProgress
    from ..harness.search.trial import Trial

#: What is searched unless properties are named: the statements that hold on every input.
SEARCHED = ("equivariance", "adjoint", "parameter_gradient")
#: Seconds between two lines of progress where there is no terminal.
PACE = 10.0


def search(
    implementation: Annotated[str, typer.Argument(help="Name of one implementation; see `equiharness list`.")],
    minutes: Annotated[float, typer.Option(help="How long; 0 searches until it is interrupted.")] = 1.0,
    prop: Annotated[list[str] | None, typer.Option("--property", help="Only this property (repeatable).")] = None,
    dtype: Annotated[list[str] | None, typer.Option(help="float32 or float64 (repeatable; both by default).")] = None,
    corpus: Annotated[Path, typer.Option(help="Folder of failures: tried first, and added to.")] = Path(
        "equiharness-corpus"
    ),
    seed: Annotated[int, typer.Option(help="Seed of the search.")] = 0,
    device: Annotated[str, typer.Option(help="torch device.")] = "cpu",
    trial: Annotated[str, typer.Option(help="Make this one trial again, as printed by a search.")] = "",
) -> None:
    """Search for failures of one implementation: configurations, elements and inputs that nobody listed.

    Failures are made as small as they can be, printed with a line that reproduces each, and kept in the corpus.

    Example: `equiharness search equiharness.LiftingConv --minutes 5`
    """
    import torch

    from ..harness.adapters.registry import find
    from ..harness.search.search import Search
    from ..suites.properties import SUITE

    adapter = find(implementation)
    adapter.require()
    torch.set_num_threads(1)
    if trial:
        raise typer.Exit(_again(adapter, trial))
    properties, dtypes = tuple(prop or SEARCHED), tuple(dtype or ("float32", "float64"))
    _require_known(properties, dtypes)
    with _shown(implementation, minutes * 60) as report:
        hunt = Search(adapter, properties, dtypes, suite=SUITE, folder=corpus, seed=seed, device=device, report=report)
        try:
            hunt.run(minutes * 60 if minutes > 0 else float("inf"))
        except KeyboardInterrupt:
            _console(stderr=True).print("Interrupted: failures found until now are in the corpus.", markup=False)
    _summarise(hunt.progress, corpus)
    raise typer.Exit(exit_code(hunt.progress))


def exit_code(progress: SearchProgress) -> int:
    """0 nothing fails; 1 something does, a known failure included; 3 nothing was checked."""
    if progress.found or progress.known:
        return 1
    return 0 if progress.anything else 3


def reproduction(trial: Trial) -> str:
    """The line that makes a trial again."""
    return shlex.join(["equiharness", "search", trial.implementation, "--trial", trial.text])


def _again(adapter: Implementation, text: str) -> int:
    from ..harness.search.trial import Trial, failed, run_trial
    from ..harness.verdict.result import explain
    from ..suites.properties import SUITE

    made = Trial.read(text)
    if made.implementation != adapter.name:
        raise UsageError(f"The trial is one of {made.implementation}, not of {adapter.name}: name that implementation.")
    result = run_trial(adapter, made, SUITE)
    _console().print(explain(result.model_copy(update={"reproduce": reproduction(made)})), markup=False)
    return int(failed(result))


def _require_known(properties: tuple[str, ...], dtypes: tuple[str, ...]) -> None:
    from ..harness.errors import unknown
    from ..harness.runs.checks import DTYPES
    from ..suites.properties import planned

    planned(properties)
    for name in dtypes:
        if name not in DTYPES:
            raise UsageError(unknown("dtype", name, DTYPES))


def _console(*, stderr: bool = False) -> Console:
    return Console(stderr=stderr, soft_wrap=True, highlight=False)


def _status(progress: SearchProgress) -> str:
    tally = ", ".join(f"{n} {verdict}" for verdict, n in sorted(progress.verdicts.items()))
    return f"{progress.seconds:.0f} s: {progress.tried} trials ({tally or 'none'}), {len(progress.found)} new failures"


@contextmanager
def _shown(name: str, seconds: float) -> Iterator[Callable[[SearchProgress], None]]:
    """Progress on one line of a terminal, and as a line every few seconds elsewhere."""
    console = _console(stderr=True)
    if console.is_terminal:
        with console.status(f"{name}: building the first layer") as status:
            yield lambda progress: status.update(f"{name}: {_status(progress)}")
        return
    last = time.perf_counter()

    def report(progress: SearchProgress) -> None:
        nonlocal last
        if time.perf_counter() - last >= PACE:
            last = time.perf_counter()
            console.print(_status(progress), markup=False)

    yield report


def _summarise(progress: SearchProgress, corpus: Path) -> None:
    console = _console()
    for known in progress.mended:
        console.print(f"mended    {known.path} fails no longer; it stays in {corpus} to be tried again.", markup=False)
    for title, failures in (("known", progress.known), ("FAIL", progress.found)):
        for found in failures:
            console.print(_described(title, found), markup=False)
    console.print(_status(progress) + f"; {len(progress.known)} known ones still fail.", markup=False)
    if not progress.anything:
        console.print("Nothing was checked: every trial was skipped.", markup=False)


def _described(title: str, found: Found) -> str:
    blamed = ", ".join(f"{k}={v}" for k, v in found.blamed.items()) or "nothing: the plainest configuration fails"
    return (
        f"{title:9} {found.trial.property} is {found.verdict} ({found.code}) for {found.trial.case.name}, "
        f"{found.trial.dtype}\n  {found.message}\n  depends on {blamed}\n  reproduce {reproduction(found.trial)}"
    )
