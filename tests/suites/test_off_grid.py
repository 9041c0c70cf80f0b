"""Off the grid: an error that goes away on finer grids passes, one that stays is a fault."""

import math

import equiharness as eh
import numpy as np
import pytest
import torch
from equiharness.harness.claim import Approximate, Claim, Exact
from equiharness.suites.convergence import ResolutionErrors, judge_convergence
from equiharness.suites.equivariance import equivariance
from equiharness.suites.off_grid import off_grid

SIZES = (17, 33, 65)


def table(means, spread=0.05, samples=8, seed=0):
    """Errors of one element over three resolutions, samples a few percent apart."""
    factors = 1 + spread * np.random.default_rng(seed).standard_normal(samples)
    return [
        ResolutionErrors(n, np.maximum(mean * factors, 0)[None], 1e-4, 1.0)
        for n, mean in zip(SIZES, means, strict=True)
    ]


def judged(means, contract=Approximate(), **options):  # noqa: B008 (frozen)
    verdict, reason, *_ = judge_convergence(table(means, **options), contract)
    return verdict.value, reason.code


CONVERGING = {
    "first order": [0.04 / 2**i for i in range(3)],
    "sixth order": [0.04 / 64**i for i in range(3)],
    "slow, as in escnn's bases": (0.042, 0.032, 0.024),
    "second and third order mixed": [0.01 * h**2 + 0.03 * h**3 for h in (1, 0.5, 0.25)],
    "first and second order mixed": [0.01 * h + 0.03 * h**2 for h in (1, 0.5, 0.25)],
    "concave": (0.067, 0.040, 0.015),
}
STAYING = {
    "a plateau": (0.105, 0.104, 0.104),
    "a plateau behind first order": [0.05 + 0.05 * h for h in (1, 0.5, 0.25)],
    "a small plateau behind second order": [0.01 + 0.05 * h**2 for h in (1, 0.5, 0.25)],
    "growth": (0.01, 0.02, 0.04),
    "growth after a fall": (0.05, 0.03, 0.031),
}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", CONVERGING)
def test_errors_that_fall_to_zero_are_approximate(name, seed):
    assert judged(CONVERGING[name], seed=seed) == ("APPROXIMATE", "CONVERGES")


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", STAYING)
def test_errors_that_stay_are_broken(name, seed):
    assert judged(STAYING[name], seed=seed) == ("BROKEN", "LIMIT")


def test_the_limit_of_a_plateau_is_inside_its_interval():
    _, _, (low, high), order = judge_convergence(table([0.05 + 0.05 * h**2 for h in (1, 0.5, 0.25)]), Approximate())
    assert low < 0.05 < high
    assert order < 1


def test_a_declared_order_is_required():
    first = CONVERGING["first order"]
    assert judged(first, Approximate(order=0.9))[0] == "APPROXIMATE"
    assert judged(first, Approximate(order=2.0)) == ("BROKEN", "ORDER")


def test_a_declared_ceiling_judges_the_finest_grid():
    assert judged((0.1, 0.1, 0.1), Approximate(ceiling=0.2)) == ("APPROXIMATE", "CEILING")
    assert judged((0.1, 0.1, 0.1), Approximate(ceiling=0.05)) == ("BROKEN", "CEILING")


def test_one_resolution_without_a_ceiling_proves_nothing():
    one = table((0.1, 0.1, 0.1))[:1]
    assert judge_convergence(one, Approximate())[1].code == "SINGLE_RESOLUTION"
    assert judge_convergence(one, Approximate(ceiling=0.2))[0] is eh.Verdict.APPROXIMATE


def test_errors_at_rounding_level_need_no_limit():
    assert judged((1e-8, 2e-8, 3e-8)) == ("APPROXIMATE", "ROUNDING")


def test_nan_is_broken():
    assert judged((0.1, math.nan, 0.01)) == ("BROKEN", "NONFINITE")


def fields(target="trivial", size=17):
    return eh.Field(eh.Grid(size, size), "C8", "trivial"), eh.Field(eh.Grid(size, size), "C8", target)


