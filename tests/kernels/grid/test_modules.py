"""Every layer is an ordinary torch module: state, copies, compilers, export, precision, derivatives of every order."""

import copy
import doctest
import importlib
import io
import pickle
import pkgutil
import shutil

import equiharness.kernels as kernels
import equiharness.kernels.grid as grid_package
import pytest
import torch
from equiharness.kernels import (
    AntialiasedPool,
    GlobalPool,
    GroupBatchNorm,
    GroupConv,
    GroupInstanceNorm,
    GroupPool,
    LiftingConv,
    SeparableGroupConv,
    Upsample,
    VectorLift,
    VectorProjection,
)
from torch.func import functional_call, jacfwd, jacrev, vmap

# torch's own: its tracer instantiates the base class of autograd functions, its forward mode still scripts.
TRACER = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
SCRIPT = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")

WRAPPED = {"padding_mode": "circular"}
CONVOLUTIONS = {
    "lifting": (lambda **o: LiftingConv("C4", 1, 2, 3, padding=1, **o), (2, 1, 3, 5)),
    "regular": (lambda **o: GroupConv("C4", 2, 1, 2, **o), (2, 2, 4, 3, 4)),
    "circular": (
        lambda **o: GroupConv("C2", 1, 2, 3, stride=2, padding=1, **WRAPPED, **o),
        (2, 1, 2, 3, 5),
    ),
    "octahedral": (lambda **o: GroupConv("O", 1, 1, 2, **o), (2, 1, 24, 2, 3, 2)),
    "exact lifting": (lambda **o: LiftingConv("C4", 1, 2, 3, padding=1, backend="exact", **o), (2, 1, 3, 5)),
    "exact regular": (lambda **o: GroupConv("C4", 2, 1, 2, backend="exact", **o), (2, 2, 4, 3, 4)),
    "exact circular": (
        lambda **o: GroupConv("C2", 1, 2, 3, stride=2, padding=1, backend="exact", **WRAPPED, **o),
        (2, 1, 2, 3, 5),
    ),
    "exact octahedral": (lambda **o: GroupConv("O", 1, 1, 2, backend="exact", **o), (2, 1, 24, 2, 3, 2)),
    "vector lift": (lambda **o: VectorLift("D4", 1, 1, 3, padding=1, **o), (2, 1, 2, 3, 4)),
    "vector projection": (lambda **o: VectorProjection("D4", 1, 2, 2, **o), (2, 1, 8, 3, 2)),
    "pointwise first": (lambda **o: SeparableGroupConv("C4", 2, 1, 3, padding=1, **o), (2, 2, 4, 3, 4)),
    "depthwise first": (lambda **o: SeparableGroupConv("C4", 2, 1, 2, variant="depthwise_first", **o), (2, 2, 4, 3, 4)),
    "per pair": (lambda **o: SeparableGroupConv("C4", 1, 2, 2, variant="per_pair", **o), (2, 1, 4, 3, 4)),
}
OTHERS = {
    "max over the group": (lambda: GroupPool("C4"), (2, 2, 4, 3, 4)),
    "global mean": (lambda: GlobalPool("C4", "mean"), (2, 2, 4, 3, 4)),
    "batch norm": (lambda dtype=None: GroupBatchNorm("C4", 2, dtype=dtype), (2, 2, 4, 3, 4)),
    "instance norm": (lambda dtype=None: GroupInstanceNorm("C4", 2, affine=True, dtype=dtype), (2, 2, 4, 3, 4)),
    "antialiased pool": (lambda: AntialiasedPool("C4", padding_mode="circular"), (2, 1, 4, 5, 4)),
    "upsample": (lambda: Upsample("C4", 1.5), (2, 1, 4, 5, 4)),
}
LAYERS = CONVOLUTIONS | OTHERS


def build(kind, dtype=torch.float32):
    make, shape = LAYERS[kind]
    torch.manual_seed(0)
    layer = make().to(dtype)
    if getattr(layer, "bias", None) is not None:
        torch.nn.init.normal_(layer.bias)
    return layer, torch.randn(shape, dtype=dtype)


