"""wigner.cu on the CPU: analysis and synthesis from an octant of the table, against the same in float64 by torch."""

import pytest
import torch
from equiharness.kernels.cuda import wigner
from equiharness.kernels.cuda.wigner_operators import beta_step
from equiharness.kernels.spherical.layout import so3_rows
from equiharness.kernels.spherical.s2transform import s2_analyse, s2_plan, s2_synthesise
from equiharness.kernels.spherical.tables import shell_starts
from equiharness.kernels.spherical.transform import so3_analyse, so3_plan, so3_synthesise

#: b, degrees, batch, channels: aliased degrees, fewer degrees, two tiles of items, colatitudes no multiple of 8.
SIZES = [(1, 1, 1, 1), (2, 4, 1, 3), (4, 3, 2, 5), (9, 9, 1, 17)]
#: More than 32 degrees and colatitudes.
LARGE = (34, 34, 1, 1)


def step(on_sphere, b, degrees, batch, channels, dtype, draw=torch.randn):
    """A table with the real one's shape and any numbers, weights, space and a spectrum."""
    torch.manual_seed(0)
    orders, items = min(b, degrees), batch * channels
    plan = (s2_plan if on_sphere else so3_plan)(b, degrees, orders, dtype, "cpu")
    table = draw((plan.north if on_sphere else plan.flat).numel()).to(dtype)
    space = draw(*((orders, 2 * items, 2 * b) if on_sphere else (orders, orders, 4 * items, 2 * b))).to(dtype)
    spectrum = draw(batch, degrees**2 if on_sphere else so3_rows(degrees), channels).to(dtype)
    return table, draw(b).to(dtype), space, spectrum


def run(parts, degrees, analyse, quadrature, change=lambda t: t):
    table, weights, space, spectrum = (change(t) for t in parts)
    source, out = (space, torch.zeros_like(spectrum)) if analyse else (spectrum, torch.full_like(space, float("nan")))
    beta_step(table, weights, source, out, degrees, analyse, quadrature)
    return out


