"""The worst case: found where random inputs see nothing, measured as the operator norm that it is."""

import equiharness as eh
import numpy as np
import pytest
import torch
from equiharness.suites.claims import claim_of
from equiharness.suites.forward.worst_case import worst_case

FIELD = eh.Field(eh.Grid(7, 7), "C4", "2*trivial")
N = 2 * 49


def direction(seed):
    v = torch.randn(N, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return v / v.norm()


class RareFault(torch.nn.Module):
    """x + b + size u <v, x>: wrong on the one input direction v."""

    def __init__(self, size, dtype=torch.float64):
        super().__init__()
        self.size, self.u, self.v = size, direction(1).to(dtype), direction(2).to(dtype)

    def forward(self, x):
        along = x.flatten(1) @ self.v.to(x)
        return x + 3 + self.size * (along[:, None] * self.u.to(x)).view_as(x)


def dense_supremum(layer, claim):
    """The largest singular value of e, over all generators, from its whole matrix, as the property scales it."""
    x = torch.eye(N, dtype=torch.float64).view(N, 2, 7, 7)
    zero = torch.zeros(1, 2, 7, 7, dtype=torch.float64)

    def e(x, g):
        return layer(FIELD.act(g, x)) - FIELD.act(g, layer(x))

    largest = max(np.linalg.norm((e(x, g) - e(zero, g)).flatten(1).numpy(), 2) for g in claim.group.generators)
    samples = claim.draw(4).flatten(1)
    outputs = layer(claim.draw(4)).flatten(1)
    typical = (outputs - outputs.mean(0)).square().sum(1).mean().sqrt()
    return float(largest * samples.square().sum(1).mean().sqrt() / typical)


@pytest.mark.parametrize("size", [1.0, 1e-2, 1e-4])
def test_a_fault_in_one_direction_is_measured_within_one_percent_of_its_operator_norm(size):
    layer = RareFault(size)
    claim = claim_of(layer, "C4", FIELD, FIELD, dtype=torch.float64)
    result = worst_case(claim).result
    assert result.verdict is eh.Verdict.BROKEN
    assert result.error == pytest.approx(dense_supremum(layer, claim), rel=0.01)


def test_a_float32_layer_whose_fault_random_inputs_cannot_tell_from_rounding_is_broken():
    """In random inputs the fault is n^(1/2) times smaller than in its own direction, and drowns in the bound."""
    layer = RareFault(3e-6, torch.float32)
    claim = claim_of(layer, "C4", FIELD, FIELD, dtype=torch.float32)
    assert eh.check(layer, "C4", FIELD, FIELD, dtype=torch.float32).verdict in (eh.Verdict.EXACT, eh.Verdict.IMPRECISE)
    result = worst_case(claim).result
    assert (result.verdict, result.reason.code) == (eh.Verdict.BROKEN, "ERROR")
    assert "random inputs" in result.reason.message


class Threshold(torch.nn.Module):
    """Sound on small values, wrong where one pixel is very large: no noise reaches it."""

    def forward(self, x):
        # relu of a pixel beyond six standard deviations; it has no gradient below, so it is smoothed.
        spike = torch.nn.functional.softplus(4 * (x[:, :1, :1, 1:2] - 6.0)) / 4
        return x + torch.nn.functional.pad(spike.expand(-1, 2, 1, 1), (0, 6, 0, 6))


def test_the_ascent_climbs_to_a_fault_of_a_nonlinear_layer():
    claim = claim_of(Threshold(), "C4", FIELD, FIELD, dtype=torch.float64)
    result = worst_case(claim).result
    assert result.verdict is eh.Verdict.BROKEN
    typical = float(result.reason.message.rsplit(" ", 1)[1].rstrip("."))
    assert result.error > 1000 * typical


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("layer", [torch.nn.ReLU(), torch.nn.Identity(), torch.nn.Softmax(dim=1), torch.nn.Tanh()])
def test_sound_layers_have_no_worst_case(layer, dtype):
    result = worst_case(claim_of(layer, "C4", FIELD, FIELD, dtype=dtype)).result
    assert result.verdict is eh.Verdict.EXACT, result.reason
    assert result.power > 100


def test_what_carries_no_gradient_is_skipped():
    result = worst_case(claim_of(lambda x: (x > 0).to(x.dtype), "C4", FIELD, FIELD)).result
    assert (result.verdict, result.reason.code) == (eh.Verdict.SKIPPED, "NOT_DIFFERENTIABLE")


def test_a_group_that_moves_no_grid_point_exactly_is_skipped():
    field = eh.Field(eh.Grid(7, 7), [[[1.0, 0], [0, 1]]], "trivial")
    result = worst_case(claim_of(torch.nn.ReLU(), field.group, field, field)).result
    assert (result.verdict, result.reason.code) == (eh.Verdict.SKIPPED, "NO_EXACT_ELEMENTS")
