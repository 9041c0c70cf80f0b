"""The fault zoo of the grid kernels beside grid_exact.cu: mistakes planted in the sources, each caught by its build."""

import dataclasses
import re
from dataclasses import dataclass

import pytest
import torch
from equiharness.kernels.cuda import grid_expand, host, sources
from equiharness.kernels.cuda.host import HostExecutor, KernelFault
from equiharness.kernels.grid.expansion import joint_table, regular_table, tap_table
from equiharness.kernels.grid.groups import grid_group

KERNELS = {kernel.name: kernel for kernel in grid_expand.KERNELS}
EXPAND, CONTRACT = (KERNELS[name] for name in ("grid_expand_32", "grid_contract_f32"))
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
}  # fmt: skip
SOUND = {kernel.name: Fault(kernel, "", "", "", "") for kernel in (EXPAND, CONTRACT)}


def renamed(name, kernel):
    return dataclasses.replace(kernel, name="".join(c if c.isalnum() else "_" for c in f"{name}_{kernel.name}"))


def program(kind):
    """The sound kernels and all faults that a build catches, in one text, each in a namespace of its own."""
    parts = [sources.program([], host.PRELUDE[kind])]
    for name, fault in [*SOUND.items(), *FAULTS.items()]:
        if fault.build in ("", kind):
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
        return Faulty(host.build(program(kind), kind, build_folder), kind, name, fault)

    return executor


def expansion_mistake(cases, executor):
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


MISTAKES = {"grid_expand.cu": expansion_mistake}


def mistake(cases, executor, kernel):
    """What a build says about a kernel, None if nothing."""
    try:
        return MISTAKES[kernel.source](cases, executor)
    except KernelFault as fault:
        return str(fault)


@pytest.mark.parametrize("name", FAULTS)
def test_the_fault_is_caught_by_its_build(cases, grid_zoo, name):
    fault = FAULTS[name]
    found = mistake(cases, grid_zoo(fault.build, name, fault), fault.kernel)
    assert found is not None
    assert re.search(fault.message, found), found


@pytest.mark.parametrize("kind", sorted({fault.build for fault in FAULTS.values()}))
@pytest.mark.parametrize("name", SOUND)
def test_the_sound_kernels_pass_the_same_builds(cases, grid_zoo, kind, name):
    assert mistake(cases, grid_zoo(kind, name, SOUND[name]), SOUND[name].kernel) is None
