"""Groups are closed, ordered as documented, sampled by Haar measure, and refuse what is none of theirs."""

import math

import numpy as np
import pytest
import torch
from equiharness.harness.errors import UsageError
from equiharness.harness.symmetry.groups import Group, group
from hypothesis import given, settings
from hypothesis import strategies as st

FINITE = {"C1": 1, "C2": 2, "C3": 3, "C4": 4, "C6": 6, "C8": 8, "D1": 2, "D2": 4, "D3": 6, "D4": 8, "D5": 10, "O": 24}
ORDERS = {**FINITE, "Oh": 48}
CONTINUOUS = ("SO2", "O2", "SO3", "O3")


@pytest.mark.parametrize(("name", "order"), ORDERS.items())
def test_order_is_the_number_of_distinct_matrices(name, order):
    of = group(name)
    distinct = {tuple(np.round(g.matrix, 6).ravel() + 0.0) for g in of}
    assert of.order == len(of) == len(distinct) == order


@pytest.mark.parametrize("name", ORDERS)
def test_identity_comes_first(name):
    of = group(name)
    assert of.identity.index == 0
    assert np.array_equal(next(iter(of)).matrix, np.eye(of.dim))


@pytest.mark.parametrize("name", ORDERS)
def test_cayley_table_is_the_product_of_matrices(name):
    of = group(name)
    for i, g in enumerate(of):
        for j, h in enumerate(of):
            product = of.element(int(of.mul[i, j])).matrix
            assert np.abs(product - g.matrix @ h.matrix).max() < 1e-12


@pytest.mark.parametrize("name", ORDERS)
def test_inverses_multiply_to_the_identity_from_both_sides(name):
    of = group(name)
    for i, g in enumerate(of):
        inverse = of.element(int(of.inv[i])).matrix
        assert np.abs(g.matrix @ inverse - np.eye(of.dim)).max() < 1e-12
        assert np.abs(inverse @ g.matrix - np.eye(of.dim)).max() < 1e-12
        assert of.inverse(g).index == of.inv[i]


def test_d4_is_not_commutative_so_a_transposed_table_would_differ():
    assert not np.array_equal(group("D4").mul, group("D4").mul.T)


def test_c4_counts_quarter_turns_of_rot90():
    x = torch.arange(9.0).reshape(1, 1, 3, 3)
    from equiharness.harness.symmetry.interpolation import permute_grid

    for turns, g in enumerate(group("C4")):
        assert torch.equal(permute_grid(g.matrix, x), torch.rot90(x, turns, (-2, -1))), g


def test_c8_counts_by_angle():
    for k, g in enumerate(group("C8")):
        t = 2 * math.pi * k / 8
        assert np.allclose(g.matrix, [[math.cos(t), -math.sin(t)], [math.sin(t), math.cos(t)]], atol=1e-15)


def test_d3_lists_rotations_and_then_the_same_rotations_after_the_reflection():
    of = group("D3")
    for k in range(3):
        assert np.allclose(of.element(3 + k).matrix, of.element(k).matrix @ np.diag([1, -1]), atol=1e-12)


@pytest.mark.parametrize(("name", "dets"), [("C8", {1}), ("O", {1}), ("D4", {1, -1}), ("Oh", {1, -1})])
def test_only_groups_with_reflections_have_negative_determinants(name, dets):
    assert {round(float(np.linalg.det(g.matrix))) for g in group(name)} == dets


@pytest.mark.parametrize("name", ["C4", "D4", "O", "Oh"])
def test_grid_groups_hold_integer_matrices(name):
    assert group(name).elements.dtype == np.int64
    assert all(g.is_signed_permutation for g in group(name))


def test_half_the_elements_of_c8_need_interpolation():
    assert [g.is_signed_permutation for g in group("C8")] == [True, False] * 4


@pytest.mark.parametrize("name", ORDERS)
def test_generators_reach_every_element(name):
    of = group(name)
    generators, reached = of.generators, {0}
    for _ in range(len(of)):
        reached |= {int(of.mul[i, g.index]) for i in reached for g in generators}
    assert reached == set(range(len(of)))


@pytest.mark.parametrize("spelling", ["c4", "C_4", " C4 "])
def test_names_are_read_generously(spelling):
    assert group(spelling).name == "C4"


@pytest.mark.parametrize("bad", ["C0", "E8", "", "C-4", "SO4", "D", "C4x"])
def test_an_unknown_name_is_refused_with_the_known_ones(bad):
    with pytest.raises(UsageError, match="Known: C<n>"):
        group(bad)


QUARTER = [[0, -1], [1, 0]]
CUSTOM_REFUSALS = {
    "not closed": ([np.eye(2), QUARTER], "not closed"),
    "repeats": ([np.eye(2), np.eye(2)], "twice"),
    "not orthogonal": ([np.eye(2), [[1, 1], [0, 1]]], "not orthogonal"),
    "NaN": ([np.eye(2), [[math.nan, 0], [0, 1]]], "not orthogonal"),
    "wrong shape": (np.eye(2), "shape"),
    "not square": (np.ones((2, 2, 3)), "shape"),
    "empty": (np.empty((0, 2, 2)), "shape"),
    "lacks the identity": ([-np.eye(2)], "not closed"),
}


@pytest.mark.parametrize("case", CUSTOM_REFUSALS)
def test_a_list_of_matrices_that_is_no_group_is_refused(case):
    matrices, message = CUSTOM_REFUSALS[case]
    with pytest.raises(UsageError, match=message):
        Group(matrices)


def test_a_custom_group_keeps_its_order_of_elements():
    of = Group([-np.eye(2), np.eye(2)])
    assert of.identity_index == 1
    assert of.mul.tolist() == [[1, 0], [0, 1]]


