"""Every convolution is its definition: integers in, tolerance zero, forward and every gradient, in float32.

The definition is written here with plain loops over group elements matched by matrix, and shares nothing with the
kernels. A layer is a list of terms per tap t: y[a](X) += sign * w[c, moved tap] * x[b](X + t), for the output fibre
index a, the input fibre index b and the filter fibre index c (or lists of b and c of equal length).
"""

from itertools import product

import numpy as np
import pytest
import torch
from equiharness.kernels import GroupConv, LiftingConv, SeparableGroupConv, VectorLift, VectorProjection


def moved(m, t, k):
    """Index of the tap m t about the centre (k-1)/2."""
    return tuple(int(c + k - 1) // 2 for c in m @ (2 * np.array(t) - (k - 1)))


def lifting_terms(grid, E, t, k):
    for g, m in enumerate(E):
        yield g, 0, 0, moved(m.T, t, k), 1


def regular_terms(grid, E, t, k):
    for g, m in enumerate(E):
        yield g, list(range(len(E))), grid.left_quotients(E, g), moved(m.T, t, k), 1


def vector_lift_terms(grid, E, t, k):
    for g, m in enumerate(E):
        for a, b in np.argwhere(m.T):  # (M_g^-1 v)_a = sum_b (M_g^-1)_ab v_b
            yield g, b, a, moved(m.T, t, k), m.T[a, b]


def vector_projection_terms(grid, E, t, k):
    for h, m in enumerate(E):
        for a, b in np.argwhere(m):  # (M_h w)_a = sum_b (M_h)_ab w_b
            yield a, h, b, moved(m.T, t, k), m[a, b]


# Layer, its terms, fibres of input, output and filter ("G": the group, "d": a vector, "": none).
LAYERS = {
    "lifting": (LiftingConv, lifting_terms, "", "G", ""),
    "regular": (GroupConv, regular_terms, "G", "G", "G"),
    "vector lift": (VectorLift, vector_lift_terms, "d", "G", "d"),
    "vector projection": (VectorProjection, vector_projection_terms, "G", "d", "d"),
}


def window(size, t, k, stride, padding, mode):
    """Input index s X - p + t per output X along one axis, and whether it lies in the box."""
    index = stride * np.arange((size + 2 * padding - k) // stride + 1) - padding + t
    inside = (index >= 0) & (index < size)
    return (index % size, inside | True) if mode == "circular" else (index.clip(0, size - 1), inside)


def brute(grid, terms, E, x, w, cotangent, stride, padding, mode):
    """y, and the gradients of sum(cotangent * y) by x and w. x [B, i, b, *N], w [o, i, c, *k], y [B, o, a, *n]."""
    d, k = len(E[0]), w.shape[-1]
    y, dx, dw = np.zeros_like(cotangent), np.zeros_like(x), np.zeros_like(w)
    for t in product(range(k), repeat=d):
        axes = [window(n, j, k, stride, padding, mode) for n, j in zip(x.shape[3:], t, strict=True)]
        at = (..., *np.ix_(*(index for index, _ in axes)))
        inside = np.ones(())
        for _, along in axes:
            inside = np.multiply.outer(inside, along)
        dense = np.zeros((*w.shape[:2], y.shape[2], x.shape[2]))
        for a, b, c, tap, sign in terms(grid, E, t, k):
            dense[:, :, a, b] += sign * w[(..., c, *tap)]
        seen = x[at] * inside
        y += np.einsum("oiab,zib...->zoa...", dense, seen, optimize=True)
        np.add.at(dx, at, np.einsum("oiab,zoa...->zib...", dense, cotangent, optimize=True) * inside)
        grad = np.einsum("zoa...,zib...->oiab", cotangent, seen, optimize=True)
        for a, b, c, tap, sign in terms(grid, E, t, k):
            dw[(..., c, *tap)] += sign * grad[:, :, a, b]
    return y, dx, dw


# (group, box, k, stride, padding): non-cubic boxes, odd and even kernels, all aligned: (N + 2p - k) mod s = 0.
GEOMETRIES = [
    ("C1", (4, 5), 3, 1, 1),
    ("C2", (5, 3), 3, 2, 1),
    ("C2", (4, 7), 2, 1, 0),
    ("C4", (5, 7), 3, 1, 1),
    ("C4", (7, 5), 3, 2, 0),
    ("C4", (6, 4), 2, 2, 1),
    ("C4", (6, 9), 5, 3, 1),
    ("D4", (4, 5), 1, 1, 0),
    ("D4", (5, 7), 3, 2, 1),
    ("D4", (6, 4), 4, 2, 1),
    ("transposition", (5, 4), 2, 1, 1),
    ("C4 about axis 0", (3, 4, 5), 3, 1, 1),
    ("C4 about axis 0", (4, 2, 6), 2, 2, 0),
    ("O", (3, 4, 2), 3, 1, 1),
    ("O", (3, 5, 3), 3, 2, 1),
    ("O", (2, 3, 4), 2, 1, 1),
    ("Oh", (2, 3, 4), 3, 1, 1),
    ("Oh", (4, 2, 4), 2, 2, 1),
]


def cases(kinds):
    """Every layer in every geometry; in space circular padding and the larger of two geometries belong to deep runs.

    Circular padding changes which voxels are read, not which taps and elements meet: the planes show it.
    """
    larger = {("O", (3, 5, 3)), ("Oh", (2, 3, 4))}
    for kind, geometry, mode in product(kinds, GEOMETRIES, ("zeros", "circular")):
        name, box = geometry[:2]
        slow = name in ("O", "Oh") and (mode == "circular" or (name, box) in larger)
        text = f"{kind}-{name}-{'x'.join(map(str, box))}-{mode}"
        yield pytest.param(kind, *geometry, mode, id=text, marks=[pytest.mark.deep] if slow else [])


@pytest.mark.parametrize(("kind", "name", "box", "k", "stride", "padding", "mode"), list(cases(LAYERS)))
def test_layer_is_its_definition_on_integers(grid, kind, name, box, k, stride, padding, mode):
    Layer, terms, fibre_in, fibre_out, fibre_w = LAYERS[kind]
    E = grid.MATRICES[name]
    d, size = len(E[0]), {"": 1, "G": len(E), "d": len(E[0])}
    options = {"stride": stride, "padding": padding, "padding_mode": mode}
    layer = Layer(grid.as_argument(name), 2, 3, k, **options)
    x = grid.integers(0, 2, 2, size[fibre_in], *box)
    w = grid.integers(1, 3, 2, size[fibre_w], *(k,) * d)
    n = [(side + 2 * padding - k) // stride + 1 for side in box]
    cotangent = grid.integers(2, 2, 3, size[fibre_out], *n)
    bias = grid.integers(3, 3)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(w.reshape(layer.weight.shape)))
        if layer.bias is not None:
            layer.bias.copy_(torch.from_numpy(bias))
    expected, dx, dw = brute(grid, terms, E, x, w, cotangent, stride, padding, mode)
    if layer.bias is not None:
        expected += bias[:, None].reshape(3, 1, *(1,) * d)
    for backend in ("fast", "reference"):
        layer.backend = backend
        layer.zero_grad()
        tx = torch.from_numpy(x.astype(np.float32)).requires_grad_()
        y = layer(tx.flatten(1, 2) if fibre_in == "" else tx)
        y.backward(torch.from_numpy(cotangent.astype(np.float32)))
        np.testing.assert_array_equal(y.detach().numpy(), expected)
        np.testing.assert_array_equal(tx.grad.numpy(), dx)
        np.testing.assert_array_equal(layer.weight.grad.numpy().reshape(dw.shape), dw)
        if layer.bias is not None:
            np.testing.assert_array_equal(layer.bias.grad.numpy(), cotangent.sum(axis=(0, *range(2, 3 + d))))


def separable_filter(grid, variant, E, a, s):
    """w[o, i, u, t] of the regular convolution that a separable one is; gradients of a and s given that of w."""
    d, k = len(E[0]), s.shape[-1]
    ones = (1,) * d
    if variant == "depthwise_first":  # w_oi(t, u) = a_oi(u) s_i(u^-1 t)
        spread = np.stack([s[(..., *grid.preimages(m, k))] for m in E], 1)[None]
    else:  # w_oi(t, u) = a_oi(u) s_o(t) or a_oi(u) s_oi(t)
        spread = (s[:, None] if variant == "pointwise_first" else s)[:, :, None]
    w = a.reshape(*a.shape, *ones) * spread

    def gradients(dw):
        da = (dw * spread).sum(axis=tuple(range(3, 3 + d)))
        ds = dw * a.reshape(*a.shape, *ones)
        if variant == "pointwise_first":
            return da, ds.sum(axis=(1, 2))
        if variant == "per_pair":
            return da, ds.sum(axis=2)
        # Tap u^-1 t of s collects what w has at t: the tap t' of s, what w has at u t'.
        return da, sum(ds.sum(axis=0)[(slice(None), u, *grid.preimages(m.T, k))] for u, m in enumerate(E))

    return w, gradients


@pytest.mark.parametrize(
    ("variant", "name", "box", "k", "stride", "padding", "mode"),
    list(cases(["pointwise_first", "depthwise_first", "per_pair"])),
)
def test_separable_is_its_factorised_definition_on_integers(grid, variant, name, box, k, stride, padding, mode):
    E = grid.MATRICES[name]
    d = len(E[0])
    options = {"variant": variant, "stride": stride, "padding": padding, "padding_mode": mode}
    layer = SeparableGroupConv(grid.as_argument(name), 2, 3, k, **options)
    a, s = grid.integers(0, *layer.group_weight.shape), grid.integers(1, *layer.spatial_weight.shape)
    x = grid.integers(2, 2, 2, len(E), *box)
    cotangent = grid.integers(3, 2, 3, len(E), *[(side + 2 * padding - k) // stride + 1 for side in box])
    w, gradients = separable_filter(grid, variant, E, a, s)
    expected, dx, dw = brute(grid, regular_terms, E, x, w, cotangent, stride, padding, mode)
    with torch.no_grad():
        layer.group_weight.copy_(torch.from_numpy(a))
        layer.spatial_weight.copy_(torch.from_numpy(s))
        layer.bias.copy_(torch.tensor([1.0, -2.0, 3.0]))
    expected += np.reshape([1.0, -2.0, 3.0], (3, 1, *(1,) * d))
    np.testing.assert_array_equal(layer.factorised_weight().detach().numpy(), w)
    for backend in ("fast", "reference"):
        layer.backend = backend
        layer.zero_grad()
        tx = torch.from_numpy(x.astype(np.float32)).requires_grad_()
        y = layer(tx)
        y.backward(torch.from_numpy(cotangent.astype(np.float32)))
        np.testing.assert_array_equal(y.detach().numpy(), expected)
        np.testing.assert_array_equal(tx.grad.numpy(), dx)
        for parameter, gradient in zip((layer.group_weight, layer.spatial_weight), gradients(dw), strict=True):
            np.testing.assert_array_equal(parameter.grad.numpy(), gradient)


def test_the_definition_notices_filters_that_turn_the_wrong_way(grid):
    E = grid.MATRICES["C4"]
    layer = GroupConv("C4", 1, 1, 3, bias=False)
    x, w = grid.integers(0, 1, 1, 4, 5, 7), grid.integers(1, *layer.weight.shape)
    expected, *_ = brute(grid, regular_terms, E, x, w, np.zeros((1, 1, 4, 3, 5)), 1, 0, "zeros")
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(w))
        assert np.array_equal(layer(torch.from_numpy(x).float()).numpy(), expected)
        layer.table.copy_(layer.table[layer.inverse])
        assert not np.array_equal(layer(torch.from_numpy(x).float()).numpy(), expected)
