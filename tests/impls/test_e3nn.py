"""e3nn: its conventions held against its own matrices, its layers against derived bounds, its types read."""

import math

import equiharness as eh
import numpy as np
import pytest
import torch
from equiharness.adapters import Case
from equiharness.harness.errors import UsageError
from equiharness.impls.peers import e3nn as adapters
from equiharness.impls.peers import e3nn_types as types
from equiharness.suites.check import check_claim, run_property

e3nn = pytest.importorskip("e3nn", reason="e3nn is a peer: pip install e3nn==0.6.0")
from e3nn import nn, o3  # noqa: E402 (only where it is installed)

LAYERS = (
    adapters.Linear,
    adapters.FullyConnectedTensorProduct,
    adapters.Gate,
    adapters.NormActivation,
    adapters.SphericalHarmonics,
)
CASES = [pytest.param(layer, case, id=f"{layer.name} {case.name}") for layer in LAYERS for case in layer().cases()]


@pytest.mark.parametrize("degree", range(9))
def test_our_matrices_are_those_of_e3nn(degree):
    """Both sides in float64, whose products grow with the degree. From angles: e3nn's way from a matrix back to angles
    goes through an arccosine, which loses half the digits near the poles."""
    generator = torch.Generator().manual_seed(degree)
    of = eh.group("O3")
    with types.native("float64"):
        for angles in 6 * torch.rand(4, 3, generator=generator):
            for parity, sign in ((1, 1), (1, -1), (-1, -1)):
                theirs = o3.Irrep(degree, parity).D_from_angles(*angles, k=torch.tensor(int(sign < 0))).numpy()
                g = of.element(sign * o3.angles_to_matrix(*angles).numpy())
                ours = types.representation_of(degree, parity).of(g)
                assert np.abs(ours - theirs).max() < 16 * (degree + 1) ** 2 * 2.0**-52


def test_degree_one_is_a_vector_in_the_order_x_y_z():
    [g] = eh.group("SO3").sample(np.random.default_rng(0), 1)
    assert np.abs(types.representation_of(1, -1).of(g) - g.matrix).max() < 1e-15


def test_another_axis_would_be_noticed():
    """The twin: the harness's own order (y, z, x) is another basis."""
    [g] = eh.group("SO3").sample(np.random.default_rng(0), 1)
    from equiharness.harness.symmetry.representations import wigner_matrix

    assert np.abs(types.representation_of(1, -1).of(g) - wigner_matrix(1, g.matrix)).max() > 0.1


@pytest.mark.deep  # `verify` runs over every case with every change
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("layer", "case"), CASES)
def test_layers_pass_with_derived_bounds(layer, case, dtype):
    result = run_property("equivariance", layer().build(case, device="cpu", dtype=dtype, seed=0)).result
    assert result.verdict is eh.Verdict.EXACT, str(result)
    assert result.power > 1e6
    assert result.bound < (1e-4 if dtype == "float32" else 1e-11)


@pytest.mark.parametrize(("layer", "case"), CASES[::2])
def test_half_precision_is_reported_and_not_failed(layer, case):
    claim = layer().build(case, device="cpu", dtype="bfloat16", seed=0)
    result = run_property("equivariance", claim).result
    assert result.passed, str(result)
    assert result.seen > 1e-3  # what a user sees in bfloat16
    assert result.error < 1e-12  # while the structure holds


@pytest.mark.parametrize(
    "case",
    [  # a function with a kink and a smooth one
        pytest.param(case, id=case["act"], marks=[] if case["act"] in ("relu", "tanh") else pytest.mark.deep)
        for case in adapters.S2Activation().cases()
    ],
)
def test_activations_on_the_sphere_are_approximate_and_fall_with_resolution(case):
    result = check_claim(adapters.S2Activation().build(case, device="cpu", dtype="float32", seed=0))
    assert result.verdict is eh.Verdict.APPROXIMATE, str(result)
    [part] = [p for p in result.parts if p.property == "off_grid"]
    errors = [row.error for row in part.resolutions]
    assert [row.size for row in part.resolutions] == [10, 20, 40]
    assert errors[0] > 5 * errors[1] > 10 * errors[2]
    assert case["act"] == "relu" or errors[2] < 1e-4 * errors[0]


