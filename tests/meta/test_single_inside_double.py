"""float32 inside a float64 claim is IMPRECISE in every property, and a fault that is larger stays BROKEN in each."""

import equiharness as eh
import pytest
import torch
from equiharness.harness.claim.claim import Claim
from equiharness.suites.check import run_property

N = 5
SOURCE = {"pos": eh.Positions(N, "O3")}
TARGET = {"energy": eh.Energy(), "forces": eh.Forces(N, "O3")}
SINGLE = ("CONSTANTS_IN_SINGLE", "PRECISION")


def potential(add=lambda energy, pos: energy, change=lambda forces, pos: forces):
    """Gaussians between pairs, computed in float32 from positions in any precision."""

    def model(pos):
        with torch.enable_grad():
            pos = pos if pos.requires_grad else pos.detach().clone().requires_grad_()
            low = pos.float()
            d = low[:, :, None] - low[:, None]
            off = 1 - torch.eye(N, dtype=low.dtype)
            energy = (torch.exp(-d.square().sum(-1) / 4) * off).sum((1, 2)).to(pos.dtype)
            energy = add(energy, pos)
            forces = -torch.autograd.grad(energy.sum(), pos, create_graph=True)[0]
        return {"energy": energy, "forces": change(forces, pos)}

    return model


PROPERTIES = ("rotations", "reflections", "translations", "permutations", "forces", "adjoint")


@pytest.mark.parametrize("seed", range(3))
def test_a_model_that_computes_in_float32_inside_is_imprecise_and_nothing_worse(seed):
    result = eh.check(potential(), "O3", SOURCE, TARGET, dtype="float64", seed=seed)
    assert result.verdict is eh.Verdict.IMPRECISE, str(result)
    parts = {p.property: p for p in result.parts}
    for name in PROPERTIES:
        assert parts[name].verdict is eh.Verdict.IMPRECISE, str(result)
        assert parts[name].reason.code in SINGLE, str(result)
    for name in ("homomorphism", "gradcheck", "batch"):  # gradcheck recasts what is inside
        assert parts[name].verdict is eh.Verdict.EXACT, str(result)


FAULTS = {
    "rotations": potential(add=lambda e, pos: e + 1e-2 * pos[..., 0].square().sum(1)),
    "reflections": potential(add=lambda e, pos: e + 1e-2 * torch.linalg.det(pos[:, 1:4] - pos[:, :1])),
    "translations": potential(add=lambda e, pos: e + 1e-2 * pos.square().sum((1, 2))),
    "permutations": potential(add=lambda e, pos: e + 1e-2 * (pos[:, 0] - pos[:, 1]).square().sum(1)),
    "forces": potential(change=lambda f, pos: 1.01 * f),
    "adjoint": potential(add=lambda e, pos: e + 1e-2 * (pos[..., 0].sum(1) - pos[..., 0].detach().sum(1))),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", PROPERTIES)
def test_a_fault_beyond_float32_stays_broken(name, seed):
    claim = Claim(FAULTS[name], "O3", SOURCE, TARGET, dtype=torch.float64, seed=seed)
    result = run_property(name, claim).result
    assert result.verdict is eh.Verdict.BROKEN, str(result)


PLANE = eh.Field(eh.Grid(5, 5), "C4", "2*trivial")


def through_float32(x, weight):
    return torch.nn.functional.conv2d(x.float(), weight.float(), padding=1).to(x.dtype)


@pytest.mark.parametrize("prop", ["equivariance", "worst_case", "adjoint", "gradcheck", "batch", "training"])
@pytest.mark.parametrize("size", [0.0, 1e-2])
def test_layers_on_grids(prop, size):
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(2, 2, 3, padding=1, bias=False).double()

    def function(x):
        y = through_float32(x, layer.weight.mean((2, 3), keepdim=True).expand(-1, -1, 3, 3))
        return y + size * torch.tanh(y) * torch.arange(5).to(y)  # a fault in one direction of the grid

    claim = Claim(function, "C4", PLANE, PLANE, dtype=torch.float64, modules=(layer,))
    result = run_property(prop, claim).result
    if size and prop in ("equivariance", "worst_case", "adjoint"):  # training asks a sound layer first
        assert result.verdict is eh.Verdict.BROKEN, str(result)
    else:
        assert not result.verdict.fails, str(result)


def test_a_smooth_float64_layer_gains_nothing():
    """Its conditioning is the same in both precisions, so a fault just beyond float32's bound stays BROKEN."""
    for size, verdict in ((1e-5, eh.Verdict.BROKEN), (1e-7, eh.Verdict.IMPRECISE)):

        def layer(x, size=size):
            return x + size * x * torch.arange(5, dtype=x.dtype)

        result = run_property("equivariance", Claim(layer, "C4", PLANE, PLANE, dtype=torch.float64)).result
        assert result.verdict is verdict, str(result)


def test_float32_at_the_end_of_an_energy_is_imprecise_and_wrong_forces_beside_it_are_broken():
    def model(pos, factor):
        with torch.enable_grad():
            pos = pos.detach().clone().requires_grad_()
            d = (pos[:, :, None] - pos[:, None]).square().sum(-1)
            energy = (torch.exp(-d / 4)).sum((1, 2))
            forces = -torch.autograd.grad(energy.sum(), pos)[0]
        return {"energy": energy.detach().float().to(pos.dtype), "forces": factor * forces}

    for factor, verdict in ((1.0, eh.Verdict.IMPRECISE), (1.01, eh.Verdict.BROKEN)):

        def function(pos, factor=factor):
            return model(pos, factor)

        result = run_property("forces", Claim(function, "O3", SOURCE, TARGET, dtype=torch.float64)).result
        assert result.verdict is verdict, str(result)


def test_a_table_of_single_constants_is_no_rounding_of_what_is_computed():
    """Frequencies that torch computes in float32 are constants of the layer: it computes in float64 with them."""

    def smooth(x):
        k = torch.fft.fftfreq(5).square().to(x)
        return torch.fft.ifft2(torch.fft.fft2(x) / (1 + 20 * (k[:, None] + k))).real

    for layer, verdict in ((smooth, "EXACT"), (lambda x: smooth(x).float().to(x), "IMPRECISE")):
        claim = Claim(layer, "C4", PLANE, PLANE, dtype=torch.float64)
        assert run_property("equivariance", claim).result.verdict == verdict
