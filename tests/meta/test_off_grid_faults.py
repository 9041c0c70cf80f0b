"""Off the grid, every rule meets a layer that it must fail, and a sound twin that it must not.

LIMIT, ACTION, ORDER (PLATEAU), CEILING, the plane and the second pixel, BORDER; and rounding in both precisions.
"""

import dataclasses

import equiharness as eh
import numpy as np
import pytest
import torch
from equiharness.harness.claim.claim import Approximate, Claim
from equiharness.harness.precisions import EPS
from equiharness.harness.symmetry.groups import group
from equiharness.harness.verdict.decide import SAFETY
from equiharness.kernels import SteerableConv, SteerableLiftingConv
from equiharness.suites.forward.convergence import ResolutionErrors, Rounding, judge_convergence
from equiharness.suites.forward.equivariance import equivariance
from equiharness.suites.forward.off_grid import off_grid
from equiharness.suites.waves.wave_rule import WAVELENGTHS, WaveErrors, judge_waves


def judged(function, dtype, size=17, seed=0):
    source, target = eh.Field(eh.Grid(size, size), "C8", "1*trivial"), eh.Field(eh.Vector(), "C8", "1*trivial")
    return off_grid(Claim(function, "C8", source, target, dtype=dtype, seed=seed)).result


def mean(x):
    return x.mean((-1, -2))


def leaning(share):
    """A mean whose weights grow from left to right by a share: no rotation leaves it as it is."""

    def function(x):
        return (x * (1 + share * torch.linspace(-1, 1, x.shape[-1], dtype=x.dtype))).mean((-1, -2))

    return function


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_integral_is_exact_to_rounding(dtype):
    result = judged(mean, dtype)
    assert result.verdict is eh.Verdict.APPROXIMATE, result.reason


@pytest.mark.parametrize(("share", "dtype"), [(1e-3, torch.float32), (1e-4, torch.float64)])
def test_a_small_fault_of_an_integral_is_broken(share, dtype):
    result = judged(leaning(share), dtype)
    assert (result.verdict.value, result.reason.code) == ("BROKEN", "LIMIT"), result.reason


def plateau(error, dtype, kappa):
    """The verdict on an error that stays the same on every grid, of a layer that makes kappa times eps of rounding."""
    errors = np.full((1, 8), error)
    table = [ResolutionErrors(size, errors, 0.0, 1.0) for size in (17, 33, 65)]
    return judge_convergence(table, Approximate(), Rounding(dtype, lambda: (kappa, 0.0)))[0].value


def test_what_rounding_explains_follows_the_precision_and_the_layer():
    """No figure is good for all: 1e-6 would pass the second and the fourth, and fail the sixth."""
    assert plateau(1e-6, "float32", 1.0) == "APPROXIMATE"
    assert plateau(1e-6, "float64", 1.0) == "IMPRECISE"
    assert plateau(3e-6, "float32", 1.0) == "BROKEN"
    assert plateau(1e-13, "float64", 1.0) == "IMPRECISE"
    assert plateau(1e-13, "float64", 100.0) == "APPROXIMATE"
    assert plateau(3e-6, "float32", 10.0) == "APPROXIMATE"
    assert plateau(3e-6, "float64", 1.0) == "BROKEN"


@pytest.mark.parametrize("seed", [0, 2, 3, 4])  # at seed 1 all roundings of the finest grid happen to agree
def test_a_sound_layer_that_cancels_makes_more_of_rounding_and_a_fault_in_it_is_seen(seed):
    """1000 comes and goes: in float32 that leaves thousands of eps, at random, which are no fault."""

    def cancelling(x):
        return (x + 1000).mean((-1, -2)) - 1000

    def faulty(x):
        return cancelling(x) + leaning(0.5)(x)

    sound = judged(cancelling, torch.float32, seed=seed)
    assert sound.verdict is eh.Verdict.APPROXIMATE, sound.reason
    assert sound.resolutions[-1].error > 100 * SAFETY * EPS["float32"]
    for dtype in (torch.float32, torch.float64):
        result = judged(faulty, dtype, seed=seed)
        assert (result.verdict.value, result.reason.code) == ("BROKEN", "LIMIT"), result.reason


def verdict_of(result):
    return result.verdict.value, str(result.reason.code)


