"""ragged_mma.cu on the CPU: mixing and both gradients on emulated tensor cores, within what each precision promises."""

import pytest
import torch
from equiharness.kernels import S2Conv, SO3Conv, s2_near_identity, so3_near_identity
from equiharness.kernels.cuda import compile, ragged, ragged_mma, sources
from equiharness.kernels.cuda import spherical_operators as operators
from equiharness.kernels.cuda.resources import instructions
from equiharness.kernels.spherical.layout import so3_rows

ON_TENSOR_CORES = ("3xtf32", "tf32", "bf16")
#: b, batch, C_in, C_out: several tiles of columns, a depth that is no multiple of 16, one degree alone.
SIZES = [(3, 2, 4, 8), (2, 9, 12, 4), (1, 1, 4, 4)]


def operands(b, batch, c_in, c_out, on_sphere, draw=torch.randn):
    torch.manual_seed(1)
    x = draw(batch, b * b if on_sphere else so3_rows(b), c_in)
    y = draw(*((c_in, b * b, c_out) if on_sphere else (so3_rows(b), c_in * c_out)))
    return {operators.Z: (x, y), operators.X: (draw(batch, so3_rows(b), c_out), y),
            operators.Y: (x, draw(batch, so3_rows(b), c_out))}  # fmt: skip


def product(first, second, wanted, on_sphere, precision):
    return torch.ops.equiharness.spherical_product(first, second, wanted, on_sphere, precision)


def mistakes(cases, executor, precision, sizes, on_sphere, promised=None):
    """Entries beyond the bound of what is promised, per operand asked for; and which kernels computed."""
    executor.launched.clear()
    found = {}
    for wanted, pair in operands(*sizes, on_sphere).items():
        with cases.running_on(None):
            exact = product(*(t.double() for t in pair), wanted, on_sphere, precision)
            magnitudes = product(*(t.double().abs() for t in pair), wanted, on_sphere, precision)
        with cases.running_on(executor):
            got = product(*pair, wanted, on_sphere, precision)
        b, batch, c_in, c_out = sizes
        terms = {operators.Z: c_in, operators.X: c_out, operators.Y: batch}[wanted] * (2 * b - 1)
        bound = cases.tensor_core_bound(promised or precision, terms, magnitudes, cases.NEAREST)
        found[wanted] = int((~((got.double() - exact).abs() <= bound)).sum())
    return found, executor.launched


@pytest.mark.parametrize("on_sphere", [False, True])
@pytest.mark.parametrize("precision", ON_TENSOR_CORES)
def test_every_precision_keeps_its_bound_forward_and_backward(cases, host_executor, precision, on_sphere):
    for sizes in SIZES:
        found, kernels = mistakes(cases, host_executor("plain"), precision, sizes, on_sphere)
        assert not any(found.values())
        assert kernels == [f"ragged_mma_{precision}_{layout}_64" for layout in ("kn", "kk", "mn")]


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_a_coarser_precision_is_beyond_the_bound_of_3xtf32(cases, host_executor, precision):
    found, _ = mistakes(cases, host_executor("plain"), precision, SIZES[0], False, promised="3xtf32")
    assert all(found.values())


def test_the_large_tile_keeps_the_bound(cases, host_executor, monkeypatch):
    monkeypatch.setattr(ragged, "_FILLS", 0)
    monkeypatch.setattr(ragged, "_WASTE", float("inf"))
    operators._product_table.cache_clear()
    try:
        for precision in ON_TENSOR_CORES:
            found, kernels = mistakes(cases, host_executor("plain"), precision, (3, 4, 20, 16), False)
            assert not any(found.values())
            assert kernels == [f"ragged_mma_{precision}_{layout}_128" for layout in ("kn", "kk", "mn")]
    finally:
        operators._product_table.cache_clear()


@pytest.mark.parametrize("precision", ON_TENSOR_CORES)
def test_the_sanitizers_find_nothing_and_the_order_of_threads_does_not_matter(cases, host_executor, precision):
    pair = operands(2, 2, 4, 4, False)[operators.Z]
    results = []
    for executor in (host_executor("plain"), host_executor("plain", backwards=True), host_executor("address")):
        with cases.running_on(executor):
            results.append(product(*pair, operators.Z, False, precision))
    assert all(torch.equal(results[0], other) for other in results[1:])


def test_3xtf32_is_exact_where_float32_is(cases, host_executor):
    """Numbers of 22 bits, one product each: 11 bits of the big part, and 11 of the small one."""
    torch.manual_seed(0)
    x = torch.randint(2**21, 2**22, (1, 1, 4)).float()
    y = torch.zeros(1, 16)
    y[0, ::5] = 2.0 ** torch.arange(4)
    with cases.running_on(host_executor("plain")):
        assert torch.equal(product(x, y, operators.Z, False, "3xtf32"), (x * 2.0 ** torch.arange(4)))
        assert not torch.equal(product(x, y, operators.Z, False, "tf32"), (x * 2.0 ** torch.arange(4)))


