"""Training: what is tied stays equivariant, what is only initialised so drifts, and nothing is left changed."""

import copy

import equiharness as eh
import pytest
import torch
from equiharness.kernels import GroupConv
from equiharness.suites.claims import claim_of
from equiharness.suites.forward.equivariance import equivariance
from equiharness.suites.usage.training import training
from torch.nn import functional

FIELD = eh.Field(eh.Grid(9, 9), "C4", "2*trivial")
REGULAR = eh.Field(eh.Grid(9, 9), "C4", "2*regular", split=True)


class Symmetrised(torch.nn.Module):
    """Filters averaged over the quarter turns in every call: tied."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(2, 2, 3, 3))

    def forward(self, x):
        return functional.conv2d(x, sum(torch.rot90(self.weight, n, (2, 3)) for n in range(4)) / 4, padding=1)


class SymmetrisedOnce(torch.nn.Module):
    """Filters averaged when they were made: the gradient leaves the tied subspace."""

    def __init__(self):
        super().__init__()
        weight = torch.randn(2, 2, 3, 3)
        self.weight = torch.nn.Parameter(sum(torch.rot90(weight, n, (2, 3)) for n in range(4)) / 4)

    def forward(self, x):
        return functional.conv2d(x, self.weight, padding=1)


class ExpandedInEval(torch.nn.Module):
    """Like escnn's layers: the filters of evaluation are made on leaving train mode."""

    def __init__(self):
        super().__init__()
        self.inner = Symmetrised()
        self.eval()

    def train(self, mode=True):
        if self.training and not mode:
            with torch.no_grad():
                weight = sum(torch.rot90(self.inner.weight, n, (2, 3)) for n in range(4)) / 4
            self.register_buffer("filters", weight)
        return super().train(mode)

    def forward(self, x):
        return self.inner(x) if self.training else functional.conv2d(x, self.filters, padding=1)


def judged(layer, field=FIELD, dtype=torch.float32):
    return training(claim_of(layer, "C4", field, field, dtype=dtype)).result


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", [Symmetrised, ExpandedInEval])
def test_tied_filters_stay_tied(kind, dtype):
    assert judged(kind().to(dtype), dtype=dtype).verdict is eh.Verdict.EXACT


def test_our_regular_convolution_stays_equivariant():
    assert judged(GroupConv("C4", 2, 2, 3, padding=1), REGULAR).verdict is eh.Verdict.EXACT


def test_filters_that_are_only_initialised_symmetric_drift():
    layer = SymmetrisedOnce()
    assert equivariance(claim_of(layer, "C4", FIELD, FIELD)).result.verdict is eh.Verdict.EXACT
    result = judged(layer)
    assert (result.property, result.verdict, result.reason.code) == ("training", eh.Verdict.BROKEN, "ERROR")


@pytest.mark.parametrize("kind", [Symmetrised, SymmetrisedOnce, ExpandedInEval])
def test_afterwards_the_layer_is_what_it_was(kind):
    layer = kind()
    layer.register_buffer("count", torch.zeros(3))
    before = copy.deepcopy(layer.state_dict())
    mode, x = layer.training, torch.randn(1, 2, 9, 9)
    y = layer(x)
    judged(layer)
    assert layer.training is mode
    assert all(torch.equal(v, before[name]) for name, v in layer.state_dict().items())
    assert all(p.grad is None for p in layer.parameters())
    assert torch.equal(layer(x), y)


def test_a_batch_norm_learns_its_statistics_and_gets_them_back():
    layer = torch.nn.Sequential(Symmetrised(), torch.nn.BatchNorm2d(2)).eval()
    assert judged(layer).verdict is eh.Verdict.EXACT
    assert float(layer[1].running_mean.abs().sum()) == 0
    assert int(layer[1].num_batches_tracked) == 0


def test_training_is_not_blamed_for_a_layer_that_was_broken_before():
    layer = torch.nn.Conv2d(2, 2, 3, padding=1)
    result = judged(layer)
    assert (result.verdict, result.reason.code) == (eh.Verdict.SKIPPED, "BROKEN_UNTRAINED")


@pytest.mark.parametrize(("layer", "code"), [
    (torch.nn.ReLU(), "NO_PARAMETERS"),
    (torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Conv2d(2, 2, 1).requires_grad_(False)), "NOT_DIFFERENTIABLE"),
])  # fmt: skip
def test_what_cannot_be_trained_is_skipped(layer, code):
    result = judged(layer)
    assert (result.verdict, result.reason.code) == (eh.Verdict.SKIPPED, code)
