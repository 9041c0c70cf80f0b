"""The fault zoo of the sphere: each fault is caught by a named property with its verdict; its sound twin passes."""

from dataclasses import dataclass
from typing import Any

import equiharness as eh
import numpy as np
import pytest
import torch
from equiharness import kernels as k
from equiharness.harness import harmonics
from equiharness.harness.claim import Approximate, Claim, Exact
from equiharness.suites.aliasing import aliasing
from equiharness.suites.check import PROPERTIES, run_property
from equiharness.suites.homomorphism import homomorphism
from equiharness.suites.quadrature import quadrature

B = 4
S2, SO3, NUMBERS = (eh.Field(d, "SO3") for d in (eh.Sphere(B), eh.Rotations(B), eh.Vector()))
O3_SCALARS = eh.Field(eh.Sphere(B), "O3")


@dataclass(frozen=True)
class Fault:
    """A sound function, a broken one, and the property that tells them apart."""

    sound: Any
    broken: Any
    source: Any = S2
    target: Any = SO3
    caught: str = "equivariance"
    verdict: str = "BROKEN"
    code: str = "ERROR"


def degrees(b=B):
    return torch.repeat_interleave(torch.arange(b), 2 * torch.arange(b) + 1)


def orders(b=B):
    return torch.arange(b * b) - degrees(b) ** 2 - degrees(b)


def outer(first, second):
    """z^l_mn = first^l_m second^l_n, as rows of SO(3)."""
    sizes = [2 * degree + 1 for degree in range(B)]
    pairs = zip(first.split(sizes, -1), second.split(sizes, -1), strict=True)
    return torch.cat([(x[..., :, None] * y[..., None, :]).flatten(-2) for x, y in pairs], -1)


def spectral(combine):
    """A correlation on the sphere by the product of spectra: sound for x y*."""
    kernel = torch.randn(B * B, 2, generator=torch.Generator().manual_seed(3)).double()

    def layer(x):
        spectrum = k.s2_fft(x)
        return k.so3_ifft(combine(spectrum, torch.view_as_complex(kernel).to(spectrum)))

    return layer


def of_spectrum(change):
    """A map of the sphere's signals by their spectra."""
    return lambda x: k.s2_ifft(change(k.s2_fft(x)))


def transposed(z):
    """Every block z^l with its orders exchanged."""
    widths = [2 * degree + 1 for degree in range(B)]
    parts = zip(widths, z.split([width**2 for width in widths], -1), strict=True)
    return torch.cat([part.unflatten(-1, (width, width)).mT.flatten(-2) for width, part in parts], -1)


def truncated(x, b_table):
    """The projection on l < B - 1 with the weights and colatitudes of a table for another bandwidth."""
    weights = 2 * b_table * k.quadrature_weights(b_table)[: 2 * B].to(x)
    beta, alpha = harmonics.soft_rings(2 * b_table).betas[: 2 * B], np.pi * np.arange(2 * B) / B
    points = np.stack(np.meshgrid(beta, alpha, indexing="ij"), -1).reshape(-1, 2)
    spectrum = k.s2_ft((x * weights[:, None]).flatten(-2), points, B - 1)
    return k.s2_ifft(spectrum, B)


def polluted_mean(x):
    """An integral whose weights respond to degree 2b - 1 and to no lower one: signals of the band never show it."""
    rings = harmonics.soft_rings(2 * B)
    shape = np.polynomial.Legendre.basis(2 * B - 1)(np.cos(rings.betas))
    weights = torch.from_numpy(rings.weights * (1 + 1e-3 * shape)).to(x)
    return x.mean(-1) @ weights


def dipole(x, sign):
    """The integral of x X, a vector; negated under reflections by ``sign`` = -1 it would be an axial one."""
    beta, alpha = harmonics.soft_rings(2 * B).betas, np.pi * np.arange(2 * B) / B
    beta, alpha = np.meshgrid(beta, alpha, indexing="ij")
    xyz = torch.from_numpy(np.stack([np.sin(beta) * np.cos(alpha), np.sin(beta) * np.sin(alpha), np.cos(beta)]))
    return sign * k.s2_integrate(x * xyz.to(x))


