"""Verdict rules beyond BROKEN(ERROR): what each is fed, with its sound twin. The faults themselves live in zoo/."""

import equiharness as eh
import pytest
import torch
import torch.nn.functional as F
from equiharness.harness.claim.claim import Claim
from equiharness.suites.check import check_claim
from zoo.planar import C4, D4, PAIRS, PLANE, bank, correlated, one_tap

SEEDS = range(2)


def concluded(function, fault, dtype, seed):
    return check_claim(Claim(function, fault.source.group, fault.source, fault.target, dtype=dtype, seed=seed))


def test_a_failing_part_is_named():
    _, broken = one_tap(torch.float32)
    assert concluded(broken, PAIRS["one tap off by a thousandth"], torch.float32, 0).property == "equivariance"


@pytest.mark.parametrize("size", [1e-2, 1e-4])
def test_one_tap_is_caught_down_to_the_printed_smallest_fault(size):
    """1 / power is the smallest fault that would have been seen: a hundred times larger ones are."""
    for seed in SEEDS:
        torch.manual_seed(seed)
        _, filters = bank(torch.float32)
        broken = filters.clone()
        broken[1, 2, 0, 1, 1] += size * filters.square().mean().sqrt()
        result = concluded(correlated(broken.flatten(0, 1)), PAIRS["mirrored kernel"], torch.float32, seed)
        assert result.verdict is eh.Verdict.BROKEN, f"seed {seed}: {result}"


# --- verdict rules beyond BROKEN(ERROR): what each is fed, with its sound twin ---


def test_an_output_that_is_symmetric_under_half_turns_cannot_tell_an_element_from_its_inverse():
    """One wrong action that passes is enough to take the proof away, however many others would be seen."""
    result = eh.check(lambda x: x + x.rot90(2, (-2, -1)), "C4", PLANE, PLANE)
    assert result.verdict is eh.Verdict.VACUOUS
    assert eh.check(lambda x: x + 2 * x.rot90(2, (-2, -1)), "C4", PLANE, PLANE).verdict is eh.Verdict.EXACT


def vectors(group="C4"):
    return eh.Field(eh.Points(4), group, "standard")


@pytest.mark.parametrize("seed", SEEDS)
def test_a_float32_table_in_a_float64_path_is_imprecise(seed):
    torch.manual_seed(seed)
    value = torch.rand((), dtype=torch.float64)
    table = torch.stack([value.float().double(), value])
    result = eh.check(lambda x: x * table, "C4", vectors(), vectors(), dtype="float64", seed=seed)
    assert (result.verdict.value, result.reason.code) == ("IMPRECISE", "CONSTANTS_IN_SINGLE")
    assert eh.check(lambda x: x * value, "C4", vectors(), vectors(), dtype="float64").verdict is eh.Verdict.EXACT
    assert eh.check(lambda x: x * table, "C4", vectors(), vectors(), seed=seed).verdict is eh.Verdict.EXACT


@pytest.mark.parametrize("fault", ["scaled", "inverse missing", "identity moves", "identity projects"])
def test_an_act_out_that_is_no_homomorphism_is_blamed_before_the_layer(fault):
    group = eh.group("D4")
    wrong = {
        "scaled": lambda g, y: D4.act(g, y) * (1 if g.is_identity else 1.001),
        "inverse missing": lambda g, y: D4.act(group.inverse(g), y),
        "identity moves": lambda g, y: D4.act(g, y).roll(1, -1),
        # The projection commutes with the action, so a_g a_h = a_gh holds and only a_e = id does not.
        "identity projects": lambda g, y: D4.act(g, y).mean(1, keepdim=True).expand(y.shape),
    }[fault]
    x = torch.randn(4, 8, 7, 7, dtype=torch.float64)
    for act_out, expected in ((wrong, ("BROKEN", "ACTION")), (D4.act, ("EXACT", "EXACT"))):
        result = eh.check(torch.relu, "D4", act_in=D4.act, act_out=act_out, inputs=x)
        assert (result.verdict.value, result.reason.code) == expected, str(result)


