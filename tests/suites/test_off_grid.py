"""Off the grid: a layer passes if every other action leaves more error, and ever more for longer waves."""

import dataclasses
import math

import equiharness as eh
import numpy as np
import pytest
import torch
from equiharness.harness.adapters.adapter import Case
from equiharness.harness.adapters.registry import find
from equiharness.harness.claim.claim import Approximate, Claim, Exact
from equiharness.suites.forward.convergence import STUDENT, ResolutionErrors, Rounding, judge_convergence
from equiharness.suites.forward.equivariance import equivariance
from equiharness.suites.forward.off_grid import elements_off_grid, off_grid

SIZES = (17, 33, 65)


def table(means, spread=0.05, samples=8, seed=0):
    """Errors of one element over three resolutions, samples a few percent apart."""
    factors = 1 + spread * np.random.default_rng(seed).standard_normal(samples)
    return [
        ResolutionErrors(n, np.maximum(mean * factors, 0)[None], 1e-4, 1.0)
        for n, mean in zip(SIZES, means, strict=True)
    ]


def judged(means, contract=Approximate(), rounding=Rounding(), **options):  # noqa: B008 (frozen)
    verdict, reason, *_ = judge_convergence(table(means, **options), contract, rounding)
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
    _, _, (low, high), order = judge_convergence(
        table([0.05 + 0.05 * h**2 for h in (1, 0.5, 0.25)]), Approximate(), Rounding()
    )
    assert low < 0.05 < high
    assert order < 1


def test_the_interval_of_errors_that_do_not_fall_is_that_of_their_mean():
    """The jackknife's standard error of a mean is s / sqrt(n), exactly."""
    rows = table([0.05, 0.05, 0.05], spread=0.2)
    samples = rows[0].errors[0]
    half_width = STUDENT * samples.std(ddof=1) / np.sqrt(len(samples))
    _, _, interval, _ = judge_convergence(rows, Approximate(), Rounding())
    assert interval == pytest.approx((samples.mean() - half_width, samples.mean() + half_width))


def test_a_declared_order_is_required():
    first = CONVERGING["first order"]
    assert judged(first, Approximate(order=0.9))[0] == "APPROXIMATE"
    assert judged(first, Approximate(order=2.0)) == ("BROKEN", "ORDER")


def test_a_declared_ceiling_judges_the_finest_grid():
    assert judged((0.1, 0.1, 0.1), Approximate(ceiling=0.2)) == ("APPROXIMATE", "CEILING")
    assert judged((0.1, 0.1, 0.1), Approximate(ceiling=0.05)) == ("BROKEN", "CEILING")


def test_one_resolution_without_a_ceiling_proves_nothing():
    one = table((0.1, 0.1, 0.1))[:1]
    assert judge_convergence(one, Approximate(), Rounding())[1].code == "SINGLE_RESOLUTION"
    assert judge_convergence(one, Approximate(ceiling=0.2), Rounding())[0] is eh.Verdict.APPROXIMATE


def test_errors_at_rounding_level_need_no_limit():
    assert judged((1e-8, 2e-8, 3e-8)) == ("APPROXIMATE", "ROUNDING")


def test_a_layer_that_makes_more_of_rounding_has_a_higher_level_of_it():
    means = (1e-4, 2e-4, 3e-4)
    assert judged(means) == ("BROKEN", "LIMIT")
    assert judged(means, rounding=Rounding("float32", lambda: (200.0, 0.0))) == ("APPROXIMATE", "ROUNDING")
    assert judged(means, rounding=Rounding("float64", lambda: (200.0, 0.0))) == ("IMPRECISE", "CONSTANTS_IN_SINGLE")
    assert judged(means, rounding=Rounding("float64", lambda: (2.0, 0.0))) == ("BROKEN", "LIMIT")


def test_rounding_that_would_explain_everything_excuses_nothing():
    assert judged((0.1, 0.1, 0.1), rounding=Rounding("float32", lambda: (1e12, 0.0))) == ("BROKEN", "LIMIT")


def test_errors_that_come_from_nothing_have_no_order():
    assert judged((0.0, 0.0, 0.1)) == ("BROKEN", "LIMIT")
    assert judged((0.1, 0.1, 0.0)) == ("APPROXIMATE", "ROUNDING")


def test_nan_is_broken():
    assert judged((0.1, math.nan, 0.01)) == ("BROKEN", "NONFINITE")


def fields(target="trivial", size=17):
    return eh.Field(eh.Grid(size, size), "C8", "trivial"), eh.Field(eh.Grid(size, size), "C8", target)


