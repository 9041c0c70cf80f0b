"""The Fourier transforms are the formulas of the design note, and undo each other."""

import time

import numpy as np
import pytest
import torch
from equiharness import kernels as k
from equiharness.kernels.spherical.transform import so3_analyse, so3_rows, so3_synthesise

AXES = {"s2": 2, "so3": 3}
FFT = {"s2": k.s2_fft, "so3": k.so3_fft}
IFFT = {"s2": k.s2_ifft, "so3": k.so3_ifft}


def rows(domain, b):
    return b * b if domain == "s2" else so3_rows(b)


@pytest.mark.parametrize("domain", AXES)
@pytest.mark.parametrize(("b", "b_out", "alias"), [(4, None, False), (4, 2, True), (3, 5, False), (3, 5, True)])
def test_forward_is_the_quadrature_sum(explicit_rows, domain, b, b_out, alias):
    degrees = b_out or b
    matrix, weights, kept = explicit_rows(b, degrees, domain == "s2")
    x = torch.randn(3, *(2 * b,) * AXES[domain], dtype=torch.float64)
    expected = (x.flatten(1).numpy() * weights) @ matrix.conj()
    expected[:, ~kept] = 0
    if not alias:
        expected[:, rows(domain, min(b, degrees)) :] = 0
    np.testing.assert_allclose(FFT[domain](x, b_out, alias=alias).numpy(), expected, atol=1e-15)


@pytest.mark.parametrize("domain", AXES)
@pytest.mark.parametrize("b_out", [None, 2, 6])
def test_inverse_is_the_sum_over_degrees(explicit_rows, domain, b_out):
    b = 4
    X = FFT[domain](torch.randn(2, *(2 * b,) * AXES[domain], dtype=torch.float64))
    degrees, new = min(b, b_out or b), b_out or b
    matrix, _, _ = explicit_rows(new, degrees, domain == "s2")
    power = 1 if domain == "s2" else 2
    factor = np.concatenate([np.full((2 * l + 1) ** power, 2 * l + 1.0) for l in range(degrees)])
    expected = (X[:, : len(factor)].numpy() * factor) @ matrix.T
    assert np.abs(expected.imag).max() < 1e-13
    np.testing.assert_allclose(IFFT[domain](X, b_out).flatten(1).numpy(), expected.real, atol=1e-13)


@pytest.mark.parametrize("domain", AXES)
@pytest.mark.parametrize("b", [1, 2, 3, 7, 12, 16])
def test_transforms_invert_each_other_to_1e_12(domain, b):
    x = torch.randn(2, *(2 * b,) * AXES[domain], dtype=torch.float64)
    X = FFT[domain](x)  # of unit-size coefficients below
    X = X / X.abs().max()
    assert float((FFT[domain](IFFT[domain](X)) - X).abs().max()) <= 1e-12


@pytest.mark.parametrize("b", [1, 5, 16, 48])
def test_s2_rows_and_spectra_survive_a_round_trip_in_float32(b):
    X = k.s2_fft(torch.randn(2, 3, 2 * b, 2 * b))
    assert X.dtype == torch.complex64
    assert float((k.s2_fft(k.s2_ifft(X)) - X).abs().max()) <= 1e-6 * float(X.abs().max()) * max(1, b / 8)


@pytest.mark.deep
@pytest.mark.parametrize("b", [*range(17, 64, 9), 64])
def test_transforms_invert_each_other_to_1e_12_at_every_bandwidth(b):
    spectrum = torch.randn(1, so3_rows(b), 1, dtype=torch.float64)
    assert float((so3_analyse(so3_synthesise(spectrum, b), b) - spectrum).abs().max()) <= 1e-12
    X = torch.randn(b * b, dtype=torch.complex128)
    X = k.s2_fft(k.s2_ifft(X))
    assert float((k.s2_fft(k.s2_ifft(X)) - X).abs().max()) <= 1e-12


@pytest.mark.deep
def test_a_float32_round_trip_at_b_128_stays_under_12_gib():
    import resource

    spectrum = torch.randn(1, so3_rows(128), 1)
    error = so3_analyse(so3_synthesise(spectrum, 128), 128).sub_(spectrum).abs().max()
    assert float(error) <= 1e-4
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 12 * 2**20


