from __future__ import annotations

from equiharness.harness.verdict.codes import Code
from equiharness.harness.verdict.result import Reason, Verdict
from equiharness.reports.annotations import SHOWN, render_annotations


def test_failures_are_errors_and_come_before_warnings(make):
    checks = (make.check(Verdict.IMPRECISE, property="a"), make.check(Verdict.BROKEN, property="b"), make.check())
    first, second = render_annotations(make.run(*checks)).splitlines()
    assert first.startswith("::error title=FAIL BROKEN%3A b of ours::1 check. BROKEN: because of BROKEN%0Aerror 1e-15")
    assert second.startswith("::warning title=WARN IMPRECISE%3A a of ours::")


def test_a_run_that_holds_marks_nothing(make):
    assert render_annotations(make.run(make.check())) == ""


def test_a_name_cannot_begin_a_command_of_its_own(make):
    name = "x\n::error::%0A, a:b\r\n::add-mask::y"
    text = render_annotations(
        make.run(make.check(Verdict.BROKEN, property=name, reason=Reason(code=Code.read(name), message=name)))
    )
    [line] = text.splitlines()
    assert "x%0A%3A%3Aerror%3A%3A%250A%2C a%3Ab%0D%0A" in line


def test_what_github_would_drop_is_counted(make):
    text = render_annotations(make.run(*(make.check(Verdict.BROKEN, property=f"p{i}") for i in range(40))))
    assert text.count("::error") == SHOWN
    assert f"{40 - SHOWN + 1} more" in text.splitlines()[-1]
