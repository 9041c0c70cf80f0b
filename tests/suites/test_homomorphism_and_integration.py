"""Actions are judged before layers; integrals are invariant and naive means are not."""

import equiharness as eh
import pytest
import torch
from equiharness.harness.claim.claim import Claim
from equiharness.kernels import LiftingConv
from equiharness.suites.check import run_property
from equiharness.suites.forward.homomorphism import homomorphism
from equiharness.suites.forward.integration import integration

FIBRES = ["trivial", "regular", "standard", "2*trivial + regular + standard"]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("fibre", FIBRES)
@pytest.mark.parametrize(("group", "box"), [("C4", (4, 6)), ("D4", (5, 5)), ("O", (2, 3, 4)), ("C8", (5, 5))])
def test_actions_of_fields_are_homomorphisms(group, box, fibre, seed):
    field = eh.Field(eh.Grid(*box), group, fibre)
    result = homomorphism(Claim(lambda x: x, group, field, field, seed=seed)).result
    assert result.verdict is eh.Verdict.EXACT
    assert result.power > 1e10
    assert result.error <= (0 if group in ("C4", "D4", "O") else 1e-14)


@pytest.mark.parametrize("fibre", ["standard", "irrep(1)", "irrep(2)", "irrep(5)", "trivial + irrep(3)"])
@pytest.mark.parametrize("group", ["SO3", "O3", "O", "Oh"])
def test_irreps_of_space_are_homomorphisms_to_rounding(group, fibre):
    field = eh.Field(eh.Points(4), group, fibre)
    result = homomorphism(Claim(lambda x: x, group, field, field)).result
    assert result.verdict is eh.Verdict.EXACT
    assert result.error < 1e-13


def test_an_action_that_moves_nothing_is_vacuous():
    field = eh.Field(eh.Vector(), "C4", "3*trivial")
    assert homomorphism(Claim(lambda x: x, "C4", field, field)).result.verdict is eh.Verdict.VACUOUS


def integral_of(function, fibre="2*regular", domain=None, **options):
    source = eh.Field(eh.Grid(9, 9), "C4", "3*trivial")
    target = eh.Field(domain or eh.Grid(9, 9), "C4", fibre)
    return integration(Claim(function, "C4", source, target, **options)).result


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("seed", range(5))
def test_the_integral_of_a_sound_layer_is_invariant_and_its_naive_mean_is_not(seed, dtype):
    torch.manual_seed(seed)
    layer = LiftingConv("C4", 3, 2, 3, padding=1, dtype=dtype)
    result = integral_of(lambda x: layer(x), dtype=dtype, seed=seed)
    assert result.verdict is eh.Verdict.EXACT, str(result)
    [control] = result.parts
    assert control.verdict is eh.Verdict.BROKEN


def test_the_integral_of_a_broken_layer_is_broken():
    weights = torch.linspace(1, 2, 9)
    assert integral_of(lambda x: x * weights, "3*trivial").verdict is eh.Verdict.BROKEN


def test_a_mean_that_is_symmetric_by_itself_takes_the_proof_away():
    def symmetric(x):
        return (x.mean((2, 3)).sum(1)[:, None, None, None]).expand(-1, 8, 9, 9)

    result = integral_of(symmetric)
    assert (result.verdict.value, result.reason.code) == ("AMBIGUOUS", "CONTROL")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_integral_that_no_input_changes_is_skipped(dtype):
    torch.manual_seed(0)
    layer = LiftingConv("C4", 3, 2, 3, padding=1, dtype=dtype)
    centred = integral_of(lambda x: (y := layer(x)) - y.mean((2, 3, 4), keepdim=True) + 1, dtype=dtype)
    assert (centred.verdict.value, centred.reason.code) == ("SKIPPED", "CONSTANT")


def test_a_small_integral_beside_a_large_output_is_still_checked():
    torch.manual_seed(0)
    layer = LiftingConv("C4", 3, 2, 3, padding=1)
    nearly = integral_of(lambda x: (y := layer(x)) - 0.999 * y.mean((2, 3, 4), keepdim=True))
    assert nearly.verdict is eh.Verdict.EXACT


def test_a_broken_integral_is_never_called_constant():
    torch.manual_seed(0)
    layer = LiftingConv("C4", 3, 2, 3, padding=1)

    def centred_but_one(x):
        y = layer(x)
        y = y - y.mean((2, 3, 4), keepdim=True)
        return torch.cat([y[..., :1] * 1.001, y[..., 1:]], -1)

    assert integral_of(centred_but_one).verdict is eh.Verdict.BROKEN


def test_a_fibre_without_invariant_is_skipped():
    result = integral_of(lambda x: x[:, :2], "standard")
    assert (result.verdict.value, result.reason.code) == ("SKIPPED", "NO_INVARIANT")


def test_an_unknown_property_suggests_a_known_one():
    field = eh.Field(eh.Grid(5, 5), "C4")
    with pytest.raises(ValueError, match="Did you mean equivariance"):
        run_property("equivarience", Claim(torch.relu, "C4", field, field))
