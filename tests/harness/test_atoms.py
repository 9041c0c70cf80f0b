"""Leaves of atomistic models: what they draw, what they refuse, how they turn."""

import equiharness as eh
import pytest
import torch
from equiharness.harness.errors import UsageError
from equiharness.harness.fields.atoms import JITTER, draw, positions_of


def generator():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize(("count", "group"), [(1, "O3"), (6, "SO3"), (27, "O3"), (5, "O2")])
def test_points_are_drawn_apart(count, group):
    x = eh.Positions(count, group, spacing=2.0).random(8, generator())
    assert x.shape == (8, count, eh.group(group).dim)
    distances = torch.cdist(x, x) + 9 * torch.eye(count)
    assert count == 1 or distances.min() >= 2 * (1 - 2 * JITTER) - 1e-12


def test_points_beside_a_cell_lie_in_it_and_meet_across_its_faces():
    tree = {"pos": eh.Positions(8, "O3"), "cell": eh.Cell("O3", edge=9.0)}
    values = draw(tree, 4, generator())
    fractions = values["pos"] @ torch.linalg.inv(values["cell"])
    assert 0 <= fractions.min() <= fractions.max() < 1
    spread = (fractions.amax(1) - fractions.amin(1)).min()
    assert spread > 0.6  # torn apart at a corner: neighbours only through periodic images
    assert draw(tree, 4, generator(), wrap=False)["pos"].abs().max() < 4


def test_rows_of_a_cell_turn_one_by_one():
    cell = eh.Cell("O3")
    x = cell.random(2, generator())
    g = eh.group("O3").element([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
    turn = torch.as_tensor(g.matrix)
    assert torch.allclose(cell.act(g, x), x @ turn.T, atol=1e-15)


def test_edges_are_drawn_once_and_without_loops():
    pairs = eh.Index(5, (2, 20)).random(3, generator())
    for sample in pairs:
        assert len({tuple(pair) for pair in sample.T.tolist()}) == 20
        assert (sample[0] != sample[1]).all()
    assert eh.Index(5, (7,)).random(3, generator()).shape == (3, 7)


def test_species_are_drawn_in_their_range():
    z = eh.Invariant(at=eh.Points(50), integers=(3, 5)).random(4, generator())
    assert z.unique().tolist() == [3, 4]
    assert eh.Invariant((2, 3)).random(4, generator()).dtype is torch.float64


@pytest.mark.parametrize(
    ("leaf", "x", "message"),
    [
        (eh.Energy(), torch.zeros(4, 3), "one number per sample"),
        (eh.Energy(), torch.tensor(1.0), "batched=False"),
        (eh.Index(3), torch.tensor([[0, 3]]), "from 0 to 2"),
        (eh.Index(3), torch.zeros(1, 2), "whole numbers"),
    ],
)
def test_what_does_not_fit_a_leaf_is_refused_with_advice(leaf, x, message):
    with pytest.raises(UsageError, match=message):
        leaf.require_fit(x, "The output")


@pytest.mark.parametrize("leaf", [eh.Invariant(), eh.Index(4)], ids=str)
def test_a_leaf_without_a_shape_asks_for_inputs(leaf):
    with pytest.raises(UsageError, match="pass inputs="):
        leaf.random(4, generator())


def test_positions_are_found_in_trees():
    tree = {"a": [eh.Invariant(), eh.Positions(3, "O3")], "b": eh.Forces(3, "O3")}
    assert [path for path, _ in positions_of(tree)] == ["a[1]"]
