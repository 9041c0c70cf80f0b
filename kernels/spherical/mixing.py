"""Spectral products in real form: the only place where channels mix.

    S2:     Z^l_mn[o] = sum_i X^l_m[i] Y^l_n[i, o]                SO(3):  Z^l_mn[o] = sum_{i,k} X^l_mk[i] Y^l_nk[i, o]

One real matrix product per degree, (B (2l+1)) x (C_in (2l+1)) x (C_out (2l+1)): each is large, and padding degrees to
a common size to batch them multiplies the arithmetic: b (2b-1)^3 against sum_l (2l+1)^3, a factor 4 for large b and
less for groups of degrees. The padded form has not been measured. On a GPU all degrees are one launch of products of
different sizes.
"""

import torch
from torch import Tensor

from ..cuda.launch import executor_for
from ..cuda.spherical_operators import spherical_product
from .kernelmap import KernelMap


def so3_mix(
    spectrum: Tensor, kernel: Tensor, kernel_map: KernelMap, bias: Tensor | None, precision: str = "3xtf32"
) -> Tensor:
    """Return the spectrum of the convolution on SO(3); commutes with rotations, which act on the first order.

    Args:
        spectrum: `[B, so3_rows(b), C_in]`.
        kernel: `[C_in, C_out, P]`, scaled.
        kernel_map: the map from kernels to spectra of the same degrees.
        bias: a constant per output channel, C_out numbers, or None.
        precision: of the CUDA kernels in float32, see `layers.SO3Conv`; torch multiplies in the dtype of its operands.

    Returns:
        `[B, so3_rows(b), C_out]`.
    """
    batch, rows, c_in = spectrum.shape
    c_out = kernel.shape[1]
    spectra = kernel_map.spectra(kernel.flatten(0, 1).t())
    if executor_for(spectrum) is not None:
        return joined([spherical_product(spectrum, spectra, False, precision)], bias)
    sizes, out = _sizes(rows, 2), []
    for l, (x, y) in enumerate(zip(torch.split(spectrum, sizes, 1), torch.split(spectra, sizes), strict=True)):
        width = 2 * l + 1
        y = y.view(width, width, c_in, c_out).transpose(1, 2)  # [k, i, n, o]
        z = torch.mm(x.reshape(batch * width, width * c_in), y.reshape(width * c_in, width * c_out))
        out.append(z.view(batch, width * width, c_out))
    return joined(out, bias)


def s2_mix(spectrum: Tensor, kernel: Tensor, basis: Tensor, bias: Tensor | None, precision: str = "3xtf32") -> Tensor:
    """Return the SO(3) spectrum of the correlation of a signal and a kernel on S2; commutes with rotations.

    Args:
        spectrum: `[B, b^2, C_in]`.
        kernel: `[C_in, C_out, P]`, scaled.
        basis: `[P, b'^2]`, b' >= b.
        bias: a constant per output channel, C_out numbers, or None.
        precision: of the CUDA kernels in float32, see `layers.SO3Conv`; torch multiplies in the dtype of its operands.

    Returns:
        `[B, so3_rows(b), C_out]`.
    """
    batch, rows, c_in = spectrum.shape
    c_out = kernel.shape[1]
    y_all = torch.matmul(basis[:, :rows].t(), kernel.transpose(1, 2))  # [i, rows, o]
    if executor_for(spectrum) is not None:
        return joined([spherical_product(spectrum, y_all, True, precision)], bias)
    sizes, out = _sizes(rows, 1), []
    for l, (x, y) in enumerate(zip(torch.split(spectrum, sizes, 1), torch.split(y_all, sizes, 1), strict=True)):
        width = 2 * l + 1
        z = torch.mm(x.reshape(batch * width, c_in), y.reshape(c_in, width * c_out))
        out.append(z.view(batch, width * width, c_out))
    return joined(out, bias)


def joined(degrees: list[Tensor], bias: Tensor | None) -> Tensor:
    """Return the degrees, in one piece or several, one after the other, plus a constant function per channel.

    The constant 1 has the spectrum 1 at l = 0 and zeros elsewhere: the Haar measure has mass 1.
    """
    if bias is not None:
        first = degrees[0]
        degrees = [first[:, :1] + bias.view(1, 1, -1), first[:, 1:], *degrees[1:]]
    return torch.cat(degrees, 1)


def _sizes(rows: int, power: int) -> list[int]:
    """Return (2l+1)^power for the degrees that make up these rows."""
    sizes: list[int] = []
    while rows > 0:
        sizes.append((2 * len(sizes) + 1) ** power)
        rows -= sizes[-1]
    return sizes
