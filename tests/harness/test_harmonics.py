"""Exact rotations of the band, held against polynomials in the coordinates: no harmonics in the oracle."""

import itertools
import math

import numpy as np
import pytest
import torch
from equiharness.harness.fields.spheres import Rotations, Sphere
from equiharness.harness.symmetry.groups import group
from equiharness.harness.symmetry.harmonics import (
    Band,
    equiangular_rings,
    euler_angles,
    gauss_rings,
    small_d,
    soft_rings,
)

GRIDS = [
    Sphere(4),
    Sphere(4, grid="gauss"),
    Sphere(4, grid="equiangular"),
    Sphere(3, shape=(8, 5)),
    Sphere(4, grid="soft"),
]
SO3, O3 = group("SO3"), group("O3")


def rotations(count=3, of=SO3):
    return [g.matrix for g in of.sample(np.random.default_rng(0), count)]


def about_z(t):
    return np.array([[np.cos(t), -np.sin(t), 0], [np.sin(t), np.cos(t), 0], [0, 0, 1]])


def about_y(t):
    return np.array([[np.cos(t), 0, np.sin(t)], [0, 1, 0], [-np.sin(t), 0, np.cos(t)]])


def places(band):
    """Unit vectors [beta, alpha, 3], or rotations [beta, alpha, gamma, 3, 3], of the samples."""
    angle = 2 * np.pi * np.arange(band.angles) / band.angles
    if not band.on_group:
        return np.array([[about_z(a) @ about_y(b) @ [0, 0, 1] for a in angle] for b in band.betas])
    return np.array([[[about_z(a) @ about_y(b) @ about_z(c) for c in angle] for a in angle] for b in band.betas])


def cubic(seed, size):
    """A random polynomial of degree 3 in ``size`` variables, with all lower degrees."""
    rng = np.random.default_rng(seed)
    powers = [p for d in range(4) for p in itertools.combinations_with_replacement(range(size), d)]
    terms = [(rng.standard_normal(), p) for p in powers]

    def polynomial(v):
        return sum(c * math.prod((v[..., i] for i in p), start=np.ones(v.shape[:-1])) for c, p in terms)

    return polynomial


@pytest.mark.parametrize("domain", GRIDS[:3], ids=str)
@pytest.mark.parametrize("matrix", rotations(2, O3) + rotations(2), ids=range(4))
def test_a_rotated_polynomial_on_the_sphere_is_the_polynomial_of_rotated_points(domain, matrix):
    band, f = domain.band, cubic(1, 3)
    x = places(band)
    moved = band.rotate(matrix, torch.from_numpy(f(x)))
    assert np.allclose(moved.numpy(), f(x @ matrix), atol=1e-13)  # rows: x^T g = (g^-1 x)^T


@pytest.mark.parametrize("matrix", rotations(2), ids=range(2))
def test_a_rotated_polynomial_on_so3_is_the_polynomial_of_rotated_rotations(matrix):
    band, f = Rotations(4).band, cubic(2, 4)

    def entries(r):
        return np.stack([r[..., 0, 0], r[..., 1, 2], r[..., 2, 0], r[..., 2, 1]], -1)

    x = places(band)
    moved = band.rotate(matrix, torch.from_numpy(f(entries(x))))
    assert np.allclose(moved.numpy(), f(entries(matrix.T @ x)), atol=1e-12)


@pytest.mark.parametrize("domain", [*GRIDS, Rotations(3)], ids=str)
def test_projection_keeps_the_band_and_nothing_else(domain):
    band, generator = domain.band, torch.Generator().manual_seed(0)
    signal = band.noise((2,), generator)
    assert torch.allclose(band.project(signal), signal, atol=1e-13)
    beyond = band.pure(band.b, (2,), generator)
    if domain in (Sphere(4), Rotations(3)):  # where the quadrature is exact for products of degree 2b - 1
        assert band.project(beyond).abs().max() < 1e-13
    noise = torch.randn(signal.shape, generator=generator, dtype=torch.float64)
    assert torch.allclose(band.project(band.project(noise)), band.project(noise), atol=1e-13)
    assert not torch.allclose(band.project(noise), noise, atol=1e-2)


@pytest.mark.parametrize(("rings", "exact"), [(soft_rings, 8), (gauss_rings, 16), (equiangular_rings, 8)])
def test_rings_integrate_legendre_polynomials_up_to_their_degree(rings, exact):
    made = rings(8)
    assert made.betas[0] < made.betas[-1]
    assert abs(made.weights.sum() - 1) < 1e-15
    integrals = [
        abs((made.weights * np.polynomial.Legendre.basis(d)(np.cos(made.betas))).sum()) for d in range(1, exact + 1)
    ]
    assert max(integrals[:-1]) < 1e-15
    assert integrals[-1] > 1e-3


