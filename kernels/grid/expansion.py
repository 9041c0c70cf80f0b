"""From one filter to the bank of its transformed copies, and back.

A layer's free filter w[o, i, a, t] lives on (fibre index a) x (tap t). The dense bank of a symmetric layer is

    W[o, g, i, a, t] = w[o, i, g^-1 (a, t)],

for every g a permutation of the pairs (a, t), so the expansion is an indexed gather. Its adjoint,
grad_w[j] = sum_g grad_W[g, g j], is a gather with the table of g^-1 and a sum over g: every entry of grad_w is
computed by its owner in a fixed order, with no atomics, and the result is deterministic on every device. On a GPU both
are kernels of `cuda.grid_expand`.

Source: Cohen & Welling, Group Equivariant Convolutional Networks, ICML 2016, section 7 (filter transformation).
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..cuda.grid_expand import by_kernel, contract_by_torch, expand_by_torch
from .groups import GridGroup, IntArray


def tap_table(group: GridGroup, kernel_size: int) -> IntArray:
    """Flat index of g^-1 t for every element g and tap t.

    Args:
        group: a group acting on d axes.
        kernel_size: k, equal on all axes, odd or even.

    Returns:
        int64 [|G|, k^d]. Taps are centred at t = index - (k-1)/2.

    Example:
        >>> from equiharness.kernels.grid.groups import grid_group
        >>> tap_table(grid_group("C2"), 2).tolist()
        [[0, 1, 2, 3], [3, 2, 1, 0]]
    """
    shape = (kernel_size,) * group.dim
    # Doubled centred coordinates 2 t are integers for even kernels too.
    taps = 2 * np.indices(shape).reshape(group.dim, -1) - (kernel_size - 1)
    moved = (group.elements[group.inv] @ taps + (kernel_size - 1)) // 2
    table: IntArray = np.ravel_multi_index(tuple(np.moveaxis(moved, 1, 0)), shape).astype(np.int64)
    return table


def regular_table(group: GridGroup) -> IntArray:
    """Index of g^-1 h: how g moves the axis of the group, int64 [|G|, |G|]."""
    table: IntArray = group.mul[group.inv]
    return table


def vector_table(group: GridGroup) -> tuple[IntArray, IntArray]:
    """How g moves the components of a vector: g^-1 e_a = sign * e_b.

    Returns:
        The index b and the sign, int64 [|G|, d] each.
    """
    return np.abs(group.elements).argmax(axis=2), group.elements.sum(axis=2)


def joint_table(fibre: IntArray, taps: IntArray) -> IntArray:
    """Flat index of g^-1 (a, t) from those of g^-1 a [|G|, A] and g^-1 t [|G|, K]: int64 [|G|, A * K]."""
    joint = fibre[:, :, None] * taps.shape[1] + taps[:, None, :]
    return np.ascontiguousarray(joint.reshape(len(taps), -1))


class _Expand(torch.autograd.Function):
    """W[o, g, i, j] = w[o, i, table[g, j]]; the adjoint is `_Contract`."""

    @staticmethod
    def forward(weight: Tensor, table: Tensor, inverse: Tensor) -> Tensor:
        if by_kernel(weight):
            bank: Tensor = torch.ops.equiharness.grid_expand(weight, table, inverse)
            return bank
        return expand_by_torch(weight, table, inverse)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None, None]:
        table, inverse = ctx.saved_tensors
        return _contract(grads[0], table, inverse), None, None


class _ExpandEager(_Expand):
    """`_Expand` with forward-mode derivatives and vmap, which torch.compile refuses in the functions that it traces."""

    generate_vmap_rule = True

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[1:])
        ctx.save_for_forward(*inputs[1:])

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        return expand(tangents[0], *ctx.saved_tensors)


class _Contract(torch.autograd.Function):
    """w[o, i, j] = sum_g W[o, g, i, table[g^-1, j]]; the adjoint is `_Expand`."""

    @staticmethod
    def forward(bank: Tensor, table: Tensor, inverse: Tensor) -> Tensor:
        if by_kernel(bank):
            weight: Tensor = torch.ops.equiharness.grid_contract(bank, table, inverse)
            return weight
        return contract_by_torch(bank, table, inverse)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None, None]:
        table, inverse = ctx.saved_tensors
        return expand(grads[0], table, inverse), None, None


class _ContractEager(_Contract):
    """`_Contract` with forward-mode derivatives and vmap."""

    generate_vmap_rule = True

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[1:])
        ctx.save_for_forward(*inputs[1:])

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        return _contract(tangents[0], *ctx.saved_tensors)


def expand(weight: Tensor, table: Tensor, inverse: Tensor) -> Tensor:
    """The transformed copies of a filter under every element.

    Args:
        weight: [o, i, J], any floating dtype, J = A * K.
        table: int64 [|G|, J] from `joint_table`: each row is a permutation, and row g^-1 is the inverse of row g.
        inverse: int64 [|G|], index of g^-1.

    Returns:
        The bank [o, |G|, i, J] in the dtype of weight.

    Example:
        >>> weight = torch.tensor([[[1.0, 2.0]]])
        >>> expand(weight, torch.tensor([[0, 1], [1, 0]]), torch.tensor([0, 1])).flatten().tolist()
        [1.0, 2.0, 2.0, 1.0]
    """
    function = _Expand if torch.compiler.is_compiling() else _ExpandEager
    bank: Tensor = function.apply(weight, table, inverse)  # type: ignore[no-untyped-call]
    return bank


def _contract(bank: Tensor, table: Tensor, inverse: Tensor) -> Tensor:
    function = _Contract if torch.compiler.is_compiling() else _ContractEager
    weight: Tensor = function.apply(bank, table, inverse)  # type: ignore[no-untyped-call]
    return weight
