"""Bad input is refused with a message that says what to do; numbers that are not numbers stay where they are."""

import numpy as np
import pytest
import torch
from equiharness import kernels as k


def so3_layer():
    return k.SO3Conv(1, 1, 2, 2, [(0.1, 0.2, 0.3)])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: k.s2_fft(torch.zeros(7, 7)), "resample it to 6 or 8"),
        (lambda: k.s2_fft(torch.zeros(8, 6)), "one length 2b"),
        (lambda: k.so3_fft(torch.zeros(8, 8)), "one length 2b"),
        (lambda: k.so3_fft(torch.zeros(0, 0, 0)), "not 2b"),
        (lambda: k.so3_fft(torch.zeros(4, 4, 4), b_out=0), "b_out must be at least 1"),
        (lambda: k.s2_ifft(torch.zeros(9, dtype=torch.complex64), -1), "b_out must be at least 1"),
        (lambda: k.s2_ifft(torch.zeros(10, dtype=torch.complex64)), r"b\^2 rows"),
        (lambda: k.so3_ifft(torch.zeros(11, dtype=torch.complex64)), "rows for some bandwidth"),
        (lambda: k.quadrature_weights(0), "at least 1"),
        (lambda: k.S2Conv(1, 1, 2, 0, [(0.1, 0.2)]), "b_out must be at least 1"),
        (lambda: k.S2Conv(0, 1, 2, 2, [(0.1, 0.2)]), "cin must be at least 1"),
        (lambda: k.S2Conv(1, 1, 2, 2, [(0.1, 0.2, 0.3)]), r"\(beta, alpha\)"),
        (lambda: k.SO3Conv(1, 1, 2, 2, k.s2_near_identity()), r"\(beta, alpha, gamma\)"),
        (lambda: k.KernelGrid(np.zeros((3, 4))), "P >= 1"),
        (lambda: k.KernelGrid(np.zeros((0, 2))), "P >= 1"),
        (lambda: k.KernelGrid([(3.5, 0.0)]), r"outside \[0, pi\]"),
        (lambda: k.KernelGrid([(0.5, 0.0), (-0.1, 0.0)]), "point 1"),
        (lambda: k.KernelGrid([(0.5, np.nan)]), "finite"),
        (lambda: k.s2_near_identity(n_alpha=0), "n_alpha must be at least 1"),
        (lambda: k.s2_near_identity(max_beta=4.0), r"outside \[0, pi\]"),
        (lambda: so3_layer()(torch.zeros(1, 1, 6, 6, 6)), "b_in = 2"),
        (lambda: so3_layer()(torch.zeros(1, 2, 4, 4, 4)), "1 input channels"),
        (lambda: so3_layer()(torch.zeros(1, 4, 4, 4)), r"\[B, C\]"),
        (lambda: k.s2_ft(torch.zeros(3), [(0.1, 0.2)]), "the last axis must be the points"),
        (lambda: k.so3_rotate(torch.zeros(4, 4, 4), torch.eye(3) * 2), "no rotation"),
        (lambda: k.so3_rotate(torch.zeros(4, 4, 4), -torch.eye(3)), "no rotation"),
        (lambda: k.so3_rotate(torch.zeros(4, 4, 4), torch.zeros(4)), "unit length"),
        (lambda: k.so3_rotate(torch.zeros(4, 4, 4), torch.zeros(5)), r"quaternion \(w, x, y, z\)"),
        (lambda: k.s2_rotate(torch.zeros(4, 4), torch.tensor([0.0, np.nan, 0.0])), "not finite"),
        (lambda: k.OversampledNonlinearity(domain="s3"), "domain is"),
    ],
)
def test_a_wrong_value_says_what_is_right(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: k.s2_fft(torch.zeros(4, 4, dtype=torch.float16)), r"\.float\(\)"),
        (lambda: k.so3_fft(torch.zeros(4, 4, 4, dtype=torch.int64)), "float32 and float64"),
        (lambda: k.so3_integrate(torch.zeros(4, 4, 4, dtype=torch.bfloat16)), "float32 and float64"),
        (lambda: k.s2_ifft(torch.zeros(4)), "complex"),
        (lambda: so3_layer()(torch.zeros(1, 1, 4, 4, 4, dtype=torch.float64)), "cast one"),
        (lambda: so3_layer().half()(torch.zeros(1, 1, 4, 4, 4)), "kernel has dtype"),
        (lambda: k.quadrature_weights(2.5), "whole number"),
        (lambda: k.S2Conv(1, 1, 2, True, [(0.1, 0.2)]), "whole number"),
    ],
)
def test_a_wrong_type_says_what_is_right(call, message):
    with pytest.raises(TypeError, match=message):
        call()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_no_number_is_seen_and_spoils_its_own_item_only(value):
    for layer, shape in ((so3_layer(), (3, 1, 4, 4, 4)), (k.S2Conv(1, 1, 2, 2, [(0.1, 0.2)]), (3, 1, 4, 4))):
        x = torch.randn(shape)
        clean = layer(x)
        x[1].view(-1)[5] = value
        z = layer(x)
        assert not z[1].isfinite().all()
        assert torch.equal(z[0], clean[0])
        assert torch.equal(z[2], clean[2])


def test_an_empty_batch_gives_an_empty_batch():
    assert so3_layer()(torch.zeros(0, 1, 4, 4, 4)).shape == (0, 1, 4, 4, 4)


def test_a_pole_written_in_float32_is_a_pole():
    assert k.KernelGrid(torch.tensor([[np.pi, 0.0]], dtype=torch.float32)).points[0, 0] == np.pi