sound_product = spectral(lambda x, y: outer(x, y.conj()))
ZOO = {
    "missing conjugate": Fault(sound_product, spectral(lambda x, y: outer(x.conj(), y))),
    "transposed Wigner matrices": Fault(sound_product, spectral(lambda x, y: transposed(outer(x, y.conj())))),
    "alpha and gamma swapped": Fault(sound_product, lambda x: sound_product(x).transpose(-1, -2)),
    "wrong beta order": Fault(sound_product, lambda x: sound_product(x.flip(-2))),
    "beta and alpha swapped": Fault(sound_product, lambda x: sound_product(x.transpose(-1, -2))),
    "alpha off by one sample": Fault(
        lambda x: k.s2_resample(x, 3), lambda x: k.s2_resample(x, 3).roll(1, -1), S2, eh.Field(eh.Sphere(3), "SO3")
    ),
    "no Condon-Shortley phase": Fault(
        of_spectrum(lambda x: x), of_spectrum(lambda x: x * torch.where(orders() % 2 == 0, 1.0, -1.0)), S2, S2
    ),
    "one order dropped": Fault(of_spectrum(lambda x: x), of_spectrum(lambda x: x * (orders().abs() < B - 1)), S2, S2),
    "one degree's orders scaled by a millionth": Fault(
        of_spectrum(lambda x: x),
        of_spectrum(lambda x: x * torch.where(orders() == 0, 1 + 1e-4, 1.0).to(x.real)),
        S2,
        S2,
    ),
    "off-by-one bandwidth": Fault(lambda x: truncated(x, B), lambda x: truncated(x, B + 1), S2, S2),
    "the slice gamma = 0": Fault(lambda x: x.mean(-1), lambda x: x[..., 0], SO3, S2),
    "unweighted mean": Fault(k.so3_integrate, lambda x: x.mean((-1, -2, -3)), SO3, NUMBERS),
    "unweighted mean, as an integral": Fault(
        k.s2_integrate, lambda x: x.mean((-1, -2)), S2, NUMBERS, caught="integration"
    ),
    "weights right on the band alone": Fault(
        lambda x: k.s2_integrate(x), polluted_mean, S2, NUMBERS, caught="integration"
    ),
    "wrong sign of a reflection": Fault(
        lambda x: dipole(x, 1.0).flatten(1),
        lambda x: dipole(x, 1.0).flatten(1),
        O3_SCALARS,
        eh.Field(eh.Vector(), "O3", "standard"),
    ),
    "aliases kept": Fault(
        lambda x: k.s2_ifft(k.s2_fft(x, B + 2)),
        lambda x: k.s2_ifft(k.s2_fft(x, B + 2, alias=True)),
        S2,
        eh.Field(eh.Sphere(B + 2), "SO3"),
    ),
    "a mean over the batch": Fault(lambda x: x, lambda x: x + 1e-3 * x.mean(0).flip(-1), S2, S2),
    "constants of one pole": Fault(
        lambda x: 2 * x, lambda x: 2 * x + 1e-4 * x[..., :1, :] * torch.eye(8)[0][:, None].to(x), S2, S2
    ),
}
#: A claim of an axial vector for a true one: the functions agree and the target is wrong.
AXIAL = eh.Field(eh.Vector(), "O3", "irrep(1, e)")


@pytest.mark.parametrize("dtype", [torch.float64, pytest.param(torch.float32, marks=pytest.mark.deep)], ids=str)
@pytest.mark.parametrize("name", ZOO)
def test_fault_is_caught_and_its_sound_twin_passes(name, dtype):
    fault = ZOO[name]
    for function, expected in ((fault.sound, ("EXACT", "EXACT")), (fault.broken, (fault.verdict, fault.code))):
        if name == "wrong sign of a reflection" and expected[0] == "BROKEN":
            target, function = AXIAL, (lambda x: dipole(x, 1.0).flatten(1)[:, [1, 2, 0]])  # irreps list (y, z, x)
        else:
            target = fault.target
        claim = Claim(function, fault.source.group, fault.source, target, dtype=dtype)
        result = run_property(fault.caught, claim).result
        assert (result.verdict.value, result.reason.code) == expected, str(result)


def test_every_property_of_the_zoo_exists():
    assert {fault.caught for fault in ZOO.values()} <= set(PROPERTIES)


def test_an_axial_vector_is_one_under_rotations():
    """The twin of the wrong sign: without reflections nothing tells the two apart."""
    source, target = eh.Field(eh.Sphere(B), "SO3"), eh.Field(eh.Vector(), "SO3", "irrep(1, e)")
    claim = Claim(lambda x: dipole(x, 1.0).flatten(1)[:, [1, 2, 0]], source.group, source, target)
    assert run_property("equivariance", claim).result.verdict is eh.Verdict.EXACT


# --- the harness's own actions, broken: what would be noticed ---


def replaced(change):
    """The harness's Wigner blocks [l, m, m'] changed."""
    sound = harmonics._wigner_blocks.__wrapped__
    return lambda raw, b, device: change(sound(raw, b, device))


BROKEN_ACTIONS = {
    "transposed": lambda blocks: blocks.mT.contiguous(),
    "inverse missing": lambda blocks: blocks.mH.contiguous(),
    "one sign": lambda blocks: blocks * torch.where(torch.arange(blocks.shape[1]) == 2, -1.0, 1.0)[:, None],
    "scaled by a billionth": lambda blocks: blocks * (1 + 1e-9),
}


@pytest.mark.parametrize("field", [S2, SO3], ids=str)
@pytest.mark.parametrize("name", BROKEN_ACTIONS)
def test_a_broken_action_of_the_harness_is_blamed_before_the_layer(monkeypatch, name, field):
    monkeypatch.setattr(harmonics, "_wigner_blocks", replaced(BROKEN_ACTIONS[name]))
    result = homomorphism(Claim(lambda x: x, field.group, field, field))
    assert (result.verdict.value, result.reason.code) == ("BROKEN", "ACTION")
    result = run_property("equivariance", Claim(lambda x: 2 * x, field.group, field, field)).result
    assert result.reason.code == "ACTION"


