"""A run is counted as it goes."""

import tracemalloc

import pytest
from equiharness.harness.records.tally import Tally
from equiharness.harness.runs.checks import exit_code
from equiharness.harness.verdict.codes import Code
from equiharness.harness.verdict.result import CheckResult, Reason, Verdict


def result(verdict, **changes):
    return CheckResult(property="a", verdict=verdict, reason=Reason(code=Code.read("X"), message=""), **changes)


@pytest.mark.parametrize(
    ("verdicts", "strict", "code"),
    [
        ([], False, 3),
        ([Verdict.SKIPPED], False, 3),
        ([Verdict.SKIPPED, Verdict.EXACT], False, 0),
        ([Verdict.IMPRECISE], False, 0),
        ([Verdict.IMPRECISE], True, 1),
        ([Verdict.EXACT, Verdict.TIMED_OUT], False, 1),
        ([Verdict.SKIPPED, Verdict.CRASHED], False, 1),
    ],
)
def test_exit_codes_are_those_of_the_results(verdicts, strict, code):
    assert exit_code([result(v) for v in verdicts], strict=strict) == code


def test_a_declared_deviation_counts_as_declared_and_its_absence_as_a_failure():
    tally = Tally()
    tally.add(result(Verdict.BROKEN, expected="known", expected_verdict=Verdict.BROKEN))
    assert (tally.declared, tally.failing, tally.exit_code()) == (1, 0, 0)
    tally.add(result(Verdict.EXACT, expected="known", expected_verdict=Verdict.BROKEN))
    assert (tally.failing, tally.exit_code()) == (1, 1)


def test_failures_come_in_the_order_of_the_plan():
    tally = Tally()
    for position, offset in ((7, 10), (2, 20), (5, 30)):
        tally.add(result(Verdict.BROKEN), position, offset)
        tally.add(result(Verdict.EXACT), position + 10, offset + 1)
    assert list(tally.failures()) == [20, 30, 10]


def test_few_checks_are_all_shown_and_of_many_the_failures():
    tally = Tally()
    for position in range(3):
        tally.add(result(Verdict.EXACT), position, 10 * position)
    assert list(tally.shown()) == [0, 10, 20]
    tally.add(result(Verdict.BROKEN), 3, 30)
    assert list(tally.shown()) == [30]


def test_failures_are_kept_in_a_few_bytes():
    broken, tally = result(Verdict.BROKEN, element="x" * 10_000), Tally()
    tracemalloc.start()
    for position in range(10_000):
        tally.add(broken, position, position)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 30 * 10_000
