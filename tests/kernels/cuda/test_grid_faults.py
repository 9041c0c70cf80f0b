"""The fault zoo of the grid kernels beside grid_exact.cu: mistakes planted in the sources, each caught by its build."""

import dataclasses
import functools
import re
from dataclasses import dataclass

import pytest
import torch
from equiharness.kernels import FusedSeparableConv, GroupBatchNorm, GroupConv, SeparableGroupConv
from equiharness.kernels.cuda import grid_expand, grid_fourier, grid_separable, host, sources
from equiharness.kernels.cuda.host import HostExecutor, KernelFault
from equiharness.kernels.grid.expansion import joint_table, regular_table, tap_table
from equiharness.kernels.grid.groups import grid_group

KERNELS = {kernel.name: kernel for kernel in (*grid_expand.KERNELS, *grid_fourier.KERNELS, *grid_separable.KERNELS)}
EXPAND, CONTRACT = (KERNELS[name] for name in ("grid_expand_32", "grid_contract_f32"))
FOURIER, SPECTRUM = (KERNELS[name] for name in ("grid_fourier_forward_f32_oh", "grid_fourier_spectrum_f32_oh"))
SEPARABLE = KERNELS["grid_separable_f32"]
DIFFERS = "differs from the formula"


@dataclass(frozen=True)
class Fault:
    """An edit of a kernel, the build that catches it and what that says."""

    kernel: sources.Kernel
    old: str
    new: str
    build: str
    message: str


FAULTS = {
    "the filter of the inverse element": Fault(
        CONTRACT, "table[inverse[g] * s.width + j]", "table[(inverse[g] >= 0 ? g : 0) * s.width + j]", "plain", DIFFERS
    ),
    "the wrong element of the bank": Fault(
        EXPAND, "table[(int64)g * width + j]", "table[(int64)(order - 1 - g) * width + j]", "plain", DIFFERS
    ),
    "an adjoint that misses one term": Fault(
        CONTRACT, "for (int64 g = 0; g < s.order; ++g)", "for (int64 g = 1; g < s.order; ++g)", "plain", DIFFERS
    ),
    "an adjoint with a wrong sign": Fault(CONTRACT, "sum += widen(", "sum -= widen(", "plain", DIFFERS),
    "a bank that nobody finishes": Fault(
        EXPAND,
        "if (at >= s.outer * s.order * s.inner * s.width) return;",
        "if (at + 1 >= s.outer * s.order * s.inner * s.width) return;",
        "plain",
        DIFFERS,
    ),
    "a bank written beyond its end": Fault(
        EXPAND,
        "if (at >= s.outer * s.order * s.inner * s.width) return;",
        "if (at > s.outer * s.order * s.inner * s.width) return;",
        "address",
        "heap-buffer-overflow",
    ),
    "an element beyond the group": Fault(
        CONTRACT, "g < s.order", "g <= s.order", "address", "heap-buffer-overflow"
    ),
    "the block of another irrep": Fault(
        FOURIER, "multiply<15, 3, Tile>(sum, left, right);", "multiply<15, 3, Tile>(sum, left - 9 * BX, right);",
        "plain", DIFFERS,
    ),
    "a block transposed": Fault(
        FOURIER, "&filters[(AT + a * D + b) * Tile::BO]", "&filters[(AT + b * D + a) * Tile::BO]", "plain", DIFFERS
    ),
    "odd and even halves exchanged": Fault(
        FOURIER, "value = half == 0 ? value + other : other - value;",
        "value = half == 1 ? value + other : other - value;", "plain", DIFFERS,
    ),
    "an odd half that is even": Fault(
        SPECTRUM, "value + opposite : value - opposite", "value + opposite : value + opposite", "plain", DIFFERS
    ),
    "a tap of another element": Fault(
        FOURIER, "const int *moved = taps + (h * s.taps + q) * 3;", "const int *moved = taps + (j * s.taps + q) * 3;",
        "plain", DIFFERS,
    ),
    "channels beyond the last": Fault(
        FOURIER, "i0 + i < s.in_channels ? gather", "i0 + i <= s.in_channels ? gather", "address",
        "heap-buffer-overflow",
    ),
    "a column overwritten while it is read": Fault(
        FOURIER,
        "IC * ROWS * BX, of, column);\n            __syncthreads();",
        "IC * ROWS * BX, of, column);",
        "thread",
        "data race",
    ),
    "filters that are not turned": Fault(
        SEPARABLE, "moved[g * s.taps + t]", "moved[t]", "plain", DIFFERS
    ),
    "a norm after the ReLU": Fault(
        SEPARABLE, "if (p.rectified && sum < 0) sum = 0;", "if (p.rectified && sum < widen(shift[o])) sum = 0;",
        "plain", DIFFERS,
    ),
    "the voxels beside the tile left out": Fault(
        SEPARABLE, "v < p.box[0] * p.box[1] * p.box[2]", "v < p.tile[0] * p.tile[1] * p.tile[2]", "plain", DIFFERS
    ),
    "voxels beyond the box": Fault(
        SEPARABLE, "to >= 0 && to < s.in[c]", "to >= 0", "address", "heap-buffer-overflow"
    ),
    "z written while operands are read": Fault(
        SEPARABLE,
        "    __syncthreads();\n    UNROLL for (int i = 0; i < Tile::TM; ++i)",
        "    UNROLL for (int i = 0; i < Tile::TM; ++i)",
        "thread",
        "data race",
    ),
    "z read before it is there": Fault(
        SEPARABLE, "    __syncthreads();\n\n    const int64 outputs", "    const int64 outputs", "thread", "data race"
    ),
}  # fmt: skip
SOUND = {kernel.name: Fault(kernel, "", "", "", "") for kernel in (EXPAND, CONTRACT, FOURIER, SPECTRUM, SEPARABLE)}


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
def grid_zoo(build_folder):
    if host.compiler() is None:
        pytest.skip("running kernels on the host needs a C++ compiler: install g++, or name one in CXX")

    def executor(kind, name, fault):
        return Faulty(host.build(program(kind, fault.kernel.source), kind, build_folder), kind, name, fault)

    return executor


