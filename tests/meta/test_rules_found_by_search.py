"""Rules that the search and the sound set found wanting, each with what it must still catch."""

import equiharness as eh
import pytest
import torch
import torch.nn.functional as F
from equiharness.harness.claim.claim import Claim
from equiharness.harness.fields.field import Acted
from equiharness.suites.check import run_property

PLANE = eh.Field(eh.Grid(4, 4), "C4", "2*trivial")
D4 = eh.Field(eh.Grid(4, 4), "D4", "regular")


def tied(count, generator):
    return torch.randint(0, 5, (count, 2, 4, 4), generator=generator).double()


def judged(prop, function, inputs=tied, source=PLANE):
    result = run_property(prop, Claim(function, source.group, source, source, inputs=inputs)).result
    return result.verdict.value, result.reason.code


def test_a_maximum_has_no_gradient_at_ties_and_a_wrong_backward_is_broken_there_too():
    def pooled(x):
        return F.max_pool2d(x, 3, 1, 1)

    assert judged("adjoint", pooled) == ("AMBIGUOUS", "TIE")
    assert judged("adjoint", pooled, inputs=None) == ("EXACT", "EXACT")
    assert judged("adjoint", lambda x: pooled(x) * torch.linspace(1, 1.1, 4).to(x)) == ("BROKEN", "ERROR")


@pytest.mark.parametrize("largest", range(4))
def test_one_sample_that_is_symmetric_by_itself_does_not_make_a_check_vacuous(largest):
    def inputs(count, generator):
        x = 0.1 * torch.randn(count, 2, 4, 4, generator=generator, dtype=torch.float64)
        x[largest] = 100.0
        return x

    assert judged("equivariance", torch.tanh, inputs) == ("EXACT", "EXACT")
    everywhere = torch.ones(4, 2, 4, 4, dtype=torch.float64) * torch.arange(4.0).reshape(4, 1, 1, 1)
    assert judged("equivariance", torch.tanh, lambda count, generator: everywhere) == ("VACUOUS", "VACUOUS")


def test_relu_on_impulses_of_a_sphere_is_not_taken_for_affine():
    sphere = eh.Field(eh.Sphere(4), "SO3", "2*trivial")

    def impulses(count, generator):
        x = torch.zeros(sphere.tensor_shape(count), dtype=torch.float64)
        for sample in range(count):
            x[sample, 0, (2 * sample + 1) % 8, sample % 8] = 1.0
        return x

    assert judged("equivariance", torch.relu, impulses, sphere) == ("SKIPPED", "ALIASES")


@pytest.mark.parametrize("sound", [True, False])
def test_a_target_action_given_as_a_function_is_judged_by_homomorphism(sound):
    act = D4.act if sound else (lambda g, y: D4.act(g, y) * (1 if g.is_identity else 1.001))
    x = torch.randn(4, 8, 4, 4, dtype=torch.float64)
    claim = Claim(torch.relu, "D4", Acted(D4.act), Acted(act), inputs=lambda count, generator: x[:count])
    result = run_property("homomorphism", claim).result
    assert (result.verdict is eh.Verdict.EXACT) == sound


def test_a_claim_may_name_its_elements():
    of = eh.group("C4")
    [half_turn] = [g for g in of if not g.is_identity and of.compose(g, g).is_identity]
    plane = eh.Field(eh.Grid(4, 4), "C4", "2*trivial")

    def half_turn_only(x):
        return x + 0.1 * x.flip(-1)  # a half turn and a mirror commute

    only = Claim(half_turn_only, of, plane, plane, elements=(half_turn,))
    assert run_property("equivariance", only).result.verdict is eh.Verdict.EXACT
    assert {e.element for e in run_property("equivariance", only).result.elements} == {half_turn.name}
