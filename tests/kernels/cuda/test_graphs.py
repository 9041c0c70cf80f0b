"""Replaying layers as CUDA graphs: what is captured, when it is thrown away, and when a layer simply runs."""

import copy
import pickle

import pytest
import torch
from equiharness.kernels import S2Conv, SO3Conv, s2_near_identity, so3_near_identity
from equiharness.kernels.cuda import graphs
from equiharness.kernels.spherical import transform


class FakeGraph:
    """Computes again what was captured, from the same tensors into the same tensor."""

    def __init__(self, function):
        self.function, self.output, self.replays = function, function(), 0

    def replay(self):
        self.replays += 1
        with torch.no_grad():
            self.output.copy_(self.function())


class FakeBackend:
    def __init__(self):
        self.captured, self.current = [], 0

    def accepts(self, x):
        return True

    def stream(self, x):
        return self.current

    def capture(self, function):
        self.captured.append(FakeGraph(function))
        return self.captured[-1], self.captured[-1].output


class PassingThrough(torch.overrides.TorchFunctionMode):
    """A mode that changes nothing; others convert what functions are given."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        return function(*args, **(kwargs or {}))


@pytest.fixture
def backend():
    return FakeBackend()


def convolution(backend, b=2, kind=SO3Conv):
    torch.manual_seed(0)
    layer = kind(2, 3, b, b, so3_near_identity() if kind is SO3Conv else s2_near_identity())
    layer.graphs = graphs.Graphs(backend)
    return layer, torch.randn(2, 2, *(2 * b,) * (3 if kind is SO3Conv else 2))


@pytest.mark.parametrize("kind", [SO3Conv, S2Conv])
def test_the_second_call_of_a_shape_captures_and_every_later_one_replays_on_new_data(backend, kind):
    layer, x = convolution(backend, kind=kind)
    with torch.no_grad():
        wanted = layer(x)
        assert backend.captured == []
        for scale in (1, 2, 4):
            assert torch.equal(layer(scale * x), kind.forward(copy.deepcopy(layer), scale * x))
    assert [graph.replays for graph in backend.captured] == [3]
    assert torch.equal(layer(x).detach(), wanted)


def test_a_result_is_not_overwritten_by_the_next_replay(backend):
    layer, x = convolution(backend)
    with torch.no_grad():
        layer(x)
        first, kept = layer(x), layer(x).clone()
        layer(3 * x)
    assert torch.equal(first, kept)


def test_parameters_updated_in_place_are_seen_and_moved_ones_are_captured_again(backend):
    layer, x = convolution(backend)
    with torch.no_grad():
        before = [layer(x) for _ in range(3)][-1]
        layer.kernel.mul_(2)
        assert torch.equal(layer(x), 2 * before)  # a product by two is exact, and the bias is zero
        assert len(backend.captured) == 1
        layer.kernel.data = 2 * layer.kernel.data
        assert torch.equal(layer(x), 4 * before)  # runs
        assert torch.equal(layer(x), 4 * before)  # captures
    assert len(backend.captured) == 2
    assert len(layer.graphs) == 1


def test_autograd_sees_every_step(backend):
    layer, x = convolution(backend)
    for _ in range(3):
        layer(x).sum().backward()
    assert backend.captured == []
    assert layer.kernel.grad is not None
    layer.requires_grad_(False)
    for _ in range(2):
        layer(x.clone().requires_grad_()).sum().backward()
    assert backend.captured == []
    for _ in range(2):
        layer(x)  # nothing to differentiate
    assert len(backend.captured) == 1


def test_shapes_streams_types_and_executors_have_graphs_of_their_own(backend, cases):
    layer, x = convolution(backend)
    with torch.no_grad():
        for _ in range(2):
            layer(x)
            layer(x[:1])
        backend.current = 1
        for _ in range(2):
            layer(x)
        with cases.running_on(None):
            for _ in range(2):
                layer(x)
    assert len(backend.captured) == 3  # no executor is no executor, forced or not
    double = layer.double()
    with torch.no_grad():
        for _ in range(2):
            double(x.double())
    assert len(backend.captured) == 4


def test_only_so_many_graphs_are_kept(backend):
    layer, _ = convolution(backend)
    layer.graphs = graphs.Graphs(backend, most=2)
    with torch.no_grad():
        for batch in (1, 2, 3):
            for _ in range(2):
                layer(torch.randn(batch, 2, 4, 4, 4))
    assert len(backend.captured) == 3
    assert len(layer.graphs) == 2


def test_large_bandwidths_modes_and_empty_batches_run_as_ever(backend, monkeypatch):
    layer, x = convolution(backend)
    with torch.no_grad():
        for _ in range(3):
            layer(x[:0])
        with PassingThrough():
            for _ in range(3):
                layer(x)
        monkeypatch.setenv("EQUIHARNESS_CUDA_GRAPHS", "off")
        for _ in range(3):
            layer(x)
        monkeypatch.delenv("EQUIHARNESS_CUDA_GRAPHS")
        monkeypatch.setattr("equiharness.kernels.spherical.layers.BELOW", 2)
        for _ in range(3):
            layer(x)
    assert backend.captured == []


def test_a_cpu_captures_nothing():
    layer, x = convolution(graphs.CudaBackend())
    with torch.no_grad():
        for _ in range(3):
            layer(x)
    assert len(layer.graphs) == 0


def test_a_graph_keeps_the_tables_that_it_reads_when_caches_forget_them(backend, cases, host_executor):
    layer, x = convolution(backend)
    with torch.no_grad(), cases.running_on(host_executor("plain")):
        layer(x)
        layer(x)
    (entry,) = layer.graphs._entries.values()
    kept = {tensor.untyped_storage().data_ptr() for tensor in entry.kept}
    plan = transform.so3_plan(2, 2, 2, torch.float32, "cpu")
    assert {plan.flat.untyped_storage().data_ptr(), plan.fourier.data_ptr(), layer.kernel.data_ptr()} <= kept
    assert any(tensor.dtype == torch.int64 for tensor in entry.kept)  # a table of products, known to its launch alone


def test_copies_and_pickles_of_a_layer_start_without_graphs(backend):
    layer, x = convolution(backend)
    with torch.no_grad():
        wanted = [layer(x) for _ in range(2)][-1]
        copied, loaded = copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))
        assert len(layer.graphs) == 1
        assert len(copied.graphs) == len(loaded.graphs) == 0
        assert torch.equal(copied(x), wanted)
        assert torch.equal(loaded(x), wanted)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", [SO3Conv, S2Conv])
def test_replays_on_a_gpu_give_what_the_layer_gives(kind):
    if not torch.cuda.is_available():
        pytest.skip("no NVIDIA GPU, or a torch that does not see it")
    layer, x = convolution(graphs.CudaBackend(), b=8, kind=kind)
    layer, x = layer.cuda(), x.cuda()
    with torch.no_grad():
        eager = layer(x)
        assert torch.equal(layer(x), eager)
        assert len(layer.graphs) == 1
        layer.kernel.mul_(2)
        assert torch.equal(layer(2 * x), 4 * eager)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            outputs = [layer(x) for _ in range(3)]
        side.synchronize()
    assert all(torch.equal(y, 2 * eager) for y in outputs)
