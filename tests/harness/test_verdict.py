"""``decide``: one test for each rule, and one for each place in the order."""

import itertools
import math
import re
from pathlib import Path

import equiharness
import pytest
from equiharness.harness.precisions import EPS
from equiharness.harness.verdict.codes import Code
from equiharness.harness.verdict.decide import (
    LEAST_POWER,
    MAY_BE_INFINITE,
    NUMBERS,
    SAFETY,
    Evidence,
    decide,
    lost_bits,
    tightest_eps,
)
from equiharness.harness.verdict.result import CheckResult, Reason, Verdict, ratio, worst

SOUND = {"dtype": "float32", "error": 1e-8, "unit_bound": SAFETY, "kappa": 1.0, "wrong": 1.0, "wrong_unit": SAFETY}
BOUND = SAFETY * EPS["float32"]

# Each rule, in the documented order: what triggers it, and what it concludes.
RULES = {
    "NONFINITE": ({"finite": False}, Verdict.BROKEN),
    "STATEFUL": ({"repeatable": False, "stateful": ("running_mean",)}, Verdict.BROKEN),
    "NONDETERMINISTIC": ({"repeatable": False}, Verdict.BROKEN),
    "ACTION": ({"defect": 1e-3}, Verdict.BROKEN),
    "UNMEASURED": ({"kappa": math.nan}, Verdict.AMBIGUOUS),
    "CONSTANTS_IN_SINGLE": ({"dtype": "float64", "error": BOUND / 2}, Verdict.IMPRECISE),
    "CONSTANTS_IN_HALF": ({"dtype": "float16", "error": 8 * EPS["float16"]}, Verdict.IMPRECISE),
    "TIE": ({"error": 1.0, "jitter_passes": True}, Verdict.AMBIGUOUS),
    "ESTIMATED": ({"error": 2 * BOUND, "estimated": True}, Verdict.AMBIGUOUS),
    "ERROR": ({"error": 2 * BOUND}, Verdict.BROKEN),
    "HIDDEN": ({"hidden_error": 1e-2, "hidden_bound": 1e-3}, Verdict.BROKEN),
    "VACUOUS": ({"wrong": 0.0}, Verdict.VACUOUS),
    "LOW_POWER": ({"wrong": 50 * BOUND}, Verdict.AMBIGUOUS),
    "PRECISION": ({"precision": 2.0**9 * EPS["float32"]}, Verdict.IMPRECISE),
    "EXACT": ({}, Verdict.EXACT),
}


def conclude(**changes):
    verdict, reason = decide(Evidence(**{**SOUND, **changes}))
    return verdict, reason.code


@pytest.mark.parametrize("code", RULES)
def test_rule(code):
    changes, verdict = RULES[code]
    assert conclude(**changes) == (verdict, code)


COMPATIBLE = [
    (a, b)
    for a, b in itertools.combinations(RULES, 2)
    if not any(RULES[a][0][k] != RULES[b][0][k] for k in set(RULES[a][0]) & set(RULES[b][0])) and b != "EXACT"
]
#: Not ordered but weighed: these are reasons to excuse an error, and two of them are met by one piece of evidence.
EXCUSED = {("ERROR", b) for b in RULES} | {("ESTIMATED", "HIDDEN"), ("CONSTANTS_IN_SINGLE", "HIDDEN")}
#: The bound of float32 excuses an error only if it proves something; see the test below.
EXCUSED |= {("CONSTANTS_IN_SINGLE", "VACUOUS"), ("CONSTANTS_IN_SINGLE", "LOW_POWER")}


@pytest.mark.parametrize(("first", "second"), [p for p in COMPATIBLE if p not in EXCUSED])
def test_an_earlier_rule_wins_over_a_later_one(first, second):
    assert conclude(**{**RULES[second][0], **RULES[first][0]})[1] == first


