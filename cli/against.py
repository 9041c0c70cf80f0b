"""``equiharness bench --against REV``: this working tree against another revision, by alternating processes."""

from __future__ import annotations

import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .common import console, open_record

if TYPE_CHECKING:
    from ..harness.adapters.operators import TimedCase
    from ..harness.records.comparing import Changes
    from ..harness.timing.revisions import RevisionComparison


def against(
    revision: str,
    timed_cases: Sequence[TimedCase],
    *,
    dtypes: Sequence[str],
    backward: bool,
    seed: int,
    threads: int,
    out: Path,
) -> Changes:
    """Install both, time them in turns, write old.jsonl and new.jsonl and their comparison.

    Args:
        revision: anything git understands.
        timed_cases: layers with their cases.
        dtypes: precisions.
        backward: whether gradients are timed too.
        seed: of weights and inputs.
        threads: of each worker.
        out: folder for the records.
    """
    from ..harness.records.comparing import changes
    from ..harness.records.lines import EndLine
    from ..harness.records.machine import machine_state
    from ..harness.records.reading import read_run
    from ..harness.timing.install import install_revision, repository_of
    from ..harness.timing.revisions import compare_revisions
    from .compare import write_changes

    screen = console(stderr=True)
    root, begin = repository_of(Path()), time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="equiharness-") as folder:
        sites = {"old": Path(folder) / "old", "new": Path(folder) / "new"}
        commits = {
            "old": install_revision(root, revision, sites["old"]),
            "new": install_revision(root, None, sites["new"]),
        }
        screen.print(f"old {commits['old']}\nnew {commits['new']}", markup=False)

        def report(pair: int, comparisons: Sequence[RevisionComparison]) -> None:
            waiting = sum(not comparison.settled for comparison in comparisons)
            screen.print(
                f"pair {pair}: {len(comparisons) - waiting} of {len(comparisons)} figures are clear", markup=False
            )

        comparisons = compare_revisions(
            sites, timed_cases, dtypes=dtypes, backward=backward, seed=seed, threads=threads, report=report
        )
    pair = uuid.uuid4().hex
    for side, commit in commits.items():
        more = {"machine_state": machine_state(), "revision": commit}
        writer = open_record(out / f"{side}.jsonl", seed=seed, planned=len(comparisons), more=more)
        try:
            for comparison in comparisons:
                if comparison.failed:
                    screen.print(
                        f"left out: {comparison.timed_case.implementation}, {comparison.quantity}: {comparison.failed}",
                        markup=False,
                    )
                if (
                    side not in comparison.failed
                    and "both" not in comparison.failed
                    and (comparison.old or comparison.failed)
                ):
                    writer.write(comparison.measurement(side, pair, threads))
            seconds = time.perf_counter() - begin
            writer.write(EndLine(seconds=seconds, seconds_in_layers=0.0, counts={}, state=machine_state()))
        finally:
            writer.close()
    found = changes(read_run(out / "old.jsonl"), read_run(out / "new.jsonl"))
    write_changes(found, revision, "the working tree", out)
    return found
