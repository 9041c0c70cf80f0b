"""``eh.check`` on spherical layers: linear ones are exact under Haar rotations, integrals are, naive means are not."""

import equiharness as eh
import pytest
import torch
from equiharness import kernels as k
from equiharness.harness.claim.claim import Claim, Exact
from equiharness.suites.check import check_claim
from equiharness.suites.forward.equivariance import equivariance
from equiharness.suites.forward.integration import integration
from equiharness.suites.forward.quadrature import quadrature

DTYPES = ["float32", "float64"]
SINGLE_FIRST = ["float32", pytest.param("float64", marks=pytest.mark.deep)]


def by_turns(cases):
    """Each case in one of the two precisions, by turns; in the other in the long profile."""
    for i, case in enumerate(cases):
        for j, dtype in enumerate(DTYPES):
            yield pytest.param(*case, dtype, marks=[pytest.mark.deep] * ((i + j) % 2))


def on(domain, b, channels=1):
    return eh.Field({"s2": eh.Sphere, "so3": eh.Rotations}[domain](b), "SO3", f"{channels}*trivial")


def numbers(channels=1):
    return eh.Field(eh.Vector(), "SO3", f"{channels}*trivial")


def near(domain):
    return k.s2_near_identity() if domain == "s2" else k.so3_near_identity(n_alpha=4, n_beta=2)


def exactness(layer, source, target, dtype="float32"):
    """Equivariance alone."""
    layer = layer.to(getattr(torch, dtype)) if isinstance(layer, torch.nn.Module) else layer
    return equivariance(Claim(layer, source.group, source, target, dtype=getattr(torch, dtype))).result


def convolution(domain, b_in, b_out, channels=(1, 2), alias=False):
    torch.manual_seed(0)
    kind = k.S2Conv if domain == "s2" else k.SO3Conv
    layer = kind(*channels, b_in, b_out, near(domain), alias)
    with torch.no_grad():
        layer.bias.normal_()
    return layer


CONVOLUTIONS = [("s2", 4, 4), ("so3", 4, 4), ("so3", 3, 5), ("s2", 6, 3)]


@pytest.mark.parametrize(("domain", "b_in", "b_out", "dtype"), list(by_turns(CONVOLUTIONS)))
def test_convolutions_are_exact_without_being_told_anything(domain, b_in, b_out, dtype):
    result = eh.check(convolution(domain, b_in, b_out), dtype=dtype)
    assert result.verdict is eh.Verdict.EXACT, str(result)
    assert result.error < 1e-13
    assert {p.property for p in result.parts} >= {"homomorphism", "equivariance", "adjoint", "aliasing"}
    assert all(p.power > 1e4 for p in result.parts if p.power is not None)


@pytest.mark.deep
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("b", [4, 8, 16, 32])
@pytest.mark.parametrize("domain", ["s2", "so3"])
def test_convolutions_are_exact_at_every_bandwidth(domain, b, dtype):
    result = eh.check(convolution(domain, b, b), dtype=dtype)
    assert result.verdict is eh.Verdict.EXACT, str(result)


LINEAR = {
    "shortcut": lambda: (k.SO3Shortcut(1, 2, 4, 3), on("so3", 4), on("so3", 3, 2)),
    "mean over gamma": lambda: (k.SO3ToS2(), on("so3", 4, 2), on("s2", 4, 2)),
    "pooling": lambda: (lambda x: k.s2_resample(x, 3), on("s2", 5), on("s2", 3)),
    "upsampling": lambda: (lambda x: k.so3_resample(x, 5), on("so3", 3), on("so3", 5)),
    "integral on S2": lambda: (k.s2_integrate, on("s2", 4, 2), numbers(2)),
    "integral on SO(3)": lambda: (k.so3_integrate, on("so3", 4, 2), numbers(2)),
    "channels mixed": lambda: (torch.nn.Conv2d(2, 3, 1), on("s2", 4, 2), on("s2", 4, 3)),
    "a network of invariants": lambda: (
        lambda x: torch.tanh(k.so3_integrate(k.so3_resample(x, 2)) + 1) ** 2,
        on("so3", 4, 2),
        numbers(2),
    ),
}


@pytest.mark.parametrize(("name", "dtype"), list(by_turns([name] for name in LINEAR)))
def test_layers_that_make_no_new_degrees_are_exact(name, dtype):
    torch.manual_seed(0)
    layer, source, target = LINEAR[name]()
    result = exactness(layer, source, target, dtype)
    assert result.verdict is eh.Verdict.EXACT, str(result)


@pytest.mark.parametrize("dtype", SINGLE_FIRST)
def test_a_nonlinear_layer_that_aliases_nothing_is_exact(dtype):
    field = on("s2", 4, 2)

    def gated(x):
        return x * torch.tanh(k.s2_integrate(x * x))[..., None, None]

    result = eh.check(gated, "SO3", field, field, dtype=dtype)
    assert result.verdict is eh.Verdict.EXACT, str(result)
    assert [p.reason.code for p in result.parts if p.property == "aliasing"] == ["NOTHING_ALIASES"]


