"""Norms, antialiased pooling and upsampling are their definitions, and commute with every element on every box."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from equiharness.kernels import AntialiasedPool, GlobalPool, GroupBatchNorm, GroupInstanceNorm, GroupPool, Upsample
from hypothesis import given, settings
from hypothesis import strategies as st

DOUBLE = {"dtype": torch.float64}
BOXES = {"D4": [(5, 8), (6, 6), (7, 4)], "Oh": [(4, 5, 6)]}


def assert_commutes(grid, layer, name, x, fibre):
    E = grid.MATRICES[name]
    y = layer(x)
    for m in E:
        torch.testing.assert_close(layer(grid.act(x, m, fibre, E)), grid.act(y, m, fibre, E), rtol=0, atol=1e-12)


def fields(name, box):
    """A field of each kind on the box: shape after batch and channels."""
    order, dim = {"D4": (8, 2), "Oh": (48, 3)}[name]
    return {"trivial": box, "regular": (order, *box), "vector": (dim, *box)}.items()


@pytest.mark.parametrize("name", BOXES)
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("mode", ["zeros", "circular"])
def test_antialiased_pool_commutes_on_every_box_and_field(grid, name, stride, mode):
    layer = AntialiasedPool(name, sigma=0.5, stride=stride, padding_mode=mode)
    for box in BOXES[name]:
        for fibre, shape in fields(name, box):
            assert_commutes(grid, layer, name, torch.randn(1, 1, *shape, **DOUBLE), fibre)


@pytest.mark.parametrize("name", BOXES)
@pytest.mark.parametrize("scale", [2, 1.5, 1.3, 0.6])
@pytest.mark.parametrize("align_corners", [False, True])
def test_upsample_commutes_on_every_box_and_field(grid, name, scale, align_corners):
    layer = Upsample(name, scale, align_corners=align_corners)
    for box in BOXES[name]:
        for fibre, shape in fields(name, box):
            assert_commutes(grid, layer, name, torch.randn(1, 1, *shape, **DOUBLE), fibre)


def test_torchs_own_scale_factor_breaks_what_upsample_keeps():
    x = torch.randn(1, 1, 5, 5, **DOUBLE)

    def by_factor(x):
        return torch.nn.functional.interpolate(x, scale_factor=1.5, mode="bilinear")

    assert not torch.allclose(by_factor(x.flip(2)), by_factor(x).flip(2), atol=1e-3)
    torch.testing.assert_close(Upsample("D4", 1.5)(x.flip(2)), Upsample("D4", 1.5)(x).flip(2))


def pooling_matrix(n, stride, weight, radius, mode):
    """A[X, x] = weight(distance of voxel x from centre X), by centred coordinates; circular: summed over the images."""
    count = math.ceil(n / stride)
    A = np.zeros((count, n))
    for X, x, wrap in product(range(count), range(n), range(-4, 5) if mode == "circular" else (0,)):
        distance = (x + wrap * n - (n - 1) / 2) - stride * (X - (count - 1) / 2)
        if abs(distance) <= radius + 0.5:
            A[X, x] += weight(distance)
    return A


@settings(max_examples=60, deadline=None)
@given(
    box=st.tuples(st.integers(4, 9), st.integers(4, 9)),
    stride=st.integers(1, 4),
    sigma=st.floats(0.2, 1.2),
    mode=st.sampled_from(["zeros", "circular"]),
)
def test_antialiased_pool_is_a_gaussian_at_centred_points(box, stride, sigma, mode):
    layer = AntialiasedPool("D4", sigma=sigma, stride=stride, padding_mode=mode)
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 1, *box)))
    expected = x[0, 0].numpy()
    for axis, n in enumerate(box):
        A = pooling_matrix(n, stride, lambda t: math.exp(-(t**2) / (2 * sigma**2)), layer.radius, mode)
        offsets = [t / 2 for t in range(-2 * layer.radius - 1, 2 * layer.radius + 2)]
        half = 0 if (n - 1 - stride * (len(A) - 1)) % 2 == 0 else 0.5
        A /= sum(math.exp(-(t**2) / (2 * sigma**2)) for t in offsets if (t - half) % 1 == 0)
        expected = np.moveaxis(np.tensordot(A, expected, (1, axis)), 0, axis)
    np.testing.assert_allclose(layer(x)[0, 0].numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("group", "box"), [("D4", (5, 8)), ("D4", (6, 7)), ("O", (4, 5, 3))])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("mode", ["zeros", "circular"])
def test_antialiased_pool_with_integer_taps_is_exact_forward_and_backward(grid, monkeypatch, group, box, stride, mode):
    layer = AntialiasedPool(group, sigma=0.5, stride=stride, padding_mode=mode)  # radius 2

    def weight(t):
        return 9 - int((2 * t) ** 2) // 2

    def taps(size, like):
        k = len(AntialiasedPool.taps(layer, size, like))
        return torch.tensor([float(weight(j - (k - 1) / 2)) for j in range(k)])

    monkeypatch.setattr(layer, "taps", taps)
    x = grid.integers(0, 2, 3, *box)
    expected, matrices = x, [pooling_matrix(n, stride, weight, layer.radius, mode) for n in box]
    for axis, A in enumerate(matrices, start=2):
        expected = np.moveaxis(np.tensordot(A, expected, (1, axis)), 0, axis)
    cotangent = grid.integers(1, *expected.shape)
    gradient = cotangent
    for axis, A in enumerate(matrices, start=2):
        gradient = np.moveaxis(np.tensordot(A.T, gradient, (1, axis)), 0, axis)
    tx = torch.from_numpy(x.astype(np.float32)).requires_grad_()
    y = layer(tx)
    y.backward(torch.from_numpy(cotangent.astype(np.float32)))
    np.testing.assert_array_equal(y.detach().numpy(), expected)
    np.testing.assert_array_equal(tx.grad.numpy(), gradient)


@pytest.mark.parametrize(("group", "box"), [("D4", (3, 5)), ("O", (2, 3, 4))])
def test_upsampling_integers_twofold_is_exact_forward_and_backward(grid, group, box):
    """Weights 1/4 and 3/4 are exact in float32: output voxel X sits at X/2 - 1/4, clamped to the box."""
    matrices = []
    for n in box:
        A = np.zeros((2 * n, n))
        for X in range(2 * n):
            at = min(max((X + 0.5) / 2 - 0.5, 0), n - 1)
            low = min(int(at), n - 1)
            A[X, low] += 1 - (at - low)
            A[X, min(low + 1, n - 1)] += at - low
        matrices.append(A)
    x = grid.integers(0, 2, 3, *box)
    expected, gradient = x, grid.integers(1, 2, 3, *(2 * n for n in box))
    cotangent = gradient
    for axis, A in enumerate(matrices, start=2):
        expected = np.moveaxis(np.tensordot(A, expected, (1, axis)), 0, axis)
        gradient = np.moveaxis(np.tensordot(A.T, gradient, (1, axis)), 0, axis)
    tx = torch.from_numpy(x.astype(np.float32)).requires_grad_()
    y = Upsample(group)(tx)
    y.backward(torch.from_numpy(cotangent.astype(np.float32)))
    np.testing.assert_array_equal(y.detach().numpy(), expected)
    np.testing.assert_array_equal(tx.grad.numpy(), gradient)


@pytest.mark.parametrize("name", ["D4", "Oh"])
@pytest.mark.parametrize("Norm", [GroupBatchNorm, GroupInstanceNorm])
@pytest.mark.parametrize("training", [True, False])
def test_norms_commute_in_training_and_evaluation(grid, name, Norm, training):
    layer = Norm(name, 2, affine=True, **DOUBLE)
    torch.nn.init.normal_(layer.weight)
    torch.nn.init.normal_(layer.bias)
    x = torch.randn(2, 2, len(grid.MATRICES[name]), *BOXES[name][0], **DOUBLE)
    layer(x)
    layer.train(training)
    E = grid.MATRICES[name]
    for m in E[:: len(E) // 8]:
        expected = grid.act(layer(x), m, "regular", E)
        torch.testing.assert_close(layer(grid.act(x, m, "regular", E)), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("Norm", "axes"), [(GroupBatchNorm, (0, 2, 3, 4)), (GroupInstanceNorm, (2, 3, 4))])
def test_norms_share_their_statistics_over_group_and_space(Norm, axes):
    x = torch.randn(3, 2, 4, 5, 6, **DOUBLE)
    mean, variance = x.mean(axes, keepdim=True), x.var(axes, correction=0, keepdim=True)
    torch.testing.assert_close(Norm("C4", 2, **DOUBLE)(x), (x - mean) / (variance + 1e-5).sqrt(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("mode", ["max", "mean"])
@pytest.mark.parametrize(("Pool", "axes"), [(GroupPool, (2,)), (GlobalPool, (2, 3, 4))])
def test_pooling_integers_is_exact_forward_and_backward(grid, Pool, axes, mode):
    x = grid.integers(0, 2, 3, 8, 4, 8)
    values = x.max(axis=axes, keepdims=True) if mode == "max" else x.mean(axis=axes, keepdims=True)
    # The maximum shares its gradient among ties, the mean among all: 8 or 256 entries, powers of two.
    share = (x == values).astype(np.float32) if mode == "max" else np.ones(x.shape, np.float32)
    cotangent = grid.integers(1, *values.shape).astype(np.float32)
    tx = torch.from_numpy(x.astype(np.float32)).requires_grad_()
    y = Pool("D4", mode)(tx)
    y.backward(torch.from_numpy(cotangent.squeeze(axes)))
    np.testing.assert_array_equal(y.detach().numpy(), values.squeeze(axes))
    np.testing.assert_allclose(tx.grad.numpy(), cotangent * share / share.sum(axis=axes, keepdims=True), rtol=1e-7)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GroupPool("C4", "sum"), "mode must be 'max' or 'mean'"),
        (lambda: GroupPool("max"), "unknown grid group 'max'"),
        (lambda: AntialiasedPool("C4", sigma=0), "sigma must be positive"),
        (lambda: AntialiasedPool("C4", stride=(2, 2)), "stride must be one integer"),
        (lambda: AntialiasedPool("C4", padding_mode="reflect"), "'zeros' or 'circular'"),
        (lambda: Upsample("C4", mode="trilinear"), "mode must be 'bilinear'"),
        (lambda: Upsample("C4", -1), "scale_factor must be positive"),
        (lambda: Upsample("C4")(torch.ones(3, 3)), "spatial axes"),
        (lambda: GroupPool("C4")(torch.ones(1, 1, 3, 3, 3)), r"GroupPool takes an input of shape \[B, 1, 4, a0, a1\]"),
        (lambda: GroupBatchNorm("C4", 2)(torch.ones(1, 1, 4, 3, 3)), r"\[B, 2, 4, a0, a1\]"),
        (lambda: GroupInstanceNorm("C4", 2)(torch.ones(2, 4, 3, 3)), r"\[B, 2, 4, a0, a1\]"),
    ],
)
def test_wrong_arguments_and_inputs_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
