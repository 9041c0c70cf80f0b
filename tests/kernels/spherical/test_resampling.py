"""Pictures onto the sphere and back, against polynomials in (x, y, z), which are known everywhere."""

import math

import numpy as np
import pytest
import torch
from equiharness.kernels import (
    from_equirectangular,
    from_plane,
    quadrature_weights,
    s2_fft,
    s2_ifft,
    s2_resample,
    s2_rotate,
    to_equirectangular,
    to_plane,
)
from equiharness.kernels.spherical.panoramas import fejer_weights

# Every value is a sum of fewer than a thousand products of numbers of order one.
ROUNDING = 1e3 * np.finfo(np.float64).eps
EXTENTS = [("stereographic", 1.4), ("gnomonic", 1.1), ("equidistant", 1.5)]


def polynomial(x, y, z):
    """Degree 3, of no symmetry: exactly band-limited at b = 4."""
    return torch.from_numpy(1 + 2 * x - y + 0.5 * x * y - z**2 + 3 * x * y * z + 2 * y**3)


def direction(beta, alpha):
    return np.sin(beta) * np.cos(alpha), np.sin(beta) * np.sin(alpha), np.cos(beta)


def on_soft(b, function=polynomial):
    beta, alpha = np.meshgrid(np.pi * (2 * np.arange(2 * b) + 1) / (4 * b), np.pi * np.arange(2 * b) / b, indexing="ij")
    return function(*direction(beta, alpha))


def on_pixels(height, width, function=polynomial):
    beta = np.pi * (np.arange(height) + 0.5) / height
    alpha = 2 * np.pi * (np.arange(width) + 0.5) / width
    return function(*direction(*np.meshgrid(beta, alpha, indexing="ij")))


def noise(b, *lead, seed=0):
    return s2_ifft(
        torch.randn(*lead, b * b, dtype=torch.complex128, generator=torch.Generator().manual_seed(seed)),
    )


def relative(found, wanted):
    return ((found - wanted).norm() / wanted.norm()).item()


# Panoramas


@pytest.mark.parametrize(("height", "width"), [(7, 7), (8, 16), (9, 31), (32, 8)])
@pytest.mark.parametrize("b", [4, 6])
def test_a_panorama_of_any_size_becomes_the_function_it_shows(height, width, b):
    assert relative(from_equirectangular(on_pixels(height, width), b), on_soft(b)) < ROUNDING


@pytest.mark.parametrize(("height", "width"), [(7, 7), (12, 24), (64, 9)])
def test_a_signal_is_shown_as_the_function_that_it_samples(height, width):
    assert relative(to_equirectangular(on_soft(5), height, width), on_pixels(height, width)) < ROUNDING


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, ROUNDING), (torch.float32, 1e-5)])
def test_a_band_limited_panorama_survives_the_way_there_and_back_at_twice_its_bandwidth(dtype, bound):
    panorama = to_equirectangular(noise(16, 3), 64).to(dtype)
    assert relative(to_equirectangular(from_equirectangular(panorama, 32), 64), panorama) < bound


def test_detail_that_the_grid_cannot_hold_leaves_no_alias():
    detail = s2_fft(noise(24))
    detail[: 16 * 16] = 0
    panorama = to_equirectangular(s2_ifft(detail), 64)
    assert from_equirectangular(panorama, 8).abs().max() < ROUNDING * panorama.abs().max()
    picked = panorama[2::4, ::8]
    assert picked.abs().max() > 0.1 * panorama.abs().max()  # what picking pixels takes for signal


def test_degrees_that_the_picture_cannot_hold_are_zero():
    spectrum = s2_fft(from_equirectangular(torch.rand(5, 9, dtype=torch.float64), 8))
    assert spectrum[: 3 * 3].abs().max() > 0.1
    assert spectrum[3 * 3 :].abs().max() < ROUNDING


def test_rotating_what_the_panorama_shows_rotates_the_signal(random_rotation):
    Q, scene = random_rotation(1), noise(20)
    first = from_equirectangular(to_equirectangular(s2_rotate(scene, Q), 48), 12)
    assert relative(first, s2_rotate(from_equirectangular(to_equirectangular(scene, 48), 12), Q)) < ROUNDING


def test_a_large_photograph_in_three_channels_reaches_bandwidth_64():
    signal = from_equirectangular(torch.ones(3, 512, 1024), 64)
    torch.testing.assert_close(signal, torch.ones(3, 128, 128), rtol=0, atol=1e-4)


def test_rows_of_pixels_are_integrated_exactly_whatever_their_number():
    for count in (1, 2, 5, 8):
        cosine = np.cos(np.pi * (np.arange(count) + 0.5) / count)
        for degree in range(count):
            mean = 0.0 if degree % 2 else 1 / (degree + 1)
            assert fejer_weights(count) @ cosine**degree == pytest.approx(mean, abs=ROUNDING)


def test_on_the_soft_grid_the_rule_of_the_pixels_is_the_quadrature_of_the_transforms():
    np.testing.assert_allclose(fejer_weights(12), 144 * quadrature_weights(6).numpy(), atol=ROUNDING)


# Planes


