"""Layers agree with a direct float64 evaluation of their spatial formula, forward and backward, on all grids."""

import numpy as np
import pytest
import torch
from equiharness import kernels as k

# Outputs and gradients, relative to the largest entry.
BOUNDS = {torch.float64: (1e-12, 1e-12), torch.float32: (2e-6, 5e-6)}
# (b_in, b_out, alias): equal, pooled, grown without and with aliases.
BANDWIDTHS = [(3, 3, False), (4, 2, False), (2, 4, False), (2, 4, True), (2, 3, True)]


def irregular(width, seed=7):
    rng = np.random.default_rng(seed)
    points = rng.uniform(-7, 7, (9, width))
    points[:, 0] = rng.uniform(0, np.pi, 9)
    points[0, 0], points[1, 0] = 0.0, np.pi  # both poles
    return points


S2_GRIDS = {
    "near identity": lambda: k.s2_near_identity(),
    "equatorial": lambda: k.s2_equatorial(max_beta=np.pi / 6, n_alpha=6, n_beta=2),
    "SOFT": lambda: k.s2_soft(2),
    "irregular": lambda: k.KernelGrid(irregular(2)),
    "repeated": lambda: k.KernelGrid(np.repeat(irregular(2)[:3], 2, axis=0)),
    "single point": lambda: k.KernelGrid([[1.1, -0.4]]),
    "pole": lambda: k.KernelGrid([[0.0, 0.0]]),
}
SO3_GRIDS = {
    "near identity": lambda: k.so3_near_identity(n_alpha=4, n_beta=2),
    "equatorial": lambda: k.so3_equatorial(max_beta=np.pi / 6, n_alpha=4, n_beta=2),
    "SOFT": lambda: k.so3_soft(1),
    "irregular": lambda: k.KernelGrid(irregular(3)),
    "repeated": lambda: k.so3_near_identity(n_alpha=4, n_beta=1, compatible=True),
    "single point": lambda: k.KernelGrid([[1.1, -0.4, 2.0]]),
    "identity": lambda: k.KernelGrid([[0.0, 0.0, 0.0]]),
}
CASES = [("s2", name, grid) for name, grid in S2_GRIDS.items()] + [
    ("so3", name, grid) for name, grid in SO3_GRIDS.items()
]


def relative(error, reference):
    return float((error.double() - reference).abs().max() / reference.abs().max())


@pytest.mark.parametrize(("b_in", "b_out", "alias"), BANDWIDTHS, ids=lambda v: str(v))
@pytest.mark.parametrize(("domain", "name", "grid"), CASES, ids=[f"{d}-{n}" for d, n, _ in CASES])
def test_layer_is_the_spatial_formula(oracle, domain, name, grid, b_in, b_out, alias):
    grid = grid()
    spatial = oracle(domain, b_in, b_out, grid.points, alias)
    layer_type, axes = (k.S2Conv, 2) if domain == "s2" else (k.SO3Conv, 3)
    torch.manual_seed(0)
    exact = layer_type(2, 3, b_in, b_out, grid, alias).double()
    with torch.no_grad():
        exact.bias.normal_()
    x64 = torch.randn(2, 2, *(2 * b_in,) * axes, dtype=torch.float64)
    cotangent = torch.randn(2, 3, *(2 * b_out,) * 3, dtype=torch.float64)
    for dtype, (output_bound, gradient_bound) in BOUNDS.items():
        layer = layer_type(2, 3, b_in, b_out, grid, alias).to(dtype)
        layer.load_state_dict(exact.state_dict())
        x = x64.to(dtype).requires_grad_()
        inputs = [x, layer.kernel, layer.bias]
        # The same rounded numbers go to both, so that only the arithmetic differs.
        reference_inputs = [t.detach().double().requires_grad_() for t in inputs]
        z, reference = layer(x), spatial(*reference_inputs)
        assert z.dtype == dtype
        assert relative(z.detach(), reference.detach()) <= output_bound
        rounded = cotangent.to(dtype)
        gradients = torch.autograd.grad(z, inputs, rounded)
        references = torch.autograd.grad(reference, reference_inputs, rounded.double())
        for gradient, expected in zip(gradients, references, strict=True):
            assert relative(gradient, expected) <= gradient_bound


def test_the_oracle_tells_a_transposed_grid_from_the_right_one(oracle):
    """The control of this file: a convention error is far above the bounds."""
    points = irregular(3)
    layer = k.SO3Conv(1, 1, 3, 3, points).double()
    x = torch.randn(1, 1, 6, 6, 6, dtype=torch.float64)
    swapped = oracle("so3", 3, 3, points[:, [0, 2, 1]])(x, layer.kernel, layer.bias)
    assert relative(layer(x).detach(), swapped.detach()) > 1e-2


@pytest.mark.parametrize("alias", [False, True])
@pytest.mark.parametrize(("b_in", "b_out"), [(2, 2), (2, 1), (1, 3)])
@pytest.mark.parametrize("domain", ["s2", "so3"])
def test_first_and_second_derivatives_are_right(domain, b_in, b_out, alias):
    torch.manual_seed(1)
    layer_type, axes = (k.S2Conv, 2) if domain == "s2" else (k.SO3Conv, 3)
    layer = layer_type(2, 1, b_in, b_out, irregular(axes)[:3], alias).double()
    x = torch.randn(1, 2, *(2 * b_in,) * axes, dtype=torch.float64, requires_grad=True)
    kernel = layer.kernel.detach().requires_grad_()

    def function(x, kernel):
        z = torch.func.functional_call(layer, {"kernel": kernel}, (x,))
        return (z * z).mean((-1, -2)) / 3  # nonlinear, so that second derivatives are not zero

    assert torch.autograd.gradcheck(function, (x, kernel), fast_mode=True)
    assert torch.autograd.gradgradcheck(function, (x, kernel), fast_mode=True)


def test_a_noncontiguous_input_gives_the_same(random_rotation):
    layer = k.SO3Conv(3, 2, 3, 3, k.so3_near_identity(n_alpha=3, n_beta=1)).double()
    x = torch.randn(2, 6, 6, 6, 3, dtype=torch.float64).movedim(-1, 1)
    assert torch.allclose(layer(x), layer(x.contiguous()), atol=1e-13)
    assert torch.allclose(layer(x[:1].expand(3, -1, -1, -1, -1)), layer(x[:1].repeat(3, 1, 1, 1, 1)), atol=1e-13)
