"""Layers as people have them: compiled, scripted, exported, wrapped, in place, seeded, with tables of one precision."""

import functools

import equiharness as eh
import pytest
import torch
import torch.nn.functional as F
from torch import nn

PLANE = eh.Field(eh.Grid(9, 9), "C4", "2*trivial")
POINTS = {"pos": eh.Positions(4, "O3"), "z": eh.Invariant(at=eh.Points(4), integers=(1, 4))}
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning", "ignore:.torch.jit:FutureWarning")


class Energy(nn.Module):
    """A sum over pairs; `leaning` adds a term that knows the axes."""

    def __init__(self, leaning: float = 0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.7))
        self.leaning = leaning

    def forward(self, pos, z):
        r2 = (pos[:, :, None] - pos[:, None]).square().sum(-1)
        pairs = z.to(pos.dtype)[:, :, None] * z.to(pos.dtype)[:, None]
        return self.weight * (torch.exp(-r2 / 4) * pairs).sum((1, 2)) + self.leaning * pos[:, :, 0].square().sum(1)


def wrapped(function):
    def inner(*args, **kwargs):
        return function(*args, **kwargs)

    return inner


def example():
    return torch.randn(4, 4, 3), torch.ones(4, 4, dtype=torch.int64)


FORMS = {
    "eager": lambda m: m,
    "compiled": lambda m: torch.compile(m, backend="eager"),
    "scripted": torch.jit.script,
    "traced": lambda m: torch.jit.trace(m, example()),
    "partial": functools.partial,
    "wrapped": wrapped,
    "data parallel": nn.DataParallel,
    "exported": lambda m: torch.export.export(m, example()).module(),
}


