"""f(L_u x) = L_u f(x) for every element u, on non-cubic boxes, and the check notices a layer that is wrong."""

import pytest
import torch
from equiharness.kernels import (
    GlobalPool,
    GroupConv,
    GroupPool,
    LiftingConv,
    SeparableGroupConv,
    VectorLift,
    VectorProjection,
)
from hypothesis import assume, given, settings
from hypothesis import strategies as st

BOXES = {"C4": (5, 7), "D4": (6, 4), "O": (3, 5, 4), "C4 about axis 0": (3, 4, 5), "transposition": (5, 4)}
DOUBLE = {"dtype": torch.float64}

# Layer, its further arguments, fibres of source and target.
LAYERS = {
    "lifting": (LiftingConv, {}, "trivial", "regular"),
    "regular": (GroupConv, {}, "regular", "regular"),
    "vector lift": (VectorLift, {}, "vector", "regular"),
    "vector projection": (VectorProjection, {}, "regular", "vector"),
    "pointwise first": (SeparableGroupConv, {"variant": "pointwise_first"}, "regular", "regular"),
    "depthwise first": (SeparableGroupConv, {"variant": "depthwise_first"}, "regular", "regular"),
    "per pair": (SeparableGroupConv, {"variant": "per_pair"}, "regular", "regular"),
}


def source(fibre, E, box, channels=2):
    between = {"trivial": (), "regular": (len(E),), "vector": (len(E[0]),)}[fibre]
    return torch.randn(1, channels, *between, *box, **DOUBLE)


def worst_error(grid, layer, E, x, fibre, target):
    """max over elements and entries of |f(L_u x) - L_u f(x)|."""
    y = layer(x)
    return max((layer(grid.act(x, m, fibre, E)) - grid.act(y, m, target, E)).abs().max().item() for m in E)


@pytest.mark.parametrize("name", BOXES)
@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("kind", LAYERS)
def test_every_convolution_commutes_with_the_group(grid, kind, name, k):
    Layer, options, fibre, target = LAYERS[kind]
    E = grid.MATRICES[name]
    layer = Layer(grid.as_argument(name), 2, 1, k, padding=1, **options, **DOUBLE)
    assert worst_error(grid, layer, E, source(fibre, E, BOXES[name]), fibre, target) < 1e-13


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(sorted(LAYERS)),
    name=st.sampled_from(["C2", "C4", "D4", "transposition"]),
    box=st.tuples(st.integers(2, 7), st.integers(2, 7)),
    k=st.integers(1, 4),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    mode=st.sampled_from(["zeros", "circular"]),
)
def test_every_accepted_geometry_commutes(grid, kind, name, box, k, stride, padding, mode):
    assume(
        min(box) + 2 * padding >= k
        and (name == "transposition" or not any((n + 2 * padding - k) % stride for n in box))
    )
    Layer, options, fibre, target = LAYERS[kind]
    E = grid.MATRICES[name]
    geometry = {"stride": stride, "padding": padding, "padding_mode": mode}
    layer = Layer(grid.as_argument(name), 1, 1, k, **geometry, **options, **DOUBLE)
    assert worst_error(grid, layer, E, source(fibre, E, box, 1), fibre, target) < 1e-13


@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_with_misaligned_strides_visibly_fails_the_check(grid, kind):
    Layer, options, fibre, target = LAYERS[kind]
    E = grid.MATRICES["C4"]
    layer = Layer("C4", 2, 2, 3, stride=2, padding=1, allow_misaligned=True, **options, **DOUBLE)
    assert worst_error(grid, layer, E, source(fibre, E, (6, 8)), fibre, target) > 1e-2


@pytest.mark.parametrize("kind", ["lifting", "regular", "vector lift", "vector projection"])
def test_a_layer_whose_filters_turn_the_wrong_way_visibly_fails_the_check(grid, kind):
    Layer, options, fibre, target = LAYERS[kind]
    E = grid.MATRICES["C4"]
    layer = Layer("C4", 2, 2, 3, padding=1, **options, **DOUBLE)
    layer.table.copy_(layer.table[layer.inverse])
    assert worst_error(grid, layer, E, source(fibre, E, (5, 7)), fibre, target) > 1e-2


@pytest.mark.parametrize("name", BOXES)
@pytest.mark.parametrize("mode", ["max", "mean"])
def test_group_pool_commutes_and_global_pool_is_invariant(grid, name, mode):
    group, E = grid.as_argument(name), grid.MATRICES[name]
    x = source("regular", E, BOXES[name])
    assert worst_error(grid, GroupPool(group, mode), E, x, "regular", "trivial") < 1e-14
    pool = GlobalPool(group, mode)
    for m in E:
        torch.testing.assert_close(pool(grid.act(x, m, "regular", E)), pool(x), rtol=0, atol=1e-14)


@pytest.mark.parametrize(("Pool", "shared"), [(GroupPool, 4), (GlobalPool, 36)])
def test_max_pool_shares_the_gradient_among_ties(Pool, shared):
    x = torch.ones(1, 1, 4, 3, 3, requires_grad=True)
    Pool("C4")(x).sum().backward()
    torch.testing.assert_close(x.grad, torch.full_like(x, 1 / shared))


def test_a_small_network_is_invariant_and_its_input_gradient_turns_with_the_input(grid):
    network = torch.nn.Sequential(
        LiftingConv("O", 1, 2, 3, padding=1, **DOUBLE),
        torch.nn.ReLU(),
        SeparableGroupConv("O", 2, 2, 2, stride=2, **DOUBLE),
        torch.nn.ReLU(),
        GroupConv("O", 2, 2, 2, **DOUBLE),
        GlobalPool("O", "mean"),
    )
    E, x = grid.MATRICES["O"], torch.randn(1, 1, 6, 4, 6, **DOUBLE, requires_grad=True)

    def gradient(x):
        x = x.detach().requires_grad_()
        return torch.autograd.grad(network(x).sin().sum(), x)[0]

    for m in E[::5]:
        moved = grid.act(x, m, "trivial", E)
        torch.testing.assert_close(network(moved), network(x), rtol=0, atol=1e-13)
        torch.testing.assert_close(gradient(moved), grid.act(gradient(x), m, "trivial", E), rtol=0, atol=1e-13)
