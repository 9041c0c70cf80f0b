"""Torch operators on ragged_gemm.cu: the mixing of spectra, differentiable, and the table products of the transforms.

The spectral products of S2 and SO(3) are one trilinear form per degree,

    T(x, y, z) = sum_l sum x_(b,m),(k,i) y_(k,i),(n,o) z_(b,m),(n,o),          k = 0 alone on S2,

and the operator `spherical_product` is its gradient by any one of the three, given the other two: forward product and
both derivatives, of every order. Layouts: x [B, rows, I], z [B, so3_rows, O]; y is [so3_rows, I O] on SO(3), each
degree stored [k, n, i, o], and [I, b^2, O] on S2.

Importing this module registers the operators with torch, which keeps them for the life of the process.
"""

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..spherical.contraction import contract
from ..spherical.layout import so3_degrees, so3_rows
from ..spherical.tables import shell_starts
from .launch import executor_for
from .ragged import Index, Operand, Table, table

_LIBRARY = torch.library.Library("equiharness", "FRAGMENT")
_LIBRARY.define(
    "spherical_product(Tensor first, Tensor second, int wanted, bool on_sphere, str precision='3xtf32') -> Tensor"
)
_LIBRARY.define(
    "wigner_product(Tensor table, Tensor source, Tensor(a!) out, int degrees, int orders, bool analyse) -> ()"
)

#: What `spherical_product` returns.
Z, X, Y = 0, 1, 2
#: From which two, in this order.
_GIVEN = {Z: ("x", "y"), X: ("z", "y"), Y: ("x", "z")}
_NAME = {Z: "z", X: "x", Y: "y"}


def _sizes(first: Tensor, second: Tensor, wanted: int, on_sphere: bool) -> tuple[Any, Any, Any, Any]:
    """Batch, degrees, C_in, C_out of the operands (see `_layouts`)."""
    batch, rows = first.shape[0], first.shape[1]
    if wanted == Y:
        c_in, c_out = first.shape[2], second.shape[2]
    elif on_sphere:
        c_in, c_out = second.shape[0], second.shape[2]
    elif wanted == Z:
        c_in, c_out = first.shape[2], second.shape[1] // first.shape[2]
    else:
        c_in, c_out = second.shape[1] // first.shape[2], first.shape[2]
    return batch, rows, c_in, c_out


def _degrees(rows: int, wanted: int, on_sphere: bool) -> int:
    return round(rows**0.5) if on_sphere and wanted != X else so3_degrees(rows)


def _result_shape(first: Tensor, second: Tensor, wanted: int, on_sphere: bool) -> tuple[Any, ...]:
    batch, rows, c_in, c_out = _sizes(first, second, wanted, on_sphere)
    if not on_sphere:
        return {Z: (batch, rows, c_out), X: (batch, rows, c_in), Y: (rows, c_in * c_out)}[wanted]
    if wanted == Y:
        return c_in, rows, c_out
    degrees = _degrees(int(rows), wanted, on_sphere)
    return (batch, so3_rows(degrees), c_out) if wanted == Z else (batch, degrees**2, c_in)


@lru_cache(maxsize=256)
def _product_table(
    batch: int,
    degrees: int,
    c_in: int,
    c_out: int,
    wanted: int,
    on_sphere: bool,
    dtype: torch.dtype,
    device: str,
    precision: str,
) -> Table:
    """One group per degree: rows, columns and depth are the pairs (b, m), (k, i), (n, o) in the order of `wanted`."""
    degree = np.arange(degrees)
    width = 2 * degree + 1
    start, rows = degree * (4 * degree * degree - 1) // 3, so3_rows(degrees)
    pairs: dict[str, Index] = {"bm": (batch, width), "ki": (1 if on_sphere else width, c_in), "no": (width, c_out)}
    # Operand -> start, and strides (outer, inner) of its two pairs.
    x: tuple[Any, dict[str, Index]]
    y: tuple[Any, dict[str, Index]]
    if on_sphere:
        x = (degree * degree * c_in, {"bm": (degrees**2 * c_in, c_in), "ki": (0, 1)})
        y = (degree * degree * c_out, {"ki": (0, degrees**2 * c_out), "no": (c_out, 1)})
    else:
        x = (start * c_in, {"bm": (rows * c_in, width * c_in), "ki": (c_in, 1)})
        y = (start * c_in * c_out, {"ki": (width * c_in * c_out, c_out), "no": (c_in * c_out, 1)})
    z: tuple[Any, dict[str, Index]] = (start * c_out, {"bm": (rows * c_out, width * c_out), "no": (c_out, 1)})
    operands = {"x": x, "y": y, "z": z}
    (first, second), result = _GIVEN[wanted], _NAME[wanted]
    row, column, depth = {Z: ("bm", "no", "ki"), X: ("bm", "ki", "no"), Y: ("ki", "no", "bm")}[wanted]

    def operand(name: str, one: str, other: str) -> Operand:
        begin, strides = operands[name]
        return begin, strides[one], strides[other]

    return table(
        pairs[row],
        pairs[column],
        pairs[depth],
        operand(first, row, depth),
        operand(second, depth, column),
        operand(result, row, column),
        dtype,
        device,
        precision,
    )


