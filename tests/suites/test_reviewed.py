"""What a hostile reader of the code found: ceilings, modes, precisions of one memo, running sums, assigned buffers."""

from dataclasses import replace

import equiharness as eh
import pytest
import torch
from equiharness.suites.check import examine
from equiharness.suites.claims import claim_of

PLANE = eh.Field(eh.Grid(5, 5), "C4", "2*trivial")
LOOSE = eh.Approximate(ceiling=0.05)
RAMP = torch.linspace(0, 1, 5)


def test_a_ceiling_excuses_no_function_that_float32_alone_has_wrong():
    def wrong_in_single(x):
        return x * torch.arange(5.0).to(x) if x.dtype is torch.float32 else x * 1.0

    assert eh.check(wrong_in_single, "C4", PLANE, PLANE, contract=LOOSE).verdict is eh.Verdict.BROKEN


def test_a_ceiling_bounds_the_error_of_every_leaf():
    def two(x):
        return x + 0.02 * RAMP.to(x) * x, (x * (1 + RAMP.to(x)) + 1e4) - 1e4

    found = eh.check(two, "C4", PLANE, (PLANE, PLANE), properties=("equivariance",), contract=LOOSE)
    assert found.verdict is eh.Verdict.BROKEN, str(found)
    within = eh.check(lambda x: two(x)[0], "C4", PLANE, PLANE, properties=("equivariance",), contract=LOOSE)
    assert within.reason.code == "CEILING", str(within)


class Merging(torch.nn.Module):
    """Weights that eval() merges and train() takes apart, and a mean over the batch in training."""

    def __init__(self):
        super().__init__()
        self.weight, self.extra, self.merged = torch.nn.Parameter(torch.ones(())), 0.5, False

    def train(self, mode=True):
        if mode is self.merged:
            with torch.no_grad():
                self.weight.add_(-self.extra if mode else self.extra)
            self.merged = not mode
        return super().train(mode)

    def forward(self, x):
        return self.weight * x.sin() + (x.mean() if self.training else 0)


def test_a_module_is_after_a_check_what_it_was_before():
    layer = Merging()
    result = eh.check(layer, "C4", PLANE, PLANE, properties=("batch",))
    assert result.reason.code == "SHARED_STATISTICS", str(result)
    assert (layer.weight.item(), layer.merged, layer.training) == (1.0, False, True)


def test_a_layer_of_escnn_works_after_a_check_in_both_modes():
    nn, gspaces = pytest.importorskip("escnn.nn"), pytest.importorskip("escnn.gspaces")
    space = gspaces.rot2dOnR2(4)
    kind = nn.FieldType(space, [space.trivial_repr])
    layer = nn.R2Conv(kind, kind, 3, padding=1).eval()
    assert eh.check(layer, modes=("train", "eval")).passed
    layer(nn.GeometricTensor(torch.randn(1, 1, 5, 5), kind))


def test_precisions_of_one_claim_share_no_output():
    def layer(x):
        return x * torch.tensor(0.1) + torch.tensor(0.3) * x**3

    for first, then in ((torch.float32, torch.float64), (torch.float64, torch.float32)):
        claim = claim_of(layer, "C4", PLANE, PLANE, dtype=first)
        results = [examine(replace(claim, dtype=kind), (), ("equivariance",)).result for kind in (first, then)]
        assert [result.verdict for result in results] == ["EXACT", "EXACT"], [str(result) for result in results]


def test_a_running_sum_over_samples_is_equivariant_and_leaks():
    parts = {part.property: part.verdict for part in eh.check(lambda x: torch.cumsum(x, 0), "C4", PLANE, PLANE).parts}
    assert (parts["equivariance"], parts["batch"]) == (eh.Verdict.EXACT, eh.Verdict.BROKEN)


class Moving(torch.nn.Module):
    """Assigns its moving mean a new tensor in each call."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, x):
        self.mean = 0.9 * self.mean + 0.1 * x.detach().square().mean().to(self.mean)
        return x / (1 + self.mean.to(x))


def test_a_buffer_that_is_assigned_is_seen_and_put_back():
    layer = Moving()
    result = eh.check(layer, "C4", PLANE, PLANE, properties=("equivariance",))
    assert result.reason.code == "STATEFUL", str(result)
    assert layer.mean.item() == 0.0


def test_sparse_buffers_and_lazy_layers_are_checked():
    class Sparse(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("table", torch.eye(5).to_sparse())

        def forward(self, x):
            return x.sin()

    for layer in (Sparse(), torch.nn.LazyConv2d(2, 1)):
        assert eh.check(layer, "C4", PLANE, PLANE, properties=("equivariance",)).verdict is eh.Verdict.EXACT


def test_every_part_that_crashed_holds_its_error():
    result = eh.check(lambda x: x.no_such_method(), "C4", PLANE, PLANE)
    assert [part.property for part in result.parts if part.verdict == "CRASHED" and part.exception is None] == []
