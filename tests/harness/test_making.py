"""One way from a case to an outcome: runs and searches answer alike."""

import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
from equiharness.harness.adapters import registry
from equiharness.harness.adapters.adapter import Case, Implementation
from equiharness.harness.errors import MissingDependencyError
from equiharness.harness.runs.checks import _claim, run_check
from equiharness.harness.runs.plan import Check
from equiharness.harness.search.trial import Trial, run_trial
from equiharness.suites.properties import SUITE

ERRORS = {"missing": MissingDependencyError("no such library"), "crash": ValueError("wrong size")}


class Slow(Implementation):
    """An adapter whose claims take a tenth of a second to build, or cannot be built."""

    name, family, library = "slow.Layer", "planar", "torch"

    def cases(self):
        return [Case.of(kind=kind) for kind in ("sound", *ERRORS)]

    def build(self, case, *, device, dtype, seed):
        import torch
        from equiharness import Claim, Field, Grid

        time.sleep(0.1)
        if case["kind"] in ERRORS:
            raise ERRORS[case["kind"]]
        field = Field(Grid(5, 5), "C4", "trivial")
        return Claim(torch.relu, "C4", field, field, dtype=getattr(torch, dtype), seed=seed)


@pytest.fixture
def adapter(monkeypatch):
    made = Slow()
    monkeypatch.setattr(registry, "find", lambda name: made)
    _claim.cache_clear()
    yield made
    _claim.cache_clear()


def check(adapter, kind):
    return Check(adapter.name, Case.of(kind=kind), "equivariance", "float64", suite=SUITE)


@pytest.mark.parametrize(("kind", "code"), [("missing", "NOT_INSTALLED"), ("crash", "CRASHED"), ("sound", "EXACT")])
def test_a_run_and_a_search_answer_alike(adapter, kind, code):
    run = run_check(check(adapter, kind)).result
    found = run_trial(adapter, Trial(adapter.name, Case.of(kind=kind), dtype="float64"), SUITE)
    assert run.reason.code == found.reason.code == code
    assert (run.verdict, run.implementation, run.case, run.seed) == (
        found.verdict,
        found.implementation,
        found.case,
        found.seed,
    )


def test_the_time_of_building_is_recorded_once_and_apart_from_the_check(adapter):
    first, second = (run_check(check(adapter, "sound")).result for _ in range(2))
    assert first.seconds_building >= 0.1 > second.seconds_building
    assert run_check(check(adapter, "crash")).result.seconds_building >= 0.1


def test_an_error_stays_in_the_process_that_made_the_check(adapter):
    asked = replace(check(adapter, "sound"), suite="tests.harness.test_making:raising")
    assert run_check(asked).error is None


def raising(name, claim):
    from equiharness.harness.claim.outcome import Outcome, describe
    from equiharness.harness.verdict.result import Code, Reason, Verdict

    made = describe(claim, name, Verdict.CRASHED, Reason(code=Code.CRASHED, message="it raised"))
    return Outcome(made, None, SimpleNamespace())