def test_buffers_that_move_and_sums_in_another_order_are_notes_where_the_claim_holds():
    verdict, reason = decide(Evidence(**{**SOUND, "stateful": ("running_mean", "running_var"), "scatter": 3e-8}))
    assert verdict is Verdict.EXACT
    assert "running_mean, running_var" in reason.message
    assert "3e-08" in reason.message
    assert conclude(stateful=("running_mean",), error=2 * BOUND)[1] == "ERROR"


def test_an_error_outweighs_vacuity_and_low_power():
    assert conclude(error=2 * BOUND, wrong=0.0) == (Verdict.BROKEN, "ERROR")


def test_constants_are_blamed_before_ties():
    evidence = {"dtype": "float64", "error": BOUND / 2, "jitter_passes": True}
    assert conclude(**evidence)[1] == "CONSTANTS_IN_SINGLE"


@pytest.mark.parametrize("wrong", [0.0, 50 * BOUND])
def test_float32_excuses_no_error_by_a_bound_that_would_excuse_wrong_actions_too(wrong):
    assert conclude(dtype="float64", error=BOUND / 2, wrong=wrong) == (Verdict.AMBIGUOUS, "LOW_POWER")
    assert conclude(dtype="float64", error=BOUND / 2, wrong=101 * BOUND) == (Verdict.IMPRECISE, "CONSTANTS_IN_SINGLE")


def test_rounding_inside_widens_the_bound_of_float32_and_only_while_faults_are_seen():
    beyond = {"dtype": "float64", "error": 4 * BOUND, "wrong_unit": SAFETY}
    assert conclude(**beyond) == (Verdict.BROKEN, "ERROR")
    assert conclude(**beyond, single_unit=5 * SAFETY)[1] == "CONSTANTS_IN_SINGLE"
    assert conclude(**beyond, single_unit=3 * SAFETY) == (Verdict.BROKEN, "ERROR")
    assert conclude(**beyond, single_unit=5 * SAFETY, wrong=499 * BOUND) == (Verdict.BROKEN, "ERROR")
    assert conclude(**{**beyond, "dtype": "float32"}, single_unit=5 * SAFETY) == (Verdict.BROKEN, "ERROR")


def test_a_tie_is_blamed_before_the_estimate_and_the_conditioning():
    assert conclude(error=2 * BOUND, estimated=True, jitter_passes=True)[1] == "TIE"
    assert conclude(error=1e9, unit_bound=1e8, jitter_passes=True)[1] == "TIE"


def test_a_hidden_fault_is_not_excused_as_float32_constants():
    evidence = {"dtype": "float64", "error": BOUND / 2, "hidden_error": 1e-2, "hidden_bound": 1e-3}
    assert conclude(**evidence) == (Verdict.BROKEN, "ERROR")


@pytest.mark.parametrize("error", [2.0, 1e-9])
def test_a_bound_beyond_the_whole_output_is_ill_conditioned_whether_the_error_fits_or_not(error):
    evidence = {"error": error, "unit_bound": 1.5 / EPS["float32"] if error < 1 else 1.01 / EPS["float32"]}
    assert conclude(**evidence, wrong_unit=1.0) == (Verdict.AMBIGUOUS, "ILL_CONDITIONED")


def test_vacuity_outweighs_ill_conditioning():
    assert conclude(unit_bound=2 / EPS["float32"], wrong=0.0) == (Verdict.VACUOUS, "VACUOUS")


def test_an_estimated_error_far_beyond_the_floor_is_broken():
    assert conclude(error=SAFETY * BOUND * 1.01, estimated=True) == (Verdict.BROKEN, "ERROR")


NUMERIC = [n for n, f in Evidence.model_fields.items() if "float" in str(f.annotation)]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", NUMERIC)
def test_evidence_that_is_no_number_never_decides(name, value):
    """Neither a pass nor BROKEN, whatever the other numbers say, except where infinity is a result by itself."""
    assert set(NUMBERS) == set(NUMERIC)
    for rest in ({}, {"error": 2 * BOUND}, {"hidden_error": 1e-2}, {"wrong": 0.0}, {"dtype": "float64", "error": 1e-6}):
        found = conclude(**{**rest, name: value})
        if name in MAY_BE_INFINITE and math.isinf(value):
            continue
        assert found == (Verdict.AMBIGUOUS, "UNMEASURED"), rest


