"""Forces by difference quotients: right ones hold on stiff and rough energies, wrong ones are seen on the same."""

import math

import equiharness as eh
import pytest
import torch
from equiharness.harness.claim.claim import Claim
from equiharness.suites.points.forces import forces
from equiharness.suites.quotients import derivative

N, CUTOFF = 5, 5.0
SOURCE = {"pos": eh.Positions(N, "O3", spacing=2.0)}
TARGET = {"energy": eh.Energy(), "forces": eh.Forces(N, "O3")}


def potential(rough=lambda energy, r: energy, factor=1.0, ripple=0.0, size=3e-5):
    """Energy and forces of pairs: four smooth waves, a ripple of high frequency, and what ``rough`` adds."""

    def energy_of(pos):
        d = pos[:, :, None] - pos[:, None]
        r = (d.square().sum(-1) + torch.eye(N).to(pos)).sqrt()
        off = (1 - torch.eye(N)).to(pos)
        envelope = off * (1 - (r / CUTOFF).clamp(max=1) ** 2) ** 3
        n = torch.arange(1, 5).to(pos)
        waves = (torch.sin(n * math.pi * r[..., None] / CUTOFF) / r[..., None]).sum(-1)
        return rough((envelope * (waves + size * torch.sin(ripple * r))).sum((1, 2)), r)

    def model(pos):
        with torch.enable_grad():
            pos = pos.detach().clone().requires_grad_(True)
            energy = energy_of(pos)
            gradient = torch.autograd.grad(energy.sum(), pos)[0]
        return {"energy": energy.detach(), "forces": -factor * gradient}

    return model


def checked(model, seed=0, dtype=torch.float32):
    return forces(Claim(model, "O3", SOURCE, TARGET, seed=seed, dtype=dtype)).result


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("ripple", [0, 10, 100, 1000, 10000])
def test_right_forces_of_a_stiff_potential_hold(ripple, seed):
    result = checked(potential(ripple=ripple), seed)
    assert result.verdict is eh.Verdict.EXACT, str(result)
    assert result.power > 1e4


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("ripple", [0, 10, 100, 1000, 10000])
def test_forces_of_a_stiff_potential_that_are_wrong_by_1e4_are_broken(ripple, seed):
    result = checked(potential(ripple=ripple, factor=1 + 1e-4), seed)
    assert (result.verdict, result.reason.code) == (eh.Verdict.BROKEN, "GRADIENT"), str(result)


def jump(energy, r):
    """A term for each pair beyond a distance: the energy jumps where a pair crosses it."""
    return energy + 0.1 * (r > 2.2).to(r).sum((1, 2))


def digits(energy, r):
    """Energies that are multiples of 1e-6. The gradient is that of the energy before it was rounded."""
    return energy + (torch.round(energy * 1e6) / 1e6 - energy).detach()


def single(energy, r):
    """Energies that are rounded to float32 by a code that no recast reaches."""
    rounded = torch.from_numpy(energy.detach().double().numpy().astype("float32")).to(energy)
    return energy + (rounded - energy).detach()


def kinks(energy, r):
    return energy + (r - 2.0).abs().sum((1, 2))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("rough", [jump, digits, single, kinks])
def test_an_energy_with_jumps_or_kinks_is_not_held_against_its_forces(rough, seed):
    right = checked(potential(rough), seed)
    assert not right.verdict.fails, str(right)
    assert checked(potential(rough, factor=1 + 1e-3), seed).verdict is eh.Verdict.BROKEN


def test_an_energy_without_any_slope_is_ambiguous():
    noise = torch.Generator().manual_seed(0)

    def random(energy, r):
        return energy + torch.randn(len(energy), generator=noise).to(energy)

    result = checked(potential(random, factor=1 + 1e-3))
    assert (result.verdict, result.reason.code) == (eh.Verdict.AMBIGUOUS, "ROUGH"), str(result)


@pytest.mark.parametrize("what", ["energy", "forces"])
def test_nan_at_finite_positions_is_named_as_that(what):
    sound = potential()
    result = checked(lambda pos: {k: v * math.nan if k == what else v for k, v in sound(pos).items()})
    assert (result.verdict, result.reason.code) == (eh.Verdict.BROKEN, "NONFINITE"), str(result)


def test_smooth_forces_cost_few_calls():
    calls = []
    sound = potential()

    def counted(pos):
        calls.append(pos.dtype)
        return sound(pos)

    result = checked(counted)
    assert len(calls) <= 14, calls
    assert result.power > 1e6


def test_a_function_that_is_constant_between_jumps_has_the_slope_zero_and_no_other():
    """So is the gradient of a maximum: steps that cross no jump confirm a claimed zero and say nothing of a slope."""
    steps = [torch.tensor([2.0**-k]).double() for k in range(15, 25)]
    one = torch.ones(1).double()

    def stairs(t):
        return torch.floor((t + 2.0**-16) * 2.0**15)  # a jump within the first step alone

    for claimed, holds in ((0.0, True), (1.0, False)):
        found = derivative(stairs, [steps], 0 * one, claimed=claimed * one, enough=0 * one)
        assert bool(found.agrees(claimed * one)) is holds
