"""escnn's conventions, read element by element and held against escnn's own action."""

import equiharness as eh
import numpy as np
import pytest
import torch

pytest.importorskip("escnn")

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # escnn warns about optional dependencies when imported
    import escnn.nn as enn
    from escnn import gspaces

from equiharness.impls.escnn import array_matrix, fibre_of, group_of

pytestmark = pytest.mark.filterwarnings("ignore")

SPACES = {
    "C4": lambda: gspaces.rot2dOnR2(4),
    "C8": lambda: gspaces.rot2dOnR2(8),
    "D4": lambda: gspaces.flipRot2dOnR2(4),
    "O": gspaces.octaOnR3,
}


@pytest.mark.parametrize("name", SPACES)
def test_the_group_is_recognised_by_its_matrices(name):
    gspace = SPACES[name]()
    of = group_of(gspace)
    assert of.name == name
    indices = {of.element(array_matrix(gspace, g)).index for g in gspace.fibergroup.elements}
    assert indices == set(range(len(of)))


@pytest.mark.parametrize("name", ["C4", "D4", "O"])
def test_a_regular_field_moves_as_escnn_moves_it(name):
    gspace = SPACES[name]()
    kind = enn.FieldType(gspace, [gspace.trivial_repr, gspace.regular_repr])
    of = group_of(gspace)
    side = [5] * of.dim
    field = eh.Field(eh.Grid(*side), of, fibre_of(kind, of))
    x = torch.randn(2, kind.size, *side)
    for g in gspace.fibergroup.elements:
        theirs = enn.GeometricTensor(x, kind).transform(g).tensor
        ours = field.act(array_matrix(gspace, g), x)
        assert torch.allclose(ours, theirs, atol=1e-5), g


def test_a_field_of_another_element_would_be_noticed():
    gspace = SPACES["C4"]()
    kind = enn.FieldType(gspace, [gspace.regular_repr])
    field = eh.Field(eh.Grid(5, 5), fibre=kind)
    x = torch.randn(1, 4, 5, 5)
    one, other = list(gspace.fibergroup.elements)[1:3]
    theirs = enn.GeometricTensor(x, kind).transform(one).tensor
    assert not torch.allclose(field.act(array_matrix(gspace, other), x), theirs, atol=1e-2)


def test_quotient_and_irrep_fields_are_homomorphisms():
    gspace = SPACES["C8"]()
    kind = enn.FieldType(gspace, [gspace.irrep(1), gspace.irrep(4), gspace.quotient_repr(2)])
    of = group_of(gspace)
    for _, rep in fibre_of(kind, of).terms:
        for g in of:
            for h in of:
                assert np.abs(rep.of(g) @ rep.of(h) - rep.of(of.compose(g, h))).max() < 1e-12


def test_an_escnn_module_needs_no_group_and_no_field():
    gspace = SPACES["C4"]()
    layer = enn.R2Conv(
        enn.FieldType(gspace, [gspace.trivial_repr] * 2), enn.FieldType(gspace, [gspace.regular_repr]), 3, padding=1
    )
    assert eh.check(layer).verdict is eh.Verdict.EXACT
    assert eh.check(layer, dtype="float64").reason.code == "CONSTANTS_IN_SINGLE"


def test_an_escnn_module_of_aligned_and_misaligned_stride_is_told_apart():
    gspace = SPACES["C4"]()
    kind = enn.FieldType(gspace, [gspace.regular_repr] * 2)
    layer = enn.R2Conv(kind, kind, 3, padding=1, stride=2)
    for size, verdict in ((33, eh.Verdict.EXACT), (32, eh.Verdict.BROKEN)):
        source = eh.Field(eh.Grid(size, size), fibre=kind)
        target = eh.Field(eh.Grid((size + 1) // 2, (size + 1) // 2), fibre=kind)
        assert eh.check(layer, "C4", source, target).verdict is verdict, size
