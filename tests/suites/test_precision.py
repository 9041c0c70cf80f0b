"""Precision: lost bits of every arithmetic, half-precision sums found out, and structure told from precision."""

import equiharness as eh
import pytest
import torch
from equiharness.suites.claims import claim_of
from equiharness.suites.forward.equivariance import equivariance
from equiharness.suites.usage.precision import precision
from torch.nn import functional

FIELD = eh.Field(eh.Grid(9, 9), "C4", "4*trivial")


class RoundConv(torch.nn.Module):
    def __init__(self, sums=None, noise=0.0):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = torch.nn.Parameter(torch.randn(4, 4, 3, 3, generator=generator))
        self.sums = sums
        self.register_buffer("noise", noise * torch.randn(4, 4, 3, 3, generator=generator))

    def forward(self, x):
        weight = sum(torch.rot90(self.weight, n, (2, 3)) for n in range(4)) / 4
        weight = weight * (1 + self.noise)
        if self.sums is not None:
            return functional.conv2d(x.to(self.sums), weight.to(self.sums), padding=1).to(x.dtype)
        return functional.conv2d(x, weight, padding=1)


def judged(layer, dtype=torch.float32):
    return precision(claim_of(layer, "C4", FIELD, FIELD, dtype=dtype)).result


def rows(result):
    return {row.element: row for row in result.elements}


def test_a_plain_layer_loses_few_bits_in_every_arithmetic():
    result = judged(RoundConv())
    assert result.verdict is eh.Verdict.EXACT, result.reason
    assert set(rows(result)) == {"float32", "autocast to bfloat16", "bfloat16", "float16"}
    assert all(0 < row.error <= row.bound for row in rows(result).values())
    assert rows(result)["float32"].error < 1e-6 < 1e-4 < rows(result)["float16"].error < 1e-2
    assert rows(result)["bfloat16"].error > 4 * rows(result)["float16"].error
    assert result.power > 100
    assert "TF32: not available" in result.reason.message


@pytest.mark.parametrize("sums", [torch.float16, torch.bfloat16])
def test_sums_in_half_precision_are_found_out_though_the_structure_holds(sums):
    layer = RoundConv(sums)
    result = judged(layer)
    assert (result.verdict, result.reason.code) == (eh.Verdict.IMPRECISE, "PRECISION")
    assert result.lost_bits > 10
    assert "sums in low precision" in result.reason.message
    assert equivariance(claim_of(layer, "C4", FIELD, FIELD)).result.verdict is not eh.Verdict.BROKEN


def test_a_large_bias_is_the_problem_s_own_loss():
    """1e4 + x keeps 10 bits of x, however it is computed: rounding the constant alone costs as much."""
    bias = torch.tensor([1e4])
    assert judged(lambda x: x + bias).verdict is eh.Verdict.EXACT


def test_a_cancellation_inside_is_not():
    """(x + 1e5) - 1e5: neither the input nor a constant of the result moves so much. The constants cancel exactly."""
    result = judged(lambda x: (x + 1e5) - 1e5)
    assert (result.verdict, result.reason.code) == (eh.Verdict.IMPRECISE, "PRECISION")
    assert result.lost_bits > 13


def test_overflow_in_float16_is_reported_and_fails_nothing():
    result = judged(lambda x: (x * 1e4) ** 2 / 1e8)
    assert result.verdict is eh.Verdict.EXACT
    assert "float16: overflows" in result.reason.message


def test_a_bfloat16_layer_with_constants_of_its_own_precision_is_sound_and_imprecise_with_lost_bits():
    """Equivariance error 1e-4, precision loss 1e-2: structure and precision are told apart."""
    layer = RoundConv(noise=3e-4).to(torch.bfloat16)
    with torch.no_grad():
        layer.noise.copy_(layer.noise.sign() * 2.0**-13)  # exact in bfloat16, and applied in float64 by f_*
    result = equivariance(claim_of(layer, "C4", FIELD, FIELD, dtype=torch.bfloat16)).result
    assert (result.verdict, result.reason.code) == (eh.Verdict.IMPRECISE, "CONSTANTS_IN_HALF")
    assert 5e-5 < result.error < 3e-4
    assert 3e-3 < result.precision < 3e-2
    assert result.lost_bits is not None
    assert result.passed


def test_a_bfloat16_claim_is_judged_by_its_own_bits():
    assert judged(RoundConv().to(torch.bfloat16), torch.bfloat16).verdict is eh.Verdict.EXACT


def test_a_constant_layer_is_vacuous():
    assert judged(lambda x: torch.ones_like(x)).verdict is eh.Verdict.VACUOUS


def test_float64_has_nothing_more_precise_to_be_compared_with():
    result = judged(RoundConv().double(), torch.float64)
    assert (result.verdict, result.reason.code) == (eh.Verdict.SKIPPED, "NO_REFERENCE")


def test_what_runs_in_one_precision_alone_is_skipped_with_its_reason():
    def stubborn(x):
        if x.dtype is not torch.float32:
            raise TypeError("float32 only")
        return x.detach().numpy() * torch.ones(())

    result = judged(stubborn)
    assert (result.verdict, result.reason.code) == (eh.Verdict.SKIPPED, "NO_REFERENCE")
