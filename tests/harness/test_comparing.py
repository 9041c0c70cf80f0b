"""compare: every kind of change has its outcome, and only a real worsening fails."""

import pytest
from equiharness.harness.records.comparing import changes
from equiharness.harness.records.lines import EndLine, Measurement, Run, RunLine
from equiharness.harness.records.ratios import Change
from equiharness.harness.verdict.codes import Code
from equiharness.harness.verdict.result import CheckResult, Reason, Verdict


def check(verdict=Verdict.EXACT, error=1e-8, bound=1e-6, name="equivariance", **more):
    reason = Reason(code=Code.read(verdict), message="because")
    values = {"property": name, "verdict": verdict, "reason": reason, "error": error, "bound": bound, **more}
    return CheckResult(**{"implementation": "a.B", "case": "n=1", **values})


def time(pair="", samples=(1.0,) * 8, quantity="forward", unit="s", value=None, **more):
    value = samples[0] if value is None else value
    values = {"quantity": quantity, "value": value, "unit": unit, "better": "lower", "samples": samples, "pair": pair}
    return Measurement(**{"implementation": "a.B", "case": "n=1", "dtype": "float32", **values, **more})


def run(checks=(), measurements=(), processor="x", ended=True, truncated=""):
    header = RunLine(started="", command="", seed=0, planned=1, environment={"processor": processor})
    end = EndLine(seconds=1, seconds_in_layers=1, counts={}) if ended else None
    return Run(header, list(checks), list(measurements), end, truncated=truncated)


def only(old, new):
    [line] = changes(old, new).lines
    return line


def test_an_unchanged_check_is_the_same():
    assert only(run([check()]), run([check(error=2e-8)])).change is Change.SAME


def test_a_worse_verdict_is_worse_and_a_better_one_better():
    good, bad = run([check()]), run([check(Verdict.BROKEN, error=1e-3)])
    assert only(good, bad).change is Change.WORSE
    assert only(bad, good).change is Change.BETTER


def test_an_error_that_grew_beyond_what_machines_explain_is_worse():
    old, new = run([check(error=1e-7, bound=1e-6)]), run([check(error=9e-7, bound=1e-6)])
    assert only(old, new).change is Change.WORSE
    assert "error / bound" in only(old, new).cause


def test_a_check_that_vanished_is_worse_unless_the_run_was_cut_off():
    assert only(run([check()]), run()).change is Change.WORSE
    assert only(run([check()]), run(ended=False)).change is Change.AMBIGUOUS


def test_a_new_check_is_worse_only_where_it_fails():
    assert only(run(), run([check()])).change is Change.SAME
    assert only(run(), run([check(Verdict.BROKEN)])).change is Change.WORSE


@pytest.mark.parametrize(("factor", "change"), [(1.0, "SAME"), (1.2, "WORSE"), (0.8, "BETTER")])
@pytest.mark.parametrize("unit", ["s", "B"])
def test_times_and_memory_of_one_interleaved_run_are_compared(factor, change, unit):
    new = time("p", samples=(factor,) * 8, unit=unit)
    assert str(only(run(measurements=[time("p", unit=unit)]), run(measurements=[new])).change) == change


@pytest.mark.parametrize("pairs", [("", ""), ("p", "q")])
def test_times_of_separate_runs_get_no_verdict(pairs):
    old, new = (run(measurements=[time(pair, samples=(s,) * 8)]) for pair, s in zip(pairs, (1.0, 9.0), strict=True))
    found = changes(old, new)
    if pairs == ("", ""):
        assert found.lines == ()
        assert "no verdict" in found.notes[0]


def test_other_machines_are_named_as_the_reason():
    found = changes(run(measurements=[time()]), run(measurements=[time()], processor="y"))
    assert "different machines" in found.notes[0]


def test_a_layer_that_can_no_longer_be_timed_is_worse():
    assert only(run(measurements=[time("p")]), run()).change is Change.WORSE


def test_measured_errors_need_no_pairs():
    old, new = (run(measurements=[time(quantity="equivariance error", unit="", value=v)]) for v in (3e-6, 9e-6))
    assert only(old, new).change is Change.WORSE
    assert only(new, old).change is Change.BETTER


def test_errors_at_the_level_of_rounding_are_the_same_whatever_they_are():
    old, new = (run(measurements=[time(quantity="equivariance error", unit="", value=v)]) for v in (1e-8, 1e-6))
    assert only(old, new).change is Change.SAME


def test_what_was_cut_off_is_said():
    assert "line 9" in changes(run(truncated="line 9 is cut off"), run()).notes[0]


def test_only_a_worsening_fails():
    assert changes(run([check()]), run([check(Verdict.BROKEN)])).worse
    assert not changes(run([check(Verdict.BROKEN)]), run([check()])).worse
    assert changes(run([check()]), run([check()])).counts() == {"SAME": 1, "BETTER": 0, "WORSE": 0, "AMBIGUOUS": 0}
