"""Steerable layers: groups counted by angle, a basis without aliases, exact on the grid and of third order off it."""

import dataclasses
import math

import equiharness as eh
import numpy as np
import pytest
import torch
from equiharness.harness.claim.claim import Approximate, Claim
from equiharness.harness.symmetry.groups import Group
from equiharness.kernels import GroupConv, LiftingConv, SteerableConv, SteerableLiftingConv
from equiharness.kernels.steerable.basis import DEGREE, moment, steerable_basis
from equiharness.kernels.steerable.groups import PlanarGroup
from equiharness.suites.forward.off_grid import off_grid

DOUBLE = {"dtype": torch.float64}


@pytest.mark.parametrize("name", ["C1", "C3", "C8", "D1", "D4", "D5", "D6"])
def test_groups_are_counted_by_angle_and_multiply_as_their_matrices(name):
    group = PlanarGroup(name)
    products = np.einsum("iab,jbc->ijac", group.elements, group.elements)
    np.testing.assert_allclose(products, group.elements[group.mul], atol=1e-14)
    np.testing.assert_allclose(group.elements[group.inv], group.elements.transpose(0, 2, 1), atol=1e-14)
    n = group.rotations
    angle = np.arctan2(group.elements[:n, 1, 0], group.elements[:n, 0, 0]) % (2 * math.pi)
    np.testing.assert_allclose(angle, 2 * math.pi * np.arange(n) / n, atol=1e-14)


def test_quarter_turns_are_integers():
    elements = PlanarGroup("D8").elements[::2]
    assert (elements == np.round(elements)).all()
    assert set(np.unique(elements)) == {-1, 0, 1}


def test_another_name_is_refused():
    with pytest.raises(ValueError, match="unknown planar group 'O'; known are 'C<N>' and 'D<N>'"):
        SteerableConv("O", 1, 1, 3)


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 7])
def test_low_moments_of_the_basis_see_no_aliases(k):
    values, frequencies = steerable_basis(k)
    for a in range(DEGREE + 1):
        for b in range(DEGREE + 1 - a):
            others = values[frequencies != a - b]
            assert np.abs(moment(others, k, a, b)).max(initial=0) < 1e-13


def test_samples_of_a_harmonic_do_see_aliases_so_the_test_can_fail():
    axis = np.arange(5) - 2
    z = (axis[:, None] + 1j * axis).ravel()
    sampled = np.exp(-(np.abs(z) ** 2) / 8) * np.exp(4j * np.angle(z))
    assert abs(moment(sampled[None], 5, 0, 0)[0]) > 0.1


@pytest.mark.parametrize("k", [2, 3, 4, 5])
def test_quarter_turns_and_reflections_permute_the_taps_of_the_basis(k):
    values, frequencies = steerable_basis(k)
    planes = values.reshape(-1, k, k)
    # z = a0 + i a1: a quarter turn takes the tap t to i t, and the phase i^m with it.
    turned = np.rot90(planes, -1, (1, 2)) if np.rot90(np.eye(2)[None], -1, (1, 2)).any() else planes
    phase = (1j**frequencies)[:, None, None]
    assert min(np.abs(turned - phase * planes).max(), np.abs(turned - phase.conj() * planes).max()) < 1e-13
    np.testing.assert_allclose(planes[:, :, ::-1], planes.conj(), atol=1e-13)


@pytest.mark.parametrize("name", ["C2", "C4", "D4", "D2"])
@pytest.mark.parametrize("k", [3, 4])
def test_on_the_grid_it_is_the_layer_that_permutes_taps(name, k):
    torch.manual_seed(0)
    for Layer, Other, between in ((SteerableLiftingConv, LiftingConv, 0), (SteerableConv, GroupConv, 1)):
        layer = Layer(name, 2, 3, k, padding=1, **DOUBLE)
        other = Other(layer.group.elements, 2, 3, k, padding=1, **DOUBLE)
        assert (other.group.elements == layer.group.elements).all()  # its order is kept: the identity is first
        with torch.no_grad():
            other.weight.copy_(layer.filter())
            other.bias.copy_(torch.nn.init.normal_(layer.bias))
        x = torch.randn(2, 2, *[layer.order] * between, 6, 7, **DOUBLE)
        torch.testing.assert_close(layer(x), other(x), rtol=0, atol=1e-13)
        torch.testing.assert_close(layer.fold()(x.flatten(1, -3)).view_as(other(x)), other(x), rtol=0, atol=1e-13)


