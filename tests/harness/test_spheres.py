"""Fields on the sphere and on SO(3): what fits, how fibres turn, in which norm the action is orthogonal."""

import equiharness as eh
import numpy as np
import pytest
import torch
from equiharness import kernels
from equiharness.harness.claim.scale import Scale
from equiharness.harness.errors import UsageError

SO3 = eh.group("SO3")
DOMAINS = [eh.Sphere(4), eh.Sphere(4, grid="gauss"), eh.Sphere(4, grid="equiangular"), eh.Rotations(4)]


def elements(count=3, of=SO3):
    return of.sample(np.random.default_rng(0), count)


def drawn(field, count=2, seed=0):
    return field.random(count, torch.Generator().manual_seed(seed))


def points(b):
    beta, alpha = np.pi * (2 * np.arange(2 * b) + 1) / (4 * b), np.pi * np.arange(2 * b) / b
    beta, alpha = np.meshgrid(beta, alpha, indexing="ij")
    xyz = np.stack([np.sin(beta) * np.cos(alpha), np.sin(beta) * np.sin(alpha), np.cos(beta)])
    return torch.from_numpy(xyz)


@pytest.mark.parametrize("domain", DOMAINS, ids=str)
def test_random_signals_lie_in_the_band_and_the_action_is_a_homomorphism(domain):
    field = eh.Field(domain, "SO3", "2*trivial")
    x = drawn(field)
    assert torch.allclose(field.act(SO3.identity, x), x, atol=1e-13)
    g, h, _ = elements()
    both = field.act(SO3.compose(g, h), x)
    assert torch.allclose(field.act(g, field.act(h, x)), both, atol=1e-13)
    assert not torch.allclose(field.act(h, field.act(g, x)), both, atol=1e-1)


@pytest.mark.parametrize("domain", DOMAINS, ids=str)
def test_rotations_keep_the_weighted_norm_and_no_other(domain):
    field = eh.Field(domain, "SO3", "2*trivial")
    x, [g] = drawn(field), elements(1)
    moved = field.act(g, x)
    assert field.norm(moved) == pytest.approx(field.norm(x), rel=1e-14)
    assert abs(float(moved.norm() / x.norm()) - 1) > 1e-3


def test_errors_are_relative_in_the_weighted_norm():
    field = eh.Field(eh.Sphere(4), "SO3")
    y = drawn(field, 4)
    [g] = elements(1)
    scales = [Scale.of(field, v).euclidean for v in (y, field.act(g, y))]
    assert torch.allclose(*scales, rtol=1e-13)


@pytest.mark.parametrize("group", ["SO3", "O3"])
def test_a_vector_field_turns_its_values_with_its_points(group):
    """f(X) = A X becomes g A g^-1 X."""
    field = eh.Field(eh.Sphere(4), group, "standard")
    matrix = torch.randn(3, 3, dtype=torch.float64)
    x = torch.einsum("ij,jba->iba", matrix, points(4))[None]
    for g in elements(2, eh.group(group)):
        turned = torch.from_numpy(g.matrix @ matrix.numpy() @ g.matrix.T)
        assert torch.allclose(field.act(g, x), torch.einsum("ij,jba->iba", turned, points(4))[None], atol=1e-13)


def test_irreps_on_the_sphere_are_homomorphisms_of_reflections_too():
    field = eh.Field(eh.Sphere(3), "Oh", "trivial + irrep(1) + irrep(2, o)")
    x = drawn(field)
    for g in list(field.group)[::7]:
        for h in list(field.group)[::11]:
            both = field.act(field.group.compose(g, h), x)
            assert torch.allclose(field.act(g, field.act(h, x)), both, atol=1e-13)


def test_the_inversion_takes_a_function_to_the_antipodes():
    field = eh.Field(eh.Sphere(3), "O3")
    x = drawn(field)
    antipodes = x.flip(-2).roll(3, -1)
    assert torch.allclose(field.act(-np.eye(3), x), antipodes, atol=1e-14)


@pytest.mark.parametrize("b", [1, 2, 5])
def test_the_action_is_that_of_the_kernels_convention(b):
    for domain, rotate in ((eh.Sphere(b), kernels.s2_rotate), (eh.Rotations(b), kernels.so3_rotate)):
        field = eh.Field(domain, "SO3")
        x, [g] = torch.randn(field.tensor_shape(2), dtype=torch.float64), elements(1)
        assert torch.allclose(field.act(g, x), rotate(x, torch.from_numpy(g.matrix)), atol=1e-13)


