"""Everything of e3nn that names its irreps is read: modules, functions, texts and lists, several inputs and outputs."""

import equiharness as eh
import pytest
import torch

pytest.importorskip("e3nn")

import e3nn.nn
from e3nn import o3
from equiharness.impls.peers.e3nn_types import irreps_of

pytestmark = pytest.mark.filterwarnings("ignore")

IRREPS = "2x0e+2x1o"

MODULES = {
    "TensorSquare": lambda: o3.TensorSquare(IRREPS, "2x0e+1x2e"),
    "FullTensorProduct": lambda: o3.FullTensorProduct(IRREPS, "0e+1o"),
    "ElementwiseTensorProduct": lambda: o3.ElementwiseTensorProduct(IRREPS, "2x0e+2x0o"),
    "weights as an argument": lambda: o3.FullyConnectedTensorProduct(
        IRREPS, IRREPS, IRREPS, internal_weights=False, shared_weights=False
    ),
    "Linear with weights as an argument": lambda: o3.Linear(
        IRREPS, IRREPS, internal_weights=False, shared_weights=False
    ),
    "Linear of copies": lambda: o3.Linear(IRREPS, IRREPS, f_in=3, f_out=2),
    "ReducedTensorProducts": lambda: o3.ReducedTensorProducts("ij=-ji", i="1o"),
    "ReducedTensorProducts of three": lambda: o3.ReducedTensorProducts("ijk=jki", i="1o"),
    "ReducedTensorProducts of two kinds": lambda: o3.ReducedTensorProducts("ij", i="1o", j="2e"),
    "SphericalHarmonics": lambda: o3.SphericalHarmonics([0, 1, 2], True),
    "Norm": lambda: o3.Norm(IRREPS),
    "Gate": lambda: e3nn.nn.Gate("2x0e", [torch.tanh], "2x0e", [torch.sigmoid], "2x1o"),
    "NormActivation": lambda: e3nn.nn.NormActivation(IRREPS, torch.sigmoid),
    "BatchNorm": lambda: e3nn.nn.BatchNorm(IRREPS).eval(),
    "Dropout": lambda: e3nn.nn.Dropout(IRREPS, p=0.5).eval(),
    "Extract": lambda: e3nn.nn.Extract("2x0e+2x1o+1e", ["2x0e", "2x1o+1e"], [(0,), (1, 2)]),
    "ExtractIr": lambda: e3nn.nn.ExtractIr(IRREPS, "1o"),
    "Identity": lambda: e3nn.nn.Identity(IRREPS, IRREPS),
    "Activation": lambda: e3nn.nn.Activation("2x0e+1x0o", [torch.relu, torch.tanh]),
}


