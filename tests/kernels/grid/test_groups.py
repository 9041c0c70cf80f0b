"""The tables: order, products, inverses, what a layer accepts as a group, and what it refuses."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from equiharness import group
from equiharness.kernels import GridGroup, GroupConv, LiftingConv
from equiharness.kernels.grid.groups import grid_group
from equiharness.kernels.steerable.groups import PlanarGroup

NAMED = [("C1", 1), ("C2", 2), ("C4", 4), ("D1", 2), ("D2", 4), ("D4", 8), ("O", 24), ("Oh", 48)]


@pytest.mark.parametrize(("name", "order"), NAMED)
def test_named_groups_have_the_binding_order_and_exact_tables(grid, name, order):
    group, dim = grid_group(name), 3 if name in ("O", "Oh") else 2
    E = group.elements
    assert (group.order, group.dim, len(group), E.dtype) == (order, dim, order, np.int64)
    assert np.array_equal(E[0], np.eye(dim))
    for i in range(order):
        assert np.array_equal(E[i] @ E[group.inv[i]], np.eye(dim))
        for j in range(order):
            assert np.array_equal(E[group.mul[i, j]], E[i] @ E[j])
    if dim == 3:
        everything = [m.tolist() for m in grid.signed_permutations(dim)]
        positions = [everything.index(m.tolist()) for m in E]
        assert positions == sorted(positions)
    if name in grid.MATRICES:
        assert np.array_equal(E, grid.MATRICES[name])


def test_c4_counts_quarter_turns_of_rot90(grid):
    image = np.arange(15.0).reshape(3, 5)
    for turns, m in enumerate(grid_group("C4").elements):
        assert np.array_equal(grid.move(image, m), np.rot90(image, turns))


@pytest.mark.parametrize(("name", "quarters"), [("D1", [0]), ("D2", [0, 2]), ("D4", [0, 1, 2, 3])])
def test_dihedral_groups_count_rotations_and_then_the_same_after_the_flip_of_the_last_axis(grid, name, quarters):
    image, n = np.arange(15.0).reshape(3, 5), len(quarters)
    for k, m in enumerate(grid_group(name).elements):
        flipped = image[:, ::-1] if k >= n else image
        assert np.array_equal(grid.move(image, m), np.rot90(flipped, quarters[k % n]))


def test_a_lifting_layer_and_a_stack_of_rotated_filters_agree_without_a_permutation():
    layer = LiftingConv("C4", 2, 3, 3, padding=1, bias=False, dtype=torch.float64)
    x = torch.randn(2, 2, 7, 6, dtype=torch.float64)
    stack = [torch.nn.functional.conv2d(x, torch.rot90(layer.weight, k, (-2, -1)), padding=1) for k in range(4)]
    torch.testing.assert_close(layer(x), torch.stack(stack, 2), rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", [*(n for n, _ in NAMED), "C3", "C6", "D3"])
def test_the_harness_lists_the_elements_in_the_same_order(name):
    listed = group(name).elements
    mine = (PlanarGroup(name) if name[1:] in ("3", "6") else grid_group(name)).elements
    assert np.abs(listed - mine).max() < 1e-15


def test_rotation_by_an_angle_is_cosine_minus_sine_in_array_axis_order():
    quarter = [[0, -1], [1, 0]]  # cos, -sin; sin, cos at 90 degrees
    assert quarter in grid_group("C4").elements.tolist()


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.float32, np.float64])
def test_a_group_may_be_any_array_or_any_object_with_elements(dtype):
    class Foreign:
        name = "mine"
        angles = (0.0, math.pi)
        elements = np.array([[[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]] for a in angles])

    array = Foreign.elements.round().astype(dtype)
    for given in (Foreign(), array, array.tolist(), torch.tensor(array)):
        assert LiftingConv(given, 1, 1, 3).group == grid_group("C2")
    assert grid_group(Foreign()).name == "mine"


def test_the_identity_is_moved_to_the_front_and_the_others_keep_their_order(grid):
    E = grid.MATRICES["D4"]
    given = [E[3], E[0], *E[4:], E[1], E[2]]
    assert np.array_equal(GridGroup(given).elements, [E[0], E[3], *E[4:], E[1], E[2]])


@pytest.mark.parametrize(
    ("elements", "advice"),
    [
        ("C8", "known are C1, C2, C4, D1, D2, D4, O, Oh"),
        ([[[1, 0], [0, 1]], [[0, 1], [-1, 0]]], "is missing; add every product"),
        ([[[-1, 0], [0, -1]]], "identity matrix is missing"),
        ([[[1, 0], [0, 1]]] * 2, "repeated"),
        ([[[1, 0], [0, 1]], [[1, 1], [0, 1]]], "element 1 is no signed permutation"),
        ([[[1, 0], [0, 1]], [[0.7, -0.7], [0.7, 0.7]]], "C4 instead of C8"),
        ([[[1]]], "d = 2 or 3"),
        (np.eye(3), "d = 2 or 3"),
    ],
)
def test_what_is_no_grid_group_is_refused_with_advice(elements, advice):
    with pytest.raises(ValueError, match=advice):
        GroupConv(elements, 1, 1, 3)


def test_importing_the_room_loads_no_torch():
    code = "import sys, equiharness.kernels as k; assert 'torch' not in sys.modules; assert 'GroupConv' in dir(k)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_name_says_what_there_is():
    import equiharness.kernels as kernels

    with pytest.raises(AttributeError, match="GroupConv"):
        _ = kernels.NoSuchLayer
