"""The fourier backend: transforms of groups, the formula of the layer to derived bounds, its derivatives."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from equiharness.kernels import GroupConv, LiftingConv
from equiharness.kernels.cuda.grid_fourier import CUBE
from equiharness.kernels.grid import aligned
from equiharness.kernels.grid.aligned import Transform
from equiharness.kernels.grid.fourier import TABLES, fourier_blocks
from equiharness.kernels.grid.groups import GridGroup, grid_group
from equiharness.kernels.grid.irreps import group_transform

#: Every cyclic subgroup of O_h, and T and T_h, whose representation of dimension 2 is of complex type.
BLOCKS = {
    "C1": {(1, 1): 1}, "C2": {(1, 1): 2}, "C4": {(1, 1): 2, (1, 2): 1}, "D4": {(1, 1): 4, (2, 2): 1},
    "O": {(1, 1): 2, (2, 2): 1, (3, 3): 2}, "Oh": {(1, 1): 4, (2, 2): 2, (3, 3): 4},
    "T": {(1, 1): 1, (1, 2): 1, (3, 3): 1}, "Th": {(1, 1): 2, (1, 2): 2, (3, 3): 2},
}  # fmt: skip
PRODUCTS = {"C1": 1, "C2": 2, "C4": 6, "D4": 12, "O": 64, "Oh": 128, "T": 32, "Th": 64}


def group_of(name):
    if name not in ("T", "Th"):
        return grid_group(name)
    even = [m for m in grid_group("Oh").elements if round(np.linalg.det(np.abs(m))) == 1]  # cyclic permutations
    return GridGroup([m for m in even if name == "Th" or round(np.linalg.det(m)) == 1], name)


def cyclic_subgroups():
    group = grid_group("Oh")
    for m in group.elements:
        powers, power = [], np.eye(3, dtype=int)
        while not powers or (power != np.eye(3)).any():
            powers.append(power)
            power = power @ m
        yield GridGroup(powers)


@pytest.mark.parametrize("name", BLOCKS)
def test_the_blocks_are_those_of_the_character_table(name):
    transform = group_transform(group_of(name))
    counts = {}
    for block in transform.blocks:
        counts[block.copies, block.size] = counts.get((block.copies, block.size), 0) + 1
    assert counts == BLOCKS[name]
    assert transform.products == PRODUCTS[name]


def broken(transform, mul):
    """How far the transform is from orthogonal, and every F(g) -> F(g u) from its blocks."""
    order = len(mul)
    worst = np.abs(transform.basis @ transform.basis.T - np.eye(order)).max()
    for u in range(order):
        moved = transform.basis @ transform.basis[:, mul[:, u]].T  # <e_a, e_b(. u)>
        blocks = [block.right[u] for block in transform.blocks for _ in range(block.copies)]
        wanted = np.zeros((order, order))
        at = 0
        for block in blocks:
            wanted[at : at + len(block), at : at + len(block)] = block
            at += len(block)
        worst = max(worst, np.abs(moved - wanted).max())
    return worst


# Orthogonalisation and products of |G| = 48 terms in float64: a few hundred roundings of numbers below one.
ROUNDING = 1e-13


@pytest.mark.parametrize("name", BLOCKS)
def test_right_translations_are_block_diagonal_and_the_basis_is_orthogonal(name):
    group = group_of(name)
    assert broken(group_transform(group), group.mul) < ROUNDING


def test_the_kernels_blocks_are_those_of_the_cube():
    assert fourier_blocks(grid_group("O")) == CUBE
    assert fourier_blocks(grid_group("Oh")) == CUBE + CUBE


def test_every_cyclic_group_of_the_cube_has_a_transform():
    for group in cyclic_subgroups():
        assert broken(group_transform(group), group.mul) < ROUNDING


def test_the_check_of_a_transform_sees_a_wrong_sign():
    group = grid_group("O")
    transform = group_transform(group)
    block = transform.blocks[3]
    wrong = block.right.copy()
    wrong[5] *= -1
    blocks = (*transform.blocks[:3], dataclasses.replace(block, right=wrong), transform.blocks[4])
    assert broken(dataclasses.replace(transform, blocks=blocks), group.mul) > 1e-3


def results(layer, x, cotangent):
    x = x.detach().requires_grad_()
    y = layer(x)
    return (y.detach(), *torch.autograd.grad(y, [x, layer.weight], cotangent))


def magnitudes(layer, x, cotangent, monkeypatch):
    """The sums of absolute values of everything that the backend multiplies and adds."""
    real = Transform.of

    def absolute(*arguments):
        transform = real(*arguments)
        return Transform(transform.basis.abs(), tuple(r.abs() for r in transform.right), transform.blocks)

    with monkeypatch.context() as patch, torch.no_grad():
        patch.setattr(Transform, "of", absolute)
        layer = copy.deepcopy(layer).double()
        layer.weight.abs_()
        with torch.enable_grad():
            return results(layer, x.double().abs(), cotangent.double().abs())


def roundings(layer, y):
    """How many roundings an entry of output and gradients passes through, one after the other.

    Group transforms of both sides and blocks from |G| terms, four tables that are rounded, and the products: over
    channels, three rows of a block at most and taps, or over copies and outputs.
    """
    fixed, taps, outputs = 3 * layer.order + 4, layer.kernel_size**layer.dim, y[:, 0, 0].numel()
    return [fixed + 3 * n for n in (layer.in_channels * taps, layer.out_channels * taps, outputs)]


# Group, box, k, stride, padding, mode: odd and even kernels, boxes that are no cubes, every geometry of the layers.
CASES = {
    "C4": ("C4", (5, 4), 3, 1, 1, "zeros"),
    "D4, strided": ("D4", (5, 7), 3, 2, 1, "zeros"),
    "D4, strided by more than the kernel": ("D4", (7, 4), 1, 3, 0, "zeros"),
    "C4, circular and strided": ("C4", (5, 7), 3, 2, 1, "circular"),
    "C2, more windows than voxels": ("C2", (3, 4), 2, 1, 2, "circular"),
    "O": ("O", (2, 3, 4), 2, 1, 1, "circular"),
    "Oh": ("Oh", (2, 2, 3), 2, 1, 0, "zeros"),
    "T": ("T", (2, 3, 2), 2, 1, 0, "zeros"),
}


def layer_of(case, dtype, backend="fourier"):
    name, _, k, stride, padding, mode = case
    torch.manual_seed(0)
    options = {"stride": stride, "padding": padding, "padding_mode": mode, "bias": False, "allow_misaligned": True}
    return GroupConv(group_of(name), 2, 3, k, **options, backend=backend, dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", CASES)
def test_output_and_gradients_are_those_of_the_formula_to_rounding(name, dtype, monkeypatch):
    layer = layer_of(CASES[name], dtype)
    formula = layer_of(CASES[name], torch.float64, "reference")
    formula.load_state_dict(layer.state_dict())
    x = torch.randn(2, 2, layer.order, *CASES[name][1], dtype=dtype)
    cotangent = torch.randn_like(layer(x))
    exact = results(formula, x.double(), cotangent.double())
    u = {torch.float64: 2.0**-53, torch.float32: 2.0**-24}[dtype]
    sizes = magnitudes(layer, x, cotangent, monkeypatch)
    for got, want, size, n in zip(results(layer, x, cotangent), exact, sizes, roundings(layer, exact[0]), strict=True):
        # The formula itself, in float64, sums no more terms than that.
        bound = (n * u / (1 - n * u) + n * 2.0**-53) * size
        assert ((got.double() - want).abs() <= bound).all()


def test_the_bound_is_not_empty(monkeypatch):
    """A filter whose irreducible parts are exchanged misses it."""
    case = CASES["O"]
    layer = layer_of(case, torch.float32)
    x = torch.randn(1, 2, 24, *case[1])
    y = layer(x)
    sizes = magnitudes(layer, x, torch.ones_like(y), monkeypatch)
    layer.fourier_right.copy_(layer.fourier_right[[1, 0, *range(2, 24)]])
    n = roundings(layer, y)[0]
    assert ((layer(x) - y).abs() > 2 * n * 2.0**-24 * sizes[0]).any()


def test_it_is_equivariant_to_rounding_and_not_to_the_bit(grid):
    layer = layer_of(CASES["C4"], torch.float64)
    x, matrices = torch.randn(2, 2, 4, 5, 4, dtype=torch.float64), grid.MATRICES["C4"]
    y = layer(x)
    for m in matrices:
        moved = layer(grid.act(x, m, "regular", matrices))
        # Sums of 2 * 4 * 9 products of numbers of order one.
        torch.testing.assert_close(moved, grid.act(y, m, "regular", matrices), rtol=0, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_single(dtype):
    layer = layer_of(CASES["C4"], torch.float32)
    x = torch.randn(1, 2, 4, 5, 4).to(dtype)
    half = copy.deepcopy(layer).to(dtype)
    with torch.no_grad():
        layer.weight.copy_(half.weight)
    want, got = layer(x.float()), half(x)
    assert got.dtype == dtype
    assert torch.equal(got, want.to(dtype))  # one rounding, at the end: the tables of float64 were not touched


def test_portions_of_any_size_give_the_same(monkeypatch):
    layer = layer_of(CASES["O"], torch.float64)
    x = torch.randn(3, 2, 24, 4, 3, 3, dtype=torch.float64)
    cotangent = torch.randn_like(layer(x))
    whole = results(layer, x, cotangent)
    for portion in (1, 4 * 24 * 3 * 30, 4 * 24 * 3 * 120):  # one row of voxels, two rows, two samples
        monkeypatch.setattr(aligned, "_PORTION_BYTES", portion)
        for a, b in zip(results(layer, x, cotangent), whole, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_derivatives_of_both_orders_match_finite_differences():
    layer = GroupConv("C4", 1, 1, 2, stride=1, padding=1, backend="fourier", dtype=torch.float64)
    x = torch.randn(1, 1, 4, 2, 3, dtype=torch.float64, requires_grad=True)

    def function(x, weight):
        return torch.func.functional_call(layer, {"weight": weight}, (x,))

    assert torch.autograd.gradcheck(function, (x, layer.weight))
    assert torch.autograd.gradgradcheck(function, (x, layer.weight), fast_mode=True)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_the_operators_keep_torchs_contract(fresh_compiler):
    layer = layer_of(CASES["C4"], torch.float64)
    x = torch.randn(1, 2, 4, 3, 2, dtype=torch.float64, requires_grad=True)
    y = torch.randn(1, 3, 4, 3, 2, dtype=torch.float64, requires_grad=True)
    tables = [layer.get_buffer(name) for name in TABLES]
    geometry = (list(fourier_blocks(layer.group)), [3, 2], 1, 1, 1, [0, 0], 3)
    weight = layer.weight.detach().flatten(3).requires_grad_()
    torch.library.opcheck(torch.ops.equiharness.grid_fourier.default, (x, weight, *tables, *geometry))
    torch.library.opcheck(torch.ops.equiharness.grid_fourier_weight.default, (x, y, *tables, *geometry))
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), layer(x))


def test_a_layer_exports_with_a_free_batch():
    layer = GroupConv("C4", 2, 3, 3, padding=1, backend="fourier")
    x = torch.randn(3, 2, 4, 5, 4)
    program = torch.export.export(layer, (x,), dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=64)},))
    torch.testing.assert_close(program.module()(x[:2]), layer(x[:2]))


def test_an_empty_batch_and_a_layer_from_meta_work():
    layer = GroupConv("C4", 1, 2, 3, padding=1, backend="fourier", device="meta").to_empty(device="cpu")
    other = GroupConv("C4", 1, 2, 3, padding=1)
    layer.load_state_dict(other.state_dict())
    x = torch.randn(2, 1, 4, 5, 6)
    torch.testing.assert_close(layer(x), other(x))
    assert layer(x[:0]).shape == (0, 2, 4, 5, 6)


def test_layers_without_the_backend_refuse_it_with_what_exists():
    with pytest.raises(ValueError, match="LiftingConv; there are 'auto', 'fast', 'reference', 'exact'"):
        LiftingConv("C4", 1, 1, 3, backend="fourier")
