"""Validity maps: the law is found from verdicts alone, and misaligned geometries are marked."""

import equiharness as eh
import pytest
import torch
from equiharness.harness.errors import UsageError
from equiharness.harness.records.validity import Geometry, Point, read_maps, write_maps
from equiharness.impls.validity import layers
from equiharness.suites.survey.angles import errors_by_angle
from equiharness.suites.survey.validity import find_law, sweep, validity_map

SMALL = {"sizes": (6, 7, 8), "kernels": (3, 4), "strides": (1, 2, 3), "paddings": (0, 1)}
LAYERS = {f"{layer.library}.{layer.name}": layer for layer in layers()}


def mapped(name, **axes):
    layer = LAYERS[name]
    return validity_map(layer.name, layer.library, layer.build, sweep(**{**layer.axes, **axes}))


@pytest.mark.parametrize(
    "name",
    ["equiharness.GroupConv", pytest.param("equiharness.VectorLift", marks=pytest.mark.deep), "escnn.R2Conv"],
)
def test_the_law_of_convolutions_is_found_from_data_alone(name):
    pytest.importorskip(name.partition(".")[0])
    found = mapped(name, **SMALL)
    assert found.law.text == "(N + 2p - k) mod s = 0"
    assert found.law.agree == found.law.of > 25
    assert not found.law.equals


def test_an_even_box_with_stride_two_is_broken():
    found = mapped("equiharness.LiftingConv", sizes=(8, 9), kernels=(3,), strides=(2,), paddings=(1,))
    assert [p.verdict for p in found.points] == ["BROKEN", "EXACT"]


def test_an_output_padding_of_one_is_broken():
    axes = {"sizes": (4, 5), "kernels": (3,), "strides": (2, 3), "paddings": (1,), "output_paddings": (0, 1)}
    for name in ("equiharness.TransposedGroupConv", "escnn.R2ConvTransposed"):
        pytest.importorskip(name.partition(".")[0])
        found = mapped(name, **axes)
        assert all(p.holds is (p.geometry.output_padding == 0) for p in found.points), name
        assert found.law.text == "(q) mod s = 0"


def test_layers_that_take_every_box_always_hold():
    for name in ("equiharness.AntialiasedPool", "equiharness.Upsample"):
        assert mapped(name).law.text == "always"


def test_every_layer_of_ours_with_a_window_is_mapped():
    from equiharness import kernels

    windows = {n for n in kernels.__all__ if n.endswith("Conv") and not n.startswith(("S2", "SO3"))}
    windows |= {"VectorLift", "VectorProjection", "AntialiasedPool", "Upsample"}
    windows -= {"FusedSeparableConv"}  # has the window of the separable layer that it is made of
    assert windows <= {layer.name for layer in LAYERS.values() if layer.library == "equiharness"}


def test_a_geometry_that_a_layer_refuses_is_skipped_and_not_counted():
    def build(at):
        raise ValueError("no such geometry")

    with pytest.raises(UsageError, match="No geometry has a decided verdict"):
        validity_map("none", "mine", build, [Geometry(8)])


def test_maps_are_kept_and_read_back(tmp_path):
    found = mapped("equiharness.AntialiasedPool")
    write_maps(tmp_path / "maps.json", [found])
    assert read_maps(tmp_path / "maps.json") == [found]
    (tmp_path / "broken.json").write_text("[{}]")
    with pytest.raises(UsageError, match="holds no validity maps"):
        read_maps(tmp_path / "broken.json")


def points(rule, **axes):
    return [Point(g, "EXACT" if rule(g) else "BROKEN") for g in sweep(**axes)]


def test_other_laws_are_found_too():
    assert find_law(points(lambda g: (g.size - 1) % g.stride == 0)).text == "(N - 1) mod s = 0"
    assert find_law(points(lambda g: (2 * g.padding + g.kernel) % g.stride == 0)).text == "(2p + k) mod s = 0"
    assert find_law(points(lambda g: g.size % 2 == 1, kernels=(None,), strides=(None,), paddings=(None,))).text == (
        "(N + 1) mod 2 = 0"
    )
    assert find_law(points(lambda g: False)).text == "never"


def test_rotations_by_quarter_turns_are_exact_and_others_are_not():
    quarter, eighth = errors_by_angle(lambda x: x[..., ::2, ::2], 17, [90, 45])
    assert quarter.error == 0
    assert 1e-3 < eighth.error < 1
    assert eighth.gain > 1


def test_a_wider_blur_turns_better():
    from equiharness.kernels import AntialiasedPool

    narrow, wide = (errors_by_angle(AntialiasedPool("C4", sigma=sigma), 33, [30])[0].error for sigma in (0.33, 1.5))
    assert wide < narrow


def test_a_subsampling_that_is_off_centre_is_far_from_exact_at_quarter_turns():
    [quarter] = errors_by_angle(lambda x: torch.nn.functional.avg_pool2d(x, 2), 33, [90])
    assert quarter.error > 1e-2
    assert eh.Verdict.BROKEN.fails
