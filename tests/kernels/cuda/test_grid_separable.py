"""grid_separable.cu on the CPU: mix, turned depthwise step, norm and ReLU in one kernel, to derived bounds."""

import copy

import pytest
import torch
from equiharness.kernels import FusedSeparableConv, GroupBatchNorm, SeparableGroupConv
from equiharness.kernels.cuda import grid_separable, host, sources
from equiharness.kernels.grid import reference

# Group, channels, box, k, options, dtype; the larger ones have several tiles, rows and steps.
CASES = {
    "C4": ("C4", (2, 3), (5, 4), 3, {"padding": 1}, torch.float32),
    "D4, strided": ("D4", (3, 5), (5, 7), 3, {"padding": 1, "stride": 2}, torch.float32),
    "circular": ("C4", (2, 2), (5, 4), 3, {"padding": 1, "padding_mode": "circular"}, torch.float32),
    "more windows than voxels": ("C2", (1, 2), (3, 4), 2, {"padding": 2, "padding_mode": "circular"}, torch.float32),
    "several tiles": ("C2", (2, 2), (19, 31), 3, {"padding": 1}, torch.float32),
    "O": ("O", (1, 2), (3, 2, 4), 2, {"padding": 1}, torch.float32),
    "Oh": ("Oh", (1, 1), (3, 2, 2), 2, {}, torch.float32),
    "double": ("C4", (2, 3), (5, 4), 3, {"padding": 1}, torch.float64),
    "half": ("C4", (2, 3), (5, 4), 3, {"padding": 1}, torch.float16),
    "bfloat": ("C4", (2, 3), (5, 4), 3, {"padding": 1}, torch.bfloat16),
}
ROUNDOFF = {torch.float64: 2.0**-53, torch.float32: 2.0**-24, torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}


def build(name, norm=True, relu=True):
    group, channels, box, k, options, dtype = CASES[name]
    torch.manual_seed(0)
    conv = SeparableGroupConv(group, *channels, k, **options).requires_grad_(False)
    torch.nn.init.normal_(conv.bias)
    statistics = GroupBatchNorm(group, channels[1]).requires_grad_(False) if norm else None
    if norm:
        # A positive shift: a ReLU that zeroes nearly all outputs would hide what the kernel computes.
        for tensor, sign in ((statistics.running_mean, -1), (statistics.weight, 1), (statistics.bias, 1)):
            tensor.copy_(sign * torch.randn(tensor.shape).abs())
        statistics.running_var.uniform_(0.5, 2)
    layer = FusedSeparableConv(conv, statistics, relu=relu).eval().requires_grad_(False).to(dtype)
    return layer, torch.randn(2, channels[0], conv.order, *box).to(dtype)


def exact(layer, x, change):
    """The layer in float64 by the formulas of the reference, of values or of their sizes."""
    conv, norm, group = layer.conv, layer.norm, layer.conv.group
    a, s, bias = (change(p.double()) for p in (conv.group_weight, conv.spatial_weight, conv.bias))
    y = reference.depthwise(reference.pointwise(change(x.double()), a, group), s, group, **conv.geometry())
    ones = (-1, *(1,) * (y.dim() - 2))
    y = y + bias.view(ones)
    if norm is not None:
        scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
        y = y * change(scale).view(ones)
        # The shift is -mean scale + bias: its two terms count by their sizes.
        y = y + change(-norm.running_mean.double() * scale).view(ones) + change(norm.bias.double()).view(ones)
    return y


def disagreement(cases, executor, name, **options):
    """None, or how far the kernel is beyond gamma(n) times the sizes of all that it adds up.

    One entry is rounded once per term of the mix, of the window, and in bias, scale and shift, which are made of seven
    operations and stored in the dtype of the layer. In 16 bits these vectors and the result are rounded to it.
    """
    layer, x = build(name, **options)
    conv, dtype = layer.conv, x.dtype
    with cases.running_on(executor):
        got = layer(x)
    wanted, size = exact(layer, x, lambda t: t), exact(layer, x, torch.abs)
    wanted = wanted.relu() if layer.relu else wanted
    assert (wanted != 0).double().mean() > 0.25, "the ReLU hides the rest"
    arithmetic = ROUNDOFF[torch.float64 if dtype == torch.float64 else torch.float32]
    n = conv.in_channels * conv.order + conv.kernel_size**conv.dim + 12
    bound = n * arithmetic / (1 - n * arithmetic) * size
    if dtype in (torch.float16, torch.bfloat16):
        bound = bound + 10 * ROUNDOFF[dtype] * size + 64 * 2.0**-25
    difference = (got.double() - wanted).abs()
    return None if (difference <= bound).all() else f"{(difference / bound).max():.3g} bounds"


