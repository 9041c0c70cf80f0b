"""Whole networks, ours and escnn's: equivariant as they stand, with a cost counted from first principles."""

import equiharness as eh
import pytest
import torch
from equiharness.impls.grid import networks as grid_networks
from equiharness.suites.check import check_claim, run_property

pytestmark = pytest.mark.filterwarnings("ignore")


def peers():
    pytest.importorskip("escnn")
    from equiharness.impls.peers import escnn_networks

    return [escnn_networks.WideResNet(), escnn_networks.UNet()]


@pytest.mark.parametrize("network", [grid_networks.WideResNet(), grid_networks.UNet()], ids=lambda n: n.name)
@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.deep)])
def test_our_networks_hold(network, dtype):
    every = list(network.cases())
    for case in every if dtype == "float64" else every[:1]:
        result = check_claim(network.build(case, device="cpu", dtype=dtype, seed=1))
        assert result.verdict is eh.Verdict.EXACT, result


def test_escnns_networks_hold_and_keep_their_bases_in_single_precision():
    for network in peers():
        case = next(iter(network.cases()))
        for dtype, code in (("float32", "EXACT"), ("float64", "CONSTANTS_IN_SINGLE")):
            claim = network.build(case, device="cpu", dtype=dtype, seed=1)
            assert run_property("equivariance", claim).result.reason.code == code


def test_escnns_network_without_the_fibre_permutation_is_broken():
    claim = peers()[1].build(next(iter(peers()[1].cases())), device="cpu", dtype="float32", seed=1)
    field = claim.target

    def alone(g, y):
        return field.move_points_alone(g, y)

    result = eh.check(claim.function, claim.group, claim.source, act_out=alone)
    assert result.verdict is eh.Verdict.BROKEN


def test_the_cost_of_a_network_is_that_of_its_convolutions():
    made = torch.nn.Conv2d(2, 3, 3, padding=1, bias=False)
    cost = grid_networks.count(made, torch.zeros(1, 2, 5, 5))
    assert cost.flops == 2 * 2 * 3 * 9 * 25
    assert cost.bytes == 4 * (2 * 3 * 9 + 2 * 25 + 3 * 25)


@pytest.mark.parametrize("count", [1, pytest.param(None, marks=pytest.mark.deep)], ids=["first case", "every case"])
def test_every_network_says_its_cost(count):
    for network in [grid_networks.WideResNet(), grid_networks.UNet(), *peers()]:
        for case in list(network.cases())[:count]:
            assert network.cost(case).flops > 1e4