def test_nan_never_hides_what_is_known_before_it():
    assert conclude(finite=False, error=math.nan)[1] == "NONFINITE"
    assert conclude(repeatable=False, error=math.nan)[1] == "NONDETERMINISTIC"


def test_an_infinite_error_is_broken_and_says_so():
    verdict, reason = decide(Evidence(**{**SOUND, "error": math.inf}))
    assert verdict is Verdict.BROKEN
    assert "does not depend on the input" in reason.message


def test_the_bound_itself_still_passes():
    assert conclude(error=BOUND)[0] is Verdict.EXACT
    assert conclude(error=BOUND * (1 + 1e-12))[0] is Verdict.BROKEN


def test_a_float64_claim_is_held_to_float64():
    assert conclude(dtype="float64", error=SAFETY * EPS["float64"]) == (Verdict.EXACT, "EXACT")
    assert conclude(dtype="float64", error=BOUND * 1.01) == (Verdict.BROKEN, "ERROR")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_claims_are_judged_in_single(dtype):
    assert conclude(dtype=dtype, error=BOUND)[0] is Verdict.EXACT
    assert conclude(dtype=dtype, error=SAFETY * EPS[dtype] * 1.01) == (Verdict.BROKEN, "ERROR")


def test_a_defect_of_the_action_widens_the_bound_only_while_it_is_rounding():
    assert conclude(dtype="float64", error=SAFETY * 5e-13, defect=1e-12)[0] is Verdict.EXACT
    assert conclude(error=0.0, defect=1.1e-12)[1] == "ACTION"


def test_power_is_measured_against_the_tightest_bound_that_is_met():
    assert tightest_eps(Evidence(**{**SOUND, "error": 1e-16})) == EPS["float64"]
    assert tightest_eps(Evidence(**SOUND)) == EPS["float32"]
    wrong = 50 * SAFETY * EPS["float32"]
    assert conclude(error=1e-16, wrong=wrong)[0] is Verdict.EXACT
    assert conclude(error=1e-8, wrong=wrong) == (Verdict.AMBIGUOUS, "LOW_POWER")


@pytest.mark.parametrize(
    ("power", "verdict"),
    [(0.5, Verdict.VACUOUS), (1.0, Verdict.VACUOUS), (1.1, Verdict.AMBIGUOUS), (101, Verdict.EXACT)],
)
def test_power_thresholds(power, verdict):
    assert LEAST_POWER == 100
    assert conclude(wrong=power * BOUND)[0] is verdict


def test_without_any_bound_a_wrong_action_that_differs_has_all_power():
    assert Evidence(**{**SOUND, "unit_bound": 0.0, "wrong_unit": 0.0}).power(EPS["float32"]) == math.inf


def test_lost_bits_may_grow_with_the_condition_and_with_the_declaration():
    loss = 2.0**10 * EPS["float32"]
    assert lost_bits(Evidence(**{**SOUND, "precision": loss})) == 10
    assert conclude(precision=loss)[1] == "PRECISION"
    assert conclude(precision=loss, condition=4.0)[0] is Verdict.EXACT
    assert conclude(precision=loss, allowed_lost_bits=10.0)[0] is Verdict.EXACT
    assert conclude(precision=loss, condition=4.0, allowed_lost_bits=9.0)[1] == "PRECISION"
    assert conclude(precision=loss, kappa=4.0)[1] == "PRECISION"  # what a layer loses never excuses itself


@pytest.mark.parametrize(("dtype", "bits"), [("float64", 8), ("float32", 8), ("float16", 3), ("bfloat16", 3)])
def test_each_dtype_may_lose_its_bits(dtype, bits):
    good = {"dtype": dtype, "error": 0.0, "precision": EPS[dtype] * 2.0**bits}
    assert conclude(**good)[0] is Verdict.EXACT
    assert conclude(**{**good, "precision": good["precision"] * 1.01})[1] == "PRECISION"


