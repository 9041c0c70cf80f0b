"""grid_exact.cu on the CPU: right to derived bounds, equivariant to the last bit, differentiable to every order."""

import mmap

import numpy as np
import pytest
import torch
from equiharness.kernels import GroupConv, LiftingConv
from equiharness.kernels.cuda import grid, grid_operators, host, sources
from equiharness.kernels.grid.exact import exact_tables
from equiharness.kernels.grid.groups import grid_group

NAMES = [
    "lifting C4", "lifting O", "trivial group", "regular C4", "20 channels", "70 channels", "strided",
    "strided by more than the kernel", "misaligned", "circular", "circular, strided",
    "circular, more windows than voxels", "a group in space", "O", "Oh", "several tiles of voxels", "double", "half",
    "bfloat",
]  # fmt: skip
#: Cheap enough for sanitizers, which are fifteen times slower; together they run every kernel (the next test).
SMALL = [
    "lifting C4", "regular C4", "20 channels", "70 channels", "strided by more than the kernel", "circular, strided",
    "circular, more windows than voxels", "a group in space", "double", "half", "bfloat",
]  # fmt: skip
#: More boxes and groups for the same kernels.
MORE = ["lifting O", "trivial group", "circular", "O"]


def launched(cases, recorder, names):
    for name in names:
        case = cases.GRID[name]
        layer = case.build()
        x = case.input(layer)
        with cases.running_on(recorder):
            case.results(layer, x, torch.ones_like(layer(x)))
    return {kernel.name for kernel, _, _ in recorder.launches}


def test_the_small_cases_run_every_kernel(cases, recorder):
    assert set(NAMES) == set(cases.GRID)
    assert launched(cases, recorder, SMALL) == {kernel.name for kernel in grid.KERNELS}


@pytest.mark.parametrize("name", NAMES)
def test_kernels_agree_with_the_formula_to_rounding(cases, host_executor, name):
    assert disagreement(cases, host_executor("plain"), name) is None


@pytest.mark.parametrize("name", ["regular C4", "circular", "double"])
def test_the_order_of_the_threads_does_not_matter(cases, host_executor, name):
    assert disagreement(cases, host_executor("plain", backwards=True), name) is None


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.deep] * (n in ("bfloat", *MORE))) for n in (*SMALL, *MORE)]
)
def test_the_sanitizers_find_no_fault(cases, host_executor, name):
    assert disagreement(cases, host_executor("address"), name) is None


def disagreement(cases, executor, name):
    case = cases.GRID[name]
    layer = case.build()
    x = case.input(layer)
    with cases.running_on(executor):
        cotangent = torch.randn(layer(x).shape).to(case.dtype)
        results = case.results(layer, x, cotangent)
    exact, magnitudes = case.references(layer, x, cotangent)
    return cases.within_rounding(results, exact, magnitudes, case.terms(layer, exact[0]), case.dtype)


@pytest.mark.parametrize("name", ["lifting C4", "20 channels", "circular, strided", "a group in space"])
def test_integers_come_out_exactly(cases, host_executor, name):
    """Sums of products of integers in [-3, 3] are exact in float32: the tolerance is zero."""
    case = cases.GRID[name]
    layer = case.build()
    with torch.no_grad():
        layer.weight.copy_(torch.randint(-3, 4, layer.weight.shape))
    x = case.input(layer, lambda *shape: torch.randint(-3, 4, shape).float())
    with cases.running_on(host_executor("plain")):
        cotangent = torch.randint(-3, 4, layer(x).shape).float()
        results = case.results(layer, x, cotangent)
    exact, _ = case.references(layer, x, cotangent)
    for got, want in zip(results, exact, strict=True):
        assert torch.equal(got.double(), want)


def same_bits(a, b):
    return a.shape == b.shape and torch.equal(a.contiguous().view(torch.int32), b.contiguous().view(torch.int32))


def broken_elements(layer, x, cotangent, act, matrices, source, tried=None):
    """Elements g, of those tried, where f(L_g x) and L_g f(x), or the gradients of the input, differ in a bit."""

    def results(x, cotangent):
        x = x.requires_grad_()
        y = layer(x)
        return y.detach(), torch.autograd.grad(y, x, cotangent)[0]

    y, dx = results(x.clone(), cotangent)
    broken = []
    for m in matrices if tried is None else tried:
        moved, moved_dx = results(act(x, m, source, matrices), act(cotangent, m, "regular", matrices))
        same = same_bits(moved, act(y, m, "regular", matrices)), same_bits(moved_dx, act(dx, m, source, matrices))
        broken += [] if all(same) else [m.tolist()]
    return broken


