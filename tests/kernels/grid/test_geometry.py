"""A geometry is refused exactly when it breaks the symmetry, and the error names a fix that works."""

import re

import numpy as np
import pytest
import torch
from equiharness.kernels import GroupConv, LiftingConv, SeparableGroupConv, VectorLift, VectorProjection
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

MIRROR_0 = np.array([np.eye(2), np.diag([-1, 1])])
ALL = (LiftingConv, GroupConv, SeparableGroupConv, VectorLift, VectorProjection)


def shape_for(Layer, order, dim, box):
    fibre = {LiftingConv: (), VectorLift: (dim,)}.get(Layer, (order,))
    return (1, 1, *fibre, *box)


@settings(max_examples=150, deadline=None)
@given(
    n=st.integers(1, 7),
    k=st.integers(1, 5),
    stride=st.integers(1, 9),
    padding=st.integers(0, 4),
    mode=st.sampled_from(["zeros", "circular"]),
)
@example(n=3, k=1, stride=5, padding=3, mode="circular")  # aligned only because the box wraps: rest = 3 = N
def test_refused_if_and_only_if_the_mirror_image_disagrees(n, k, stride, padding, mode):
    assume(n + 2 * padding >= k)
    assume(mode == "zeros" or padding <= n)  # torch wraps at most once
    layer = LiftingConv(MIRROR_0, 1, 1, k, stride=stride, padding=padding, padding_mode=mode, dtype=torch.float64)
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 1, n, 5)))
    free = LiftingConv(MIRROR_0, 1, 1, k, stride=stride, padding=padding, padding_mode=mode, allow_misaligned=True)
    free.double().load_state_dict(layer.state_dict())
    moved = free(x.flip(2))
    holds = torch.allclose(moved, free(x).flip(2, 3), rtol=0, atol=1e-12)  # mirror of space, exchange of two elements
    try:
        layer(x)
    except ValueError:
        # A box that the filters see only as zeros or as a constant is symmetric by accident.
        accident = (padding >= n and mode == "zeros") or n == 1 or not moved.any()
        assert not holds or accident
    else:
        assert holds


@pytest.mark.parametrize("Layer", ALL)
@pytest.mark.parametrize(("group", "box"), [("C4", (6, 5)), ("Oh", (3, 3, 4))])
def test_every_strided_convolution_refuses_an_off_centre_grid(Layer, group, box):
    options = {"stride": 2, "padding": 1}
    layer = Layer(group, 1, 1, 3, **options)
    x = torch.ones(shape_for(Layer, layer.order, layer.dim, box))
    with pytest.raises(ValueError, match=r"axis \d of length \d breaks the symmetry.*allow_misaligned=True"):
        layer(x)
    Layer(group, 1, 1, 3, allow_misaligned=True, **options)(x)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own tracer
def test_a_compiled_layer_refuses_too(fresh_compiler):
    layer = torch.compile(LiftingConv("C4", 1, 1, 3, stride=2), backend="eager")
    layer(torch.ones(1, 1, 5, 5))
    with pytest.raises(ValueError, match="breaks the symmetry"):
        layer(torch.ones(1, 1, 6, 6))


@settings(max_examples=60, deadline=None)
@given(n=st.integers(4, 12), k=st.integers(1, 5), stride=st.integers(2, 4), padding=st.integers(0, 2))
def test_each_fix_that_the_error_names_is_accepted(n, k, stride, padding):
    def run(n, k, padding):
        LiftingConv("C2", 1, 1, k, stride=stride, padding=padding)(torch.ones(1, 1, n, n))

    assume(n + 2 * padding >= k and (n + 2 * padding - k) % stride)
    with pytest.raises(ValueError, match="breaks the symmetry") as refusal:
        run(n, k, padding)
    lengths = re.search(r"box of length (\d+)(?: or (\d+))?,", str(refusal.value))
    assert lengths is not None
    for length in filter(None, lengths.groups()):
        run(int(length), k, padding)
    for p in re.findall(r"padding=(\d+)", str(refusal.value)):
        run(n, k, int(p))
    for size in re.findall(r"kernel_size=(\d+)", str(refusal.value)):
        run(n, int(size), padding)


def test_axes_that_no_element_reverses_need_no_alignment(grid):
    exchange = grid.MATRICES["transposition"]
    layer = GroupConv(exchange, 1, 1, 3, stride=2, dtype=torch.float64)
    x = torch.randn(1, 1, 2, 6, 5, dtype=torch.float64)
    moved = layer(grid.act(x, exchange[1], "regular", exchange))
    torch.testing.assert_close(moved, grid.act(layer(x), exchange[1], "regular", exchange), rtol=0, atol=1e-14)
    with pytest.raises(ValueError, match="axis 0 of length 6"):
        GroupConv(MIRROR_0, 1, 1, 3, stride=2)(torch.ones(1, 1, 2, 6, 6))
    GroupConv(MIRROR_0, 1, 1, 3, stride=2)(torch.ones(1, 1, 2, 5, 6))


@pytest.mark.parametrize("Layer", ALL)
@pytest.mark.parametrize("shape", [(1, 1, 5), (1, 2, 4, 5, 5), (1, 1, 3, 5, 5), (1, 1, 4, 5, 5, 5)])
def test_a_wrong_shape_is_refused_with_the_shape_that_is_wanted(Layer, shape):
    with pytest.raises(ValueError, match=rf"{Layer.__name__} takes an input of shape \[B, 1, .*a0, a1\]; got"):
        Layer("C4", 1, 1, 3)(torch.ones(shape))


@pytest.mark.parametrize("Layer", ALL)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "quick"}, "there are 'auto', 'fast', 'reference'"),
        ({"padding_mode": "reflect"}, "'zeros' or 'circular'"),
        ({"kernel_size": (3, 3)}, "kernel_size must be one integer >= 1, the same on all axes"),
        ({"stride": 0}, "stride must be one integer >= 1"),
        ({"padding": "same"}, "padding must be one integer >= 0"),
        ({"in_channels": 0}, "in_channels must be one integer >= 1"),
    ],
)
def test_a_wrong_argument_is_refused_with_what_exists(Layer, options, message):
    with pytest.raises(ValueError, match=message):
        Layer("C4", **{"in_channels": 1, "out_channels": 1, "kernel_size": 3, **options})


def test_a_box_smaller_than_the_kernel_is_refused_with_the_padding_that_it_needs():
    with pytest.raises(ValueError, match="use padding=1 or a smaller kernel"):
        LiftingConv("C4", 1, 1, 5)(torch.ones(1, 1, 4, 6))


def test_a_vector_projection_refuses_a_bias_and_says_why():
    with pytest.raises(ValueError, match="a constant vector is not equivariant"):
        VectorProjection("C4", 1, 1, 3, bias=True)


def test_an_unknown_variant_is_refused_with_what_exists():
    with pytest.raises(ValueError, match="'pointwise_first', 'depthwise_first', 'per_pair'"):
        SeparableGroupConv("C4", 1, 1, 3, variant="spatial")