@pytest.mark.parametrize("precision", ON_TENSOR_CORES)
def test_small_integers_come_out_exactly(cases, host_executor, precision):
    """Of 8 bits, with sums below 2^24: no precision rounds them."""

    def draw(*shape):
        return torch.randint(-100, 101, shape).float()

    for wanted, pair in operands(2, 3, 4, 8, False, draw).items():
        with cases.running_on(host_executor("plain")):
            got = product(*pair, wanted, False, precision)
        assert torch.equal(got.double(), product(*(t.double() for t in pair), wanted, False, precision))


def test_channels_that_do_not_come_in_fours_and_float64_leave_the_tensor_cores_alone(cases, host_executor):
    executor = host_executor("plain")
    with cases.running_on(executor):
        for c_in, c_out in ((3, 4), (4, 6)):
            for wanted, pair in operands(2, 2, c_in, c_out, False).items():
                product(*pair, wanted, False, "tf32")
        product(*(t.double() for t in operands(2, 2, 4, 4, False)[operators.Z]), operators.Z, False, "bf16")
    # Some of the six have their neighbours in fours all the same: x along k has C_in, y along n has C_out.
    assert executor.launched[-1] == "ragged_gemm_f64"
    assert executor.launched[:6].count("ragged_gemm_f32_64") == 6


def test_operands_off_the_grid_of_16_bytes_are_moved_onto_it(cases, host_executor):
    x, y = operands(2, 2, 4, 4, False)[operators.Z]
    shifted = torch.empty(x.numel() + 1)[1:].view(x.shape).copy_(x)
    assert shifted.data_ptr() % 16
    with cases.running_on(host_executor("plain")):
        assert torch.equal(product(shifted, y, 0, False, "3xtf32"), product(x, y, 0, False, "3xtf32"))


def test_an_unknown_precision_is_refused_with_the_known_ones(cases, host_executor):
    with (
        cases.running_on(host_executor("plain")),
        pytest.raises(ValueError, match="'3xtf32', 'float32', 'tf32', 'bf16'"),
    ):
        product(*operands(1, 1, 4, 4, False)[operators.Z], operators.Z, False, "fp8")
    with pytest.raises(ValueError, match="got 'fp8'"):
        SO3Conv(1, 1, 2, 2, so3_near_identity(), precision="fp8")


@pytest.mark.parametrize("kind", [SO3Conv, S2Conv])
def test_layers_take_the_precision_they_are_given(cases, host_executor, kind):
    executor = host_executor("plain")
    grid = so3_near_identity() if kind is SO3Conv else s2_near_identity()
    x = torch.randn(1, 4, *(4,) * (3 if kind is SO3Conv else 2))
    outputs = {}
    for precision in ragged_mma.PRECISIONS:
        torch.manual_seed(0)
        layer = kind(4, 4, 2, 2, grid, precision=precision)
        with cases.running_on(executor):
            y = layer(x.clone().requires_grad_())
            executor.launched.clear()
            y.sum().backward()
            assert sum(precision in name for name in executor.launched) >= 2 or precision == "float32"
        outputs[precision] = y.detach()
        assert ("precision" in repr(layer)) == (precision != "3xtf32")
    assert not torch.equal(outputs["tf32"], outputs["float32"])
    # 2^-8 per operand of 2 operands, and the transforms, which are linear: relative to the norm, not to an entry.
    assert (outputs["bf16"] - outputs["float32"]).norm() <= 2**-7 * outputs["float32"].norm()


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_the_product_with_a_precision_keeps_torchs_contract(cases, host_executor):
    with cases.running_on(host_executor("plain")):
        for wanted, pair in operands(2, 2, 4, 4, False).items():
            arguments = (*(t.requires_grad_() for t in pair), wanted, False, "tf32")
            torch.library.opcheck(torch.ops.equiharness.spherical_product.default, arguments)


@pytest.mark.parametrize("name", ["3xtf32_kn_128", "tf32_kk_64", "bf16_mn_128"])
def test_the_code_is_made_of_tensor_core_instructions(nvrtc, name):
    """Those of one step of depth 16: (rows / 16) (columns / 8) of a warp, times 16 / depth, times products."""
    kernel = next(k for k in ragged_mma.KERNELS if k.name == f"ragged_mma_{name}")
    code = compile.compile_program(sources.program([kernel]), kernel.name, "sm_90", nvrtc).cubin
    count = instructions(code, kernel.name)
    fragments = (4 if name.endswith("128") else 2) * 4
    assert count["HMMA"] == fragments * {"3xtf32": 2 * 3, "tf32": 2, "bf16": 1}[name.split("_")[0]]
    # A row of either operand is moved in packs of four: once before the loop, once in it.
    bm, bn, threads = (128, 64, 128) if name.endswith("128") else (64, 64, 128)
    assert count["LDGSTS"] == 2 * (bm + bn) * 16 // 4 // threads
    assert count["FFMA"] == 0
    with pytest.raises(ValueError, match="no kernel unheard_of"):
        instructions(code, "unheard_of")
