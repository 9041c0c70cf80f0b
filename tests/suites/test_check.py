"""``eh.check`` on layers of known truth: what the first issue promises, in float32 and float64, over many seeds."""

import equiharness as eh
import pytest
import torch
import torch.nn.functional as F
from equiharness.harness.errors import UsageError
from equiharness.kernels import GlobalPool, GroupConv, GroupPool, LiftingConv

SEEDS = range(3)
#: For tests that try one seed after the other: the first, and more of the same.
FIRST_AND_MORE = [pytest.param([0], id="one seed"), pytest.param([1, 2, 3, 4], id="more", marks=pytest.mark.deep)]
PRECISIONS = ("float32", "float64")


def field(size=9, fibre="3*trivial", group="C4"):
    return eh.Field(eh.Grid(size, size), group, fibre)


def lifting(seed, **options):
    torch.manual_seed(seed)
    return LiftingConv("C4", 3, 2, 3, **{"padding": 1, **options})


def verdict(function, source=None, target=None, **options):
    source, target = source or field(), target or field(fibre="2*regular")
    result = eh.check(lambda x: function(x), source.group, source, target, **options)
    return result.verdict.value, result.reason.code


def strided(seed):
    return lifting(seed, stride=2, allow_misaligned=True)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("seed", SEEDS)
def test_stride_two_is_broken_on_even_grids_and_exact_on_odd_ones(seed, dtype):
    options = {"seed": seed, "dtype": dtype}
    assert verdict(strided(seed), field(8), field(4, "2*regular"), **options) == ("BROKEN", "ERROR")
    assert verdict(strided(seed), field(9), field(5, "2*regular"), **options) == ("EXACT", "EXACT")


def ramp(like):
    return torch.linspace(0, 1, like.shape[-1], dtype=like.dtype)


def one_percent(y):
    """The second group component 1% too large: filters that were not tied."""
    return y * torch.tensor([1, 1.01, 1, 1], dtype=y.dtype)[:, None, None]


def beside_a_large_channel(y):
    return torch.cat([y[:, :1] * 1e4, one_percent(y[:, 1:])], 1)


# name -> (what is done to a sound layer's output, verdict, code)
TRUTHS = {
    "zeros": (lambda y: y * 0, "VACUOUS", "VACUOUS"),
    "a constant": (lambda y: y * 0 + 0.1, "VACUOUS", "VACUOUS"),
    "NaN": (lambda y: y * float("nan"), "BROKEN", "NONFINITE"),
    "one NaN": (lambda y: y.masked_fill(y == y.max(), float("nan")), "BROKEN", "NONFINITE"),
    "infinity": (lambda y: y / 0, "BROKEN", "NONFINITE"),
    "a constant but asymmetric output": (lambda y: y * 0 + ramp(y), "BROKEN", "ERROR"),
    "a 1% fault behind a bias of 1e4": (lambda y: one_percent(y) + 1e4, "BROKEN", None),
    "a small broken channel beside a large one": (beside_a_large_channel, "BROKEN", "ERROR"),
    "nothing": (lambda y: y, "EXACT", "EXACT"),
    "a factor 1e-20": (lambda y: y * 1e-20, "EXACT", "EXACT"),
    "a factor 1e20": (lambda y: y * 1e20, "EXACT", "EXACT"),
    "dead relu samples": (lambda y: F.relu(y - 1.5), "EXACT", "EXACT"),
    "max-pool ties": (lambda y: F.max_pool2d(F.relu(y.flatten(1, 2)), 3, 1, 1).reshape(y.shape), "EXACT", "EXACT"),
    "a softmax": (lambda y: y.flatten(2).softmax(-1).reshape(y.shape), "EXACT", "EXACT"),
    "a bias of 1e4": (lambda y: y + 1e4, "EXACT", "EXACT"),
}


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("name", TRUTHS)
@pytest.mark.parametrize("seeds", FIRST_AND_MORE)
def test_a_layer_followed_by(name, dtype, seeds):
    after, expected, code = TRUTHS[name]
    for seed in seeds:
        layer = lifting(seed)
        found = verdict(lambda x, layer=layer: after(layer(x)), seed=seed, dtype=dtype)
        assert found == (expected, code or found[1]), seed


def pairwise_forces(x):
    """sum_j d_ij / (1 + |d_ij|^2)^2, invariant under shifts and equivariant under rotations."""
    d = x[:, :, None] - x[:, None]
    return (d / (1 + (d * d).sum(-1, keepdim=True)) ** 2).sum(2)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("seed", SEEDS)
