"""What a run is made of: listed configurations, drawn ones, and any that is named whole."""

from dataclasses import replace

import pytest
from equiharness.harness.adapters.adapter import Case, Feature
from equiharness.harness.adapters.registry import implementations
from equiharness.harness.runs.checks import plan, run_check
from equiharness.harness.runs.plan import Check
from equiharness.harness.search.strategies import draw
from equiharness.harness.verdict.result import Verdict

SUITE = "equiharness.suites.check:run_property"
LAYER = "equiharness.GroupConv"


def adapter(name):
    return next(a for a in implementations() if a.name == name)


def test_every_listed_configuration_can_be_read_from_its_name():
    for found in implementations():
        for case in found.cases():
            assert Case.read(case.name) == case, (found.name, case.name)


@pytest.mark.parametrize("text", ["", "*", "size=9*", "no parameters", "size=1e-4", "group=C4  size=3"])
def test_what_no_case_is_called_is_read_as_none(text):
    read = Case.read(text)
    assert read is None or read.name == text
    assert text == "size=9*" or text == "group=C4  size=3" or read is None


def test_a_configuration_that_nobody_listed_can_be_named():
    listed = next(iter(adapter(LAYER).cases()))
    named = Case.of(**{**listed.parameters, "size": 21})
    assert named not in list(adapter(LAYER).cases())
    [check] = plan([LAYER], ["equivariance"], suite=SUITE, dtypes=["float32"], cases=named.name)
    assert check.case == named
    assert not plan([LAYER], ["equivariance"], suite=SUITE, dtypes=["float32"], cases="group=C4 size=21")


def test_what_a_case_lacks_is_not_planned():
    properties = ["equivariance", "parity", "training"]
    needs = {"parity": Feature.TWINS, "training": Feature.PARAMETERS}
    options = {"suite": SUITE, "dtypes": ["float32"], "needs": needs}
    assert {c.property for c in plan(["torch.nn.Conv3d"], properties, **options)} == {"equivariance", "training"}
    assert {c.property for c in plan(["equiharness.GroupPool"], properties, **options)} == {"equivariance"}
    assert {c.property for c in plan([LAYER], properties, **options)} == set(properties)


def test_what_was_named_and_applies_nowhere_is_planned_once():
    options = {"suite": SUITE, "needs": {"parity": Feature.TWINS}, "named_properties": ["parity"]}
    checks = plan(["torch.nn.*"], ["equivariance", "parity"], **options)
    assert [(c.property, c.dtype) for c in checks if c.property == "parity"] == [("parity", "float32")]
    elsewhere = plan(["torch.nn.*", LAYER], ["equivariance", "parity"], **options)
    assert {c.implementation for c in elsewhere if c.property == "parity"} == {LAYER}


def test_a_missing_library_has_one_check(monkeypatch):
    monkeypatch.setattr(type(adapter("torch.nn.Conv2d")), "version", None)
    properties = ["homomorphism", "equivariance"]
    [check] = plan(["torch.nn.Conv2d"], properties, suite=SUITE, seeds=(0, 1), drawn=1)
    assert check.property == "homomorphism"
    assert run_check(check).result.reason.code == "NOT_INSTALLED"


def test_a_case_that_its_adapter_cannot_describe_is_planned_in_full():
    """The check shows the error; the plan does not fail for it."""
    name = next(iter(adapter(LAYER).cases())).name.replace("group=C4", "group=C7")
    checks = plan([LAYER], ["equivariance", "parity"], suite=SUITE, cases=name, needs={"parity": Feature.TWINS})
    assert [c.property for c in checks] == ["equivariance", "parity"] * 2
    assert run_check(checks[0]).result.verdict is Verdict.CRASHED


def test_each_seed_draws_configurations_of_its_own_and_says_how_to_name_them():
    checks = plan([LAYER], ["equivariance"], suite=SUITE, dtypes=["float64"], seeds=(3, 4, 5), drawn=2)
    listed = list(adapter(LAYER).cases())
    drawn = {seed: [c.case for c in checks if c.seed == seed and c.case not in listed] for seed in (3, 4, 5)}
    assert [sum(c.seed == seed and c.case in listed for c in checks) for seed in (3, 4, 5)] == [len(listed)] * 3
    assert len({case.name for found in drawn.values() for case in found}) > 2
    for check in checks:
        [again] = plan(
            [LAYER], ["equivariance"], suite=SUITE, dtypes=["float64"], cases=check.case.name, seeds=[check.seed]
        )
        assert again == replace(check, drawn=False)
        assert check.drawn == (check.case not in listed)


def test_what_needs_no_seed_is_planned_for_the_first_that_has_the_configuration():
    options = {"suite": SUITE, "dtypes": ["float64"], "seeds": (0, 1), "drawn": 2}
    checks = plan([LAYER], ["homomorphism", "equivariance"], seedless=["homomorphism"], **options)
    every = plan([LAYER], ["homomorphism", "equivariance"], **options)
    found = [(c.case.name, c.seed) for c in checks if c.property == "homomorphism"]
    assert len({name for name, _ in found}) == len(found)
    assert {name for name, _ in found} == {c.case.name for c in every}
    alone = [replace(c, joint=False) for c in checks if c.property == "equivariance"]
    assert alone == [replace(c, joint=False) for c in every if c.property == "equivariance"]
    assert {seed for _, seed in found} == {0, 1}  # the second seed draws configurations of its own


def test_a_draw_repeats_itself_and_never_repeats_a_configuration():
    of = adapter(LAYER)
    assert draw(of, 5, seed=1) == draw(of, 5, seed=1) != draw(of, 5, seed=2)
    assert len({case.name for case in draw(of, 5, seed=1)}) == 5
    few = adapter("equiharness.SO3ToS2")
    every = {c.name for c in draw(few, 10**3, seed=0)}
    assert len(every) < 10**3
    assert every == {c.name for c in draw(few, 10**3, seed=1)}


def test_a_draw_that_shows_nothing_is_skipped_and_the_same_configuration_by_name_is_vacuous():
    """One pixel, one field: no element moves anything. Whoever asks for that should know; a draw should not alarm."""
    pixel = Case.of(group="C4", size=1, kernel=1, stride=1, padding=0, padding_mode="zeros", fields_in=1, fields_out=1)
    check = Check("equiharness.LiftingConv", pixel, "equivariance", "float32", suite=SUITE)
    assert run_check(check).result.verdict is Verdict.VACUOUS
    skipped = run_check(replace(check, drawn=True)).result
    assert (skipped.verdict, skipped.reason.code) == (Verdict.SKIPPED, "VACUOUS")
    assert "drawn at random" in skipped.reason.message


def test_so_is_one_whose_control_passes():
    """At b = 1 the plain mean is the integral."""
    check = Check("equiharness.integrate", Case.of(domain="s2", b=1, channels=1), "integration", "float64", suite=SUITE)
    assert run_check(check).result.verdict is Verdict.AMBIGUOUS
    assert run_check(replace(check, drawn=True)).result.reason.code == "CONTROL"
    assert run_check(replace(check, drawn=True)).result.verdict is Verdict.SKIPPED
