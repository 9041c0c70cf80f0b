"""The adapters of the project's own grid layers: every case builds a claim that holds, and layers carry their types."""

import equiharness as eh
import pytest
import torch
from equiharness import kernels
from equiharness.adapters import Case, Family
from equiharness.harness.fields.field import Field
from equiharness.impls.grid import (
    convolutions as grid_convolutions,
)
from equiharness.impls.grid import (
    norms as grid_norms,
)
from equiharness.impls.grid import (
    pools as grid_pools,
)
from equiharness.impls.grid import (
    relaxed as grid_relaxed,
)
from equiharness.impls.grid import (
    steerable,
)
from equiharness.impls.grid import (
    transposed as grid_transposed,
)
from equiharness.impls.grid.adapter import GridAdapter
from equiharness.kernels import GroupConv, GroupPool, LiftingConv
from equiharness.suites.check import run_property

ADAPTERS = [
    made()
    for module in (grid_convolutions, grid_norms, grid_pools, grid_relaxed, grid_transposed)
    for made in vars(module).values()
    if isinstance(made, type) and issubclass(made, GridAdapter) and "name" in vars(made)
]
CASES = [(adapter, case) for adapter in ADAPTERS for case in adapter.cases()]
LABELS = [f"{adapter.name} {case.name}" for adapter, case in CASES]


def few():
    """The first case of each adapter on a plane and in space; `verify` runs over the others with every change."""
    for adapter in ADAPTERS:
        of = [case["group"] for case in adapter.cases()]
        first = {of.index("D4"), of.index("O")}
        for i, case in enumerate(adapter.cases()):
            marks = [] if i in first else pytest.mark.deep
            yield pytest.param(adapter, case, id=f"{adapter.name} {case.name}", marks=marks)


def made(adapter, case, dtype="float32", seed=3):
    return adapter.build(case, device="cpu", dtype=dtype, seed=seed)


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda adapter: adapter.name)
def test_a_bias_is_never_left_at_zero_where_a_fault_in_it_would_show_nothing(adapter):
    for module in made(adapter, next(iter(adapter.cases()))).modules:
        for name, weight in module.named_parameters():
            assert weight.count_nonzero() > 0, name


@pytest.mark.parametrize(("adapter", "case"), list(few()))
@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.deep)])
def test_every_case_is_exact_or_as_declared(adapter, case, dtype):
    result = run_property("equivariance", made(adapter, case, dtype)).result
    declared = adapter.expects("equivariance", case, dtype=dtype, device="cpu")
    assert result.verdict is (declared.verdict if declared else eh.Verdict.EXACT), str(result)


def test_every_layer_has_cases_of_planes_and_volumes_with_and_without_reflections():
    for adapter in ADAPTERS:
        assert {case["group"] for case in adapter.cases()} == {"C4", "D4", "O", "Oh"}, adapter.name


def test_every_layer_but_global_ones_meets_a_box_that_is_not_cubic():
    for adapter in ADAPTERS:
        assert any("x" in str(case["size"]) for case in adapter.cases()), adapter.name


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda a: a.name)
def test_the_wrong_layout_of_channels_is_broken(adapter):
    """Elements of a regular output counted the other way round: what an adapter would do that swapped two axes."""
    case = next(c for c in adapter.cases() if c["group"] == "D4")
    claim = made(adapter, case)
    size = claim.target.fibre.terms[0][1].dim
    if size == 1:  # scalars have no order; their input does
        wrong = eh.Claim(
            lambda x: claim.function(x.flip(2)[:, :, [0, 2, 1, 3, 4, 5, 6, 7]]),
            claim.group,
            claim.source,
            claim.target,
        )
        expected = eh.Verdict.EXACT  # a pool over all elements is blind to their order: nothing to get wrong
    else:
        axis = -1 - claim.target.domain.dim
        wrong = eh.Claim(lambda x: claim.function(x).roll(1, axis), claim.group, claim.source, claim.target)
        expected = eh.Verdict.BROKEN
    assert run_property("equivariance", wrong).result.verdict is expected


@pytest.mark.parametrize(("adapter", "case"), CASES, ids=LABELS)
def test_cost_counts_more_backward_than_forward(adapter, case):
    cost = adapter.cost(case)
    assert 0 < cost.flops < cost.backward_flops
    assert 0 < cost.bytes < cost.backward_bytes


def test_the_flops_of_a_lifting_layer_are_those_of_the_dense_convolution():
    case = Case.of(group="C4", size=9, kernel=3, stride=1, padding=0, fields_in=2, fields_out=5)
    assert grid_convolutions.Lifting().cost(case).flops == 2 * 2 * (5 * 4) * 9 * 7 * 7


def test_the_flops_of_a_separable_layer_are_those_of_its_two_convolutions():
    parameters = {"group": "O", "size": 4, "kernel": 3, "stride": 1, "padding": 1, "fields_in": 2, "fields_out": 3}
    case = Case.of(**parameters, variant="pointwise_first")
    mix, depthwise = 2 * (2 * 24) * (3 * 24) * 64, 2 * (3 * 24) * 27 * 64
    assert grid_convolutions.Separable().cost(case).flops == mix + depthwise


def test_the_flops_of_an_antialiased_pool_are_those_of_its_two_strided_blurs():
    case = Case.of(group="C4", size=9, stride=2, sigma=0.66, padding_mode="zeros", fibre="3*trivial")
    assert grid_pools.AntialiasedPooling().cost(case).flops == 2 * 5 * 3 * (5 * 9 + 5 * 5)


