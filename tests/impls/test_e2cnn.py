"""e2cnn's conventions held against e2cnn's own action, its layers, and parity with ours both ways."""

import math
import warnings
from dataclasses import replace

import equiharness as eh
import numpy as np
import pytest
import torch
from equiharness.adapters import Case
from equiharness.harness.errors import UsageError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("e2cnn")
    try:
        import e2cnn.nn as enn
        from e2cnn import gspaces
    except ImportError as error:  # on numpy 2 e2cnn cannot be imported whole
        pytest.skip(str(error), allow_module_level=True)

from equiharness.impls.peers import e2cnn as adapter
from equiharness.impls.twins import Steerable
from equiharness.suites.check import run_property
from equiharness.suites.usage.parity import parity

pytestmark = pytest.mark.filterwarnings("ignore")

SPACES = {
    "C4": lambda: gspaces.Rot2dOnR2(4),
    "C8": lambda: gspaces.Rot2dOnR2(8),
    "D4": lambda: gspaces.FlipRot2dOnR2(4),
}
LAYERS = [
    value
    for value in vars(adapter).values()
    if isinstance(value, type) and issubclass(value, adapter.E2cnn) and value is not adapter.E2cnn
]


@pytest.mark.parametrize("name", ["C4", "D4"])
def test_a_field_moves_as_e2cnn_moves_it(name):
    gspace = SPACES[name]()
    kind = enn.FieldType(
        gspace, [gspace.trivial_repr, gspace.regular_repr, gspace.irrep(*((1, 1) if name == "D4" else (1,)))]
    )
    of = adapter.group_of(gspace)
    assert of.name == name
    field = eh.Field(eh.Grid(5, 5), fibre=kind)
    x = torch.randn(2, kind.size, 5, 5)
    for g in gspace.testing_elements:
        theirs = enn.GeometricTensor(x, kind).transform(g).tensor
        assert torch.allclose(field.act(adapter.array_matrix(gspace, g), x), theirs, atol=1e-5), g


def test_a_module_needs_no_group_and_no_field():
    gspace = SPACES["D4"]()
    fields = enn.FieldType(gspace, [gspace.regular_repr])
    assert eh.check(enn.R2Conv(fields, fields, 3, padding=1)).verdict is eh.Verdict.EXACT


#: Each axis is read by itself: e2cnn keeps filters of one axis for gspaces of every other.
AXES = {
    "reflection, horizontal axis": lambda: gspaces.Flip2dOnR2(axis=0.0),
    "reflection, axis 45°": lambda: gspaces.Flip2dOnR2(axis=math.pi / 4),
    "D4, axis 45°": lambda: gspaces.FlipRot2dOnR2(4, axis=math.pi / 4),
    "D4, axis 30°": lambda: gspaces.FlipRot2dOnR2(4, axis=math.pi / 6),
}


@pytest.mark.parametrize("name", AXES)
def test_a_field_of_any_axis_moves_as_e2cnn_moves_it(name):
    gspace = AXES[name]()
    kind = enn.FieldType(gspace, [gspace.trivial_repr, gspace.regular_repr])
    field = eh.Field(eh.Grid(5, 5), fibre=kind)
    assert len(field.group) == gspace.fibergroup.order()
    x = torch.randn(2, kind.size, 5, 5)
    for g in gspace.testing_elements:
        element = field.group.element(adapter.array_matrix(gspace, g))
        if field.exact(element):
            theirs = enn.GeometricTensor(x, kind).transform(g).tensor
            assert torch.allclose(field.act(element, x), theirs, atol=1e-5), g


@pytest.mark.parametrize("reflections", [False, True])
def test_continuous_groups_are_read_and_perturbed_filters_are_broken(reflections):
    space = gspaces.FlipRot2dOnR2 if reflections else gspaces.Rot2dOnR2
    gspace = space(-1, maximum_frequency=2)
    vector = gspace.irrep(*((1, 1) if reflections else (1,)))
    layer = enn.R2Conv(enn.FieldType(gspace, [gspace.trivial_repr]), enn.FieldType(gspace, [vector]), 5, padding=2)
    assert adapter.group_of(gspace).name == ("O2" if reflections else "SO2")
    assert eh.check(layer.eval()).verdict is eh.Verdict.APPROXIMATE
    layer.filter.add_(0.3 * torch.randn_like(layer.filter))
    assert eh.check(layer).verdict is eh.Verdict.BROKEN