def test_pointwise_layers_converge_and_a_shift_does_not():
    source, target = fields()
    sound = off_grid(Claim(torch.tanh, "C8", source, target)).result
    assert sound.verdict is eh.Verdict.APPROXIMATE
    assert sound.resolutions[-1].floor < sound.resolutions[0].floor
    shifted = off_grid(Claim(lambda x: x.roll(x.shape[-1] // 8, -1), "C8", source, target)).result
    assert (shifted.verdict.value, shifted.reason.code) == ("BROKEN", "LIMIT")


def test_a_grid_group_has_nothing_off_the_grid():
    source = eh.Field(eh.Grid(9, 9), "D4", "trivial")
    assert off_grid(Claim(torch.tanh, "D4", source, source)).result.verdict is eh.Verdict.SKIPPED


def test_an_oblong_grid_is_skipped_and_says_why():
    source = eh.Field(eh.Grid(9, 11), "C8", "trivial")
    assert "square" in off_grid(Claim(torch.tanh, "C8", source, source)).result.reason.message


def test_an_exact_contract_leaves_off_grid_elements_out():
    source, target = fields()
    parts = {p.property for p in eh.check(torch.tanh, "C8", source, target, contract=Exact()).parts}
    assert parts == {"homomorphism", "equivariance", "adjoint"}


def c8_filters(seed, kernel_size, dtype=torch.float32):
    """Filter bank [2 x 8, 1, k, k] of escnn's R2Conv from one trivial to two regular fields of C8."""
    escnn = pytest.importorskip("escnn")
    pytest.importorskip("escnn.nn")
    torch.manual_seed(seed)
    space = escnn.gspaces.rot2dOnR2(8)
    kinds = [escnn.nn.FieldType(space, n * [r]) for n, r in ((1, space.trivial_repr), (2, space.regular_repr))]
    layer = escnn.nn.R2Conv(*kinds, kernel_size=kernel_size, padding=kernel_size // 2, bias=False).to(dtype).eval()
    return layer, kinds[0], layer.filter.detach().clone()


def scaled_odd(filters, factor):
    """The filters of the elements at odd multiples of 45 degrees times a factor."""
    factors = torch.ones(8, dtype=filters.dtype)
    factors[1::2] = factor
    return filters * factors.repeat(2)[:, None, None, None]


def convolution(filters):
    return lambda x: torch.nn.functional.conv2d(x, filters, padding=filters.shape[-1] // 2)


def c8_claim(function, dtype=torch.float32, seed=0):
    source = eh.Field(eh.Grid(33, 33), "C8", "1*trivial")
    return Claim(function, "C8", source, eh.Field(eh.Grid(33, 33), "C8", "2*regular"), dtype=dtype, seed=seed)


escnn_warnings = pytest.mark.filterwarnings("ignore")


@escnn_warnings
def test_a_c8_layer_of_escnn_is_exact_at_90_degrees_in_float32_and_imprecise_in_float64():
    pytest.importorskip("escnn")
    import escnn.nn

    for dtype, expected in ((torch.float32, "EXACT"), (torch.float64, "IMPRECISE")):
        layer, kind, _ = c8_filters(0, 5, dtype)
        claim = c8_claim(lambda x, f=layer, k=kind: f(escnn.nn.GeometricTensor(x, k)).tensor, dtype)
        result = equivariance(claim).result
        assert result.verdict.value == expected, str(result)
        assert len(result.elements) == 4
    assert result.reason.code == "CONSTANTS_IN_SINGLE"


@escnn_warnings
@pytest.mark.parametrize(("seed", "kernel_size"), [(106, 3), (104, 5), (0, 7)])
def test_a_c8_layer_of_escnn_converges_at_45_degrees(seed, kernel_size):
    result = off_grid(c8_claim(convolution(c8_filters(seed, kernel_size)[2]), seed=seed)).result
    assert result.verdict is eh.Verdict.APPROXIMATE, result.reason
    assert [r.size for r in result.resolutions] == [17, 33, 65]
    assert all(0 < r.floor < r.error for r in result.resolutions)
    assert result.gain > 5


@escnn_warnings
@pytest.mark.parametrize(("seed", "kernel_size"), [(0, 3), (1, 5), (105, 7)])
def test_with_its_45_degree_filters_scaled_by_nine_tenths_it_is_broken(seed, kernel_size):
    filters = scaled_odd(c8_filters(seed, kernel_size)[2], 0.9)
    claim = c8_claim(convolution(filters), seed=seed)
    assert equivariance(claim).result.verdict is eh.Verdict.EXACT
    assert off_grid(claim).result.reason.code == "LIMIT"


@escnn_warnings
@pytest.mark.deep
@pytest.mark.parametrize("kernel_size", [3, 5, 7])
def test_rates_over_many_seeds(kernel_size):
    for seed in range(100, 116):
        filters = c8_filters(seed, kernel_size)[2]
        for factor, expected in ((1.0, "APPROXIMATE"), (0.9, "BROKEN")):
            result = off_grid(c8_claim(convolution(scaled_odd(filters, factor)), seed=seed)).result
            assert result.verdict.value == expected, (seed, factor, result.reason)