@pytest.mark.parametrize("kind", LAYERS)
def test_state_is_parameters_only_and_the_same_in_train_and_eval(kind):
    layer, _ = build(kind)
    in_training, in_eval = list(layer.train().state_dict()), list(layer.eval().state_dict())
    assert in_training == in_eval
    assert not {"table", "inverse", "signs", "group_table", "spatial_table"} & set(in_training)
    expected = {name for name, _ in layer.named_parameters()}
    if kind == "batch norm":
        expected |= {"running_mean", "running_var", "num_batches_tracked"}
    assert set(in_training) == expected


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_parameters_have_the_published_names_and_shapes(kind):
    names = [name for name, _ in build(kind)[0].named_parameters()]
    separable = kind in ("pointwise first", "depthwise first", "per pair")
    assert names == (["group_weight", "spatial_weight"] if separable else ["weight"]) + ["bias"] * (
        kind != "vector projection"
    )


@pytest.mark.parametrize("kind", LAYERS)
def test_copies_and_pickles_compute_the_same(kind):
    layer, x = build(kind)
    stored = io.BytesIO()
    torch.save(layer, stored)
    stored.seek(0)
    for twin in (
        copy.deepcopy(layer),
        pickle.loads(pickle.dumps(layer)),
        torch.load(stored, weights_only=False),
    ):
        assert torch.equal(twin(x), layer(x))


@pytest.mark.parametrize("kind", LAYERS)
def test_the_state_of_one_layer_makes_another_compute_the_same(kind):
    layer, x = build(kind)
    other = LAYERS[kind][0]()
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(x), layer(x))


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_a_layer_materialised_from_meta_has_its_tables(kind):
    layer, x = build(kind)
    empty = CONVOLUTIONS[kind][0](device="meta").to_empty(device="cpu")
    empty.load_state_dict(layer.state_dict())
    assert torch.equal(empty(x), layer(x))


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_double_agrees_with_the_reference_to_rounding(kind):
    layer, x = build(kind, torch.float64)
    reference = copy.deepcopy(layer)
    reference.backend = "reference"
    assert layer(x).dtype == torch.float64
    torch.testing.assert_close(layer(x), reference(x), rtol=0, atol=1e-13)


@pytest.mark.parametrize("kind", LAYERS)
def test_autocast_runs_and_stays_near_single_precision(kind):
    layer, x = build(kind)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
    y.float().sum().backward() if y.requires_grad else None
    # bfloat16 keeps 8 bits; sums of at most 100 unit terms.
    torch.testing.assert_close(y.float(), layer(x), rtol=0, atol=0.1)


#: One tracer each: in another dimension, with another padding or variant the same functions are traced.
ALIKE = ("octahedral", "exact octahedral", "circular", "exact lifting", "vector lift", "depthwise first")
TRACED = [pytest.param(kind, marks=[pytest.mark.deep] * (kind in ALIKE)) for kind in LAYERS]


@TRACER
@pytest.mark.parametrize("kind", TRACED)
def test_compiles_without_a_graph_break_with_the_same_gradients(kind, fresh_compiler):
    layer, x = build(kind)
    compiled = torch.compile(copy.deepcopy(layer), fullgraph=True, backend="aot_eager")
    y, z = compiled(x.requires_grad_()), layer(x)
    torch.testing.assert_close(y, z)
    (grad_y,), (grad_z,) = torch.autograd.grad(y.cos().sum(), x), torch.autograd.grad(z.cos().sum(), x)
    torch.testing.assert_close(grad_y, grad_z)
    y, z = compiled(x).sin().sum(), layer(x).sin().sum()
    for a, b in zip(grads(y, compiled), grads(z, layer), strict=True):
        torch.testing.assert_close(a, b)


def grads(loss, layer):
    parameters = list(layer.parameters())
    return torch.autograd.grad(loss, parameters) if parameters else ()


@pytest.mark.skipif(shutil.which("c++") is None, reason="the inductor backend needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")  # the compiler's own deprecations
def test_inductor_compiles_the_regular_layer(fresh_compiler):
    layer, x = build("regular")
    # dynamic=False: after other shapes, symbolic strides stop the compiler itself (pytorch issue 185510).
    torch.testing.assert_close(torch.compile(layer, fullgraph=True, dynamic=False)(x), layer(x))


