"""Relaxed layers: equivariant where the mixture is constant, by as much as it is not elsewhere."""

import numpy as np
import pytest
import torch
from equiharness.kernels import (
    GroupConv,
    LiftingConv,
    RelaxedGroupConv,
    RelaxedLiftingConv,
    RelaxedSeparableGroupConv,
    SeparableGroupConv,
)

DOUBLE = {"dtype": torch.float64}
VARIANTS = ("pointwise_first", "depthwise_first", "per_pair")
KINDS = {
    "lifting": (RelaxedLiftingConv, LiftingConv, {}),
    "regular": (RelaxedGroupConv, GroupConv, {}),
    **{v: (RelaxedSeparableGroupConv, SeparableGroupConv, {"variant": v}) for v in VARIANTS},
}


def made(kind, name, banks=2, cin=2, cout=2, **options):
    Layer, _, more = KINDS[kind]
    return Layer(name, cin, cout, 3, banks=banks, padding=1, **more, **options, **DOUBLE)


def signal(kind, layer, box, batch=2):
    between = () if kind == "lifting" else (layer.order,)
    return torch.randn(batch, layer.in_channels, *between, *box, **DOUBLE)


def relative_error(grid, layer, x, name, m):
    """|f(L_u x) - L_u f(x)| / |f(x)| for one element."""
    E = grid.MATRICES[name]
    fibre = "trivial" if isinstance(layer, RelaxedLiftingConv) else "regular"
    y = layer(x)
    difference = layer(grid.act(x, m, fibre, E)) - grid.act(y, m, "regular", E)
    return (difference.norm() / y.norm()).item()


@pytest.mark.parametrize(("name", "box"), [("C4", (5, 4)), ("D4", (4, 5)), ("O", (3, 2, 3))])
@pytest.mark.parametrize("kind", KINDS)
def test_a_constant_mixture_is_the_ordinary_layer_with_the_mixed_weight(grid, kind, name, box):
    torch.manual_seed(0)
    layer = made(kind, name)
    r = torch.randn(2, **DOUBLE)
    _, Ordinary, more = KINDS[kind]
    ordinary = Ordinary(name, 2, 2, 3, padding=1, **more, **DOUBLE)
    with torch.no_grad():
        layer.relaxation.copy_(r[:, None].expand(-1, layer.order))
        state = dict(layer.state_dict())
        state.pop("relaxation")
        banks = "weight" if "weight" in state else "group_weight"
        state[banks] = torch.einsum("l,l...->...", r, state[banks])
        ordinary.load_state_dict(state)
        x = signal(kind, layer, box)
        torch.testing.assert_close(layer(x), ordinary(x), rtol=0, atol=1e-13)
        assert layer.regulariser() == 0
        assert not layer.symmetry_breaking().any()
        assert max(relative_error(grid, layer, x, name, m) for m in grid.MATRICES[name]) < 1e-14


@pytest.mark.parametrize("kind", KINDS)
def test_the_error_grows_in_proportion_to_the_spread_of_the_mixture(grid, kind):
    torch.manual_seed(0)
    layer, errors = made(kind, "C4"), []
    x, noise = signal(kind, layer, (6, 6)), torch.randn(2, 4, **DOUBLE)
    with torch.no_grad():
        for spread in (1e-4, 1e-3, 1e-2):
            layer.relaxation.copy_(1 + spread * noise)
            errors.append(relative_error(grid, layer, x, "C4", grid.MATRICES["C4"][2]))
    # First order in the spread: the next term is spread times smaller.
    assert errors[1] / errors[0] == pytest.approx(10, rel=0.01)
    assert errors[2] / errors[1] == pytest.approx(10, rel=0.05)


def test_independent_banks_break_each_element_as_much_as_the_layer_says(grid):
    """Averaged over random banks, the error of every element is `symmetry_breaking`, about sqrt(2) std(r)."""
    torch.manual_seed(0)
    found, said = [], []
    with torch.no_grad():
        for _ in range(12):
            layer = made("regular", "D4", banks=8, cout=4)
            layer.relaxation.copy_(1 + 0.1 * torch.randn(8, 8, **DOUBLE))
            x = signal("regular", layer, (6, 6), batch=4)
            found.append([relative_error(grid, layer, x, "D4", m) for m in grid.MATRICES["D4"]])
            said.append(layer.symmetry_breaking().numpy())
    found, said = np.array(found), np.array(said)
    assert (found[:, 0] < 1e-14).all()
    assert (said[:, 0] == 0).all()
    np.testing.assert_allclose(found[:, 1:].mean(), said[:, 1:].mean(), rtol=0.1)
    np.testing.assert_allclose(said[:, 1:].mean(), 2**0.5 * 0.1, rtol=0.1)


