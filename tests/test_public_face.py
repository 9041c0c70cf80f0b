"""What the top package exports: honest signatures, reprs that can be pasted, exceptions with one base."""

import copy
import importlib.metadata
import inspect
import pickle
import subprocess
import sys

import equiharness as eh
import pytest
import torch
from equiharness.adapters import Case, Implementation
from equiharness.kernels import LiftingConv
from equiharness.suites.claims import claim_of

PUBLIC = {name: getattr(eh, name) for name in eh.__all__}
HALF_TURNS = eh.Group([[[1, 0], [0, 1]], [[-1, 0], [0, -1]]], name="half turns")
LEAVES = [
    eh.Field(eh.Grid(33, 33), "C4", "3*trivial + 8*regular"),
    eh.Field(eh.Grid(5, 5, 5), "Oh", "2*regular", split=True),
    eh.Field(eh.Grid(5, 6), HALF_TURNS, "2*regular"),
    eh.Field(eh.Sphere(4, grid="gauss", shape=(6, 9)), "SO3"),
    eh.Field(eh.Rotations(3), "SO3", "2*trivial"),
    eh.Field(eh.Points(6), "O3", "2*irrep(1,o) + trivial"),
    eh.Field(eh.Edges(4), "SO2", "irrep(2)"),
    eh.Field(eh.Vector(), "D3", "standard"),
    eh.Positions(6, "O3"),
    eh.Positions(6, "O3", spacing=1.2345678),
    eh.Cell("O3"),
    eh.Cell("SO3", edge=4.5),
    eh.Forces(6, "O3", energy="E"),
    eh.Energy(),
    eh.Energy(cutoff=2.5),
    eh.Index(6, (2, 30)),
    eh.Index(6),
    eh.Invariant(),
    eh.Invariant((6,), integers=(1, 5)),
    eh.Invariant(at=eh.Points(6), integers=3),
    eh.Approximate(ceiling=0.1),
    eh.Exact(),
    eh.group("D6"),
    eh.group("SO3"),
    HALF_TURNS,
]


@pytest.mark.parametrize("leaf", LEAVES, ids=str)
def test_a_repr_can_be_pasted(leaf):
    again = eval(repr(leaf), dict(PUBLIC))
    assert type(again) is type(leaf)
    assert repr(again) == repr(leaf)


@pytest.mark.parametrize(
    "attempt",
    [
        lambda: eh.Energy(2.0),
        lambda: eh.Energy(shape=(3,)),
        lambda: eh.Invariant((3,), 5),
        lambda: eh.Approximate(0.1),
        lambda: eh.Sphere(4, "gauss"),
        lambda: eh.Positions(6, "O3", 1.0),
        lambda: eh.Cell("O3", 4.0),
        lambda: eh.Field(eh.Grid(3, 3), "C4", "trivial", True),
        lambda: eh.Field(eh.Grid(3, 3), "C4", fiber="trivial"),
    ],
)
def test_an_argument_that_would_land_elsewhere_is_refused(attempt):
    with pytest.raises(TypeError, match="argument"):
        attempt()


def test_signatures_name_what_they_take():
    assert list(inspect.signature(eh.Field).parameters) == ["domain", "group", "fibre", "split"]
    assert list(inspect.signature(eh.Positions).parameters) == ["count", "group", "spacing"]
    assert list(inspect.signature(eh.Energy).parameters) == ["cutoff"]


def test_a_name_always_gives_the_same_group():
    assert eh.group("C4") is eh.group("C4")
    assert eh.group("c_4") is eh.group("C4")
    assert eh.group("OH") is eh.group("Oh") is eh.Field(eh.Grid(3, 3, 3), "Oh").group
    assert eh.group("SO(3)") is eh.group("SO3")
    assert eh.group("C4") is not eh.group("D4")


def test_the_version_is_that_of_the_installed_distribution():
    assert eh.__version__ == importlib.metadata.version("equiharness")


@pytest.mark.parametrize("name", ["UsageError", "RecordError", "MissingDependencyError", "HarnessError"])
def test_every_exception_has_one_base_and_the_name_that_users_import(name):
    kind = getattr(eh, name)
    assert issubclass(kind, eh.EquiharnessError)
    assert not issubclass(kind, AssertionError)
    assert f"{kind.__module__}.{kind.__qualname__}" == f"equiharness.{name}"
    assert isinstance(pickle.loads(pickle.dumps(kind("text"))), kind)


def test_names_for_authors_of_adapters_have_left_the_top():
    assert not {"Case", "Cost", "Expected", "Family", "Implementation"} & set(dir(eh))
    assert Case.of(n=1).name == "n=1"
    assert Implementation.strategy(Implementation()) is None
    with pytest.raises(AttributeError, match="no attribute 'Case'"):
        _ = eh.Case


@pytest.mark.parametrize("name", ["C4", "D6", "Oh", "SO3", "O2"])
def test_copies_and_unpickled_groups_are_the_one_of_their_name(name):
    known = eh.group(name)
    assert copy.deepcopy(known) is known
    assert pickle.loads(pickle.dumps(known)) is known
    field = copy.deepcopy(eh.Field(eh.Vector(), name, "standard"))
    assert field.group is known
    assert repr(field) == f"Field(Vector(), {name!r}, '1*standard')"


def test_a_shared_group_cannot_be_changed():
    known = eh.group("C4")
    for copied in (known.mul, known.inv, known.elements, known.element(1).matrix):
        copied[...] = 0
    for kept in (known.mul, known.inv, known.elements, known.element(1).matrix):
        assert kept.any()


def test_an_action_of_ones_own_may_hand_the_matrix_to_torch():
    def act(g, v):
        return v @ torch.as_tensor(g.matrix, dtype=v.dtype).T

    inputs = torch.randn(4, 2)
    assert eh.check(torch.nn.Identity(), "C4", inputs=inputs, act_in=act, act_out=act).verdict is eh.Verdict.EXACT


def test_a_group_of_its_own_is_copied_as_it_is():
    again = copy.deepcopy(HALF_TURNS)
    assert again is not HALF_TURNS
    assert again.elements.tolist() == HALF_TURNS.elements.tolist()


@pytest.mark.parametrize("name", ["C4", "D2", "Oh"])
def test_a_layer_of_ours_belongs_to_the_named_group_and_prints_its_name(name):
    claim = claim_of(LiftingConv(name, 1, 1, 3, padding=1))
    assert claim.group is eh.group(name)
    assert len(str(claim.source)) < 60
    assert f"{name!r}" in repr(claim.target)


def test_importing_the_package_loads_nothing_but_itself_and_a_little_of_the_standard_library():
    code = "import sys; before = set(sys.modules); import equiharness; print(*sorted(set(sys.modules) - before))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    loaded = set(output.split())
    assert "equiharness" in loaded
    assert {name for name in loaded if name.split(".")[0] not in sys.stdlib_module_names} == {"equiharness"}
    assert not loaded & {"importlib.metadata", "pathlib", "json", "inspect"}  # each loads dozens more
