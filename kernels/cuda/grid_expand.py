"""Torch operators on grid_expand.cu: filter expansion and its adjoint, each the derivative of the other.

    E(w)[o, g, i, j] = w[o, i, table[g, j]]                        grid_expand
    C(W)[o, i, j]    = sum_g W[o, g, i, table[inverse[g], j]]      grid_contract

`grid.expansion` calls them where a kernel may run, and says what they mean. Importing this module registers them with
torch, which keeps them for the life of the process.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .grid import ACCUMULATOR
from .launch import Executor, executor_for
from .sources import Kernel

# The fields of ExpandShape in grid_expand.cu, in its order.
SHAPE = np.dtype([(name, np.int64) for name in ("outer", "order", "inner", "width")])

_THREADS = 256
_BITS = {2: "unsigned short", 4: "unsigned", 8: "unsigned long long"}
_SCALARS = {torch.float32: "float", torch.float64: "double", torch.float16: "Half", torch.bfloat16: "BFloat16"}
_NAMES = {torch.float32: "f32", torch.float64: "f64", torch.float16: "f16", torch.bfloat16: "bf16"}
# The kernels number entries by 32 bits; a bank as large as this would fill 8 GiB in float32.
_MOST = 2**31


def _expand_kernel(dtype: torch.dtype) -> Kernel:
    parameters = (_BITS[dtype.itemsize], str(_THREADS))
    return Kernel("grid_expand.cu", "GRID_EXPAND", f"grid_expand_{8 * dtype.itemsize}", parameters, _THREADS)


def _contract_kernel(dtype: torch.dtype) -> Kernel:
    parameters = (_SCALARS[dtype], _SCALARS[ACCUMULATOR[dtype]], str(_THREADS))
    return Kernel("grid_expand.cu", "GRID_CONTRACT", f"grid_contract_{_NAMES[dtype]}", parameters, _THREADS)


#: Every kernel of grid_expand.cu that a call may choose.
KERNELS = tuple(dict.fromkeys((*map(_expand_kernel, _SCALARS), *map(_contract_kernel, _SCALARS))))

_LIBRARY = torch.library.Library("equiharness", "FRAGMENT")
_LIBRARY.define("grid_expand(Tensor weight, Tensor table, Tensor inverse) -> Tensor")
_LIBRARY.define("grid_contract(Tensor bank, Tensor table, Tensor inverse) -> Tensor")


def by_kernel(tensor: Tensor) -> bool:
    """Whether the operators should be called: on a GPU always, for a trace must not ask who runs the kernels today."""
    if tensor.device.type == "cuda":
        return True
    return not torch.compiler.is_compiling() and executor_for(tensor) is not None


def expand_by_torch(weight: Tensor, table: Tensor, inverse: Tensor) -> Tensor:
    """E in torch: [o, i, J] to [o, |G|, i, J]."""
    o, i, j = weight.shape
    shape = (o, table.shape[0], i, j)
    return weight[:, None].expand(shape).gather(3, table[None, :, None].expand(shape))


def contract_by_torch(bank: Tensor, table: Tensor, inverse: Tensor) -> Tensor:
    """C in torch: [o, |G|, i, J] to [o, i, J]."""
    return bank.gather(3, table[inverse][None, :, None].expand(bank.shape)).sum(1)


def _expand(weight: Tensor, table: Tensor, inverse: Tensor) -> Tensor:
    executor = _runner(weight, weight.numel() * table.shape[0])
    if executor is None:
        return expand_by_torch(weight, table, inverse)
    o, i, j = weight.shape
    bank = executor.empty(weight, (o, table.shape[0], i, j))
    if bank.numel():
        shape, grid = _shape(o, table.shape[0], i, j), (-(-bank.numel() // _THREADS), 1, 1)
        kernel = _expand_kernel(weight.dtype)
        executor.launch(kernel, grid, (weight.contiguous(), table.contiguous(), bank, shape))
    return bank


def _contract(bank: Tensor, table: Tensor, inverse: Tensor) -> Tensor:
    executor = _runner(bank, bank.numel())
    if executor is None:
        return contract_by_torch(bank, table, inverse)
    o, order, i, j = bank.shape
    weight = executor.empty(bank, (o, i, j))
    if weight.numel():
        tables = (table.contiguous(), inverse.contiguous())
        shape, grid = _shape(o, order, i, j), (-(-weight.numel() // _THREADS), 1, 1)
        executor.launch(_contract_kernel(bank.dtype), grid, (bank.contiguous(), *tables, weight, shape))
    return weight


def _runner(tensor: Tensor, entries: int) -> Executor | None:
    """Who runs the kernels, None where they do not take the type or so many entries."""
    return executor_for(tensor) if tensor.dtype in _SCALARS and entries < _MOST else None


def _shape(*sizes: int) -> np.ndarray[Any, Any]:
    return np.array(sizes, np.int64).view(SHAPE).reshape(())


def _expand_fake(weight: Tensor, table: Tensor, inverse: Tensor) -> Tensor:
    return weight.new_empty((weight.shape[0], table.shape[0], *weight.shape[1:]))


def _contract_fake(bank: Tensor, table: Tensor, inverse: Tensor) -> Tensor:
    return bank.new_empty((bank.shape[0], *bank.shape[2:]))


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[1:])


def _expand_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    return torch.ops.equiharness.grid_contract(grad, *ctx.saved_tensors), None, None


def _contract_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    return torch.ops.equiharness.grid_expand(grad, *ctx.saved_tensors), None, None


def _batched(name: str) -> Any:
    """The operator under vmap: a batch of filters is more output channels. The tables are never batched."""

    def rule(info: Any, in_dims: tuple[int | None, ...], x: Tensor, table: Tensor, inverse: Tensor) -> Any:
        if in_dims[0] is None or in_dims[1] is not None or in_dims[2] is not None:
            raise ValueError(f"vmap reaches {name} through its filters alone; the index tables have no batch axis")
        x = x.movedim(in_dims[0], 0)
        y = getattr(torch.ops.equiharness, name)(x.flatten(0, 1), table, inverse)
        return y.unflatten(0, x.shape[:2]), 0

    return rule


def _register(name: str, function: Any, fake: Any, backward: Any) -> None:
    for key in ("CPU", "CUDA"):
        _LIBRARY.impl(name, function, key)
    torch.library.register_fake(f"equiharness::{name}", fake, lib=_LIBRARY)
    torch.library.register_autograd(f"equiharness::{name}", backward, setup_context=_save, lib=_LIBRARY)
    torch.library.register_vmap(f"equiharness::{name}", _batched(name), lib=_LIBRARY)


_register("grid_expand", _expand, _expand_fake, _expand_backward)
_register("grid_contract", _contract, _contract_fake, _contract_backward)
