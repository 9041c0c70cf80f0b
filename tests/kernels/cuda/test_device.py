"""The kernels on a GPU (marker gpu, skipped elsewhere); what does not need one runs on the host too, the same lines."""

import contextlib
import copy

import pytest
import torch
from equiharness.kernels import GroupConv, LiftingConv, S2Conv, SO3Conv, s2_near_identity, so3_near_identity
from equiharness.kernels.cuda import launch
from equiharness.kernels.cuda import spherical_operators as operators
from equiharness.kernels.cuda.wigner_operators import beta_step
from equiharness.kernels.spherical.layout import so3_rows
from equiharness.kernels.spherical.tables import shell_starts


@pytest.fixture
def gpu():
    """The executor of this machine's GPUs."""
    if not torch.cuda.is_available():
        pytest.skip("no NVIDIA GPU, or a torch that does not see it")
    executor = launch.executor_for(torch.empty(0, device="cuda"))
    if executor is None:
        pytest.skip("CuPy is not importable: pip install equiharness[cuda13]")
    return executor


@pytest.fixture(params=["host", pytest.param("cuda", marks=pytest.mark.gpu)])
def place(request, cases):
    """Where to compute: a device, and a context in which the kernels run there."""

    class Place:
        device = request.param if request.param == "cuda" else "cpu"

        @staticmethod
        def kernels():
            return contextlib.nullcontext() if executor is None else cases.running_on(executor)

    if request.param == "cuda":
        request.getfixturevalue("gpu")
        executor = None
    else:
        executor = request.getfixturevalue("host_executor")("plain")
    return Place


def results(layer, x, cotangent):
    x = x.detach().requires_grad_()
    y = layer(x)
    learned = [p for p in layer.parameters() if p.requires_grad]
    return (y.detach(), *torch.autograd.grad(y, [x, *learned], cotangent))


@pytest.mark.parametrize(
    "name",
    ["lifting C4", "regular C4", "20 channels", "70 channels", "strided", "misaligned", "circular, strided",
     "a group in space", "O", "several tiles of voxels", "double", "half", "bfloat"],
)  # fmt: skip
def test_kernels_agree_with_the_formula_to_rounding(cases, place, name):
    case = cases.GRID[name]
    layer = case.build()
    x = case.input(layer)
    cotangent = torch.randn(layer(x).shape).to(case.dtype)
    there = copy.deepcopy(layer).to(place.device)
    with place.kernels():
        got = case.results(there, x.to(place.device), cotangent.to(place.device))
    exact, magnitudes = case.references(layer, x, cotangent)
    got = [t.cpu() for t in got]
    assert cases.within_rounding(got, exact, magnitudes, case.terms(layer, exact[0]), case.dtype) is None


# On the host a small box and one layer per group; on a GPU boxes of many tiles, several channels and both layers.
BITWISE = {
    "C4": ((5, 4), (33, 30), 1), "D4": ((5, 4), (33, 30), 1), "D4 strided": ((5, 7), (33, 31), 2),
    "O": ((2, 3, 2), (9, 8, 7), 1), "O strided": ((3, 3, 3), (9, 9, 7), 2), "Oh": (None, (7, 6, 5), 1),
}  # fmt: skip


