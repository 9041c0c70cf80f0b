"""Every kernel compiles for every architecture that we name, within what the budget file grants it."""

import dataclasses
import struct
import tomllib
from pathlib import Path

import pytest
from equiharness.kernels.cuda import catalogue, compile, sources
from equiharness.kernels.cuda.resources import Nvrtc, Resources, read_log, resources, wheel_folder

ARCHITECTURES = ("sm_80", "sm_90", "sm_90a")
#: One in the ordinary run; a kernel that fits it and not another is found by the deep run.
COMPILED = [name if name == "sm_90" else pytest.param(name, marks=pytest.mark.deep) for name in ARCHITECTURES]
KERNELS = {kernel.name: kernel for kernel in catalogue.KERNELS}
BUDGET = tomllib.loads((Path(__file__).parent / "budget.toml").read_text(encoding="utf-8"))


def over_budget(taken, granted):
    """What a kernel takes beyond its budget, as 'registers 130 > 128'."""
    return [
        f"{name} {value} > {granted[name]}"
        for name, value in dataclasses.asdict(taken).items()
        if not value <= granted[name]
    ]


@pytest.mark.parametrize("architecture", COMPILED)
@pytest.mark.parametrize("name", KERNELS)
def test_every_kernel_compiles_within_its_budget(nvrtc, name, architecture):
    taken = resources(KERNELS[name], architecture, nvrtc)
    assert over_budget(taken, BUDGET[name][architecture]) == [], "python benchmarks/kernel_resources.py writes the file"


def test_the_budget_names_every_kernel_and_nothing_else():
    assert {name: set(granted) for name, granted in BUDGET.items()} == {name: set(ARCHITECTURES) for name in KERNELS}


def test_no_budget_grants_a_spill_or_more_than_a_block_has():
    for name, granted in BUDGET.items():
        for figures in granted.values():
            assert figures["spilled"] == 0
            assert figures["stack"] == 0
            assert figures["shared"] <= 48 * 1024  # of every architecture, without asking for more
            assert figures["registers"] * KERNELS[name].threads <= 65536  # of a multiprocessor


def test_a_kernel_that_spills_is_over_its_budget(nvrtc):
    kernel = KERNELS["grid_exact_forward_f32_n64"]
    tight = dataclasses.replace(kernel, parameters=(*kernel.parameters[:7], "8", *kernel.parameters[8:]))
    assert kernel.parameters[7] == "3"  # blocks per multiprocessor: with 8, 64 registers are left for 64 sums
    found = over_budget(resources(tight, "sm_90", nvrtc), BUDGET[kernel.name]["sm_90"])
    assert any(word.startswith("spilled") for word in found)


def test_a_jump_of_one_register_is_over_the_budget():
    granted = {"registers": 32, "stack": 0, "spilled": 0, "shared": 0}
    assert over_budget(Resources(33, 0, 0, 0), granted) == ["registers 33 > 32"]
    assert over_budget(Resources(32, 0, 0, 0), granted) == []


def test_a_log_without_figures_is_no_kernel_of_zero_registers():
    with pytest.raises(ValueError, match="no report"):
        read_log("")


def test_the_kernels_compile_for_the_newest_architecture_that_the_compiler_knows(nvrtc):
    """Without a budget: tiles were chosen for the three above, and ragged_gemm_f32_128 spills on sm_120."""
    newest = f"sm_{nvrtc.getSupportedArchs()[-1]}"
    for name in ("grid_exact_forward_f32_n32", "grid_exact_weight_f16", "ragged_gemm_f32_128"):
        assert resources(KERNELS[name], newest, nvrtc).registers > 0


def sections(cubin):
    """The sections of a 64-bit ELF file by name."""
    (start,), (size, count, names) = struct.unpack_from("<q", cubin, 40), struct.unpack_from("<3h", cubin, 58)
    headers = [struct.unpack_from("<IIQQQQ", cubin, start + i * size) for i in range(count)]
    strings = headers[names][4]

    def name(at):
        return cubin[strings + at : cubin.index(b"\0", strings + at)].decode()

    return {name(h[0]): cubin[h[4] : h[4] + h[5]] for h in headers if h[1] != 8}  # 8: sections without content


