"""Throughput: every figure is there, beside its errors, and each can be wrong in the way it should notice."""

import pytest
import torch
from equiharness.harness.adapters.adapter import Case, Cost
from equiharness.harness.adapters.operators import TimedCase, comparisons
from equiharness.harness.claim.claim import Claim
from equiharness.harness.errors import UsageError
from equiharness.harness.fields.domains import Grid
from equiharness.harness.fields.field import Field
from equiharness.harness.records.lines import Measurement
from equiharness.harness.timing.clock import Clock, Timing
from equiharness.harness.timing.roofline import Ceilings
from equiharness.harness.timing.timed_layer import prepare
from equiharness.suites.survey.side_by_side import side_by_side
from equiharness.suites.survey.throughput import Effort, MeasuredLayer, throughput

CEILINGS = Ceilings(bytes_per_second=1e10, flops_per_second=1e11)
QUICK = Effort(seconds=0.0, cold=False)


class OneSecond(Clock):
    """Every call takes a second, twice."""

    def interleaved(self, calls, **how):
        for call in calls.values():
            call()
        return {name: Timing((1.0, 1.0)) for name in calls}


def claim(layer, dtype=torch.float32, fibre="2*trivial"):
    field = Field(Grid(5, 5), "C4", fibre)
    return Claim(layer, "C4", field, field, dtype=dtype)


def measured(layer, effort=QUICK, cost=None, **how):
    timed_layer = prepare(lambda: claim(layer, **how), batch=4)
    template = Measurement(case="c", quantity="", value=0, unit="", better="lower", dtype="float32", batch=4)
    layers = {"a": MeasuredLayer(timed_layer, template, cost)}
    return {m.quantity: m for m in throughput(layers, clock=OneSecond(), ceilings=CEILINGS, effort=effort)}


def test_every_figure_of_a_layer_with_weights_is_there():
    found = measured(torch.nn.Conv2d(2, 2, 3, padding=1), Effort(seconds=0.0), Cost(1e10, 4, 3e10, 12))
    assert set(found) == {
        "build", "first call", "forward", "forward cold", "forward training", "backward", "backward cold",
        "samples per second", "floor of forward", "share of floor, forward", "floor of backward",
        "share of floor, backward", "intensity of forward", "intensity of backward",
        "memory", "training memory", "error against float64", "equivariance error",
    }  # fmt: skip
    assert found["forward"].samples == (1.0, 1.0)
    assert found["samples per second"].value == 4.0
    assert found["share of floor, forward"].value == pytest.approx(0.4)
    assert found["share of floor, backward"].value == pytest.approx(0.8)
    assert found["memory"].value >= 4 * 4 * 2 * 25


def test_every_figure_names_the_backend_of_its_call():
    class Telling(torch.nn.Conv2d):
        def forward(self, x):
            self.backend_ran = "training's" if torch.is_grad_enabled() else "inference's"
            return super().forward(x)

    found = measured(Telling(2, 2, 3, padding=1))
    assert found["forward"].backend == "inference's"
    assert found["forward training"].backend == found["backward"].backend == "training's"
    assert measured(torch.nn.Conv2d(2, 2, 3, padding=1))["forward"].backend == ""


def test_rates_and_shares_are_better_when_higher():
    found = measured(torch.nn.Conv2d(2, 2, 3, padding=1), cost=Cost(1, 1, 3, 3))
    higher = {q for q, m in found.items() if m.better == "higher"}
    assert higher == {"samples per second", "share of floor, forward", "share of floor, backward"}


def test_a_layer_without_an_account_of_its_work_has_no_floor():
    assert not any("floor" in q for q in measured(torch.nn.ReLU()))


def test_an_unconstrained_layer_shows_its_equivariance_error_and_an_equivariant_one_shows_rounding():
    assert measured(torch.nn.Conv2d(2, 2, 3, padding=1))["equivariance error"].value > 0.1
    assert measured(torch.nn.ReLU())["equivariance error"].value == 0.0


def test_a_precision_loss_is_seen_in_the_error():
    sound, lossy = torch.nn.Conv2d(2, 2, 3, padding=1), torch.nn.Conv2d(2, 2, 3, padding=1)
    rounded = lambda x: lossy(x.to(torch.bfloat16).float()) if x.dtype is torch.float32 else lossy(x)  # noqa: E731
    assert measured(sound)["error against float64"].value < 1e-6
    assert measured(rounded)["error against float64"].value > 1e-4


def test_what_has_no_gradient_has_no_backward_figure():
    found = measured(lambda x: x.detach() * 2)
    assert "backward" not in found
    assert "training memory" not in found


def test_modes_are_put_back():
    layer = torch.nn.Sequential(torch.nn.BatchNorm2d(2))
    layer.eval()
    timed_layer = prepare(lambda: claim(layer), batch=4)
    with timed_layer.mode(training=True):
        assert layer[0].training
    assert not layer[0].training


def test_channels_last_changes_the_layout_of_inputs_and_weights():
    layer = torch.nn.Conv2d(2, 2, 3, padding=1)
    timed_layer = prepare(lambda: claim(layer), batch=4, setting="channels_last")
    assert timed_layer.x.is_contiguous(memory_format=torch.channels_last)
    assert layer.weight.is_contiguous(memory_format=torch.channels_last)


def test_a_layout_that_does_not_fit_is_refused():
    field = Field(Grid(5, 5), "C4", "2*regular", split=True)
    with pytest.raises(UsageError, match="channels_last needs"):
        prepare(lambda: Claim(torch.nn.ReLU(), "C4", field, field), batch=2, setting="channels_last")


def test_an_unknown_setting_is_refused():
    with pytest.raises(UsageError, match="fast"):
        prepare(lambda: claim(torch.nn.ReLU()), batch=2, setting="fast")


def test_inputs_are_random_and_never_zero():
    assert float(prepare(lambda: claim(torch.nn.ReLU()), batch=2).x.abs().min()) > 0


def test_a_contest_names_who_was_left_out_and_times_the_rest():
    [group] = comparisons(["torch.nn.Conv2d"], operators="group convolution D4")
    bad = TimedCase(group[0].operator, "torch.nn.Conv2d", Case.of(group="no such group"), 2)
    left_out = []
    found = list(
        side_by_side(
            [*group, bad],
            dtype="float32",
            settings=["eager"],
            clock=OneSecond(),
            ceilings=CEILINGS,
            effort=QUICK,
            left_out=left_out.append,
        )
    )
    assert len(left_out) == 1
    assert "no such group" in left_out[0]
    assert {m.case for m in found} == {group[0].case.name}
    assert all(m.operator == "group convolution D4" and m.batch == group[0].batch for m in found)