def test_every_part_of_a_gate_is_exact():
    result = check_claim(adapters.Gate().build(next(adapters.Gate().cases()), device="cpu", dtype="float64", seed=0))
    assert {p.property: p.verdict.value for p in result.parts} == dict.fromkeys(
        ("homomorphism", "equivariance", "adjoint", "gradcheck", "batch"), "EXACT"
    )


def test_a_tensor_product_with_one_coefficient_changed_is_broken():
    """The twin of the layers that pass: a thousandth on one Clebsch-Gordan coefficient."""
    layer = o3.FullyConnectedTensorProduct("4x1o", "1x1o", "4x1e")
    name, table = next((n, b) for n, b in layer.named_buffers() if b.dim() == 3 and b.numel() == 27)
    assert "w3j" in name
    assert eh.check(layer).verdict is eh.Verdict.EXACT
    table[0, 1, 2] *= 1.001
    broken = eh.check(layer)
    assert broken.verdict is eh.Verdict.BROKEN, str(broken)


def test_an_activation_of_components_is_broken_at_every_resolution():
    """The twin of S2Activation: a fault that no resolution mends."""

    class Crooked(nn.S2Activation):
        def forward(self, features):
            y = super().forward(features)
            return torch.cat([y[..., :1], y[..., 1:2] * 1.01, y[..., 2:]], -1)

    claim = adapters.S2Activation().build(next(adapters.S2Activation().cases()), device="cpu", dtype="float32", seed=0)
    inner = claim.refined

    def refined(factor):
        size, function = inner(factor)
        return size, lambda x: Crooked.forward(_as(Crooked, function), x)

    result = run_property("off_grid", _replace(claim, refined=refined)).result
    assert (result.verdict.value, result.reason.code) == ("BROKEN", "LIMIT"), str(result)


def _as(cls, module):
    module.__class__ = cls
    return module


def _replace(claim, **changes):
    import dataclasses

    return dataclasses.replace(claim, modules=claim.modules, **changes)


def test_an_activation_that_turns_its_grid_at_random_asks_for_a_seed():
    layer = nn.S2Activation(o3.Irreps("0e+1o+2e"), torch.tanh, 16, random_rot=True)
    refused = eh.check(layer)
    assert (refused.verdict.value, refused.reason.code) == ("BROKEN", "NONDETERMINISTIC")
    assert eh.check(layer, call_seed=0).verdict is eh.Verdict.APPROXIMATE


# --- types ---


def test_a_module_says_its_whole_claim():
    layer = o3.Linear("2x0e+1x1o", "1x0e+2x1o")
    result = eh.check(layer)
    assert result.verdict is eh.Verdict.EXACT
    assert (result.group, result.source) == ("O3", "Field(Vector(), 'O3', '2*0e + 1*1o')")


def test_two_inputs_are_two_fields():
    result = eh.check(o3.FullyConnectedTensorProduct("2x1o", "1x0e+1x1o", "2x1e"))
    assert result.verdict is eh.Verdict.EXACT
    assert "[1]: Field" in result.source


