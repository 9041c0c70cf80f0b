"""Outcomes of paired samples: what is a change, what is none, and what cannot be told."""

import numpy as np
import pytest
from equiharness.harness.errors import UsageError
from equiharness.harness.records.ratios import FACTOR, LEAST, Change, paired


def noisy(count, factor=1.0, spread=0.03, seed=0):
    """Pairs whose ratios scatter about a factor."""
    rng = np.random.default_rng(seed)
    old = np.exp(rng.normal(0, 0.3, count))  # whatever else the machine does, both have it
    return old.tolist(), (old * factor * np.exp(rng.normal(0, spread, count))).tolist()


@pytest.mark.parametrize("seed", range(5))
def test_fifteen_percent_are_worse_and_nothing_is_the_same(seed):
    assert paired(*noisy(32, 1.15, seed=seed)).change is Change.WORSE
    assert paired(*noisy(32, 1 / 1.15, seed=seed)).change is Change.BETTER
    assert paired(*noisy(32, 1.0, seed=seed)).change is Change.SAME


def test_an_unchanged_layer_is_hardly_ever_worse_however_noisy():
    found = [paired(*noisy(LEAST, spread=spread, seed=seed)).change for spread in (0.05, 0.2) for seed in range(30)]
    assert found.count(Change.WORSE) <= 1


def test_a_change_within_the_factor_is_none_even_if_it_is_certain():
    assert paired([1.0] * 20, [FACTOR - 0.01] * 20).change is Change.SAME


def test_a_large_ratio_with_an_interval_about_one_is_ambiguous():
    assert paired([1.0] * 9, [0.5, 1.6] * 4 + [1.6]).change is Change.AMBIGUOUS


def test_too_few_pairs_prove_nothing():
    assert paired([1.0, 1.0, 1.0], [1.3, 1.4, 1.5]).change is Change.AMBIGUOUS


def test_the_least_number_of_pairs_is_enough_for_a_clear_change():
    old, new = noisy(LEAST, 1.5)
    assert paired(old, new).change is Change.WORSE
    assert paired(old[1:], new[1:]).change is Change.AMBIGUOUS


def test_figures_that_never_vary_need_one_pair():
    assert paired([100.0], [130.0]).change is Change.WORSE
    assert paired([100.0], [100.0]).change is Change.SAME


def test_rates_are_better_when_they_grow():
    assert paired([1.0] * 8, [1.3] * 8, higher_is_better=True).change is Change.BETTER


@pytest.mark.parametrize(
    ("old", "new", "change"), [(0.0, 0.0, Change.SAME), (0.0, 8.0, Change.WORSE), (8.0, 0.0, Change.BETTER)]
)
def test_nothing_at_all_can_be_compared(old, new, change):
    assert paired([old], [new]).change is change


@pytest.mark.parametrize(("old", "new"), [([1.0], [1.0, 2.0]), ([], [])])
def test_samples_that_are_no_pairs_are_refused(old, new):
    with pytest.raises(UsageError, match="no pairs"):
        paired(old, new)


def test_the_same_samples_give_the_same_interval():
    assert paired(*noisy(12)) == paired(*noisy(12))
