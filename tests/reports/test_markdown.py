from __future__ import annotations

from equiharness.harness.verdict.result import Reason, Verdict
from equiharness.reports.markdown import LIMIT, render_markdown
from equiharness.reports.since import Past, When, key_of


def test_what_fails_comes_before_the_matrix_and_that_before_the_environment(make):
    text = render_markdown(make.run(make.check(), make.check(Verdict.BROKEN, case="bad")))
    places = [text.index(t) for t in ("✗ FAIL", "case bad", "## Implementations", "| versions.torch | 2.8 |")]
    assert places == sorted(places)


def test_a_run_that_holds_lists_no_failures(make):
    text = render_markdown(make.run(make.check()))
    assert text.startswith("# equiharness: ✓ PASS")
    assert "attention" not in text


def test_markdown_stays_below_the_limit_and_counts_what_it_left_out(make):
    checks = [
        make.check(
            Verdict.BROKEN,
            implementation=f"{i}" + "x" * 10_000,
            case="y" * 10_000,
            reason=Reason(code="ERROR", message="z" * 10_000),
        )
        for i in range(600)
    ]
    run = make.run(*checks)
    run.header.environment.update({f"key{i}": "v" * 1000 for i in range(500)})
    text = render_markdown(run)
    assert len(text) <= LIMIT
    assert "more checks need attention" in text
    assert "more implementations" in text
    assert "## Environment" in text


def test_names_are_text_and_not_markup(make):
    name = "<img src=x>|`a`**b**@someone\nnext"
    text = render_markdown(make.run(make.check(Verdict.BROKEN, implementation=name, reproduce="```\n# boo")))
    assert "<img" not in text
    assert "@someone" not in text
    assert r"\|\`a\`\*\*b\*\*" in text
    assert "````\n```\n# boo\n````" in text


def test_runs_without_checks_or_end_render(make):
    assert "Nothing was checked" in render_markdown(make.run())
    assert "interrupted" in render_markdown(make.run(make.check(), end=False))


def test_declared_deviations_are_listed_with_their_reason_and_missing_ones_are_failures(make):
    known = make.check(Verdict.BROKEN, expected="no weight is shared.", expected_verdict=Verdict.BROKEN)
    text = render_markdown(make.run(known, known, make.check()))
    assert "- BROKEN equivariance of ours (2): no weight is shared." in text
    assert "EXPECTED BROKEN (3)" in text
    assert "attention" not in text
    gone = make.check(Verdict.EXACT, expected="no weight is shared.", expected_verdict=Verdict.BROKEN)
    assert "declared BROKEN (no weight is shared.) and found EXACT" in render_markdown(make.run(gone))


def test_what_broke_is_said_first_and_since_when(make):
    broken = make.check(Verdict.BROKEN)
    past = Past(When("2025-12-31T10:00", "abcdef"), {key_of(broken): False})
    text = render_markdown(make.run(broken), [past])
    assert "| ours | equivariance | 1 BROKEN | 2026-01-01 (held on 2025-12-31, abcdef) |" in text
    assert "| ours | equivariance | 1 BROKEN | unknown |" in render_markdown(make.run(broken))
