"""The exact backend in torch: the formula of the layers, its gradients, and sums that do not depend on an order."""

import pytest
import torch
from equiharness.kernels import GroupConv, LiftingConv, VectorLift
from equiharness.kernels.grid.exact import spread
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
    with pytest.raises(ValueError, match="VectorLift; there are 'auto', 'fast', 'reference'"):
        VectorLift("C4", 1, 1, 3, backend="exact")


def test_a_layer_with_another_backend_carries_no_tables_of_the_exact_one():
    assert not [name for name, _ in GroupConv("C4", 1, 1, 3).named_buffers() if name.startswith("exact")]
