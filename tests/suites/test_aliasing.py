"""Aliasing: the errors of nonlinear layers fall with the bandwidth at the rate of their smoothness; faults stay."""

import equiharness as eh
import pytest
import torch
from equiharness import kernels as k
from equiharness.harness.claim.claim import Approximate, Claim
from equiharness.suites.forward.aliasing import aliasing, is_affine

S2, SO3 = (eh.Field(domain(8), "SO3", "2*trivial") for domain in (eh.Sphere, eh.Rotations))


def judged(function, field=S2, **options):
    return aliasing(Claim(function, field.group, field, field, **options)).result


def errors(result):
    return [row.error for row in result.resolutions]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("field", [S2, SO3], ids=str)
def test_relu_falls_like_h_to_the_three_halves(field, dtype):
    """Its kink along curves: coefficients of degree l have energy l^-4, and those beyond b together b^-3."""
    result = judged(torch.relu, field, dtype=dtype)
    assert result.verdict is eh.Verdict.APPROXIMATE, str(result)
    assert 1.2 < result.order < 1.9
    assert len(result.resolutions) == 3
    assert all(row.floor < 1e-13 for row in result.resolutions)
    assert result.gain > 10


def test_smooth_functions_fall_faster_than_any_power():
    assert judged(torch.tanh).order > 3
    assert judged(torch.sin).reason.code == "ROUNDING"


def test_a_polynomial_aliases_nothing_once_the_grid_holds_its_degree():
    result = judged(torch.square)
    assert (result.verdict.value, result.reason.code) == ("APPROXIMATE", "ROUNDING")


@pytest.mark.parametrize(
    ("field", "domain"), [(S2, "s2"), pytest.param(SO3, "so3", marks=pytest.mark.deep)], ids=["s2", "so3"]
)
def test_oversampling_cuts_the_aliases_at_every_bandwidth(field, domain):
    layers = [k.OversampledNonlinearity(torch.relu, n, domain) for n in (1, 2)]
    plain, oversampled = (errors(judged(layer, field)) for layer in layers)
    assert all(b < a / 3 for a, b in zip(plain, oversampled, strict=True))


@pytest.mark.parametrize("field", [S2, SO3], ids=str)
def test_a_fault_beside_the_aliases_is_broken(field):
    def weighted(x):
        ramp = torch.linspace(1, 1.05, x.shape[2], dtype=x.dtype)
        return torch.relu(x) * ramp.reshape(-1, *[1] * (x.dim() - 3))

    result = judged(weighted, field)
    assert (result.verdict.value, result.reason.code) == ("BROKEN", "LIMIT")


def test_a_function_with_jumps_declares_its_order():
    """Coefficients of degree l have energy l^-2, and those beyond b together b^-1."""
    result = judged(torch.sign, contract=Approximate(order=0.3))
    assert result.verdict is eh.Verdict.APPROXIMATE, str(result)
    assert 0.3 < result.order < 0.8
    assert judged(torch.relu, contract=Approximate(order=3.0)).reason.code == "ORDER"


def test_check_lets_aliasing_decide_and_says_why_equivariance_did_not():
    result = eh.check(torch.relu, "SO3", S2, S2)
    assert result.verdict is eh.Verdict.APPROXIMATE
    parts = {p.property: p.reason.code for p in result.parts}
    assert (parts["equivariance"], parts["adjoint"]) == ("ALIASES", "ALIASES")


@pytest.mark.parametrize("function", [lambda x: 3 * x, lambda x: k.s2_resample(x, 8) + 1, lambda x: x.flip(-1)])
def test_affine_layers_have_no_excuse(function):
    assert judged(function).reason.code == "NOTHING_ALIASES"
    assert is_affine(Claim(function, S2.group, S2, S2))


def test_an_affine_layer_computed_in_float32_is_affine_in_float64():
    claim = Claim(lambda x: (x.float() * 1.1).double(), S2.group, S2, S2, dtype=torch.float64)
    assert is_affine(claim)


