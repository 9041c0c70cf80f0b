"""Stacks of a layer, and the layer compiled and exported: equivariant, and the same."""

import equiharness as eh
import pytest
import torch
from equiharness.impls.grid.convolutions import Regular
from equiharness.kernels import GroupConv
from equiharness.suites.claims import claim_of
from equiharness.suites.forward.equivariance import equivariance
from equiharness.suites.usage.backends import backends
from equiharness.suites.usage.composition import composition

FIELD = eh.Field(eh.Grid(9, 9), "C4", "2*regular", split=True)
SCALARS = eh.Field(eh.Grid(9, 9), "C4", "2*trivial")


def stacked(layer, source=FIELD, target=None):
    return composition(claim_of(layer, "C4", source, target or source)).result


def test_stacks_of_a_sound_layer_are_sound_and_the_growth_of_rounding_is_told():
    result = stacked(GroupConv("C4", 2, 2, 3, padding=1))
    assert result.verdict is eh.Verdict.EXACT
    assert [row.element for row in result.elements] == ["depth 1", "depth 2", "depth 4"]
    assert "4 layers lose" in result.reason.message


def test_a_layer_of_ours_that_says_its_own_types_is_stacked():
    assert composition(claim_of(GroupConv("C4", 2, 2, 3, padding=1))).result.verdict is eh.Verdict.EXACT
    [case, *_] = [c for c in Regular().cases() if c["fields_in"] == c["fields_out"] and c["stride"] == 1]
    claim = Regular().build(case, device="cpu", dtype="float32", seed=0)
    assert composition(claim).result.verdict is eh.Verdict.EXACT


class SoundOnNoise(torch.nn.Module):
    """Adds a corner where a whole channel is not negative: never on noise, always after a relu."""

    def forward(self, x):
        corner = torch.zeros_like(x)
        corner[..., 0, 0] = 0.1
        return x + corner * (x.flatten(1).amin(1) >= 0).to(x)[:, None, None, None]


def test_a_layer_that_fails_on_what_it_makes_itself_is_broken_in_a_stack_alone():
    claim = claim_of(SoundOnNoise(), "C4", SCALARS, SCALARS)
    assert equivariance(claim).result.verdict is eh.Verdict.EXACT
    result = composition(claim).result
    assert (result.property, result.verdict) == ("composition", eh.Verdict.BROKEN)
    assert result.parts[0].verdict is eh.Verdict.EXACT


def test_a_stack_that_dies_out_proves_nothing_and_is_no_fault():
    result = stacked(lambda x: torch.relu(x - 2.5), SCALARS)
    assert result.verdict is eh.Verdict.EXACT
    assert result.parts[-1].reason.code == "DIES_OUT"


def test_a_layer_that_changes_its_field_cannot_be_stacked():
    result = stacked(lambda x: x[:, :1], SCALARS, eh.Field(eh.Grid(9, 9), "C4", "trivial"))
    assert (result.verdict, result.reason.code) == (eh.Verdict.SKIPPED, "NOT_COMPOSABLE")


def test_vectors_are_stacked_without_a_relu():
    vectors = eh.Field(eh.Grid(9, 9), "C4", "standard")
    assert stacked(lambda x: 2 * x, vectors).verdict is eh.Verdict.EXACT


def with_backends(layer, *names, dtype=torch.float32):
    from dataclasses import replace

    return replace(claim_of(layer, "C4", FIELD, FIELD, dtype=dtype), backends=names)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's compiler about torch
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_our_convolution_is_the_same_compiled_and_exported(dtype):
    layer = GroupConv("C4", 2, 2, 3, padding=1).to(dtype)
    result = backends(with_backends(layer, "aot_eager", "export", dtype=dtype)).result
    assert result.verdict is eh.Verdict.EXACT, result.reason
    assert [part.property for part in result.parts] == ["backends: aot_eager", "backends: export"]
    assert {row.element for part in result.parts for row in part.elements} == {"output", "input gradient"}


class ElseWhenCompiled(torch.nn.Module):
    """What a miscompiled kernel would be: another result under the compiler, by 1e-4."""

    def forward(self, x):
        return x * 1.0001 if torch.compiler.is_compiling() else x


class OtherGradientWhenCompiled(torch.nn.Module):
    """The right output, with a wrong gradient under the compiler."""

    def forward(self, x):
        return x.detach() * 2 - x if torch.compiler.is_compiling() else x * 1.0


@pytest.mark.parametrize("layer", [ElseWhenCompiled(), OtherGradientWhenCompiled()])
@pytest.mark.parametrize("backend", ["aot_eager", "export"])
def test_a_backend_that_computes_something_else_is_broken(layer, backend):
    result = backends(with_backends(layer, backend)).result
    assert (result.property, result.verdict) == ("backends", eh.Verdict.BROKEN)


def test_a_layer_that_no_compiler_can_take_is_named():
    def layer(x):
        return x * float(x.sum() > 0)

    class Branching(torch.nn.Module):
        def forward(self, x):
            return layer(x)

    result = backends(with_backends(Branching(), "export")).result
    assert result.verdict is eh.Verdict.CRASHED
    assert "export cannot take the layer" in result.reason.message


def test_without_a_named_backend_there_is_nothing_to_compare():
    result = backends(with_backends(torch.nn.ReLU())).result
    assert (result.verdict, result.reason.code) == (eh.Verdict.SKIPPED, "NO_BACKEND")
