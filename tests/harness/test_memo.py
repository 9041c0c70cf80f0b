"""What the properties of a claim share: found again by what determines it, never stale, bounded."""

import copy
import pickle

import equiharness as eh
import pytest
import torch
from equiharness.harness.claim.claim import Claim
from equiharness.harness.claim.evaluation import Subject
from equiharness.harness.claim.memo import Memo, digest, parts_of, state_of

FIELD = eh.Field(eh.Vector(), "C4", "3*trivial")


class Counted(torch.nn.Module):
    """A layer that counts its calls."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(2.0))
        self.register_buffer("shift", torch.tensor(1.0))
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return x * self.weight + self.shift


def subject(layer, **options):
    return Subject(Claim(layer, "C4", FIELD, FIELD, modules=(layer,), **options))


def changed_weight(layer):
    with torch.no_grad():
        layer.weight.mul_(3)


def changed_buffer(layer):
    layer.shift.add_(1)


def changed_mode(layer):
    layer.eval()


def replaced_data(layer):
    layer.weight.data = torch.tensor(5.0)


def test_one_input_is_one_call_for_all_subjects_of_a_claim():
    layer, x = Counted(), torch.rand(4, 3, dtype=torch.float64)
    claim = Claim(layer, "C4", FIELD, FIELD, modules=(layer,))
    first = Subject(claim).working(x)
    assert torch.equal(Subject(claim).working(x.clone()), first)
    assert layer.calls == 1
    Subject(claim).working(x, fresh=True)
    assert layer.calls == 2


@pytest.mark.parametrize("change", [changed_weight, changed_buffer, changed_mode, replaced_data])
def test_a_layer_that_has_changed_is_called_again(change):
    layer, x = Counted(), torch.rand(4, 3, dtype=torch.float64)
    runs = subject(layer)
    runs.working(x)
    change(layer)
    found = runs.working(x)
    assert layer.calls == 2
    torch.testing.assert_close(found, (x.float() * layer.weight + layer.shift).detach().double())


def test_precisions_seeds_and_inputs_are_told_apart():
    layer, x = Counted(), torch.rand(4, 3, dtype=torch.float64)
    runs = subject(layer)
    for call in (runs.working, runs.reference, lambda v: runs.working(v + 1), lambda v: runs.working(v.roll(1, 0))):
        before = layer.calls
        call(x)
        assert layer.calls == before + 1
    perturbed = [runs.perturbed(x, 1e-3, seed) for seed in (0, 1, 0)]
    assert not torch.equal(perturbed[0], perturbed[1])
    assert torch.equal(perturbed[0], perturbed[2])


def test_a_layer_may_write_into_its_input():
    x = torch.rand(4, 3, dtype=torch.float64)
    kept = x.clone()
    runs = Subject(Claim(torch.nn.ReLU(inplace=True), "C4", FIELD, FIELD))
    torch.testing.assert_close(runs.working(x - 0.5), (x.float() - 0.5).clamp(min=0).double())
    assert torch.equal(x, kept)


def test_the_oldest_values_go_when_the_room_is_full():
    memo = Memo(room=800)
    for key in range(5):
        memo.get(key, lambda: torch.zeros(25, dtype=torch.float64))  # 200 bytes each
    made = []
    memo.get(4, lambda: made.append(4))
    memo.get(0, lambda: made.append(0))
    assert made == [0]
    assert memo.held <= 800


def test_a_value_larger_than_a_quarter_of_the_room_is_not_kept():
    memo = Memo(room=800)
    memo.get("large", lambda: torch.zeros(100, dtype=torch.float64))
    assert memo.held == 0


def test_copies_of_a_claim_start_with_nothing():
    memo = Memo()
    memo.get("a", lambda: torch.zeros(3))
    assert copy.deepcopy(memo).held == pickle.loads(pickle.dumps(memo)).held == 0


def test_digests_tell_dtypes_shapes_and_values_apart():
    dtypes = (torch.float32, torch.float64, torch.int32, torch.bool, torch.complex64, torch.bfloat16)
    values = [torch.zeros(4, dtype=dtype) for dtype in dtypes]
    values += [torch.zeros(2, 2), torch.ones(4), torch.zeros(0), torch.tensor(0.0)]
    assert len({digest(v) for v in values}) == len(values)
    assert digest({"a": values[0]}) != digest({"b": values[0]})
    assert digest(torch.arange(6.0).reshape(2, 3).T) == digest(torch.arange(6.0).reshape(2, 3).T.contiguous())


def test_the_state_of_a_module_is_its_tensors_and_modes():
    layer = Counted()
    before = state_of([layer])
    assert state_of([layer]) == before
    changed_mode(layer)
    assert state_of([layer]) != before


class Unhashed(torch.nn.Linear):
    """As modules of some libraries: its hash costs more than its forward, and equals that of others."""

    def __hash__(self):
        raise AssertionError("the state of a module does not need its hash")

    def __eq__(self, other):
        return True


def test_modules_are_told_apart_by_identity():
    first, second = Unhashed(1, 1), Unhashed(1, 1)
    outer = torch.nn.Sequential(first, torch.nn.Sequential(second, first))
    assert [id(part) for part in parts_of([outer, first])] == [id(outer), id(first), id(outer[1]), id(second)]
    before = state_of([outer])
    with torch.no_grad():
        second.bias.add_(1)
    assert state_of([outer]) != before


def test_the_projection_of_an_output_is_made_once():
    field = eh.Field(eh.Sphere(4), "SO3", "trivial")
    claim = Claim(torch.nn.Identity(), "SO3", field, field, dtype=torch.float64)
    x = claim.draw(2)
    outside = x + torch.linspace(-1, 1, x.shape[-2], dtype=x.dtype).sign()[:, None]  # a jump has all degrees
    assert Subject(claim).working(outside) is Subject(claim).working(outside)
    assert torch.equal(Subject(claim).working(outside), field.project(outside))
    assert not torch.equal(Subject(claim, whole=True).working(outside), Subject(claim).working(outside))


def test_many_inputs_are_one_call_where_samples_are_independent():
    layer, x = Counted(), torch.rand(4, 3, dtype=torch.float64)
    others = [torch.rand(4, 3, dtype=torch.float64) for _ in range(3)]
    runs = subject(layer)
    alone = [subject(layer).working(v) for v in others]
    runs.working(x), runs.reference(x)
    before = layer.calls
    runs.evaluate_together(x, others, others)
    assert layer.calls == before + 2
    for v, wanted in zip(others, alone, strict=True):
        assert torch.equal(runs.working(v), wanted)
        runs.reference(v)
    assert layer.calls == before + 2


def test_a_layer_whose_samples_influence_each_other_is_called_for_each_input():
    """Batch norm in train mode: one batch of all inputs would be normalised as a whole."""
    layer, x = torch.nn.BatchNorm1d(3, track_running_stats=False), torch.rand(4, 3, dtype=torch.float64)
    others = [torch.rand(4, 3, dtype=torch.float64) for _ in range(3)]
    runs = subject(layer)
    runs.working(x), runs.reference(x)
    held = runs.claim.memo.held
    runs.evaluate_together(x, others, others)
    assert runs.claim.memo.held == held
    torch.testing.assert_close(runs.working(others[0]), layer(others[0].float()).detach().double())
