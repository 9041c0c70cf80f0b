"""The truths of the blind set of layers off the grid, measured by lines that no rule of the harness has a part in."""

import warnings
from collections import Counter

import pytest
import torch
from equiharness.harness.claim.claim import Claim
from equiharness.suites.check import run_property
from zoo.off_grid_layers import LAYERS
from zoo.off_grid_truths import measured, sees_border

pytestmark = pytest.mark.filterwarnings("ignore")

#: Of a wrong layer: the least part of a wrong action's error, at 96 pixels, and the least error on constants.
LEAST_SHARE, LEAST_ON_CONSTANTS = 0.05, 1e-4
#: Of a sound layer: the largest part at 96 pixels, and the largest error of tables in float32.
LARGEST_SHARE, TABLES = 0.01, 1e-5
#: At four times the wavelength a sound layer's part has fallen to this much of it, or below this number.
FALLS, LEVEL = 0.7, 3e-4


#: Layers that take a second and more even on two elements.
SLOW = {
    "rings of frequencies 0 to 3 between regular fields of C6",
    "rings of frequencies 0 to 3 lifted to C16",
    "network: the second layer of C6 with the wrong table",
    "network: the first layer of C8 off by 15 degrees",
}


def layers(*truths):
    return [pytest.param(layer, id=layer.name) for layer in LAYERS if layer.truth in truths]


def quick_layers():
    for layer in LAYERS:
        if layer.truth != "beside":
            yield pytest.param(layer, id=layer.name, marks=pytest.mark.deep if layer.name in SLOW else ())


def pieces_of(layer):
    if layer.needs is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pytest.importorskip(layer.needs)
    return layer.pieces()


def require_truth(layer, errors):
    if layer.truth == "sound":
        assert errors.share < LARGEST_SHARE, errors
        assert max(errors.constants, errors.grid) < TABLES, errors
    elif layer.shows == "constants":
        assert errors.constants > LEAST_ON_CONSTANTS, errors
    else:
        assert errors.share > LEAST_SHARE, errors


def test_the_set_holds_eighty_of_each_truth_and_names_none_twice():
    assert Counter(layer.truth for layer in LAYERS if layer.truth != "beside") == {"sound": 80, "wrong": 80}
    assert len({layer.name for layer in LAYERS}) == len(LAYERS)
    assert {layer.truth for layer in LAYERS} == {"sound", "wrong", "beside"}
    assert all(layer.why.endswith(".") for layer in LAYERS)


@pytest.mark.parametrize("layer", list(quick_layers()))
def test_a_layer_is_what_its_construction_says(layer):
    pieces = pieces_of(layer)
    assert not sees_border(pieces)
    require_truth(layer, measured(pieces, most=2))


@pytest.mark.deep
@pytest.mark.parametrize("layer", layers("sound", "wrong"))
def test_it_is_so_at_every_element_and_a_sound_one_gets_better_with_longer_waves(layer):
    pieces = pieces_of(layer)
    errors = measured(pieces)
    require_truth(layer, errors)
    if layer.truth == "sound":
        longer = measured(pieces, 4 * 96.0)
        assert longer.share < max(FALLS * errors.share, LEVEL), (errors, longer)


@pytest.mark.parametrize("layer", layers("beside"))
def test_a_layer_beside_the_question_has_the_symmetry_of_the_grid(layer):
    assert measured(pieces_of(layer), most=2).grid < 1e-3


@pytest.mark.deep
@pytest.mark.parametrize("layer", layers("sound", "wrong", "beside"))
def test_a_layer_is_the_same_each_time_and_makes_a_claim_in_both_precisions(layer):
    pieces, again = pieces_of(layer), pieces_of(layer)
    x = torch.randn(pieces.source.tensor_shape(2), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(pieces.function(x), again.function(x))
    for dtype in (torch.float64, torch.float32):
        claim = layer.claim(dtype)
        assert isinstance(claim, Claim)
        with torch.no_grad():
            y = claim.function(claim.draw(2).to(dtype))
        assert y.dtype is dtype
        claim.target.require_fit(y, "The output")


CHECKED = {
    "escnn C8 trivial to regular, kernel 5, stride 1": "EXACT",
    "rings of frequencies 0 to 3 lifted to D8 at stride 2": "EXACT",
    "C8 filters rotated by 6 degrees too much, kernel 7": "EXACT",
    "ReLU of vectors under SO(2)": "BROKEN",
    "Conv3d claimed for SO(3)": "BROKEN",
}


@pytest.mark.parametrize("layer", [layer for layer in layers("sound", "wrong") if layer.id in CHECKED])
def test_a_check_takes_a_layers_claim_as_it_is(layer):
    pieces_of(layer)
    assert run_property("equivariance", layer.claim()).result.verdict.value == CHECKED[layer.name]