def test_a_layer_of_ones_own_that_carries_irreps_says_its_claim():
    class Mine(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.irreps_in = o3.Irreps("2x1o")
            self.irreps_out = o3.Irreps("1x0e")

        def forward(self, x):
            return (x[:, :3] * x[:, 3:]).sum(1, keepdim=True)

    assert eh.check(Mine()).verdict is eh.Verdict.EXACT


def test_fields_accept_irreps_on_points_in_any_group_of_space():
    irreps = o3.Irreps("3x0e+2x1o")
    for group in ("O3", "SO3", "O"):
        field = eh.Field(eh.Points(4), group, irreps)
        assert field.tensor_shape(2) == (2, 4, 9)
    assert eh.Field(eh.Points(4), fibre=irreps).group.name == "O3"
    with pytest.raises(UsageError, match="use O3 or SO3"):
        eh.Field(eh.Points(4), "C4", irreps)
    layer = o3.Linear(irreps, irreps)
    points = eh.Field(eh.Points(4), "O3", irreps)
    assert eh.check(layer, "O3", points, points).verdict is eh.Verdict.EXACT


def test_tables_in_single_precision_are_named_in_a_float64_check():
    layer = o3.FullyConnectedTensorProduct("4x1o", "1x1o+1x2e", "4x1e+4x1o")  # its tables are float32
    result = eh.check(layer, dtype="float64")
    assert (result.verdict.value, result.reason.code) == ("IMPRECISE", "CONSTANTS_IN_SINGLE")


def test_compiled_layers_have_a_reference():
    before = e3nn.get_optimization_defaults()["jit_mode"]
    e3nn.set_optimization_defaults(jit_mode="script")
    try:
        with pytest.warns(DeprecationWarning, match="torch.jit.script"):
            layer = o3.Linear("2x0e+1x1o", "1x0e+2x1o")
    finally:
        e3nn.set_optimization_defaults(jit_mode=before)
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        result = eh.check(layer)
    assert result.verdict is eh.Verdict.EXACT
    assert result.error <= result.bound * 2.0**-29  # the float64 bound was met


@pytest.mark.parametrize("normalization", ["component", "norm"])
def test_an_activation_is_refined_in_its_own_normalization(normalization):
    layer = nn.S2Activation(o3.Irreps("0e+1o+2e"), torch.tanh, 16, normalization=normalization)
    size, finer = types.TypeReader().layer(layer).refined(16 / 16)
    assert size == 16
    x = torch.randn(5, 9)
    assert torch.allclose(finer(x.double()).float(), layer(x), atol=1e-5)
    assert eh.check(layer).verdict is eh.Verdict.APPROXIMATE


@pytest.mark.parametrize("layer", [*LAYERS, adapters.S2Activation])
def test_costs_are_positive_and_backward_costs_more(layer):
    for case in layer().cases():
        cost = layer().cost(case)
        assert 0 < cost.flops < cost.backward_flops
        assert math.isfinite(cost.bytes)


def test_the_cost_of_a_tensor_product_counts_its_paths():
    case = Case.of(irreps_in1="2x1o", irreps_in2="3x0e", irreps_out="5x1o")
    assert adapters.FullyConnectedTensorProduct().cost(case).flops == 2 * 2 * 3 * 5 * 9


@pytest.mark.parametrize("name", ["e3nn.Gate", "e3nn.NormActivation", "e3nn.FromS2Grid"])
def test_the_second_precision_of_a_case_is_what_it_would_be_alone(name, monkeypatch):
    """It gets a copy of the module that the first precision made, and neither changes the other."""
    from equiharness.adapters import implementations
    from equiharness.impls.peers import e3nn, e3nn_grids
    from equiharness.impls.peers.e3nn_types import LastMade

    def built(*dtypes):
        for module in (e3nn, e3nn_grids):
            monkeypatch.setattr(module, "LAST", LastMade())
        return [found.build(case, device="cpu", dtype=dtype, seed=4) for dtype in dtypes]

    def values(claim):
        return {name: value.clone() for name, value in claim.modules[0].state_dict().items()}

    [found] = [i for i in implementations() if i.name == name]
    case = list(found.cases())[-1]
    [single, double], [alone] = built("float32", "float64"), built("float64")
    before = values(double)
    assert before.keys() == values(alone).keys()
    assert all(torch.equal(before[key], value) for key, value in values(alone).items())
    with torch.no_grad():
        for tensor in (*single.modules[0].state_dict().values(), *alone.modules[0].state_dict().values()):
            tensor.zero_()
    assert all(torch.equal(before[key], value) for key, value in values(double).items())
