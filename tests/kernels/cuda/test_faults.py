"""The fault zoo of the kernels: mistakes planted in the real sources, each caught by a named build; sound ones pass.

A fault is an edit of the program's text. All faults of a source and a build are one program.
"""

import dataclasses
import functools
import re
from dataclasses import dataclass

import pytest
import torch
from equiharness.kernels import GroupConv
from equiharness.kernels.cuda import grid, host, ragged, sources, wigner
from equiharness.kernels.cuda.host import HostExecutor, KernelFault
from equiharness.kernels.cuda.wigner_operators import beta_step
from equiharness.kernels.spherical.layout import so3_rows
from equiharness.kernels.spherical.tables import shell_starts

FORWARD = next(k for k in grid.KERNELS if k.name == "grid_exact_forward_f32_n16")
WEIGHT = next(k for k in grid.KERNELS if k.name == "grid_exact_weight_f32_n16")
SUM = next(k for k in grid.KERNELS if k.name == "grid_exact_sum_f32")
RAGGED = next(k for k in ragged.KERNELS if k.name == "ragged_gemm_f32_64")
OCTANT = next(k for k in wigner.KERNELS if k.name == "wigner_analyse_f32")
TENSOR = next(k for k in ragged.KERNELS if k.name == "ragged_mma_3xtf32_kn_64")

LOOP = """        if (step + 1 < steps) store(step + 1);
        __syncthreads();
"""
DIFFERS = "differs from the formula"


@dataclass(frozen=True)
class Fault:
    """An edit of a kernel, the build that catches it and what that says; `wide`: on an input with a long stride."""

    kernel: sources.Kernel
    old: str
    new: str
    build: str
    message: str
    wide: bool = False


