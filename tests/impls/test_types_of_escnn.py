"""Every gspace of escnn is read as escnn means it: no base space, any axis, O(2), O(3), cylinders, cones, subgroups."""

import warnings

import equiharness as eh
import numpy as np
import pytest
import torch

pytest.importorskip("escnn")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # escnn warns about optional dependencies when imported
    import escnn.nn as enn
    from escnn import group, gspaces

from equiharness.harness.symmetry.groups import Element
from equiharness.impls.library_groups import numpy_seeded
from equiharness.impls.peers.escnn import array_matrix, fibre_of, group_of, reading_of

pytestmark = pytest.mark.filterwarnings("ignore")

HOLDS = (eh.Verdict.EXACT, eh.Verdict.APPROXIMATE)

#: Groups that act on the plane or on space, with a representation of each that is not trivial.
SPACES = {
    "reflection, axis 45°": lambda: gspaces.flip2dOnR2(axis=np.pi / 4),
    "reflection, vertical axis": gspaces.flip2dOnR2,
    "D4, axis 30°": lambda: gspaces.flipRot2dOnR2(4, axis=np.pi / 6),
    "O(2), axis 0.3": lambda: gspaces.flipRot2dOnR2(-1, 2, axis=0.3),
    "SO(2)": lambda: gspaces.rot2dOnR2(-1, 2),
    "mirror in space": gspaces.mirOnR3,
    "inversion": gspaces.invOnR3,
    "D3 in space": lambda: gspaces.dihedralOnR3(3),
    "dihedral": gspaces.dihedralOnR3,
    "rotations about z": gspaces.rot2dOnR3,
    "cone": gspaces.conicalOnR3,
    "cone of 4": lambda: gspaces.conicalOnR3(4),
    "cylinder": gspaces.cylindricalOnR3,
    "full cylinder": gspaces.fullCylindricalOnR3,
    "O(3)": gspaces.flipRot3dOnR3,
}


def elements_of(gspace, count=4):
    """The library's elements: all of a small group, or drawn ones."""
    library = gspace.fibergroup
    if library.order() > 0:
        return list(library.elements)
    with numpy_seeded(1):
        return [library.sample() for _ in range(count)]


def vectors(gspace):
    return enn.FieldType(gspace, [gspace._base_action, gspace.trivial_repr])


@pytest.mark.parametrize("name", SPACES)
def test_a_vector_field_moves_by_escnns_own_matrices(name):
    gspace = SPACES[name]()
    kind = vectors(gspace)
    of = group_of(gspace)
    fibre = fibre_of(kind, of)
    for g in elements_of(gspace):
        element = of.element(array_matrix(gspace, g))
        for rep, theirs in zip(fibre.blocks, kind.representations, strict=True):
            assert np.abs(rep.of(element) - theirs(g)).max() < 1e-6, g
        moved = eh.Field(eh.Vector(), of, fibre).act(element, torch.eye(kind.size, dtype=torch.float64))
        assert torch.allclose(moved.T[:-1, :-1], torch.as_tensor(gspace._base_action(g)), atol=1e-6)


@pytest.mark.parametrize("name", SPACES)
def test_fields_are_homomorphisms_in_double_precision(name):
    gspace = SPACES[name]()
    of = group_of(gspace)
    fibre = fibre_of(vectors(gspace), of)
    drawn = [of.element(array_matrix(gspace, g)) for g in elements_of(gspace)][:4]
    for g in drawn:
        for h in drawn:
            product = of.compose(g, h)
            assert np.abs(g.matrix @ h.matrix - product.matrix).max() < 1e-12
            for rep in fibre.blocks:
                assert np.abs(rep.of(g) @ rep.of(h) - rep.of(product)).max() < 1e-12
        assert np.abs(of.inverse(g).matrix - g.matrix.T).max() < 1e-12