def expansion_mistake(cases, executor, kind):
    """A bank of C4, and the adjoint of a bank, in blocks that are not full."""
    group = grid_group("C4")
    table = torch.from_numpy(joint_table(regular_table(group), tap_table(group, 2)))
    inverse = torch.from_numpy(group.inv)
    torch.manual_seed(0)
    weight, bank = torch.randn(2, 1, 16), torch.randn(2, 4, 1, 16)
    with cases.running_on(executor):
        expanded = torch.ops.equiharness.grid_expand(weight, table, inverse)
        contracted = torch.ops.equiharness.grid_contract(bank, table, inverse)
    exact = grid_expand.contract_by_torch(bank.double(), table, inverse)
    magnitude = grid_expand.contract_by_torch(bank.double().abs(), table, inverse)
    right = torch.equal(expanded, grid_expand.expand_by_torch(weight, table, inverse))
    wrong = cases.within_rounding([contracted], [exact], [magnitude], [4], torch.float32)
    return None if right and wrong is None else DIFFERS


def fourier_mistake(cases, executor, kind):
    """A convolution of O_h by torch and by the kernels: fewer channels than a step has, and blocks that are not full.

    test_grid_fourier.py has the bounds entry by entry. Here every fault moves a tenth of the result or more, and
    rounding, of at most 4 * 48 + 3 * 2 * 8 terms, in norm less than a thousandth: 2 n u = 2.9e-5.
    The gradient of the filters is one launch per tap, all alike; the thread build computes that of one tap.
    """
    for k, names in ((2, ("x",)), (1, ("w",))) if kind == "thread" else ((2, ("x", "w")),):
        torch.manual_seed(0)
        layer = GroupConv("Oh", 2, 1, k, backend="fourier", bias=False)
        box = (k + 1, k, k)
        x = torch.randn(1, 2, 48, *box, requires_grad=True)
        cotangent = torch.randn(1, 1, 48, 2, 1, 1)
        inputs = [{"x": x, "w": layer.weight}[name] for name in names]
        wanted = (layer(x), *torch.autograd.grad(layer(x), inputs, cotangent))
        with cases.running_on(executor):
            y = layer(x)
            got = (y, *torch.autograd.grad(y, inputs, cotangent))
        if not all((a - b).norm() <= 1e-3 * b.norm() for a, b in zip(got, wanted, strict=True)):
            return DIFFERS
    return None


def separable_mistake(cases, executor, kind):
    """A strided layer with norm and ReLU, by torch and by the kernel; the bounds are in test_grid_separable.py."""
    torch.manual_seed(0)
    conv, norm = SeparableGroupConv("C4", 2, 3, 3, padding=1, stride=2), GroupBatchNorm("C4", 3)
    for tensor in (conv.bias, norm.running_mean, norm.bias):
        torch.nn.init.normal_(tensor)
    layer = FusedSeparableConv(conv, norm).eval()
    x = torch.randn(1, 2, 4, 5, 7)
    with torch.no_grad():
        wanted = layer(x)
        with cases.running_on(executor):
            got = layer(x)
    return None if (got - wanted).norm() <= 1e-4 * wanted.norm() else DIFFERS


MISTAKES = {
    "grid_expand.cu": expansion_mistake,
    "grid_fourier.cu": fourier_mistake,
    "grid_separable.cu": separable_mistake,
}


def mistake(cases, executor, kernel, kind):
    """What a build says about a kernel, None if nothing."""
    try:
        return MISTAKES[kernel.source](cases, executor, kind)
    except KernelFault as fault:
        return str(fault)


@pytest.mark.parametrize("name", FAULTS)
def test_the_fault_is_caught_by_its_build(cases, grid_zoo, name):
    fault = FAULTS[name]
    executor = grid_zoo(fault.build, name, fault)
    found = mistake(cases, executor, fault.kernel, fault.build)
    for _ in range(9 if fault.build == "thread" else 0):
        if found is not None and re.search(fault.message, found):
            break
        # A race whose two sides lie far apart in one schedule is told from its numbers alone: another schedule.
        found = mistake(cases, executor, fault.kernel, fault.build)
    assert found is not None
    assert re.search(fault.message, found), found


SOUND_RUNS = [
    # grid_expand.cu has neither barriers nor shared memory.
    pytest.param(kind, kernel.name, marks=[pytest.mark.deep] * (kind == "thread" and kernel == EXPAND))
    for kind in sorted({fault.build for fault in FAULTS.values()})
    for kernel in (EXPAND, FOURIER, SEPARABLE)
]


@pytest.mark.parametrize(("kind", "name"), SOUND_RUNS)
def test_the_sound_kernels_pass_the_same_builds(cases, grid_zoo, kind, name):
    """One kernel per source: the calls of a source run all its sound kernels."""
    assert mistake(cases, grid_zoo(kind, name, SOUND[name]), SOUND[name].kernel, kind) is None
