"""The exact backend in torch: the formula of the layers, its gradients, and sums that do not depend on an order."""

import math
from itertools import product

import pytest
import torch
from equiharness.kernels import (
    GroupConv,
    LiftingConv,
    RelaxedGroupConv,
    RelaxedSeparableGroupConv,
    SeparableGroupConv,
    TransposedGroupConv,
    TransposedLiftingConv,
    TransposedSeparableGroupConv,
    VectorLift,
    VectorProjection,
)
from equiharness.kernels.grid import frames
from equiharness.kernels.grid.exact import orbit_sum, spread
from hypothesis import assume, given, settings
from hypothesis import strategies as st


def results(layer, x, cotangent):
    x = x.detach().requires_grad_()
    y = layer(x)
    return (y.detach(), *torch.autograd.grad(y, [x, *layer.parameters()], cotangent))


def disagreement(grid, kind, name, box, k, stride, padding, mode):
    """Largest difference between the exact backend and the formula, for the output and every gradient."""
    torch.manual_seed(0)
    options = {"stride": stride, "padding": padding, "padding_mode": mode, "allow_misaligned": True}
    formula, exact = (
        kind(grid.as_argument(name), 2, 2, k, **options, backend=backend, dtype=torch.float64)
        for backend in ("reference", "exact")
    )
    torch.nn.init.normal_(formula.bias)
    exact.load_state_dict(formula.state_dict())
    x = torch.randn(2, 2, *((formula.order,) if kind is GroupConv else ()), *box, dtype=torch.float64)
    cotangent = torch.randn_like(formula(x))
    both = zip(results(exact, x, cotangent), results(formula, x, cotangent), strict=True)
    return max((a - b).abs().max().item() for a, b in both)


@pytest.mark.parametrize("kind", [LiftingConv, GroupConv])
@pytest.mark.parametrize(
    ("name", "box"),
    [("C1", (3, 4)), ("D4", (5, 4)), ("O", (2, 3, 4)), ("C4 about axis 0", (3, 4, 2)), ("Oh", (2, 2, 3))],
)
@pytest.mark.parametrize("mode", ["zeros", "circular"])
def test_the_exact_backend_computes_the_formula_and_its_gradients(grid, kind, name, box, mode):
    # Sums of at most 2 * 48 * 8 products of unit numbers, in float64.
    assert disagreement(grid, kind, name, box, 2, 1, 1, mode) < 1e-11


@settings(max_examples=30, deadline=None)
@given(
    kind=st.sampled_from([LiftingConv, GroupConv]),
    name=st.sampled_from(["C2", "C4", "D4", "transposition"]),
    box=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    k=st.integers(1, 4),
    stride=st.integers(1, 3),
    padding=st.integers(0, 3),
    mode=st.sampled_from(["zeros", "circular"]),
)
def test_every_geometry_agrees_misaligned_ones_too(grid, kind, name, box, k, stride, padding, mode):
    assume(min(box) + 2 * padding >= k and (mode == "zeros" or padding <= min(box)))
    assert disagreement(grid, kind, name, box, k, stride, padding, mode) < 1e-11


def test_the_check_sees_a_wrong_table(grid):
    layer = GroupConv("C4", 1, 1, 3, backend="exact", dtype=torch.float64)
    reference = GroupConv("C4", 1, 1, 3, backend="reference", dtype=torch.float64)
    layer.load_state_dict(reference.state_dict())
    x = torch.randn(1, 1, 4, 4, 5, dtype=torch.float64)
    torch.testing.assert_close(layer(x), reference(x), rtol=0, atol=1e-12)
    layer.exact_fibre.copy_(layer.exact_fibre.flip(1))
    assert (layer(x) - reference(x)).abs().max() > 1e-2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_gradient_of_a_spread_signal_does_not_depend_on_the_order_of_its_terms(dtype):
    torch.manual_seed(0)
    terms = torch.randn(2, 3, 48, 5, 5).to(dtype) * 10.0 ** torch.randint(-3, 4, (48, 1, 1))
    terms = terms.to(dtype)

    def gradient(terms):
        x = torch.zeros(2, 3, 5, 5, dtype=dtype, requires_grad=True)
        return torch.autograd.grad(spread(x, 48), x, terms)[0]

    shuffles = [torch.randperm(48) for _ in range(4)]
    assert all(torch.equal(gradient(terms[:, :, order]), gradient(terms)) for order in shuffles)
    if dtype == torch.float32:  # which a plain loop of adds does
        sums = [sum(terms[:, :, h] for h in order.tolist()) for order in shuffles]
        assert any(not torch.equal(a, sums[0]) for a in sums[1:])


