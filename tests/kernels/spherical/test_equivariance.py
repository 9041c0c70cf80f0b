"""Linear layers commute with random rotations to rounding; integrals are invariant; what should not hold does not."""

import pytest
import torch
from equiharness import kernels as k

BOUND = {torch.float32: 2e-5, torch.float64: 1e-12}


def relative(a, b):
    return float((a - b).detach().abs().max() / b.detach().abs().max())


def layers(b_in, b_out, alias=False):
    yield k.s2_rotate, 2, k.S2Conv(2, 3, b_in, b_out, k.s2_near_identity(), alias)
    yield k.so3_rotate, 3, k.SO3Conv(2, 3, b_in, b_out, k.so3_near_identity(n_alpha=4, n_beta=2), alias)
    yield k.so3_rotate, 3, k.SO3Shortcut(2, 3, b_in, b_out, alias)


@pytest.mark.parametrize("dtype", BOUND)
@pytest.mark.parametrize(("b_in", "b_out"), [(4, 4), (8, 4), (4, 6), (16, 16)])
def test_linear_layers_are_exact_under_random_rotations(random_rotation, b_in, b_out, dtype):
    torch.manual_seed(0)
    for rotate, axes, layer in layers(b_in, b_out):
        layer.to(dtype)
        x = torch.randn(1, 2, *(2 * b_in,) * axes, dtype=dtype)
        Q = random_rotation(b_in)
        assert relative(layer(rotate(x, Q)), k.so3_rotate(layer(x), Q)) <= BOUND[dtype]


@pytest.mark.deep
@pytest.mark.parametrize("dtype", BOUND)
def test_linear_layers_are_exact_at_b_32(random_rotation, dtype):
    for rotate, axes, layer in layers(32, 32):
        layer.to(dtype)
        x = torch.randn(1, 2, *(64,) * axes, dtype=dtype)
        Q = random_rotation(1)
        assert relative(layer(rotate(x, Q)), k.so3_rotate(layer(x), Q)) <= BOUND[dtype]


@pytest.mark.parametrize("growth", [1, 2])
def test_aliases_break_equivariance_from_growth_by_two_on(random_rotation, growth):
    torch.manual_seed(0)
    for rotate, axes, layer in layers(3, 3 + growth, alias=True):
        layer.double()
        x = rotate(torch.randn(1, 2, *(6,) * axes, dtype=torch.float64), torch.eye(3))  # band-limited
        Q = random_rotation(2)
        error = relative(layer(rotate(x, Q)), k.so3_rotate(layer(x), Q))
        assert error > 1e-3 if growth == 2 else error <= 1e-12


@pytest.mark.parametrize("dtype", BOUND)
@pytest.mark.parametrize("b", [4, 8])
def test_integrals_are_invariant_and_plain_means_are_not(random_rotation, b, dtype):
    torch.manual_seed(0)
    for rotate, integrate, axes in ((k.s2_rotate, k.s2_integrate, 2), (k.so3_rotate, k.so3_integrate, 3)):
        x = rotate(torch.randn(4, 3, *(2 * b,) * axes, dtype=dtype), torch.eye(3))
        turned = rotate(x, random_rotation(3))
        assert relative(integrate(turned), integrate(x)) <= BOUND[dtype]
        spatial = tuple(range(2, 2 + axes))
        assert relative(turned.mean(spatial), x.mean(spatial)) > 1e-3


def test_integrals_are_the_constant_coefficient():
    x = torch.randn(2, 3, 8, 8, 8, dtype=torch.float64)
    assert torch.allclose(k.so3_integrate(x), k.so3_fft(x)[..., 0].real, atol=1e-15)
    assert torch.allclose(k.s2_integrate(x[0]), k.s2_fft(x[0])[..., 0].real, atol=1e-15)


def test_rotations_compose_and_invert(random_rotation):
    x = k.so3_rotate(torch.randn(2, 8, 8, 8, dtype=torch.float64), torch.eye(3))
    P, Q = random_rotation(4), random_rotation(5)
    assert torch.allclose(k.so3_rotate(k.so3_rotate(x, Q), P), k.so3_rotate(x, P @ Q), atol=1e-12)
    assert torch.allclose(k.so3_rotate(k.so3_rotate(x, Q), Q.T), x, atol=1e-12)


def test_a_rotated_signal_is_the_signal_at_rotated_points(oracle):
    """s2_rotate moves f to f(Q^-1 .): a bump at the point p moves to Q p."""
    b, point = 6, (0.8, 1.1)
    bump = k.s2_ifft(k.s2_ft(torch.ones(1, dtype=torch.float64), [point], b))
    moved = k.s2_rotate(bump, torch.tensor([0.5, 0.0, 0.0]))  # about z by 0.5
    expected = k.s2_ifft(k.s2_ft(torch.ones(1, dtype=torch.float64), [(0.8, 1.6)], b))
    assert torch.allclose(moved, expected, atol=1e-12)


def test_matrices_quaternions_and_euler_angles_say_the_same():
    x = torch.randn(8, 8, dtype=torch.float64)
    about_y = torch.tensor([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])
    half = 0.5**0.5
    by_matrix = k.s2_rotate(x, about_y)
    assert torch.allclose(by_matrix, k.s2_rotate(x, torch.tensor([half, 0, half, 0], dtype=torch.float64)), atol=1e-13)
    quarter = torch.tensor([0.0, torch.pi / 2, 0.0], dtype=torch.float64)
    assert torch.allclose(by_matrix, k.s2_rotate(x, quarter), atol=1e-13)


@pytest.mark.parametrize("beta", [0.0, 1e-12, 1e-5, torch.pi - 1e-9, torch.pi])
def test_euler_angles_are_accurate_at_the_poles(beta):
    from equiharness.kernels.spherical.rotations import _about_y, _about_z, euler_angles

    matrix = _about_z(0.4) @ _about_y(beta) @ _about_z(1.3)
    alpha, tilt, gamma = euler_angles(torch.from_numpy(matrix))
    again = _about_z(alpha) @ _about_y(tilt) @ _about_z(gamma)
    assert abs(again - matrix).max() <= 1e-15 * 4


def test_the_mean_over_gamma_is_equivariant_and_the_slice_is_not(random_rotation):
    torch.manual_seed(0)
    x, Q = torch.randn(1, 1, 8, 8, 8, dtype=torch.float64), random_rotation(6)
    to_s2 = k.SO3ToS2()
    x = k.so3_rotate(x, torch.eye(3))
    assert relative(to_s2(k.so3_rotate(x, Q)), k.s2_rotate(to_s2(x), Q)) <= 1e-12
    assert relative(k.so3_rotate(x, Q)[..., 0], k.s2_rotate(x[..., 0], Q)) > 1e-2


def test_oversampling_cuts_the_aliases_of_relu(random_rotation):
    torch.manual_seed(0)
    x, Q = k.so3_rotate(torch.randn(1, 2, 12, 12, 12, dtype=torch.float64), torch.eye(3)), random_rotation(7)
    errors = []
    for oversample in (1, 2, 3):
        layer = k.OversampledNonlinearity(torch.relu, oversample)
        f = (lambda x, layer=layer: k.so3_resample(layer(x), 6)) if oversample == 1 else layer
        errors.append(relative(f(k.so3_rotate(x, Q)), k.so3_rotate(f(x), Q)))
    assert errors[0] > 1e-3
    assert errors[1] < 0.6 * errors[0]
    assert errors[2] < errors[1]
