"""Translations and renumberings are groups, and move exactly what they should."""

import equiharness as eh
import numpy as np
import pytest
import torch
from equiharness.harness.errors import UsageError
from equiharness.harness.fields.motions import Renumberings, Translations, renumbered, still, translated

X = torch.randn(2, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
GROUPS = {"translations": Translations(3, 2.0), "permutations": Renumberings(4)}
MOVED = {"translations": translated(eh.Positions(4, "O3")), "permutations": renumbered(eh.Positions(4, "O3"), 4)}


@pytest.mark.parametrize("name", GROUPS)
def test_products_inverses_and_the_identity_act_as_such(name):
    of, leaf = GROUPS[name], MOVED[name]
    g, h = of.sample(np.random.default_rng(0), 2)
    assert torch.allclose(leaf.act(g, leaf.act(h, X)), leaf.act(of.compose(g, h), X), atol=1e-14)
    assert torch.allclose(leaf.act(of.inverse(g), leaf.act(g, X)), X, atol=1e-14)
    assert torch.equal(leaf.act(of.identity, X), X)
    assert of.identity.is_identity
    assert not g.is_identity


def test_a_renumbering_sends_each_point_to_its_number():
    g = Renumberings(4).permutation([2, 0, 3, 1])
    moved = MOVED["permutations"].act(g, X)
    for i, number in enumerate([2, 0, 3, 1]):
        assert torch.equal(moved[:, number], X[:, i])


def test_names_of_points_are_renamed_where_the_points_go():
    g = Renumberings(4).permutation([2, 0, 3, 1])
    edges = torch.tensor([[[0, 1], [3, 2]]])
    assert renumbered(eh.Index(4), 4).act(g, edges).tolist() == [[[2, 0], [1, 3]]]


@pytest.mark.parametrize(
    "leaf",
    [
        eh.Cell("O3"),
        eh.Invariant(),
        eh.Energy(),
        eh.Field(eh.Edges(4), "O3", "standard"),
        eh.Field(eh.Points(5), "O3", "standard"),
        eh.Invariant(at=eh.Points(5)),
        eh.Index(5),
    ],
    ids=str,
)
def test_what_does_not_run_over_the_points_is_not_renumbered(leaf):
    g = Renumberings(4).permutation([2, 0, 3, 1])
    x = torch.arange(4).reshape(1, 4)
    assert torch.equal(renumbered(leaf, 4).act(g, x), x)


@pytest.mark.parametrize("leaf", [eh.Cell("O3"), eh.Forces(4, "O3"), eh.Field(eh.Points(4), "O3", "standard")], ids=str)
def test_only_positions_are_shifted(leaf):
    shift = Translations(3, 1.0).generators[0]
    assert torch.equal(translated(leaf).act(shift, X), X)
    assert not torch.equal(translated(eh.Positions(4, "O3")).act(shift, X), X)


def test_a_leaf_held_still_is_judged_as_the_leaf_it_was():
    leaf = eh.Positions(4, "O3")
    held = still(leaf)
    assert torch.equal(held.act(None, X), X)
    assert torch.equal(held.summands(X), leaf.summands(X))
    with pytest.raises(UsageError, match="does not fit"):
        held.require_fit(X[:, :3], "The input")


def test_motions_are_sampled_and_never_listed():
    for of in GROUPS.values():
        assert of.order is None
        with pytest.raises(UsageError, match="infinite"):
            list(of)
    with pytest.raises(UsageError, match="not an element of the permutations"):
        GROUPS["permutations"].element(np.eye(3))
    assert Renumberings(1).generators == ()
