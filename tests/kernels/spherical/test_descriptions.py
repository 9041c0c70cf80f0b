"""What grids say of themselves, and how they are drawn."""

import sys

import numpy as np
import pytest
from equiharness import kernels as k


def test_the_published_grid_repeats_points_and_its_rank_says_so():
    published = k.so3_near_identity(compatible=True).describe(8, rtol=1e-5)
    assert (published.points, published.distinct, published.seen[0].rank) == (192, 168, 149)
    assert k.so3_near_identity().describe(8).distinct == 192


def test_rank_grows_with_the_bandwidth_up_to_the_points():
    ranks = [seen.rank for seen in k.s2_near_identity().describe(2, 4, 8, 16).seen]
    assert ranks == sorted(ranks)
    assert ranks[0] == 4  # all the coefficients that there are
    assert ranks[-1] == 24


def test_points_closer_than_the_band_resolves_cost_rank():
    near, far = (k.s2_near_identity(max_beta=radius, n_beta=1).describe(8).seen[0].rank for radius in (0.01, 0.8))
    assert near < far == 8


def test_a_ring_one_sample_away_is_three_samples_across():
    b = 8
    assert k.s2_near_identity(max_beta=np.pi / (2 * b), n_beta=1).describe(b).seen[0].size == pytest.approx(3)


def test_half_the_bandwidth_and_twice_max_beta_keep_the_size():
    sizes = [k.s2_near_identity(max_beta=np.pi / b).describe(b).seen[0].size for b in (16, 8, 4)]
    assert sizes == pytest.approx([5, 5, 5])


def test_one_point_under_many_names_is_one_point():
    poles = [[0.0, 0.0], [0.0, 1.0], [np.pi, 2.0], [np.pi, 0.5], [1.0, 0.1], [1.0, 0.1 + 2 * np.pi]]
    assert k.KernelGrid(poles).describe(2).distinct == 3
    turns = [[0.0, 0.3, 0.4], [0.0, 0.7, 0.0], [0.0, 0.7, 0.1], [1.0, 0.2, 0.3], [1.0, 0.2, 0.3 - 2 * np.pi]]
    assert k.KernelGrid(turns).describe(2).distinct == 3


def test_a_description_reads_as_a_few_lines():
    text = str(k.s2_equatorial(n_alpha=16).describe(4, 8))
    assert text.splitlines()[0] == "s2_equatorial: 16 points on S2, 16 distinct, on 1 ring at 90.0 degrees"
    assert len(text.splitlines()) == 3


def test_bandwidths_are_checked():
    with pytest.raises(ValueError, match="at least 1"):
        k.s2_near_identity().describe(0)


def placed(axes):
    """Where the points are drawn: of the lines, those with dots."""
    return np.concatenate([np.stack(line.get_data(), 1) for line in axes.lines if line.get_marker() == "."])


def test_a_drawing_from_above_the_pole_has_every_point_at_the_sine_of_its_colatitude():
    grid = k.s2_near_identity(max_beta=0.6, n_beta=2)
    found = np.linalg.norm(placed(grid.plot(view=(0.0, 0.0))), axis=1)
    np.testing.assert_allclose(np.sort(found), np.sort(np.sin(grid.points[:, 0])), atol=1e-12)


def test_the_point_below_the_eye_is_in_the_middle_and_north_is_up():
    axes = k.KernelGrid([[0.9, 0.4], [0.5, 0.4]]).plot(view=(0.9, 0.4))
    middle, north = placed(axes)
    np.testing.assert_allclose(middle, 0, atol=1e-12)
    np.testing.assert_allclose(north, [0, np.sin(0.4)], atol=1e-12)


def test_what_lies_behind_is_faint():
    axes = k.KernelGrid([[0.1, 0.0], [3.0, 0.0]]).plot(view=(0.0, 0.0))
    strength = {line.get_alpha() for line in axes.lines if line.get_marker() == "." and len(line.get_xdata())}
    assert strength == {0.25, 1.0}


def test_rotations_have_a_tick_each():
    grid = k.so3_near_identity(n_alpha=4, n_beta=1)
    ticks = [line for line in grid.plot().lines if line.get_color() == "C1"]
    assert sum(np.isnan(line.get_xdata()).sum() for line in ticks) == len(grid)


def test_it_draws_on_given_axes():
    axes = k.s2_soft(2).plot()
    assert k.s2_near_identity().plot(axes) is axes


def test_without_matplotlib_the_message_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'equiharness\[report\]'"):
        k.s2_near_identity().plot()