def numbers(result):
    """The errors by wavelength."""
    return {row.pixels: row.error for row in result.wavelengths}


def test_pointwise_layers_are_exact_and_a_shift_is_broken():
    source, target = fields()
    sound = off_grid(Claim(torch.tanh, "C8", source, target)).result
    assert (sound.verdict.value, sound.reason.code) == ("APPROXIMATE", "ROUNDING")
    assert numbers(sound) == {3: 0, 6: 0, 12: 0}
    shifted = off_grid(Claim(lambda x: x.roll(x.shape[-1] // 8, -1), "C8", source, target)).result
    assert shifted.verdict is eh.Verdict.BROKEN, shifted.reason


SOUND = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "identity": lambda x: x,
    "pool of three at stride 2": lambda x: torch.nn.functional.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    "pool of two at stride 3": lambda x: torch.nn.functional.avg_pool2d(x, 2, 3),
}
FAULTY = {
    "an eighth of a shift": lambda x: torch.lerp(x, x.roll(x.shape[-1] // 8, -1), 0.125),
    "a ramp of one part in ten": lambda x: x * torch.linspace(0.95, 1.05, x.shape[-1], dtype=x.dtype),
    "an oblong": lambda x: torch.nn.functional.avg_pool2d(x, (1, x.shape[-1] // 4 * 2 + 1), 1, (0, x.shape[-1] // 4)),
}


def tiny(function, size, group="C6"):
    field = eh.Field(eh.Grid(size, size), group, "2*trivial")
    out = function(torch.zeros(1, 2, size, size)).shape[-1]
    return off_grid(Claim(function, group, field, eh.Field(eh.Grid(out, out), group, "2*trivial"))).result


#: The smallest boxes, of both parities. Their size does not matter: a pixel sees its surroundings only.
TINY = [2, 5, 1, *(pytest.param(size, marks=pytest.mark.deep) for size in (3, 8))]


@pytest.mark.parametrize("size", TINY)
@pytest.mark.parametrize("name", SOUND)
def test_sound_layers_on_boxes_of_every_size_are_approximate(name, size):
    if size == 1 and name == "pool of two at stride 3":
        pytest.skip("it leaves nothing of one point")
    result = tiny(SOUND[name], size)
    assert result.verdict is eh.Verdict.APPROXIMATE, result.reason


@pytest.mark.parametrize("size", TINY)
@pytest.mark.parametrize("name", FAULTY)
def test_faults_on_boxes_of_every_size_stay_faults(name, size):
    result = tiny(FAULTY[name], size)
    assert result.verdict is eh.Verdict.BROKEN, result.reason


def test_the_errors_do_not_depend_on_the_size_of_the_grid():
    pool = SOUND["pool of three at stride 2"]
    small, large = (numbers(tiny(pool, size)) for size in (5, 33))
    assert small == pytest.approx(large, rel=1e-9)


def test_an_average_over_squares_is_told_by_its_numbers_only():
    """A square window is isotropic up to the fourth moment: the limit is sound, and the error at 3 px is not small."""
    result = tiny(lambda x: torch.nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False), 9)
    assert result.verdict is eh.Verdict.APPROXIMATE
    assert numbers(result)[3] > 1 > 0.1 > numbers(result)[6] > 10 * numbers(result)[12]


def resized(factor, **options):
    return lambda x: torch.nn.functional.interpolate(x, scale_factor=factor, **options)


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("size", [8, 9])
def test_the_point_under_a_pixel_is_found_in_both_conventions_of_upsampling(size, align):
    assert tiny(resized(2, mode="bilinear", align_corners=align), size).verdict is eh.Verdict.APPROXIMATE


def test_an_output_of_one_size_is_judged_at_its_centre_on_the_claims_own_grid():
    def judged_at(size, out):
        return tiny(lambda x: torch.nn.functional.adaptive_avg_pool2d(x, out), size)

    near, far = judged_at(9, 3), judged_at(33, 3)  # windows of 3 and of 11 pixels
    assert near.verdict is far.verdict is eh.Verdict.APPROXIMATE
    assert numbers(far)[6] > 0.5 > 0.1 > numbers(near)[6]
    halves = judged_at(9, 2)  # no pixel stays, and each sees the border
    assert (halves.verdict.value, halves.reason.code) == ("SKIPPED", "FIXED_OUTPUT")


def test_an_integral_of_a_smooth_input_is_exact_off_the_grid():
    source, target = eh.Field(eh.Grid(33, 33), "C8", "2*trivial"), eh.Field(eh.Vector(), "C8", "2*trivial")
    for seed in range(3):
        result = off_grid(Claim(lambda x: x.mean((-1, -2)), "C8", source, target, seed=seed)).result
        assert result.reason.code == "ROUNDING", result.reason
        assert set(numbers(result)) == {3, 6, 12}


def average(x):
    return torch.nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


@pytest.mark.parametrize(("wavelength", "expected"), [(3.0, "BROKEN"), (6.0, "APPROXIMATE"), (None, "APPROXIMATE")])
def test_a_ceiling_is_held_at_its_wavelength(wavelength, expected):
    field = eh.Field(eh.Grid(5, 5), "C8", "trivial")
    contract = Approximate(ceiling=0.05, wavelength=wavelength)
    result = off_grid(Claim(average, "C8", field, field, contract=contract)).result
    assert (result.verdict.value, result.reason.code) == (expected, "CEILING")
    assert f"at {wavelength or 6:g} px" in result.reason.message


def test_a_ceiling_at_another_wavelength_is_measured_there():
    field = eh.Field(eh.Grid(9, 9), "C8", "trivial")
    result = off_grid(Claim(average, "C8", field, field, contract=Approximate(ceiling=0.2, wavelength=4.5))).result
    assert sorted(numbers(result)) == [3, 4.5, 6, 12]


def test_a_wavelength_needs_a_ceiling_and_a_grid_that_holds_it():
    with pytest.raises(eh.UsageError, match="ceiling"):
        Approximate(wavelength=6)
    with pytest.raises(eh.UsageError, match="2 pixels"):
        Approximate(ceiling=0.1, wavelength=2)


def test_a_ceiling_decides_for_a_layer_that_sees_the_border():
    source, target = eh.Field(eh.Grid(17, 17), "C8", "trivial"), eh.Invariant()
    leaning = lambda x: (x * (1 + 0.1 * torch.linspace(-1, 1, x.shape[-1]).to(x))).mean((-1, -2))  # noqa: E731
    for ceiling, expected in ((0.5, "APPROXIMATE"), (1e-4, "BROKEN")):
        claim = Claim(leaning, "C8", source, target, contract=Approximate(ceiling=ceiling))
        result = off_grid(claim).result
        assert (result.verdict.value, result.reason.code) == (expected, "CEILING")


def test_in_space_representatives_of_the_cube_are_judged():
    field = eh.Field(eh.Grid(9, 9, 9), "SO3", "trivial")
    result = off_grid(Claim(torch.tanh, "SO3", field, field)).result
    assert result.verdict is eh.Verdict.APPROXIMATE
    assert [e.element for e in result.elements][:2] == [
        "rotation by 45° about (0, 0, 1)",
        "rotation by 22.5° about (1, 0, 0)",
    ]
    faulty = Claim(lambda x: x.roll(1, -1), "SO3", field, field)
    assert off_grid(faulty).result.verdict is eh.Verdict.BROKEN


@pytest.mark.parametrize(("name", "count"), [("C8", 1), ("C6", 2), ("C3", 2), ("C5", 3), ("C16", 3), ("D5", 3)])
def test_elements_off_the_grid_are_represented_up_to_exact_ones(name, count):
    field = eh.Field(eh.Grid(9, 9), name, "trivial")
    claim = Claim(torch.tanh, name, field, field)
    assert len(elements_off_grid(claim)[0]) == count
    whole = Claim(torch.tanh, name, field, field, whole_group=True)
    reached = {
        claim.group.compose(h, g).index for g in elements_off_grid(whole)[0] for h in elements_off_grid(whole)[1]
    }
    assert reached == {g.index for g in claim.group if not g.is_signed_permutation}


@pytest.mark.parametrize("name", ["C3", "C5"])
@pytest.mark.parametrize(
    ("function", "expected"),
    [(torch.tanh, "APPROXIMATE"), (lambda x: x.flip(-2), "BROKEN"), (lambda x: 0 * x, "VACUOUS")],
)
def test_groups_without_an_element_on_the_grid_are_judged(name, function, expected):
    field = eh.Field(eh.Grid(33, 33), name, "2*trivial")
    assert off_grid(Claim(function, name, field, field)).result.verdict.value == expected


def test_a_grid_group_has_nothing_off_the_grid():
    source = eh.Field(eh.Grid(9, 9), "D4", "trivial")
    assert off_grid(Claim(torch.tanh, "D4", source, source)).result.verdict is eh.Verdict.SKIPPED


def test_an_oblong_grid_is_skipped_and_says_why():
    source = eh.Field(eh.Grid(9, 11), "C8", "trivial")
    assert "square" in off_grid(Claim(torch.tanh, "C8", source, source)).result.reason.message


def test_an_exact_contract_leaves_off_grid_elements_out():
    source, target = fields()
    parts = {p.property for p in eh.check(torch.tanh, "C8", source, target, contract=Exact()).parts}
    assert parts == {"homomorphism", "equivariance", "adjoint", "gradcheck", "batch"}


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
@pytest.mark.parametrize(("seed", "kernel_size"), [(106, 3), (104, 5), (1, 7)])
def test_a_c8_layer_of_escnn_converges_at_45_degrees(seed, kernel_size):
    result = off_grid(c8_claim(convolution(c8_filters(seed, kernel_size)[2]), seed=seed)).result
    assert (result.verdict.value, result.reason.code) == ("APPROXIMATE", "CONVERGES"), result.reason
    errors = numbers(result)
    assert errors[3] > errors[6] > errors[12]
    assert result.separation > 9 > 1 > 10 * result.share
    assert result.order > 0.4
    assert result.gain > 5


@escnn_warnings
def test_filters_of_seven_points_may_keep_a_small_part_of_the_error_and_say_so():
    """True of this layer: from 48 to 384 px a part 1/600 stays, as its frequencies alias on rings of few points."""
    claim = c8_claim(convolution(c8_filters(0, 7)[2]), seed=0)
    result = off_grid(claim).result
    assert (result.verdict.value, result.reason.code) == ("AMBIGUOUS", "PLATEAU"), result.reason
    assert "0.0016 of what a wrong action leaves" in result.reason.message
    assert "declare a ceiling" in result.reason.message
    declared = dataclasses.replace(claim, contract=Approximate(ceiling=0.1, wavelength=6), modules=claim.modules)
    assert off_grid(declared).result.verdict is eh.Verdict.APPROXIMATE


@escnn_warnings
@pytest.mark.parametrize(("seed", "kernel_size"), [(0, 3), (1, 5), (105, 7)])
def test_with_its_45_degree_filters_scaled_by_nine_tenths_it_is_broken(seed, kernel_size):
    filters = scaled_odd(c8_filters(seed, kernel_size)[2], 0.9)
    claim = c8_claim(convolution(filters), seed=seed)
    assert equivariance(claim).result.verdict is eh.Verdict.EXACT
    assert off_grid(claim).result.reason.code == "LIMIT"


@escnn_warnings
@pytest.mark.parametrize("name", ["NormBatchNorm", "PointwiseMaxPoolAntialiased", "ReLU", "PointwiseAdaptiveMaxPool"])
def test_what_a_search_drew_on_three_by_three_pixels_is_no_fault(name):
    pytest.importorskip("escnn")
    adapter = find(f"escnn.{name}")
    claim = adapter.build(Case.of(group="C6", size=3, fields=2), device="cpu", dtype="float32", seed=0)
    result = off_grid(claim).result
    assert result.verdict in (eh.Verdict.APPROXIMATE, eh.Verdict.SKIPPED), result.reason


@escnn_warnings
@pytest.mark.parametrize("size", [3, 9])
def test_scaled_filters_are_broken_on_small_boxes_too(size):
    filters = scaled_odd(c8_filters(1, 5)[2], 0.9)
    source, target = (eh.Field(eh.Grid(size, size), "C8", f) for f in ("1*trivial", "2*regular"))
    sound = off_grid(Claim(convolution(c8_filters(1, 5)[2]), "C8", source, target, seed=1)).result
    faulty = off_grid(Claim(convolution(filters), "C8", source, target, seed=1)).result
    assert (sound.verdict, faulty.reason.code) == (eh.Verdict.APPROXIMATE, "LIMIT"), (sound.reason, faulty.reason)
    assert numbers(sound) == pytest.approx(numbers(off_grid(c8_claim(convolution(c8_filters(1, 5)[2]), seed=1)).result))


@escnn_warnings
@pytest.mark.deep
@pytest.mark.parametrize("kernel_size", [3, 5, 7])
def test_rates_over_many_seeds(kernel_size):
    for seed in range(100, 116):
        filters = c8_filters(seed, kernel_size)[2]
        sound = off_grid(c8_claim(convolution(filters), seed=seed)).result
        small = kernel_size == 7 and sound.verdict is eh.Verdict.AMBIGUOUS and sound.share < 0.01
        assert sound.verdict is eh.Verdict.APPROXIMATE or small, (seed, sound.reason)
        faulty = off_grid(c8_claim(convolution(scaled_odd(filters, 0.9)), seed=seed)).result
        assert faulty.verdict is eh.Verdict.BROKEN, (seed, faulty.reason)
