"""Parity: one operator twice, forward and backward, to derived bounds."""

import equiharness as eh
import pytest
import torch
import torch.nn.functional as F
from equiharness.harness.claim.claim import Claim, Twin
from equiharness.harness.errors import MissingDependencyError, UsageError
from equiharness.suites.check import check_claim
from equiharness.suites.usage.parity import parity

FIELD = eh.Field(eh.Grid(7, 7), "C4", "3*trivial")
DTYPES = [torch.float64, torch.float32, torch.bfloat16]


def direct(theta, x):
    return F.conv2d(x, theta["weight"], theta["bias"], padding=1)


def unfolded(theta, x):
    columns = F.unfold(x, 3, padding=1)
    return (theta["weight"].flatten(1) @ columns).unflatten(2, x.shape[2:]) + theta["bias"][:, None, None]


def parameters(dtype):
    torch.manual_seed(0)
    return {"weight": torch.randn(3, 3, 3, 3, dtype=dtype), "bias": torch.randn(3, dtype=dtype)}


def claim(*pairs, dtype=torch.float32, name="pair"):
    def build(first, second):
        return lambda: Twin(name, first, second, parameters(dtype))

    twins = tuple(build(first, second) for first, second in pairs)
    return Claim(lambda x: direct(parameters(dtype), x), "C4", FIELD, FIELD, dtype=dtype, twins=twins)


@pytest.mark.parametrize("dtype", DTYPES)
def test_two_forms_of_a_convolution_are_one_operator_in_every_precision(dtype):
    result = parity(claim((direct, unfolded), dtype=dtype)).result
    assert result.verdict is eh.Verdict.EXACT
    # In half precision errors fail beyond the bound of half precision, which is 8,192 or 65,536 times that of float32.
    assert result.power > (1e3 if dtype in (torch.float32, torch.float64) else 1)


def test_the_result_names_output_and_every_gradient():
    (part,) = parity(claim((direct, unfolded))).result.parts
    assert part.property == "parity: pair"
    assert [e.element for e in part.elements] == [
        "output",
        "input gradient",
        "gradient of weight",
        "gradient of bias",
    ]


def test_the_worst_pair_decides_and_all_are_shown():
    def halved(theta, x):
        return direct(theta, x) * 0.5

    result = parity(claim((direct, unfolded), (direct, halved))).result
    assert result.verdict is eh.Verdict.BROKEN
    assert [p.verdict for p in result.parts] == [eh.Verdict.EXACT, eh.Verdict.BROKEN]


def test_a_claim_without_a_second_implementation_is_skipped():
    assert parity(claim()).result.reason.code == "NO_TWIN"


def test_a_missing_library_skips_its_pair_only():
    def missing():
        raise MissingDependencyError("needs a library. Install it: pip install library")

    there = claim((direct, unfolded))
    both = Claim(there.function, "C4", FIELD, FIELD, twins=(*there.twins, missing))
    result = parity(both).result
    assert result.verdict is eh.Verdict.EXACT
    assert result.parts[1].reason.code == "NOT_INSTALLED"
    alone = Claim(there.function, "C4", FIELD, FIELD, twins=(missing,))
    assert parity(alone).result.verdict is eh.Verdict.SKIPPED


def test_outputs_of_different_shapes_are_refused_with_the_pair_named():
    with pytest.raises(UsageError, match="'pair' differ in shape"):
        parity(claim((direct, lambda theta, x: direct(theta, x)[..., 1:])))


def test_an_operator_without_parameters_is_compared_on_its_inputs():
    made = Claim(torch.relu, "C4", FIELD, FIELD, twins=(lambda: Twin("relu", lambda _, x: x.relu(), clamped, {}),))
    assert parity(made).result.verdict is eh.Verdict.EXACT


def clamped(_, x):
    return x.clamp(min=0)


def test_a_table_held_in_single_precision_is_imprecise_in_double():
    table = torch.full((), 1 / 3)

    def third(theta, x):
        return direct(theta, x) / 3

    def tabled(theta, x):
        return direct(theta, x) * table

    result = parity(claim((third, tabled), dtype=torch.float64)).result
    assert result.reason.code == "CONSTANTS_IN_SINGLE"
    assert parity(claim((third, tabled), dtype=torch.float32)).result.verdict is eh.Verdict.EXACT


def test_check_includes_parity_where_the_claim_has_twins():
    c4 = eh.Field(eh.Grid(7, 7), "C4", "3*trivial")

    def symmetric(theta, x):
        return x * theta["scale"]

    made = Claim(
        lambda x: 2 * x,
        "C4",
        c4,
        c4,
        twins=(lambda: Twin("scale", symmetric, lambda t, x: t["scale"] * x, {"scale": torch.tensor(2.0)}),),
    )
    result = check_claim(made)
    assert result.verdict is eh.Verdict.EXACT
    assert "parity" in [p.property for p in result.parts]