def lifting(seed=0, dtype=torch.float32, kernel_size=5):
    torch.manual_seed(seed)
    return SteerableLiftingConv("C8", 1, 2, kernel_size, padding=kernel_size // 2).to(dtype)


def c8(function, seed=0, **options):
    """The claim of a lifting layer of C8 with two fields; [B, 2, 8, H, W] or [B, 16, H, W] come out."""
    source, target = (eh.Field(eh.Grid(33, 33), "C8", f) for f in ("1*trivial", "2*regular"))
    return Claim(function, "C8", source, target, seed=seed, **options)


def at_odd(change):
    """A lifting layer whose components at odd multiples of 45 degrees become ``change`` of (odd, even) ones.

    It commutes with quarter turns, so that exact elements see nothing.
    """

    def broken(layer):
        def function(x):
            y = layer(x)
            even, odd = y[:, :, 0::2], y[:, :, 1::2]
            return torch.stack([even, change(odd, even)], 3).flatten(2, 3)

        return function

    return broken


FAULTS = {
    "amplitude off by a tenth": (at_odd(lambda odd, even: 0.9 * odd), ("BROKEN", "LIMIT")),
    "amplitude off by 1e-4": (at_odd(lambda odd, even: (1 - 1e-4) * odd), ("BROKEN", "LIMIT")),
    "never rotated": (at_odd(lambda odd, even: even), ("BROKEN", "ACTION")),
    "half a turn too far": (at_odd(lambda odd, even: odd.roll(2, 2)), ("BROKEN", "ACTION")),
    "one field of two never rotated": (
        at_odd(lambda odd, even: torch.cat([odd[:, :1], even[:, 1:]], 1)),
        ("BROKEN", "ACTION"),
    ),
    "a tenth of its neighbour": (at_odd(lambda odd, even: 0.9 * odd + 0.1 * even), ("AMBIGUOUS", "PLATEAU")),
    "three fifths of its neighbour": (at_odd(lambda odd, even: 0.4 * odd + 0.6 * even), ("BROKEN", "PLATEAU")),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", FAULTS)
def test_filters_that_are_wrong_off_the_grid_alone_are_seen(name, seed):
    break_, expected = FAULTS[name]
    layer = lifting(seed)
    assert off_grid(c8(layer, seed)).result.verdict is eh.Verdict.APPROXIMATE
    assert equivariance(c8(break_(layer), seed)).result.verdict is eh.Verdict.EXACT
    assert verdict_of(off_grid(c8(break_(layer), seed)).result) == expected


def test_the_least_amplitude_that_is_seen_follows_the_precision():
    """At 1e-7 of float32 nothing can be seen; a float64 layer of float64 tables shows it."""
    for dtype, error, expected in ((torch.float32, 1e-7, "APPROXIMATE"), (torch.float64, 1e-9, "IMPRECISE")):
        layer = lifting(0, dtype)
        wrong = at_odd(lambda odd, even, error=error: (1 - error) * odd)(layer)
        assert off_grid(c8(wrong, dtype=dtype)).result.verdict.value == expected


@pytest.mark.parametrize("kind", ["2*trivial", "2*regular"])
def test_a_layer_without_symmetry_is_broken(kind):
    torch.manual_seed(3)
    layer = torch.nn.Conv2d(2, 2 if kind == "2*trivial" else 16, 5, padding=2, bias=False)
    source, target = (eh.Field(eh.Grid(33, 33), "C8", f) for f in ("2*trivial", kind))
    assert off_grid(Claim(layer, "C8", source, target)).result.verdict is eh.Verdict.BROKEN


@pytest.mark.parametrize("name", ["C3", "C5"])
def test_a_layer_whose_inverse_comes_out_is_broken_without_an_exact_element(name):
    torch.manual_seed(0)
    layer = SteerableConv(name, 1, 1, 5, padding=2)
    order = layer.order
    field = eh.Field(eh.Grid(17, 17), group(name), "1*regular", split=True)
    inverted = lambda x: layer(x)[:, :, [(-g) % order for g in range(order)]]  # noqa: E731
    assert off_grid(Claim(layer, name, field, field)).result.verdict is eh.Verdict.APPROXIMATE
    assert off_grid(Claim(inverted, name, field, field)).result.verdict is eh.Verdict.BROKEN


def rows(d, order, samples=32, summands=2, limit=0.0, seed=0):
    """Errors whose D at wavelength w is d (w / 6)^order for the first summand and a hundred times that for others."""
    rng = np.random.default_rng(seed)
    w = np.array(WAVELENGTHS)[:, None, None]
    spread = rng.uniform(0.8, 1.25, (1, samples, summands))
    size = np.ones((len(WAVELENGTHS), samples, summands))
    wrong = (1 / w) ** 2 * spread * np.ones(summands)
    ratio = d * (w / 6) ** order * np.array([1.0] + [100.0] * (summands - 1))
    right = wrong / ratio**2 * rng.uniform(0.8, 1.25, size.shape)
    constant = np.full((samples, summands), limit**2)
    return WaveErrors(group("C8").element(1), right, size, wrong[None], wrong[None], constant, size[0])


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (rows(20, 1.0), ("APPROXIMATE", "CONVERGES")),
        (rows(20, 0.5), ("APPROXIMATE", "CONVERGES")),
        (rows(20, 1.0, limit=1e-5), ("BROKEN", "LIMIT")),
        (rows(1.0, 0.0), ("BROKEN", "ACTION")),
        (rows(1.3, -0.5), ("BROKEN", "ACTION")),
        (rows(1.7, 0.0), ("BROKEN", "PLATEAU")),
        (rows(2.5, 0.0), ("AMBIGUOUS", "PLATEAU")),
        (rows(100, 0.0), ("AMBIGUOUS", "PLATEAU")),
        (rows(20, 0.2), ("AMBIGUOUS", "LOW_POWER")),
        (rows(20, float("nan")), ("BROKEN", "NONFINITE")),
    ],
)
def test_the_rule_on_errors_of_known_distance_and_order(made, expected):
    judged = judge_waves([made], np.full(2, 1e-6), Approximate())
    assert (judged.verdict.value, str(judged.reason.code)) == expected


