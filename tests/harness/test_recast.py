"""The float64 reference of a function that was written in another precision, and the guard around its state."""

import math

import pytest
import torch
from equiharness.harness.claim.claim import Claim, find_modules
from equiharness.harness.claim.evaluation import Subject
from equiharness.harness.claim.recast import recast
from equiharness.harness.errors import UsageError
from equiharness.harness.fields.domains import Vector
from equiharness.harness.fields.field import Field, Invariant
from torch import nn

X = torch.tensor([[0.1, -1.7, 2.3]], dtype=torch.float64)
THIRD = torch.tensor([1 / 3], dtype=torch.float32)


class Buffered(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("table", torch.full((3,), 0.1))
        self.weight = nn.Parameter(torch.tensor([0.3, 0.7, 0.9]))

    def forward(self, x):
        return x * self.weight.to(x) + self.table


def third():
    """float32(1/3) as a float64 number: constants keep the value that they were rounded to."""
    return float(THIRD.double())


# name -> (function written with float32 inside, the same formula in float64)
FUNCTIONS = {
    "closure": (lambda x: x * THIRD, lambda x: x * third()),
    "constant made inside": (lambda x: x * torch.tensor(1 / 3, dtype=torch.float32), lambda x: x / 3),
    "float()": (lambda x: x.float().sin(), lambda x: x.sin()),
    "half()": (lambda x: x.half() * x.half(), lambda x: x * x),
    "to(dtype)": (lambda x: x.to(torch.float32).exp(), lambda x: x.exp()),
    "to(device, dtype)": (lambda x: x.to("cpu", torch.float32).exp(), lambda x: x.exp()),
    "to(dtype=)": (lambda x: x.to(dtype=torch.bfloat16).exp(), lambda x: x.exp()),
    "type()": (lambda x: x.type(torch.float32).exp(), lambda x: x.exp()),
    "to(other)": (lambda x: x.to(THIRD).exp(), lambda x: x.exp()),
    "dtype= of a sum": (lambda x: x.sum(-1, dtype=torch.float32), lambda x: x.sum(-1)),
    "ones": (lambda x: x / (3 * torch.ones(3, dtype=torch.float32)), lambda x: x / 3),
    "ones, default dtype": (lambda x: x / (3 * torch.ones(3)), lambda x: x / 3),
    "linspace": (lambda x: x * torch.linspace(0, 1, 3), lambda x: x * torch.tensor([0, 0.5, 1.0]).double()),
    "arange": (lambda x: x * (torch.arange(3, dtype=torch.float32) / 3), lambda x: x * torch.arange(3).double() / 3),
    "zeros_like": (lambda x: x + torch.zeros_like(x, dtype=torch.float32).cos(), lambda x: x + 1),
    "new_tensor": (lambda x: x * THIRD.new_tensor([math.pi]), lambda x: x * math.pi),
    "full": (lambda x: x * torch.full((3,), math.pi, dtype=torch.float32), lambda x: x * math.pi),
    "einsum": (lambda x: torch.einsum("bi,j->bij", x.float(), THIRD), lambda x: x[..., None] * third()),
    "cat of a list": (lambda x: torch.cat([x.float(), x.float()], -1), lambda x: torch.cat([x, x], -1)),
    "complex": (
        lambda x: torch.fft.fft(x.float()).to(torch.complex64).abs(),
        lambda x: torch.fft.fft(x).abs(),
    ),
    "view_as_complex": (
        lambda x: torch.polar(x.float().abs(), x.float()).real,
        lambda x: x.abs() * x.cos(),
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_reference_computes_in_float64_throughout(name):
    function, exact = FUNCTIONS[name]
    y = recast(function, torch.float64)(X)
    assert y.dtype is torch.float64
    assert torch.allclose(y, exact(X), rtol=1e-14, atol=1e-15)


def test_a_float32_run_of_a_float64_function_is_float32():
    y = recast(lambda x: x * torch.ones(3, dtype=torch.float64), torch.float32)(X.float())
    assert y.dtype is torch.float32


def test_integers_and_booleans_stay():
    y = recast(lambda x: (x > 0) & (torch.arange(3) > 0), torch.float64)(X)
    assert y.dtype is torch.bool
    assert recast(lambda x: x.long(), torch.float64)(X).dtype is torch.int64


def test_buffers_and_parameters_are_read_in_float64_and_left_in_float32():
    layer = Buffered()
    y = recast(layer, torch.float64)(X)
    expected = X * layer.weight.detach().double() + layer.table.double()
    assert torch.allclose(y, expected, rtol=1e-15)
    assert layer.table.dtype is layer.weight.dtype is torch.float32


def test_a_linear_and_a_convolution_run_in_float64():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 9, 2)).eval()
    x = torch.randn(2, 2, 5, 5, dtype=torch.float64)
    y = recast(net, torch.float64)(x)
    with torch.no_grad():
        assert torch.allclose(y, net.double()(x), rtol=1e-13)


def test_the_default_dtype_is_as_before_even_after_a_crash():
    def crash(x):
        raise RuntimeError

    with pytest.raises(RuntimeError):
        recast(crash, torch.float64)(X)
    assert torch.get_default_dtype() is torch.float32


def test_perturbed_constants_move_by_the_stated_amount_and_inputs_do_not():
    y = recast(lambda x: x * THIRD, torch.float64, perturbation=1e-6, seed=1)(X)
    change = (y / (X * third()) - 1).abs()
    assert torch.allclose(change, torch.full_like(change, 1e-6), rtol=1e-6)
    assert torch.equal(recast(lambda x: x + 0, torch.float64, perturbation=1e-6)(X), X)


def subject(function, dtype=torch.float32):
    leaf = Field(Vector(), "C4", "3*trivial")
    return Subject(Claim(function, "C4", leaf, Invariant(), dtype=dtype))


def test_a_function_that_leaves_float64_is_noticed():
    """numpy sees a float32 cast that no torch function mode can."""

    def through_numpy(x):
        return torch.from_numpy(x.numpy().astype("float32"))

    seen = subject(through_numpy)
    assert seen.probe_reference(X) is None
    assert not seen.has_reference


@pytest.mark.filterwarnings("ignore:.torch.jit.:DeprecationWarning")
def test_the_reference_of_a_script_module_is_its_copy_in_float64():
    module = nn.Linear(3, 3)
    layer = torch.jit.trace(module, torch.zeros(1, 3), check_trace=False)
    exact = X @ module.weight.double().T + module.bias.double()
    torch.testing.assert_close(subject(layer).probe_reference(X), exact.detach(), rtol=1e-14, atol=1e-14)
    assert layer.weight.dtype is torch.float32


def test_batch_norm_statistics_are_untouched_after_the_guard():
    norm = nn.BatchNorm1d(3)
    before = {k: v.clone() for k, v in norm.state_dict().items()}
    probe = subject(norm)
    with probe.guarded() as changed:
        probe.working(torch.randn(4, 3, dtype=torch.float64))
        probe.probe_reference(torch.randn(4, 3, dtype=torch.float64))
    assert set(changed) == {"running_mean", "running_var", "num_batches_tracked"}
    assert all(torch.equal(v, before[k]) for k, v in norm.state_dict().items())


def test_the_guard_restores_buffers_after_a_crash():
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.calls += 1
            raise RuntimeError

    layer = Counts()
    probe = subject(layer)
    with pytest.raises(RuntimeError), probe.guarded():
        probe.working(X)
    assert layer.calls == 0


def test_a_buffer_of_nan_is_not_called_changed():
    layer = Buffered()
    layer.table.fill_(math.nan)
    with subject(layer).guarded() as changed:
        pass
    assert changed == []


def test_a_layer_of_eval_mode_changes_nothing():
    probe = subject(nn.BatchNorm1d(3).eval())
    with probe.guarded() as changed:
        probe.working(X)
    assert changed == []


GLOBAL = nn.Linear(3, 3)


def calls_a_global(x):
    return GLOBAL(x)


def test_modules_are_found_among_globals():
    for function in (
        calls_a_global,
        lambda x: GLOBAL(x),
        lambda x: calls_a_global(x),
        lambda x: [GLOBAL(v) for v in x],
    ):
        assert find_modules(function) == [GLOBAL]
    assert find_modules(lambda x: torch.relu(x)) == []


def test_modules_are_found_in_closures_methods_defaults_and_partials():
    import functools

    layer = nn.Linear(3, 3)

    def inner(x):
        return layer(x)

    for function in (
        layer,
        lambda x: layer(x),
        lambda x: inner(x),
        layer.forward,
        functools.partial(layer),
        lambda x, f=layer: f(x),
    ):
        assert find_modules(function) == [layer], function


def test_outputs_that_are_no_tensors_are_refused():
    with pytest.raises(UsageError, match="return a tensor"):
        subject(lambda x: 3).working(X)


def test_complex_outputs_are_refused_with_the_way_out():
    with pytest.raises(UsageError, match="view_as_real"):
        subject(lambda x: torch.complex(x, -x)).working(X)
