"""Models of points: each fault is caught by its own property and named as what it is; its sound twin passes."""

import equiharness as eh
import pytest
import torch
from zoo.points import MODELS, SOURCE, TARGET, ForceField, N

#: What else a fault breaks, because it must: what does not turn is not mirrored and its gradient does not turn either;
#: the volume of four numbered atoms depends on their numbers; an energy of nothing shows nothing.
TURNING = {"reflections", "adjoint"}
ALSO = {
    "a box along the axes": TURNING,
    "a box of its own": TURNING,
    "a cell that is not turned": {*TURNING, "forces", "gradcheck"},  # it detaches its positions
    "handedness": {"permutations", "adjoint"},
    "an energy of nothing": {"reflections", "rotations", "translations", "permutations", "smoothness"},
    "a term without forces": {"gradcheck"},
}


PARTS = {*ALSO["an energy of nothing"], "adjoint", "homomorphism", "forces", "gradcheck", "batch"}


def checked(model, **options):
    return eh.check(model, "O3", SOURCE, TARGET, **options)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.deep)])
def test_the_sound_force_field_passes_every_part(seed, dtype):
    result = checked(ForceField(), seed=seed, dtype=dtype)
    assert {p.property for p in result.parts} == PARTS
    assert {p.verdict for p in result.parts} == {eh.Verdict.EXACT}, str(result)


@pytest.mark.parametrize("name", MODELS)
def test_a_force_field_with(name):
    model, caught, code, words = MODELS[name]
    result = checked(model)
    parts = {p.property: p for p in result.parts}
    found = parts[caught]
    assert found.verdict in (eh.Verdict.BROKEN, eh.Verdict.VACUOUS), str(result)
    assert found.reason.code == code, str(result)
    assert words in found.reason.message, str(result)
    others = {p for p, part in parts.items() if part.verdict.fails} - {caught}
    assert others == ALSO.get(name, set()), str(result)


def test_chirality_is_no_fault_under_rotations_alone():
    source = {**SOURCE, "pos": eh.Positions(N, "SO3"), "cell": eh.Cell("SO3", edge=9.0)}
    target = {"energy": eh.Energy(), "forces": eh.Forces(N, "SO3")}

    class Handed(ForceField):
        def energy(self, pos, z, cell):
            d = pos[:, :, None] - pos[:, None]
            return super().energy(pos, z, cell) + 1e-3 * torch.linalg.det(d[:, 1:4, 0].double()).to(pos)

    result = eh.check(Handed(), "SO3", source, target)
    parts = {p.property: p.verdict for p in result.parts}
    assert "reflections" not in parts
    assert parts["rotations"] is eh.Verdict.EXACT, str(result)


@pytest.mark.parametrize("size", [1e-2, pytest.param(1e-4, marks=pytest.mark.deep), 1e-6])
def test_forces_off_by_a_small_factor_are_caught_and_the_factor_is_named(size):
    part = next(p for p in checked(ForceField(forces_of=lambda f, pos: (1 + size) * f)).parts if p.property == "forces")
    assert part.verdict is eh.Verdict.BROKEN
    assert f"{1 + size:.6g} times" in part.reason.message or size < 1e-5


# --- networks whose mode matters ---


class Vectors(torch.nn.Module):
    """Mixes vectors; what ``after`` does to them decides whether it is equivariant."""

    def __init__(self, after):
        super().__init__()
        self.mix = torch.nn.Linear(8, 8, bias=False)
        self.after = after

    def forward(self, x):  # [batch, 8 * 3]
        return self.after(self.mix(x.unflatten(1, (8, 3)).transpose(1, 2)).transpose(1, 2)).flatten(1)


class WholeVectors(torch.nn.Module):
    """Dropout of whole vectors."""

    def forward(self, x):
        keep = torch.nn.functional.dropout(torch.ones_like(x[..., :1]), 0.5, self.training)
        return x * keep


VECTORS = eh.Field(eh.Vector(), "SO3", "8*standard")


def test_dropout_of_components_is_named_as_a_fault_of_training_mode():
    torch.manual_seed(0)
    model = Vectors(torch.nn.Dropout(0.5))
    random = eh.check(model, "SO3", VECTORS, VECTORS)
    assert random.reason.code == "NONDETERMINISTIC"
    assert "equivariant in eval() and not in train()" in random.reason.message
    seeded = eh.check(model, "SO3", VECTORS, VECTORS, call_seed=3)
    assert seeded.reason.code == "ERROR"
    assert "equivariant in eval() and not in train()" in seeded.reason.message
    assert model.training


def test_dropout_of_whole_vectors_holds_in_both_modes_with_a_seed():
    torch.manual_seed(0)
    result = eh.check(Vectors(WholeVectors()), "SO3", VECTORS, VECTORS, call_seed=3, modes=("train", "eval"))
    assert result.verdict is eh.Verdict.EXACT, str(result)
    assert {"equivariance in train()", "equivariance in eval()"} <= {p.property for p in result.parts}


def test_both_modes_are_named_where_one_is_broken():
    torch.manual_seed(0)
    model = Vectors(torch.nn.Dropout(0.5)).eval()
    result = eh.check(model, "SO3", VECTORS, VECTORS, call_seed=3, modes=("train", "eval"))
    verdicts = {p.property: p.verdict.value for p in result.parts}
    assert (verdicts["equivariance in train()"], verdicts["equivariance in eval()"]) == ("BROKEN", "EXACT")
    assert result.property == "equivariance in train()"
    assert not model.training


def test_a_model_broken_in_both_modes_is_not_excused_by_eval():
    torch.manual_seed(0)
    result = eh.check(Vectors(torch.nn.ReLU()), "SO3", VECTORS, VECTORS)
    assert result.verdict is eh.Verdict.BROKEN
    assert "eval()" not in result.reason.message


def test_running_statistics_come_after_a_fault_and_are_restored():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.BatchNorm1d(24))
    result = eh.check(model, "SO3", VECTORS, VECTORS)
    assert (result.verdict, result.reason.code) == (eh.Verdict.BROKEN, "ERROR")  # a norm of each coordinate by itself
    assert torch.equal(model[1].running_mean, torch.zeros(24))


# --- which input is at fault, and when nothing is said ---


def test_reflections_alone_are_named_in_any_group():
    axial = eh.Field(eh.Vector(), "O3", "2*standard")

    def cross(x):
        u, v = x.unflatten(1, (2, 3)).unbind(1)
        return torch.cat([torch.linalg.cross(u, v), u], 1)

    result = eh.check(cross, "O3", axial, axial)
    assert result.verdict is eh.Verdict.BROKEN
    assert "Only reflections fail" in result.reason.message
    rotated = eh.Field(eh.Vector(), "SO3", "2*standard")
    assert eh.check(cross, "SO3", rotated, rotated).verdict is eh.Verdict.EXACT


def test_an_input_that_only_matters_when_it_is_there_is_named():
    v = eh.Field(eh.Vector(), "SO3", "standard")

    def model(u, field):
        return u + 1e-2 * field.abs()

    result = eh.check(model, "SO3", {"u": v, "field": v}, v)
    assert "when `field` is zero: the fault is in how `field` is used" in result.reason.message


def test_no_input_is_named_where_all_are_at_fault():
    v = eh.Field(eh.Vector(), "SO3", "standard")
    result = eh.check(lambda u, w: u.abs() + w.abs(), "SO3", (v, v), v)
    assert result.verdict is eh.Verdict.BROKEN
    assert "fault" not in result.reason.message
