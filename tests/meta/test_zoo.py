"""Every fault of the zoo is caught by its named property with its verdict and code; its sound twin passes it."""

from collections import Counter

import equiharness as eh
import pytest
from equiharness.suites.check import PROPERTIES, SYSTEM_PROPERTIES, run_property
from zoo import faults

FAULTS = faults()
#: What the zoo must hold at least; how many it does hold is counted.
LEAST = 80


@pytest.mark.parametrize(
    ("fault", "dtype"),
    [pytest.param(f, d, id=f"{f.name}-{str(d).removeprefix('torch.')}") for f in FAULTS for d in f.dtypes],
)
def test_fault_is_caught_and_its_sound_twin_passes(fault, dtype):
    sound, broken = fault.claims(dtype, 0)
    good = run_property(fault.property, sound).result
    assert good.verdict in (eh.Verdict.EXACT, eh.Verdict.APPROXIMATE), str(good)
    bad = run_property(fault.property, broken).result
    assert (bad.verdict.value, bad.reason.code) == (fault.verdict, fault.code), str(bad)


def test_the_zoo_is_large_and_names_no_fault_twice():
    names = Counter(fault.name for fault in FAULTS)
    assert not [name for name, count in names.items() if count > 1]
    assert len(names) >= LEAST


def test_the_zoo_covers_every_family_property_and_kind_of_layer():
    assert {f.family for f in FAULTS} == {"planar", "octahedral", "spherical", "points"}
    assert {f.property for f in FAULTS} == {*PROPERTIES, *SYSTEM_PROPERTIES}
    assert {"ours", "escnn", "e3nn", "plain"} <= {f.layer for f in FAULTS}