FAULTS = {
    "wrong stride": Fault(
        FORWARD,
        "tap.offset += moved[a] * s.x_space[a]",
        "tap.offset += moved[a] * s.x_space[2 - a]",
        "plain",
        DIFFERS,
    ),
    "uninitialised shared memory": Fault(
        FORWARD, "    load(0);\n    store(0);\n", "    load(0);\n", "plain", DIFFERS
    ),
    "a result that nobody writes": Fault(
        FORWARD, "if (row >= rows) continue;", "if (row + 1 >= rows) continue;", "plain", DIFFERS
    ),
    "divergent barrier": Fault(
        FORWARD,
        LOOP,
        LOOP.replace("__syncthreads();", "if (thread < 64) __syncthreads();"),
        "plain",
        r"divergent barrier: block \(0, 0, 0\) waits in line \d+, 64 threads have ended",
    ),
    "barriers at two places": Fault(
        RAGGED,
        LOOP,
        LOOP.replace("__syncthreads();", "if (thread < 64) { __syncthreads(); } else {\n __syncthreads(); }"),
        "plain",
        r"divergent barrier: .* some threads wait in line",
    ),
    "global read beyond the end": Fault(
        FORWARD,
        "inside = inside && (unsigned)at < (unsigned)s.in[a];",
        "inside = inside && (unsigned)at <= (unsigned)s.in[a];",
        "address",
        "heap-buffer-overflow",
    ),
    "global write beyond the end": Fault(
        FORWARD,
        "if (o < s.out_channels) narrow(",
        "if (o <= s.out_channels) narrow(",
        "address",
        "heap-buffer-overflow",
    ),
    "shared write beyond the end": Fault(
        FORWARD,
        "gathered[step % 2][k][thread + r * THREADS] =",
        "(&gathered[step % 2][0][0])[(k + 1) * Tile::ROW_A + thread + r * THREADS] =",
        "address",
        "heap-buffer-overflow",
    ),
    "shared row beyond its array": Fault(
        WEIGHT,
        "gathered[buffer][lane][first + e * STEP] =",
        "gathered[buffer][lane + 1][first + e * STEP] =",
        "address",
        r"index 16 out of bounds for type",
    ),
    "misaligned vector": Fault(
        FORWARD, "&a[k][row(i * PM)]", "&a[k][row(i * PM) + 1]", "address", "misaligned address"
    ),
    "int32 overflow": Fault(
        FORWARD,
        "window.offset += start * s.x_space[a]",
        "window.offset += (int)start * (int)s.x_space[a]",
        "address",
        "signed integer overflow: -3 \\* 1073741824",
        wide=True,
    ),
    "missing barrier": Fault(
        FORWARD, LOOP, LOOP.replace("        __syncthreads();\n", ""), "thread", "data race"
    ),
    "missing barrier after the rows": Fault(
        WEIGHT,
        "        __syncthreads();\n        load(at, g);",
        "        load(at, g);",
        "thread",
        "data race",
    ),
    "missing barrier in the products": Fault(
        RAGGED, LOOP, LOOP.replace("        __syncthreads();\n", ""), "thread", "data race"
    ),
    "wrong lane of a fragment": Fault(
        TENSOR, "a_depth(int lane, int e) { return lane % 4 + e / 2 * 4; }",
        "a_depth(int lane, int e) { return lane % 4 + e % 2 * 4; }", "plain", DIFFERS,
    ),
    "small product left out": Fault(
        TENSOR, "multiply_fragments<Tf32>(row, small, big_right);", "", "plain", DIFFERS
    ),
    "missing wait for a copy": Fault(
        TENSOR, "        wait_for_copies();\n", "", "plain", DIFFERS
    ),
    "half a warp multiplies": Fault(
        TENSOR, "Mode::add(sum, from_left, from_right);", "if (lane < 16) Mode::add(sum, from_left, from_right);",
        "plain", "divergent barrier: .* (with 16 of the 32 threads of a warp|and its warp elsewhere)",
    ),
    "misaligned copy": Fault(
        TENSOR, "&left[step % 2][Left::row(r)][Left::first(r)]", "&left[step % 2][Left::row(r)][Left::first(r) + 1]",
        "plain", "a copy of 16 bytes from or to a misaligned address in block",
    ),
    "copy beyond the end": Fault(
        TENSOR, "const bool present = right_at[r] >= 0 && k < depth;", "const bool present = right_at[r] >= 0;",
        "address", "heap-buffer-overflow",
    ),
    "wrong symmetry about the equator": Fault(
        OCTANT, "folded[step % 2][e % DEPTH][128 + e / DEPTH] = north[r] - south[r];",
        "folded[step % 2][e % DEPTH][128 + e / DEPTH] = north[r] + south[r];", "plain", DIFFERS,
    ),
    "wrong symmetry of exchanged orders": Fault(
        OCTANT, "swap(which && (pair.major - pair.minor) % 2 ? -1 : 1)", "swap(1)", "plain", DIFFERS
    ),
    "wrong symmetry of a negative order": Fault(
        OCTANT, "return !both_odd ? Acc(0) : t ? swap : -swap;", "return !both_odd ? Acc(0) : t ? -swap : swap;",
        "plain", DIFFERS,
    ),
    "shell of the table read beyond its end": Fault(
        OCTANT, "j < s.b && first + thread / 8 < length ? table_row", "j < s.b ? table_row", "address",
        "heap-buffer-overflow",
    ),
    "missing barrier before the fragments": Fault(
        TENSOR, "        wait_for_copies();\n        __syncthreads();\n", "        wait_for_copies();\n", "thread",
        "data race",
    ),
}  # fmt: skip
SOUND = {kernel.name: Fault(kernel, "", "", "", "") for kernel in (FORWARD, WEIGHT, SUM, RAGGED, TENSOR, OCTANT)}
BUILDS = ("plain", "address", "thread")


def renamed(name, kernel):
    return dataclasses.replace(kernel, name="".join(c if c.isalnum() else "_" for c in f"{name}_{kernel.name}"))