def test_small_d_is_wigners_explicit_sum():
    beta, degree = 0.7, 2
    m = range(-degree, degree + 1)

    def entry(a, b):
        root = math.sqrt(math.prod(math.factorial(degree + s * v) for v in (a, b) for s in (1, -1)))
        total = 0.0
        for k in range(max(0, b - a), min(degree + b, degree - a) + 1):
            bottom = math.prod(map(math.factorial, (degree + b - k, k, a - b + k, degree - a - k)))
            c, s = math.cos(beta / 2), math.sin(beta / 2)
            total += (-1) ** (a - b + k) * root / bottom * c ** (2 * degree + b - a - 2 * k) * s ** (a - b + 2 * k)
        return total

    assert np.allclose(small_d(degree, np.array([beta]))[0], [[entry(a, b) for b in m] for a in m], atol=1e-14)


@pytest.mark.parametrize("beta", [0.0, 1e-12, 1e-5, 1.0, np.pi - 1e-9, np.pi])
def test_euler_angles_are_accurate_at_the_poles(beta):
    matrix = about_z(0.4) @ about_y(beta) @ about_z(1.3)
    a, b, c = euler_angles(matrix)
    assert np.abs(about_z(a) @ about_y(b) @ about_z(c) - matrix).max() < 1e-8 if 0 < beta < 1e-7 else 1e-15


@pytest.mark.parametrize("domain", [Sphere(3), Sphere(3, grid="gauss"), Rotations(2)], ids=str)
def test_the_transpose_of_a_rotation_is_that_of_its_arithmetic(domain):
    band, [matrix] = domain.band, rotations(1)
    generator = torch.Generator().manual_seed(0)
    x, v = (torch.randn(2, *domain.axes, generator=generator, dtype=torch.float64) for _ in range(2))
    x.requires_grad_()
    (by_formula,) = torch.autograd.grad(band.rotate(matrix, x), x, v)
    (by_arithmetic,) = torch.autograd.grad(band.synthesise(band.rotate_spectrum(matrix, band.analyse(x))), x, v)
    assert torch.allclose(by_formula, by_arithmetic, atol=1e-14)


def test_a_rotation_can_be_differentiated_twice():
    band, [matrix] = Sphere(2).band, rotations(1)
    x = torch.randn(4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: band.rotate(matrix, x).square(), x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_signals_come_back_in_their_own_precision(dtype):
    band, [matrix] = Sphere(3).band, rotations(1)
    x = band.noise((), torch.Generator().manual_seed(0))
    moved = band.rotate(matrix, x.to(dtype))
    assert moved.dtype is dtype
    assert torch.allclose(moved.double(), band.rotate(matrix, x), atol=4 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("domain", [Sphere(5), Rotations(4)], ids=str)
def test_noise_has_mean_square_one_and_every_degree(domain):
    band = domain.band
    x = band.noise((200,), torch.Generator().manual_seed(0))
    weights = band.weights.reshape(-1, *[1] * (band.axes - 1))
    size = (x.square() * weights).sum(1).flatten(1).mean(1)
    assert 0.9 < size.mean() < 1.1
    spectrum = band.analyse(x).abs().square().mean(-1).sum((0, 1))  # x^l has variance 1 / (2l+1) of an orthonormal one
    assert (spectrum > 0).all()


@pytest.mark.parametrize(("small", "large"), [(Sphere(3), Sphere(5)), (Rotations(2), Rotations(4))], ids=str)
def test_an_extended_spectrum_is_the_same_function_on_a_finer_grid(small, large):
    few, many = small.band, large.band

    def sampled(band):
        x = places(band)
        linear = x @ [1.0, -2.0, 0.5] if not band.on_group else x[..., 0, 1] - 2 * x[..., 2, 2]
        return torch.from_numpy(linear if few.b < 3 else linear * linear + linear)

    finer = many.synthesise(many.extended(few.analyse(sampled(few))))
    assert torch.allclose(finer, sampled(many), atol=1e-13)


def test_a_pure_harmonic_has_one_degree():
    for domain in (Sphere(5), Rotations(4)):
        band = domain.band
        spectrum = band.analyse(band.pure(2, (), torch.Generator().manual_seed(0))).abs()
        assert spectrum[:, :, 2].max() > 1e-2
        assert spectrum[:, :, [0, 1, 3]].max() < 1e-15


def test_rotations_act_on_every_batch_axis_alike():
    band, [matrix] = Band(soft_rings(6), 6, 3, on_group=False), rotations(1)
    x = band.noise((2, 3), torch.Generator().manual_seed(0))
    assert torch.allclose(band.rotate(matrix, x)[1, 2], band.rotate(matrix, x[1, 2]), atol=1e-15)
