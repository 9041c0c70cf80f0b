"""Kernels without a GPU: the NVRTC of the wheel, the kernels built for the host, and float64 references with bounds."""

import functools
import os
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from equiharness.kernels import GroupConv, LiftingConv
from equiharness.kernels.cuda import cache, compile, host, launch, sources
from equiharness.kernels.cuda.catalogue import KERNELS
from equiharness.kernels.grid import reference


def builds_folder():
    """Where compiled kernels stay between runs: the user's cache folder, or the one that EQUIHARNESS_BUILDS names."""
    return Path(os.environ.get("EQUIHARNESS_BUILDS") or cache.cache_folder().parent / "builds")


def prune(folder, now, days=30, most=2**30):
    """Remove what no run has used for so many days, then the longest unused until the rest takes `most` bytes.

    What was used within a day stays, however large: a run may be about to load it.
    """
    entries = []
    for path in folder.iterdir():
        try:
            files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
            entries.append((path.stat().st_mtime, sum(file.stat().st_size for file in files), path))
        except FileNotFoundError:  # another process has removed it
            continue
    total = sum(size for _, size, _ in entries)
    for used, size, path in sorted(entries):
        age = (now - used) / 86400
        if age > days or (age > 1 and total > most):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
            total -= size


@pytest.fixture(scope="session")
def build_folder(tmp_path_factory):
    """The folder of compiled kernels; where it cannot be written, one for all workers of this run."""
    folder = builds_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        prune(folder, time.time())
        writable = os.access(folder, os.W_OK | os.X_OK)
    except OSError:
        writable = False
    if writable:
        return folder
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "host kernels"


class StoredNvrtc:
    """An NVRTC that stores what it makes, by program, flags and version, and compiles nothing twice.

    Args:
        nvrtc: the compiler.
        version: what tells it from other compilers beside the version that it states.
        folder: where results stay.
    """

    def __init__(self, nvrtc, version, folder):
        self._nvrtc, self._version, self._folder = nvrtc, version, folder

    def __getattr__(self, name):
        return getattr(self._nvrtc, name)

    def createProgram(self, text, name, headers, include_names):
        handle = self._nvrtc.createProgram(text, name, headers, include_names)
        return {"handle": handle, "text": text, "name": name}

    def compileProgram(self, program, options):
        def build():
            self._nvrtc.compileProgram(program["handle"], options)
            log = self._nvrtc.getProgramLog(program["handle"]).encode()
            return len(log).to_bytes(8, "little") + log + self._nvrtc.getCUBIN(program["handle"])

        name = cache.key(
            program["text"], program["name"], *options, compile.compiler_version(self._nvrtc), self._version
        )
        stored = cache.load_or_build(f"nvrtc-{name[:32]}", build, self._folder)
        end = 8 + int.from_bytes(stored[:8], "little")
        program["log"], program["cubin"] = stored[8:end].decode(), stored[end:]

    def getProgramLog(self, program):
        return program["log"] if "log" in program else self._nvrtc.getProgramLog(program["handle"])

    def getCUBIN(self, program):
        return program["cubin"]

    def destroyProgram(self, program):
        self._nvrtc.destroyProgram(program["handle"])


@pytest.fixture(scope="session")
def nvrtc(build_folder):
    from equiharness.kernels.cuda.resources import Nvrtc, wheel_folder

    try:
        compiler = Nvrtc()
    except ImportError as error:
        pytest.skip(str(error))
    # The compiler states no patch release: the sizes of its libraries tell those apart.
    libraries = sorted((path.name, path.stat().st_size) for path in wheel_folder().glob("libnvrtc*"))
    return StoredNvrtc(compiler, str(libraries), build_folder)


# Kernels that the ordinary run gives to no sanitizer, a program of their own there, so that it need not build them:
# bfloat16 beside float16, which has the same size; other layouts and tiles on tensor cores; the beta step in float64.
SELDOM = re.compile(r"grid_(exact|separable)_.*bf16|ragged_mma_(?!.*_kn_64$)|(wigner|legendre)_.*_f64$")


def is_apart(kernel, kind):
    """Whether a kernel is in the second program of its source."""
    return kind == "address" and SELDOM.match(kernel.name) is not None


class BySource:
    """Runs kernels on the host; the kernels of a source are one program, built when the first of them is launched.

    Args:
        program: from a source, a build and whether it is the second program of the source, its path.
        kind: "plain", "address" or "thread".
        options: of `host.HostExecutor`.
    """

    def __init__(self, program, kind, **options):
        self._program, self._kind, self._options = program, kind, options
        self._executors = {}
        self.launched = []

    def launch(self, kernel, grid, arguments):
        self.launched.append(kernel.name)
        wanted = kernel.source, self._kind, is_apart(kernel, self._kind)
        if wanted not in self._executors:
            self._executors[wanted] = host.HostExecutor(self._program(*wanted), self._kind, **self._options)
        self._executors[wanted].launch(kernel, grid, arguments)

    empty = host.HostExecutor.empty


