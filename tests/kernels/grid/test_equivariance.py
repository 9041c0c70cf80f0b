"""f(L_u x) = L_u f(x) for every element u, on non-cubic boxes."""

import pytest
import torch
from equiharness.kernels import GlobalPool, GroupConv, GroupPool, LiftingConv

BOXES = {"C4": (5, 7), "D4": (6, 4), "O": (3, 5, 4), "C4 about axis 0": (3, 4, 5), "transposition": (5, 4)}
DOUBLE = {"dtype": torch.float64}


def assert_commutes(grid, layer, name, x, source, target):
    E = grid.MATRICES[name]
    y = layer(x)
    for m in E:
        torch.testing.assert_close(layer(grid.act(x, m, source, E)), grid.act(y, m, target, E), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", BOXES)
@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("mode", ["zeros", "circular"])
def test_lifting_and_regular_commute_with_the_group(grid, name, k, mode):
    group, order = grid.as_argument(name), len(grid.MATRICES[name])
    lift = LiftingConv(group, 2, 2, k, padding=1, padding_mode=mode, **DOUBLE)
    conv = GroupConv(group, 2, 1, k, padding=1, padding_mode=mode, **DOUBLE)
    assert_commutes(grid, lift, name, torch.randn(1, 2, *BOXES[name], **DOUBLE), "trivial", "regular")
    assert_commutes(grid, conv, name, torch.randn(1, 2, order, *BOXES[name], **DOUBLE), "regular", "regular")


@pytest.mark.parametrize("name", BOXES)
@pytest.mark.parametrize("mode", ["max", "mean"])
def test_group_pool_commutes_and_global_pool_is_invariant(grid, name, mode):
    group, E = grid.as_argument(name), grid.MATRICES[name]
    x = torch.randn(2, 3, len(E), *BOXES[name], **DOUBLE)
    assert_commutes(grid, GroupPool(group, mode), name, x, "regular", "trivial")
    pool = GlobalPool(group, mode)
    for m in E:
        torch.testing.assert_close(pool(grid.act(x, m, "regular", E)), pool(x), rtol=0, atol=1e-14)


def test_max_pool_shares_the_gradient_among_ties(grid):
    x = torch.ones(1, 1, 4, 3, 3, requires_grad=True)
    GroupPool("C4")(x).sum().backward()
    assert torch.equal(x.grad, torch.full_like(x, 0.25))
