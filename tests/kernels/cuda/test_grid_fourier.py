"""grid_fourier.cu on the CPU: the regular convolutions of O and O_h to derived bounds, forward and both gradients."""

import copy

import pytest
import torch
from equiharness.kernels import GroupConv
from equiharness.kernels.cuda import grid, grid_fourier
from equiharness.kernels.grid import reference
from equiharness.kernels.grid.aligned import Transform

U = {torch.float64: 2.0**-53, torch.float32: 2.0**-24}

# Group, channels, box, k, padding, dtype: one and several steps of channels, tiles of outputs, blocks of voxels.
CASES = {
    "O": ("O", (5, 3), (2, 3, 4), 2, 1, torch.float32),
    "O, more outputs than a tile": ("O", (1, 18), (3, 1, 2), 1, 0, torch.float32),
    "Oh": ("Oh", (2, 3), (2, 3, 2), 2, 0, torch.float32),
    "Oh, several blocks of voxels": ("Oh", (1, 1), (3, 3, 4), 1, 0, torch.float32),
    "O, double": ("O", (2, 3), (2, 3, 2), 2, 1, torch.float64),
}


def build(name):
    group, channels, box, k, padding, dtype = CASES[name]
    torch.manual_seed(0)
    layer = GroupConv(group, *channels, k, padding=padding, backend="fourier", bias=False, dtype=dtype)
    return layer, torch.randn(2, channels[0], layer.order, *box, dtype=dtype)


def results(layer, x, cotangent):
    x = x.detach().requires_grad_()
    y = layer(x)
    return (y.detach(), *torch.autograd.grad(y, [x, layer.weight], cotangent))


def exact_results(layer, x, cotangent):
    """By the formula, in float64."""
    x, w = (t.detach().double().requires_grad_() for t in (x, layer.weight))
    y = reference.regular(x, w, layer.group, **layer.geometry())
    return (y.detach(), *torch.autograd.grad(y, [x, w], cotangent.double()))


def magnitudes(layer, x, cotangent, monkeypatch):
    """The sums of absolute values of everything that is multiplied and added, by torch."""
    real = Transform.of

    def absolute(*arguments):
        transform = real(*arguments)
        return Transform(transform.basis.abs(), tuple(r.abs() for r in transform.right), transform.blocks)

    with monkeypatch.context() as patch:
        patch.setattr(Transform, "of", absolute)
        layer = copy.deepcopy(layer).double()
        with torch.no_grad():
            layer.weight.abs_()
        return results(layer, x.double().abs(), cotangent.double().abs())


def disagreement(cases, executor, name, monkeypatch):
    """None, or what is beyond gamma(n) times the magnitudes.

    n roundings one after the other: transforms of both sides and filters from |G| terms each, four tables that are
    rounded, products over channels (or voxels), three rows of a block at most, and taps.
    """
    layer, x = build(name)
    taps, dtype = layer.kernel_size**3, x.dtype
    cotangent = torch.randn_like(layer(x))
    with cases.running_on(executor):
        got = results(layer, x, cotangent)
    exact, sizes = exact_results(layer, x, cotangent), magnitudes(layer, x, cotangent, monkeypatch)
    counts = (layer.in_channels * taps, layer.out_channels * taps, cotangent[:, 0, 0].numel())
    for what, a, b, size, count in zip(("y", "dx", "dw"), got, exact, sizes, counts, strict=True):
        n = 3 * layer.order + 4 + 3 * count
        bound = (n * U[dtype] / (1 - n * U[dtype]) + n * 2.0**-53) * size
        if not ((a.double() - b).abs() <= bound).all():
            return f"{what} differs by {((a.double() - b).abs() / bound).max():.3g} bounds"
    return None


@pytest.mark.parametrize("name", CASES)
def test_kernels_agree_with_the_formula_to_rounding(cases, host_executor, name, monkeypatch):
    executor = host_executor("plain")
    assert disagreement(cases, executor, name, monkeypatch) is None
    assert {kernel.rpartition("_f")[0] for kernel in executor.launched} >= {
        "grid_fourier_forward", "grid_fourier_spectrum",
    }  # fmt: skip