def unit_vectors(height, width, projection, extent):
    """Where the pixel centres lie, by the geometry of each projection rather than by formulas in beta."""
    edge = {"stereographic": 2 * math.tan(extent / 2), "gnomonic": math.tan(extent), "equidistant": extent}[projection]
    pitch = 2 * edge / min(height, width)
    x, y = (np.arange(width) - (width - 1) / 2) * pitch, -(np.arange(height) - (height - 1) / 2) * pitch
    x, y = np.meshgrid(x, y)
    square = x**2 + y**2
    if projection == "gnomonic":  # along the ray from the centre of the sphere
        return np.stack([x, y, np.ones_like(x)]) / np.sqrt(1 + square)
    if projection == "stereographic":  # along the ray from the south pole to the plane z = 1
        t = 4 / (square + 4)
        return np.stack([t * x, t * y, 2 * t - 1])
    return np.stack([np.sinc(np.sqrt(square) / np.pi) * c for c in (x, y)] + [np.cos(np.sqrt(square))])


@pytest.mark.parametrize(("projection", "extent"), EXTENTS)
@pytest.mark.parametrize(("height", "width"), [(16, 16), (15, 22)])
def test_a_flat_picture_shows_the_function_that_the_signal_samples(height, width, projection, extent):
    wanted = polynomial(*unit_vectors(height, width, projection, extent))
    assert relative(to_plane(on_soft(4), height, width, projection, extent), wanted) < ROUNDING


def bump(x, y, z):
    """Smooth, negligible beyond 0.7 from its centre."""
    centre = np.array([0.25, -0.1, math.sqrt(1 - 0.25**2 - 0.1**2)])
    return torch.from_numpy(np.exp(30 * (centre[0] * x + centre[1] * y + centre[2] * z - 1)))


@pytest.mark.parametrize(("projection", "extent"), EXTENTS)
def test_interpolation_of_a_flat_picture_is_of_third_order(projection, extent):
    wanted = s2_resample(on_soft(64, bump), 12)
    errors = []
    for size in (24, 48):
        flat = bump(*unit_vectors(size, size, projection, extent))
        errors.append(relative(from_plane(flat, 12, projection, extent), wanted))
    assert errors[1] < 2e-3
    assert errors[0] / errors[1] > 6  # 8 in the limit


@pytest.mark.parametrize(("projection", "extent"), EXTENTS)
def test_a_smooth_flat_picture_survives_the_way_there_and_back(projection, extent):
    flat = bump(*unit_vectors(64, 64, projection, extent))
    assert relative(to_plane(from_plane(flat, 24, projection, extent), 64, None, projection, extent), flat) < 1e-3


def test_turning_a_picture_is_turning_about_the_pole():
    x = noise(6)
    quarter = torch.tensor([math.pi / 2, 0.0, 0.0], dtype=torch.float64)
    shown = to_plane(torch.stack([x, s2_rotate(x, quarter)]), 20)
    assert relative(shown[1], torch.rot90(shown[0])) < ROUNDING


def test_up_in_a_picture_is_alpha_a_quarter_turn_and_right_is_alpha_zero():
    flat = torch.zeros(2, 9, 9, dtype=torch.float64)
    flat[0, 1, 4], flat[1, 4, 7] = 1.0, 1.0
    up, right = from_plane(flat, 8).flatten(1).argmax(1) % 16
    assert (up, right) == (4, 0)


def test_detail_of_a_flat_picture_leaves_no_alias():
    flat = torch.zeros(64, 64, dtype=torch.float64)
    flat[16:48, 16:48] = 1 - 2 * ((torch.arange(32)[:, None] + torch.arange(32)) % 2)
    signal = from_plane(flat, 8)
    assert signal.abs().max() < 0.01


def test_beyond_the_sphere_there_is_nothing_to_see():
    shown = to_plane(torch.ones(8, 8, dtype=torch.float64), 11, 11, "equidistant", math.pi)
    assert shown[0, 0] == 0
    assert shown[5, 5] == pytest.approx(1)


# Both


@pytest.mark.parametrize(
    "function",
    [
        lambda x: from_equirectangular(x, 2),
        lambda x: to_equirectangular(x, 3, 5),
        lambda x: from_plane(x, 2, extent=1.0),
        lambda x: to_plane(x, 3, 2),
    ],
    ids=["from_equirectangular", "to_equirectangular", "from_plane", "to_plane"],
)
def test_derivatives_of_every_order(function):
    x = torch.rand(2, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(function, x)
    assert torch.autograd.gradgradcheck(lambda x: function(x).square(), x)


@pytest.mark.parametrize("function", [from_equirectangular, from_plane])
def test_leading_axes_and_dtype_stay(function):
    assert function(torch.rand(2, 0, 6, 8), 3).shape == (2, 0, 6, 6)
    assert function(torch.rand(2, 3, 6, 8), 3).dtype == torch.float32
    batch = torch.rand(4, 6, 8, dtype=torch.float64)
    torch.testing.assert_close(function(batch, 3)[2], function(batch[2], 3))


@pytest.mark.parametrize("function", [from_equirectangular, from_plane])
def test_bad_pictures_say_what_to_do(function):
    with pytest.raises(TypeError, match="float"):
        function(torch.zeros(8, 8, dtype=torch.uint8), 4)
    with pytest.raises(ValueError, match="at least one pixel"):
        function(torch.zeros(8), 4)
    with pytest.raises(ValueError, match="at least 1"):
        function(torch.zeros(8, 8), 0)


def test_bad_projections_say_what_to_do():
    image = torch.zeros(8, 8)
    with pytest.raises(ValueError, match="stereographic, gnomonic, equidistant"):
        from_plane(image, 4, "mercator")
    with pytest.raises(ValueError, match="reaches further"):
        from_plane(image, 4, "gnomonic")
    with pytest.raises(ValueError, match=r"below 3\.14"):
        to_plane(image, 4, projection="stereographic", extent=math.pi)
    with pytest.raises(ValueError, match="height"):
        to_equirectangular(image, 0)