@pytest.mark.parametrize("name", ["reflection, axis 45°", "D4, axis 30°", "mirror in space", "cone of 4", "inversion"])
def test_a_regular_field_on_a_grid_moves_as_escnn_moves_it(name):
    gspace = SPACES[name]()
    kind = enn.FieldType(gspace, [gspace.regular_repr])
    of = group_of(gspace)
    field = eh.Field(eh.Grid(*[5] * of.dim), None, kind)
    x = torch.randn(1, kind.size, *[5] * of.dim)
    for g in elements_of(gspace):
        element = of.element(array_matrix(gspace, g))
        if field.exact(element):
            assert torch.allclose(field.act(element, x), enn.GeometricTensor(x, kind).transform(g).tensor, atol=1e-5)


@pytest.mark.parametrize(
    "name", ["reflection, axis 45°", "SO(2)", "O(2), axis 0.3", "mirror in space", "cone of 4", "cone", "cylinder"]
)
def test_a_convolution_needs_no_group_and_no_field_and_perturbed_filters_are_broken(name):
    gspace = SPACES[name]()
    conv = enn.R2Conv if gspace.dimensionality == 2 else enn.R3Conv
    layer = conv(enn.FieldType(gspace, [gspace.trivial_repr]), vectors(gspace), 3, padding=1).eval()
    assert eh.check(layer).verdict in HOLDS
    with torch.no_grad():
        layer.filter.add_(0.3 * torch.randn_like(layer.filter))
    assert eh.check(layer).verdict is eh.Verdict.BROKEN


def test_two_axes_are_two_groups():
    first, second = (group_of(gspaces.flip2dOnR2(axis=a)) for a in (0.2, 0.4))
    assert first.name != second.name
    assert group_of(gspaces.flipRot2dOnR2(4, axis=np.pi / 4)).name == "D4"
    assert group_of(gspaces.flipRot2dOnR2(4, axis=np.pi / 6)).name != "D4"


C, D = group.cyclic_group, group.dihedral_group


def linear(gspace, reads, writes):
    return enn.Linear(enn.FieldType(gspace, reads), enn.FieldType(gspace, writes))


def without_base():
    regular = {"C2": C(2), "C5": C(5), "D1": D(1), "D2": D(2), "D3": D(3), "C2 x C2": group.direct_product(C(2), C(2))}
    for name, library in regular.items():
        s = gspaces.no_base_space(library)
        yield name, s, [s.regular_repr, s.trivial_repr], [s.regular_repr]
    s = gspaces.no_base_space(group.octa_group())
    yield "O", s, [s.fibergroup.standard_representation], [s.fibergroup.standard_representation, s.trivial_repr]
    s = gspaces.no_base_space(group.so2_group(3))
    yield "SO(2)", s, [s.irrep(1), s.irrep(2)], [s.irrep(1)]
    s = gspaces.no_base_space(group.o2_group(3))
    yield "O(2)", s, [s.irrep(1, 1), s.irrep(1, 0), s.irrep(1, 2)], [s.irrep(1, 1), s.irrep(1, 0)]
    s = gspaces.no_base_space(group.so3_group(2))
    yield "SO(3)", s, [s.irrep(1), s.irrep(2)], [s.irrep(1)]
    s = gspaces.no_base_space(group.o3_group(2))
    yield "O(3)", s, [s.irrep(1, 1), s.irrep(0, 1), s.irrep(0, 2)], [s.irrep(1, 1), s.irrep(0, 1)]
    s = gspaces.no_base_space(group.cylinder_group(3))
    yield "cylinder", s, [s.irrep((1,), (1,)), s.irrep((0,), (2,))], [s.irrep((1,), (1,))]
    s = gspaces.no_base_space(group.full_cylinder_group(3))
    yield "full cylinder", s, [s.irrep((1,), (1, 1))], [s.irrep((1,), (1, 1))]


