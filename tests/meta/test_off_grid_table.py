"""The blind set off the grid: how many sound layers may be accused, and how many wrong ones may pass."""

from dataclasses import replace

import pytest
from zoo.off_grid_layers import LAYERS
from zoo.off_grid_table import counts, judged

pytestmark = pytest.mark.filterwarnings("ignore")

#: (truth, answer) -> the most of eighty layers, fixed before the rule's code was written.
MOST = {
    ("sound", "accused"): 1,
    ("sound", "unsure"): 8,
    ("wrong", "passed"): 2,
    ("wrong", "unsure without a plateau"): 24,
}


def judged_rows(layers):
    for library in {layer.needs for layer in layers} - {None}:
        pytest.importorskip(library)
    return [judged(layer) for layer in layers]


def excess(rows, share=1.0):
    found = counts(rows)
    return {key: found[key] for key, most in MOST.items() if found[key] > share * most}


@pytest.mark.deep
def test_the_blind_set_is_judged_within_its_limits():
    rows = judged_rows(LAYERS)
    assert not excess(rows), "\n".join(map(str, rows))


def test_every_eighth_layer_of_the_blind_set_is_judged_rightly():
    """Of the part that an ordinary run judges, none may be wrong; the whole set may hold as many as MOST says."""
    rows = judged_rows([layer for layer in LAYERS if layer.truth != "beside"][::8])
    assert not excess(rows, 0.0), "\n".join(map(str, rows))


def test_a_rule_that_accuses_everything_or_nothing_exceeds_the_limits():
    rows = judged_rows([next(layer for layer in LAYERS if layer.truth == truth) for truth in ("sound", "wrong")])
    swapped = [replace(row, layer=other.layer) for row, other in zip(rows, rows[::-1], strict=True)]
    assert set(excess(10 * swapped)) == {("sound", "accused"), ("wrong", "passed")}
