"""ragged_gemm.cu on the CPU: products of any sizes and layouts, mixing of spectra, Wigner stages, whole layers."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from equiharness.kernels import S2Conv, SO3Conv, s2_near_identity, so3_near_identity
from equiharness.kernels.cuda import ragged
from equiharness.kernels.cuda import spherical_operators as operators
from equiharness.kernels.spherical.contraction import contract
from equiharness.kernels.spherical.layout import so3_rows
from equiharness.kernels.spherical.tables import shell_starts

DTYPES = (torch.float32, torch.float64)
SIZES = [(1, 1, 1), (5, 70, 9), (64, 64, 8), (65, 3, 17), (3, 130, 7), (130, 129, 20)]


def products(sizes, left_transposed, right_transposed, dtype):
    """A table of plain products, their operands one after the other, and their float64 results with magnitudes."""
    rows, columns, depth = np.array(sizes).T
    starts = [np.concatenate([[0], np.cumsum(n)[:-1]]) for n in (rows * depth, depth * columns, rows * columns)]
    a = ((0, depth), (0, 1)) if not left_transposed else ((0, 1), (0, rows))
    b = ((0, columns), (0, 1)) if not right_transposed else ((0, 1), (0, depth))
    table = ragged.table(
        (1, rows), (1, columns), (1, depth),
        (starts[0], *a), (starts[1], *b), (starts[2], (0, columns), (0, 1)), dtype, "cpu",
    )  # fmt: skip
    torch.manual_seed(0)
    left = [torch.randn(m, k, dtype=dtype) for m, _, k in sizes]
    right = [torch.randn(k, n, dtype=dtype) for _, n, k in sizes]
    flat_left = torch.cat([(t.t() if left_transposed else t).reshape(-1) for t in left])
    flat_right = torch.cat([(t.t() if right_transposed else t).reshape(-1) for t in right])
    wanted = torch.cat([(x.double() @ y.double()).reshape(-1) for x, y in zip(left, right, strict=True)])
    magnitudes = torch.cat(
        [(x.double().abs() @ y.double().abs()).reshape(-1) for x, y in zip(left, right, strict=True)]
    )
    return table, flat_left, flat_right, wanted, magnitudes


def run(table, executor, a, b, size):
    c = executor.empty(a, (size,))
    table.launch(executor, a, b, c)
    return c


@pytest.mark.parametrize("kind", ["plain", "address"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("left", "right"), [(False, False), (True, False), (False, True)])
def test_products_of_all_sizes_are_right_to_rounding(cases, host_executor, kind, dtype, left, right):
    table, a, b, wanted, magnitudes = products(SIZES, left, right, dtype)
    c = run(table, host_executor(kind), a, b, len(wanted))
    assert ((c.double() - wanted).abs() <= cases.gamma(20, dtype) * magnitudes).all()


@pytest.mark.parametrize("kind", ["plain", "address"])
def test_the_large_tile_is_right_to_rounding(cases, host_executor, monkeypatch, kind):
    monkeypatch.setattr(ragged, "_FILLS", 0)
    monkeypatch.setattr(ragged, "_WASTE", float("inf"))
    table, a, b, wanted, magnitudes = products(SIZES, False, True, torch.float32)
    assert table.kernel.name == "ragged_gemm_f32_128"
    c = run(table, host_executor(kind), a, b, len(wanted))
    assert ((c.double() - wanted).abs() <= cases.gamma(20, torch.float32) * magnitudes).all()


def test_integers_come_out_exactly(host_executor):
    table, a, b, _, _ = products(SIZES, False, False, torch.float32)
    a, b = (torch.randint(-3, 4, t.shape).float() for t in (a, b))
    double, *_ = products(SIZES, False, False, torch.float64)
    executor = host_executor("plain")
    size = sum(m * n for m, n, _ in SIZES)
    assert torch.equal(run(table, executor, a, b, size).double(), run(double, executor, a.double(), b.double(), size))


def test_large_products_get_the_large_tile_and_small_ones_do_not():
    def kernel(*sizes):
        return products(sizes, False, False, torch.float32)[0].kernel.name

    assert kernel((2048, 2048, 1)) == "ragged_gemm_f32_128"
    assert kernel((100, 100, 4)) == "ragged_gemm_f32_64"  # too few blocks
    assert kernel(*[(65, 65, 1)] * 200) == "ragged_gemm_f32_128"  # both tiles waste as much
    assert kernel(*[(64, 64, 1)] * 200) == "ragged_gemm_f32_64"  # the large one would be three quarters empty


def test_tiles_are_numbered_through():
    table, *_ = products(SIZES, False, False, torch.float32)
    firsts = table.groups[:, 0].tolist()
    counts = [-(-m // 64) * -(-n // 64) for m, n, _ in SIZES]
    assert [b - a for a, b in pairwise([*firsts, table.tiles])] == counts


def test_a_product_too_large_for_the_kernel_is_refused():
    with pytest.raises(ValueError, match="fewer than 2\\^31"):
        ragged.table((1, 2**31), (1, 1), (1, 1), (0, (0, 1), (0, 1)), (0, (0, 1), (0, 1)), (0, (0, 1), (0, 1)),
                     torch.float32, "cpu")  # fmt: skip


def operands(b, batch, c_in, c_out, on_sphere, dtype):
    torch.manual_seed(1)
    x = torch.randn(batch, b * b if on_sphere else so3_rows(b), c_in, dtype=dtype)
    y = torch.randn(*((c_in, b * b, c_out) if on_sphere else (so3_rows(b), c_in * c_out)), dtype=dtype)
    z = torch.randn(batch, so3_rows(b), c_out, dtype=dtype)
    return {operators.Z: (x, y), operators.X: (z, y), operators.Y: (x, z)}


def product(first, second, wanted, on_sphere):
    return torch.ops.equiharness.spherical_product(first, second, wanted, on_sphere)


@pytest.mark.parametrize("kind", ["plain", "address"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("on_sphere", [False, True])
@pytest.mark.parametrize("sizes", [(1, 2, 1, 1), (3, 2, 3, 2), (4, 3, 1, 20)])
def test_mixing_and_both_gradients_are_right_to_rounding(cases, host_executor, kind, dtype, on_sphere, sizes):
    b, batch, c_in, c_out = sizes
    # The longest sums: over (k, i), (n, o) and (b, m) at the highest degree.
    terms = {operators.Z: (2 * b - 1) * c_in, operators.X: (2 * b - 1) * c_out, operators.Y: batch * (2 * b - 1)}
    for wanted, pair in operands(*sizes, on_sphere, dtype).items():
        with cases.running_on(None):
            exact = product(*(t.double() for t in pair), wanted, on_sphere)
            magnitudes = product(*(t.double().abs() for t in pair), wanted, on_sphere)
        with cases.running_on(host_executor(kind)):
            got = product(*pair, wanted, on_sphere)
        # Twice: the float64 reference rounds too.
        assert ((got.double() - exact).abs() <= 2 * cases.gamma(terms[wanted], dtype) * magnitudes).all()


@pytest.mark.parametrize("analyse", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("b", "degrees", "orders", "channels"), [(1, 1, 1, 1), (3, 3, 3, 2), (2, 4, 2, 1), (4, 3, 3, 5)]
)
def test_the_wigner_stage_is_right_to_rounding(cases, host_executor, b, degrees, orders, channels, dtype, analyse):
    columns, size = 4 * channels, 2 * b
    rows = sum(2 * (degrees - M) * (2 * M + 1) for M in range(orders))
    torch.manual_seed(2)
    table = torch.randn(shell_starts(degrees, orders)[-1] * size, dtype=dtype)
    shapes = {True: (orders, orders, columns, size), False: (rows, columns)}
    source = torch.randn(shapes[analyse], dtype=dtype)

    def result(function, change):
        out = torch.full(shapes[not analyse], float("nan"), dtype=change(source).dtype)
        function(change(table), change(source), out, degrees, orders, analyse)
        return out

    exact = result(contract, lambda t: t.double())
    magnitudes = result(contract, lambda t: t.double().abs())
    with cases.running_on(host_executor("plain")):
        got = result(operators.wigner_product, lambda t: t)
    terms = size if analyse else 2 * degrees
    assert ((got.double() - exact).abs() <= 2 * cases.gamma(terms, dtype) * magnitudes).all()


@pytest.mark.parametrize("kind", [SO3Conv, S2Conv])
@pytest.mark.parametrize(("b_in", "b_out", "alias"), [(3, 3, False), (4, 2, False), (2, 4, True)])
def test_layers_on_the_kernels_err_no_more_than_torch(cases, host_executor, kind, b_in, b_out, alias):
    """The bound of verification.md, 16 kappa eps with kappa from torch's own float32 run, for output and gradients."""
    grid = so3_near_identity() if kind is SO3Conv else s2_near_identity()
    torch.manual_seed(3)
    layer = kind(2, 3, b_in, b_out, grid, alias=alias)
    torch.nn.init.normal_(layer.bias)
    double = kind(2, 3, b_in, b_out, grid, alias=alias).double()
    double.load_state_dict(layer.state_dict())
    x = torch.randn(2, 2, *(2 * b_in,) * (3 if kind is SO3Conv else 2))
    executor = host_executor("plain")

    def results(layer, x):
        x = x.detach().requires_grad_()
        y = layer(x)
        cotangent = torch.arange(y.numel(), dtype=y.dtype).sin().view(y.shape)
        return (y.detach(), *torch.autograd.grad(y, [x, *layer.parameters()], cotangent))

    exact, by_torch = results(double, x.double()), results(layer, x)
    with cases.running_on(executor):
        by_kernels, double_by_kernels = results(layer, x), results(double, x.double())
    assert {"ragged_gemm_f32_64", "ragged_gemm_f64"} <= set(executor.launched)
    for want, torchs, ours, double_ours in zip(exact, by_torch, by_kernels, double_by_kernels, strict=True):
        scale = want.norm()
        kappa = max(1.0, float((torchs.double() - want).norm() / scale) / 2**-23)
        assert (ours.double() - want).norm() <= 16 * kappa * 2**-23 * scale
        assert (double_ours - want).norm() <= 16 * kappa * 2**-52 * scale


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("where", ["host", "torch"])
@pytest.mark.parametrize("on_sphere", [False, True])
def test_the_product_keeps_torchs_contract(cases, host_executor, where, on_sphere):
    with cases.running_on(host_executor("plain") if where == "host" else None):
        for wanted, pair in operands(2, 2, 2, 1, on_sphere, torch.float64).items():
            arguments = (*(t.requires_grad_() for t in pair), wanted, on_sphere)
            torch.library.opcheck(torch.ops.equiharness.spherical_product.default, arguments)


