"""One tap, one entry of a Cayley table, one sign of a real layer: each is caught down to a small magnitude."""

import equiharness as eh
import pytest
from equiharness.suites.check import run_property
from zoo.generated import mutations

MUTATIONS = mutations()
LEAST = 40
#: Of a float32 claim rounding explains S kappa eps = 16 * 2^-23 = 2e-6 of the output's size, times a condition of a
#: few; one value among hundreds weighs a tenth or less of it.
FINEST = 1e-3


def test_there_are_enough_of_each_kind():
    assert len(MUTATIONS) >= LEAST
    assert {m.kind for m in MUTATIONS} == {"tap", "Cayley entry", "sign"}
    assert len({m.name for m in MUTATIONS}) == len(MUTATIONS)


#: Every second one, so that each layer keeps some; the proof and the long profile have all of them.
SOME = [
    pytest.param(mutation, id=mutation.name, marks=[pytest.mark.deep] * (number % 2))
    for number, mutation in enumerate(MUTATIONS)
]


@pytest.mark.parametrize("mutation", SOME)
def test_a_thousandth_of_a_generated_fault_is_caught(mutation):
    assert mutation.caught(FINEST)


@pytest.mark.parametrize("mutation", MUTATIONS[::4], ids=lambda m: m.name)
def test_a_generated_fault_of_magnitude_zero_is_sound(mutation):
    assert run_property(mutation.property, mutation.claim(0.0)).result.verdict is eh.Verdict.EXACT


@pytest.mark.deep
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.name)
def test_the_smallest_caught_magnitude_is_below_a_thousandth(mutation):
    smallest = mutation.smallest()
    assert smallest is not None, "the whole fault passes"
    assert smallest <= FINEST
    assert not mutation.caught(smallest / 10)