def test_the_report_of_the_assembler_does_not_change_the_code(nvrtc):
    kernel = KERNELS["ragged_gemm_f64"]
    text = sources.program([kernel])
    quiet, verbose = (
        sections(compile.compile_program(text, kernel.name, "sm_90", nvrtc, extra).cubin)
        for extra in ([], ["--ptxas-options=--verbose"])
    )
    assert len(quiet[".text.ragged_gemm_f64"]) > 1000
    del quiet[".note.nv.tkinfo"], verbose[".note.nv.tkinfo"]  # which remembers the flags
    assert quiet == verbose


def test_a_binding_that_drops_the_last_byte_of_the_code_gives_whole_code(nvrtc):
    kernel = KERNELS["grid_exact_sum_f32"]
    text = sources.program([kernel])
    whole = compile.compile_program(text, kernel.name, "sm_90", nvrtc).cubin

    class Short(Binding):
        def getCUBIN(self, handle):
            return self._nvrtc.getCUBIN(handle)[:-1]

    assert whole[-1] == 0
    assert compile.compile_program(text, kernel.name, "sm_90", Short(nvrtc)).cubin == whole


def test_a_program_that_does_not_compile_says_why_and_what_to_do(nvrtc):
    with pytest.raises(RuntimeError, match=r"(?s)sm_90.*\"nonsense\" is undefined.*EQUIHARNESS_CUDA_KERNELS"):
        compile.compile_program("__global__ void f() { nonsense; }", "broken", "sm_90", nvrtc)


class Binding:
    """The names of cupy.cuda.nvrtc, remembering how they are called, on the NVRTC of the wheel."""

    def __init__(self, nvrtc):
        self._nvrtc, self.calls = nvrtc, []

    def __getattr__(self, name):
        def call(*arguments):
            self.calls.append((name, *arguments[1:]) if name == "compileProgram" else (name,))
            return getattr(self._nvrtc, name)(*arguments)

        return call


def test_both_ways_to_nvrtc_pass_the_same_flags(nvrtc):
    binding = Binding(nvrtc)
    kernel = KERNELS["grid_exact_sum_f32"]
    text = sources.program([kernel])
    through = compile.compile_program(text, kernel.name, "sm_90", binding)
    assert ("compileProgram", compile.options("sm_90")) in binding.calls
    assert through.cubin == compile.compile_program(text, kernel.name, "sm_90", nvrtc).cubin


@pytest.mark.parametrize("name", ["grid_exact_forward_f32_n32", "ragged_gemm_f64"])
def test_cupy_and_the_wheel_make_the_same_code(nvrtc, name):
    cupy_nvrtc = pytest.importorskip("cupy.cuda", reason="CuPy is not installed: pip install cupy-cuda13x").nvrtc
    if tuple(cupy_nvrtc.getVersion()) != nvrtc.getVersion():
        pytest.skip(f"CuPy loads NVRTC {cupy_nvrtc.getVersion()}, the wheel has {nvrtc.getVersion()}")
    kernel = KERNELS[name]
    text = sources.program([kernel])
    codes = [compile.compile_program(text, kernel.name, "sm_90", way).cubin for way in (cupy_nvrtc, nvrtc)]
    assert codes[0] == codes[1]


def test_without_the_wheel_the_error_has_the_command(tmp_path):
    with pytest.raises(ImportError, match="pip install nvidia-cuda-nvrtc"):
        Nvrtc(tmp_path)


def test_the_wheel_is_found_where_pip_puts_it(nvrtc):
    assert list(wheel_folder().glob("libnvrtc.so.*"))


def test_a_program_includes_each_header_once_and_needs_no_path():
    text = sources.program(list(KERNELS.values()))
    assert '#include "' not in text
    assert text.count("struct Tile {") == 1
    assert all(kernel.line in text for kernel in KERNELS.values())
