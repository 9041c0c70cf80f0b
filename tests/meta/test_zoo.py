"""Every fault of the zoo is caught by its named property with its verdict and code; its sound twin passes it."""

from collections import Counter

import pytest
from equiharness.suites.properties import PROPERTIES
from zoo import faults
from zoo.proof import PASSES, is_caught, verdicts_of

FAULTS = faults()
#: What the zoo must hold at least; how many it does hold is counted.
LEAST = 80


def in_precisions():
    """Every fault in each of its precisions; in the ordinary run in one, the first and the last by turns."""
    for number, fault in enumerate(FAULTS):
        ordinary = fault.dtypes[number % len(fault.dtypes)]
        for dtype in fault.dtypes:
            marks = () if dtype is ordinary else pytest.mark.deep
            yield pytest.param(fault, dtype, id=f"{fault.name}-{str(dtype).removeprefix('torch.')}", marks=marks)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's compiler about torch
@pytest.mark.parametrize(("fault", "dtype"), list(in_precisions()))
def test_fault_is_caught_and_its_sound_twin_passes(fault, dtype):
    good, bad = verdicts_of(fault, dtype)
    assert good.verdict in PASSES, str(good)
    assert is_caught(fault, bad), str(bad)


def test_the_zoo_is_large_and_names_no_fault_twice():
    names = Counter(fault.name for fault in FAULTS)
    assert not [name for name, count in names.items() if count > 1]
    assert len(names) >= LEAST


def test_the_zoo_covers_every_family_property_and_kind_of_layer():
    assert {f.family for f in FAULTS} == {"planar", "octahedral", "spherical", "points"}
    assert {f.property for f in FAULTS} == set(PROPERTIES)
    assert {"ours", "escnn", "e3nn", "plain"} <= {f.layer for f in FAULTS}