def _product(first: Tensor, second: Tensor, wanted: int, on_sphere: bool, precision: str = "3xtf32") -> Tensor:
    executor = executor_for(first)
    shape = _result_shape(first, second, wanted, on_sphere)
    if executor is None:
        return _product_by_torch(first, second, wanted, on_sphere, shape)
    batch, rows, c_in, c_out = _sizes(first, second, wanted, on_sphere)
    degrees = _degrees(rows, wanted, on_sphere)
    result = executor.empty(first, shape)
    if batch == 0:
        return result.zero_()  # the gradient of y is a sum over nothing
    device = str(first.device)
    products = _product_table(batch, degrees, c_in, c_out, wanted, on_sphere, first.dtype, device, precision)
    products.launch(executor, first.contiguous(), second.contiguous(), result)
    return result


def _product_by_torch(first: Tensor, second: Tensor, wanted: int, on_sphere: bool, shape: tuple[int, ...]) -> Tensor:
    """The same, degree by degree."""
    formula = {Z: "bmki,knio->bmno", X: "bmno,knio->bmki", Y: "bmki,bmno->knio"}[wanted]
    names = (*_GIVEN[wanted], _NAME[wanted])
    _, _, c_in, _ = _sizes(first, second, wanted, on_sphere)
    result = first.new_empty(shape)
    for degree in range(_degrees(first.shape[1], wanted, on_sphere)):
        left, right, into = (
            _degree(name, tensor, degree, c_in, on_sphere)
            for name, tensor in zip(names, (first, second, result), strict=True)
        )
        into.copy_(torch.einsum(formula, left, right))
    return result


def _degree(name: str, tensor: Tensor, degree: int, c_in: int, on_sphere: bool) -> Tensor:
    """One degree of an operand, a view: x [b, m, k, i], y [k, n, i, o], z [b, m, n, o]."""
    width = 2 * degree + 1
    on_so3, on_s2 = slice(so3_rows(degree), so3_rows(degree + 1)), slice(degree**2, (degree + 1) ** 2)
    if name == "z" or (name == "x" and not on_sphere):
        return tensor[:, on_so3].unflatten(1, (width, width))  # type: ignore[no-any-return]  # untyped in torch
    if name == "x":
        return tensor[:, on_s2].unsqueeze(2)
    if on_sphere:
        return tensor[:, on_s2].transpose(0, 1).unsqueeze(0)
    pairs = tensor[on_so3].unflatten(0, (width, width))
    return pairs.unflatten(2, (c_in, -1))  # type: ignore[no-any-return]


def _product_fake(first: Tensor, second: Tensor, wanted: int, on_sphere: bool, precision: str = "3xtf32") -> Tensor:
    return first.new_empty(_result_shape(first, second, wanted, on_sphere))


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    first, second, ctx.wanted, ctx.on_sphere, ctx.precision = inputs
    ctx.save_for_backward(first, second)


def _product_backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
    first, second = ctx.saved_tensors
    # The gradient takes the place of the result in the form, and each operand in turn is asked for.
    known = {_NAME[ctx.wanted]: gradient, **dict(zip(_GIVEN[ctx.wanted], (first, second), strict=True))}
    gradients = []
    for name, needed in zip(_GIVEN[ctx.wanted], ctx.needs_input_grad[:2], strict=True):
        wanted = {"z": Z, "x": X, "y": Y}[name]
        left, right = _GIVEN[wanted]
        operands = known[left], known[right]
        gradients.append(_call(*operands, wanted, ctx.on_sphere, ctx.precision) if needed else None)
    return *gradients, None, None, None