@pytest.mark.parametrize("b", [1, 3, 8])
def test_slow_transforms_agree_with_the_fast_ones_on_the_soft_grid(b):
    w = k.quadrature_weights(b)
    x = torch.randn(2, 2 * b, 2 * b, dtype=torch.float64)
    slow = k.s2_ft((x * 2 * b * w[:, None]).flatten(1), k.s2_soft(b), b)
    assert torch.allclose(slow, k.s2_fft(x), atol=1e-14)
    if b < 8:
        y = torch.randn(2, 2 * b, 2 * b, 2 * b, dtype=torch.float64)
        slow = k.so3_ft((y * w[:, None, None]).flatten(1), k.so3_soft(b), b)
        assert torch.allclose(slow, k.so3_fft(y), atol=1e-14)


def test_a_function_of_every_degree_has_aliases_only_where_they_are_kept():
    x = torch.randn(6, 6, 6, dtype=torch.float64)
    beyond = slice(so3_rows(3), None)
    assert (k.so3_fft(x, 5, alias=True)[beyond].abs() > 1e-3).any()
    assert (k.so3_fft(x, 5)[beyond] == 0).all()


@pytest.mark.parametrize("domain", AXES)
def test_transforms_are_differentiable_twice(domain):
    x = torch.randn(*(4,) * AXES[domain], dtype=torch.float64, requires_grad=True)

    def function(x):
        X = FFT[domain](x, 3, alias=True)
        return IFFT[domain](X * X, 2).square()

    assert torch.autograd.gradcheck(function, (x,), fast_mode=True)
    assert torch.autograd.gradgradcheck(function, (x,), fast_mode=True)


def test_leading_axes_are_batch_axes():
    x = torch.randn(2, 1, 3, 4, 4, 4, dtype=torch.float64)
    X = k.so3_fft(x)
    assert X.shape == (2, 1, 3, so3_rows(2))
    assert torch.allclose(X[1, 0, 2], k.so3_fft(x[1, 0, 2]))
    assert torch.allclose(k.so3_ifft(X)[1, 0, 2], k.so3_ifft(X[1, 0, 2]))


def test_blocks_of_channels_do_not_show(monkeypatch):
    from equiharness.kernels.spherical import transform

    x = torch.randn(3, 5, 8, 8, 8, dtype=torch.float64)
    whole = so3_analyse(x, 4)
    signal = so3_synthesise(whole, 4)
    for channels in (1, 2, 5, 7, 10):
        monkeypatch.setattr(transform, "_BLOCK_CHANNELS", channels)
        monkeypatch.setattr(transform, "_BLOCK_LEAST", 0)
        assert torch.allclose(so3_analyse(x, 4), whole, atol=1e-14)
        assert torch.allclose(so3_synthesise(whole, 4), signal, atol=1e-13)


def test_tables_unfolded_in_every_call_give_the_same(monkeypatch):
    from equiharness.kernels.spherical import transform

    x = torch.randn(1, 1, 8, 8, 8, dtype=torch.float64)
    kept = so3_analyse(x, 4)
    monkeypatch.setattr(transform, "_KEEP_BYTES", 0)
    assert torch.equal(so3_analyse(x, 4), kept)


def test_resampling_down_and_up_is_the_projection():
    x = torch.randn(2, 8, 8, 8, dtype=torch.float64)
    assert torch.allclose(k.so3_resample(k.so3_resample(x, 7), 4), k.so3_resample(x, 4), atol=1e-13)
    assert torch.allclose(k.so3_fft(k.so3_resample(x, 2)), k.so3_fft(x)[:, : so3_rows(2)], atol=1e-14)
    y = torch.randn(2, 8, 8, dtype=torch.float64)
    assert torch.allclose(k.s2_fft(k.s2_resample(y, 6), 4), k.s2_fft(y), atol=1e-14)


@pytest.mark.parametrize("degree", [0, 3, 7])
def test_weights_are_exact_below_2b(degree):
    """The integral of P_degree over the sphere is zero, but for degree 0, at b = 4."""
    beta = np.pi * (2 * np.arange(8) + 1) / 16
    values = torch.from_numpy(np.polynomial.legendre.Legendre.basis(degree)(np.cos(beta)))
    integral = float((k.quadrature_weights(4) * values).sum() * 64)
    assert abs(integral - (degree == 0)) <= 1e-15
    aliased = torch.from_numpy(np.polynomial.legendre.Legendre.basis(8)(np.cos(beta)))
    assert abs(float((k.quadrature_weights(4) * aliased).sum() * 64)) > 1e-3


@pytest.mark.deep
def test_a_spectrum_of_b_64_is_made_in_seconds():
    x = torch.randn(1, 1, 128, 128, 128)
    so3_analyse(x, 64)
    start = time.perf_counter()
    so3_analyse(x, 64)
    assert time.perf_counter() - start < 5
