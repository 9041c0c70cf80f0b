"""Wigner matrices have the sign convention of the design note and are accurate at every angle and degree."""

import numpy as np
import pytest
import torch
from equiharness import kernels as k
from scipy.linalg import expm
from scipy.special import sph_harm_y


@pytest.mark.parametrize("l", range(7))
def test_small_d_is_wigners_sum(explicit_d, l):
    betas = np.concatenate([[0.0, 1e-9, np.pi / 2, np.pi - 1e-9, np.pi], np.linspace(0.1, 3.0, 7)])
    np.testing.assert_allclose(k.wigner_d(l, betas).numpy(), explicit_d(l, betas), atol=2e-14)


@pytest.mark.parametrize("l", [1, 5, 20])
@pytest.mark.parametrize("beta", [0.3, -2.0, 4.0, 9.0])
def test_small_d_is_the_exponential_of_the_generator(l, beta):
    m = np.arange(-l, l)
    raising = np.diag(np.sqrt(l * (l + 1) - m * (m + 1)), -1)
    np.testing.assert_allclose(k.wigner_d(l, beta).numpy(), expm(-beta * (raising - raising.T) / 2), atol=1e-13)


@pytest.mark.parametrize("l", [63, 127])
def test_small_d_is_orthogonal_at_high_degree_also_near_the_poles(l):
    for beta in (1e-3, 0.02, 1.0, 3.1):
        d = k.wigner_d(l, beta)
        assert float((d @ d.T - torch.eye(2 * l + 1, dtype=torch.float64)).abs().max()) <= 1e-12


def test_d_1_1_0_has_sakurais_sign():
    assert float(k.wigner_d(1, 0.7)[2, 1]) == pytest.approx(-np.sin(0.7) / np.sqrt(2))


@pytest.mark.parametrize("l", range(5))
def test_big_d_is_a_representation(l):
    from equiharness.kernels.spherical.rotations import euler_angles

    a, b = (0.3, 1.2, -2.0), (2.5, 0.4, 0.9)

    def matrix(alpha, beta, gamma):
        def z(t):
            return np.array([[np.cos(t), -np.sin(t), 0], [np.sin(t), np.cos(t), 0], [0, 0, 1]])

        y = np.array([[np.cos(beta), 0, np.sin(beta)], [0, 1, 0], [-np.sin(beta), 0, np.cos(beta)]])
        return z(alpha) @ y @ z(gamma)

    product = euler_angles(torch.from_numpy(matrix(*a) @ matrix(*b)))
    expected = k.wigner_D(l, *a) @ k.wigner_D(l, *b)
    assert torch.allclose(k.wigner_D(l, *product), expected, atol=1e-13)


def test_column_zero_is_the_spherical_harmonics():
    l, alpha, beta = 4, 0.7, 1.9
    column = k.wigner_D(l, alpha, beta, 0.0)[:, l].numpy()
    harmonics = np.array([sph_harm_y(l, m, beta, alpha) for m in range(-l, l + 1)])
    np.testing.assert_allclose(column, np.sqrt(4 * np.pi / (2 * l + 1)) * harmonics, atol=1e-14)


def test_angles_broadcast():
    D = k.wigner_D(2, torch.zeros(3, 1), torch.linspace(0, 1, 4), 0.0)
    assert D.shape == (3, 4, 5, 5)


def test_a_negative_degree_is_refused():
    with pytest.raises(ValueError, match="at least 0"):
        k.wigner_d(-1, 0.0)
