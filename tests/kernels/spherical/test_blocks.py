"""Grids, spectra that stay spectra, residual blocks, initialisation, published weights."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from equiharness import kernels as k
from equiharness.kernels.spherical import kernelmap
from equiharness.kernels.spherical.basis import so3_basis
from equiharness.kernels.spherical.initialisation import effective_scale


def test_importing_the_kernels_loads_neither_torch_nor_numpy():
    code = "import sys, equiharness.kernels as k; assert 'S2Conv' in dir(k); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_public_name_is_there_and_others_say_so():
    assert all(getattr(k, name) is not None for name in k.__all__)
    with pytest.raises(AttributeError, match="no attribute 'S2Con'"):
        k.S2Con  # noqa: B018  # the access is the test


# Grids


def test_near_identity_points_are_rings_without_the_pole():
    points = k.s2_near_identity(max_beta=0.3, n_alpha=4, n_beta=3).points
    np.testing.assert_allclose(points[:, 0], np.repeat([0.1, 0.2, 0.3], 4))
    np.testing.assert_allclose(points[:4, 1], np.arange(4) * np.pi / 2)
    with_pole = k.s2_near_identity(include_pole=True)
    assert len(with_pole) == 25
    assert not with_pole.points[0].any()


def test_equatorial_points_are_on_the_equator():
    points = k.s2_equatorial(n_alpha=5).points
    np.testing.assert_allclose(points, np.stack([np.full(5, np.pi / 2), 2 * np.pi * np.arange(5) / 5], 1))
    gamma = k.so3_equatorial().points[:2, 2]
    np.testing.assert_allclose(gamma, [-np.pi / 8, np.pi / 8])


def distinct(grid):
    """How many different rotations: compare D^1."""
    D = k.wigner_D(1, *torch.from_numpy(grid.points[:, [1, 0, 2]].copy()).t())
    return len(np.unique(np.round(D.reshape(len(grid), -1).numpy(), 9) + 0.0, axis=0))


def test_the_compatible_so3_grid_repeats_points_and_the_default_does_not():
    assert distinct(k.so3_near_identity(compatible=True)) == 168
    assert distinct(k.so3_near_identity()) == 192


def test_the_compatible_so3_grid_has_rank_149_and_the_default_full_rank():
    ranks = []
    for compatible in (True, False):
        table = so3_basis(k.so3_near_identity(compatible=compatible).points, 8, torch.float64)
        ranks.append(int(torch.linalg.matrix_rank(table, rtol=1e-5)))
    assert ranks[0] == 149
    assert ranks[1] > ranks[0]


def test_gamma_is_measured_against_alpha_near_the_identity():
    grid = k.so3_near_identity(max_gamma=0.4, n_alpha=3, n_beta=1, n_gamma=2)
    np.testing.assert_allclose(grid.points[:, 1] + grid.points[:, 2], np.tile([-0.4, 0.4], 3), atol=1e-15)


def test_soft_grids_are_in_the_order_of_a_flattened_signal():
    b = 2
    assert len(k.so3_soft(b)) == 8 * b**3
    beta, alpha, gamma = k.so3_soft(b).points.reshape(4, 4, 4, 3)[1, 2, 3]
    assert (beta, alpha, gamma) == pytest.approx((3 * np.pi / 8, np.pi, 1.5 * np.pi))


def test_grids_are_values():
    grid = k.s2_near_identity()
    assert grid == k.KernelGrid(grid.points)
    assert hash(grid) == hash(k.KernelGrid(grid.points))
    assert grid != k.s2_equatorial()
    assert pickle.loads(pickle.dumps(grid)) == grid
    assert copy.deepcopy(grid) is grid
    with pytest.raises(ValueError, match="read-only"):
        grid.points[0, 0] = 1.0


# Layers


def chain():
    torch.manual_seed(0)
    return [
        k.S2Conv(2, 3, 4, 5, k.s2_near_identity()),
        k.SO3Conv(3, 2, 5, 3, k.so3_near_identity(n_alpha=3, n_beta=1)),
        k.SO3Shortcut(2, 2, 3, 3),
        k.SO3Shortcut(2, 4, 3, 4),
    ]


def test_staying_in_the_spectrum_is_the_same_as_leaving_it():
    layers = chain()
    model = k.SpectralSequential(*layers, torch.nn.ReLU(), k.SO3Conv(4, 1, 4, 2, [(0.1, 0.2, 0.3)])).double()
    x = torch.randn(2, 2, 8, 8, dtype=torch.float64, requires_grad=True)
    slow = x
    for layer in model:
        slow = layer(slow)
    fast = model(x)
    assert torch.allclose(fast, slow, atol=1e-13)
    parameters = [x, *model.parameters()]
    cotangent = torch.randn_like(fast)
    pairs = zip(*(torch.autograd.grad(f, parameters, cotangent) for f in (fast, slow)), strict=True)
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in pairs)


def test_layers_that_do_not_fit_together_are_refused():
    layers = chain()
    with pytest.raises(ValueError, match="layer 0 gives 3 channels of bandwidth 5"):
        k.SpectralSequential(layers[0], layers[2])
    with pytest.raises(ValueError, match="on S2"):
        k.SpectralSequential(layers[2], layers[0])


def test_the_shortcut_is_the_identity_when_nothing_changes():
    x = torch.randn(1, 2, 6, 6, 6)
    assert k.SO3Shortcut(2, 2, 3, 3)(x) is x
    assert k.SO3Shortcut(2, 3, 3, 3)(x).shape == (1, 3, 6, 6, 6)


def test_residual_blocks_train():
    torch.manual_seed(0)
    grid = k.so3_near_identity(n_alpha=3, n_beta=1)
    model = torch.nn.Sequential(
        k.S2ResBlock(1, 4, 4, 3, k.s2_near_identity(), grid),
        k.SO3ResBlock(4, 4, 3, 2, grid, k.OversampledNonlinearity()),
    )
    optimiser = torch.optim.Adam(model.parameters(), 3e-2)
    x, target = torch.randn(4, 1, 8, 8), torch.randn(4, 4)
    losses = []
    for _ in range(20):
        optimiser.zero_grad()
        loss = (k.so3_integrate(model(x)) - target).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]


def test_a_layer_goes_where_it_is_told_and_saves():
    layer = k.SO3Conv(1, 2, 2, 2, k.so3_near_identity(n_alpha=2, n_beta=1))
    again = pickle.loads(pickle.dumps(layer))
    x = torch.randn(1, 1, 4, 4, 4)
    assert torch.equal(layer(x), again(x))
    assert set(layer.state_dict()) == {"kernel", "bias"}
    exact = copy.deepcopy(layer).double()
    assert torch.allclose(exact(x.double()).float(), layer(x), atol=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(x), again(x))
    assert layer(x).dtype == torch.float32


def test_a_layer_without_bias_has_none():
    layer = k.SO3Conv(1, 1, 2, 2, [(0.0, 0.0, 0.0)], bias=False)
    assert layer.bias is None
    assert not layer(torch.zeros(1, 1, 4, 4, 4)).any()


@pytest.mark.parametrize("b", [1, 2, 5])
def test_the_two_ways_from_a_kernel_to_its_spectrum_agree(monkeypatch, b):
    points = np.random.default_rng(0).uniform(-3, 3, (40, 3))
    points[:, 0] = np.repeat([0.0, 0.4, np.pi, 2.0, 0.4], 8)  # four rings, out of order, both poles
    maps = []
    for cost in (0, 10**6):
        monkeypatch.setattr(kernelmap, "_GATHER_COST", cost)
        maps.append(kernelmap.kernel_map(points, b, torch.float64, torch.device("cpu")))
    assert [type(m).__name__ for m in maps] == ["ByRings", "Direct"]
    weights = torch.randn(40, 3, dtype=torch.float64, requires_grad=True)
    rings, direct = (m.spectra(weights) for m in maps)
    assert torch.allclose(rings, direct, atol=1e-13)
    cotangent = torch.randn_like(direct)
    gradients = [torch.autograd.grad(y, weights, cotangent)[0] for y in (rings, direct)]
    assert torch.allclose(*gradients, atol=1e-12)
    assert torch.autograd.gradgradcheck(lambda w: maps[0].spectra(w).square(), (weights,), fast_mode=True)


# Initialisation


@pytest.mark.parametrize("name", ["s2", "so3"])
def test_kaiming_keeps_the_variance_of_white_channels(name):
    torch.manual_seed(0)
    b = 4
    if name == "s2":
        layer, axes = k.S2Conv(32, 32, b, b, k.s2_near_identity()), 2
    else:
        layer, axes = k.SO3Conv(32, 32, b, b, k.so3_near_identity(n_alpha=4, n_beta=2)), 3
    k.spherical_kaiming_(layer, gain=1.0)
    assert not layer.bias.any()
    x = torch.randn(2, 32, *(2 * b,) * axes)
    x = (k.s2_rotate if axes == 2 else k.so3_rotate)(x, torch.eye(3))
    integrate = k.s2_integrate if axes == 2 else k.so3_integrate
    ratio = k.so3_integrate(layer(x) ** 2).mean() / integrate(x**2).mean()
    assert 0.7 < float(ratio.detach()) < 1.4
    effective = layer.kernel.detach().std() * effective_scale(layer)
    assert float(effective) == pytest.approx((32 * len(layer.grid)) ** -0.5, rel=0.1)


def test_glorot_averages_the_two_fans():
    torch.manual_seed(0)
    layer = k.SO3Conv(8, 24, 2, 2, k.so3_near_identity())
    k.spherical_glorot_(layer)
    assert float(layer.kernel.detach().std() * effective_scale(layer)) == pytest.approx(
        (2 / (32 * 192)) ** 0.5, rel=0.05
    )


def test_the_default_is_uniform_as_published():
    kernel = k.S2Conv(4, 8, 3, 3, k.s2_near_identity()).kernel
    assert float(kernel.detach().abs().max()) <= 1
    assert float(kernel.detach().var()) == pytest.approx(1 / 3, rel=0.1)


# Published weights


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.lift = k.S2Conv(1, 2, 3, 2, k.s2_near_identity())
        self.conv = k.SO3Conv(2, 2, 2, 2, k.so3_near_identity(compatible=True))
        self.head = torch.nn.Linear(2, 3)


def test_published_weights_load_under_their_names_and_in_order():
    source, target = Net(), Net()
    published = {f"module.{name}": value for name, value in source.state_dict().items()}
    assert k.load_s2cnn_state_dict(target, published) == []
    assert all(torch.equal(a, b) for a, b in zip(source.parameters(), target.parameters(), strict=True))
    renamed = {name.replace("lift", "conv1").replace("conv.", "conv2."): v for name, v in source.state_dict().items()}
    target = Net()
    k.load_s2cnn_state_dict(target, renamed)
    assert torch.equal(source.conv.kernel, target.conv.kernel)


def test_published_weights_that_do_not_fit_say_what_to_do():
    state = Net().state_dict()
    state["conv.kernel"] = state["conv.kernel"][..., :-1]
    with pytest.raises(ValueError, match="compatible=True"):
        k.load_s2cnn_state_dict(Net(), state)
    state = Net().state_dict()
    state["extra"] = torch.zeros(1)
    with pytest.raises(ValueError, match="left over"):
        k.load_s2cnn_state_dict(Net(), state)
    assert k.load_s2cnn_state_dict(Net(), state, strict=False) == ["extra"]