def test_one_bad_element_and_one_bad_summand_decide():
    good, bad = rows(20, 1.0), rows(1.0, 0.0)
    assert judge_waves([good, bad, good], np.full(2, 1e-6), Approximate()).reason.code == "ACTION"
    assert bad.right[:, :, 1].max() < 1e-3 * bad.right[:, :, 0].max()  # its other summand is sound


def test_an_alternative_that_changes_nothing_accuses_nobody_and_leaves_no_power():
    made = rows(1.0, 0.0)
    nothing = dataclasses.replace(made, apart=np.zeros_like(made.apart))
    assert judge_waves([nothing], np.full(2, 1e-6), Approximate()).reason.code == "LOW_POWER"


def test_a_declared_order_is_required_of_the_part_that_is_wrong():
    assert judge_waves([rows(20, 1.0)], np.full(2, 1e-6), Approximate(order=0.9)).verdict is eh.Verdict.APPROXIMATE
    assert judge_waves([rows(20, 1.0)], np.full(2, 1e-6), Approximate(order=2.0)).reason.code == "ORDER"


def test_a_ceiling_decides_on_a_plateau_and_never_passes_an_error_above_it():
    wrong = FAULTS["a tenth of its neighbour"][0](lifting())
    error = next(row.error for row in off_grid(c8(wrong)).result.wavelengths if row.pixels == 12)
    for factor, expected in ((1.1, "APPROXIMATE"), (0.9, "BROKEN")):
        contract = Approximate(ceiling=factor * error, wavelength=12)
        assert verdict_of(off_grid(c8(wrong, contract=contract)).result) == (expected, "CEILING")


def test_a_ceiling_is_honoured_where_exact_elements_are_judged_and_only_up_to_it():
    """An error of 1e-3 at every element, exact ones too, accepted up to 0.05 and not up to 1e-4."""
    field = eh.Field(eh.Vector(), "SO3", "2*irrep(1)")
    tilted = lambda x: x + 1e-3 * x[:, :1]  # noqa: E731
    for ceiling, expected in ((0.05, "APPROXIMATE"), (1e-4, "BROKEN"), (None, "BROKEN")):
        result = eh.check(tilted, "SO3", field, field, contract=Approximate(ceiling=ceiling))
        assert result.verdict.value == expected, str(result)
        parts = {p.property: p.verdict.value for p in result.parts}
        assert parts["equivariance"] == parts["adjoint"] == expected


PLACE = {
    "a ramp": lambda x: x * torch.linspace(0.9, 1.1, x.shape[-1]).to(x),
    "rows turned over": lambda x: x.flip(-2),
    "a square cut out": lambda x: x * box(x),
}


def box(x):
    t = torch.linspace(-1, 1, x.shape[-1]).to(x).abs()
    return ((t[:, None] < 0.5) & (t < 0.5)).to(x)