def claim(layer, size):
    of = Group(layer.group.elements, layer.group.name)
    reads = "regular" if isinstance(layer, SteerableConv) else "trivial"
    out = size + 2 * layer.padding - layer.kernel_size + 1
    source = eh.Field(eh.Grid(size, size), of, f"{layer.in_channels}*{reads}", split=True)
    target = eh.Field(eh.Grid(out, out), of, f"{layer.out_channels}*regular")
    return Claim(layer, of, source, target, **DOUBLE)


def long_wave_error(claimed, wavelength):
    """The error at one wavelength, stated because a ceiling is held there."""
    contract = Approximate(ceiling=1.0, wavelength=wavelength)
    result = off_grid(dataclasses.replace(claimed, contract=contract, modules=claimed.modules)).result
    return next(row.error for row in result.wavelengths if row.pixels == wavelength)


@pytest.mark.parametrize("name", ["C3", "D3", *(pytest.param(n, marks=pytest.mark.deep) for n in ("C8", "D5"))])
def test_off_the_grid_the_error_is_of_third_order(name):
    torch.manual_seed(0)
    layer = SteerableConv(name, 1, 1, 5, padding=2, **DOUBLE)
    result = off_grid(claim(layer, 33)).result
    assert result.verdict is eh.Verdict.APPROXIMATE
    assert result.share < 1e-3
    near, far = (long_wave_error(claim(layer, 33), wavelength) for wavelength in (24, 48))
    assert math.log2(near / far) == pytest.approx(3, abs=0.6)


def test_quarter_turns_of_an_eightfold_layer_are_exact():
    torch.manual_seed(0)
    result = eh.check(SteerableLiftingConv("D8", 1, 1, 5, padding=2, **DOUBLE))
    equivariance = next(p for p in result.parts if p.property == "equivariance")
    assert equivariance.verdict is eh.Verdict.EXACT
    assert len(equivariance.elements) == 5  # e, two generators of D4, and two more
    assert result.verdict is eh.Verdict.APPROXIMATE


def test_a_basis_with_aliases_stops_converging_so_the_check_can_fail(monkeypatch):
    monkeypatch.setattr("equiharness.kernels.steerable.basis.DEGREE", -1)
    torch.manual_seed(0)
    layer = SteerableConv("C3", 1, 1, 5, padding=2, **DOUBLE)
    result = off_grid(claim(layer, 33)).result
    assert result.verdict is eh.Verdict.BROKEN


def test_weights_receive_right_gradients_and_survive_a_state_dict():
    torch.manual_seed(0)
    layer = SteerableConv("C3", 1, 1, 3, **DOUBLE)
    x = torch.randn(1, 1, 3, 4, 4, **DOUBLE, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (x,))
    assert torch.autograd.gradgradcheck(layer, (x,))
    other = SteerableConv("C3", 1, 1, 3, **DOUBLE)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(x), layer(x))
    assert set(layer.state_dict()) == {"weight", "bias"}


def test_fresh_layers_keep_the_variance_of_white_noise():
    torch.manual_seed(0)
    y = torch.cat([SteerableConv("C8", 4, 8, 5, bias=False)(torch.randn(2, 4, 8, 12, 12)) for _ in range(6)])
    assert 0.7 < y.var().item() < 1.4


def test_misaligned_boxes_are_refused():
    with pytest.raises(ValueError, match="breaks the symmetry"):
        SteerableConv("C8", 1, 1, 3, stride=2, padding=1)(torch.zeros(1, 1, 8, 8, 8))