def test_pairwise_forces_of_atoms_far_from_the_origin_are_exact(seed, dtype):
    atoms = eh.Field(eh.Points(6), "SO3", "standard")
    far = torch.randn(4, 6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) + 100
    assert verdict(pairwise_forces, atoms, atoms, inputs=far, dtype=dtype, seed=seed) == ("EXACT", "EXACT")


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_forces_off_by_a_percent_along_one_axis_are_broken(dtype):
    atoms = eh.Field(eh.Points(6), "SO3", "standard")
    far = torch.randn(4, 6, 3, dtype=torch.float64) + 100
    skewed = torch.tensor([1, 1, 1.01])
    assert verdict(lambda x: pairwise_forces(x) * skewed, atoms, atoms, inputs=far, dtype=dtype)[0] == "BROKEN"


SOUND = {
    "C4 regular": (lambda: GroupConv("C4", 1, 2, 3, padding=1), ("C4", (7, 7), "regular"), (7, 7), "2*regular"),
    "D4 lifting, oblong": (lambda: LiftingConv("D4", 2, 2, 3), ("D4", (5, 7), "2*trivial"), (3, 5), "2*regular"),
    "D4 group pool": (lambda: GroupPool("D4"), ("D4", (5, 5), "2*regular"), (5, 5), "2*trivial"),
    "O lifting": (lambda: LiftingConv("O", 2, 1, 3, padding=1), ("O", (5, 5, 5), "2*trivial"), (5, 5, 5), "regular"),
    "O regular": (lambda: GroupConv("O", 1, 1, 3, padding=1), ("O", (3, 3, 3), "regular"), (3, 3, 3), "regular"),
    "C4 global pool": (lambda: GlobalPool("C4", "mean"), ("C4", (5, 5), "2*regular"), None, "2*trivial"),
    "C4 global maximum": (lambda: GlobalPool("C4"), ("C4", (5, 5), "2*regular"), None, "2*trivial"),
}


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("name", SOUND)
@pytest.mark.parametrize("seeds", FIRST_AND_MORE)
def test_sound_layers_are_exact(name, dtype, seeds):
    make, (group, box, fibre), out, target = SOUND[name]
    source = eh.Field(eh.Grid(*box), group, fibre)
    order = len(source.group)

    for seed in seeds[:1] if group == "O" else seeds:
        torch.manual_seed(seed)
        layer = make()

        def function(x, layer=layer):
            """The flat layout of fields in front of layers that keep the group's axis."""
            return layer(x if isinstance(layer, LiftingConv) else x.unflatten(1, (-1, order)))

        domain = eh.Grid(*out) if out else eh.Vector()
        result = eh.check(function, group, source, eh.Field(domain, group, target), seed=seed, dtype=dtype)
        assert result.verdict is eh.Verdict.EXACT, str(result)
        assert result.power > 1e4


def test_the_report_names_error_bound_element_and_seed():
    layer = lifting(0)
    result = eh.check(lambda x: one_percent(layer(x)), "C4", field(), field(fibre="2*regular"), seed=3)
    text = str(result)
    for word in ("FAIL", "BROKEN", "rotation by", "seed 3", f"{result.error:.2e}"):
        assert word in text
    assert result.ratio > 1
    assert result.parts[0].property == "homomorphism"


def test_assert_equivariant_raises_the_report():
    with pytest.raises(AssertionError, match="BROKEN"):
        eh.assert_equivariant(lambda x: x.transpose(-1, -2), "C4", field(), field())
    assert eh.assert_equivariant(lambda x: x.relu(), "C4", field(), field()).verdict is eh.Verdict.EXACT


def test_a_table_in_single_precision_in_a_float64_path_warns_and_strictness_refuses():
    vectors = eh.Field(eh.Points(4), "C4", "standard")
    table = torch.stack([torch.tensor(1 / 3).double(), torch.tensor(1 / 3, dtype=torch.float64)])
    arguments = (lambda x: x * table, "C4", vectors, vectors)
    with pytest.warns(UserWarning, match="CONSTANTS_IN_SINGLE"):
        eh.assert_equivariant(*arguments, dtype="float64")
    with pytest.raises(AssertionError, match="CONSTANTS_IN_SINGLE"):
        eh.assert_equivariant(*arguments, dtype="float64", strict=True)


def test_a_layer_that_raises_is_crashed_and_not_an_exception():
    def crash(x):
        raise RuntimeError("out of coffee")

    result = eh.check(crash, "C4", field(), field())
    assert result.verdict is eh.Verdict.CRASHED
    assert "out of coffee" in result.reason.message


def test_the_same_check_gives_the_same_numbers():
    layer = lifting(0)
    a, b = (eh.check(lambda x: layer(x), "C4", field(), field(fibre="2*regular"), seed=1) for _ in range(2))
    assert a.elements == b.elements
    assert (a.error, a.bound, a.power) == (b.error, b.bound, b.power)


