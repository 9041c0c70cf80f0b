"""Who is compared with whom: every adapter that names an operator can build its case there."""

import pytest
from equiharness.harness.adapters.adapter import Cost
from equiharness.harness.adapters.operators import OPERATORS, comparisons, every_installed
from equiharness.harness.adapters.registry import find, implementations
from equiharness.harness.errors import UsageError
from equiharness.harness.timing.roofline import Ceilings, cost_of_batch


def test_ours_stands_beside_the_peers():
    [group] = comparisons(operators="group convolution C4")
    names = {e.implementation for e in group}
    assert {"equiharness.GroupConv", "torch.nn.Conv2d"} <= names


def test_every_operator_is_computed_by_someone_registered():
    for operator in OPERATORS:
        assert any(i.case_of(operator.kind, operator.parameters) is not None for i in implementations()), operator.name


def test_a_name_without_an_operator_is_timed_on_its_own_cases():
    found = comparisons(["equiharness.GroupPool"])
    assert len(found) == len(list(find("equiharness.GroupPool").cases()))
    assert all(len(group) == 1 for group in found)


def test_an_unknown_name_is_refused_with_the_closest():
    with pytest.raises(UsageError, match="GroupConv"):
        comparisons(["equiharness.GropConv"])


def test_everyone_is_there_once():
    names = [(e.operator, e.implementation) for group in every_installed() for e in group]
    assert len(names) == len(set(names))
    assert {name for _, name in names} == {i.name for i in implementations() if i.version is not None}


@pytest.mark.parametrize("name", ["equiharness.GroupConv", "equiharness.LiftingConv", "torch.nn.Conv2d"])
def test_costs_of_a_batch_read_the_weights_once(name):
    adapter = find(name)
    cost = adapter.cost(next(iter(adapter.cases())))
    assert cost_of_batch(cost, 1).bytes == cost.bytes
    assert cost_of_batch(cost, 10).bytes == pytest.approx(10 * cost.bytes - 9 * cost.call_bytes)
    assert cost.call_bytes > 0
    assert cost_of_batch(cost, 10).backward_flops == pytest.approx(10 * cost.backward_flops)


def test_the_floor_is_the_slower_of_the_two_ceilings():
    ceilings = Ceilings(bytes_per_second=10, flops_per_second=100)
    assert ceilings.floor(100, 1) == 1
    assert ceilings.floor(1, 100) == 10


def test_a_cost_without_work_has_a_floor():
    assert cost_of_batch(Cost(0, 4, 0, 8), 3).bytes == 12