@functools.cache
def program(kind, source):
    """The sound kernels of a source and all its faults that a build catches, each in a namespace of its own."""
    parts = [sources.program([], host.PRELUDE[kind])]
    for name, fault in [*SOUND.items(), *FAULTS.items()]:
        if fault.kernel.source == source and fault.build in ("", kind):
            kernel = renamed(name, fault.kernel)
            text = sources.program([kernel])
            if fault.old:
                assert text.count(fault.old) == 1, f"{name}: the edit no longer fits the source"
                text = text.replace(fault.old, fault.new)
            parts.append(f"namespace in_{kernel.name} {{\n{text}}}\n")
    return "".join(parts)


class Faulty(HostExecutor):
    """Runs the planted kernel in the place of the one it was made from, and sound copies of the others."""

    def __init__(self, path, kind, name, fault):
        super().__init__(path, kind)
        self._planted, self._kernel = name, fault.kernel

    def launch(self, kernel, grid, arguments):
        name = self._planted if kernel == self._kernel else kernel.name
        super().launch(renamed(name, kernel), grid, arguments)


@pytest.fixture(scope="session")
def zoo(build_folder):
    if host.compiler() is None:
        pytest.skip("running kernels on the host needs a C++ compiler: install g++, or name one in CXX")

    def executor(kind, name, fault):
        return Faulty(host.build(program(kind, fault.kernel.source), kind, build_folder), kind, name, fault)

    return executor


def grid_mistake(cases, executor, wide):
    """A convolution with three steps of depth, two rows of windows beside the box, and an axis of length 1."""
    case = cases.GridCase(GroupConv, "C1", (2, 3), (1, 5), 5, padding=3, batch=1)
    layer = case.build()
    x = case.input(layer)
    if wide:  # an axis of length 1 may have any stride: no address uses it, but the sums on the way to one do
        x = x.as_strided(x.shape, (*x.stride()[:3], 2**30, 1))
    with cases.running_on(None):
        cotangent = torch.ones_like(layer(x))
    with cases.running_on(executor):
        results = case.results(layer, x, cotangent)
    exact, magnitudes = case.references(layer, x, cotangent)
    wrong = cases.within_rounding(results, exact, magnitudes, case.terms(layer, exact[0]), torch.float32)
    return wrong and f"{wrong}: {DIFFERS}"


def ragged_mistake(cases, executor, kernel):
    size, precision = (torch.randn(9, 40), torch.randn(40, 12)), "3xtf32" if kernel == TENSOR else "float32"
    table = ragged.table(
        (1, 9), (1, 12), (10, 4), (0, (0, 40), (4, 1)), (0, (48, 12), (0, 1)), (0, (0, 12), (0, 1)),
        torch.float32, "cpu", precision,
    )  # fmt: skip
    assert table.kernel == kernel
    c = executor.empty(size[0], (9, 12))
    table.launch(executor, *size, c)
    magnitudes = size[0].double().abs() @ size[1].double().abs()
    if kernel == TENSOR:
        bound = cases.tensor_core_bound(precision, 40, magnitudes, cases.NEAREST)
    else:
        bound = cases.gamma(40, torch.float32) * magnitudes
    return None if ((c.double() - size[0].double() @ size[1].double()).abs() <= bound).all() else DIFFERS


def octant_mistake(cases, executor):
    """The beta step of integers, with weights: its result is exact."""
    table, weights, space = (
        torch.randint(-9, 10, shape).float() for shape in ((shell_starts(3, 3)[-1] * 3,), (3,), (3, 3, 4, 6))
    )
    results = []
    for where, change in ((None, torch.Tensor.double), (executor, torch.Tensor.clone)):
        out = change(torch.zeros(1, so3_rows(3), 1))
        with cases.running_on(where):
            beta_step(change(table), change(weights), change(space), out, 3, True, True)
        results.append(out.double())
    return None if torch.equal(*results) else DIFFERS


def mistake(cases, executor, kernel, wide):
    """What a build says about a kernel, None if nothing."""
    try:
        if kernel in (RAGGED, TENSOR):
            return ragged_mistake(cases, executor, kernel)
        if kernel == OCTANT:
            return octant_mistake(cases, executor)
        return grid_mistake(cases, executor, wide)
    except KernelFault as fault:
        return str(fault)