@pytest.mark.parametrize("kind", [GroupConv, LiftingConv])
@pytest.mark.parametrize("name", BITWISE)
def test_the_kernels_are_equivariant_to_the_last_bit(cases, place, grid, name, kind):
    group, (small, large, stride) = name.split()[0], BITWISE[name]
    box = large if place.device == "cuda" else small
    if box is None:
        pytest.skip("all 48 elements on the host are in test_grid_kernels.py")
    channels = (3, 5) if place.device == "cuda" else (1, 1)
    k = 3 if place.device == "cuda" or len(box) == 2 else 1
    case = cases.GridCase(kind, group, channels, box, k, stride, padding=k // 2)
    layer = case.build()
    layer.requires_grad_(False)
    matrices, source = grid.MATRICES[group], "regular" if kind is GroupConv else "trivial"
    x = case.input(layer)
    cotangent = torch.randn(layer(x).shape)
    layer = layer.to(place.device)

    def both(x, cotangent):
        with place.kernels():
            y, dx = results(layer, x.to(place.device), cotangent.to(place.device))
        return y.cpu().contiguous().view(torch.int32), dx.cpu().contiguous().view(torch.int32)

    y, dx = (t.view(torch.float32) for t in both(x, cotangent))
    # On the host every fourth element of O: test_grid_kernels.py tries all of them there.
    for m in matrices if place.device == "cuda" or len(matrices) < 24 else matrices[::4]:
        moved = both(grid.act(x, m, source, matrices), grid.act(cotangent, m, "regular", matrices))
        wanted = grid.act(y, m, "regular", matrices), grid.act(dx, m, source, matrices)
        assert all(torch.equal(a, b.contiguous().view(torch.int32)) for a, b in zip(moved, wanted, strict=True))


@pytest.mark.parametrize("on_sphere", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_mixing_and_both_gradients_are_right_to_rounding(cases, place, on_sphere, dtype):
    b, batch, c_in, c_out = (12, 5, 20, 17) if place.device == "cuda" else (3, 2, 2, 3)
    torch.manual_seed(0)
    x = torch.randn(batch, b * b if on_sphere else so3_rows(b), c_in, dtype=dtype)
    y = torch.randn(*((c_in, b * b, c_out) if on_sphere else (so3_rows(b), c_in * c_out)), dtype=dtype)
    z = torch.randn(batch, so3_rows(b), c_out, dtype=dtype)
    width = 2 * b - 1
    product = torch.ops.equiharness.spherical_product
    for wanted, pair, terms in (
        (operators.Z, (x, y), width * c_in), (operators.X, (z, y), width * c_out), (operators.Y, (x, z), batch * width)
    ):  # fmt: skip
        exact = product(*(t.double() for t in pair), wanted, on_sphere)
        magnitudes = product(*(t.double().abs() for t in pair), wanted, on_sphere)
        with place.kernels():
            got = product(*(t.to(place.device) for t in pair), wanted, on_sphere)
        assert ((got.cpu().double() - exact).abs() <= 2 * cases.gamma(terms, dtype) * magnitudes).all()


@pytest.mark.parametrize("precision", ["3xtf32", "tf32", "bf16"])
def test_mixing_on_tensor_cores_keeps_the_bound_of_its_precision(cases, place, precision):
    b, batch, channels = (12, 9, 32) if place.device == "cuda" else (2, 2, 4)
    torch.manual_seed(0)
    x, z = (torch.randn(batch, so3_rows(b), channels) for _ in range(2))
    y = torch.randn(so3_rows(b), channels**2)
    addition = cases.TENSOR_CORE if place.device == "cuda" else cases.NEAREST
    product = torch.ops.equiharness.spherical_product
    for wanted, pair, outer in ((operators.Z, (x, y), channels), (operators.X, (z, y), channels),
                                (operators.Y, (x, z), batch)):  # fmt: skip
        exact = product(*(t.double() for t in pair), wanted, False)
        magnitudes = product(*(t.double().abs() for t in pair), wanted, False)
        with place.kernels():
            got = product(*(t.to(place.device) for t in pair), wanted, False, precision)
        bound = cases.tensor_core_bound(precision, outer * (2 * b - 1), magnitudes, addition)
        assert ((got.cpu().double() - exact).abs() <= bound).all()


@pytest.mark.parametrize("on_sphere", [False, True])
@pytest.mark.parametrize("analyse", [True, False])
def test_the_beta_step_of_integers_is_exact(place, on_sphere, analyse):
    b, batch, channels = (20, 3, 21) if place.device == "cuda" else (3, 1, 2)
    items, rows = batch * channels, b * b if on_sphere else so3_rows(b)
    size = b * (b + 1) // 2 * b if on_sphere else shell_starts(b, b)[-1] * b
    torch.manual_seed(0)
    table, weights, space, spectrum = (
        torch.randint(-3, 4, shape).float()
        for shape in ((size,), (b,), (b, 2 * items, 2 * b) if on_sphere else (b, b, 4 * items, 2 * b),
                      (batch, rows, channels))
    )  # fmt: skip
    source, out = (space, spectrum) if analyse else (spectrum, space)
    exact, got = torch.zeros_like(out).double(), torch.zeros_like(out).to(place.device)
    beta_step(table.double(), weights.double(), source.double(), exact, b, analyse, True)
    with place.kernels():
        beta_step(*(t.to(place.device) for t in (table, weights, source)), got, b, analyse, True)
    assert torch.equal(got.cpu().double(), exact)


@pytest.mark.parametrize("kind", [SO3Conv, S2Conv])
def test_spherical_layers_err_no_more_than_torch(place, kind):
    """The bound of verification.md, 16 kappa eps, kappa from torch's own float32 run on the CPU."""
    b, channels, batch = (16, 12, 3) if place.device == "cuda" else (3, 2, 2)
    torch.manual_seed(0)
    layer = kind(channels, channels, b, b, so3_near_identity() if kind is SO3Conv else s2_near_identity())
    double = copy.deepcopy(layer).double()
    x = torch.randn(batch, channels, *(2 * b,) * (3 if kind is SO3Conv else 2))
    cotangent = torch.randn(layer(x).shape)
    exact, by_torch = results(double, x.double(), cotangent.double()), results(layer, x, cotangent)
    with place.kernels():
        ours = results(copy.deepcopy(layer).to(place.device), x.to(place.device), cotangent.to(place.device))
    for want, torchs, got in zip(exact, by_torch, ours, strict=True):
        kappa = max(1.0, float((torchs.double() - want).norm() / want.norm()) / 2**-23)
        assert (got.cpu().double() - want).norm() <= 16 * kappa * 2**-23 * want.norm()


def grid_layer(place, dtype=torch.float32, **options):
    torch.manual_seed(0)
    layer = GroupConv("C4", 2, 3, 3, padding=1, backend="exact", dtype=dtype, device=place.device, **options)
    return layer, torch.randn(2, 2, 4, 5, 6, dtype=dtype, device=place.device)


def test_two_runs_give_the_same_bits(place):
    layer, x = grid_layer(place)
    spherical = SO3Conv(2, 2, 3, 3, so3_near_identity()).to(place.device)
    signal = torch.randn(2, 2, 6, 6, 6, device=place.device)
    with place.kernels():
        for module, value in ((layer, x), (spherical, signal)):
            cotangent = torch.randn_like(module(value))
            first, second = (results(module, value, cotangent) for _ in range(2))
            assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_a_compiled_layer_computes_the_same(place):
    torch._dynamo.reset()
    layer, x = grid_layer(place)
    compiled = torch.compile(copy.deepcopy(layer), fullgraph=True, backend="aot_eager")
    with place.kernels():
        cotangent = torch.randn_like(layer(x))
        for got, want in zip(results(compiled, x, cotangent), results(layer, x, cotangent), strict=True):
            torch.testing.assert_close(got, want)
    torch._dynamo.reset()


def test_operators_and_derivatives_keep_torchs_contract(place):
    layer, x = grid_layer(place, torch.float64, bias=False)
    x = x[:1, :, :, :3, :2].clone().requires_grad_()
    tables = [layer.get_buffer(name) for name in ("elements", "exact_fibre", "exact_taps", "exact_adjoint")]
    weight = layer.weight.detach().view(3, 2, 4, 9).requires_grad_()
    with place.kernels():
        arguments = (x, weight, *tables, [3, 2], 1, 1, 1, [0, 0], 3)
        torch.library.opcheck(torch.ops.equiharness.grid_exact.default, arguments)
        assert torch.autograd.gradcheck(layer, (x,), fast_mode=True)
        assert torch.autograd.gradgradcheck(layer, (x,), fast_mode=True)


def test_an_empty_batch_works(place):
    layer, x = grid_layer(place)
    spherical = SO3Conv(1, 1, 2, 2, so3_near_identity()).to(place.device)
    with place.kernels():
        assert layer(x[:0]).shape == (0, 3, 4, 5, 6)
        assert spherical(torch.empty(0, 1, 4, 4, 4, device=place.device)).shape == (0, 1, 4, 4, 4)


@pytest.mark.gpu
def test_a_graph_replays_on_new_data(gpu):
    layer = GroupConv("O", 2, 3, 3, padding=1, backend="exact", device="cuda")
    spherical = SO3Conv(3, 3, 4, 4, so3_near_identity()).cuda()
    for module, shape in ((layer, (2, 2, 24, 5, 5, 5)), (spherical, (2, 3, 8, 8, 8))):
        held = torch.randn(shape, device="cuda")
        with torch.no_grad():
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                module(held)  # compiles, and fills the caches of tables
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                y = module(held)
            fresh = torch.randn(shape, device="cuda")
            held.copy_(fresh)
            graph.replay()
            assert torch.equal(y, module(fresh))


@pytest.mark.gpu
def test_a_launch_runs_on_the_current_stream(gpu):
    layer = GroupConv("C4", 4, 4, 3, padding=1, backend="exact", device="cuda")
    x = torch.randn(8, 4, 4, 64, 64, device="cuda")
    with torch.no_grad():
        wanted = layer(x)
        side = torch.cuda.Stream()
        torch.cuda.synchronize()
        with torch.cuda.stream(side):
            torch.cuda._sleep(50_000_000)  # what the layer reads is written after this
            moved = x * 2
            y = layer(moved)
        side.synchronize()
    assert torch.equal(y, 2 * wanted)  # a product by two is exact


@pytest.mark.gpu
def test_every_device_computes_the_same(gpu):
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    layer = GroupConv("C4", 2, 3, 3, padding=1, backend="exact")
    x = torch.randn(2, 2, 4, 5, 6)
    first, last = (
        layer.to(device)(x.to(device)).cpu() for device in ("cuda:0", f"cuda:{torch.cuda.device_count() - 1}")
    )
    assert torch.equal(first, last)


@pytest.mark.gpu
def test_a_new_batch_size_loads_no_new_code(gpu):
    layer = GroupConv("C4", 2, 3, 3, padding=1, backend="exact", device="cuda")
    spherical = SO3Conv(2, 2, 4, 4, so3_near_identity()).cuda()

    def run(batch):
        x = torch.randn(batch, 2, 4, 9, 9, device="cuda", requires_grad=True)
        layer(x).sum().backward()
        spherical(torch.randn(batch, 2, 8, 8, 8, device="cuda"))
        return set(gpu._functions)

    loaded = run(1)
    assert loaded
    assert run(3) == loaded
    assert run(17) == loaded


@pytest.mark.gpu
def test_offsets_beyond_32_bits_reach_their_place(gpu):
    if torch.cuda.mem_get_info()[0] < 12 * 2**30:
        pytest.skip("needs 12 GiB of free GPU memory")
    layer = LiftingConv("C4", 1, 2, 3, backend="exact", device="cuda")
    far = 2**31 + 11
    x = torch.empty(far + 30, device="cuda").as_strided((2, 1, 5, 6), (far, 30, 6, 1))
    x.copy_(torch.randn(2, 1, 5, 6, device="cuda"))
    with torch.no_grad():
        assert torch.equal(layer(x), layer(x.contiguous()))


@pytest.mark.gpu
def test_torch_computes_the_same_in_the_place_of_the_kernels(gpu, cases):
    layer = GroupConv("C4", 2, 3, 3, padding=1, backend="exact", device="cuda", dtype=torch.float64)
    x = torch.randn(2, 2, 4, 5, 6, device="cuda", dtype=torch.float64)
    ours = layer(x)
    with cases.running_on(None):
        torch.testing.assert_close(layer(x), ours, rtol=0, atol=1e-12)