@pytest.mark.parametrize("kind", TRACED)
def test_exports_with_a_free_batch(kind):
    layer, x = build(kind)
    layer.eval()
    program = torch.export.export(layer, (x,), dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=64)},))
    other = torch.cat([x, x + 1, x - 1])
    torch.testing.assert_close(program.module()(other), layer(other))


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_fold_is_a_plain_torch_convolution_with_the_same_output(kind):
    layer, x = build(kind)
    flat = x if kind.endswith("lifting") else x.flatten(1, 2)
    folded = layer.fold()
    plain = (torch.nn.Sequential, torch.nn.Conv2d, torch.nn.Conv3d)
    assert all(type(module) in plain for module in folded.modules())
    torch.testing.assert_close(folded(flat), layer(x).flatten(1, 2))
    before = [p.clone() for p in layer.parameters()]
    with torch.no_grad():
        for p in folded.parameters():
            p.zero_()
    assert all(torch.equal(p, q) for p, q in zip(before, layer.parameters(), strict=True))


@pytest.mark.parametrize("kind", LAYERS)
def test_the_memory_layout_of_the_input_does_not_matter(kind):
    layer, x = build(kind)
    scattered = x.movedim(1, -1).contiguous().movedim(-1, 1)
    assert not scattered.is_contiguous() or x.shape[1] == 1
    torch.testing.assert_close(layer(scattered), layer(x))


def test_folding_draws_no_random_numbers():
    layer, _ = build("regular")
    state = torch.random.get_rng_state()
    layer.fold()
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("kind", [k for k in LAYERS if k not in ("octahedral", "exact octahedral", "batch norm")])
def test_first_and_second_derivatives_match_finite_differences(kind):
    layer, x = build(kind, torch.float64)
    x = x[:1, :, ..., :3].clone()
    names = [name for name, _ in layer.named_parameters()]

    def f(x, *values):
        return functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    inputs = (x.requires_grad_(), *layer.parameters())
    assert torch.autograd.gradcheck(f, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(f, inputs, fast_mode=True)


@SCRIPT
@pytest.mark.parametrize("kind", ["regular", "vector projection", "per pair"])
def test_forward_mode_and_vmap_reach_the_weights(kind):
    layer, x = build(kind, torch.float64)
    weights = {name: p.detach() for name, p in layer.named_parameters()}
    name = "spatial_weight" if kind == "per pair" else "weight"

    def loss(w, sample):
        return functional_call(layer, {**weights, name: w}, (sample[None],)).sin().sum()

    w = weights[name]
    torch.testing.assert_close(jacfwd(loss)(w, x[0]), jacrev(loss)(w, x[0]))
    torch.testing.assert_close(jacfwd(jacrev(loss))(w, x[0]), jacrev(jacrev(loss))(w, x[0]))
    per_sample = vmap(jacrev(loss), (None, 0))(w, x)
    torch.testing.assert_close(per_sample[1], jacrev(loss)(w, x[1]))


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_gradients_are_bitwise_reproducible_under_deterministic_algorithms(kind):
    layer, x = build(kind)
    torch.use_deterministic_algorithms(True)
    try:
        first, second = (grads(layer(x).sin().sum(), layer) for _ in range(2))
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


VARIANCE = {
    "lifting C4": (lambda: LiftingConv("C4", 8, 64, 5), (4, 8, 15, 17)),
    "regular D4": (lambda: GroupConv("D4", 4, 32, 3), (4, 4, 8, 9, 11)),
    "regular O": (lambda: GroupConv("O", 2, 8, 3), (1, 2, 24, 6, 7, 6)),
    "vector lift O": (lambda: VectorLift("O", 4, 32, 3), (2, 4, 3, 7, 8, 7)),
    "vector projection O": (lambda: VectorProjection("O", 4, 32, 3), (1, 4, 24, 6, 7, 6)),
    "pointwise first": (lambda: SeparableGroupConv("D4", 4, 64, 3), (4, 4, 8, 9, 11)),
    "depthwise first": (lambda: SeparableGroupConv("D4", 64, 16, 3, variant="depthwise_first"), (2, 64, 8, 9, 11)),
    "per pair": (lambda: SeparableGroupConv("D4", 8, 32, 3, variant="per_pair"), (4, 8, 8, 9, 11)),
}


@pytest.mark.parametrize("kind", VARIANCE)
def test_initial_weights_keep_the_variance_of_white_noise(kind):
    make, shape = VARIANCE[kind]
    torch.manual_seed(1)
    with torch.no_grad():
        variance = make()(torch.randn(shape)).var().item()
    # At least 8 filters of at least 9 weights each: the mean of their squared norms is within 25% of its expectation.
    assert 0.75 < variance < 1.25


def test_synchronised_batch_norm_keeps_the_statistics_over_the_group():
    layer, x = build("batch norm")
    layer(x)
    synchronised = torch.nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(layer)).eval()
    torch.testing.assert_close(synchronised(x), layer.eval()(x))


