"""The adapter of the project's own layers: every case builds a claim that holds, and layers carry their types."""

import equiharness as eh
import pytest
import torch
from equiharness.harness.registry import find
from equiharness.kernels import GroupConv, GroupPool, LiftingConv
from equiharness.suites.equivariance import equivariance

NAMES = ["equiharness.LiftingConv", "equiharness.GroupConv", "equiharness.GroupPool", "equiharness.GlobalPool"]


@pytest.mark.parametrize("name", NAMES)
def test_planar_cases_are_exact_in_both_precisions(name):
    adapter = find(name)
    for case in adapter.cases():
        if case["group"] == "C4":
            for dtype in ("float32", "float64"):
                claim = adapter.build(case, device="cpu", dtype=dtype, seed=3)
                assert equivariance(claim).result.verdict is eh.Verdict.EXACT, (case, dtype)


@pytest.mark.parametrize("name", NAMES)
def test_cost_counts_more_backward_than_forward(name):
    adapter = find(name)
    for case in adapter.cases():
        cost = adapter.cost(case)
        assert 0 < cost.flops < cost.backward_flops
        assert 0 < cost.bytes < cost.backward_bytes


def test_the_flops_of_a_lifting_layer_are_those_of_the_dense_convolution():
    case = eh.Case.of(group="C4", size=9, kernel=3, stride=1, padding=0, fields_in=2, fields_out=5)
    assert find("equiharness.LiftingConv").cost(case).flops == 2 * 2 * (5 * 4) * 9 * 7 * 7


def test_the_same_seed_builds_the_same_layer():
    adapter = find("equiharness.GroupConv")
    case = next(iter(adapter.cases()))
    first, second = (adapter.build(case, device="cpu", dtype="float32", seed=5).function for _ in range(2))
    assert torch.equal(first.weight, second.weight)


@pytest.mark.parametrize("group", ["C4", "D4"])
def test_convolutions_need_no_group_and_no_field(group):
    assert eh.check(LiftingConv(group, 2, 3, 3, padding=1)).verdict is eh.Verdict.EXACT
    assert eh.check(GroupConv(group, 2, 3, 3, padding=1)).verdict is eh.Verdict.EXACT


def test_a_layer_with_one_changed_tap_is_broken_without_being_told_its_type():
    class Changed(GroupConv):
        pass

    layer = Changed("C4", 2, 2, 3, padding=1)
    field = eh.Field(eh.Grid(9, 9), "C4", "2*regular")
    bank = layer.fold()
    with torch.no_grad():
        bank.weight[0, 0, 0, 0] *= 1.01
    result = eh.check(lambda x: bank(x), "C4", field, field)
    assert result.verdict is eh.Verdict.BROKEN


def test_a_pool_that_says_nothing_is_checked_with_fields_in_the_split_layout():
    source, target = (eh.Field(eh.Grid(9, 9), "C4", f) for f in ("3*regular", "3*trivial"))
    assert eh.check(GroupPool("C4", "max"), "C4", source, target).verdict is eh.Verdict.EXACT


def test_harness_and_kernels_list_their_elements_in_one_order():
    for name in ("C1", "C2", "C4", "D1", "D2", "D4", "O", "Oh"):
        table = LiftingConv(name, 1, 1, 3).group
        assert (eh.group(name).elements == table.elements).all(), name
        assert (eh.group(name).mul == table.mul).all(), name