@pytest.mark.parametrize("dtype", SINGLE_FIRST)
def test_white_inputs_are_projected_on_the_band_first(dtype):
    """Aliases of white noise are no fault of an identity."""
    field = on("s2", 4)
    white = torch.randn(4, 1, 8, 8, dtype=torch.float64)
    assert eh.check(lambda x: x * 2, "SO3", field, field, inputs=white, dtype=dtype).verdict is eh.Verdict.EXACT


@pytest.mark.parametrize("grid", ["soft", "gauss", "equiangular"])
def test_signals_on_every_kind_of_rings_can_be_checked(grid):
    field = eh.Field(eh.Sphere(4, grid=grid), "O3", "trivial + irrep(1)")
    weights = torch.tensor([2.0, -1, -1, -1])[:, None, None]
    assert exactness(lambda x: x * weights, field, field).verdict is eh.Verdict.EXACT
    twisted = torch.tensor([2.0, -1, -1, -1.001])[:, None, None]
    assert exactness(lambda x: x * twisted, field, field).verdict is eh.Verdict.BROKEN


@pytest.mark.parametrize(("domain", "dtype"), list(by_turns([["s2"], ["so3"]])))
def test_aliases_are_exact_by_one_and_broken_by_two(domain, dtype):
    for growth, verdict in ((1, eh.Verdict.EXACT), (2, eh.Verdict.BROKEN)):
        layer = convolution(domain, 3, 3 + growth, alias=True)
        result = exactness(layer, on(domain, 3), on("so3", 3 + growth, 2), dtype)
        assert result.verdict is verdict, str(result)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("domain", ["s2", "so3"])
def test_the_naive_mean_is_broken_and_the_integral_of_the_same_layer_is_not(domain, dtype):
    axes = (-1, -2) if domain == "s2" else (-1, -2, -3)
    result = exactness(lambda x: x.mean(axes), on(domain, 4), numbers(), dtype)
    assert (result.verdict.value, result.reason.code) == ("BROKEN", "ERROR")


@pytest.mark.parametrize("b", [1, 2, 4, 7])
@pytest.mark.parametrize("domain", ["s2", "so3"])
def test_an_integral_is_exact_for_degrees_below_2b_and_not_at_2b(domain, b):
    integrate = k.s2_integrate if domain == "s2" else k.so3_integrate
    result = quadrature(Claim(integrate, numbers().group, on(domain, b), numbers()))
    assert result.verdict is eh.Verdict.EXACT, str(result)
    assert result.elements[-1].element == f"degree {2 * b}"
    assert result.elements[-1].error > 1e-2
    assert max((e.error for e in result.elements[:-1]), default=0) < 1e-14


def test_integration_shows_its_controls():
    claim = Claim(k.s2_integrate, numbers().group, on("s2", 4), numbers())
    result = integration(claim).result
    assert result.verdict is eh.Verdict.EXACT
    assert [(p.property, p.verdict.value) for p in result.parts] == [
        ("naive mean (control)", "BROKEN"),
        ("quadrature", "EXACT"),
    ]


def test_the_integral_of_a_convolution_is_invariant_and_its_naive_mean_is_not():
    layer = convolution("s2", 4, 4)
    result = integration(Claim(layer, numbers().group, on("s2", 4), on("so3", 4, 2))).result
    assert result.verdict is eh.Verdict.EXACT, str(result)
    assert [p.verdict.value for p in result.parts] == ["BROKEN"]


def test_a_spectral_stack_is_read_and_exact():
    torch.manual_seed(0)
    stack = k.SpectralSequential(k.S2Conv(1, 2, 4, 4, near("s2")), k.SO3Conv(2, 1, 4, 2, near("so3")))
    result = eh.check(stack)
    assert result.verdict is eh.Verdict.EXACT, str(result)
    assert result.target == "Field(Rotations(2), 'SO3', '1*trivial')"


def test_the_picture_of_a_sphere_is_beta_by_alpha():
    picture = equivariance(Claim(convolution("s2", 3, 4), numbers().group, on("s2", 3), on("so3", 4, 2))).picture
    assert [(p.rows, p.columns) for p in picture.panels] == [(6, 6), (6, 6), (8, 8), (8, 8), (8, 8), (8, 8)]
    assert "gamma = 0" in picture.note
    assert "north pole" in picture.note


def test_an_exact_contract_leaves_no_excuse():
    field = on("s2", 4)
    result = check_claim(Claim(torch.relu, field.group, field, field, contract=Exact()))
    assert (result.verdict.value, result.reason.code) == ("BROKEN", "ERROR")
