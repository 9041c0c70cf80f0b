"""Robustness: memory layouts, batches, NaN and unusual sizes change nothing that they should not."""

import equiharness as eh
import pytest
import torch
from equiharness.harness.claim.claim import Claim
from equiharness.harness.precisions import EPS
from equiharness.harness.verdict.decide import SAFETY
from equiharness.kernels import AntialiasedPool, GroupBatchNorm, GroupConv, GroupPool, LiftingConv, Upsample
from equiharness.suites.usage.robustness import robustness
from torch import nn

PLANE = eh.Field(eh.Grid(7, 7), "C4", "2*trivial")
REGULAR = eh.Field(eh.Grid(7, 7), "C4", "2*regular", split=True)
STATEMENTS = [
    "a sample alone",
    "strided memory",
    "channels-last memory",
    "expanded memory",
    "NaN in another sample",
    "an empty batch",
    "large values",
    "small values",
    "two backward passes",
]


def result(layer, source=PLANE, target=PLANE, dtype=torch.float32):
    return robustness(Claim(layer, "C4", source, target, dtype=dtype)).result


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_lifting_and_its_pool_are_robust_in_every_precision(dtype):
    torch.manual_seed(0)
    layer = nn.Sequential(LiftingConv("C4", 2, 2, 3, padding=1, bias=False), GroupPool("C4", "max")).to(dtype)
    found = result(layer, dtype=dtype)
    assert found.verdict is eh.Verdict.EXACT, found
    assert [e.element for e in found.elements] == STATEMENTS


@pytest.mark.parametrize(
    "layer",
    [
        GroupConv("C4", 2, 2, 3, padding=1),
        GroupBatchNorm("C4", 2).eval(),
        AntialiasedPool("C4", stride=1),
        Upsample("C4", 1),
        nn.ReLU(),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_the_projects_layers_are_robust(layer):
    found = result(layer, REGULAR, REGULAR)
    assert found.verdict is eh.Verdict.EXACT, found


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_layers_without_a_float64_form_are_compared_with_themselves():
    traced = torch.jit.trace(nn.Conv2d(2, 2, 3, padding=1), torch.zeros(1, 2, 7, 7))
    assert result(traced).verdict is eh.Verdict.EXACT


def test_a_layer_whose_terms_cancel_where_inputs_are_large_loses_no_more_than_rounding_them_does():
    """At usual sizes its constant dominates; beside large inputs it vanishes, and a hundredth of them is left."""

    def deviation(x):
        return x - x.mean((2, 3), keepdim=True) + 1

    def nearly_constant(count, generator):
        return 1 + 0.01 * torch.randn(count, 2, 7, 7, generator=generator, dtype=torch.float64)

    found = robustness(Claim(deviation, "C4", PLANE, PLANE, inputs=nearly_constant)).result
    [large] = [e for e in found.elements if e.element == "large values"]
    assert large.error > SAFETY * EPS["float32"]
    assert found.verdict is eh.Verdict.EXACT, found
