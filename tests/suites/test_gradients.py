"""Adjoint and parameter gradient: the backward pass holds what the forward pass claims."""

import equiharness as eh
import pytest
import torch
from equiharness.harness.claim.claim import Claim
from equiharness.kernels import GlobalPool, GroupBatchNorm, GroupConv, GroupPool, LiftingConv
from equiharness.suites.backward.gradients import adjoint, parameter_gradient
from torch import nn

BOX = eh.Grid(7, 7)
PLANE = eh.Field(BOX, "C4", "2*trivial")
DTYPES = [torch.float32, torch.float64]


def claim(layer, target, source=PLANE, dtype=torch.float32, group="C4", **options):
    return Claim(layer, group, source, target, dtype=dtype, **options)


def regular(count, split=False):
    return eh.Field(BOX, "C4", f"{count}*regular", split=split)


def network(dtype):
    torch.manual_seed(0)
    layers = LiftingConv("C4", 2, 3, 3, padding=1, dtype=dtype), nn.ReLU(), GroupConv("C4", 3, 2, 3, dtype=dtype)
    return nn.Sequential(*layers, GroupPool("C4", "max"))


@pytest.mark.parametrize("prop", [adjoint, parameter_gradient])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_sound_network_has_a_sound_backward_pass(prop, dtype):
    target = eh.Field(eh.Grid(5, 5), "C4", "2*trivial")
    result = prop(claim(network(dtype), target, dtype=dtype)).result
    assert result.verdict is eh.Verdict.EXACT, result
    assert result.power > 1e3


@pytest.mark.parametrize("prop", [adjoint, parameter_gradient])
def test_invariants_are_held_to_the_gradient_of_another_weight(prop):
    torch.manual_seed(0)
    layer = nn.Sequential(LiftingConv("C4", 2, 3, 3), GlobalPool("C4", "mean"))
    assert prop(claim(layer, eh.Field(eh.Vector(), "C4", "3*trivial"))).result.verdict is eh.Verdict.EXACT


@pytest.mark.parametrize("mode", ["max", "mean"])
def test_pools_without_parameters_have_an_adjoint_and_no_parameter_gradient(mode):
    pooling = claim(GroupPool("C4", mode), PLANE, source=regular(2, split=True))
    assert adjoint(pooling).result.verdict is eh.Verdict.EXACT
    assert parameter_gradient(pooling).result.reason.code == "NO_PARAMETERS"


def test_actions_that_are_not_orthogonal_pass_too():
    """A shear basis: b_g is no isometry, and its transpose is not its inverse."""
    basis = torch.tensor([[1.0, 0.7], [0.0, 1.0]], dtype=torch.float64)
    of = eh.group("C4")

    def act(g, x):
        turn = torch.tensor(of.element(g).matrix, dtype=torch.float64)
        matrix = basis @ turn @ basis.inverse()
        return torch.einsum("ij,bj->bi", matrix.to(x.dtype), x)

    result = eh.check(lambda x: x * 3, "C4", act_in=act, act_out=act, inputs=torch.randn(4, 2))
    assert result.verdict is eh.Verdict.EXACT
    (part,) = [p for p in result.parts if p.property == "adjoint"]
    assert part.verdict is eh.Verdict.EXACT
    assert part.power > 1e3


def test_batch_norm_in_training_mode_keeps_its_buffers():
    torch.manual_seed(0)
    layer = nn.Sequential(LiftingConv("C4", 2, 3, 3, padding=1), GroupBatchNorm("C4", 3)).train()
    before = layer[1].running_mean.clone()
    assert adjoint(claim(layer, regular(3))).result.verdict is eh.Verdict.EXACT
    assert parameter_gradient(claim(layer, regular(3))).result.verdict is eh.Verdict.EXACT
    assert torch.equal(layer[1].running_mean, before)


def test_forward_only_functions_are_skipped_with_the_reason():
    forward = claim(lambda x: torch.from_numpy(x.detach().numpy() * 2), PLANE)
    result = adjoint(forward).result
    assert (result.verdict, result.reason.code) == (eh.Verdict.SKIPPED, "NOT_DIFFERENTIABLE")


def test_a_group_without_grid_elements_is_skipped():
    c3 = eh.Field(BOX, "C3", "trivial")
    result = adjoint(Claim(torch.tanh, "C3", c3, c3)).result
    assert result.reason.code == "NO_EXACT_ELEMENTS"


def test_half_precision_layers_are_judged_by_their_float64_structure():
    torch.manual_seed(0)
    layer = LiftingConv("C4", 2, 3, 3, padding=1).to(torch.bfloat16)
    result = adjoint(claim(layer, regular(3), dtype=torch.bfloat16)).result
    assert result.verdict is eh.Verdict.EXACT
    assert result.seen > 1e-4


def test_check_includes_the_adjoint():
    result = eh.check(network(torch.float32), "C4", PLANE, eh.Field(eh.Grid(5, 5), "C4", "2*trivial"))
    assert [p.property for p in result.parts] == ["homomorphism", "equivariance", "adjoint", "gradcheck", "batch"]


def test_integers_beside_floats_have_no_gradient_and_do_no_harm():
    points = eh.Field(eh.Points(5), "SO3", "standard")

    def weighted(pos, species):
        return pos * (species[..., None] + 1)

    def inputs(count, generator):
        return {
            "pos": torch.randn(count, 5, 3, generator=generator, dtype=torch.float64),
            "species": torch.randint(0, 3, (count, 5), generator=generator),
        }

    made = Claim(weighted, "SO3", {"pos": points, "species": eh.Invariant()}, points, inputs=inputs)
    assert adjoint(made).result.verdict is eh.Verdict.EXACT
