"""Declared deviations fail nothing as declared; passing, failing otherwise or covering nothing, they fail a run."""

import json

import equiharness as eh
import pytest
import torch
from equiharness.harness.adapters.adapter import Case, Expected, Family, Implementation
from equiharness.harness.errors import UsageError
from equiharness.harness.records.lines import CheckLine
from equiharness.harness.records.reading import read_run
from equiharness.harness.runs import checks as runner
from equiharness.harness.runs.checks import check_declarations, exit_code, plan, run_check
from equiharness.harness.verdict.result import CheckResult, Reason, Verdict, explain, worst

SUITE = "equiharness.suites.check:run_property"
REASON = "the ramp breaks every symmetry."


class Ramp(Implementation):
    """Multiplies by a ramp where the case says so; by 2 elsewhere."""

    name, library, family = "mine.Ramp", "torch", Family.PLANAR

    def __init__(self, *expected):
        self.expected = expected

    def cases(self):
        yield Case.of(group="C4", ramp=True)
        yield Case.of(group="C4", ramp=False)

    def build(self, case, *, device, dtype, seed):
        factor = torch.arange(1.0, 8.0) if case["ramp"] else torch.tensor(2.0)
        field = eh.Field(eh.Grid(7, 7), "C4", "2*trivial")
        return eh.Claim(lambda x: x * factor, "C4", field, field, dtype=getattr(torch, dtype), seed=seed)


@pytest.fixture
def run(monkeypatch):
    """Runs equivariance over both cases of an adapter that declares something."""

    def results(*expected, library="torch", properties=("equivariance",)):
        adapter = Ramp(*expected)
        adapter.library = library
        monkeypatch.setattr("equiharness.harness.adapters.registry.implementations", lambda: (adapter,))
        runner._claim.cache_clear()  # it knows claims by name, and every adapter here has the same
        check_declarations([], ("homomorphism", "equivariance"))
        checks = plan([], properties, suite=SUITE, dtypes=["float32"])
        return [run_check(check).result for check in checks]

    return results


def declared(verdict=Verdict.BROKEN, property="equivariance", reason=REASON, **when):
    return Expected(property, verdict, reason, **({"when": when} if when else {}))


def test_a_fault_that_nobody_declared_fails_the_run(run):
    assert exit_code(run()) == 1


def test_a_fault_as_declared_fails_nothing_and_says_why(run):
    results = run(declared(ramp=True))
    assert [r.label for r in results] == ["EXPECTED", "PASS"]
    assert exit_code(results) == exit_code(results, strict=True) == 0
    assert results[0].verdict is Verdict.BROKEN
    assert REASON in explain(results[0])
    assert explain(results[0]).startswith("EXPECTED  BROKEN")


def test_alternatives_are_a_tuple(run):
    assert [r.label for r in run(declared(ramp=(True, None), dtype=("float32", "bfloat16")))] == ["EXPECTED", "PASS"]
    assert exit_code(run(declared(ramp=(None, True)))) == 0
    with pytest.raises(UsageError, match="covers none"):
        run(declared(ramp=(None, "yes")))


@pytest.mark.parametrize("when", [{}, {"ramp": False}], ids=["the whole adapter", "the sound case"])
def test_a_declared_fault_that_is_not_there_fails_the_run_and_names_both_verdicts(run, when):
    _, sound = run(declared(**when))
    assert sound.verdict is Verdict.EXACT
    assert exit_code([sound]) == 1
    assert "declared BROKEN" in explain(sound)
    assert "found EXACT" in explain(sound)


def test_a_fault_of_another_kind_than_declared_fails_the_run(run):
    broken, _ = run(declared(Verdict.VACUOUS, ramp=True))
    assert broken.label == "FAIL"
    assert "declared VACUOUS" in broken.contradiction


def test_a_declaration_of_another_property_or_dtype_excuses_nothing(run):
    for known in (declared(property="homomorphism", ramp=True), declared(ramp=True, dtype="float64")):
        assert run(known)[0].label == "FAIL"


def test_a_declaration_of_the_dtype_at_hand_holds(run):
    assert run(declared(ramp=True, dtype="float*"))[0].label == "EXPECTED"


def test_a_pattern_on_the_cases_name_selects_cases(run):
    results = run(Expected("equivariance", Verdict.BROKEN, REASON, when="*ramp=True*"))
    assert [r.label for r in results] == ["EXPECTED", "PASS"]


@pytest.mark.parametrize(
    "known",
    [
        declared(ramp="yes"),
        declared(sloep=1),
        declared(property="equivarience"),
        Expected("equivariance", Verdict.BROKEN, REASON, when="*D4*"),
    ],
    ids=["no such value", "no such parameter", "no such property", "no such case"],
)
def test_a_declaration_that_covers_nothing_is_refused(run, known):
    with pytest.raises(UsageError, match=r"mine.Ramp declares BROKEN .* covers none of its checks"):
        run(known)


def test_a_missing_library_contradicts_no_declaration(run):
    results = run(declared(), library="no-such-library")
    assert {r.label for r in results} == {"SKIP"}
    assert exit_code(results) == 3


def test_a_declared_crash_is_told_from_one_that_nobody_declared(run, monkeypatch):
    monkeypatch.setattr(Ramp, "build", lambda self, case, **where: 1 / 0)
    assert [r.label for r in run(declared(Verdict.CRASHED, ramp=True))] == ["EXPECTED", "FAIL"]


def result(verdict, expected=None):
    return CheckResult(
        property="p", verdict=verdict, reason=Reason(code="", message=""), expected_verdict=expected, expected="known"
    )


def test_what_nobody_declared_outweighs_what_was():
    known, found = result(Verdict.BROKEN, Verdict.BROKEN), result(Verdict.IMPRECISE)
    assert worst([known, found]) is found
    assert worst([known, result(Verdict.EXACT)]) is known
    missing = result(Verdict.EXACT, Verdict.BROKEN)
    assert worst([known, found, missing]) is missing


def test_strictness_spares_declared_imprecision():
    known, found = result(Verdict.IMPRECISE, Verdict.IMPRECISE), result(Verdict.IMPRECISE)
    assert exit_code([known], strict=True) == 0
    assert exit_code([found], strict=True) == 1


def test_a_record_without_declarations_is_read(tmp_path, run):
    [broken, _] = run(declared(ramp=True))
    text = CheckLine(result=broken).model_dump_json()
    assert CheckLine.model_validate_json(text).result == broken
    header = '{"kind":"run","schema_version":1,"started":"","command":"","seed":0,"planned":1,"environment":{}}\n'
    old = CheckLine(result=broken).model_dump(mode="json")
    for name in ("expected", "expected_verdict"):
        del old["result"][name]
    (tmp_path / "run.jsonl").write_text(header + json.dumps(old) + "\n")
    [check] = read_run(tmp_path / "run.jsonl").checks
    assert (check.label, check.expected) == ("FAIL", "")
