from __future__ import annotations

import math
import re

from equiharness.harness.verdict.result import Verdict
from equiharness.reports.rows import attention, declared, matrix_of, rows_of, summary_of


def cells(run):
    matrix = matrix_of(rows_of(run))
    return {
        (name, prop): cell
        for name, row in matrix.rows
        for prop, cell in zip(matrix.properties, row, strict=True)
        if cell is not None
    }


def places(run, rows):
    """Where the rows' checks stand in the record."""
    return [next(i for i, check in enumerate(run.checks) if check is row.result) for row in rows]


def test_the_matrix_shows_the_worst_verdict_of_all_cases_and_dtypes(make):
    exact = [make.check(case=f"c{i}") for i in range(5)]
    sound = cells(make.run(*exact))["ours", "equivariance"]
    assert (sound.verdict, sound.checks) == (Verdict.EXACT, 5)
    exact[3] = make.check(Verdict.BROKEN, case="c3", dtype="float64")
    broken = cells(make.run(*exact))["ours", "equivariance"]
    assert (broken.verdict, broken.row.result.case, broken.checks, broken.failing) == (Verdict.BROKEN, "c3", 5, 1)


def test_a_skipped_check_never_outweighs_a_verdict(make):
    cell = cells(make.run(make.check(), make.check(Verdict.SKIPPED)))["ours", "equivariance"]
    assert cell.verdict is Verdict.EXACT


def test_a_control_that_fails_by_design_is_no_failure_of_the_matrix(make):
    control = make.check(Verdict.BROKEN, property="naive mean (control)")
    found = cells(make.run(make.check(property="integration", parts=(control,))))
    assert set(found) == {("ours", "integration")}
    assert found["ours", "integration"].verdict is Verdict.EXACT


def test_failures_come_by_severity_then_by_ratio_with_nan_worst(make):
    run = make.run(
        make.check(),
        make.check(Verdict.AMBIGUOUS),
        make.check(Verdict.BROKEN, error=1.0),
        make.check(Verdict.BROKEN, error=math.nan),
        make.check(Verdict.BROKEN, error=math.inf),
        make.check(Verdict.CRASHED, error=None),
        make.check(Verdict.SKIPPED),
    )
    assert places(run, attention(rows_of(run))) == [5, 3, 4, 2, 1]


def test_the_answer_is_that_of_the_worst_label(make):
    def label(*verdicts, end=True):
        run = make.run(*map(make.check, verdicts), end=end)
        return summary_of(run, rows_of(run)).label

    assert label(Verdict.EXACT, Verdict.APPROXIMATE) == "PASS"
    assert label(Verdict.EXACT, Verdict.IMPRECISE) == "WARN"
    assert label(Verdict.IMPRECISE, Verdict.AMBIGUOUS) == "UNSURE"
    assert label(Verdict.AMBIGUOUS, Verdict.VACUOUS) == "FAIL"
    assert label(Verdict.EXACT, end=False) == "INCOMPLETE"
    assert label(Verdict.IMPRECISE, end=False) == "INCOMPLETE"
    assert label(Verdict.BROKEN, end=False) == "FAIL"
    assert label(Verdict.SKIPPED) == label() == "NOTHING CHECKED"


def test_times_and_the_worst_ratio_are_those_of_the_run(make):
    run = make.run(make.check(seconds=2.0, seconds_building=4.0), make.check(error=3e-13, seconds=3.0))
    summary = summary_of(run, rows_of(run))
    # 9 seconds of workers, 2 of them in layers, in 3 seconds of the clock: workers work at the same time.
    assert (summary.seconds, summary.overhead) == (3.0, 4.5)
    assert summary.worst is not None
    assert places(run, [summary.worst]) == [1]


def test_deviations_as_declared_fail_nothing_and_hide_nothing(make):
    known = make.check(Verdict.BROKEN, expected="known.", expected_verdict=Verdict.BROKEN, error=1e9)
    run = make.run(make.check(), known)
    summary = summary_of(run, rows_of(run))
    assert (summary.label, summary.counts["EXPECTED"]) == ("PASS", 1)
    assert summary.worst is not None
    assert places(run, [summary.worst]) == [0]  # how far a known deviation is off says nothing about the rest
    assert attention(rows_of(run)) == []
    assert [(reason, len(rows)) for reason, rows in declared(rows_of(run))] == [("known.", 1)]
    cell = cells(run)["ours", "equivariance"]
    assert (cell.label, cell.verdict, cell.failing) == ("EXPECTED", Verdict.BROKEN, 0)


def test_a_declared_deviation_that_is_gone_needs_attention(make):
    gone = make.check(Verdict.EXACT, expected="known.", expected_verdict=Verdict.BROKEN)
    run = make.run(make.check(Verdict.IMPRECISE), gone)
    assert summary_of(run, rows_of(run)).label == "FAIL"
    assert places(run, attention(rows_of(run))) == [1, 0]


def test_the_anchor_of_a_check_stays_the_same_in_another_run(make):
    check = make.check(case="b")
    [alone], [_, second] = rows_of(make.run(check)), rows_of(make.run(make.check(case="a"), check))
    assert alone.id == second.id
    assert re.fullmatch("[0-9a-f]{10}", alone.id)


def test_checks_of_one_name_have_anchors_of_their_own(make):
    first, second = rows_of(make.run(make.check(), make.check()))
    assert second.id == f"{first.id}-2"


def test_what_was_skipped_is_never_the_worst_ratio(make):
    run = make.run(make.check(), make.check(Verdict.SKIPPED, error=1.0))
    assert summary_of(run, rows_of(run)).worst.result.verdict is Verdict.EXACT