def test_an_element_of_another_group_is_refused():
    [eighth] = [g for g in group("C8") if str(g) == "rotation by 45°"]
    with pytest.raises(UsageError, match="take a larger group"):
        group("C4").element(eighth)
    assert eighth not in group("C4")
    assert group("C4").element(2) in group("C8")


@pytest.mark.parametrize("spec", [4, -1, "e", np.eye(3), [[1, 2]], None])
def test_what_names_no_element_of_c4_is_refused(spec):
    with pytest.raises(UsageError):
        group("C4").element(spec)


def test_the_same_matrix_is_the_same_element_whatever_group_it_came_from():
    assert group("C4").element(group("D4").element(3)).index == 3
    assert group("D4").element(group("C2").element(1)).index == 2


@pytest.mark.parametrize("name", CONTINUOUS)
def test_infinite_groups_are_not_listed(name):
    of = group(name)
    assert of.order is None
    for attempt in (lambda: list(of), lambda: len(of), lambda: of.elements):
        with pytest.raises(UsageError, match="infinite"):
            attempt()


def test_so2_refuses_a_reflection_and_o2_takes_it():
    flip = np.diag([1.0, -1.0])
    with pytest.raises(UsageError, match="reflection"):
        group("SO2").element(flip)
    assert str(group("O2").element(flip)) == "reflection across 0°"
    with pytest.raises(UsageError, match="not orthogonal"):
        group("O2").element([[2.0, 0], [0, 1]])


@pytest.mark.parametrize("name", CONTINUOUS)
def test_haar_samples_are_orthogonal_with_the_right_determinants(name):
    of = group(name)
    drawn = of.sample(np.random.default_rng(0), 400)
    for g in drawn:
        assert np.abs(g.matrix @ g.matrix.T - np.eye(of.dim)).max() < 1e-14
    share = np.mean([np.linalg.det(g.matrix) > 0 for g in drawn])
    assert share == 1 if name.startswith("S") else abs(share - 0.5) < 0.1


@pytest.mark.parametrize("name", CONTINUOUS)
def test_haar_samples_have_the_moments_of_haar_measure(name):
    """E[R] = 0 and E[R_ij^2] = 1/d; for SO(3), E[(tr R)^2] = 1 by orthogonality of characters."""
    of = group(name)
    matrices = np.stack([g.matrix for g in of.sample(np.random.default_rng(1), 2000)])
    assert np.abs(matrices.mean(0)).max() < 0.08
    assert np.abs((matrices**2).mean(0) - 1 / of.dim).max() < 0.05
    if of.dim == 3:
        assert abs((np.trace(matrices, axis1=1, axis2=2) ** 2).mean() - 1) < 0.2


def test_samples_repeat_with_their_seed():
    a, b = (group("SO3").sample(np.random.default_rng(7), 3) for _ in range(2))
    assert all(np.array_equal(g.matrix, h.matrix) for g, h in zip(a, b, strict=True))


@pytest.mark.parametrize("name", ["SO2", "O2", "SO3", "O3"])
def test_representatives_of_infinite_groups_hold_the_identity_grid_symmetries_and_generic_elements(name):
    found = group(name).representatives(np.random.default_rng(0), 4)
    assert found[0].is_identity
    assert any(g.is_signed_permutation and not g.is_identity for g in found)
    assert sum(not g.is_signed_permutation for g in found) >= 4


@settings(deadline=None, max_examples=60, database=None)
@given(data=st.data(), name=st.sampled_from(sorted(ORDERS)))
def test_composition_is_associative_and_inverts(data, name):
    of = group(name)
    a, b, c = (of.element(data.draw(st.integers(0, len(of) - 1))) for _ in range(3))
    assert of.compose(of.compose(a, b), c) is of.compose(a, of.compose(b, c))
    assert of.inverse(of.compose(a, b)) is of.compose(of.inverse(b), of.inverse(a))
    assert of.compose(a, of.inverse(a)) is of.identity


@settings(deadline=None, max_examples=30, database=None)
@given(seed=st.integers(0, 2**32 - 1), name=st.sampled_from(CONTINUOUS))
def test_products_of_samples_are_elements(seed, name):
    of = group(name)
    a, b = of.sample(np.random.default_rng(seed), 2)
    assert np.allclose(of.compose(a, b).matrix, a.matrix @ b.matrix, atol=1e-14)
    assert of.compose(a, of.inverse(a)).is_identity


def test_the_angle_between_elements_is_that_of_their_quotient():
    e, quarter, half, minus = group("C4")
    assert e.angle_to(half) == pytest.approx(math.pi)
    assert e.angle_to(quarter) == pytest.approx(math.pi / 2)
    assert quarter.angle_to(minus) == pytest.approx(math.pi)
    third = next(g for g in group("O") if str(g).startswith("rotation by 120°"))
    assert group("O").identity.angle_to(third) == pytest.approx(2 * math.pi / 3)


@pytest.mark.parametrize(
    ("small", "large", "good"), [("C2", "C4", True), ("D4", "O", False), ("C4", "O", True), ("C3", "C4", False)]
)
def test_subgroups_are_recognised(small, large, good):
    if good:
        assert len(set(group(large).subgroup(group(small)))) == len(group(small))
    else:
        with pytest.raises(UsageError, match="no element"):
            group(large).subgroup(group(small))


def test_elements_of_a_continuous_group_come_back_as_they_are():
    rotations = group("SO3")
    [g] = rotations.sample(np.random.default_rng(0), 1)
    assert rotations.element(g) is g
    assert rotations.element(g.matrix).name == g.name
    with pytest.raises(UsageError, match="reflection"):
        rotations.element(group("O3").element(-np.eye(3)))
