"""``equiharness search``: search for a configuration, an element and an input on which a layer fails."""

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

#: The properties that are searched by default: those that must hold on every input.
SEARCHED = ("equivariance", "adjoint", "parameter_gradient")
#: Seconds between two lines of progress if the output is not a terminal.
PACE = 10.0


def search(
    implementation: Annotated[str, typer.Argument(help="Name of one implementation; see `equiharness list`.")],
    minutes: Annotated[float, typer.Option(help="Minutes to search; 0 searches until you interrupt it.")] = 1.0,
    prop: Annotated[
        list[str] | None, typer.Option("--property", help="Search only this property (repeatable).")
    ] = None,
    dtype: Annotated[list[str] | None, typer.Option(help="float32 or float64 (repeatable; both by default).")] = None,
    corpus: Annotated[
        Path, typer.Option(help="Folder of failures: known ones are tried first, new ones are added.")
    ] = Path("equiharness-corpus"),
    seed: Annotated[int, typer.Option(help="Seed of the search.")] = 0,
    device: Annotated[str, typer.Option(help="torch device.")] = "cpu",
    trial: Annotated[str, typer.Option(help="Repeat this one trial, as printed by a search.")] = "",
) -> None:
    """Search generated configurations, elements and inputs for failures of one implementation.

    Each failure is made as simple as possible, printed with a command that reproduces it, and kept in the corpus.

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
        searcher = Search(
            adapter, properties, dtypes, suite=SUITE, folder=corpus, seed=seed, device=device, report=report
        )
        try:
            searcher.run(minutes * 60 if minutes > 0 else float("inf"))
        except KeyboardInterrupt:
            _console(stderr=True).print("Interrupted: the corpus holds the failures found so far.", markup=False)
    _summarise(searcher.progress, corpus)
    raise typer.Exit(exit_code(searcher.progress))


def exit_code(progress: SearchProgress) -> int:
    """0 if nothing fails; 1 if there is a failure, new or known; 3 if nothing was checked."""
    if progress.found or progress.known:
        return 1
    return 0 if progress.anything else 3


def reproduction(trial: Trial) -> str:
    """The command that repeats a trial."""
    return shlex.join(["equiharness", "search", trial.implementation, "--trial", trial.text])


def _again(adapter: Implementation, text: str) -> int:
    from ..harness.search.trial import Trial, failed, run_trial
    from ..harness.verdict.result import explain
    from ..suites.properties import SUITE

    made = Trial.read(text)
    if made.implementation != adapter.name:
        raise UsageError(
            f"The trial belongs to {made.implementation}, not to {adapter.name}: name {made.implementation}."
        )
    result = run_trial(adapter, made, SUITE)
    _console().print(explain(result.model_copy(update={"reproduce": reproduction(made)})), markup=False)
    return int(failed(result))


def _require_known(properties: tuple[str, ...], dtypes: tuple[str, ...]) -> None:
    from ..harness.precisions import require_dtypes
    from ..suites.properties import planned

    planned(properties)
    require_dtypes(dtypes)


def _console(*, stderr: bool = False) -> Console:
    return Console(stderr=stderr, soft_wrap=True, highlight=False)


def _status(progress: SearchProgress) -> str:
    tally = ", ".join(f"{n} {verdict}" for verdict, n in sorted(progress.verdicts.items()))
    return f"{progress.seconds:.0f} s: {progress.tried} trials ({tally or 'none'}), {len(progress.found)} new failures"


@contextmanager
def _shown(name: str, seconds: float) -> Iterator[Callable[[SearchProgress], None]]:
    """Show progress on one line of a terminal, and elsewhere as a line every few seconds."""
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
        console.print(
            f"fixed     {known.path} no longer fails; it stays in {corpus} and is tried again in every search.",
            markup=False,
        )
    for title, failures in (("known", progress.known), ("FAIL", progress.found)):
        for found in failures:
            console.print(_described(title, found), markup=False)
    console.print(_status(progress) + f"; {len(progress.known)} known failures still fail.", markup=False)
    if not progress.anything:
        console.print("Nothing was checked: every trial was skipped.", markup=False)


def _described(title: str, found: Found) -> str:
    blamed = ", ".join(f"{k}={v}" for k, v in found.blamed.items()) or "nothing: the simplest configuration fails"
    return (
        f"{title:9} {found.trial.property} is {found.verdict} ({found.code}) for {found.trial.case.name}, "
        f"{found.trial.dtype}\n  {found.message}\n  depends on {blamed}\n  reproduce {reproduction(found.trial)}"
    )