@pytest.mark.parametrize("module", [m.name for m in pkgutil.iter_modules(grid_package.__path__)])
def test_the_examples_in_the_documentation_run(module):
    result = doctest.testmod(importlib.import_module(f"{grid_package.__name__}.{module}"))
    assert result.failed == 0


@pytest.mark.parametrize("name", [name for name in kernels.__all__ if name != "GridGroup"])
def test_every_docstring_starts_with_the_symmetry_and_names_its_source(name):
    layer = getattr(kernels, name)
    if not layer.__module__.startswith(grid_package.__name__):
        pytest.skip("another family")
    text = layer.__doc__
    assert text.startswith(("G-equivariant for", "G-invariant for"))
    assert "exactly" in text.split("\n\n")[0]
    for section in ("Args:", "Raises:", "Example:", "Source:"):
        assert section in text


ORDERED = {
    "lifting": lambda: LiftingConv("C4", 1, 2, 3),
    "regular": lambda: GroupConv("C4", 1, 2, 3),
    "separable": lambda: kernels.SeparableGroupConv("C4", 1, 2, 3),
    "transposed": lambda: kernels.TransposedGroupConv("C4", 1, 2, 3),
    "relaxed": lambda: kernels.RelaxedGroupConv("C4", 1, 2, 3, banks=2),
    "relaxed separable": lambda: kernels.RelaxedSeparableGroupConv("C4", 1, 2, 3, banks=2),
    "reflected": lambda: GroupConv("D4", 1, 2, 3),
    "vectors": lambda: kernels.VectorProjection("C4", 1, 2, 3),
}


def saved_before(layer):
    """The state of a layer as version 1 saved it."""
    state = layer.state_dict()
    for metadata in state._metadata.values():
        metadata["version"] = 1
    return state


@pytest.mark.parametrize("kind", ORDERED)
def test_weights_of_the_former_order_are_refused_with_the_way_out(kind):
    layer = ORDERED[kind]()
    model = torch.nn.Sequential(torch.nn.ReLU(), layer)
    with pytest.raises(ValueError, match="listed its elements in another order"):
        layer.load_state_dict(saved_before(layer))
    with pytest.raises(ValueError, match=r"^1\..*: these weights were saved"):
        model.load_state_dict(saved_before(model))
    layer.load_state_dict(layer.state_dict())
    layer.load_state_dict(dict(layer.state_dict()))


@pytest.mark.parametrize("kind", ["C2", "O", "Oh"])
def test_weights_of_a_group_whose_order_stayed_are_loaded(kind):
    layer = LiftingConv(kind, 1, 2, 3)
    layer.load_state_dict(saved_before(layer))


def test_weights_of_the_former_order_convert_as_the_message_says():
    former = [[[1, 0], [0, 1]], [[-1, 0], [0, -1]], [[0, 1], [-1, 0]], [[0, -1], [1, 0]]]  # e, 180, -90, 90
    old, new = GroupConv(former, 2, 3, 3, bias=False), GroupConv("C4", 2, 3, 3, bias=False)
    with pytest.raises(ValueError, match=r"with the indices \[0, 3, 1, 2\] to 'weight' on axis 2") as refused:
        new.load_state_dict(saved_before(new))
    assert str(former) in str(refused.value)
    places = [0, 3, 1, 2]
    new.load_state_dict({"weight": old.weight.index_select(2, torch.tensor(places))})
    x = torch.randn(1, 2, 4, 5, 5)
    torch.testing.assert_close(new(x[:, :, places]), old(x)[:, :, places])
