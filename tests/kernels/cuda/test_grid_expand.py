"""grid_expand.cu on the CPU: banks are copies to the last bit, adjoints sum within rounding, for every group."""

import numpy as np
import pytest
import torch
from equiharness.kernels import GroupConv, LiftingConv
from equiharness.kernels.cuda import grid_expand, host, sources
from equiharness.kernels.grid.expansion import expand, joint_table, regular_table, tap_table
from equiharness.kernels.grid.groups import grid_group

GROUPS = ["C1", "C2", "C4", "D4", "O", "Oh"]
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


def tables(name, regular, k=2):
    """Index of g^-1 j and of g^-1, as a layer has them."""
    group = grid_group(name)
    table = tap_table(group, k)
    table = joint_table(regular_table(group), table) if regular else table
    return torch.from_numpy(table), torch.from_numpy(group.inv)


def filters(name, regular, dtype, o=2, i=3):
    table, inverse = tables(name, regular)
    torch.manual_seed(0)
    return torch.randn(o, i, table.shape[1]).to(dtype), table, inverse


def wrong(cases, executor, name, regular, dtype):
    """None, or what is wrong with the bank of a filter and the adjoint of a bank; both by plain loops here."""
    # A bank of O_h has 48 times 48 copies of each filter: two filters fill as many blocks as six do for other groups.
    weight, table, inverse = filters(name, regular, dtype, i=1 if name == "Oh" else 3)
    bank = torch.randn(weight.shape[0], len(table), *weight.shape[1:]).to(dtype)
    with cases.running_on(executor):
        expanded = torch.ops.equiharness.grid_expand(weight, table, inverse)
        contracted = torch.ops.equiharness.grid_contract(bank, table, inverse)
    exact, magnitude = (torch.zeros(weight.shape, dtype=torch.float64) for _ in range(2))
    for g, row in enumerate(table.tolist()):
        if not torch.equal(expanded[:, g], weight[..., row]):
            return f"the copy of element {g} differs from the formula"
        exact[..., row] += bank[:, g].double()  # w[table[g, j]] += W[g, j]: scattered, where the kernel gathers
        magnitude[..., row] += bank[:, g].double().abs()
    return cases.within_rounding([contracted], [exact], [magnitude], [len(table)], dtype)


@pytest.mark.parametrize("regular", [False, True])
@pytest.mark.parametrize("name", GROUPS)
def test_every_bank_and_its_adjoint_are_those_of_the_formula(cases, host_executor, name, regular):
    for dtype in DTYPES:
        assert wrong(cases, host_executor("plain"), name, regular, dtype) is None


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_sanitizers_find_no_fault(cases, host_executor, dtype):
    assert wrong(cases, host_executor("address"), "D4", True, dtype) is None


def test_integers_contract_exactly(cases, host_executor):
    _, table, inverse = filters("Oh", True, torch.float32)
    bank = torch.randint(-3, 4, (2, 48, 1, table.shape[1]))
    with cases.running_on(host_executor("plain")):
        got = torch.ops.equiharness.grid_contract(bank.float(), table, inverse)
    assert torch.equal(got.long(), grid_expand.contract_by_torch(bank, table, inverse))


@pytest.mark.parametrize("kind", [LiftingConv, GroupConv])
def test_a_layer_gives_its_bank_to_the_kernels(cases, host_executor, kind):
    layer, executor = kind("O", 2, 3, 3, dtype=torch.float64), host_executor("plain")
    by_torch = layer.filter_bank()
    with cases.running_on(executor):
        bank = layer.filter_bank()
        cotangent = torch.randn_like(bank)
        (grad,) = torch.autograd.grad(bank, layer.weight, cotangent)
    assert executor.launched == ["grid_expand_64", "grid_contract_f64"]
    assert torch.equal(bank, by_torch)
    # <E w, W> = <w, C W>
    torch.testing.assert_close((bank * cotangent).sum(), (layer.weight * grad).sum(), rtol=1e-12, atol=0)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("fast_mode", [True, pytest.param(False, marks=pytest.mark.deep)])
@pytest.mark.parametrize("where", ["host", "torch"])
def test_the_operators_keep_torchs_contract_and_their_derivatives_are_right_twice(
    cases, host_executor, where, fast_mode
):
    weight, table, inverse = filters("C4", True, torch.float64, 1, 2)
    bank = torch.randn(1, 4, 2, weight.shape[2], dtype=torch.float64)
    with cases.running_on(host_executor("plain") if where == "host" else None):
        for name, x in (("grid_expand", weight), ("grid_contract", bank)):
            operator = getattr(torch.ops.equiharness, name)
            x = x.requires_grad_()
            torch.library.opcheck(operator.default, (x, table, inverse))
            assert torch.autograd.gradcheck(operator, (x, table, inverse), fast_mode=fast_mode)
            assert torch.autograd.gradgradcheck(operator, (x, table, inverse), fast_mode=True)


@pytest.mark.filterwarnings("ignore:.*jit.script:DeprecationWarning")  # torch.func.jvp compiles its own decompositions
def test_forward_mode_and_vmap_reach_the_kernels(cases, host_executor):
    weight, table, inverse = filters("D4", False, torch.float64)
    batch, executor = torch.stack([weight, 2 * weight, -weight], 1), host_executor("plain")

    def bank(w):
        return expand(w, table, inverse)

    with cases.running_on(executor):
        tangent = torch.func.jvp(bank, (weight,), (2 * weight,))[1]
        stacked = torch.func.vmap(bank, 1)(batch)
        back = torch.func.vmap(torch.func.vjp(bank, weight)[1])(stacked)[0]
    assert torch.equal(tangent, 2 * bank(weight))
    assert torch.equal(stacked, torch.stack([bank(w) for w in batch.unbind(1)]))
    torch.testing.assert_close(back, 8 * batch.movedim(1, 0), rtol=1e-14, atol=0)  # C E = |G|
    assert {"grid_expand_64", "grid_contract_f64"} <= set(executor.launched)
    with pytest.raises(ValueError, match="through its filters alone"):
        torch.func.vmap(torch.ops.equiharness.grid_expand, (None, 0, None))(weight, table[None], inverse)


def test_a_bank_beyond_32_bits_is_left_to_torch(cases, recorder):
    bank = torch.empty(1).expand(2**21, 4, 16, 16)
    with cases.running_on(recorder):
        assert grid_expand._runner(bank, bank.numel()) is None
        assert grid_expand._runner(bank, bank.numel() - 1) is recorder


def test_nothing_is_launched_for_no_filters(cases, recorder):
    _, table, inverse = filters("C4", True, torch.float32)
    with cases.running_on(recorder):
        assert torch.ops.equiharness.grid_expand(torch.empty(0, 3, 16), table, inverse).shape == (0, 4, 3, 16)
    assert recorder.launches == []


def test_the_struct_is_the_same_in_both_languages(build_folder):
    if host.compiler() is None:
        pytest.skip("comparing the structs needs a C++ compiler")
    checks = [f"static_assert(sizeof(ExpandShape) == {grid_expand.SHAPE.itemsize});"]
    checks += [
        f"static_assert(__builtin_offsetof(ExpandShape, {name}) == {offset});"
        for name, (_, offset) in grid_expand.SHAPE.fields.items()
    ]
    text = sources.program([], (*host.PRELUDE["plain"], "grid_expand.cu"))
    host.build(text + "\n".join(checks) + "\n", "plain", build_folder)
    assert grid_expand._shape(1, 2, 3, 4).tobytes() == np.array([1, 2, 3, 4], np.int64).tobytes()