def disk(x):
    t = torch.linspace(-1, 1, x.shape[-1]).to(x)
    return torch.exp(-4 * (t[:, None] ** 2 + t**2))


@pytest.mark.parametrize("name", PLACE)
@pytest.mark.parametrize("of", ["C5", "C8"])
def test_layers_that_depend_on_the_place_are_judged_on_the_plane(name, of):
    """At the centre none of them shows anything: the pixel that stays is multiplied, or not moved at all."""
    field = eh.Field(eh.Grid(33, 33), of, "2*trivial")
    result = off_grid(Claim(PLACE[name], of, field, field)).result
    assert verdict_of(result) == ("BROKEN", "LIMIT")
    assert "depends on the place" in result.reason.message
    sound = off_grid(Claim(lambda x: x * disk(x), of, field, field)).result
    assert sound.verdict is eh.Verdict.APPROXIMATE, sound.reason


def of_one_size(function, size=33):
    """The function, on grids of one size only: no refinement can judge it."""

    def layer(x):
        if x.shape[-1] != size:
            raise ValueError(f"a grid of {size} points, please")
        return function(x)

    return layer


def test_the_second_pixel_sees_an_output_that_moved_where_no_other_grid_is_taken():
    field = eh.Field(eh.Grid(33, 33), "C5", "2*trivial")
    moved = off_grid(Claim(of_one_size(lambda x: x.flip(-2)), "C5", field, field)).result
    assert moved.verdict is eh.Verdict.BROKEN
    assert "two pixels beside the centre" in moved.reason.message
    assert off_grid(Claim(of_one_size(torch.tanh), "C5", field, field)).result.verdict is eh.Verdict.APPROXIMATE


def test_a_layer_that_sees_the_border_is_told_from_wrong_actions_or_says_that_nothing_can():
    source, target = eh.Field(eh.Grid(33, 33), "SO2", "2*irrep(1)"), eh.Invariant()

    def pooled(x):
        return x.mean((-1, -2)).reshape(len(x), 2, 2).norm(dim=-1)

    def component(x):
        return x.mean((-1, -2))[:, ::2]

    def verdict(function):
        return verdict_of(off_grid(Claim(function, "SO2", source, target)).result)

    assert verdict(pooled)[0] == "APPROXIMATE"
    assert verdict(component)[0] == "BROKEN"
    assert verdict(lambda x: 0 * pooled(x)) == ("VACUOUS", "VACUOUS")
    assert verdict(lambda x: x[..., 0, :].mean(-1)) == ("AMBIGUOUS", "BORDER")  # of values where every input vanishes
    assert verdict(of_one_size(pooled)) == ("AMBIGUOUS", "BORDER")


def test_a_table_in_float32_inside_float64_is_imprecise_and_a_fault_beside_it_broken():
    layer = lifting(0, torch.float32).to(torch.float64)  # its table was rounded when it was made
    assert verdict_of(off_grid(c8(layer, dtype=torch.float64)).result) == ("IMPRECISE", "CONSTANTS_IN_SINGLE")
    wrong = at_odd(lambda odd, even: (1 - 1e-4) * odd)(layer)
    assert verdict_of(off_grid(c8(wrong, dtype=torch.float64)).result) == ("BROKEN", "LIMIT")


def test_samples_on_a_circle_are_named_and_a_table_in_float32_is_not():
    """A nonlinearity on seven samples of a circle, whose tables have all digits, and one with tables of float32."""
    angles = 2 * np.pi * np.arange(7) / 7 + 0.3
    table = torch.from_numpy(np.stack([np.cos(angles), np.sin(angles)]))

    class Sampled(torch.nn.Module):
        def __init__(self, table):
            super().__init__()
            self.register_buffer("table", table)

        def forward(self, x):
            return torch.nn.functional.silu(x @ self.table) @ self.table.T / 3.5

    field = eh.Field(eh.Vector(), "SO2", "irrep(1)")
    found = eh.check(Sampled(table), "SO2", field, field, properties=("equivariance",))
    assert found.verdict is eh.Verdict.BROKEN
    assert "is discretised" in found.reason.message
    linear = Sampled(table.float().double())
    linear.forward = lambda x: x @ linear.table @ linear.table.T / 3.5
    rounded = eh.check(linear, "SO2", field, field, properties=("equivariance",), dtype="float64")
    assert verdict_of(rounded) == ("IMPRECISE", "CONSTANTS_IN_SINGLE")
