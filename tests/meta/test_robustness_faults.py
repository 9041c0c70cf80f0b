"""Each fault of robustness is named by its statement."""

import equiharness as eh
import pytest
from equiharness.harness.claim.claim import Claim
from equiharness.suites.check import check_claim
from equiharness.suites.usage.robustness import robustness
from zoo.robustness import PLANE, STATEMENTS, batch_mean


@pytest.mark.parametrize("fault", STATEMENTS, ids=lambda f: getattr(f, "__name__", type(f).__name__))
def test_each_fault_is_named_by_its_statement(fault):
    found = robustness(Claim(fault, "C4", PLANE, PLANE)).result
    assert (found.verdict, found.reason.code) == (eh.Verdict.BROKEN, "NOT_ROBUST")
    broken = [e.element for e in found.elements if not (e.error <= e.bound)]
    assert STATEMENTS[fault] in [*broken, found.element]


def test_an_equivariant_leak_passes_everything_but_the_batch():
    parts = check_claim(Claim(batch_mean, "C4", PLANE, PLANE)).parts
    assert {part.property for part in parts if part.verdict is not eh.Verdict.EXACT} == {"batch"}


def test_an_output_that_is_never_finite_is_said_so():
    found = robustness(Claim(lambda x: x / 0, "C4", PLANE, PLANE)).result
    assert (found.verdict, found.reason.code) == (eh.Verdict.BROKEN, "NONFINITE")
