"""Relative errors: what counts as the size of an output."""

import math

import pytest
import torch
from equiharness.harness.claim.scale import LEAST_SHARE, Scale
from equiharness.harness.fields.domains import Vector
from equiharness.harness.fields.field import Field, Invariant


def rows(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_only_the_part_that_depends_on_the_input_counts():
    y = rows([1.0, 0.0], [-1.0, 0.0])
    assert torch.allclose(Scale.of(Invariant(), y + 1e6).euclidean, Scale.of(Invariant(), y).euclidean)


def test_the_scale_is_the_deviation_from_the_mean():
    scale = Scale.of(Invariant(), rows([3.0, 4.0], [-3.0, -4.0]))
    assert scale.euclidean.tolist() == [[5.0], [5.0]]
    assert scale.largest.tolist() == [[4.0], [4.0]]


def test_a_dead_sample_is_measured_against_a_thousandth_of_the_others():
    y = rows([0.0], [0.0], [2.0], [-2.0])
    scale = Scale.of(Invariant(), y)
    assert scale.euclidean[0, 0] == pytest.approx(LEAST_SHARE * math.sqrt(2))
    assert float(scale.relative(rows([1e-3], [0], [0], [0])).max()) == pytest.approx(1 / math.sqrt(2))


@pytest.mark.parametrize("value", [0.1, 1e-20, 1e20, 1 / 3])
def test_a_constant_output_has_exactly_no_scale(value):
    assert Scale.of(Invariant(), torch.full((4, 3), value, dtype=torch.float64)).euclidean.max() == 0


def test_nothing_over_nothing_is_nothing_and_something_over_nothing_is_infinite():
    scale = Scale.of(Invariant(), torch.ones(2, 1, dtype=torch.float64))
    assert scale.relative(rows([0.0], [1e-300])).tolist() == [[0.0], [math.inf]]


def test_nan_stays_nan():
    for y in (torch.ones(2, 1, dtype=torch.float64), rows([1.0], [-1.0])):
        assert Scale.of(Invariant(), y).relative(rows([math.nan], [0.0])).isnan().tolist() == [[True], [False]]


def test_rounding_of_a_summand_that_never_varies_says_nothing():
    scale = Scale.of(Invariant(), torch.ones(2, 1, dtype=torch.float64))
    assert scale.rounding(rows([1.0], [1.0])).tolist() == [[0.0], [0.0]]


def test_a_small_summand_is_not_hidden_by_a_large_one():
    field = Field(Vector(), "C4", "2*trivial")
    scale = Scale.of(field, rows([1e4, 1.0], [-1e4, -1.0]))
    assert scale.relative(rows([0.0, 0.5], [0.0, 0.0])).tolist() == [[0.0, 0.5], [0.0, 0.0]]


def test_centred_errors_drop_what_all_samples_share():
    scale = Scale.of(Invariant(), rows([1.0], [-1.0]))
    assert scale.centred(rows([5.0], [5.0])).max() == 0
    assert scale.centred(rows([0.5], [-0.5])).max() == 0.5


def test_the_max_norm_counts_the_amplification_of_the_action():
    scale = Scale.of(Invariant(), rows([1.0], [-1.0]))
    assert scale.relative_max(rows([1.0], [0.0]), amplification=2.0).max() == 0.5


@pytest.mark.parametrize("factor", [1e-20, 1e20, 1e-150])
def test_relative_errors_do_not_depend_on_units(factor):
    y, difference = rows([1.0, 2.0], [3.0, -1.0]), rows([0.1, 0.0], [0.0, 0.2])
    expected = Scale.of(Invariant(), y).relative(difference)
    assert torch.allclose(Scale.of(Invariant(), y * factor).relative(difference * factor), expected, rtol=1e-12)
