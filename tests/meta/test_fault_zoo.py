"""The fault zoo: every fault is caught by a named property with its verdict and code; its sound twin passes.

Each entry makes a pair (sound, broken) of functions on one pair of fields from a seed. All run in float32 and float64.
"""

from dataclasses import dataclass
from typing import Any

import equiharness as eh
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from equiharness.harness.claim import Claim
from equiharness.kernels import GroupConv, LiftingConv
from equiharness.suites.check import check_claim

SEEDS = range(2)
DTYPES = (torch.float32, torch.float64)
PLANE = eh.Field(eh.Grid(9, 9), "C4", "2*trivial")
C4 = eh.Field(eh.Grid(9, 9), "C4", "2*regular")
D4 = eh.Field(eh.Grid(7, 7), "D4", "regular")
ATOMS = eh.Field(eh.Points(6), "SO3", "standard")


@dataclass(frozen=True)
class Fault:
    """Makes the functions, and says what a check of the broken one must conclude."""

    make: Any
    source: Any = PLANE
    target: Any = C4
    verdict: str = "BROKEN"
    code: str = "ERROR"


def lift(dtype, **options):
    return LiftingConv("C4", 2, 2, 3, **{"padding": 1, "bias": False, "dtype": dtype, **options})


def correlated(filters):
    """A planar correlation with a dense filter bank [outputs, inputs, k, k]."""
    return lambda x: F.conv2d(x, filters, padding=filters.shape[-1] // 2)


def bank(dtype):
    """Filters [2, 4, 2, 3, 3] of a lifting: the base filter turned by the documented 0, 2, 3, 1 quarter turns."""
    base = torch.randn(2, 2, 3, 3, dtype=dtype)
    return base, torch.stack([torch.rot90(base, t, (-2, -1)) for t in (0, 2, 3, 1)], 1)


def wrong_direction(dtype):
    base, sound = bank(dtype)
    wrong = torch.stack([torch.rot90(base, -t, (-2, -1)) for t in (0, 2, 3, 1)], 1)
    return correlated(sound.flatten(0, 1)), correlated(wrong.flatten(0, 1))


def counted_by_angle(dtype):
    """Channel order: elements counted 0, 1, 2, 3 quarter turns in place of the documented order."""
    base, sound = bank(dtype)
    wrong = torch.stack([torch.rot90(base, t, (-2, -1)) for t in range(4)], 1)
    return correlated(sound.flatten(0, 1)), correlated(wrong.flatten(0, 1))


def mirrored_kernel(dtype):
    _, sound = bank(dtype)
    wrong = sound.clone()
    wrong[:, 2] = wrong[:, 2].flip(-1)
    return correlated(sound.flatten(0, 1)), correlated(wrong.flatten(0, 1))


def group_outermost(dtype):
    """Channels as (element, copy) in place of (copy, element)."""
    _, sound = bank(dtype)
    return correlated(sound.flatten(0, 1)), correlated(sound.transpose(0, 1).flatten(0, 1))


def one_tap(dtype):
    _, sound = bank(dtype)
    wrong = sound.clone()
    wrong[1, 2, 0, 0, 1] *= 1.001
    return correlated(sound.flatten(0, 1)), correlated(wrong.flatten(0, 1))


def fibre_mixed_by(table, weights):
    """y[g] = sum_h w[table[g, h]] x[h] on the regular fibre of D4: equivariant for table[g, h] = g^-1 h."""
    mix = weights[torch.from_numpy(table)]
    return lambda x: torch.einsum("gh,bhij->bgij", mix, x)


def d4_tables():
    of = eh.group("D4")
    return of, of.mul[of.inv], torch.randn(8)


def transposed_table(dtype):
    of, sound, weights = d4_tables()
    return tuple(fibre_mixed_by(np.ascontiguousarray(t), weights.to(dtype)) for t in (sound, of.mul[:, of.inv].T))


def missing_inverse(dtype):
    of, sound, weights = d4_tables()
    return tuple(fibre_mixed_by(t, weights.to(dtype)) for t in (sound, of.mul))


def one_cayley_entry(dtype):
    _, sound, weights = d4_tables()
    wrong = sound.copy()
    wrong[3, 5] = (wrong[3, 5] + 1) % 8
    return tuple(fibre_mixed_by(t, weights.to(dtype)) for t in (sound, wrong))


def after_lifting(change):
    """A sound lifting, and the same one followed by ``change``."""

    def make(dtype):
        layer = lift(dtype)
        return (lambda x: layer(x)), (lambda x: change(layer(x)))

    return make


def before_lifting(change):
    def make(dtype):
        layer = lift(dtype)
        return (lambda x: layer(x)), (lambda x: layer(change(x)))

    return make


def shifted_padding(dtype):
    layer = lift(dtype, padding=0)
    return (lambda x: layer(F.pad(x, (1, 1, 1, 1)))), (lambda x: layer(F.pad(x, (2, 0, 1, 1))))


def double_stride(dtype):
    """Every other pixel: of 9 with the centre among them, and of 10 with the centre between them."""
    layer = lift(dtype)
    return (lambda x: layer(x)[..., ::2, ::2]), (lambda x: layer(F.pad(x, (0, 1, 0, 1)))[..., 1::2, 1::2])


def one_channel_of_reflection(dtype):
    """The wrong sign of a reflection: vectors that turn right and do not mirror."""
    matrix = torch.tensor([[1.0, -0.3], [0.3, 1.0]], dtype=dtype)
    return (lambda x: 2 * x), (lambda x: torch.einsum("ij,bjhw->bihw", matrix, x))


class Counting(torch.nn.Module):
    """Counts its calls in a buffer."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return self.inner(x)


def stateful(dtype):
    layer = lift(dtype)
    counting = Counting(layer)
    return (lambda x: layer(x)), (lambda x: counting(x))


def running_statistics(dtype):
    layer, norm = lift(dtype), torch.nn.BatchNorm2d(2).to(dtype)
    steady = torch.nn.BatchNorm2d(2).to(dtype).eval()
    return (lambda x: layer(steady(x))), (lambda x: layer(norm(x)))


def pair_forces(x):
    d = x[:, :, None] - x[:, None]
    return (d / (1 + (d * d).sum(-1, keepdim=True)) ** 2).sum(2)


def forces_with(change):
    return lambda dtype: (pair_forces, lambda x: change(x, pair_forces(x)))


def group_conv(change):
    def make(dtype):
        layer = GroupConv("D4", 1, 1, 3, padding=1, dtype=dtype)

        def function(x):
            return layer(x.unflatten(1, (1, 8)))

        return function, lambda x: change(function(x))

    return make


ZOO = {
    "wrong rotation direction": Fault(wrong_direction),
    "channel order by angle": Fault(counted_by_angle),
    "channel order with the group outermost": Fault(group_outermost),
    "mirrored kernel": Fault(mirrored_kernel),
    "one tap off by a thousandth": Fault(one_tap),
    "transposed Cayley table": Fault(transposed_table, D4, D4),
    "missing inverse": Fault(missing_inverse, D4, D4),
    "one Cayley entry": Fault(one_cayley_entry, D4, D4),
    "swapped axes": Fault(after_lifting(lambda y: y.transpose(-1, -2))),
    "swapped axes before": Fault(before_lifting(lambda x: x.transpose(-1, -2))),
    "shifted padding": Fault(shifted_padding),
    "double stride": Fault(double_stride, target=eh.Field(eh.Grid(5, 5), "C4", "2*regular")),
    "off by one pixel": Fault(after_lifting(lambda y: y.roll(1, -1))),
    "reflection of the wrong sign": Fault(
        one_channel_of_reflection, *(2 * [eh.Field(eh.Grid(7, 7), "D4", "standard")])
    ),
    "dropout left on": Fault(after_lifting(lambda y: F.dropout(y, 0.5)), code="NONDETERMINISTIC"),
    "noise": Fault(after_lifting(lambda y: y + 1e-3 * torch.randn_like(y)), code="NONDETERMINISTIC"),
    "batch leakage of a mirrored neighbour": Fault(after_lifting(lambda y: y + 1e-2 * y.roll(1, 0).flip(-1))),
    "NaN": Fault(after_lifting(lambda y: y.masked_fill(y > 2, float("nan"))), code="NONFINITE"),
    "uninitialised output": Fault(
        after_lifting(lambda y: torch.full_like(y, float("inf")).where(y > 1e9, y / 0)), code="NONFINITE"
    ),
    "all zero": Fault(after_lifting(torch.zeros_like), verdict="VACUOUS", code="VACUOUS"),
    "constant output": Fault(after_lifting(torch.ones_like), verdict="VACUOUS", code="VACUOUS"),
    "constant but asymmetric output": Fault(after_lifting(lambda y: torch.zeros_like(y) + torch.arange(9).to(y))),
    "a fault at scale 1e-20": Fault(after_lifting(lambda y: 1e-20 * y.roll(1, -1))),
    "a fault at scale 1e20": Fault(after_lifting(lambda y: 1e20 * y.roll(1, -1))),
    "a fault in one corner": Fault(after_lifting(lambda y: y + F.pad(y[..., :1, :1], (0, 8, 0, 8)))),
    "position added": Fault(after_lifting(lambda y: y + 1e-2 * torch.arange(9).to(y))),
    "stateful buffer": Fault(stateful, code="STATEFUL"),
    "batch norm in train mode": Fault(running_statistics, code="STATEFUL"),
    "regular convolution, one element": Fault(
        group_conv(lambda y: torch.cat([y[:, :, :7], 1.01 * y[:, :, 7:]], 2)), D4, D4
    ),
    "forces along one axis": Fault(forces_with(lambda x, f: f * torch.tensor([1, 1, 1.001]).to(f)), ATOMS, ATOMS),
    "forces with a fixed axis": Fault(forces_with(lambda x, f: f + 1e-3 * torch.eye(3)[2].to(f)), ATOMS, ATOMS),
    "a cross product with a fixed axis": Fault(
        forces_with(lambda x, f: f + 1e-3 * torch.linalg.cross(x, torch.eye(3)[0].to(x).expand_as(x))), ATOMS, ATOMS
    ),
}


def concluded(function, fault, dtype, seed):
    return check_claim(Claim(function, fault.source.group, fault.source, fault.target, dtype=dtype, seed=seed))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ZOO)
def test_fault_is_caught_and_its_sound_twin_passes(name, dtype):
    fault = ZOO[name]
    for seed in SEEDS:
        torch.manual_seed(seed)
        sound, broken = fault.make(dtype)
        good = concluded(sound, fault, dtype, seed)
        assert good.verdict is eh.Verdict.EXACT, f"seed {seed}: {good}"
        bad = concluded(broken, fault, dtype, seed)
        assert (bad.verdict.value, bad.reason.code) == (fault.verdict, fault.code), f"seed {seed}: {bad}"


def test_a_failing_part_is_named():
    _, broken = one_tap(torch.float32)
    assert concluded(broken, ZOO["one tap off by a thousandth"], torch.float32, 0).property == "equivariance"


@pytest.mark.parametrize("size", [1e-2, 1e-4])
def test_one_tap_is_caught_down_to_the_printed_smallest_fault(size):
    """1 / power is the smallest fault that would have been seen: a hundred times larger ones are."""
    for seed in SEEDS:
        torch.manual_seed(seed)
        _, filters = bank(torch.float32)
        broken = filters.clone()
        broken[1, 2, 0, 1, 1] += size * filters.square().mean().sqrt()
        result = concluded(correlated(broken.flatten(0, 1)), ZOO["mirrored kernel"], torch.float32, seed)
        assert result.verdict is eh.Verdict.BROKEN, f"seed {seed}: {result}"


# --- verdict rules beyond BROKEN(ERROR): what each is fed, with its sound twin ---


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


@pytest.mark.parametrize("fault", ["scaled", "inverse missing", "identity moves"])
def test_an_act_out_that_is_no_homomorphism_is_blamed_before_the_layer(fault):
    group = eh.group("D4")
    wrong = {
        "scaled": lambda g, y: D4.act(g, y) * (1 if g.is_identity else 1.001),
        "inverse missing": lambda g, y: D4.act(group.inverse(g), y),
        "identity moves": lambda g, y: D4.act(g, y).roll(1, -1),
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