def test_a_declared_order_makes_a_discretised_layer_approximate():
    """A convolution by sums over rings: affine, exact for no rotation but those about the poles."""

    def smoothed(x):
        return x + (2 * x - x.roll(1, -1) - x.roll(-1, -1)) / x.shape[-1]

    assert eh.check(smoothed, "SO3", S2, S2).verdict is eh.Verdict.BROKEN
    result = judged(smoothed, contract=Approximate(order=0.8))
    assert result.verdict is eh.Verdict.APPROXIMATE, str(result)


@pytest.mark.deep
@pytest.mark.parametrize("field", [S2, SO3], ids=str)
@pytest.mark.parametrize("function", [torch.relu, torch.abs, torch.tanh, torch.nn.functional.gelu])
def test_rates_over_many_seeds(function, field):
    def faulty(x):
        ramp = torch.linspace(1, 1.1, x.shape[2], dtype=x.dtype)
        return function(x) * ramp.reshape(-1, *[1] * (x.dim() - 3))

    for seed in range(16):
        sound = judged(function, field, seed=seed)
        assert sound.verdict is eh.Verdict.APPROXIMATE, f"seed {seed}: {sound}"
        broken = judged(faulty, field, seed=seed)
        assert broken.verdict is eh.Verdict.BROKEN, f"seed {seed}: {broken}"


def network(function):
    torch.manual_seed(0)
    grid = k.so3_near_identity(n_alpha=4, n_beta=2)
    return torch.nn.Sequential(k.SO3Conv(1, 1, 4, 4, grid), function, k.SO3Conv(1, 1, 4, 2, grid))


def test_a_network_of_one_bandwidth_proves_nothing_without_a_ceiling():
    source, target = (eh.Field(eh.Rotations(b), "SO3") for b in (4, 2))
    result = eh.check(network(torch.nn.ReLU()), "SO3", source, target)
    assert (result.verdict.value, result.reason.code) == ("AMBIGUOUS", "SINGLE_RESOLUTION")
    assert "refuses other bandwidths" in result.reason.message
    claim = Claim(network(torch.nn.ReLU()), source.group, source, target, contract=Approximate(ceiling=0.5))
    assert aliasing(claim).result.verdict is eh.Verdict.APPROXIMATE
    strict = Claim(network(torch.nn.ReLU()), source.group, source, target, contract=Approximate(ceiling=1e-3))
    assert aliasing(strict).result.verdict is eh.Verdict.BROKEN


def test_at_any_bandwidth_it_converges():
    source, target = (eh.Field(eh.Rotations(b), "SO3") for b in (4, 2))
    result = eh.check(k.AnyBandwidth(network(torch.nn.Tanh())), "SO3", source, target)
    assert result.verdict is eh.Verdict.APPROXIMATE, str(result)
    assert [p.reason.code for p in result.parts if p.property == "equivariance"] == ["ALIASES"]


def test_a_residual_block_is_judged_at_several_bandwidths_by_itself():
    torch.manual_seed(0)
    block = k.S2ResBlock(1, 1, 4, 2, k.s2_near_identity(), k.so3_near_identity(n_alpha=4, n_beta=2)).eval()
    result = eh.check(block)
    assert result.verdict is eh.Verdict.APPROXIMATE, str(result)
    assert [row.size for row in result.resolutions] == [8, 16, 32]


def test_inputs_that_are_given_have_one_bandwidth():
    result = judged(torch.relu, inputs=lambda count, generator: S2.random(count, generator))
    assert result.reason.code == "SINGLE_RESOLUTION"


def test_other_sources_are_skipped():
    plane = eh.Field(eh.Grid(5, 5), "C4")
    assert aliasing(Claim(torch.relu, plane.group, plane, plane)).result.reason.code == "NOT_BAND_LIMITED"