def test_what_breaks_reflections_alone_is_told_from_what_breaks_rotations(grid):
    layer = made("regular", "D4")
    proper = torch.tensor([round(np.linalg.det(m)) == 1 for m in grid.MATRICES["D4"]])
    with torch.no_grad():
        layer.relaxation[:, proper] = 2.0
    broken = layer.symmetry_breaking()
    assert not broken[proper].any()
    assert (broken[~proper] > 0.5).all()


@pytest.mark.parametrize(("name", "box"), [("D4", (3, 4)), ("O", (2, 3, 2))])
def test_it_is_the_published_formula(grid, name, box):
    """y(x, g) = sum_l r_l(g) sum_{h,t} psi_l(g^-1 (t, h)) f(x + t, h), written out over elements and positions."""
    E = grid.MATRICES[name]
    layer = made("regular", name, cin=1, cout=1, bias=False)
    torch.nn.init.normal_(layer.relaxation)
    x = signal("regular", layer, box, batch=1)
    padded = np.pad(x.detach().numpy()[0, 0], [(0, 0), *[(1, 1)] * len(box)])
    weight, r = layer.weight.detach().numpy()[:, 0, 0], layer.relaxation.detach().numpy()
    expected = np.zeros((len(E), *box))
    for g, m in enumerate(E):
        psi = np.einsum("l,l...->...", r[:, g], weight)[grid.left_quotients(E, g)]
        psi = psi[(slice(None), *grid.preimages(m, 3))]  # psi_l(g^-1 h, g^-1 t) over h and t
        for at in np.ndindex(*box):
            window = padded[(slice(None), *(slice(a, a + 3) for a in at))]
            expected[(g, *at)] = (psi * window).sum()
    np.testing.assert_allclose(layer(x).detach().numpy()[0, 0], expected, atol=1e-13)


@pytest.mark.parametrize("fast_mode", [True, pytest.param(False, marks=pytest.mark.deep)])
@pytest.mark.parametrize("backend", ["fast", "exact", "reference"])
@pytest.mark.parametrize("kind", KINDS)
def test_second_derivatives_pass_gradcheck(kind, backend, fast_mode):
    """In fast mode along random directions of input and output, which a wrong entry of a Jacobian cannot hide from."""
    if backend == "exact" and kind in VARIANTS:
        pytest.skip("relaxed separable layers have no exact backend")
    torch.manual_seed(0)
    Layer, _, more = KINDS[kind]
    layer = Layer("C2", 1, 1, 2, banks=2, **more, backend=backend, **DOUBLE)
    torch.nn.init.normal_(layer.relaxation)
    x = signal(kind, layer, (2, 3), batch=1).requires_grad_()
    names, parameters = zip(*layer.named_parameters(), strict=True)

    def function(x, *parameters):
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (x,))

    assert torch.autograd.gradcheck(function, (x, *parameters), fast_mode=fast_mode)
    assert torch.autograd.gradgradcheck(function, (x, *parameters), fast_mode=fast_mode)


def test_the_regulariser_is_the_sum_of_differences_and_can_be_minimised():
    layer = made("regular", "C4", banks=1)
    with torch.no_grad():
        layer.relaxation.copy_(torch.tensor([[1.0, 2.0, 4.0, 4.0]]))
    assert layer.regulariser().item() == 2 * (1 + 3 + 3 + 2 + 2 + 0)
    (gradient,) = torch.autograd.grad(layer.regulariser(), layer.relaxation)
    assert gradient.tolist() == [[-6.0, -2.0, 4.0, 4.0]]


@pytest.mark.parametrize("kind", KINDS)
def test_fresh_layers_keep_the_variance_of_white_noise_for_any_number_of_banks(kind):
    torch.manual_seed(0)
    for banks in (1, 4):
        outputs = []
        for _ in range(6):
            layer = made(kind, "C4", banks, 8, 8)
            outputs.append(layer(signal(kind, layer, (8, 8)))[..., 2:-2, 2:-2])
        assert 0.6 < torch.stack(outputs).var().item() < 1.5  # banks summed without 1/sqrt(L) would give 4


def test_no_banks_are_refused():
    with pytest.raises(ValueError, match="banks must be an integer >= 1; got 0"):
        RelaxedGroupConv("C4", 1, 1, 3, banks=0)
    with pytest.raises(ValueError, match="banks must be an integer >= 1"):
        RelaxedSeparableGroupConv("C4", 1, 1, 3, banks=1.5)
