"""Signals on the sphere as pictures: the map, and what an eye sees in front of the sphere and behind it."""

import math

import numpy as np
import pytest
from equiharness.harness.records.lines import Attachment, Panel, RotatedView
from equiharness.reports.globes import VIEW, globe, opposite, pictured
from equiharness.reports.pictures import figure_of, strip_of

ROWS, COLUMNS = 90, 180


def heights():
    """z at every sample: the north pole is 1."""
    beta = np.pi * (np.arange(ROWS) + 0.5) / ROWS
    return np.cos(beta)[:, None] * np.ones(COLUMNS)


def longitudes():
    return np.arange(COLUMNS)[None] * np.ones((ROWS, 1))


def test_north_is_up_and_the_rim_is_round():
    seen = globe(np, heights(), 101, (math.pi / 2, 0.0))
    assert seen[:, 50] == pytest.approx(np.cos(np.arccos((50 - np.arange(101)) / 50.5)), abs=0.03)
    assert np.isfinite(seen).mean() == pytest.approx(math.pi / 4, abs=0.01)
    assert np.isnan(seen[0, 0])


def test_east_is_to_the_right():
    seen = globe(np, longitudes(), 101, (math.pi / 2, math.pi / 2))
    assert seen[50, 50] == COLUMNS / 4
    assert seen[50, 40] < COLUMNS / 4 < seen[50, 60]


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0, 2.5])
@pytest.mark.parametrize("alpha", [0.0, 2.0, 5.0])
def test_the_point_below_the_eye_is_in_the_middle(beta, alpha):
    rows, columns = heights(), longitudes()
    assert globe(np, rows, 101, (beta, alpha))[50, 50] == pytest.approx(math.cos(beta), abs=0.02)
    if beta:
        assert globe(np, columns, 101, (beta, alpha))[50, 50] == pytest.approx(alpha / (2 * math.pi) * COLUMNS, abs=1)


def test_both_views_together_show_every_sample():
    numbered = np.arange(8.0 * 16).reshape(8, 16)
    below = pictured(np, numbered)[96:]
    assert set(np.unique(below.compressed())) == set(numbered.flat)
    one = globe(np, numbered, 96, VIEW)
    assert len(np.unique(one[np.isfinite(one)])) < numbered.size
    assert opposite(opposite(VIEW))[0] == pytest.approx(VIEW[0])


def test_the_map_has_the_first_angle_at_its_left_edge_and_is_twice_as_wide_as_high():
    picture = pictured(np, np.arange(4.0)[:, None] * np.ones(8), side=16)
    assert picture.shape == (32, 32)
    assert picture[:16, 0].tolist() == np.repeat(np.arange(4.0), 4).tolist()


def test_what_is_not_a_number_is_masked_like_the_outside():
    array = heights()
    array[: ROWS // 2] = np.inf
    assert pictured(np, array)[:48].mask.all()


@pytest.mark.parametrize(("kind", "shape"), [("sphere", (192, 192)), ("rotations", (8, 16)), ("plane", (8, 16))])
def test_figures_of_a_report_draw_spheres_round_and_all_else_as_it_is(kind, shape):
    panel = Panel.of("x", 8, 16, np.arange(128, dtype="<f4").tobytes(), kind)
    attachment = Attachment(
        id="a", element="g", panels=(panel,), rotated=(RotatedView(element="g", moved=panel, stabilised=panel),)
    )
    for figure in (figure_of(attachment), strip_of(attachment)):
        for axes in figure.axes:
            [image] = axes.images
            assert image.get_array().shape == shape
            assert image.get_array().max() == 1