@pytest.fixture(scope="session")
def host_executor(build_folder):
    """Executors of all kernels by build: host_executor("plain", backwards=True)."""
    if host.compiler() is None:
        pytest.skip("running kernels on the host needs a C++ compiler: install g++, or name one in CXX")

    @functools.cache
    def program(source, kind, apart):
        kernels = [kernel for kernel in KERNELS if kernel.source == source and is_apart(kernel, kind) == apart]
        return host.build(sources.program(kernels, host.PRELUDE[kind]), kind, build_folder)

    def make(kind, **options):
        return BySource(program, kind, **options)

    return make


class Recorder:
    """Stands in for a GPU: remembers what would be launched, and computes nothing."""

    def __init__(self):
        self.launches = []

    def launch(self, kernel, grid, arguments):
        self.launches.append((kernel, grid, arguments))

    def empty(self, like, shape, dtype=None):
        return like.new_zeros(tuple(shape), dtype=dtype)


@pytest.fixture
def recorder():
    return Recorder()


# The unit roundoff of each type: results are rounded to the nearest number.
ROUNDOFF = {torch.float64: 2.0**-53, torch.float32: 2.0**-24, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}


def gamma(terms, dtype):
    """|fl(sum a_i b_i) - sum a_i b_i| <= gamma(n) sum |a_i b_i|, in any order of summation, fused or not.

    Source: Higham, Accuracy and Stability of Numerical Algorithms, section 3.1.
    """
    u = ROUNDOFF[dtype]
    return terms * u / (1 - terms * u)


# An addition in float32, to nearest; and on a tensor core, which aligns the terms of an instruction to the largest and
# cuts them off: (k + 2) / k units of 2^-23 per term for k terms at a time, at most 1.5 units for k = 4.
NEAREST, TENSOR_CORE = 2.0**-24, 1.5 * 2.0**-23


def tensor_core_bound(precision, terms, magnitudes, addition):
    """What `ragged_mma` promises: rounding of the operands, and one addition per product.

    3xTF32: x = big + small + rest with |rest| <= 2^-22 |x|; left out are two products with a rest, and small * small.
    The higher orders of all three are below one part in 100; the float64 reference's own rounding is below them.
    """
    operand, products = {"3xtf32": (3 * 2.0**-22, 3), "tf32": (2 * 2.0**-11, 1), "bf16": (2 * 2.0**-8, 1)}[precision]
    return 1.01 * (operand + products * terms * addition) * magnitudes


@dataclass(frozen=True)
class GridCase:
    """A group convolution, its input and the cotangent of its output."""

    layer: type
    group: object
    channels: tuple[int, int]
    box: tuple[int, ...]
    k: int
    stride: int = 1
    padding: int = 0
    mode: str = "zeros"
    dtype: torch.dtype = torch.float32
    batch: int = 2

    def build(self, seed=0, backend="exact"):
        torch.manual_seed(seed)
        options = {"stride": self.stride, "padding": self.padding, "padding_mode": self.mode}
        return self.layer(
            self.group, *self.channels, self.k, **options, bias=False, allow_misaligned=True, backend=backend
        ).to(self.dtype)

    def input(self, layer, draw=torch.randn):
        fibre = (layer.order,) if layer.in_fibre else ()
        return draw(self.batch, self.channels[0], *fibre, *self.box).to(self.dtype)

    def results(self, layer, x, cotangent):
        """Output, gradient of the input, gradient of the weight."""
        x = x.detach().requires_grad_()
        y = layer(x)
        return (y.detach(), *torch.autograd.grad(y, [x, layer.weight], cotangent.to(y.dtype)))

    def references(self, layer, x, cotangent):
        """The same in float64 by the formula, and the same of absolute values, to which rounding is proportional."""
        formula = reference.regular if layer.in_fibre else reference.lifting

        def results(change):
            x64, w64 = (change(t.detach().double()).requires_grad_() for t in (x, layer.weight))
            y = formula(x64, w64, layer.group, **layer.geometry())
            return (y.detach(), *torch.autograd.grad(y, [x64, w64], change(cotangent.double())))

        return results(lambda t: t.clone()), results(torch.abs)

    def terms(self, layer, y):
        """How many products each entry of the results sums."""
        taps, order = self.k**layer.dim, layer.order
        windows = y[0, 0, 0].numel() * len(y) * order
        return self.channels[0] * (order if layer.in_fibre else 1) * taps, self.channels[1] * order * taps, windows