@pytest.mark.parametrize("name", FAULTS)
def test_the_fault_is_caught_by_its_build(cases, zoo, name):
    fault = FAULTS[name]
    executor = zoo(fault.build, name, fault)
    found = mistake(cases, executor, fault.kernel, fault.wide)
    for _ in range(9 if fault.build == "thread" else 0):
        if found is not None and re.search(fault.message, found):
            break
        # A race whose two sides lie far apart in one schedule is told from its numbers alone: another schedule.
        found = mistake(cases, executor, fault.kernel, fault.wide)
    assert found is not None
    assert re.search(fault.message, found), found


SOUND_RUNS = [
    pytest.param(kind, kernel.name, wide, marks=[pytest.mark.deep] * (wide and kind == "thread"))  # no other barriers
    for kind in BUILDS
    for kernel, wide in ((FORWARD, False), (FORWARD, True), (RAGGED, False), (TENSOR, False), (OCTANT, False))
]


@pytest.mark.parametrize(("kind", "name", "wide"), SOUND_RUNS)
def test_the_sound_kernels_pass_the_same_builds(cases, zoo, kind, name, wide):
    assert mistake(cases, zoo(kind, name, SOUND[name]), SOUND[name].kernel, wide) is None


def test_every_build_catches_something():
    assert {fault.build for fault in FAULTS.values()} == set(BUILDS)


def test_an_order_of_summation_that_moves_with_the_element_is_right_but_not_bitwise(cases, build_folder, grid):
    """A kernel whose sums run backwards for odd elements: within rounding of the formula, only the bits tell.

    The sound kernel, loaded before it into the same process, stays what it is.
    """
    if host.compiler() is None:
        pytest.skip("running kernels on the host needs a C++ compiler: install g++, or name one in CXX")
    text = sources.program([FORWARD], host.PRELUDE["plain"])
    sound = host.executor(text, "plain", build_folder)
    edits = {
        "tap_of<PLAIN>(s, fibre, taps, g, k)": "tap_of<PLAIN>(s, fibre, taps, g, g % 2 ? depth - 1 - k : k)",
        "widen(w[o * depth + k])": "widen(w[o * depth + (g % 2 ? depth - 1 - k : k)])",
    }
    for old, new in edits.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    executor = host.executor(text, "plain", build_folder)
    case = cases.GridCase(GroupConv, "C4", (2, 3), (5, 4), 3, padding=1, batch=1)
    layer = case.build()
    layer.requires_grad_(False)
    x, matrices = case.input(layer), grid.MATRICES["C4"]
    turned = [(grid.act(x, m, "regular", matrices), m) for m in matrices]
    with cases.running_on(executor):
        y = layer(x)
        differs = [not torch.equal(layer(gx), grid.act(y, m, "regular", matrices)) for gx, m in turned]
    exact, magnitudes = case.references(layer.requires_grad_(), x, torch.ones_like(y))
    terms = case.terms(layer, exact[0])[:1]
    assert cases.within_rounding([y], exact[:1], magnitudes[:1], terms, torch.float32) is None
    assert any(differs)
    with cases.running_on(sound):
        expected = layer(x)
        assert all(torch.equal(layer(gx), grid.act(expected, m, "regular", matrices)) for gx, m in turned)


def test_an_unknown_kernel_is_a_fault_with_its_name(host_executor):
    unknown = dataclasses.replace(FORWARD, name="unheard_of")
    with pytest.raises(KernelFault, match="no kernel of the name unheard_of"):
        host_executor("plain").launch(unknown, (1, 1, 1), ())


def test_a_program_that_does_not_compile_says_why(tmp_path):
    if host.compiler() is None:
        pytest.skip("running kernels on the host needs a C++ compiler: install g++, or name one in CXX")
    with pytest.raises(RuntimeError, match=r"(?s)did not compile.*nonsense"):
        host.build("int f() { return nonsense; }", "plain", tmp_path)


def test_without_a_compiler_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(RuntimeError, match="install g\\+\\+"):
        host.build("", "plain", tmp_path)