@pytest.mark.parametrize(
    ("name", "gspace", "reads", "writes"), list(without_base()), ids=lambda v: v if isinstance(v, str) else ""
)
def test_a_linear_layer_without_base_space_is_exact_and_perturbed_weights_are_broken(name, gspace, reads, writes):
    layer = linear(gspace, reads, writes).eval()
    assert eh.check(layer).verdict is eh.Verdict.EXACT
    with torch.no_grad():
        layer.matrix.add_(0.3 * torch.randn_like(layer.matrix))
    assert eh.check(layer).verdict is eh.Verdict.BROKEN


def test_o3_without_base_space_can_be_checked_under_a_subgroup_and_no_other_group():
    s = gspaces.no_base_space(group.o3_group(2))
    layer = linear(s, [s.irrep(1, 1)], [s.irrep(0, 1), s.irrep(1, 1)])
    for name in ("SO3", "O", "Oh"):
        result = eh.check(layer, name)
        assert result.verdict is eh.Verdict.EXACT, name
    with pytest.raises(eh.UsageError, match="C4 is no subgroup"):
        eh.check(layer, "C4")
    r8 = gspaces.rot2dOnR2(8)
    rotations = enn.ReLU(enn.FieldType(r8, [r8.regular_repr]))
    with pytest.raises(eh.UsageError, match="reflection"):
        eh.check(rotations, "D4")


def test_a_pseudovector_is_told_from_a_vector():
    s = gspaces.no_base_space(group.o3_group(2))
    vector, pseudo = (enn.FieldType(s, [s.irrep(j, 1)]) for j in (1, 0))
    assert eh.check(lambda x: x, None, vector, vector).verdict is eh.Verdict.EXACT
    assert eh.check(lambda x: x, None, vector, pseudo).verdict is eh.Verdict.BROKEN


def test_a_network_that_restricts_its_group_is_checked_under_the_subgroup():
    d8 = gspaces.flipRot2dOnR2(8)
    kind = enn.FieldType(d8, [d8.regular_repr])
    restriction = enn.RestrictionModule(kind, (None, 4))
    first = enn.R2Conv(enn.FieldType(d8, [d8.trivial_repr]), kind, 3, padding=1)
    below = restriction.out_type
    network = enn.SequentialModule(first, enn.ReLU(kind), restriction, enn.DisentangleModule(below)).eval()
    result = eh.check(network)
    assert result.verdict is eh.Verdict.EXACT
    assert "C4" in str(result)
    # Filters that are no longer D8's are seen by C4.
    with torch.no_grad():
        first.filter.add_(0.3 * torch.randn_like(first.filter))
    assert eh.check(network).verdict is eh.Verdict.BROKEN


@pytest.mark.parametrize("subgroup", [(False, -1), (False, 4), "octa"])
def test_a_restriction_without_base_space_follows_escnns_inclusion(subgroup):
    s = gspaces.no_base_space(group.so3_group(2))
    kind = enn.FieldType(s, [s.irrep(1), s.irrep(2)])
    layer = enn.RestrictionModule(kind, subgroup)
    assert eh.check(layer).verdict is eh.Verdict.EXACT

    class Permuted(enn.EquivariantModule):
        def __init__(self):
            super().__init__()
            self.restriction = layer
            self.in_type, self.out_type = layer.in_type, layer.out_type

        def forward(self, x):
            y = self.restriction(x)
            return enn.GeometricTensor(y.tensor[:, [1, 0, *range(2, kind.size)]], self.out_type)

        def evaluate_output_shape(self, shape):
            return shape

    assert eh.check(Permuted()).verdict is eh.Verdict.BROKEN


def test_types_that_change_the_group_without_a_restriction_are_refused_with_the_way_out():
    s = gspaces.no_base_space(D(6))
    kind = enn.FieldType(s, [s.regular_repr])

    def layer(x):
        return x

    layer.in_type, layer.out_type = kind, kind.restrict((None, 3))
    with pytest.raises(eh.UsageError, match="RestrictionModule"):
        eh.check(layer)


def plane():
    r4 = gspaces.rot2dOnR2(4)
    return r4, enn.FieldType(r4, [r4.regular_repr] * 2)


