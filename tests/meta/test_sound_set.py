"""No property raises an alarm on a sound layer: awkward ones, every family, every precision, many seeds."""

import json
from importlib import resources

import pytest
from zoo.proof import DEEP_SEEDS, SEEDS, false_alarm, planted
from zoo.sound import EVERY, SOUND, checks

ORDINARY, DEEP = list(checks(SEEDS)), list(checks(DEEP_SEEDS))


def alarms(listed, sound):
    return [
        f"{check.property}, {check.dtype}, seed {check.seed}: {result}"
        for check in listed
        if check.sound is sound and (result := false_alarm(check)) is not None
    ]


@pytest.mark.parametrize("sound", SOUND, ids=lambda s: s.name)
def test_no_false_alarm_on(sound):
    assert alarms(ORDINARY, sound) == []


@pytest.mark.deep
@pytest.mark.parametrize("sound", SOUND, ids=lambda s: s.name)
def test_no_false_alarm_on_many_seeds_of(sound):
    assert alarms(DEEP, sound) == []


def test_the_sound_set_is_as_large_as_it_is_said_to_be():
    assert len(ORDINARY) >= 390
    assert len(DEEP) >= 10_000
    kinds = [{(check.sound.name, check.property, check.dtype) for check in listed} for listed in (ORDINARY, DEEP)]
    assert kinds[0] == kinds[1]
    assert {check.dtype for check in ORDINARY} == set(EVERY)
    assert {check.sound.family for check in ORDINARY} == {"planar", "octahedral", "spherical", "points"}


def test_the_committed_proof_is_of_this_zoo_and_nothing_slipped_through():
    """After a change of the zoo: python tests/meta/prove.py."""
    committed = json.loads(resources.files("equiharness.reports").joinpath("proof.json").read_text(encoding="utf-8"))
    for kind, counts in planted().items():
        assert {name: committed[kind][name] for name in counts} == counts
    assert committed["faults"]["caught"] == committed["faults"]["planted"]
    assert committed["generated"]["caught"] == committed["generated"]["planted"]
    assert committed["sound"]["false_alarms"] == 0
