"""Validity maps of layers that are wrong, and laws that the data contradict, are told as such."""

import equiharness as eh
import pytest
import torch
import torch.nn.functional as F
from equiharness.harness.claim.claim import Claim
from equiharness.harness.records.validity import Point
from equiharness.kernels import LiftingConv
from equiharness.suites.survey.validity import find_law, sweep, validity_map

AXES = {"sizes": (6, 7), "kernels": (3, 4), "strides": (1, 2), "paddings": (0, 1)}


def build(call):
    """The claim of a lifting whose input or output ``call`` may spoil."""

    def claim(at):
        torch.manual_seed(0)
        layer = LiftingConv("C4", 1, 1, at.kernel, stride=at.stride, padding=at.padding, allow_misaligned=True)
        source = eh.Field(eh.Grid(at.size, at.size), "C4", "trivial")
        y = call(layer, torch.zeros(1, *source.tensor_shape(1)[1:]))
        return Claim(lambda x: call(layer, x), source.group, source, eh.Field(eh.Grid(*y.shape[-2:]), "C4", "regular"))

    return claim


def law(call):
    return validity_map("layer", "mine", build(call), sweep(**AXES)).law.text


def test_the_sound_layer_follows_the_law_of_convolutions():
    assert law(lambda layer, x: layer(x)) == "(N + k) mod s = 0"  # with strides 1 and 2, 2p - k and k are one


def test_a_padding_on_one_side_holds_nowhere():
    assert law(lambda layer, x: layer(F.pad(x, (1, 0, 1, 0)))[..., :-1, :-1]) == "never"


def test_a_wrong_channel_order_holds_nowhere():
    assert law(lambda layer, x: layer(x)[:, :, [0, 2, 1, 3]]) == "never"


def test_a_padding_that_a_layer_adds_in_secret_contradicts_every_law():
    def spoiled(layer, x):
        return layer(F.pad(x, (0, 1, 0, 1)) if x.shape[-1] % 2 else x)

    found = validity_map("layer", "mine", build(spoiled), sweep(**AXES)).law
    assert found.agree < found.of


@pytest.mark.parametrize("flips", [1, 5])
def test_a_law_that_some_points_contradict_is_given_with_its_count(flips):
    points = [Point(g, "EXACT" if (g.size + 2 * g.padding - g.kernel) % g.stride == 0 else "BROKEN") for g in sweep()]
    wrong = [Point(p.geometry, "BROKEN" if p.holds else "EXACT") for p in points[:flips]]
    found = find_law([*wrong, *points[flips:]])
    assert found.agree < found.of == len(points)
