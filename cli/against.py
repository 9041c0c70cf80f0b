"""``equiharness bench --against REV``: time this working tree and another revision in alternating processes."""

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
    """Install both revisions, time them alternately, and write old.jsonl, new.jsonl and their comparison.

    Args:
        revision: a revision in any form that git accepts.
        timed_cases: layers with their cases.
        dtypes: precisions to time.
        backward: whether to time gradients too.
        seed: seed of weights and inputs.
        threads: torch threads of each worker process.
        out: folder for the records.

    Returns:
        The comparison.
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
            settled = sum(comparison.settled for comparison in comparisons)
            screen.print(f"pair {pair}: {settled} of {len(comparisons)} comparisons are settled", markup=False)

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