def _call(first: Tensor, second: Tensor, wanted: int, on_sphere: bool, precision: str) -> Tensor:
    result: Tensor = torch.ops.equiharness.spherical_product(first, second, wanted, on_sphere, precision)
    return result


def spherical_product(spectrum: Tensor, kernel: Tensor, on_sphere: bool, precision: str = "3xtf32") -> Tensor:
    """The spectrum Z of the convolution, differentiable to every order; commutes with SO(3).

    Args:
        spectrum: [B, so3_rows(b), C_in], or [B, b^2, C_in] on the sphere; float32 or float64.
        kernel: [so3_rows(b), C_in C_out], each degree [k, n], or [C_in, b^2, C_out] on the sphere.
        on_sphere: which of the two.
        precision: of the kernels in float32, forward and backward: one of `ragged_mma.PRECISIONS`.

    Returns:
        [B, so3_rows(b), C_out].
    """
    return _call(spectrum, kernel, Z, on_sphere, precision)


@lru_cache(maxsize=256)
def _wigner_table(
    b: int, degrees: int, orders: int, columns: int, analyse: bool, dtype: torch.dtype, device: str
) -> Table:
    """One group per pair of orders (n, m), in the order of `transform`: shell max(m, n), first all n, then all m."""
    size = 2 * b
    shell = np.repeat(np.arange(orders), 2 * np.arange(orders) + 1)
    within = np.arange(orders * orders) - shell * shell
    first = within <= shell  # the pairs (n = within, m = shell), then (n = shell, m = within - shell - 1)
    small = np.where(first, within, within - shell - 1)
    n, m = np.where(first, small, shell), np.where(first, shell, small)
    rows = 2 * (degrees - shell)
    shells = np.asarray(shell_starts(degrees, orders))[:-1]
    entry = (shells[shell] + small * rows) * size
    product = (np.cumsum(rows) - rows) * columns
    order_space = (n * orders + m) * columns * size
    of_table = (0, size), (0, 1)  # along the rows of a pair, along beta
    of_space = (0, size), (0, 1)  # along the columns, along beta
    of_product = (0, columns), (0, 1)  # along the rows, along the columns
    if analyse:  # product[row, column] = sum_beta table[row, beta] space[column, beta]
        return table(
            (1, rows), (1, columns), (1, size), (entry, *of_table), (order_space, *of_space[::-1]),
            (product, *of_product), dtype, device,
        )  # fmt: skip
    # space[column, beta] = sum_row product[row, column] table[row, beta]
    return table(
        (1, columns), (1, size), (1, rows), (product, *of_product[::-1]), (entry, *of_table), (order_space, *of_space),
        dtype, device,
    )  # fmt: skip


def _wigner(table: Tensor, source: Tensor, out: Tensor, degrees: int, orders: int, analyse: bool) -> None:
    executor = executor_for(source)
    if executor is None:
        contract(table, source, out, degrees, orders, analyse)
        return
    columns, size = (source if analyse else out).shape[-2:]
    products = _wigner_table(size // 2, degrees, orders, columns, analyse, source.dtype, str(source.device))
    first, second = (table, source) if analyse else (source, table)
    products.launch(executor, first, second, out)


def _wigner_fake(table: Tensor, source: Tensor, out: Tensor, degrees: int, orders: int, analyse: bool) -> None:
    return None


for _key in ("CPU", "CUDA"):
    _LIBRARY.impl("spherical_product", _product, _key)
    _LIBRARY.impl("wigner_product", _wigner, _key)
torch.library.register_fake("equiharness::spherical_product", _product_fake, lib=_LIBRARY)
torch.library.register_fake("equiharness::wigner_product", _wigner_fake, lib=_LIBRARY)
torch.library.register_autograd("equiharness::spherical_product", _product_backward, setup_context=_save, lib=_LIBRARY)


def wigner_product(table: Tensor, source: Tensor, out: Tensor, degrees: int, orders: int, analyse: bool) -> None:
    """Multiply every pair of orders by its Wigner table, in one launch; see `transform`. Writes to `out`.

    Args:
        table: the unfolded shells one after the other, each [pairs, 2 (degrees - M), 2b].
        source: [orders, orders, columns, 2b] (analysis), or the products [rows * columns] (synthesis).
        out: the other of the two.
        degrees: number of degrees.
        orders: number of orders |m|, |n|.
        analyse: which way.
    """
    torch.ops.equiharness.wigner_product(table, source, out, degrees, orders, analyse)