def test_several_inputs_and_outputs_are_trees():
    r4, regular = plane()
    vector, gates = enn.FieldType(r4, [r4.irrep(1)] * 2), enn.FieldType(r4, [r4.trivial_repr] * 2)
    layers = [
        enn.GatedNonLinearity2((gates, vector)),
        enn.BranchingModule(regular, ["a", "b"]),
        enn.MergeModule([(enn.ReLU(regular), "a"), (enn.ELU(regular), "b")]),
    ]
    for layer in layers:
        assert eh.check(layer).verdict is eh.Verdict.EXACT, layer
    broken = enn.GatedNonLinearity2((gates, vector))
    broken.in_type = (enn.FieldType(r4, [r4.irrep(2)] * 2), vector)
    broken.forward = lambda gates, x: enn.GeometricTensor(x.tensor * gates.tensor.repeat_interleave(2, 1), vector)
    assert eh.check(broken).verdict is eh.Verdict.BROKEN


def test_field_types_stand_for_fields_in_trees_and_bring_the_group():
    _, regular = plane()
    for source in ((regular, regular), {"x": regular, "y": regular}):
        assert eh.check(lambda x, y: x + y, None, source, regular).verdict is eh.Verdict.EXACT
        assert eh.check(lambda x, y: x + y.flip(1), None, source, regular).verdict is eh.Verdict.BROKEN


def test_modules_and_functions_that_carry_the_types_take_plain_tensors_or_fields():
    _, regular = plane()

    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.in_type, self.out_type = regular, regular
            self.layer = enn.R2Conv(regular, regular, 3, padding=1)

        def forward(self, x):
            return self.layer(enn.GeometricTensor(x, self.in_type)).tensor

    def fields(x):
        return enn.ReLU(regular)(x)

    fields.in_type = fields.out_type = regular
    assert eh.check(Plain()).verdict is eh.Verdict.EXACT
    assert eh.check(fields).verdict is eh.Verdict.EXACT
    fields.out_type = enn.FieldType(regular.gspace, [regular.gspace.trivial_repr] * regular.size)
    fields.__wrapped__ = None
    assert eh.check(fields).verdict is eh.Verdict.BROKEN


def test_what_types_do_not_say_is_asked_for_in_a_sentence():
    _, regular = plane()

    class Head(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.in_type = regular

        def forward(self, x):
            return x.mean((1, 2, 3))

    with pytest.raises(eh.UsageError, match="no out_type"):
        eh.check(Head())
    assert eh.check(Head(), None, eh.Field(eh.Grid(9, 9), None, regular), eh.Invariant()).verdict is eh.Verdict.EXACT
    with pytest.raises(eh.UsageError, match="a size that the harness chose"):
        eh.check(enn.R2Conv(regular, regular, 41))

    def edges(x, edge_index):
        return x

    edges.in_type = edges.out_type = regular
    with pytest.raises(eh.UsageError, match="takes x, edge_index"):
        eh.check(edges)
    with pytest.raises(eh.UsageError, match="leave the group out"):
        eh.Field(eh.Grid(9, 9), "O2", regular)


def test_elements_of_infinite_groups_are_found_by_their_matrices_or_refused():
    gspace = gspaces.cylindricalOnR3()
    of = group_of(gspace)
    reading = reading_of(gspace)
    assert of.order is None
    assert of.improper
    assert {len(of.generators) > 0, repr(of) == of.name} == {True}
    for g in of.generators:
        assert np.abs(reading.matrix(reading.theirs(Element("", g.matrix))) - g.matrix).max() < 1e-12
    with pytest.raises(eh.UsageError, match="has no element"):
        of.element([[0, 1, 0], [1, 0, 0], [0, 0, 1]])
    without = group_of(gspaces.no_base_space(group.cylinder_group(3)))
    assert without.generators == ()
    assert without.element(np.eye(without.dim)).is_identity
    with pytest.raises(eh.UsageError, match="has no element"):
        without.element(-np.eye(without.dim))