def ties(seed):
    """Inputs with few distinct values, so that maxima are shared."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 3, (4, 2, 9, 9), generator=generator).double()


def first_maximum(x):
    """1 at the first of the largest pixels of each channel: argmax breaks ties by position."""
    flat = x.flatten(2)
    return torch.zeros_like(flat).scatter(2, flat.argmax(2, keepdim=True), 1.0).reshape(x.shape)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_jump_on_tied_inputs_is_a_tie_and_not_a_fault(seed, dtype):
    tied = eh.check(first_maximum, "C4", PLANE, PLANE, inputs=ties(seed), dtype=dtype)
    assert (tied.verdict.value, tied.reason.code) == ("AMBIGUOUS", "TIE"), str(tied)
    assert eh.check(first_maximum, "C4", PLANE, PLANE, seed=seed, dtype=dtype).verdict is eh.Verdict.EXACT
    shifted = eh.check(lambda x: first_maximum(x).roll(1, -1), "C4", PLANE, PLANE, inputs=ties(seed), dtype=dtype)
    assert (shifted.verdict.value, shifted.reason.code) == ("BROKEN", "ERROR")


def in_numpy(function):
    """Hidden from torch: no float64 reference can be had, bounds are estimated."""
    return lambda x: torch.from_numpy(function(x).detach().numpy().astype("float32"))


@pytest.mark.parametrize("seed", range(8))
def test_without_a_reference_sound_layers_pass_and_broken_ones_fail(seed):
    torch.manual_seed(seed)
    _, filters = bank(torch.float32)
    broken = filters.clone()
    broken[0, 1] *= 1.001
    for bank_, expected in ((filters, "EXACT"), (broken, "BROKEN")):
        result = eh.check(in_numpy(correlated(bank_.flatten(0, 1))), "C4", PLANE, C4, seed=seed)
        assert result.verdict.value == expected, str(result)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_a_traced_module_is_judged_by_estimates():
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(2, 2, 1)
    traced = torch.jit.trace(layer, torch.zeros(4, 2, 9, 9), check_trace=False)
    assert eh.check(traced, "C4", PLANE, PLANE).verdict is eh.Verdict.EXACT
    uneven = torch.jit.trace(torch.nn.Conv2d(2, 2, 3, padding=1), torch.zeros(4, 2, 9, 9), check_trace=False)
    assert eh.check(uneven, "C4", PLANE, PLANE).verdict is eh.Verdict.BROKEN


@pytest.mark.parametrize("seed", SEEDS)
def test_a_cancelling_layer_is_ill_conditioned_in_float32_and_sound_in_float64(seed):
    torch.manual_seed(seed)
    filters = bank(torch.float64)[1].flatten(0, 1)

    def cancelling(x):
        return (F.conv2d(x, filters.to(x), padding=1) + 1e9) - 1e9

    single = eh.check(cancelling, "C4", PLANE, C4, dtype="float32", seed=seed)
    assert (single.verdict.value, single.reason.code) == ("AMBIGUOUS", "ILL_CONDITIONED")
    assert eh.check(cancelling, "C4", PLANE, C4, dtype="float64", seed=seed).verdict is eh.Verdict.EXACT


@pytest.mark.parametrize("seed", range(4))
def test_a_layer_of_condition_1e13_leaves_little_power_in_float64(seed):
    result = eh.check(lambda x: (1e13 * x).sin(), "C4", PLANE, PLANE, dtype="float64", seed=seed)
    assert (result.verdict.value, result.reason.code) == ("AMBIGUOUS", "LOW_POWER"), str(result)
    assert 1 < result.power < 100


@pytest.mark.parametrize("seed", SEEDS)
def test_half_precision_that_loses_more_than_its_bits_is_imprecise(seed):
    def coarse(x):
        return (x + 64) - 64 if x.dtype is torch.bfloat16 else x + 0

    result = eh.check(coarse, "C4", PLANE, PLANE, dtype="bfloat16", seed=seed)
    assert (result.verdict.value, result.reason.code) == ("IMPRECISE", "PRECISION"), str(result)
    assert eh.check(lambda x: x * 2, "C4", PLANE, PLANE, dtype="bfloat16", seed=seed).verdict is eh.Verdict.EXACT
