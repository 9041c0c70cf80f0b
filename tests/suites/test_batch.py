"""Samples and their places in a batch do not influence each other, or `check` says so."""

import equiharness as eh
import pytest
import torch
from equiharness.harness.claim.claim import Claim
from equiharness.suites.check import run_property

PLANE = eh.Field(eh.Grid(7, 7), "C4", "2*trivial")


def batch(layer, **options):
    return run_property("batch", Claim(layer, "C4", PLANE, PLANE, **options)).result


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_layers_of_single_samples_pass(dtype):
    found = batch(lambda x: x - x.mean((1, 2, 3), keepdim=True), dtype=dtype)
    assert found.verdict is eh.Verdict.EXACT
    assert {row.element for row in found.elements} == {"a sample alone", "samples in another order"}


def test_a_leak_is_found_by_check_although_it_is_equivariant():
    result = eh.check(lambda x: x + 1e-3 * x.mean(0, keepdim=True), "C4", PLANE, PLANE)
    assert (result.verdict, result.property, result.reason.code) == (eh.Verdict.BROKEN, "batch", "LEAK")
    [equivariance] = [part for part in result.parts if part.property == "equivariance"]
    assert equivariance.verdict is eh.Verdict.EXACT


def test_norms_in_training_mode_are_no_leak_and_in_eval_mode_they_are_checked():
    norm = torch.nn.BatchNorm2d(2)
    assert batch(norm).reason.code == "SHARED_STATISTICS"
    assert batch(norm.eval()).verdict is eh.Verdict.EXACT


def one_size(x):
    if len(x) != 4:
        raise ValueError("four samples, please")
    return 2 * x


@pytest.mark.parametrize(
    ("layer", "options"),
    [(one_size, {}), (lambda x: 2 * x, {"call_seed": 0}), (lambda x: 2 * x, {"batched": False})],
)
def test_where_there_are_no_other_batches_it_is_skipped(layer, options):
    found = batch(layer, **options)
    assert (found.verdict, found.reason.code) == (eh.Verdict.SKIPPED, "NOT_AVAILABLE")


def test_check_asks_what_is_named():
    result = eh.check(lambda x: 2 * x, "C4", PLANE, PLANE, properties=["batch", "robustness"])
    assert [part.property for part in result.parts] == ["batch", "robustness"]
    with pytest.raises(eh.UsageError, match="batch"):
        eh.check(lambda x: 2 * x, "C4", PLANE, PLANE, properties=["batches"])


def test_nan_in_a_batch_of_one_is_a_fault_and_no_lack_of_evidence():
    def standardised(x):
        return x / (x - x.mean(0)).square().mean(0).sqrt()

    result = run_property("batch", Claim(standardised, "C4", PLANE, PLANE)).result
    assert result.verdict is eh.Verdict.BROKEN, str(result)
