"""From the weights of a kernel on SO(3) to its spectrum: rows.cu and the ragged engine on the CPU, and the adjoint."""

import numpy as np
import pytest
import torch
from equiharness.kernels import so3_near_identity
from equiharness.kernels.cuda.synthesis_operators import ring_product, weighted_rows
from equiharness.kernels.spherical.basis import so3_basis
from equiharness.kernels.spherical.kernelmap import ByRings, kernel_map

COUNTS = (3, 1, 5)


def rings(dtype, columns=7, pairs=9, draw=torch.randn):
    torch.manual_seed(0)
    return draw(sum(COUNTS), pairs).to(dtype), draw(sum(COUNTS), columns).to(dtype), draw(3 * pairs, columns).to(dtype)


def bags(dtype):
    """Rows of two terms, and their transpose, whose rows have none to three."""
    terms, weights = torch.tensor([[0, 1], [1, 3], [4, 1]]), torch.randn(3, 2).to(dtype)
    order = torch.argsort(terms.reshape(-1), stable=True)
    offsets = torch.searchsorted(terms.reshape(-1)[order].contiguous(), torch.arange(5))
    return (terms, weights, None), (order // 2, weights.reshape(-1)[order], offsets)


@pytest.mark.parametrize("kind", ["plain", "address"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_both_steps_and_their_transposes_are_right_to_rounding(cases, host_executor, kind, dtype):
    waves, weights, sums = rings(dtype, columns=130 if kind == "plain" else 7)
    there, back = bags(dtype)
    table, cotangent = torch.randn(5, 131, dtype=dtype), torch.randn(3, 131, dtype=dtype)
    calls = [
        (lambda w, g: ring_product(w, g, COUNTS), (waves, weights), max(COUNTS)),
        (lambda w, g: ring_product(w, g, COUNTS, True), (waves, sums), 9),
        (lambda t, w: weighted_rows(t, (there[0], w, None), back), (table, there[1]), 2),
        (lambda t, w: weighted_rows(t, (back[0], w, back[2]), there), (cotangent, back[1]), 3),
    ]
    for call, operands, terms in calls:
        with cases.running_on(None):
            exact, magnitudes = (call(*(change(t.double()) for t in operands)) for change in (torch.clone, torch.abs))
        with cases.running_on(host_executor(kind)):
            got = call(*operands)
        assert ((got.double() - exact).abs() <= 2 * cases.gamma(terms, dtype) * magnitudes).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_kernels_spectrum_is_the_sum_over_its_points(cases, host_executor, dtype):
    """Against Y = sum_p kernel_p conj D(g_p) in float64, points of a ring apart from each other."""
    b = 3
    points = so3_near_identity().points.copy()[np.random.default_rng(0).permutation(192)]
    ours = kernel_map(points, b, dtype, torch.device("cpu"))
    assert isinstance(ours, ByRings)
    weights = torch.randn(192, 5, dtype=dtype)
    exact = so3_basis(points, b, torch.float64, True).t() @ weights.double()
    executor = host_executor("plain")
    with cases.running_on(executor):
        got = ours.spectra(weights)
    assert [name.rpartition("_")[0] for name in executor.launched[-2:]] == (
        ["ragged_gemm_f32", "weighted_rows"] if dtype == torch.float32 else ["ragged_gemm", "weighted_rows"]
    )
    # Each factor is at most 1: 192 products, each of table entries rounded twice, and d from a recurrence of l steps.
    eps = torch.finfo(dtype).eps
    assert (got.double() - exact).abs().max() <= (192 + 16) * eps * float(weights.double().abs().sum(0).max())


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("where", ["host", "torch"])
def test_the_operators_keep_torchs_contract_and_their_derivatives_match_finite_differences(cases, host_executor, where):
    waves, weights, sums = rings(torch.float64, columns=2, pairs=4)
    there, back = bags(torch.float64)
    table, cotangent = (torch.randn(n, 2, dtype=torch.float64, requires_grad=True) for n in (5, 3))
    operators = torch.ops.equiharness
    with cases.running_on(host_executor("plain") if where == "host" else None):
        for given, transposed in ((weights, False), (sums, True)):
            arguments = (waves, given.requires_grad_(), list(COUNTS), transposed)
            torch.library.opcheck(operators.ring_product.default, arguments)
            call = lambda g, t=transposed: ring_product(waves, g, COUNTS, t)  # noqa: E731  # bound to this turn
            assert torch.autograd.gradcheck(call, (given,), fast_mode=True)
            assert torch.autograd.gradgradcheck(call, (given,), fast_mode=True)
        for given, one, other in ((table, there, back), (cotangent, back, there)):
            torch.library.opcheck(operators.weighted_rows.default, (given, *one, *other))
            call = lambda g, one=one, other=other: weighted_rows(g, one, other)  # noqa: E731
            assert torch.autograd.gradcheck(call, (given,), fast_mode=True)
            assert torch.autograd.gradgradcheck(call, (given,), fast_mode=True)


def test_no_channels_launch_nothing(cases, recorder):
    waves, weights, _ = rings(torch.float32)
    with cases.running_on(recorder):
        assert ring_product(waves, weights[:, :0], COUNTS).shape == (27, 0)
    assert not recorder.launches