#: Homomorphisms all the same: the rotations mirrored, and a degree on which the group acts trivially.
OTHER_ACTIONS = {
    "missing conjugate": torch.conj_physical,
    "one degree not turned": lambda blocks: torch.cat([blocks[:-1], torch.eye(blocks.shape[1])[None].to(blocks)]),
}


@pytest.mark.parametrize("name", OTHER_ACTIONS)
def test_another_action_is_told_by_the_polynomial_of_rotated_points_alone(monkeypatch, name):
    """The oracle that tests/harness/test_harmonics.py holds the action to."""
    [g] = S2.group.sample(np.random.default_rng(0), 1)
    beta, alpha = harmonics.soft_rings(2 * B).betas, np.pi * np.arange(2 * B) / B
    beta, alpha = np.meshgrid(beta, alpha, indexing="ij")
    points = np.stack([np.sin(beta) * np.cos(alpha), np.sin(beta) * np.sin(alpha), np.cos(beta)], -1)
    cube, wanted = (torch.from_numpy(x[..., 2] ** 3)[None, None] for x in (points, points @ g.matrix))
    assert torch.allclose(S2.act(g, cube), wanted, atol=1e-13)
    monkeypatch.setattr(harmonics, "_wigner_blocks", replaced(OTHER_ACTIONS[name]))
    assert homomorphism(Claim(lambda x: x, S2.group, S2, S2)).verdict is eh.Verdict.EXACT
    assert not torch.allclose(S2.act(g, cube), wanted, atol=1e-2)


@pytest.mark.parametrize("change", ["unweighted norm", "flipped weights are the same"])
def test_without_weights_the_action_is_not_orthogonal(monkeypatch, change):
    if change == "unweighted norm":
        monkeypatch.setattr(eh.Field, "weights", property(lambda self: torch.ones(4 * B * B, dtype=torch.float64)))
    result = homomorphism(Claim(lambda x: x, S2.group, S2, S2))
    assert result.verdict is (eh.Verdict.BROKEN if change == "unweighted norm" else eh.Verdict.EXACT)


# --- the rules of aliasing and quadrature ---


def test_a_fault_is_not_excused_by_a_nonlinearity_beside_it():
    def tilted(x):
        return torch.relu(x) + 0.1 * x.flip(-2)

    result = aliasing(Claim(tilted, S2.group, S2, S2)).result
    assert (result.verdict.value, result.reason.code) == ("BROKEN", "LIMIT")


@pytest.mark.parametrize("prop", ["equivariance", "adjoint"])
def test_the_excuse_is_for_nonlinear_layers_under_a_contract_of_limits(prop):
    for function, contract, code in (
        (torch.relu, Approximate(), "ALIASES"),
        (torch.relu, Exact(), "ERROR"),
        (lambda x: x.flip(-2), Approximate(), "ERROR"),
    ):
        claim = Claim(function, S2.group, S2, S2, contract=contract)
        assert run_property(prop, claim).result.reason.code == code


def test_a_wrong_backward_of_an_exact_layer_is_not_excused_by_its_nonlinearity():
    class Halved(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient * torch.linspace(1, 1.1, gradient.shape[-2])[:, None].to(gradient)

    def gated(x):
        return Halved.apply(x) * torch.tanh(k.s2_integrate(x * x))[..., None, None]

    result = run_property("adjoint", Claim(gated, S2.group, S2, S2)).result
    assert (result.verdict.value, result.reason.code) == ("BROKEN", "ERROR")


def test_a_quadrature_that_responds_to_nothing_is_no_proof():
    claim = Claim(lambda x: x.mean((-1, -2)) * 0, S2.group, S2, NUMBERS)
    assert quadrature(claim).verdict in (eh.Verdict.VACUOUS, eh.Verdict.BROKEN)
    polluted = quadrature(Claim(polluted_mean, S2.group, S2, NUMBERS))
    assert polluted.verdict is eh.Verdict.BROKEN
    worst = max(polluted.elements[:-1], key=lambda e: e.error)
    assert worst.element == f"degree {2 * B - 1}"


def test_projection_hides_what_lies_outside_the_band_and_only_that():
    """The Nyquist order is no signal of the band; the highest order of the band is."""
    nyquist = torch.where(torch.arange(2 * B) % 2 == 0, 1.0, -1.0)
    assert (
        run_property("equivariance", Claim(lambda x: x + nyquist.to(x), S2.group, S2, S2)).result.verdict
        is eh.Verdict.EXACT
    )
    highest = torch.cos((B - 1) * torch.pi / B * torch.arange(2 * B))
    below = Claim(lambda x: x + 1e-3 * highest.to(x), S2.group, S2, S2)
    assert run_property("equivariance", below).result.verdict is eh.Verdict.BROKEN