def test_trees_of_fields_are_judged_leaf_by_leaf():
    atoms = eh.Field(eh.Points(5), "SO3", "standard")
    inputs = {"pos": torch.randn(4, 5, 3, dtype=torch.float64), "charge": torch.randn(4, 5, 1, dtype=torch.float64)}

    def model(pos, charge):
        forces = pairwise_forces(pos) * charge
        return {"energy": (charge**2).sum((1, 2)), "forces": forces}

    def wrong(pos, charge):
        y = model(pos, charge)
        return {**y, "energy": y["energy"] + 0.01 * pos[:, 0, 0]}

    source = {"pos": atoms, "charge": eh.Invariant()}
    target = {"energy": eh.Invariant(), "forces": atoms}
    assert eh.check(model, "SO3", source, target, inputs=inputs).verdict is eh.Verdict.EXACT
    broken = eh.check(wrong, "SO3", source, target, inputs=inputs)
    assert (broken.verdict, broken.leaf) == (eh.Verdict.BROKEN, "energy")


def test_positional_trees_are_passed_in_order():
    def product(x, y):
        return x * y

    assert eh.check(product, "C4", (field(), field()), field()).verdict is eh.Verdict.EXACT


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("layer", "C4", field(), field()), "not callable"),
        ((F.relu, "Z4", field(), field()), "Unknown group"),
        ((F.relu,), "The group is missing"),
        ((F.relu, "C4"), "source is missing"),
        ((F.relu, "C4", field()), "target is missing"),
        ((F.relu, "C4", field(), field(fibre="2*trivial")), "The output has shape"),
        ((F.relu, "C4", field(group="D4"), field()), "build the field with the same group"),
        ((lambda x: x[..., 1:], "C4", field(), field()), "does not fit"),
        ((lambda x: None, "C4", field(), field()), "return a tensor"),
        ((lambda x: x, "C4", {"a": eh.Invariant()}, field()), "pass inputs="),
    ],
)
def test_what_cannot_be_checked_is_refused_with_advice(arguments, message):
    with pytest.raises(UsageError, match=message):
        eh.check(*arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "float23"}, "Unknown dtype"),
        ({"inputs": torch.randn(2, 3, 9, 9)}, "at least 4"),
        ({"inputs": torch.randn(4, 2, 9, 9)}, "does not fit"),
    ],
)
def test_bad_options_are_refused_with_advice(options, message):
    with pytest.raises(UsageError, match=message):
        eh.check(F.relu, "C4", field(), field(), **options)


def test_actions_may_be_functions():
    target = field(fibre="2*regular")
    layer = lifting(0)
    x = torch.randn(4, 3, 9, 9, dtype=torch.float64)
    options = {"act_in": lambda g, x: field().act(g, x), "act_out": lambda g, y: target.act(g, y), "inputs": x}
    assert eh.check(lambda x: layer(x), "C4", **options).verdict is eh.Verdict.EXACT
    swapped = {**options, "act_out": lambda g, y: target.act(target.group.inverse(g), y)}
    assert eh.check(lambda x: layer(x), "C4", **swapped).verdict is eh.Verdict.BROKEN


def _pair_potential(pos, z):
    difference = pos[:, :, None] - pos[:, None]
    weight = (z[:, :, None] * z[:, None]) / ((difference**2).sum(-1) + 1)
    return {"energy": weight.sum((1, 2)), "forces": (difference * weight[..., None]).sum(2)}


def _check_potential(model, **options):
    points = eh.Field(eh.Points(6), "O3", "standard")
    source = {"pos": points, "z": eh.Invariant()}
    inputs = {"pos": torch.randn(4, 6, 3), "z": torch.randint(1, 5, (4, 6))}
    return eh.check(model, "O3", source, {"energy": eh.Invariant(), "forces": points}, inputs=inputs, **options)


@pytest.mark.parametrize("options", [{}, {"dtype": "float64"}])
def test_a_model_called_by_keywords_has_its_float64_reference(options):
    result = _check_potential(_pair_potential, **options)
    assert result.verdict is eh.Verdict.EXACT
    assert result.error < 1e-12


def test_one_broken_leaf_of_a_model_is_named():
    def broken(pos, z):
        y = _pair_potential(pos, z)
        return {**y, "forces": y["forces"] * torch.tensor([1.0, 1.0, 1.0001])}

    result = _check_potential(broken)
    assert result.verdict is eh.Verdict.BROKEN
    assert result.leaf == "forces"


# --- the headline, and sentences that the numbers of the run bear out ---