@pytest.mark.parametrize("where", ["host", "torch"])
def test_the_wigner_product_keeps_torchs_contract(cases, host_executor, where):
    b = 2
    table, source = torch.randn(shell_starts(b, b)[-1] * 2 * b), torch.randn(b, b, 4, 2 * b)
    out = torch.empty(sum(2 * (b - M) * (2 * M + 1) for M in range(b)), 4)
    with cases.running_on(host_executor("plain") if where == "host" else None):
        torch.library.opcheck(torch.ops.equiharness.wigner_product.default, (table, source, out, b, b, True))


@pytest.mark.parametrize("where", ["host", "torch"])
@pytest.mark.parametrize("on_sphere", [False, True])
def test_derivatives_of_both_orders_match_finite_differences(cases, host_executor, where, on_sphere):
    with cases.running_on(host_executor("plain") if where == "host" else None):
        for wanted, pair in operands(2, 2, 1, 2, on_sphere, torch.float64).items():
            inputs = tuple(t.requires_grad_() for t in pair)

            def function(first, second, wanted=wanted):
                return product(first, second, wanted, on_sphere)

            assert torch.autograd.gradcheck(function, inputs, fast_mode=True)
            assert torch.autograd.gradgradcheck(function, inputs, fast_mode=True)


def test_an_empty_batch_gives_no_spectra_and_no_gradient(cases, host_executor):
    x = torch.randn(0, so3_rows(2), 1, requires_grad=True)
    y = torch.randn(so3_rows(2), 2, requires_grad=True)
    with cases.running_on(host_executor("plain")):
        z = operators.spherical_product(x, y, False)
        z.sum().backward()
    assert z.shape == (0, so3_rows(2), 2)
    assert x.grad.shape == x.shape
    assert not y.grad.any()


def test_a_table_is_made_once_per_shape(cases, recorder):
    x, y = torch.randn(2, so3_rows(2), 1), torch.randn(so3_rows(2), 2)
    with cases.running_on(recorder):
        operators.spherical_product(x, y, False)
        operators.spherical_product(x + 1, y, False)
        operators.spherical_product(x[:1], y, False)
    tables = [arguments[0] for _, _, arguments in recorder.launches]
    assert tables[0] is tables[1]
    assert tables[0] is not tables[2]
    assert len({kernel for kernel, _, _ in recorder.launches}) == 1
