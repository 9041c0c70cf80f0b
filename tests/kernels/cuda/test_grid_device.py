"""The grid kernels beside grid_exact.cu on a GPU (marker gpu), and whether a tensor core sums equal rows alike."""

import copy

import numpy as np
import pytest
import torch
from equiharness.kernels import FusedSeparableConv, GroupBatchNorm, GroupConv, LiftingConv, SeparableGroupConv
from equiharness.kernels.cuda import compile, launch
from equiharness.kernels.grid import reference


@pytest.fixture
def gpu():
    """The executor of this machine's GPUs."""
    if not torch.cuda.is_available():
        pytest.skip("no NVIDIA GPU, or a torch that does not see it")
    executor = launch.executor_for(torch.empty(0, device="cuda"))
    if executor is None:
        pytest.skip("CuPy is not importable: pip install equiharness[cuda13]")
    return executor


@pytest.mark.gpu
@pytest.mark.parametrize("kind", [LiftingConv, GroupConv])
def test_expansion_and_its_adjoint_are_torchs_on_a_gpu(gpu, cases, kind):
    layer = kind("Oh", 3, 5, 3, device="cuda")
    cotangent = torch.randint(-3, 4, layer.filter_bank().shape, device="cuda").float()

    def both():
        bank = layer.filter_bank()
        return bank.detach(), torch.autograd.grad(bank, layer.weight, cotangent)[0]

    ours = both()
    with cases.running_on(None):
        assert all(torch.equal(a, b) for a, b in zip(ours, both(), strict=True))  # integers sum exactly


@pytest.mark.gpu
@pytest.mark.parametrize("group", ["O", "Oh"])
def test_the_fourier_kernels_agree_with_the_formula_on_a_gpu(gpu, group):
    """In norm: at most n = 4 * 48 + 3 * 7 * 27 roundings one after the other, each of 2^-24, and a factor for norms."""
    torch.manual_seed(0)
    layer = GroupConv(group, 5, 7, 3, padding=1, backend="fourier", bias=False)
    x = torch.randn(2, 5, layer.order, 7, 6, 5, requires_grad=True)
    w, x64 = layer.weight.detach().double().requires_grad_(), x.detach().double().requires_grad_()
    wanted = reference.regular(x64, w, layer.group, **layer.geometry())
    cotangent = torch.randn_like(wanted)
    wanted = (wanted.detach(), *torch.autograd.grad(wanted, [x64, w], cotangent))
    there, signal = copy.deepcopy(layer).cuda(), x.detach().cuda().requires_grad_()
    y = there(signal)
    got = (y.detach(), *torch.autograd.grad(y, [signal, there.weight], cotangent.float().cuda()))
    for a, b in zip(got, wanted, strict=True):
        assert (a.cpu().double() - b).norm() <= 4 * 760 * 2**-24 * b.norm()
    assert torch.equal(there(signal), y)


@pytest.mark.gpu
@pytest.mark.parametrize("group", ["D4", "O"])
def test_the_fused_layer_agrees_with_its_parts_on_a_gpu(gpu, group):
    torch.manual_seed(0)
    conv, norm = SeparableGroupConv(group, 5, 7, 3, padding=1), GroupBatchNorm(group, 7)
    norm.running_var.uniform_(0.5, 2)
    parts = FusedSeparableConv(conv, norm).eval().requires_grad_(False)
    x = torch.randn(2, 5, conv.order, *(19, 17, 9)[: conv.dim])
    wanted = copy.deepcopy(parts).double()(x.double())
    layer = parts.cuda()
    got = layer(x.cuda())
    assert layer.backend_ran == "fused"
    # 5 * 24 terms of the mix, 27 of the window, a dozen of norm and bias: n 2^-24, and a factor for norms.
    assert (got.cpu().double() - wanted).norm() <= 4 * 160 * 2**-24 * wanted.norm()


# One warp multiplies [16, K] by [K, 8] in steps of m16n8k8, TF32 with float32 sums; fragments as PTX defines them.
MMA_ROWS = r"""
extern "C" __global__ void mma_rows(const float *a, const float *b, float *d, int depth)
{
    const int g = threadIdx.x / 4, t = threadIdx.x % 4;
    float c[4] = {0, 0, 0, 0};
    for (int k = 0; k < depth; k += 8) {
        unsigned x[4], y[2];
        for (int e = 0; e < 4; ++e) x[e] = __float_as_uint(a[(g + e % 2 * 8) * depth + k + t + e / 2 * 4]);
        for (int e = 0; e < 2; ++e) y[e] = __float_as_uint(b[(k + t + e * 4) * 8 + g]);
        asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                     "{%0,%1,%2,%3};"
                     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                     : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(y[0]), "r"(y[1]));
    }
    for (int e = 0; e < 4; ++e) d[(g + e / 2 * 8) * 8 + 2 * t + e % 2] = c[e];
}
"""


def rows_that_differ(product):
    """Of a product of equal rows: how many are not the first one, to the last bit."""
    bits = product.contiguous().view(torch.int32)
    return int((bits != bits[0]).any(1).sum())


@pytest.mark.gpu
def test_equal_rows_of_a_tensor_core_tile_give_equal_bits(gpu):
    """What a tensor-core variant of the exact backend would rest on: nothing of it is built before this passes."""
    cupy, depth = pytest.importorskip("cupy"), 256
    kernel = cupy.RawKernel(MMA_ROWS, "mma_rows")
    generator = torch.Generator().manual_seed(0)
    for _ in range(64):
        scale = 10.0 ** torch.randint(-4, 5, (depth,), generator=generator)
        row, b = (torch.randn(shape, generator=generator) * scale.view(-1, *(1,) * (len(shape) - 1))
                  for shape in ((depth,), (depth, 8)))  # fmt: skip
        a, b, d = row.expand(16, -1).contiguous().cuda(), b.cuda(), torch.empty(16, 8, device="cuda")
        torch.cuda.synchronize()
        kernel((1,), (32,), (*(np.uint64(x.data_ptr()) for x in (a, b, d)), np.int32(depth)))
        cupy.cuda.Device().synchronize()
        assert rows_that_differ(d.cpu()) == 0
        assert (d[0].cpu().double() - row.double() @ b.cpu().double()).abs().max() < 1e-2 * (scale**2).sum()


def test_the_program_of_the_row_test_compiles(nvrtc):
    for architecture in ("sm_80", "sm_90"):
        assert compile.compile_program(MMA_ROWS, "mma_rows", architecture, nvrtc).cubin


def test_the_comparison_of_rows_sees_one_bit():
    product = torch.ones(16, 8)
    assert rows_that_differ(product) == 0
    product[5, 3] = torch.nextafter(product[5, 3], torch.tensor(2.0))
    assert rows_that_differ(product) == 1