def test_the_headline_is_the_cause_and_what_follows_from_it_stands_below():
    points, out = {"pos": eh.Positions(4, "O3")}, {"energy": eh.Energy(), "forces": eh.Forces(4, "O3")}

    def handed(pos):
        pos = pos.requires_grad_(True)
        energy = torch.linalg.det(pos[:, 1:4] - pos[:, :1]).abs() + (pos[:, 1:] - pos[:, :1]).square().sum((1, 2))
        energy = energy + 1e-3 * torch.linalg.det(pos[:, 1:4] - pos[:, :1])
        return {"energy": energy, "forces": -torch.autograd.grad(energy.sum(), pos, create_graph=True)[0]}

    result = eh.check(handed, "O3", points, out)
    assert {"reflections", "permutations", "adjoint"} <= {p.property for p in result.parts if p.verdict.fails}
    assert result.property == "reflections", str(result)


def test_noise_that_a_seed_holds_is_named_where_the_claim_fails_for_it():
    points = eh.Positions(4, "O3")

    def sampler(pos):
        return pos + 0.1 * torch.randn(pos.shape)

    random = eh.check(sampler, "O3", points, points)
    assert (random.reason.code, "noise from torch's generator" in random.reason.message) == ("NONDETERMINISTIC", True)
    seeded = eh.check(sampler, "O3", points, points, call_seed=0)
    assert "no element moves this noise" in seeded.reason.message

    def counted(pos, calls=[]):  # noqa: B006  the state is the point
        calls.append(1)
        return pos * (1 + 1e-3 * len(calls))

    moving = eh.check(counted, "O3", points, points)
    assert "does not make them agree" in moving.reason.message, str(moving)


def test_advice_on_forces_is_not_given_where_the_model_follows_it():
    points, out = {"pos": eh.Positions(4, "O3")}, {"energy": eh.Energy(), "forces": eh.Forces(4, "O3")}

    def model(pos, detached, factor):
        pos = pos.requires_grad_(True)
        far = torch.cdist(pos, pos)
        energy = (-far).exp().sum((1, 2)) + 1e-2 * (far.detach() if detached else far).sum((1, 2))
        return {"energy": energy, "forces": -factor * torch.autograd.grad(energy.sum(), pos, create_graph=True)[0]}

    parts = eh.check(lambda pos: model(pos, True, 1.0), "O3", points, out, properties=("forces",)).parts
    assert "detached or has a wrong backward" in parts[0].reason.message
    v = 1.0 + 1e-3 * torch.arange(4)[None, :, None]
    parts = eh.check(lambda pos: model(pos, False, v.to(pos)), "O3", points, out, properties=("forces",)).parts
    assert "its gradient is another one" in parts[0].reason.message


def test_a_gradient_of_zero_is_said_of_the_gradient_and_fails_no_sound_layer():
    plane = eh.Field(eh.Grid(7, 7), "C4", "2*trivial")
    result = eh.check(torch.sign, "C4", plane, plane)
    assert "does not depend on the input" not in str(result)
    assert not result.fails, str(result)


# --- what check says of its own choices ---


def test_samples_are_those_that_were_asked_for():
    plane = eh.Field(eh.Grid(7, 7), "C4", "2*trivial")
    x = torch.randn(6, 2, 7, 7)
    for options, wanted in (({}, 4), ({"samples": 7}, 7), ({"inputs": x}, 6), ({"inputs": x, "samples": 5}, 5)):
        parts = eh.check(torch.nn.ReLU(), "C4", plane, plane, **options).parts
        assert {p.samples for p in parts if p.property != "homomorphism"} == {wanted}
    for options, message in (
        ({"samples": 3}, "at least 4"),
        ({"samples": 9, "inputs": x}, "more than the 6 of inputs"),
    ):
        with pytest.raises(UsageError, match=message):
            eh.check(torch.nn.ReLU(), "C4", plane, plane, **options)


def test_more_samples_are_more_calls_of_the_layer_with_more_samples():
    plane, sizes = eh.Field(eh.Grid(7, 7), "C4", "2*trivial"), set()

    def layer(x):
        sizes.add(len(x))
        return x * 1

    eh.check(layer, "C4", plane, plane, samples=9, properties=("equivariance",))
    assert 9 in sizes


def test_a_wrong_name_in_the_source_is_answered_with_those_that_the_model_takes():
    points = eh.Positions(4, "O3")

    def model(pos, charges):
        return (pos * charges[..., None]).square().sum((1, 2))

    source = {"positions": points, "charges": eh.Invariant(at=eh.Points(4))}
    result = eh.check(model, "O3", source, eh.Invariant())
    assert "names positions, charges, and the model takes charges, pos" in result.reason.message


def test_a_part_that_was_skipped_says_why():
    plane = eh.Field(eh.Grid(7, 7), "C4", "2*trivial")
    text = str(eh.check(lambda x: x.detach() * 2, "C4", plane, plane))
    assert "NOT_DIFFERENTIABLE" in text