class Mixed(torch.nn.Module):
    """A module followed by a map that mixes the components of its first output."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        for name in ("irreps_in", "irreps_in1", "irreps_in2", "irreps", "irreps_out", "irreps_outs"):
            if isinstance(getattr(layer, name, None), (tuple, list)):
                setattr(self, name, getattr(layer, name))
        self.forward = self._one if isinstance(layer, (o3.TensorSquare, o3.Linear)) else self._all

    def _one(self, x):
        return self._mixed(self.layer(x))

    def _all(self, *xs):
        return self._mixed(self.layer(*xs))

    def _mixed(self, y):
        first = y[0] if isinstance(y, tuple) else y
        first = first + 0.1 * first.roll(1, -1) + 0.1 * torch.tanh(first)
        return (first, *y[1:]) if isinstance(y, tuple) else first


@pytest.mark.parametrize("name", MODULES)
def test_a_module_needs_no_group_and_no_field(name):
    assert eh.check(MODULES[name]()).verdict is eh.Verdict.EXACT


@pytest.mark.parametrize(
    "name", ["TensorSquare", "ReducedTensorProducts", "SphericalHarmonics", "Gate", "BatchNorm", "ExtractIr"]
)
def test_a_module_whose_output_mixes_components_is_broken(name):
    assert eh.check(Mixed(MODULES[name]())).verdict is eh.Verdict.BROKEN


LINEAR = o3.Linear(IRREPS, "1x0e+1x1o")
PRODUCT = o3.FullyConnectedTensorProduct(IRREPS, "0e+1o", IRREPS)


def one(x):
    return LINEAR.to(x.dtype)(x)


def two(x, y):
    return PRODUCT.to(x.dtype)(x, y)


def carrying(function, **irreps):
    def copy(*args):
        return function(*args)

    if function is one:
        copy = lambda x: function(x)  # noqa: E731
    vars(copy).update(irreps)
    return copy


@pytest.mark.parametrize(
    "irreps",
    [
        o3.Irreps(IRREPS),
        IRREPS,
        [(2, (0, 1)), (2, (1, -1))],
        [(2, "0e"), (2, o3.Irrep("1o"))],
        o3.Irreps("2x0e+1o+1o"),
    ],
    ids=["Irreps", "text", "pairs", "mixed pairs", "not simplified"],
)
def test_a_function_carries_irreps_in_any_notation(irreps):
    assert eh.check(carrying(one, irreps_in=irreps, irreps_out="0e+1o")).verdict is eh.Verdict.EXACT
    assert eh.check(carrying(one, irreps_in=irreps, irreps_out="0e+1e")).verdict is eh.Verdict.BROKEN


@pytest.mark.parametrize(
    "irreps",
    [
        {"irreps_in": [o3.Irreps(IRREPS), o3.Irreps("0e+1o")]},
        {"irreps_in": (IRREPS, "0e+1o")},
        {"irreps_in1": IRREPS, "irreps_in2": o3.Irreps("0e+1o")},
        {"irreps_node_input": IRREPS, "irreps_node_attr": "0e+1o"},
    ],
    ids=["list", "texts", "numbered", "nodes"],
)
def test_a_function_carries_the_irreps_of_several_inputs(irreps):
    assert eh.check(carrying(two, **irreps, irreps_out=IRREPS)).verdict is eh.Verdict.EXACT
    assert eh.check(carrying(two, **irreps, irreps_out="2x0e+2x1e")).verdict is eh.Verdict.BROKEN


def test_irreps_are_found_by_the_names_of_the_arguments():
    class Connection(torch.nn.Module):
        def __init__(self, attributes):
            super().__init__()
            self.irreps_features, self.irreps_kind = o3.Irreps(IRREPS), attributes
            self.irreps_out = o3.Irreps(IRREPS)
            self.product = o3.FullyConnectedTensorProduct(IRREPS, "0e+1o", IRREPS)

        def forward(self, features, kind):
            return self.product(features, kind)

    assert eh.check(Connection("0e+1o")).verdict is eh.Verdict.EXACT
    assert eh.check(Connection("0e+1e")).verdict is eh.Verdict.BROKEN


def test_several_outputs_are_a_tuple():
    class Two(torch.nn.Module):
        def __init__(self, second):
            super().__init__()
            self.irreps_in, self.irreps_out = o3.Irreps(IRREPS), [o3.Irreps("0e"), o3.Irreps(second)]
            self.a, self.b = o3.Linear(IRREPS, "0e"), o3.Linear(IRREPS, "1o")

        def forward(self, x):
            return self.a(x), self.b(x)

    assert eh.check(Two("1o")).verdict is eh.Verdict.EXACT
    assert eh.check(Two("1e")).verdict is eh.Verdict.BROKEN


def test_irreps_stand_for_fields_in_any_notation():
    for source in (o3.Irreps(IRREPS), IRREPS, [(2, (0, 1)), (2, (1, -1))], eh.Field(eh.Vector(), "O3", IRREPS)):
        assert eh.check(one, None, source, "0e + 1o").verdict is eh.Verdict.EXACT, source
        assert eh.check(one, "SO3", eh.Field(eh.Vector(), "SO3", IRREPS), "0e + 1o").verdict is eh.Verdict.EXACT
        assert eh.check(one, None, source, o3.Irreps("3x0e + 0o")).verdict is eh.Verdict.BROKEN
    assert eh.check(two, "O3", (IRREPS, "0e+1o"), IRREPS).verdict is eh.Verdict.EXACT
    points = eh.Field(eh.Points(3), "O3", IRREPS)
    assert (
        eh.check(one, "O3", points, eh.Field(eh.Points(3), None, [(1, (0, 1)), (1, "1o")])).verdict is eh.Verdict.EXACT
    )


def test_texts_of_irreps_mean_what_e3nn_means():
    for text in ("1o", "2x0e", " 3 x 2e + 1o ", "0e+0o+12x10e"):
        assert irreps_of(text) == [(mul, (ir.l, ir.p)) for mul, ir in o3.Irreps(text.replace(" x ", "x"))]
    assert irreps_of("2*trivial") is None
    assert irreps_of("hello") is None
    assert irreps_of(3) is None


def test_a_module_can_be_checked_under_a_subgroup_and_no_other_group():
    layer = o3.Linear(IRREPS, IRREPS)
    for name in ("SO3", "O"):
        assert eh.check(layer, name).verdict is eh.Verdict.EXACT
    with pytest.raises(eh.UsageError, match="C4 is no subgroup"):
        eh.check(layer, "C4")


@pytest.mark.parametrize(
    ("irreps", "sentence"),
    [
        ({"irreps_in": IRREPS}, "not irreps_out"),
        ({"irreps_in": "hello", "irreps_out": IRREPS}, r"arguments \(x\)"),
        ({"irreps_in": [IRREPS, "1o"], "irreps_out": IRREPS}, r"arguments \(x\)"),
        ({"irreps_out": IRREPS}, r"arguments \(x\)"),
    ],
)
def test_irreps_that_do_not_describe_the_function_are_refused_with_the_way_out(irreps, sentence):
    with pytest.raises(eh.UsageError, match=sentence):
        eh.check(carrying(one, **irreps))


def test_a_convolution_on_a_graph_and_shared_outer_weights_are_refused_with_the_way_out():
    class Convolution(torch.nn.Module):
        irreps_node_input = irreps_node_attr = irreps_node_output = o3.Irreps(IRREPS)

        def forward(self, node_input, node_attr, edge_src, edge_dst):
            return node_input

    with pytest.raises(eh.UsageError, match="node_input, node_attr, edge_src, edge_dst"):
        eh.check(Convolution())
    with pytest.raises(eh.UsageError, match="without a batch axis"):
        eh.check(o3.Linear(IRREPS, IRREPS, internal_weights=False, shared_weights=True))
    with pytest.raises(eh.UsageError, match="use O3 or SO3"):
        eh.Field(eh.Vector(), "C4", IRREPS)
