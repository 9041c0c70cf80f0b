"""Strategies: elements shrink towards the identity, configurations to their first values; inputs are what they say."""

import equiharness as eh
import pytest
import torch
from equiharness.adapters import Case, Implementation
from equiharness.harness.claim.claim import Claim
from equiharness.harness.claim.inputs import KINDS, structured
from equiharness.harness.errors import UsageError
from equiharness.harness.search.strategies import cases, configurations, elements, listed, profile, trials
from equiharness.harness.search.trial import DrawnElement
from equiharness.impls.configurations import aligned
from hypothesis import Phase, find, given, settings

GROUPS = ("C4", "D4", "C8", "D6", "O", "Oh", "SO2", "O2", "SO3", "O3")


@pytest.mark.parametrize("name", GROUPS)
def test_elements_belong_to_their_group_and_shrink_to_the_identity(name):
    of = eh.group(name)

    @profile("ci")
    @given(elements(of))
    def belong(g):
        assert of.element(g.matrix).is_orthogonal

    belong()
    assert find(elements(of), lambda g: True).is_identity


@pytest.mark.parametrize("name", GROUPS)
def test_elements_that_are_not_the_identity_shrink_to_the_smallest_rotation(name):
    of = eh.group(name)
    g = find(elements(of), lambda g: not g.is_identity)
    smallest = min((of.identity.angle_to(h) for h in of if not h.is_identity), default=0) if of.order else 0
    assert g.is_proper
    assert of.identity.angle_to(g) == pytest.approx(smallest, abs=2e-3)


def test_reflections_are_drawn_where_there_are_any():
    drawn = settings(phases=[Phase.generate], database=None)  # the first: nobody asks for the smallest
    for name in ("O3", "D4"):
        assert not find(elements(eh.group(name)), lambda g: not g.is_proper, settings=drawn).is_proper


def test_an_element_may_be_required_to_keep_the_grid():
    of = eh.group("SO3")
    assert DrawnElement(steps=7).of(of, lambda g: g.is_signed_permutation).is_signed_permutation
    with pytest.raises(UsageError, match="no element"):
        DrawnElement().of(of, lambda g: False)


def test_configurations_shrink_to_their_first_values():
    made = cases(group=("D4", "C4"), size=range(3, 9), padding=lambda drawn: range(drawn["size"]), mode="same")
    assert dict(find(made, lambda case: True).parameters) == {"group": "D4", "size": 3, "padding": 0, "mode": "same"}


def test_strides_are_drawn_on_boxes_that_they_keep_centred():
    strided = {"group": "C4", "kernel": 3, "stride": 2, "padding": 0}
    assert aligned(strided) == [3, 5, 7, 9, 11]
    assert aligned({**strided, "padding": 1, "stride": 3}) == [1, 4, 7, 10]


def test_refused_configurations_are_never_drawn():
    made = cases(lambda case: case["size"] % 2 == 0, size=range(1, 9), few=lambda drawn: [1] * (drawn["size"] > 3))
    assert dict(find(made, lambda case: True).parameters) == {"size": 4, "few": 1}


def test_an_adapter_that_says_no_more_has_its_fixed_cases():
    fixed = [Case.of(size=3), Case.of(size=5)]
    assert find(listed(fixed), lambda case: True) == fixed[0]
    adapter = type("Fixed", (Implementation,), {"cases": lambda self: fixed})()
    assert adapter.strategy() is None
    assert find(configurations(adapter), bool) == fixed[0]


def test_the_ci_profile_is_derandomised_and_none_keeps_a_database():
    assert profile("ci").derandomize
    assert not profile("nightly").derandomize
    assert profile("ci").max_examples < profile("search").max_examples < profile("nightly").max_examples
    for name in ("ci", "nightly", "search"):
        assert profile(name).deadline is None
        assert profile(name).database is None
    with pytest.raises(UsageError, match="nightly"):
        profile("nihgtly")


FIELDS = {
    "plane": eh.Field(eh.Grid(4, 5), "C4", "2*trivial"),
    "regular": eh.Field(eh.Grid(4, 4), "D4", "2*regular", split=True),
    "space": eh.Field(eh.Grid(3, 3, 2), "O", "standard"),
    "points": eh.Field(eh.Points(4), "SO3", "standard"),
    "vector": eh.Field(eh.Vector(), "SO3", "2*standard"),
    "sphere": eh.Field(eh.Sphere(3), "SO3"),
}


def drawn(kind, field):
    return structured(Claim(torch.relu, field.group, field, field), kind)(4, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("kind", KINDS)
def test_inputs_of_every_kind_fit_every_field_and_differ_between_samples(kind, name):
    x = drawn(kind, FIELDS[name])
    assert x.shape == FIELDS[name].tensor_shape(4)
    assert x.isfinite().all()
    assert all(not torch.equal(x[0], other) for other in x[1:])


def test_inputs_are_what_they_are_called():
    plane = FIELDS["plane"]
    assert ((drawn("impulse", plane) != 0).flatten(1).sum(1) == 1).all()
    assert ((drawn("one channel", plane) != 0).flatten(2).any(2).sum(1) == 1).all()
    constant, board = drawn("constant", plane), drawn("checkerboard", plane)
    assert torch.equal(constant, constant[..., :1, :1].expand_as(constant))
    assert torch.allclose(board[..., 1:], -board[..., :-1])
    assert torch.allclose(board[..., 1:, :], -board[..., :-1, :])
    wide = drawn("wide range", FIELDS["regular"]).abs()
    assert wide.amax() / wide.median() > 1e3


def test_band_limited_signals_are_sums_of_three_cosines_along_each_axis():
    x = drawn("band-limited", eh.Field(eh.Grid(9, 9), "C4", "trivial"))
    assert torch.linalg.matrix_rank(x[0, 0], rtol=1e-9) == 3
    assert x.square().mean() > 1e-3


def test_a_claim_with_inputs_of_its_own_keeps_them():
    plane = FIELDS["plane"]
    claim = Claim(
        torch.relu, "C4", plane, plane, inputs=lambda count, generator: torch.zeros(plane.tensor_shape(count))
    )
    assert structured(claim, "impulse") is None


def test_leaves_that_are_no_fields_stay_as_they_are_drawn():
    source = {"x": FIELDS["points"], "z": eh.Invariant(at=eh.Points(4), integers=3)}
    made = structured(Claim(lambda x, z: x, "SO3", source, FIELDS["points"]), "impulse")
    x = made(4, torch.Generator().manual_seed(0))
    assert not x["z"].is_floating_point()
    assert ((x["x"] != 0).flatten(1).sum(1) == 1).all()


#: Parameters that only some of an adapter's fixed cases have.
OPTIONAL = {"cutoff", "alias", "backend", "padding_mode"}


@pytest.mark.parametrize("adapter", eh.implementations(), ids=lambda a: a.name)
def test_every_implementation_draws_configurations_with_the_parameters_it_reads(adapter):
    first = settings(phases=[Phase.generate], database=None, max_examples=1)  # the simplest: hypothesis begins with it
    plainest = find(trials(adapter, ("equivariance",), ("float32",)), lambda trial: True, settings=first)
    fixed = next(iter(adapter.cases()))
    assert set(plainest.case.parameters) | OPTIONAL == set(fixed.parameters) | OPTIONAL
    assert (plainest.inputs, plainest.dtype) == ("impulse", "float32")