def test_the_bytes_of_a_pool_are_what_it_reads_and_writes():
    case = Case.of(group="C4", size=9, mode="max", fields=2)
    assert grid_pools.GroupPooling().cost(case).bytes == 4 * (2 * 4 * 81 + 2 * 81)


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda a: a.name)
def test_the_family_is_that_of_the_case(adapter):
    for case in adapter.cases():
        volume = case["group"] in ("O", "Oh")
        assert adapter.family_of(case) is (Family.OCTAHEDRAL if volume else Family.PLANAR)


def test_the_same_seed_builds_the_same_layer():
    adapter = grid_convolutions.Regular()
    case = next(iter(adapter.cases()))
    first, second = (made(adapter, case, seed=5).function for _ in range(2))
    assert torch.equal(first.weight, second.weight)


@pytest.mark.parametrize("adapter", [steerable.Lifting(), steerable.Regular()], ids=lambda a: a.name)
def test_steerable_layers_are_exact_on_the_grid_and_on_it_the_layers_that_permute_taps(adapter):
    for case in adapter.cases():
        claim = made(adapter, case, "float64")
        assert run_property("equivariance", claim).result.verdict is eh.Verdict.EXACT, case.name
        assert bool(claim.twins) == (case["group"] in ("C4", "D4"))
        if claim.twins:
            assert run_property("parity", claim).result.verdict is eh.Verdict.EXACT, case.name
        assert 0 < adapter.cost(case).flops < adapter.cost(case).backward_flops


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda a: a.name)
def test_relaxed_layers_alone_declare_deviations_and_behave_as_declared(adapter):
    relaxed = "Relaxed" in adapter.name
    assert any(known.property != "robustness" for known in adapter.expected) == relaxed
    for case in adapter.cases() if relaxed else ():
        result = run_property("parameter_gradient", made(adapter, case)).result
        assert result.verdict is adapter.expects("parameter_gradient", case).verdict, case.name
        break


TYPED = {
    "TransposedLiftingConv": lambda g: kernels.TransposedLiftingConv(g, 2, 3, 4, stride=2, padding=1),
    "TransposedGroupConv": lambda g: kernels.TransposedGroupConv(g, 2, 3, 4, stride=2, padding=1),
    "TransposedSeparableGroupConv": lambda g: kernels.TransposedSeparableGroupConv(g, 2, 3, 3, stride=2, padding=1),
    "RelaxedLiftingConv": lambda g: kernels.RelaxedLiftingConv(g, 2, 3, 3, padding=1, banks=2),
    "RelaxedGroupConv": lambda g: kernels.RelaxedGroupConv(g, 2, 3, 3, padding=1, banks=2),
    "RelaxedSeparableGroupConv": lambda g: kernels.RelaxedSeparableGroupConv(g, 2, 3, 3, padding=1, banks=2),
    "SteerableLiftingConv": lambda g: kernels.SteerableLiftingConv(g, 2, 3, 3, padding=1),
    "SteerableConv": lambda g: kernels.SteerableConv(g, 2, 3, 3, padding=1),
    "LiftingConv": lambda g: kernels.LiftingConv(g, 2, 3, 3, padding=1),
    "GroupConv": lambda g: kernels.GroupConv(g, 2, 3, 3, padding=1),
    "SeparableGroupConv": lambda g: kernels.SeparableGroupConv(g, 2, 3, 3, padding=1),
    "VectorLift": lambda g: kernels.VectorLift(g, 2, 3, 3, padding=1),
    "VectorProjection": lambda g: kernels.VectorProjection(g, 2, 3, 3, padding=1),
    "GroupBatchNorm": lambda g: kernels.GroupBatchNorm(g, 2).eval(),
    "GroupInstanceNorm": lambda g: kernels.GroupInstanceNorm(g, 2),
    "GroupPool": lambda g: kernels.GroupPool(g),
    "GlobalPool": lambda g: kernels.GlobalPool(g, "mean"),
}


@pytest.mark.parametrize("kind", TYPED)
def test_layers_need_no_group_and_no_field(kind):
    assert eh.check(TYPED[kind]("C4")).verdict is eh.Verdict.EXACT


def test_a_layer_in_space_needs_no_group_and_no_field():
    assert eh.check(kernels.GroupBatchNorm("O", 1).eval()).verdict is eh.Verdict.EXACT


def test_a_norm_in_train_mode_holds_and_its_statistics_are_a_note():
    result = eh.check(kernels.GroupBatchNorm("C4", 2))
    assert result.verdict is eh.Verdict.EXACT
    assert "running_mean" in result.reason.message


def test_a_layer_with_one_changed_tap_is_broken_without_being_told_its_type():
    field = Field(eh.Grid(9, 9), "C4", "2*regular")
    bank = GroupConv("C4", 2, 2, 3, padding=1).fold()
    with torch.no_grad():
        bank.weight[0, 0, 0, 0] *= 1.01
    result = eh.check(lambda x: bank(x), "C4", field, field)
    assert result.verdict is eh.Verdict.BROKEN


def test_a_pool_is_checked_with_fields_in_the_split_layout():
    source, target = (eh.Field(eh.Grid(9, 9), "C4", f) for f in ("3*regular", "3*trivial"))
    assert eh.check(GroupPool("C4", "max"), "C4", source, target).verdict is eh.Verdict.EXACT


def test_harness_and_kernels_list_their_elements_in_one_order():
    for name in ("C1", "C2", "C4", "D1", "D2", "D4", "O", "Oh"):
        table = LiftingConv(name, 1, 1, 3).group
        assert (eh.group(name).elements == table.elements).all(), name
        assert (eh.group(name).mul == table.mul).all(), name
