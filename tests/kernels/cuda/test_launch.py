"""Who runs the kernels, how they reach a GPU, and what happens where there is none."""

import builtins
import contextlib
import ctypes
import logging
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from equiharness.kernels import GroupConv, SO3Conv, so3_near_identity
from equiharness.kernels.cuda import cache, grid, launch, sources


@pytest.fixture
def fresh_choice():
    """No executor remembered, before and after."""
    launch._cuda_executor.cache_clear()
    yield
    launch._cuda_executor.cache_clear()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A cache folder of its own."""
    monkeypatch.setattr(cache.platformdirs, "user_cache_dir", lambda name: str(tmp_path / name))
    return tmp_path / "equiharness" / "cuda"


def without_cupy(monkeypatch):
    actual = builtins.__import__

    def refuse(name, *arguments, **options):
        if name.partition(".")[0] == "cupy":
            raise ImportError("No module named 'cupy'")
        return actual(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)


def on_cuda():
    """What the choice looks at: a tensor that says it is on a GPU."""
    return SimpleNamespace(device=SimpleNamespace(type="cuda"))


def debug_lines(caplog):
    return [record.getMessage() for record in caplog.records if record.name == launch.__name__]


def test_without_cupy_one_debug_line_says_what_to_install_and_torch_computes(monkeypatch, caplog, fresh_choice):
    without_cupy(monkeypatch)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    with caplog.at_level(logging.DEBUG, launch.__name__):
        assert launch.executor_for(on_cuda()) is None
        assert launch.executor_for(on_cuda()) is None
    (line,) = debug_lines(caplog)
    assert "pip install equiharness[cuda13]" in line
    assert caplog.records[0].levelno == logging.DEBUG


def test_with_a_torch_for_other_hardware_torch_computes(monkeypatch, caplog, fresh_choice):
    monkeypatch.setattr(torch.version, "cuda", None)
    with caplog.at_level(logging.DEBUG, launch.__name__):
        assert launch.executor_for(on_cuda()) is None
    assert len(debug_lines(caplog)) == 1


def test_the_kernels_can_be_switched_off(monkeypatch, caplog, fresh_choice):
    monkeypatch.setenv("EQUIHARNESS_CUDA_KERNELS", "off")
    with caplog.at_level(logging.DEBUG, launch.__name__):
        assert launch.executor_for(on_cuda()) is None
    assert "EQUIHARNESS_CUDA_KERNELS=off" in debug_lines(caplog)[0]


def test_a_cpu_asks_for_nothing_and_logs_nothing(caplog):
    with caplog.at_level(logging.DEBUG, launch.__name__):
        assert launch.executor_for(torch.ones(1)) is None
        GroupConv("C4", 1, 1, 3, backend="exact")(torch.randn(1, 1, 4, 5, 5))
        SO3Conv(1, 1, 2, 2, so3_near_identity())(torch.randn(1, 1, 4, 4, 4))
    assert debug_lines(caplog) == []


def test_an_executor_put_in_place_is_seen_by_all_threads_until_its_block_ends(recorder):
    seen = []
    with launch.running_on(recorder):
        assert launch.executor_for(torch.ones(1)) is recorder
        with launch.running_on(None):
            assert launch.executor_for(torch.ones(1)) is None
        thread = threading.Thread(target=lambda: seen.append(launch.executor_for(torch.ones(1))))  # as autograd's
        thread.start()
        thread.join()
    assert seen == [recorder]
    assert launch.executor_for(torch.ones(1)) is None


class FakeCupy:
    """What CudaExecutor uses of CuPy and of torch.cuda, remembering how: no GPU needed to see what reaches it."""

    def __init__(self):
        self.compiled, self.loaded, self.launches, self.current = [], [], [], []
        binding = SimpleNamespace(
            getVersion=lambda: (13, 0),
            createProgram=lambda text, name, headers, names: (text, name),
            compileProgram=lambda handle, options: self.compiled.append((handle, options)),
            getCUBIN=lambda handle: b"cubin of " + handle[1].encode() + bytes(64),
            getProgramLog=lambda handle: "",
            destroyProgram=lambda handle: None,
        )
        self.cuda = SimpleNamespace(
            nvrtc=binding,
            ExternalStream=lambda pointer: ("stream", pointer),
            function=SimpleNamespace(Module=lambda: self._module()),
        )

    def _module(self):
        def load(cubin):
            self.loaded.append((self.current[-1], cubin))

        def function(name):
            def call(grid, block, arguments, stream):
                given = {"grid": grid, "block": block, "arguments": arguments, "stream": stream}
                self.launches.append(SimpleNamespace(**given, name=name, device=self.current[-1]))

            return call

        return SimpleNamespace(load=load, get_function=function)

    def patch(self, monkeypatch):
        @contextlib.contextmanager
        def device(index):
            self.current.append(index)
            yield
            self.current.pop()

        monkeypatch.setattr(torch.cuda, "device", device)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda index: SimpleNamespace(cuda_stream=100 + index))
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (9, 0))


class OnDevice(torch.Tensor):
    """A tensor in host memory that says which GPU it is on."""

    index = 0

    @property
    def device(self):
        return torch.device("cuda", self.index)


def on_device(values, index):
    tensor = values.as_subclass(OnDevice)
    tensor.index = index
    return tensor


@pytest.fixture
def cupy(monkeypatch, folder):
    fake = FakeCupy()
    fake.patch(monkeypatch)
    return fake


def test_a_launch_passes_addresses_and_structs_on_the_current_stream_of_the_tensors_device(cupy):
    executor = launch.CudaExecutor(cupy)
    kernel, shape = grid.KERNELS[0], np.zeros((), grid.SHAPE)
    x = on_device(torch.ones(3), 1)
    executor.launch(kernel, (5, 2, 1), (x, shape))
    (call,) = cupy.launches
    assert (call.device, call.stream, call.name) == (1, ("stream", 101), kernel.name)
    assert (call.grid, call.block) == ((5, 2, 1), (kernel.threads, 1, 1))
    assert call.arguments[0] == x.data_ptr()
    assert call.arguments[0].itemsize == 8
    assert call.arguments[1] is shape


def test_a_kernel_is_compiled_once_for_all_devices_and_loaded_once_on_each(cupy):
    executor = launch.CudaExecutor(cupy)
    for index in (0, 1, 0, 1):
        executor.launch(grid.KERNELS[0], (1, 1, 1), (on_device(torch.ones(1), index),))
    assert len(cupy.compiled) == 1
    assert [device for device, _ in cupy.loaded] == [0, 1]
    assert "--gpu-architecture=sm_90" in cupy.compiled[0][1]


def test_the_next_process_finds_the_code_on_the_disk(cupy, folder):
    for _ in range(2):
        launch.CudaExecutor(cupy).launch(grid.KERNELS[0], (1, 1, 1), (on_device(torch.ones(1), 0),))
    assert len(cupy.compiled) == 1
    assert len(cupy.loaded) == 2
    assert len(list(folder.iterdir())) == 1


def test_another_compiler_or_another_source_is_compiled_again(cupy, monkeypatch):
    launch.CudaExecutor(cupy).cubin(grid.KERNELS[0], "sm_90")
    cupy.cuda.nvrtc.getVersion = lambda: (13, 1)
    launch.CudaExecutor(cupy).cubin(grid.KERNELS[0], "sm_90")
    actual = sources.read
    monkeypatch.setattr(sources, "read", lambda name: actual(name) + "// changed\n")
    launch.CudaExecutor(cupy).cubin(grid.KERNELS[0], "sm_90")
    launch.CudaExecutor(cupy).cubin(grid.KERNELS[0], "sm_80")
    assert len(cupy.compiled) == 4


def test_the_struct_reaches_a_kernel_by_value():
    """CuPy passes the memory of an array of one structured number: its bytes must be those of the struct."""
    shape = np.zeros((), grid.SHAPE)
    shape["out"] = (1, 2, 3)
    assert shape.size == 1
    assert ctypes.string_at(shape.ctypes.data, grid.SHAPE.itemsize) == shape.tobytes()


def test_a_stored_file_that_is_damaged_is_built_again(folder):
    built = []

    def build():
        built.append(1)
        return b"code"

    assert cache.load_or_build("kernel", build) == b"code"
    assert cache.load_or_build("kernel", build) == b"code"
    assert len(built) == 1
    path = folder / "kernel"
    path.write_bytes(path.read_bytes()[:-1])
    assert cache.load_or_build("kernel", build) == b"code"
    path.write_bytes(b"of another format")
    assert cache.load_or_build("kernel", build) == b"code"
    assert len(built) == 3


def test_nothing_half_written_is_left_behind(folder):
    cache.load_or_build("kernel", lambda: b"code")
    assert [path.name for path in folder.iterdir()] == ["kernel"]


def test_a_folder_that_cannot_be_written_costs_a_compilation_not_an_error(tmp_path, monkeypatch):
    (tmp_path / "equiharness").write_text("a file where the folder should be")
    monkeypatch.setattr(cache.platformdirs, "user_cache_dir", lambda name: str(tmp_path / name))
    assert cache.load_or_build("kernel", lambda: b"code") == b"code"


def test_processes_that_write_at_once_leave_one_whole_file(folder):
    contents = [bytes([i]) * 100_000 for i in range(8)]
    threads = [threading.Thread(target=cache.load_or_build, args=("kernel", lambda c=c: c)) for c in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.load_or_build("kernel", lambda: b"not needed") in contents
    assert len(list(folder.iterdir())) == 1
