"""The summary of a session: the worst first, all that fails, a few of what holds."""

from equiharness.harness.verdict.codes import Code
from equiharness.harness.verdict.result import CheckResult, Reason, Verdict
from equiharness.reports.terminal import SHOWN, summary


def result(verdict, error=1e-8, **fields):
    made = {
        "property": "equivariance",
        "verdict": Verdict(verdict),
        "reason": Reason(code=Code.read(verdict), message=""),
    }
    return CheckResult(**made, error=error, bound=1e-6, element="rotation by 90°", **fields)


def test_counts_and_lines_run_from_the_worst_to_the_best():
    listed = [
        ("a", result("EXACT")),
        ("b", result("BROKEN", 1.0)),
        ("c", result("BROKEN", 2.0)),
        ("d", result("EXACT", 1e-7)),
    ]
    title, lines = summary(listed)
    assert title == "equiharness: 4 checks, 2 BROKEN, 2 EXACT"
    assert [line.split()[3].rstrip(":") for line in lines] == ["c", "b", "d", "a"]
    assert "rotation by 90°" in lines[0]
    assert "rotation by 90°" not in lines[2]


def test_all_failures_are_shown_and_only_a_few_of_the_rest():
    failing = [(f"f{i}", result("BROKEN", 1.0)) for i in range(2 * SHOWN)]
    holding = [(f"h{i}", result("EXACT")) for i in range(3)]
    _, lines = summary([*holding, *failing])
    assert len(lines) == 2 * SHOWN + 1
    assert lines[-1] == "  ... and 3 more, none of them worse."


def test_a_declared_deviation_is_no_failure():
    declared = result("BROKEN", 1.0, expected="known", expected_verdict=Verdict.BROKEN)
    _, lines = summary([("a", declared)])
    assert "rotation" not in lines[0]


def test_what_was_skipped_has_no_line():
    title, lines = summary([("a", result("SKIPPED")), ("b", result("EXACT"))])
    assert title == "equiharness: 2 checks, 1 SKIPPED, 1 EXACT"
    assert lines == [line for line in lines if " a:" not in line]
