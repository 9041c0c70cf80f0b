"""Whole models through ``eh.check``: trees, one sample at a time, seeds, declared energies and forces."""

import equiharness as eh
import pytest
import torch
from equiharness.harness.errors import UsageError
from equiharness.suites.quotients import extrapolate

N = 5
PAIRS = N * (N - 1)


def messages(pos, z, edges, bond):
    """Energy and forces of one sample: a sum over its edges, weighted by species and by a vector on each edge."""
    with torch.enable_grad():
        pos = pos.requires_grad_(True)
        i, j = edges
        d = pos[j] - pos[i]
        r = (d * d).sum(-1).sqrt()
        along = ((d * bond).sum(-1) / r) ** 2
        energy = (torch.exp(-r) * (z[i] * z[j]) * (1 + along)).sum()
        forces = -torch.autograd.grad(energy, pos)[0]
    return {"energy": energy.detach(), "forces": forces}


def fields():
    source = {
        "pos": eh.Positions(N, "O3"),
        "z": eh.Invariant(at=eh.Points(N), integers=(1, 4)),
        "edges": eh.Index(N, (2, PAIRS)),
        "bond": eh.Field(eh.Edges(PAIRS), "O3", "standard"),
    }
    return source, {"energy": eh.Energy(), "forces": eh.Forces(N, "O3")}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_model_of_one_sample_with_edges_and_edge_vectors_is_exact(dtype):
    source, target = fields()
    result = eh.check(messages, "O3", source, target, batched=False, dtype=dtype)
    verdicts = {p.property: p.verdict.value for p in result.parts if p.property != "batch"}  # there are no batches
    assert {verdicts.pop(name) for name in ("adjoint", "gradcheck")} == {"SKIPPED"}  # it frees its graph
    assert set(verdicts.values()) == {"EXACT"}, str(result)
    assert {"rotations", "reflections", "translations", "permutations", "forces"} <= set(verdicts)


def test_names_of_points_must_follow_the_points():
    """A model that reads an index as a number is not invariant to the order of atoms."""
    source, target = fields()

    def numbered(pos, z, edges, bond):
        y = messages(pos, z, edges, bond)
        return {**y, "energy": y["energy"] * (1 + 1e-3 * (edges[0] * edges[1]).sum().cos())}

    uneven = {**source, "edges": eh.Index(N, (2, PAIRS - 6)), "bond": eh.Field(eh.Edges(PAIRS - 6), "O3", "standard")}
    result = eh.check(numbered, "O3", uneven, target, batched=False)
    assert {p.property for p in result.parts if p.verdict.fails} == {"permutations", "forces"}, str(result)


def test_dynamics_move_their_positions_with_every_motion():
    def step(pos, velocity):
        return {"pos": pos + 0.1 * velocity, "velocity": velocity - 0.1 * (pos - pos.mean(1, keepdim=True))}

    places, vectors = eh.Positions(N, "O3"), eh.Field(eh.Points(N), "O3", "standard")
    tree = {"pos": places, "velocity": vectors}
    assert eh.check(step, "O3", tree, tree).verdict is eh.Verdict.EXACT

    def about_the_origin(pos, velocity):
        return {"pos": 0.9 * pos, "velocity": velocity}

    broken = eh.check(about_the_origin, "O3", tree, tree)
    assert {p.property for p in broken.parts if p.verdict.fails} == {"translations"}


def test_vectors_on_points_make_no_claim_about_translations():
    vectors = eh.Field(eh.Points(N), "O3", "standard")
    result = eh.check(lambda x: x + x.mean(1, keepdim=True), "O3", vectors, vectors)
    assert {p.property for p in result.parts} == {"homomorphism", "equivariance", "adjoint", "gradcheck", "batch"}
    assert result.verdict is eh.Verdict.EXACT


def test_a_stochastic_layer_is_refused_with_the_way_out_and_passes_with_a_seed():
    v = eh.Field(eh.Vector(), "SO3", "4*standard")

    def noisy(x):
        return x * torch.randn(())

    refused = eh.check(noisy, "SO3", v, v)
    assert (refused.verdict.value, refused.reason.code) == ("BROKEN", "NONDETERMINISTIC")
    assert "declare a seed for each call" in refused.reason.message
    assert "noise" in refused.reason.message
    state = torch.random.get_rng_state()
    assert eh.check(noisy, "SO3", v, v, call_seed=1).verdict is eh.Verdict.EXACT
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_check_leaves_the_inputs_without_gradients():
    pos = torch.randn(4, N, 3)
    source, target = {"pos": eh.Positions(N, "SO3")}, {"energy": eh.Energy(), "forces": eh.Forces(N, "SO3")}

    def model(pos):
        with torch.enable_grad():
            pos.requires_grad_(True)
            energy = (torch.cdist(pos, pos).square().sum((1, 2)) + 1).sqrt()
            return {"energy": energy, "forces": -torch.autograd.grad(energy.sum(), pos)[0]}

    assert eh.check(model, "SO3", source, target, inputs={"pos": pos}).verdict is eh.Verdict.EXACT
    assert not pos.requires_grad


def test_a_model_that_differentiates_inside_needs_no_help_against_no_grad():
    source, target = {"pos": eh.Positions(N, "SO3")}, {"energy": eh.Energy(), "forces": eh.Forces(N, "SO3")}

    def model(pos):
        pos = pos.requires_grad_(True)
        energy = (torch.cdist(pos, pos).square().sum((1, 2)) + 1).sqrt()
        return {"energy": energy, "forces": -torch.autograd.grad(energy.sum(), pos)[0]}

    assert eh.check(model, "SO3", source, target).verdict is eh.Verdict.EXACT


def test_forces_without_an_energy_ask_which():
    atoms = {"pos": eh.Positions(N, "SO3")}
    with pytest.raises(UsageError, match="The energy of the forces"):
        eh.check(lambda pos: {"forces": pos * 0}, "SO3", atoms, {"forces": eh.Forces(N, "SO3")})


def test_modes_of_a_function_are_refused():
    v = eh.Field(eh.Vector(), "SO3", "standard")
    with pytest.raises(UsageError, match="needs a module"):
        eh.check(lambda x: x, "SO3", v, v, modes=("train",))
    with pytest.raises(UsageError, match="Did you mean train"):
        eh.check(torch.nn.Identity(), "SO3", v, v, modes=("trian",))


def test_extrapolation_is_as_exact_as_its_error_says():
    h = [torch.tensor([2.0**-k], dtype=torch.float64) for k in range(8)]
    for power, values in ((2, [s.sin() / s for s in h]), (1, [s.exp() for s in h])):
        limit = extrapolate(values, [torch.full_like(s, 1e-16) for s in h], power)
        assert (limit.value - 1).abs() <= limit.error
        assert limit.error < 1e-9
    rough = extrapolate([torch.tensor([(-1.0) ** k], dtype=torch.float64) for k in range(8)], [0 * s for s in h], 2)
    assert rough.error > 1e-3