@pytest.mark.parametrize("name", CASES)
def test_the_kernel_agrees_with_the_formula_to_rounding(cases, host_executor, name):
    executor = host_executor("plain")
    assert disagreement(cases, executor, name) is None
    assert [kernel.partition("_f")[0].partition("_b")[0] for kernel in executor.launched] == ["grid_separable"]


@pytest.mark.parametrize("options", [{"norm": False}, {"relu": False}, {"norm": False, "relu": False}])
def test_norm_and_relu_are_done_as_asked(cases, host_executor, options):
    assert disagreement(cases, host_executor("plain"), "C4", **options) is None


def test_the_order_of_the_threads_does_not_matter(cases, host_executor):
    assert disagreement(cases, host_executor("plain", backwards=True), "D4, strided") is None


@pytest.mark.parametrize(
    "name",
    ["D4, strided", "circular", "several tiles", "O", "double", "half", pytest.param("bfloat", marks=pytest.mark.deep)],
)
def test_the_sanitizers_find_no_fault(cases, host_executor, name):
    assert disagreement(cases, host_executor("address"), name) is None


def test_integers_come_out_exactly(cases, host_executor):
    layer, x = build("O", norm=False, relu=False)
    for p in layer.parameters():
        p.copy_(torch.randint(-3, 4, p.shape))
    x = torch.randint(-3, 4, x.shape).float()
    with cases.running_on(host_executor("plain")):
        assert torch.equal(layer(x).double(), exact(layer, x, lambda t: t))


def test_where_gradients_or_statistics_are_wanted_the_layers_follow_each_other(cases, recorder):
    layer, x = build("C4")
    with cases.running_on(recorder):
        layer(x)
        assert len(recorder.launches) == 1
        recorder.launches.clear()
        cases_without = {
            "gradient of the input": (layer, x.clone().requires_grad_()),
            "gradient of a parameter": (copy.deepcopy(layer).requires_grad_(), x),
            "batch statistics": (copy.deepcopy(layer).train(), x),
        }
        for other, signal in cases_without.values():
            other(signal)
        names = {kernel.name for kernel, _, _ in recorder.launches}
    assert not [name for name in names if name.startswith("grid_separable")]


def test_gradients_through_the_layer_are_right():
    layer, x = build("double")
    layer.requires_grad_()
    x = x[:1, :, :, :3, :2].clone().requires_grad_()
    assert torch.autograd.gradcheck(layer, (x,), fast_mode=True)
    assert torch.autograd.gradgradcheck(layer, (x,), fast_mode=True)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_the_operator_keeps_torchs_contract(cases, host_executor):
    layer, x = build("C4")
    conv, (scale, shift) = layer.conv, layer._affine(x.dtype)
    arguments = (
        x, conv.group_weight, conv.spatial_weight.flatten(1), conv.group_table.int(), conv.spatial_table.int(),
        conv.bias, scale, shift, True, [5, 4], 1, 1, [0, 0], 3,
    )  # fmt: skip
    with cases.running_on(host_executor("plain")):
        torch.library.opcheck(torch.ops.equiharness.grid_separable.default, arguments)
    with cases.running_on(None), pytest.raises(RuntimeError, match="no kernel runs on this device"):
        torch.ops.equiharness.grid_separable(*arguments)


@pytest.mark.parametrize("out", [(64, 64), (32, 32, 32), (5, 4), (1, 300), (3, 3, 3)])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_tile_fits_and_mixes_no_more_than_it_must(out, stride):
    tile = grid_separable.tile_of(out, stride, 3, 256)
    box = [stride * (n - 1) + 3 for n in tile]
    assert torch.tensor(box).prod() <= 256
    assert all(t <= n for t, n in zip(tile, out, strict=True))


def test_windows_too_large_for_a_block_are_computed_by_torch(cases, recorder):
    conv = SeparableGroupConv("O", 1, 1, 7, padding=3).requires_grad_(False)
    with cases.running_on(recorder):
        FusedSeparableConv(conv)(torch.randn(1, 1, 24, 3, 3, 3))
    assert [kernel.name for kernel, _, _ in recorder.launches if "separable" in kernel.name] == []


def test_a_norm_of_other_channels_is_refused():
    with pytest.raises(ValueError, match="the norm has 2 channels, the convolution 3"):
        FusedSeparableConv(SeparableGroupConv("C4", 1, 3, 3), GroupBatchNorm("C4", 2))


def test_the_struct_is_the_same_in_both_languages(build_folder):
    if host.compiler() is None:
        pytest.skip("comparing the structs needs a C++ compiler")
    checks = [f"static_assert(sizeof(SeparableShape) == {grid_separable.SHAPE.itemsize});"]
    checks += [
        f"static_assert(__builtin_offsetof(SeparableShape, {name}) == {offset});"
        for name, (_, offset) in grid_separable.SHAPE.fields.items()
    ]
    text = sources.program([], (*host.PRELUDE["plain"], "grid_separable.cu"))
    host.build(text + "\n".join(checks) + "\n", "plain", build_folder)
