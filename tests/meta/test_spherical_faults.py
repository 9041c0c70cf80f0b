"""The harness's spherical actions, broken; and the rules of aliasing and quadrature. The faults live in zoo/."""

import equiharness as eh
import numpy as np
import pytest
import torch
from equiharness import kernels as k
from equiharness.harness.claim.claim import Approximate, Claim, Exact
from equiharness.harness.symmetry import harmonics
from equiharness.suites.check import run_property
from equiharness.suites.forward.aliasing import aliasing
from equiharness.suites.forward.homomorphism import homomorphism
from equiharness.suites.forward.quadrature import quadrature
from zoo.spherical import NUMBERS, S2, SO3, B, dipole, polluted_mean


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


def on_both():
    """Each broken action on the sphere or on rotations, by turns; on the other in the long profile."""
    for i, name in enumerate(BROKEN_ACTIONS):
        for j, field in enumerate((S2, SO3)):
            yield pytest.param(name, field, id=f"{name}-{field}", marks=[pytest.mark.deep] * ((i + j) % 2))


@pytest.mark.parametrize(("name", "field"), list(on_both()))
def test_a_broken_action_of_the_harness_is_blamed_before_the_layer(monkeypatch, name, field):
    monkeypatch.setattr(harmonics, "_wigner_blocks", replaced(BROKEN_ACTIONS[name]))
    result = homomorphism(Claim(lambda x: x, field.group, field, field)).result
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
    assert homomorphism(Claim(lambda x: x, S2.group, S2, S2)).result.verdict is eh.Verdict.EXACT
    assert not torch.allclose(S2.act(g, cube), wanted, atol=1e-2)


@pytest.mark.parametrize("change", ["unweighted norm", "flipped weights are the same"])
def test_without_weights_the_action_is_not_orthogonal(monkeypatch, change):
    if change == "unweighted norm":
        monkeypatch.setattr(eh.Field, "weights", property(lambda self: torch.ones(4 * B * B, dtype=torch.float64)))
    result = homomorphism(Claim(lambda x: x, S2.group, S2, S2)).result
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
