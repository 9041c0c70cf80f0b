"""Commuting diagrams, and what becomes of them where space is moved and the fibre is not."""

import equiharness as eh
import numpy as np
import pytest
import torch
from equiharness.harness.claim.claim import Claim
from equiharness.kernels import LiftingConv
from equiharness.suites.forward.equivariance import equivariance

TITLES = ["x", "g x", "f(x)", "g f(x)", "f(g x)", "f(g x) - g f(x)"]
ASIDE = ["space alone", "f(g x) - space alone", "g on the fibre"]


def panels(function, target):
    source = eh.Field(eh.Grid(7, 7), "C4", "trivial")
    picture = equivariance(Claim(function, "C4", source, eh.Field(eh.Grid(7, 7), "C4", target))).picture
    return {p.title: np.frombuffer(p.raw(), "<f4").reshape(p.rows, p.columns) for p in picture.panels}


def test_a_regular_output_shows_that_moving_space_alone_is_not_the_action():
    torch.manual_seed(0)
    shown = panels(LiftingConv("C4", 1, 1, 3, padding=1), "regular")
    assert list(shown) == TITLES + ASIDE
    assert np.abs(shown["f(g x) - g f(x)"]).max() == pytest.approx(0, abs=1e-5)
    assert np.abs(shown["f(g x) - space alone"]).max() > 0.1


def test_a_scalar_output_needs_no_such_picture():
    assert list(panels(torch.relu, "trivial")) == TITLES


def test_points_alone_of_a_box_that_turns_have_its_turned_shape():
    field = eh.Field(eh.Grid(3, 5), "C4", "regular")
    turn = next(g for g in field.group if field.act(g, torch.zeros(1, 4, 3, 5)).shape[-1] == 3)
    assert field.move_points_alone(turn, torch.zeros(1, 4, 3, 5)).shape == (1, 4, 5, 3)
    assert eh.Field(eh.Vector(), "C4", "regular").move_points_alone(turn, torch.zeros(1, 4)) is None


def rotated(function, target="trivial"):
    """The pictures moved back, one for each element."""
    source = eh.Field(eh.Grid(7, 7), "C4", "trivial")
    picture = equivariance(Claim(function, "C4", source, eh.Field(eh.Grid(7, 7), "C4", target))).picture
    return [np.frombuffer(turn.stabilised.raw(), "<f4") for turn in picture.rotated]


def test_the_stabilised_view_of_an_equivariant_layer_stands_still():
    torch.manual_seed(0)
    first, *rest = rotated(LiftingConv("C4", 1, 1, 3, padding=1), "regular")
    assert len(rest) == 2
    assert all(np.allclose(first, other, atol=1e-6) for other in rest)


def test_the_stabilised_view_of_a_plain_layer_moves():
    torch.manual_seed(0)
    first, *rest = rotated(torch.nn.Conv2d(1, 1, 3, padding=1))
    assert not any(np.allclose(first, other, atol=1e-2) for other in rest)


def test_only_equivariance_itself_has_a_stabilised_view():
    field = eh.Field(eh.Grid(7, 7), "C4", "trivial")
    assert equivariance(Claim(torch.relu, "C4", field, field), name="rotations").picture.rotated == ()


def test_panels_say_what_their_rows_and_columns_are():
    kinds = {
        "plane": eh.Field(eh.Grid(7, 7), "C4", "trivial"),
        "volume": eh.Field(eh.Grid(5, 5, 5), "O", "trivial"),
        "sphere": eh.Field(eh.Sphere(4), "SO3", "trivial"),
        "rotations": eh.Field(eh.Rotations(4), "SO3", "trivial"),
        "cloud": eh.Field(eh.Points(6), "SO3", "irrep(1)"),
        "channels": eh.Field(eh.Points(6), "SO3", "2*irrep(1)"),
    }
    for kind, field in kinds.items():
        picture = equivariance(Claim(lambda x: 2 * x, field.group.name, field, field)).picture
        assert {panel.kind for panel in picture.panels} - {"matrix"} == {kind}