def test_layers_without_an_exact_backend_refuse_it_with_what_exists():
    with pytest.raises(ValueError, match="RelaxedSeparableGroupConv; there are 'auto', 'fast', 'reference'"):
        RelaxedSeparableGroupConv("C4", 1, 1, 3, backend="exact")


def test_a_layer_with_another_backend_carries_no_tables_of_the_exact_one():
    assert not [name for name, _ in GroupConv("C4", 1, 1, 3).named_buffers() if name.startswith("exact")]


# Layer, its options, fibres of source and target.
LAYERS = {
    "lifting": (LiftingConv, {}, "trivial", "regular"),
    "regular": (GroupConv, {}, "regular", "regular"),
    "pointwise first": (SeparableGroupConv, {"variant": "pointwise_first"}, "regular", "regular"),
    "depthwise first": (SeparableGroupConv, {"variant": "depthwise_first"}, "regular", "regular"),
    "per pair": (SeparableGroupConv, {"variant": "per_pair"}, "regular", "regular"),
    "transposed lifting": (TransposedLiftingConv, {}, "trivial", "regular"),
    "transposed regular": (TransposedGroupConv, {}, "regular", "regular"),
    "transposed separable": (TransposedSeparableGroupConv, {}, "regular", "regular"),
    "relaxed": (RelaxedGroupConv, {"banks": 2}, "regular", "regular"),
    "vector lift": (VectorLift, {}, "vector", "regular"),
    "vector projection": (VectorProjection, {}, "regular", "vector"),
}
# Odd and even boxes and kernels with aligned strides; boxes that are not cubic.
PLACES = {
    "C4": [((5, 5), 3, 1), ((4, 6), 4, 2), ((5, 7), 3, 2)],
    "D4": [((4, 4), 3, 1), ((5, 3), 3, 2)],
    "O": [((3, 3, 3), 3, 2), ((2, 4, 2), 2, 2)],
    "Oh": [((2, 2, 2), 2, 1)],
}


def exact_layer(kind, name, k, stride, dtype, backend="exact"):
    Layer, options, *_ = LAYERS[kind]
    torch.manual_seed(0)
    return Layer(name, 1, 2, k, stride=stride, padding=1, **options, backend=backend, dtype=dtype)


def signal(grid, kind, name, box, dtype):
    between = {"trivial": (), "regular": (len(grid.MATRICES[name]),), "vector": (len(box),)}[LAYERS[kind][2]]
    return torch.randn(2, 1, *between, *box).to(dtype)


