"""Transposed convolutions: the transpose of the convolution, centred on every box, and refused where they are not."""

import pytest
import torch
from equiharness.kernels import (
    GroupConv,
    LiftingConv,
    SeparableGroupConv,
    TransposedGroupConv,
    TransposedLiftingConv,
    TransposedSeparableGroupConv,
)

VARIANTS = ("pointwise_first", "depthwise_first", "per_pair")
KINDS = {
    "lifting": (TransposedLiftingConv, {}, "trivial"),
    "regular": (TransposedGroupConv, {}, "regular"),
    **{v: (TransposedSeparableGroupConv, {"variant": v}, "regular") for v in VARIANTS},
}
BOXES = {"C4": (3, 4), "D4": (4, 2), "O": (2, 3, 2), "C4 about axis 0": (2, 3, 2), "transposition": (3, 2)}
DOUBLE = {"dtype": torch.float64}


def source(fibre, E, box, batch=1):
    return torch.randn(batch, 2, *((len(E),) if fibre == "regular" else ()), *box, **DOUBLE)


@pytest.mark.parametrize("name", BOXES)
@pytest.mark.parametrize(("k", "stride", "padding"), [(4, 2, 1), (3, 2, 1), (2, 3, 0), (3, 1, 2)])
@pytest.mark.parametrize("kind", KINDS)
def test_every_box_commutes_with_the_group(grid, kind, name, k, stride, padding):
    Layer, options, fibre = KINDS[kind]
    E, box = grid.MATRICES[name], tuple(n + 1 for n in BOXES[name])
    layer = Layer(grid.as_argument(name), 2, 1, k, stride=stride, padding=padding, **options, **DOUBLE)
    x = source(fibre, E, box)
    y = layer(x)
    assert y.shape == (1, 1, len(E), *((n - 1) * stride + k - 2 * padding for n in box))
    for m in E:
        torch.testing.assert_close(layer(grid.act(x, m, fibre, E)), grid.act(y, m, "regular", E), rtol=0, atol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_an_output_padding_visibly_fails_the_check(grid, kind):
    Layer, options, fibre = KINDS[kind]
    E = grid.MATRICES["C4"]
    layer = Layer("C4", 2, 1, 3, stride=2, padding=1, output_padding=1, allow_misaligned=True, **options, **DOUBLE)
    x = source(fibre, E, (4, 4))
    y = layer(x)
    assert y.shape[-2:] == (8, 8)
    assert max((layer(grid.act(x, m, fibre, E)) - grid.act(y, m, "regular", E)).abs().max() for m in E) > 1e-2


@pytest.mark.parametrize("kind", KINDS)
def test_an_output_padding_is_refused_with_the_geometry_that_doubles_a_box(kind):
    Layer, options, _ = KINDS[kind]
    with pytest.raises(ValueError, match="kernel_size=4, stride=2, padding=1 doubles a box"):
        Layer("C4", 1, 1, 3, stride=2, padding=1, output_padding=1, **options)


def test_arguments_that_no_transposed_convolution_has_are_refused():
    with pytest.raises(ValueError, match="padding_mode must be 'zeros'"):
        TransposedGroupConv("C4", 1, 1, 3, padding_mode="circular")
    with pytest.raises(ValueError, match="from 0 to stride - 1"):
        TransposedGroupConv("C4", 1, 1, 3, stride=2, output_padding=2, allow_misaligned=True)
    with pytest.raises(ValueError, match=r"leaves an output of .* = 0 voxels; use padding=1 or less"):
        TransposedGroupConv("C4", 1, 1, 2, padding=2, stride=2)(torch.zeros(1, 1, 4, 2, 2))


@pytest.mark.parametrize("name", ["C4", "D4", "O"])
@pytest.mark.parametrize(("k", "stride", "padding"), [(4, 2, 1), (3, 2, 1), (2, 3, 0)])
def test_it_is_the_transpose_of_the_convolution_with_inverted_weight(grid, name, k, stride, padding):
    """<y, T F> = <C y, F>: C has the weight w(u^-1 t, u^-1), channels exchanged."""
    E = grid.MATRICES[name]
    box = BOXES[name]
    geometry = {"stride": stride, "padding": padding, "bias": False}
    up, down = TransposedGroupConv(name, 2, 3, k, **geometry, **DOUBLE), GroupConv(name, 3, 2, k, **geometry, **DOUBLE)
    with torch.no_grad():
        for u, m in enumerate(E):
            inverse = grid.index_of(m.T, E)
            taps = (slice(None), slice(None), inverse, *grid.preimages(m, k))  # w(u^-1 t, u^-1)
            down.weight[:, :, u] = up.weight[taps].transpose(0, 1)
    x = source("regular", E, box)
    y = torch.randn_like(up(x))
    torch.testing.assert_close((y * up(x)).sum(), (down(y) * x).sum(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "k", "stride", "padding", "more"),
    [
        ("D4", 4, 2, 1, 0),
        ("D4", 3, 2, 1, 1),
        ("D4", 2, 3, 0, 2),
        pytest.param("O", 4, 2, 1, 0, marks=pytest.mark.deep),  # 64 taps
        ("O", 3, 2, 1, 1),
        ("O", 2, 3, 0, 2),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_every_backend_is_the_formula_on_integers(grid, kind, name, k, stride, padding, more):
    """Integers in [-3, 3]: every sum is exact in float32, so nothing but equality will do."""
    Layer, options, fibre = KINDS[kind]
    E = grid.MATRICES[name]
    geometry = {"stride": stride, "padding": padding, "output_padding": more, "allow_misaligned": True}
    layers = [Layer(name, 2, 1, k, **geometry, **options, backend=b) for b in ("reference", "fast", "exact")]
    with torch.no_grad():
        for i, parameter in enumerate(layers[0].parameters()):
            parameter.copy_(torch.from_numpy(grid.integers(i, *parameter.shape)))
    x = torch.from_numpy(grid.integers(9, *source(fibre, E, BOXES[name]).shape)).float()
    outcomes = []
    for layer in layers:
        layer.load_state_dict(layers[0].state_dict())
        leaf = x.clone().requires_grad_()
        y = layer(leaf)
        cotangent = torch.from_numpy(grid.integers(10, *y.shape)).float()
        outcomes.append([y, *torch.autograd.grad(y, [leaf, *layer.parameters()], cotangent)])
    for outcome in outcomes[1:]:
        assert all(torch.equal(a, b) for a, b in zip(outcome, outcomes[0], strict=True))
    folded = layers[0].fold()(x.flatten(1, 2) if fibre == "regular" else x)
    assert torch.equal(folded.view_as(outcomes[0][0]), outcomes[0][0])


@pytest.mark.parametrize("kind", KINDS)
def test_fresh_layers_keep_the_variance_of_white_noise(kind):
    """Inside the box; at k = s every output meets one tap, at k = 2 s two of them on each axis."""
    Layer, options, fibre = KINDS[kind]
    torch.manual_seed(0)
    for k, stride, padding in ((2, 2, 0), (4, 2, 1)):
        y = torch.stack(
            [
                Layer("D4", 8, 8, k, stride=stride, padding=padding, bias=False, **options)(
                    torch.randn(4, 8, *((8,) if fibre == "regular" else ()), 12, 12)
                )[..., 4:-4, 4:-4]
                for _ in range(8)
            ]
        )
        assert 0.6 < y.var().item() < 1.6  # 64 random filters: a factor off by s^d = 4 would be seen


def test_with_stride_one_the_separable_layer_is_a_convolution_with_opposite_taps():
    down = SeparableGroupConv("D4", 2, 2, 3, padding=1, **DOUBLE)
    up = TransposedSeparableGroupConv("D4", 2, 2, 3, padding=1, **DOUBLE)
    up.load_state_dict(down.state_dict())
    with torch.no_grad():
        up.spatial_weight.copy_(down.spatial_weight.flip(-1, -2))
    x = torch.randn(1, 2, 8, 4, 5, **DOUBLE)
    torch.testing.assert_close(up(x), down(x), rtol=0, atol=1e-13)


def test_a_transposed_lifting_reads_scalars():
    with pytest.raises(ValueError, match=r"takes an input of shape \[B, 3, a0, a1\]"):
        TransposedLiftingConv("C4", 3, 1, 3)(torch.zeros(1, 3, 4, 5, 5))
    assert isinstance(LiftingConv("C4", 1, 1, 2).fold(), torch.nn.Conv2d)