def within_rounding(results, exact, magnitudes, terms, dtype):
    """None, or what is wrong: every entry within gamma(n) sum |products|, plus the rounding of what is stored.

    Sums are kept in float32 at least. A result of 16 bits is rounded once, in the gradient of a lifting layer twice
    (each term of the orbit and their sum): 2 u sum |products|, and half the smallest number per rounding in float16.
    """
    arithmetic = torch.float64 if dtype == torch.float64 else torch.float32
    for name, got, want, magnitude, n in zip(
        ("y", "dx", "dw")[: len(results)], results, exact, magnitudes, terms, strict=True
    ):
        bound = gamma(n, arithmetic) * magnitude
        if dtype in (torch.float16, torch.bfloat16):
            bound = bound + 2 * ROUNDOFF[dtype] * magnitude + 64 * 2.0**-25
        difference = (got.double() - want).abs()
        if not (difference <= bound).all():  # so that NaN is wrong
            ratio = (difference / bound).nan_to_num(nan=float("inf"))
            return f"{name}: {ratio.max():.3g} times its bound, at entry {ratio.argmax().item()}"
    return None


C4_ABOUT_AXIS_0 = [
    [[1, 0, 0], [0, 1, 0], [0, 0, 1]], [[1, 0, 0], [0, 0, -1], [0, 1, 0]],
    [[1, 0, 0], [0, -1, 0], [0, 0, -1]], [[1, 0, 0], [0, 0, 1], [0, -1, 0]],
]  # fmt: skip
CIRCULAR = {"mode": "circular"}
#: Every kernel of grid_exact.cu, both dimensions, groups of 1 to 48 elements, the geometries of the layers.
GRID_CASES = {
    "lifting C4": GridCase(LiftingConv, "C4", (2, 3), (5, 7), 3, padding=1),
    "lifting O": GridCase(LiftingConv, "O", (1, 2), (3, 2, 4), 2, padding=1),
    "trivial group": GridCase(GroupConv, "C1", (2, 2), (4, 3), 2),
    "regular C4": GridCase(GroupConv, "C4", (2, 3), (5, 4), 3, padding=1),
    "20 channels": GridCase(GroupConv, "C2", (3, 20), (3, 4), 2),
    "70 channels": GridCase(GroupConv, "C2", (1, 70), (3, 4), 2),
    "strided": GridCase(GroupConv, "D4", (1, 2), (5, 7), 3, stride=2, padding=1),
    "strided by more than the kernel": GridCase(LiftingConv, "D4", (1, 2), (7, 4), 1, stride=3),
    "misaligned": GridCase(GroupConv, "C4", (1, 2), (6, 5), 3, stride=2, padding=1),
    "circular": GridCase(GroupConv, "C4", (2, 2), (5, 4), 3, padding=1, **CIRCULAR),
    "circular, strided": GridCase(GroupConv, "C2", (2, 2), (5, 7), 3, stride=2, padding=1, **CIRCULAR),
    "circular, more windows than voxels": GridCase(GroupConv, "C2", (1, 2), (3, 4), 2, padding=2, **CIRCULAR),
    "a group in space": GridCase(GroupConv, C4_ABOUT_AXIS_0, (2, 2), (3, 4, 2), 2),
    "O": GridCase(GroupConv, "O", (2, 1), (2, 3, 3), 1),
    "Oh": GridCase(GroupConv, "Oh", (1, 1), (2, 3, 2), 2, batch=1),
    "several tiles of voxels": GridCase(LiftingConv, "C2", (1, 3), (17, 19), 3, batch=3),
    "double": GridCase(GroupConv, "C4", (2, 3), (5, 4), 3, padding=1, dtype=torch.float64),
    "half": GridCase(GroupConv, "C4", (2, 3), (5, 4), 3, padding=1, dtype=torch.float16),
    "bfloat": GridCase(LiftingConv, "C4", (2, 3), (5, 4), 3, padding=1, dtype=torch.bfloat16),
}


@pytest.fixture(scope="session")
def cases():
    """The helpers of this file, for tests: importlib import mode offers no sibling imports."""

    class Helpers:
        GRID = GRID_CASES
        KERNELS = KERNELS
        GridCase = GridCase
        StoredNvrtc = StoredNvrtc

        NEAREST, TENSOR_CORE = NEAREST, TENSOR_CORE

    Helpers.builds_folder, Helpers.prune = staticmethod(builds_folder), staticmethod(prune)
    Helpers.gamma = staticmethod(gamma)
    Helpers.tensor_core_bound = staticmethod(tensor_core_bound)
    Helpers.within_rounding = staticmethod(within_rounding)
    Helpers.root = Path(__file__).parent
    Helpers.running_on = staticmethod(launch.running_on)
    return Helpers