@pytest.mark.parametrize("domain", DOMAINS, ids=str)
def test_integrals_are_those_of_constants_and_invariant(domain):
    field = eh.Field(domain, "SO3", "3*trivial")
    x, [g] = drawn(field), elements(1)
    assert torch.allclose(field.integral(torch.ones_like(x)), torch.ones(2, 3, dtype=torch.float64), atol=1e-15)
    assert torch.allclose(field.integral(field.act(g, x)), field.integral(x), atol=1e-14)
    assert not torch.allclose(field.naive_mean(field.act(g, x)), field.naive_mean(x), atol=1e-3)


def test_the_gradient_in_the_weighted_product_turns_like_the_signal():
    field = eh.Field(eh.Sphere(4), "SO3")
    x, [g] = drawn(field).requires_grad_(), elements(1)

    def energy(x):
        return field.integral(x * x).sum()  # of degree 2b - 2, which the quadrature integrates

    by_values = [torch.autograd.grad(energy(v), v)[0] for v in (x, field.act(g, x).detach().requires_grad_())]
    before, after = (field.project(field.gradient(v)) for v in by_values)
    assert torch.allclose(after, field.act(g, before), atol=1e-12)


@pytest.mark.parametrize(
    ("domain", "exact"),
    [
        (eh.Sphere(4), 8),
        (eh.Sphere(4, grid="gauss"), 8),
        (eh.Sphere(4, grid="equiangular"), 8),
        (eh.Sphere(3, shape=(10, 7)), 7),
        (eh.Sphere(3, grid="gauss", shape=(5, 16)), 10),
        (eh.Rotations(3), 6),
    ],
    ids=str,
)
def test_the_quadrature_is_exact_below_its_degree_and_not_at_it(domain, exact):
    assert domain.exact_degrees == exact
    field, generator = eh.Field(domain, "SO3"), torch.Generator().manual_seed(0)
    for degree in range(1, exact + 1):
        x = domain.band.pure(degree, (4, 1), generator)
        size = float(field.integral(x).abs().max())
        assert size < 1e-14 if degree < exact else size > 1e-2, degree


def test_resized_domains_keep_their_kind():
    assert eh.Sphere(4).resized(2) == eh.Sphere(8)
    assert eh.Sphere(4, grid="gauss").resized(0.5) == eh.Sphere(2, grid="gauss")
    assert eh.Rotations(4).resized(1.5) == eh.Rotations(6)
    assert eh.Sphere(4, shape=(8, 7)).resized(2).axes == (16, 15)


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (lambda: eh.Sphere(0), "whole number"),
        (lambda: eh.Rotations(2.0), "whole number"),
        (lambda: eh.Sphere(4, grid="healpix"), "Known: soft"),
        (lambda: eh.Sphere(4, shape=(7, 8)), "too coarse"),
        (lambda: eh.Sphere(4, shape=(8, 6)), "too coarse"),
        (lambda: eh.Field(eh.Sphere(4), "C4"), "take a group of the space"),
        (lambda: eh.Field(eh.Rotations(4), "O3"), "has reflections"),
        (lambda: eh.Field(eh.Rotations(4), "Oh"), "has reflections"),
        (lambda: eh.Field(eh.Sphere(4), "SO3").act(np.eye(3), torch.zeros(1, 1, 8, 9)), r"expected \[batch, 1, 8, 8\]"),
        (lambda: eh.Field(eh.Rotations(2), "SO3").act(np.eye(3), torch.zeros(1, 1, 4, 4)), "expected"),
        (lambda: eh.Field(eh.Sphere(2), "SO3").act(np.eye(3), torch.zeros(1, 1, 4, 4).int()), "floating point"),
    ],
)
def test_bad_spheres_are_refused(attempt, message):
    with pytest.raises(UsageError, match=message):
        attempt()


def test_spheres_say_what_they_are():
    assert str(eh.Field(eh.Sphere(4), "SO3", "2*trivial")) == "Field(Sphere(4), 'SO3', '2*trivial')"
    assert str(eh.Sphere(4, grid="gauss", shape=(5, 9))) == "Sphere(4, grid='gauss', shape=(5, 9))"
