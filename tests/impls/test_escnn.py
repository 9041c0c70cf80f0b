"""escnn's conventions, read element by element and held against escnn's own action."""

import equiharness as eh
import numpy as np
import pytest
import torch
from equiharness.adapters import Case

pytest.importorskip("escnn")

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # escnn warns about optional dependencies when imported
    import escnn.nn as enn
    from escnn import gspaces

from dataclasses import replace

from equiharness.harness.claim.claim import Claim
from equiharness.impls.peers import escnn as adapter
from equiharness.impls.peers.escnn import array_matrix, fibre_of, group_of
from equiharness.impls.peers.field_types import on_tensors
from equiharness.impls.twins import steerable
from equiharness.suites.check import run_property
from equiharness.suites.usage.parity import parity

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


def test_fields_of_so3_are_our_irreps_in_escnns_basis():
    gspace = gspaces.rot3dOnR3()
    kind = enn.FieldType(gspace, [gspace.trivial_repr, gspace.irrep(1), gspace.irrep(2), gspace.irrep(3)])
    of = group_of(gspace)
    fibre = fibre_of(kind, of)
    for _ in range(3):
        g = gspace.fibergroup.sample()
        element = of.element(array_matrix(gspace, g))
        for (_, ours), theirs in zip(fibre.terms, kind.representations, strict=True):
            assert np.abs(ours.of(element) - theirs(g)).max() < 1e-6, ours.name


def on_our_grids():
    """Every case of both convolutions; of volumes the scalars of O in the ordinary run, whose basis is quick to build.

    `verify` compares the others with every change.
    """
    for name in ("R2Conv", "R3Conv"):
        for case in getattr(adapter, name)().cases():
            quick = name == "R2Conv" or (case["group"], case["source"]) == ("O", "trivial")
            if case["group"] != "C8":
                yield pytest.param(name, case, id=f"{name} {case.name}", marks=[] if quick else pytest.mark.deep)


@pytest.mark.parametrize(("name", "case"), list(on_our_grids()))
def test_the_convolution_is_ours_on_its_weights(name, case):
    result = parity(getattr(adapter, name)().build(case, device="cpu", dtype="float32", seed=0)).result
    assert result.verdict is eh.Verdict.EXACT, result
    assert len(result.parts) == (2 if "cutoff" in case.parameters else 1)


@pytest.mark.deep
def test_octahedral_weights_of_ours_are_escnns_where_its_basis_reaches_frequency_6():
    """Minutes: escnn builds a basis of all 648 dimensions."""
    gspace = gspaces.octaOnR3()
    fields = enn.FieldType(gspace, [gspace.regular_repr])
    layer = enn.R3Conv(fields, fields, 3, padding=1, frequencies_cutoff=6.0, recompute=True)
    case = Case.of(fields_in=1, fields_out=1, kernel=3, stride=1, padding=1)
    of = group_of(gspace)
    field = eh.Field(eh.Grid(5, 5, 5), of, fibre_of(fields, of))
    claim = Claim(on_tensors(layer, "escnn"), of, field, field)
    matrices = [array_matrix(gspace, g) for g in gspace.fibergroup.elements]
    pairs = steerable("escnn.R3Conv", layer, claim, case, matrices, spans=True)
    result = parity(replace(claim, twins=pairs)).result
    assert result.verdict is eh.Verdict.EXACT
    assert len(result.parts) == 2


LAYERS = [
    value
    for value in vars(adapter).values()
    if isinstance(value, type) and issubclass(value, adapter.Escnn) and "name" in vars(value)
]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda c: c.name)
def test_every_layer_is_equivariant_to_single_precision_in_double(layer):
    implementation = layer()
    case = next(iter(implementation.cases()))
    claim = implementation.build(case, device="cpu", dtype="float64", seed=3)
    result = run_property("equivariance", claim).result
    assert result.verdict in (eh.Verdict.EXACT, eh.Verdict.IMPRECISE), result
    assert implementation.cost(case).flops > 0


@pytest.mark.parametrize("name", ["O", pytest.param("Oh", marks=pytest.mark.deep)])
def test_the_regular_representation_is_escnns_own_to_the_last_bit(name, monkeypatch):
    """It is built without the products of elements that take escnn seconds for O_h."""
    from escnn.group.representation import build_regular_representation

    group = adapter.gspace_of(name).fibergroup
    irreps, basis, inverse = build_regular_representation(group)
    monkeypatch.delitem(group.representations, "regular")
    found = adapter.gspace_of(name).regular_repr
    assert found.irreps == [irrep.id for irrep in irreps]
    assert np.array_equal(found.change_of_basis, basis)
    assert np.array_equal(found.change_of_basis_inv, inverse)
    assert found.supported_nonlinearities == {"pointwise", "norm", "gated", "concatenated"}
