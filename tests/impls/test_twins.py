"""The same operator in two libraries: weights mapped both ways, elements matched by matrix."""

import equiharness as eh
import pytest
import torch
from equiharness import kernels
from equiharness.harness.claim.claim import Claim, Twin
from equiharness.impls import twins
from equiharness.suites.usage.parity import parity

pytestmark = pytest.mark.filterwarnings("ignore")


def claim_of(layer, source, target, pairs, dtype=torch.float32, size=7, split=True):
    of = eh.group(layer.group.name)
    box = eh.Grid(*[size] * of.dim)
    src = eh.Field(box, of, source, split=split)
    return Claim(layer, of, src, eh.Field(box, of, target), dtype=dtype, twins=tuple(pairs))


@pytest.mark.parametrize("variant", ["pointwise_first", "depthwise_first", "per_pair"])
@pytest.mark.parametrize(
    ("group", "dtype"),
    [
        ("D4", torch.float32),
        ("D4", torch.float64),
        ("O", torch.float32),
        pytest.param("O", torch.float64, marks=pytest.mark.deep),
    ],
)
def test_a_separable_layer_is_its_formula_and_its_factorised_regular_layer(variant, group, dtype):
    layer = kernels.SeparableGroupConv(group, 2, 2, 3, padding=1, variant=variant, dtype=dtype)
    size = 5 if group == "D4" else 3
    made = claim_of(layer, "2*regular", "2*regular", twins.of_layer(layer), dtype, size=size)
    result = parity(made).result
    assert result.verdict is eh.Verdict.EXACT, result
    assert len(result.parts) == 2


@pytest.mark.parametrize("kind", ["LiftingConv", "GroupConv", "VectorLift", "VectorProjection"])
@pytest.mark.parametrize(("group", "size"), [("C4", 5), ("Oh", 2), pytest.param("Oh", 5, marks=pytest.mark.deep)])
def test_the_fast_path_is_the_formula(kind, group, size):
    layer = getattr(kernels, kind)(group, 1, 2, 3, padding=1)
    sources = {
        "LiftingConv": "trivial",
        "GroupConv": "regular",
        "VectorLift": "standard",
        "VectorProjection": "regular",
    }
    target = "2*standard" if kind == "VectorProjection" else "2*regular"
    made = claim_of(layer, sources[kind], target, twins.of_layer(layer), size=size, split=kind != "LiftingConv")
    assert parity(made).result.verdict is eh.Verdict.EXACT


def test_a_factorised_weight_of_another_element_order_would_be_noticed():
    layer = kernels.SeparableGroupConv("C4", 2, 2, 3, padding=1)
    sound = twins.factorised(layer)

    def reordered(theta, x):
        return sound.second({**theta, "group_weight": theta["group_weight"].roll(1, -1)}, x)

    broken = Twin("reordered", sound.first, reordered, sound.parameters)
    made = claim_of(layer, "2*regular", "2*regular", [lambda: broken])
    assert parity(made).result.verdict is eh.Verdict.BROKEN


@pytest.mark.parametrize("variant", ["pointwise_first", "depthwise_first", "per_pair"])
@pytest.mark.parametrize("kind", ["TransposedSeparableGroupConv", "RelaxedSeparableGroupConv"])
def test_transposed_and_relaxed_separable_layers_are_the_layers_that_they_factorise(kind, variant):
    options = {"banks": 2} if kind.startswith("Relaxed") else {}
    layer = getattr(kernels, kind)("D4", 2, 2, 3, padding=1, variant=variant, **options)
    if options:
        torch.nn.init.normal_(layer.relaxation)
    made = claim_of(layer, "2*regular", "2*regular", twins.of_layer(layer), size=5)
    result = parity(made).result
    assert result.verdict is eh.Verdict.EXACT, result
    assert len(result.parts) == 2


def test_sampled_filters_of_another_element_order_would_be_noticed():
    layer = kernels.SteerableConv("C4", 2, 2, 3, padding=1)
    sound = twins.on_the_grid(layer)

    def reordered(theta, x):
        return sound.second({**theta, "weight": theta["weight"].roll(1, 2)}, x)

    for second, verdict in ((sound.second, eh.Verdict.EXACT), (reordered, eh.Verdict.BROKEN)):
        pair = Twin("steerable", sound.first, second, sound.parameters)
        made = claim_of(layer, "2*regular", "2*regular", [lambda pair=pair: pair])
        assert parity(made).result.verdict is verdict
