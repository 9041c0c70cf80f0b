"""Trees: one structure, one order, and a message that names where two trees part."""

import pytest
from equiharness.harness.errors import UsageError
from equiharness.harness.trees import leaves, tree_map


def test_leaves_come_with_their_paths():
    assert list(leaves({"a": 1, "b": [2, {"c": (3,)}]})) == [("a", 1), ("b[0]", 2), ("b[1].c[0]", 3)]
    assert list(leaves(7)) == [("", 7)]


def test_maps_keep_the_structure():
    assert tree_map(lambda a, b: a + b, {"x": 1, "y": (2, [3])}, {"y": (20, [30]), "x": 10}) == {
        "x": 11,
        "y": (22, [33]),
    }


def test_the_second_tree_may_hold_more_keys():
    assert tree_map(lambda a, b: b, {"x": 0}, {"x": 1, "extra": 2}) == {"x": 1}


def test_keys_keep_the_order_of_the_first_tree():
    assert list(tree_map(lambda a, b: b, {"b": 0, "a": 0}, {"a": 1, "b": 2})) == ["b", "a"]


@pytest.mark.parametrize(
    ("tree", "other", "message"),
    [
        ({"x": 1}, {"y": 1}, r"keys \['x'\], found \['y'\]"),
        ({"x": 1}, 3, "found int"),
        ([1, 2], [1], "2 entries"),
        ((1,), 3, "1 entries, found int"),
    ],
)
def test_trees_of_different_structure_are_refused(tree, other, message):
    with pytest.raises(UsageError, match=message):
        tree_map(lambda a, b: a, tree, other)