def test_reflections_are_no_elements_of_rotations():
    gspace = gspaces.Rot2dOnR2(-1, maximum_frequency=2)
    kind = enn.FieldType(gspace, [gspace.irrep(1)])
    with pytest.raises(UsageError, match="leave the group out"):
        eh.Field(eh.Grid(5, 5), "D4", kind)


def test_a_restriction_and_several_inputs_are_read():
    gspace = SPACES["D4"]()
    kind = enn.FieldType(gspace, [gspace.regular_repr])
    restriction = enn.RestrictionModule(kind, (None, 4))
    network = enn.SequentialModule(enn.ReLU(kind), restriction, enn.DisentangleModule(restriction.out_type))
    result = eh.check(network)
    assert result.verdict is eh.Verdict.EXACT
    assert "C4" in str(result)
    gates = enn.FieldType(gspace, [gspace.trivial_repr])
    assert eh.check(enn.GatedNonLinearity2((gates, kind))).verdict is eh.Verdict.EXACT


@pytest.mark.parametrize("layer", LAYERS, ids=lambda c: c.name)
def test_every_layer_is_equivariant_to_single_precision_in_double(layer):
    implementation = layer()
    case = next(iter(implementation.cases()))
    claim = implementation.build(case, device="cpu", dtype="float64", seed=3)
    result = run_property("equivariance", claim).result
    assert result.verdict in (eh.Verdict.EXACT, eh.Verdict.IMPRECISE), result
    assert implementation.cost(case).flops > 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("group", ["C4", "D4"])
def test_the_regular_convolution_is_ours_both_ways(group, dtype):
    implementation = adapter.R2Conv()
    case = next(c for c in implementation.cases() if c["group"] == group and "cutoff" in c.parameters)
    result = parity(implementation.build(case, device="cpu", dtype=dtype, seed=0)).result
    assert result.verdict is eh.Verdict.EXACT, result
    assert len(result.parts) == 2


def test_a_band_limited_basis_is_compared_one_way():
    implementation = adapter.R2Conv()
    case = next(iter(implementation.cases()))
    assert len(parity(implementation.build(case, device="cpu", dtype="float32", seed=0)).result.parts) == 1


def test_a_basis_that_does_not_span_is_refused_with_the_way_out():
    implementation = adapter.R2Conv()
    case = Case.of(group="C4", size=9, kernel=3, stride=1, padding=1, fields_in=1, fields_out=1)
    claim = implementation.build(case, device="cpu", dtype="float32", seed=0)
    with pytest.raises(UsageError, match="raise its frequencies_cutoff"):
        claim.twins[0].__self__.theirs_from_ours()


def test_elements_matched_by_index_would_be_noticed():
    implementation = adapter.R2Conv()
    case = next(c for c in implementation.cases() if "cutoff" in c.parameters)
    claim = implementation.build(case, device="cpu", dtype="float32", seed=0)
    sound = claim.twins[0].__self__
    assert isinstance(sound, Steerable)
    wrong = Steerable(sound.name, sound.module, sound.on_tensors, [0, 3, 2, 1], sound.ours)
    broken = replace(claim, twins=(wrong.ours_from_theirs,), modules=claim.modules)
    assert parity(broken).result.verdict is eh.Verdict.BROKEN


def test_matrices_are_a_homomorphism_of_e2cnns_own_product():
    gspace = SPACES["D4"]()
    of = gspace.fibergroup
    for g in of.elements:
        for h in of.elements:
            product = adapter.array_matrix(gspace, of.combine(g, h))
            assert np.allclose(adapter.array_matrix(gspace, g) @ adapter.array_matrix(gspace, h), product)
