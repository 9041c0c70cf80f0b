"""How elements move tensors, against definitions written with plain loops."""

import itertools

import numpy as np
import pytest
import torch
from equiharness.harness.errors import UsageError
from equiharness.harness.fields.domains import Grid, Points, Vector
from equiharness.harness.fields.field import Field, Invariant
from equiharness.harness.symmetry.groups import group
from equiharness.harness.symmetry.interpolation import interpolate_grid

BOXES = {"C4": [(4, 4), (5, 3), (1, 6)], "D4": [(3, 5)], "O": [(2, 3, 4), (3, 3, 3)], "Oh": [(2, 1, 3)]}


def moved_by_loops(matrix, x):
    """f(g^-1 X): the value at centred X goes to g X. One pixel after the other."""
    d = len(matrix)
    box = x.shape[-d:]
    m = np.round(matrix).astype(int)
    new_box = tuple(int(n) for n in np.abs(m) @ np.array(box))
    out = np.full((*x.shape[:-d], *new_box), np.nan)
    for pixel in itertools.product(*map(range, box)):
        centred = 2 * np.array(pixel) - (np.array(box) - 1)
        place = (m @ centred + np.array(new_box) - 1) // 2
        out[(..., *place)] = x[(..., *pixel)]
    return out


def acted_by_loops(g, of, fibre, x):
    """(g f)(X) = rho(g) f(g^-1 X) for trivial, regular and standard fibres of one copy after another."""
    y = moved_by_loops(g.matrix, x)
    out = np.empty_like(y)
    n = {"trivial": 1, "regular": len(of), "standard": of.dim}[fibre]
    for start in range(0, y.shape[1], n):
        if fibre == "trivial":
            out[:, start] = y[:, start]
        elif fibre == "regular":
            for h in range(len(of)):  # the component h goes to g h
                target = next(i for i, k in enumerate(of) if np.allclose(k.matrix, g.matrix @ of.element(h).matrix))
                out[:, start + target] = y[:, start + h]
        else:
            for i in range(n):
                out[:, start + i] = sum(g.matrix[i, j] * y[:, start + j] for j in range(n))
    return out