BITWISE = {
    "C4": ((5, 7), 3, 1), "C4 even": ((4, 6), 2, 1), "C4 strided": ((5, 7), 3, 2), "D4": ((5, 4), 3, 1),
    "D4 strided": ((7, 5), 3, 2), "O": ((2, 3, 3), 2, 1),
}  # fmt: skip


@pytest.mark.parametrize("kind", [GroupConv, LiftingConv])
@pytest.mark.parametrize(
    ("name", "step"),
    [*((name, 6 if name == "O" else 1) for name in BITWISE), pytest.param("O", 1, marks=pytest.mark.deep)],
)
def test_the_kernels_are_equivariant_to_the_last_bit(cases, host_executor, grid, name, step, kind):
    """Of O every sixth element in this box, all of them in the cube of the next test."""
    group, (box, k, stride) = name.split()[0], BITWISE[name]
    case = cases.GridCase(kind, group, (2, 3) if len(box) == 2 else (1, 1), box, k, stride, padding=k // 2, batch=1)
    layer = case.build(seed=3)
    layer.requires_grad_(False)
    matrices = grid.MATRICES[group]
    source = "regular" if kind is GroupConv else "trivial"
    x = case.input(layer)
    with cases.running_on(host_executor("plain")):
        cotangent = torch.randn(layer(x).shape)
        assert broken_elements(layer, x, cotangent, grid.act, matrices, source, tried=matrices[::step]) == []


@pytest.mark.parametrize(
    ("group", "kind"),
    [
        ("O", GroupConv),
        ("O", LiftingConv),
        pytest.param("Oh", GroupConv, marks=pytest.mark.deep),  # 48 elements of 48 values each
        ("Oh", LiftingConv),
    ],
)
def test_all_elements_of_a_cube_agree_to_the_last_bit(cases, host_executor, grid, group, kind):
    """All transformed inputs in one batch: equivariant, and independent of the place in the batch."""
    n = 2 if group == "Oh" else 3  # either box has windows that lie inside it and windows that do not
    case = cases.GridCase(kind, group, (1, 1), (n, n, n), 2, padding=1, batch=1)
    layer = case.build(seed=4)
    layer.requires_grad_(False)
    matrices = grid.MATRICES[group]
    source = "regular" if kind is GroupConv else "trivial"
    x, cotangent = case.input(layer), torch.randn(1, 1, layer.order, n + 1, n + 1, n + 1)
    orbit = torch.cat([grid.act(x, m, source, matrices) for m in matrices]).requires_grad_()
    cotangents = torch.cat([grid.act(cotangent, m, "regular", matrices) for m in matrices])
    with cases.running_on(host_executor("plain")):
        y = layer(orbit)
        (dx,) = torch.autograd.grad(y, orbit, cotangents)
    for values, fibre in ((y.detach(), "regular"), (dx, source)):
        wanted = torch.cat([grid.act(values[:1], m, fibre, matrices) for m in matrices])
        assert same_bits(values, wanted)


def test_the_fast_backend_is_not_equivariant_to_the_last_bit(cases, grid):
    """The control: the comparison above can fail, and does for a convolution with expanded filters."""
    case = cases.GridCase(GroupConv, "D4", (2, 3), (5, 4), 3, padding=1, batch=1)
    layer = case.build(seed=3, backend="fast")
    x = case.input(layer)
    matrices = grid.MATRICES["D4"]
    assert broken_elements(layer, x, torch.randn(layer(x).shape), grid.act, matrices, "regular") != []


# Linux, any architecture: address space without a claim on memory (Python names it from 3.13 on).
MAP_NORESERVE = 0x4000


@pytest.mark.parametrize("mode", ["zeros", "circular"])
def test_offsets_beyond_32_bits_reach_their_place(cases, host_executor, mode):
    """The second sample lies 2^31 elements after the first, in memory that is mostly never touched."""
    case = cases.GridCase(LiftingConv, "C4", (1, 2), (3, 4), 3, padding=1, mode=mode)
    layer, far, dtype = case.build(), 2**31 + 11, torch.float32
    memory = mmap.mmap(-1, (far + 12) * 4, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE)
    x = torch.frombuffer(memory, dtype=dtype).as_strided((2, 1, 3, 4), (far, 12, 4, 1))
    x.copy_(torch.randn(2, 1, 3, 4))
    with cases.running_on(host_executor("plain")):
        cotangent = torch.randn(layer(x).shape).to(dtype)
        results = case.results(layer, x, cotangent)
    exact, magnitudes = case.references(layer, x, cotangent)
    assert cases.within_rounding(results, exact, magnitudes, case.terms(layer, exact[0]), dtype) is None
    del x
    memory.close()


@pytest.mark.parametrize("shape", [(0, 2, 4, 5, 5), (1, 2, 4, 5, 5)])
def test_batches_of_none_and_one(cases, host_executor, shape):
    layer = GroupConv("C4", 2, 3, 3, backend="exact")
    x = torch.randn(shape, requires_grad=True)
    with cases.running_on(host_executor("plain")):
        y = layer(x)
        y.sum().backward()
    assert y.shape == (shape[0], 3, 4, 3, 3)
    assert x.grad.shape == x.shape
    assert torch.isfinite(layer.weight.grad).all()
    assert (layer.weight.grad.abs().sum() > 0) == (shape[0] > 0)


def test_a_sample_with_nan_spoils_no_other(cases, host_executor):
    layer = GroupConv("C4", 1, 2, 3, padding=1, backend="exact")
    x = torch.randn(3, 1, 4, 4, 5)
    with cases.running_on(host_executor("plain")):
        clean = layer(x)
        x[1] = float("nan")
        spoilt = layer(x)
    assert torch.equal(spoilt[[0, 2]], clean[[0, 2]])
    assert spoilt[1].isnan().all()


def test_any_memory_layout_gives_the_same_bits(cases, host_executor):
    layer = GroupConv("C4", 2, 2, 3, padding=1, backend="exact")
    x = torch.randn(2, 2, 4, 4, 5)
    scattered = x.movedim(1, -1).contiguous().movedim(-1, 1)
    with cases.running_on(host_executor("plain")):
        assert torch.equal(layer(scattered), layer(x))


def operator_arguments(group, regular, dtype):
    tables = exact_tables(grid_group(group), 2, regular)
    tables = [torch.from_numpy(np.asarray(t)) for t in tables.values()]
    order = len(tables[0])
    torch.manual_seed(0)
    x = torch.randn(1, 1, order, 3, 2, dtype=dtype, requires_grad=True)
    weight = torch.randn(2, 1, order if regular else 1, 4, dtype=dtype, requires_grad=True)
    geometry = ([4, 3], 1, 1, 1, [0, 0], 2)
    y = torch.randn(1, 2, order, 4, 3, dtype=dtype, requires_grad=True)
    return x, weight, y, tables, geometry


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize(
    ("where", "regular"),
    [
        ("host", True),
        ("torch", False),
        pytest.param("host", False, marks=pytest.mark.deep),
        pytest.param("torch", True, marks=pytest.mark.deep),
    ],
)
def test_the_operators_keep_torchs_contract(cases, host_executor, where, regular):
    x, weight, y, tables, geometry = operator_arguments("C4", regular, torch.float64)
    with cases.running_on(host_executor("plain") if where == "host" else None):
        torch.library.opcheck(torch.ops.equiharness.grid_exact.default, (x, weight, *tables, *geometry))
        torch.library.opcheck(torch.ops.equiharness.grid_exact_weight.default, (x, y, *tables, *geometry))


@pytest.mark.parametrize("fast_mode", [True, pytest.param(False, marks=pytest.mark.deep)])
@pytest.mark.parametrize("where", ["host", "torch"])
@pytest.mark.parametrize("regular", [True, False])
def test_derivatives_of_both_orders_match_finite_differences(cases, host_executor, where, regular, fast_mode):
    """In fast mode along random directions of input and output, which a wrong entry of a Jacobian cannot hide from."""
    x, weight, y, tables, geometry = operator_arguments("C2", regular, torch.float64)

    def convolution(x, weight):
        return grid_operators.convolve(x, weight, tables, *geometry)

    def gradient(x, y):
        return torch.ops.equiharness.grid_exact_weight(x, y, *tables, *geometry)

    with cases.running_on(host_executor("plain") if where == "host" else None):
        for function, inputs in ((convolution, (x, weight)), (gradient, (x, y))):
            assert torch.autograd.gradcheck(function, inputs, fast_mode=fast_mode)
            assert torch.autograd.gradgradcheck(function, inputs, fast_mode=True)


def test_the_choice_of_kernel_and_grid_needs_no_new_code_for_a_new_batch(cases, recorder):
    layer = GroupConv("C4", 2, 3, 3, backend="exact")
    with cases.running_on(recorder):
        for batch in (1, 2, 60):
            layer(torch.randn(batch, 2, 4, 5, 5))
    assert len({kernel for kernel, _, _ in recorder.launches}) == 1
    assert len({grid for _, grid, _ in recorder.launches}) > 1


@pytest.mark.parametrize(("channels", "name"), [(16, "n16"), (17, "n32"), (32, "n32"), (33, "n64"), (200, "n64")])
def test_the_tile_follows_the_width_of_the_output(cases, recorder, channels, name):
    with cases.running_on(recorder):
        GroupConv("C2", 1, channels, 1, backend="exact")(torch.randn(1, 1, 2, 3, 3))
    assert recorder.launches[0][0].name == f"grid_exact_forward_f32_{name}"


def test_the_weight_gradient_is_cut_into_slices_by_its_shapes_alone(cases, recorder):
    layer = GroupConv("C4", 1, 2, 3, padding=1, backend="exact")
    with cases.running_on(recorder):
        layer(torch.randn(8, 1, 4, 32, 32)).sum().backward()
    (grid_size, arguments), *_ = [
        (size, arguments) for kernel, size, arguments in recorder.launches if "weight" in kernel.name
    ]
    slices = grid_size[2]
    shape = arguments[-1]
    assert slices == shape["slices"] > 1
    steps = 4 * 8 * 32 * 32 // 16
    assert shape["slices"] * shape["tiles_per_slice"] >= steps > (shape["slices"] - 1) * shape["tiles_per_slice"]
    assert arguments[4].numel() * 4 <= 64 * 2**20


def test_a_slice_of_many_tiles_counts_each_tile_once(cases, host_executor, monkeypatch):
    """Partial sums go to the total every 64 tiles; on a machine of one block all tiles are in one slice."""
    monkeypatch.setattr(grid, "_BLOCKS", 1)
    case = cases.GridCase(LiftingConv, "C2", (1, 1), (40, 41), 1, batch=1)
    layer = case.build()
    x, cotangent = case.input(layer), torch.randn(1, 1, 2, 40, 41)
    with cases.running_on(host_executor("plain")):
        results = case.results(layer, x, cotangent)
    exact, magnitudes = case.references(layer, x, cotangent)
    assert cases.within_rounding(results, exact, magnitudes, case.terms(layer, exact[0]), case.dtype) is None


def test_a_box_too_large_for_the_kernel_is_refused_with_the_way_out(cases, recorder):
    layer = GroupConv("C2", 1, 1, 1, backend="exact")
    x = torch.empty(1).expand(1, 1, 2, 2**30, 4)
    with cases.running_on(recorder), pytest.raises(ValueError, match="backend='fast'"):
        grid.forward(
            recorder, x, layer.weight.detach().view(1, 1, 2, 1), layer.exact_fibre, layer.exact_taps,
            grid.Geometry((2, 2), 1, 1, 0, (0, 0)),
        )  # fmt: skip


def test_the_structs_of_both_languages_agree(build_folder):
    if host.compiler() is None:
        pytest.skip("comparing the structs needs a C++ compiler")
    from equiharness.kernels.cuda import ragged

    checks = []
    for struct, dtype in (("GridShape", grid.SHAPE), ("RaggedGroup", ragged.GROUP), ("RaggedShape", ragged.SHAPE)):
        checks.append(f"static_assert(sizeof({struct}) == {dtype.itemsize});")
        for name, (_, offset) in dtype.fields.items():
            checks.append(f"static_assert(__builtin_offsetof({struct}, {name}) == {offset});")
    text = sources.program([], (*host.PRELUDE["plain"], "grid_exact.cu", "ragged_gemm.cu"))
    host.build(text + "\n".join(checks) + "\n", "plain", build_folder)
    with pytest.raises(RuntimeError, match="static assertion failed"):
        host.build(text + checks[0].replace(" == ", " != ") + "\n", "plain", build_folder)