@pytest.mark.parametrize("source", [POINTS, tuple(POINTS.values())], ids=["dict", "tuple"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_one_model_has_the_verdict_of_the_model(form, source):
    torch._dynamo.reset()
    for leaning, verdict in ((0.0, eh.Verdict.EXACT), (0.01, eh.Verdict.BROKEN)):
        result = eh.check(FORMS[form](Energy(leaning)), "O3", source, eh.Energy(), properties=["rotations"])
        assert result.verdict is verdict, str(result)


@pytest.mark.parametrize("form", ["eager", "scripted", "traced"])
def test_float64_modules_are_judged_in_float64(form):
    class Mix(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.eye(2) + 0.5)

        def forward(self, x):
            return torch.einsum("ij,bjhw->bihw", self.weight, x)

    module = Mix().double()
    layer = {
        "eager": lambda: module,
        "scripted": lambda: torch.jit.script(module),
        "traced": lambda: torch.jit.trace(module, torch.randn(4, 2, 9, 9).double()),
    }[form]()
    result = eh.check(layer, "C4", PLANE, PLANE)
    assert result.verdict is eh.Verdict.EXACT, str(result)
    assert result.dtype == "float64"


@pytest.mark.parametrize(
    "layer",
    [
        nn.ReLU(inplace=True),
        lambda x: x.view(len(x), -1).view_as(x) * 2,
        lambda x: x.mul_(2),
        nn.Hardtanh(inplace=True),
    ],
    ids=["inplace", "view", "mul_", "hardtanh"],
)
def test_layers_may_view_their_input_and_write_into_it(layer):
    assert eh.check(layer, "C4", PLANE, PLANE).verdict is eh.Verdict.EXACT


class Table(torch.autograd.Function):
    """A blur with a table in float32, in the backward too; `shift` rolls the gradient."""

    shift = 0
    weights = torch.full((2, 1, 3, 3), 1 / 9)

    @classmethod
    def blurred(cls, x):
        return F.conv2d(x, Table.weights, padding=1, groups=2)

    @staticmethod
    def forward(ctx, x):
        return Table.blurred(x)

    @staticmethod
    def backward(ctx, gradient):
        return Table.blurred(gradient)


class Lopsided(Table):
    @staticmethod
    def backward(ctx, gradient):
        return Table.blurred(gradient).roll(1, -1)


def test_a_backward_with_a_table_of_one_precision_is_checked_in_float64():
    assert eh.check(lambda x: Table.apply(x), "C4", PLANE, PLANE).verdict in (eh.Verdict.EXACT, eh.Verdict.IMPRECISE)
    broken = eh.check(lambda x: Lopsided.apply(x), "C4", PLANE, PLANE)
    [adjoint] = [part for part in broken.parts if part.property == "adjoint"]
    assert adjoint.verdict is eh.Verdict.BROKEN


class ThreeTimes(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 1.0

    @staticmethod
    def backward(ctx, gradient):
        return 3 * gradient


def test_a_backward_that_is_wrong_and_equivariant_is_found_by_differences():
    result = eh.check(lambda x: ThreeTimes.apply(x), "C4", PLANE, PLANE)
    assert (result.verdict, result.reason.code, result.property) == (eh.Verdict.BROKEN, "GRADIENT", "gradcheck")


MASKS = {
    "rand": lambda x: x * (torch.rand(len(x), 2, 1, 1) > 0.5).to(x.dtype),
    "rand of the input's dtype": lambda x: x * (torch.rand(len(x), 2, 1, 1, dtype=x.dtype) > 0.3).to(x.dtype),
    "randn": lambda x: x * (1 + 0.1 * torch.randn(len(x), 2, 1, 1, dtype=x.dtype)),
    "rand_like": lambda x: x * torch.rand_like(x[:, :, :1, :1]),
    "bernoulli_": lambda x: x * torch.empty(len(x), 2, 1, 1, dtype=x.dtype).bernoulli_(0.5),
    "bernoulli": lambda x: x * torch.bernoulli(torch.full((len(x), 2, 1, 1), 0.5).to(x)),
    "normal": lambda x: x * torch.normal(1.0, 0.1, (len(x), 2, 1, 1)).to(x),
    "uniform_": lambda x: x * torch.empty(len(x), 2, 1, 1).uniform_(0.5, 1).to(x),
    "dropout2d": lambda x: F.dropout2d(x, 0.5, training=True),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", MASKS)
def test_one_seed_gives_one_mask_in_every_precision(name, dtype):
    result = eh.check(MASKS[name], "C4", PLANE, PLANE, call_seed=1, dtype=dtype)
    assert result.verdict is eh.Verdict.EXACT, str(result)


@pytest.mark.parametrize(
    "mask", [lambda x: torch.rand(x.shape) > 0.5, lambda x: F.dropout(torch.ones_like(x), 0.5) > 0]
)
def test_a_mask_of_pixels_does_not_turn_with_the_image(mask):
    assert eh.check(lambda x: x * mask(x), "C4", PLANE, PLANE, call_seed=0).verdict is eh.Verdict.BROKEN


def summed_in_any_order(pos):
    moved = (pos[:, :, None] - pos[:, None]) * torch.exp(
        -(pos[:, :, None] - pos[:, None]).square().sum(-1, keepdim=True)
    )
    out = torch.zeros_like(pos)
    for j in torch.randperm(pos.shape[1]).tolist():
        out = out + moved[:, :, j]
    return out


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sums_in_another_order_are_rounding_and_a_random_layer_is_not(dtype):
    source, target = eh.Positions(8, "O3"), eh.Field(eh.Points(8), "O3", "standard")
    sound = eh.check(summed_in_any_order, "O3", source, target, dtype=dtype)
    assert sound.verdict in (eh.Verdict.EXACT, eh.Verdict.IMPRECISE), str(sound)
    for size in (1e-2, 1e-5):
        noisy = eh.check(
            lambda x, size=size: summed_in_any_order(x) * (1 + size * torch.randn(1).to(x)),
            "O3",
            source,
            target,
            dtype=dtype,
        )
        assert noisy.reason.code == "NONDETERMINISTIC", str(noisy)


class Sloped(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(2)

    def forward(self, x):
        return self.norm(x) * torch.linspace(1.0, 1.01, 9).to(x)


class Remembering(nn.Module):
    """Adds its last output: the output at one input depends on the calls before it."""

    def __init__(self):
        super().__init__()
        self.register_buffer("last", torch.zeros(1))

    def forward(self, x):
        y = x + self.last.to(x)
        self.last += 1
        return y


def test_running_statistics_are_a_note_and_a_fault_beside_them_is_the_headline():
    sound = eh.check(nn.BatchNorm2d(2), "C4", PLANE, PLANE)
    assert sound.verdict in (eh.Verdict.EXACT, eh.Verdict.IMPRECISE), str(sound)
    assert "running_mean" in str(sound)
    assert eh.check(Sloped(), "C4", PLANE, PLANE).reason.code == "ERROR"
    assert eh.check(Remembering(), "C4", PLANE, PLANE).reason.code == "STATEFUL"


class Detached(nn.Module):
    def forward(self, x):
        return x.detach() * 2


def test_a_gradient_that_cannot_flow_is_said_so():
    result = eh.check(Detached(), "C4", PLANE, PLANE)
    assert result.verdict is eh.Verdict.EXACT
    assert {part.reason.code for part in result.parts if part.property in ("adjoint", "gradcheck")} == {
        "NOT_DIFFERENTIABLE"
    }


class Nested(nn.Module):
    def forward(self, x):
        return self.inner(x)

    def inner(self, x):
        return x.nope


def test_a_crash_names_the_place_in_the_users_code_and_keeps_its_traceback():
    result = eh.check(Nested(), "C4", PLANE, PLANE)
    assert result.verdict is eh.Verdict.CRASHED
    assert isinstance(result.exception, AttributeError)
    assert "in inner" in result.traceback
    assert not result
    with pytest.raises(AssertionError) as raised:
        eh.assert_equivariant(Nested(), "C4", PLANE, PLANE)
    assert isinstance(raised.value.__cause__, AttributeError)


def test_a_result_is_true_where_the_claim_holds():
    assert eh.check(nn.ReLU(), "C4", PLANE, PLANE)
    assert not eh.check(nn.Conv2d(2, 2, 3, padding=1), "C4", PLANE, PLANE)


@pytest.mark.parametrize("group", ["C8", "SO2"])
def test_invariant_targets_off_the_grid(group):
    field = eh.Field(eh.Grid(33, 33), group, "3*trivial")
    assert eh.check(lambda x: x.mean((2, 3)), group, field, eh.Invariant())
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert eh.check(network, group, field, eh.Invariant()).verdict is eh.Verdict.BROKEN


@pytest.mark.parametrize("group", ["C3", "C5"])
def test_groups_without_an_element_on_the_grid(group):
    field = eh.Field(eh.Grid(33, 33), group, "2*trivial")
    assert eh.check(nn.Identity(), group, field, field).verdict is eh.Verdict.APPROXIMATE