def test_the_order_of_the_threads_does_not_matter(cases, host_executor, monkeypatch):
    assert disagreement(cases, host_executor("plain", backwards=True), "Oh", monkeypatch) is None


@pytest.mark.parametrize("name", ["O, more outputs than a tile", "Oh", "O, double"])
def test_the_sanitizers_find_no_fault(cases, host_executor, name, monkeypatch):
    assert disagreement(cases, host_executor("address"), name, monkeypatch) is None


def test_the_cases_run_every_kernel(cases, recorder):
    for name in CASES:
        layer, x = build(name)
        with cases.running_on(recorder):
            results(layer, x, torch.ones_like(layer(x)))
    launched = {kernel.name for kernel, _, _ in recorder.launches}
    assert launched >= {kernel.name for kernel in grid_fourier.KERNELS}


def test_derivatives_of_both_orders_match_finite_differences(cases, host_executor):
    torch.manual_seed(0)
    layer = GroupConv("O", 1, 1, 1, backend="fourier", dtype=torch.float64)
    x = torch.randn(1, 1, 24, 2, 1, 1, dtype=torch.float64, requires_grad=True)

    def function(x, weight):
        return torch.func.functional_call(layer, {"weight": weight}, (x,))

    with cases.running_on(host_executor("plain")):
        assert torch.autograd.gradcheck(function, (x, layer.weight), fast_mode=True)
        assert torch.autograd.gradgradcheck(function, (x, layer.weight), fast_mode=True)


@pytest.mark.parametrize("options", [{"stride": 2}, {"padding": 1, "padding_mode": "circular"}])
def test_geometries_that_no_kernel_takes_are_computed_by_torch(cases, host_executor, options):
    """A strided forward pass has a kernel; its gradient reads a signal with zeros between its voxels, and has none."""
    layer = GroupConv("O", 1, 2, 3, **options, backend="fourier")
    x = torch.randn(1, 1, 24, 3, 5, 3, requires_grad=True)
    wanted = layer(x)
    with cases.running_on(host_executor("plain")):
        got = layer(x)
        (dx,) = torch.autograd.grad(got.sum(), x)
    torch.testing.assert_close(got, wanted)
    torch.testing.assert_close(dx, torch.autograd.grad(wanted.sum(), x)[0])


def test_other_groups_and_half_precision_without_a_kernel_of_their_own(cases, host_executor):
    executor = host_executor("plain")
    small = GroupConv("D4", 1, 1, 3, backend="fourier")
    half = GroupConv("O", 1, 1, 1, backend="fourier", dtype=torch.bfloat16, bias=False)
    x = torch.randn(1, 1, 24, 2, 2, 2).to(torch.bfloat16)
    with cases.running_on(executor):
        small(torch.randn(1, 1, 8, 5, 5))
        assert executor.launched == []
        y = half(x)
    assert executor.launched == ["grid_fourier_forward_f32_o"]
    # Widened, summed in float32, rounded once: two such sums in other orders are at most one unit apart.
    torch.testing.assert_close(y, half(x), rtol=2**-7, atol=2**-12)


def test_an_empty_batch_launches_nothing(cases, recorder):
    layer = GroupConv("O", 1, 2, 1, backend="fourier")
    x = torch.randn(0, 1, 24, 2, 2, 2, requires_grad=True)
    with cases.running_on(recorder):
        layer(x).sum().backward()
    assert [kernel for kernel, _, _ in recorder.launches] == []
    assert layer.weight.grad.abs().sum() == 0


def test_the_choice_follows_group_type_and_geometry():
    plain = grid.Geometry((3, 3, 3), 2, 1, 0, (0, 0, 0))
    assert grid_fourier.halves_of(grid_fourier.CUBE, torch.float32, plain) == 1
    assert grid_fourier.halves_of(grid_fourier.CUBE * 2, torch.float32, plain) == 2
    assert grid_fourier.halves_of(grid_fourier.CUBE * 2, torch.float64, plain) == 0
    assert grid_fourier.halves_of((1, 1), torch.float32, plain) == 0
    assert grid_fourier.halves_of(grid_fourier.CUBE, torch.float32, grid.Geometry((3,) * 3, 1, 2, 0, (0,) * 3)) == 0