def test_nothing_over_nothing_is_nothing():
    assert ratio(0.0, 0.0) == 0
    assert ratio(1.0, 0.0) == math.inf
    assert ratio(1.0, 2.0) == 0.5


def test_verdicts_are_ordered_and_labelled_as_documented():
    assert [v.label for v in sorted(Verdict, key=lambda v: v.severity)] == (
        ["PASS", "PASS", "SKIP", "WARN", "UNSURE", "FAIL", "FAIL", "FAIL", "FAIL"]
    )
    assert [v for v in Verdict if v.fails] == list(Verdict)[4:]


def result(verdict, property="equivariance"):
    return CheckResult(property=property, verdict=verdict, reason=Reason(code=Code.read("X"), message=""))


def test_the_worst_part_decides_and_a_skip_never_does():
    parts = [result(Verdict.EXACT), result(Verdict.SKIPPED), result(Verdict.IMPRECISE)]
    assert worst(parts).verdict is Verdict.IMPRECISE
    assert worst(parts[:2]).verdict is Verdict.EXACT
    assert worst([result(Verdict.SKIPPED)]).verdict is Verdict.SKIPPED
    with pytest.raises(ValueError, match="empty"):
        worst([])


def test_of_equal_verdicts_equivariance_speaks():
    assert worst([result(Verdict.EXACT, "homomorphism"), result(Verdict.EXACT)]).property == "equivariance"


def test_an_estimated_error_of_zero_has_the_power_of_the_working_precision():
    evidence = Evidence(**{**SOUND, "error": 0.0, "estimated": True})
    assert tightest_eps(evidence) == EPS["float32"]


def test_a_tie_behind_a_bound_beyond_everything_is_a_tie():
    excused = {"error": 1.0, "unit_bound": 1e12, "wrong": 1.0}
    assert conclude(**excused, jitter_passes=True) == (Verdict.AMBIGUOUS, "TIE")
    assert conclude(**excused)[1] == "ILL_CONDITIONED"


def test_a_reason_has_a_code_of_the_one_list_and_a_record_may_have_others():
    """So that a misspelt code is found where it is written, and records of other versions can be read."""
    assert Reason(code="EXACT", message="").code is Code.EXACT
    with pytest.raises(ValueError, match="Input should be"):
        Reason(code="EXACTLY", message="")
    text = '{"code":"OF_THE_FUTURE","message":"m"}'
    read = Reason.model_validate_json(text)
    assert (str(read), read.model_dump_json()) == ("OF_THE_FUTURE: m", text)
    assert Reason.model_validate_json('{"code":"TIE","message":""}').code is Code.TIE


def test_every_code_of_the_list_is_used_and_every_code_that_is_used_is_in_the_list():
    folder = Path(equiharness.__file__).parent
    rooms = [folder / name for name in ("harness", "suites")]
    text = "".join(p.read_text() for room in rooms for p in room.rglob("*.py") if p.name != "codes.py")
    written = set(re.findall(r'code="([A-Z_]+)"', text)) | set(re.findall(r"\bCode\.([A-Z_]+)\b", text))
    assert written <= set(Code.__members__)
    assert {name for name in Code.__members__ if name != "NONE" and not re.search(rf"\b{name}\b", text)} == set()


def test_a_loss_that_no_precision_explains_is_a_fault_of_float32_alone():
    """Rounding to bfloat16 inside explains S C eps; float64 has no lower precision that is another function."""
    for size, verdict, code in ((0.12, "IMPRECISE", "PRECISION"), (0.13, "BROKEN", "ERROR")):
        found = {"dtype": "float32", "error": 0.0, "unit_bound": 16, "kappa": 1, "wrong": 1.0, "precision": size}
        evidence = Evidence(**found, forward=True)
        assert (decide(evidence)[0], decide(evidence)[1].code) == (verdict, code)
        for excuse in ({"condition": 1e3}, {"forward": False}, {"jitter_passes": True}):
            assert decide(evidence.model_copy(update=excuse))[0] == "IMPRECISE"
        assert decide(evidence.model_copy(update={"dtype": "float64"}))[0] == "IMPRECISE"