@pytest.mark.parametrize("fibre", ["trivial", "regular", "standard"])
@pytest.mark.parametrize(("name", "box"), [(n, b) for n, boxes in BOXES.items() for b in boxes])
def test_act_is_its_definition(name, box, fibre):
    of = group(name)
    field = Field(Grid(*box), of, f"2*{fibre}")
    x = torch.randn(2, field.fibre.size, *box, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for g in list(of)[:: max(1, len(of) // 8)]:
        assert np.array_equal(field.act(g, x).numpy(), acted_by_loops(g, of, fibre, x.numpy())), g


def test_one_quarter_turn_is_rot90():
    x = torch.arange(15.0).reshape(1, 1, 3, 5)
    field = Field(Grid(3, 5), "C4", "trivial")
    assert torch.equal(field.act(1, x), torch.rot90(x, 1, (-2, -1)))


def test_several_channel_axes_count_as_one():
    field = Field(Grid(3, 3), "C4", "2*regular")
    x = torch.randn(2, 2, 4, 3, 3)
    assert torch.equal(field.act(3, x).flatten(1, 2), field.act(3, x.flatten(1, 2)))
    assert field.act(3, x).shape == x.shape


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.bool]
)
def test_grid_symmetries_keep_dtype_and_values(dtype):
    field = Field(Grid(3, 3), "D4", "regular")
    x = (torch.arange(72).reshape(1, 8, 3, 3) % 2).to(dtype)
    y = field.act(5, x)
    assert y.dtype is dtype
    assert y.sum() == x.sum()


def test_act_composes():
    field = Field(Grid(4, 6), "D4", "trivial + regular + standard")
    x = torch.randn(1, 11, 4, 6, dtype=torch.float64)
    for g in field.group:
        for h in field.group:
            assert torch.equal(field.act(g, field.act(h, x)), field.act(field.group.compose(g, h), x))


def test_exact_is_said_of_grid_symmetries_alone():
    assert [Field(Grid(5, 5), "C8").exact(g) for g in group("C8")] == [True, False] * 4
    assert all(Field(Vector(), "C8", "regular").exact(g) for g in group("C8"))


def bump(n):
    axis = torch.linspace(-1, 1, n, dtype=torch.float64)
    row, column = torch.meshgrid(axis, axis, indexing="ij")
    return row, column, lambda r, c: torch.exp(-((r - 0.2) ** 2 + 2 * (c + 0.1) ** 2) / 0.08)


def interpolation_error(n, angle):
    row, column, f = bump(n)
    c, s = np.cos(angle), np.sin(angle)
    moved = interpolate_grid(np.array([[c, -s], [s, c]]), f(row, column)[None, None])[0, 0]
    exact = f(c * row + s * column, -s * row + c * column)  # f(g^-1 X)
    inside = row**2 + column**2 < 0.8
    return float((moved - exact)[inside].abs().max())


@pytest.mark.parametrize("angle", [np.pi / 4, 0.3, -2.0])
def test_interpolation_is_of_sixth_order(angle):
    errors = [interpolation_error(n, angle) for n in (33, 65, 129)]
    orders = [np.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert min(orders) > 5, errors


def test_interpolation_turns_the_way_grid_symmetries_do():
    field = Field(Grid(33, 33), "C8", "trivial")
    row, column, f = bump(33)
    x = f(row, column)[None, None]
    twice = field.act(1, field.act(1, x))
    assert (twice - field.act(2, x)).abs().max() < 1e-2
    assert (twice - field.act(6, x)).abs().max() > 0.5


def test_interpolation_agrees_with_the_permutation_on_grid_symmetries():
    x = torch.randn(1, 1, 7, 7, dtype=torch.float64)
    for g in group("D4"):
        assert torch.allclose(interpolate_grid(g.matrix, x), Field(Grid(7, 7), "D4").act(g, x), atol=1e-12)


def test_interpolation_is_linear_and_keeps_polynomials_of_degree_five():
    axis = torch.arange(9, dtype=torch.float64) - 4
    row, column = torch.meshgrid(axis, axis, indexing="ij")
    c = np.cos(0.4)
    s = np.sin(0.4)
    moved = interpolate_grid(np.array([[c, -s], [s, c]]), (row**3 * column**2)[None])[0]
    exact = (c * row + s * column) ** 3 * (-s * row + c * column) ** 2
    inside = (row**2 + column**2).sqrt() < 4
    assert torch.allclose(moved[inside], exact[inside], atol=1e-9)


def test_a_grid_that_an_element_turns_out_of_itself_is_refused():
    with pytest.raises(UsageError, match="square or cubic"):
        Field(Grid(5, 7), "C8", "trivial").act(1, torch.randn(1, 1, 5, 7))


def test_points_keep_their_places_and_turn_their_values():
    field = Field(Points(4), "SO3", "trivial + standard")
    x = torch.randn(2, 4, 4, dtype=torch.float64)
    [g] = group("SO3").sample(np.random.default_rng(0), 1)
    y = field.act(g, x)
    for b, i in itertools.product(range(2), range(4)):
        assert y[b, i, 0] == x[b, i, 0]
        assert np.allclose(y[b, i, 1:], g.matrix @ x[b, i, 1:].numpy(), atol=1e-14)


def test_vectors_mix_channels_alone():
    field = Field(Vector(), "C4", "2*regular")
    y = field.act(1, torch.arange(8.0)[None])
    assert y.tolist() == [[3, 0, 1, 2, 7, 4, 5, 6]]


def test_invariant_leaves_stay():
    x = torch.randn(3, 2)
    assert Invariant().act("anything", x) is x


def test_summands_are_the_blocks_of_the_fibre():
    field = Field(Grid(2, 2), "C4", "trivial + regular")
    x = torch.randn(3, 5, 2, 2)
    rows = field.summands(x)
    assert rows.shape == (3, 2, 16)
    assert torch.equal(rows[:, 0, :4], x[:, 0].flatten(1))
    assert rows[:, 0, 4:].abs().max() == 0
    assert torch.equal(rows[:, 1], x[:, 1:].flatten(1))


@pytest.mark.parametrize("domain", [Grid(3, 3), Points(5), Vector()])
def test_summands_keep_every_value_once(domain):
    field = Field(domain, "C4", "2*trivial + regular")
    x = field.random(2, torch.Generator().manual_seed(0))
    assert torch.allclose(field.summands(x).square().sum((1, 2)), x.flatten(1).square().sum(1))


def test_the_integral_pools_space_and_group():
    field = Field(Grid(3, 5), "C4", "trivial + regular")
    x = torch.randn(2, 5, 3, 5, dtype=torch.float64)
    found = field.integral(x)
    assert torch.allclose(found, torch.stack([x[:, 0].mean((1, 2)), x[:, 1:].mean((1, 2, 3))], 1))
    for g in field.group:
        assert torch.allclose(Field(Grid(5, 5), "C4").integral(torch.ones(1, 1, 5, 5)), torch.ones(1))
        assert torch.allclose(field.integral(field.act(g, x).reshape(2, 5, 3, 5)), found, atol=1e-14)


def test_the_naive_mean_is_not_invariant():
    field = Field(Grid(3, 3), "C4", "regular")
    x = torch.randn(2, 4, 3, 3, dtype=torch.float64)
    assert not torch.allclose(field.naive_mean(field.act(1, x)), field.naive_mean(x))


def test_a_fibre_without_invariant_has_no_integral():
    field = Field(Vector(), "C4", "standard")
    assert not field.has_integral
    with pytest.raises(UsageError, match="no invariant"):
        field.integral(torch.randn(2, 2))


MISFITS = {
    "channels": (Grid(5, 5), "2*regular", (1, 7, 5, 5)),
    "space": (Grid(5, 5), "regular", (1, 4, 5, 6)),
    "no batch": (Grid(5, 5), "regular", (4, 5, 5)),
    "points": (Points(5), "standard", (1, 4, 2)),
    "point channels": (Points(5), "standard", (1, 5, 3)),
    "points without batch": (Points(5), "standard", (5, 2)),
    "vector": (Vector(), "regular", (2, 5)),
    "vector without batch": (Vector(), "regular", (4,)),
}


@pytest.mark.parametrize("case", MISFITS)
def test_a_tensor_that_does_not_fit_is_refused_with_the_expected_shape(case):
    domain, fibre, shape = MISFITS[case]
    with pytest.raises(UsageError, match=r"expected \[batch"):
        Field(domain, "C4", fibre).act(1, torch.zeros(shape))


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (lambda: Field(Grid(5, 5), "O"), "another grid"),
        (lambda: Field(Grid(5, 5, 5), "C4"), "another grid"),
        (lambda: Field(Grid(5, 5)), "needs a group"),
        (lambda: Field((5, 5), "C4"), "domain"),
        (lambda: Field(Grid(5, 5), "C4", 3), "Cannot read"),
        (lambda: Grid(5), "two or three"),
        (lambda: Grid(5, 0), "two or three"),
        (lambda: Grid(5, 5.0), "two or three"),
        (lambda: Field(Grid(5, 5), "C4").act("r", torch.zeros(1, 1, 5, 5)), "names no element"),
    ],
)
def test_bad_fields_are_refused(attempt, message):
    with pytest.raises(UsageError, match=message):
        attempt()


def test_random_inputs_repeat_with_their_seed():
    field = Field(Grid(3, 3), "C4", "regular")
    a, b = (field.random(2, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(a, b)
    assert a.dtype is torch.float64