@pytest.mark.parametrize("on_sphere", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sizes", SIZES)
def test_both_ways_are_right_to_rounding(cases, host_executor, sizes, dtype, on_sphere):
    """|error| <= gamma(n) sum |products|: n terms, and at most 6 roundings more for the fold, the weight, the factor

    2 l + 1 and the sum of two parities. For the sum stands its largest value, terms times the largest product: every
    number is of the order of 1, so a missing term or a wrong sign is a million times the bound.
    """
    degrees = sizes[1]
    for analyse in (True, False):
        for quadrature in (True, False):
            parts = step(on_sphere, *sizes, dtype)
            exact = run(parts, degrees, analyse, quadrature, lambda t: t.double())
            with cases.running_on(host_executor("plain")):
                got = run(parts, degrees, analyse, quadrature)
            table, weights, space, spectrum = (t.double().abs() for t in parts)
            terms = 2 * max(sizes[0], degrees)
            factor = weights.max() if quadrature else 2 * degrees - 1
            largest = 2 * terms * table.max() * (space if analyse else spectrum).max() * factor
            assert ((got.double() - exact).abs() <= cases.gamma(terms + 6, dtype) * largest).all()


@pytest.mark.parametrize("on_sphere", [False, True])
@pytest.mark.parametrize("analyse", [True, False])
def test_integers_come_out_exactly(cases, host_executor, analyse, on_sphere):
    parts = step(on_sphere, 5, 5, 2, 3, torch.float32, lambda *shape: torch.randint(-3, 4, shape).float())
    exact = run(parts, 5, analyse, False, lambda t: t.double())
    for options in ({}, {"backwards": True}):
        with cases.running_on(host_executor("plain", **options)):
            assert torch.equal(run(parts, 5, analyse, False).double(), exact)


@pytest.mark.parametrize("on_sphere", [False, True])
@pytest.mark.parametrize("analyse", [True, False])
def test_the_sanitizers_find_nothing(cases, host_executor, analyse, on_sphere):
    for sizes in ((3, 5, 1, 2), (4, 3, 1, 17)):
        parts = step(on_sphere, *sizes, torch.float32)
        with cases.running_on(host_executor("plain")):
            wanted = run(parts, sizes[1], analyse, True)
        with cases.running_on(host_executor("address")):
            assert torch.equal(run(parts, sizes[1], analyse, True), wanted)


@pytest.mark.parametrize("on_sphere", [False, True])
def test_analysis_and_synthesis_are_each_others_transpose(cases, host_executor, on_sphere):
    """<A f, X> = <f, A^T X>, in integers, so without an error: the backward pass is the adjoint."""
    parts = step(on_sphere, 3, 4, 2, 2, torch.float64, lambda *shape: torch.randint(-9, 10, shape).double())
    with cases.running_on(host_executor("plain")):
        for quadrature in (True, False):
            spectrum, space = (run(parts, 4, analyse, quadrature) for analyse in (True, False))
            assert (spectrum * parts[3]).sum() == (space * parts[2]).sum()


@pytest.mark.parametrize(
    ("analyse", "synthesise", "axes"), [(so3_analyse, so3_synthesise, 3), (s2_analyse, s2_synthesise, 2)]
)
@pytest.mark.parametrize("sizes", [(3, 5, 1, 2), (4, 2, 2, 3), pytest.param(LARGE, marks=pytest.mark.deep)])
def test_transforms_on_the_kernels_are_those_of_torch(cases, host_executor, analyse, synthesise, axes, sizes):
    b, degrees, batch, channels = sizes
    x = torch.randn(batch, channels, *(2 * b,) * axes, dtype=torch.float64)
    spectrum = analyse(x, degrees)
    signal = synthesise(spectrum, b)
    with cases.running_on(host_executor("plain")):
        # 1e-13: the bound of the transforms' own tests, on numbers near 1.
        assert torch.allclose(analyse(x, degrees), spectrum, rtol=0, atol=1e-13 * float(spectrum.abs().max()))
        assert torch.allclose(synthesise(spectrum, b), signal, rtol=0, atol=1e-13 * float(signal.abs().max()))
        strided = spectrum.transpose(1, 2).contiguous().transpose(1, 2)
        assert torch.equal(synthesise(strided, b), synthesise(spectrum, b))


@pytest.mark.parametrize(
    ("function", "axes"), [(so3_analyse, 3), (s2_analyse, 2), (so3_synthesise, 0), (s2_synthesise, 0)]
)
def test_derivatives_of_both_orders_match_finite_differences(cases, host_executor, function, axes):
    rows = so3_rows(2) if function is so3_synthesise else 4
    shape = (1, 2, *(4,) * axes) if axes else (1, rows, 2)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    with cases.running_on(host_executor("plain")):
        assert torch.autograd.gradcheck(lambda x: function(x, 2), (x,), fast_mode=True)
        assert torch.autograd.gradgradcheck(lambda x: function(x, 2), (x,), fast_mode=True)


@pytest.mark.parametrize("where", ["host", "torch"])
@pytest.mark.parametrize("on_sphere", [False, True])
@pytest.mark.parametrize("analyse", [True, False])
def test_the_beta_step_keeps_torchs_contract(cases, host_executor, where, on_sphere, analyse):
    table, weights, space, spectrum = step(on_sphere, 2, 2, 1, 2, torch.float32)
    source, out = (space, spectrum) if analyse else (spectrum, space)
    with cases.running_on(host_executor("plain") if where == "host" else None):
        torch.library.opcheck(
            torch.ops.equiharness.beta_step.default, (table, weights, source, out, 2, analyse, True)
        )  # fmt: skip


def test_the_kernel_reads_an_eighth_of_the_table():
    """Of d^l_mn: b colatitudes instead of 2b, and of the (2l+1)^2 pairs those with m >= n >= 0, twice (P+ and P-)."""
    b = 64
    stored, whole = shell_starts(b, b)[-1] * b, so3_rows(b) * 2 * b
    assert 7.5 < whole / stored < 8  # 8 in the limit
    plan = so3_plan(4, 4, 4, torch.float32, "cpu")
    assert plan.flat.numel() == shell_starts(4, 4)[-1] * 4


def test_channels_that_are_not_innermost_are_refused(recorder):
    table, weights, space, spectrum = step(False, 2, 2, 1, 2, torch.float32)
    wrong = spectrum.transpose(1, 2).contiguous().transpose(1, 2)
    with pytest.raises(ValueError, match="innermost"):
        wigner.beta_step(recorder, table, weights, space, wrong, 2, analyse=True, quadrature=True)
    assert not recorder.launches


def test_an_empty_batch_launches_nothing(recorder):
    table, weights, space, spectrum = step(False, 2, 2, 1, 2, torch.float32)
    wigner.beta_step(
        recorder, table, weights, space[:, :, :0], spectrum[:0], 2, analyse=True, quadrature=True
    )  # fmt: skip
    assert not recorder.launches