def bits_that_differ(grid, layer, kind, name, x):
    """Entries of the output, and of the gradient of the input, that some element does not permute to the last bit."""
    *_, source, target = LAYERS[kind]
    E = grid.MATRICES[name]

    def moved(x, m, fibre):  # numpy has no bfloat16; float32 holds its numbers
        return grid.act(x.float() if x.dtype == torch.bfloat16 else x, m, fibre, E).to(x.dtype)

    def both(x, cotangent=None):
        x = x.detach().requires_grad_()
        y = layer(x)
        cotangent = torch.randn_like(y) if cotangent is None else cotangent
        return y.detach(), torch.autograd.grad(y, x, cotangent)[0], cotangent

    y, dx, cotangent = both(x)
    count = 0
    for m in E[1 :: max(1, len(E) // 6)]:
        y_m, dx_m, _ = both(moved(x, m, source), moved(cotangent, m, target))
        count += int((y_m != moved(y, m, target)).sum()) + int((dx_m != moved(dx, m, source)).sum())
    return count


def in_precisions():
    """C4 in every precision, D4 in two, O in single for layers that are no sum or stack of others."""
    ordinary = {"C4": (torch.float64, torch.float32, torch.bfloat16), "D4": (torch.float32, torch.bfloat16),
                "O": (torch.float32,), "Oh": ()}  # fmt: skip
    composed = ("relaxed", "per pair", "transposed lifting", "transposed separable")
    for kind, name, dtype in product(LAYERS, PLACES, ordinary["C4"]):
        wanted = dtype in ordinary[name] and not (name == "O" and kind in composed)
        text = f"{kind}-{name}-{str(dtype).removeprefix('torch.')}"
        yield pytest.param(kind, name, dtype, id=text, marks=[] if wanted else pytest.mark.deep)


@pytest.mark.parametrize(("kind", "name", "dtype"), list(in_precisions()))
def test_the_exact_backend_is_equivariant_to_the_last_bit(grid, kind, name, dtype):
    for box, k, stride in PLACES[name]:
        layer = exact_layer(kind, name, k, stride, dtype)
        assert bits_that_differ(grid, layer, kind, name, signal(grid, kind, name, box, dtype)) == 0, (box, k, stride)


def test_two_threads_change_no_bit_of_it(grid):
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        for kind in ("regular", "pointwise first", "transposed regular"):
            layer = exact_layer(kind, "D4", 3, 1, torch.float32)
            assert bits_that_differ(grid, layer, kind, "D4", signal(grid, kind, "D4", (9, 9), torch.float32)) == 0
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("kind", ["regular", "pointwise first", "transposed regular", "vector projection"])
def test_the_fast_path_is_not_so_the_test_can_fail(grid, kind):
    layer = exact_layer(kind, "D4", 3, 1, torch.float32, backend="fast")
    assert bits_that_differ(grid, layer, kind, "D4", signal(grid, kind, "D4", (9, 9), torch.float32)) > 0


@pytest.mark.parametrize("kind", LAYERS)
def test_fast_and_exact_agree_to_rounding(grid, kind):
    """Each sums at most n products of bounded terms in another order: the difference is below n eps sum |w x|."""
    fast, exact = (exact_layer(kind, "D4", 3, 1, torch.float32, backend) for backend in ("fast", "exact"))
    x = signal(grid, kind, "D4", (6, 5), torch.float32)
    absolute = exact_layer(kind, "D4", 3, 1, torch.float64, "reference")
    with torch.no_grad():
        for parameter in absolute.parameters():
            parameter.abs_()
        size = absolute(x.abs().double())
        if "vector" in kind:  # a turned vector changes signs: the largest sum |w x| there can be
            size = torch.full_like(size, sum(float(p.sum()) for p in absolute.parameters()) * float(x.abs().max()))
    terms = 8 * 9 * 9  # group mix and taps of the longest of these sums
    assert ((fast(x) - exact(x)).abs() <= 2 * terms * 2.0**-24 * size).all()


def orbits(dtype, spread):
    """Terms over many orders of magnitude, where a sum that rounds depends on its order."""
    generator = torch.Generator().manual_seed(0)
    sizes = 2.0 ** torch.randint(-spread, spread + 1, (2, 3, 24, 50), generator=generator, dtype=torch.float64)
    return (torch.randn(2, 3, 24, 50, generator=generator, dtype=torch.float64) * sizes).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_sum_over_an_orbit_has_no_order_and_changes_sign_with_its_terms(dtype):
    terms = orbits(dtype, 20)
    mixed = terms[:, :, torch.randperm(24, generator=torch.Generator().manual_seed(1))]
    assert torch.equal(orbit_sum(mixed), orbit_sum(terms))
    assert torch.equal(orbit_sum(-mixed), -orbit_sum(terms))
    one_by_one = [sum(t[:, :, h] for h in range(24)) for t in (mixed, terms)]
    assert not torch.equal(*one_by_one)  # adding with rounding does not give that


@pytest.mark.parametrize(("dtype", "cut"), [(torch.float32, 2.0**-46), (torch.float64, 2.0**-92)])
def test_a_sum_over_an_orbit_is_the_sum_rounded(dtype, cut):
    """Rounding of the result, and 24 terms cut to multiples of 2^(5 - 52) of the largest, once or twice."""
    terms = orbits(dtype, 20)
    columns = terms.double().movedim(2, -1)
    true = torch.tensor([math.fsum(column) for column in columns.reshape(-1, 24).tolist()], dtype=torch.float64)
    error = (orbit_sum(terms).double().flatten() - true).abs()
    bound = torch.finfo(dtype).eps / 2 * true.abs() + 24 * cut * columns.abs().amax(-1).flatten()
    assert (error <= bound).all()


def test_a_sum_over_an_orbit_holds_infinities_and_the_ends_of_the_range():
    inf, huge, tiny = float("inf"), 2.0**1022, 2.0**-1074
    orbits = [[inf, 1.0, -huge], [huge, -huge, 2.0**960], [tiny, tiny, -3 * tiny], [0.0, 0.0, 0.0], [huge, huge, huge]]
    terms = torch.tensor(orbits, dtype=torch.float64).T.reshape(1, 1, 3, 5)
    assert orbit_sum(terms).flatten().tolist() == [inf, 2.0**960, -tiny, 0.0, 3 * 2.0**1022]
    assert orbit_sum(torch.tensor([inf, -inf]).view(1, 1, 2, 1)).isnan().all()


@pytest.mark.parametrize("kind", ["lifting", "depthwise first"])
def test_where_a_library_treats_samples_unlike_every_element_has_a_call_of_its_own(kind, monkeypatch):
    layer = exact_layer(kind, "O", 3, 1, torch.float32)
    x = torch.randn(2, 1, *(() if kind == "lifting" else (24,)), 4, 4, 4)
    together, calls, convolution = layer(x), [], frames.CONV[3]

    def unlike(x, weight, **options):
        calls.append(len(x))
        return convolution(x, weight, **options) + torch.arange(len(x)).view(-1, 1, 1, 1, 1) * 1e-7

    monkeypatch.setitem(frames.CONV, 3, unlike)
    monkeypatch.setattr(frames, "_alike", frames._alike.__wrapped__)  # without what it remembers
    torch.testing.assert_close(layer(x), together, rtol=1e-5, atol=1e-5)
    assert calls.count(2) == 24  # of two samples, after one of all that showed the difference
    assert calls.count(48) == 1


@pytest.mark.parametrize("kind", LAYERS)
def test_an_empty_batch_gives_an_empty_batch(grid, kind):
    layer = exact_layer(kind, "D4", 3, 1, torch.float32)
    x = signal(grid, kind, "D4", (5, 4), torch.float32)[:0].requires_grad_()
    y = layer(x)
    y.sum().backward()
    assert y.shape[0] == 0
    assert x.grad.shape == x.shape


def test_columns_that_are_summed_in_two_orders_are_seen():
    def unlike(column, rows):
        y = torch.matmul(rows, column.expand(-1, -1, 5).contiguous())
        other = torch.matmul(rows.flip(1), column.flip(1))
        return torch.cat([y[..., :4], other], -1)

    def alike(column, rows):
        return torch.matmul(rows, column).expand(-1, -1, 5)

    assert frames._same(alike, (1, 16, 1), (1, 16), torch.float32, axis=2)
    assert not frames._same(unlike, (1, 16, 1), (1, 16), torch.float32, axis=2)


@pytest.mark.parametrize("fast_mode", [True, pytest.param(False, marks=pytest.mark.deep)])
@pytest.mark.parametrize("kind", ["pointwise first", "depthwise first", "transposed separable", "vector projection"])
def test_derivatives_of_the_exact_backend_are_right_twice(kind, fast_mode):
    """In fast mode along random directions of input and output, which a wrong entry of a Jacobian cannot hide from."""
    layer = exact_layer(kind, "C4", 2, 1, torch.float64)
    between = () if LAYERS[kind][2] == "trivial" else (4,)
    x = torch.randn(1, 1, *between, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (x,), fast_mode=fast_mode)
    assert torch.autograd.gradgradcheck(layer, (x,), fast_mode=fast_mode)
