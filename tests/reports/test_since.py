from __future__ import annotations

import pytest
from equiharness.harness.errors import RecordError
from equiharness.harness.records.lines import CheckLine
from equiharness.harness.records.writing import RecordWriter
from equiharness.harness.verdict.result import Verdict
from equiharness.reports.since import Past, When, key_of, onsets, read_past


def test_a_fault_is_as_old_as_the_first_run_in_a_row_that_has_it(make):
    check = make.check(Verdict.BROKEN)
    key = key_of(check)
    days = [(1, True), (2, False), (3, True), (4, None), (5, True)]  # failed, held, failed, not checked, failed
    pasts = [Past(When(f"2025-12-0{d}", f"c{d}"), {} if f is None else {key: f}) for d, f in days]
    found = onsets(make.run(check), reversed(pasts))[key]
    assert (found.first.commit, found.held.commit) == ("c3", "c2")


def test_a_fault_that_was_never_checked_before_is_new_and_one_that_never_held_has_no_beginning(make):
    old, new, sound = make.check(Verdict.BROKEN, case="old"), make.check(Verdict.BROKEN, case="new"), make.check()
    found = onsets(make.run(old, new, sound), [Past(When("2025-12-01", "c"), {key_of(old): True})])
    assert found[key_of(old)].text == "2025-12-01, c (or before: no record in which it held)"
    assert found[key_of(new)].before == "first checked in this run"
    assert key_of(sound) not in found


def written(path, make, *checks):
    header = make.run().header.model_copy(update={"environment": {"git": {"commit": "abc"}}})
    writer = RecordWriter(path, header)
    for check in checks:
        writer.write(CheckLine(result=check))
    writer.close()
    return path


def test_a_record_is_read_as_the_report_judges_it(tmp_path, make):
    checks = {
        "broken": (make.check(Verdict.BROKEN, case="broken"), True),
        "declared": (make.check(Verdict.BROKEN, case="declared", expected="x", expected_verdict=Verdict.BROKEN), False),
        "gone": (make.check(Verdict.EXACT, case="gone", expected="x", expected_verdict=Verdict.BROKEN), True),
        "warned": (make.check(Verdict.IMPRECISE, case="warned"), False),
        "unsure": (make.check(Verdict.AMBIGUOUS, case="unsure"), True),
    }
    skipped = make.check(Verdict.SKIPPED, case="skipped")
    past = read_past(written(tmp_path / "run.jsonl", make, *(c for c, _ in checks.values()), skipped))
    assert past.when == When("2026-01-01", "abc")
    assert past.fails == {key_of(check): fails for check, fails in checks.values()}
    assert all(check.fails == fails for check, fails in checks.values())


def test_a_cut_line_is_left_out_and_a_damaged_one_refused(tmp_path, make):
    path = written(tmp_path / "run.jsonl", make, make.check(case="a"), make.check(case="b"))
    whole = path.read_text()
    path.write_text(whole[:-40])
    assert len(read_past(path).fails) == 1
    path.write_text(whole.replace('{"kind":"check"', "garbage", 1))
    with pytest.raises(RecordError, match="line 2"):
        read_past(path)
    with pytest.raises(RecordError, match="There is no record"):
        read_past(tmp_path / "none.jsonl")
