"""The convolutions: S2 to SO(3), SO(3) to SO(3), and the one-point shortcut of residual blocks."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..cuda.graphs import BELOW, Graphs
from ..cuda.ragged_mma import PRECISIONS
from . import checks
from .grids import KernelGrid, as_grid
from .initialisation import spherical_uniform_
from .layout import so3_degrees, so3_rows
from .mixing import joined, s2_mix, so3_mix
from .s2transform import s2_analyse
from .transform import so3_analyse, so3_synthesise


class SphericalLinear(nn.Module):
    """A linear layer with values on SO(3), in three steps that can be taken apart: analyse, mix, synthesise.

    Equivariant under SO(3), exactly (to rounding), unless `alias` makes the degrees grow by two or more. Consecutive
    layers may exchange spectra in real form (see `SpectralSequential`).
    """

    in_channels: int
    out_channels: int
    b_in: int
    b_out: int
    alias: bool
    axes_in: int

    def __init__(self) -> None:
        super().__init__()
        self.graphs = Graphs()

    def degrees(self) -> int:
        """Return how many degrees of its input the layer reads."""
        return self.b_out if self.alias else min(self.b_in, self.b_out)

    def analyse(self, x: Tensor) -> Tensor:
        """Return the spectrum of a signal, `[B, rows, C_in]` in real form."""
        checks.batched_signal(x, self.axes_in, self.in_channels, self.b_in)
        return (s2_analyse if self.axes_in == 2 else so3_analyse)(x, self.degrees())

    def fit(self, spectrum: Tensor) -> Tensor:
        """Return the spectrum without the degrees that the layer does not read."""
        rows = so3_rows(self.degrees()) if self.axes_in == 3 else self.degrees() ** 2
        return spectrum[:, :rows]

    def mix(self, spectrum: Tensor) -> Tensor:
        """Return the spectrum of the output, `[B, rows, C_out]` in real form, from that of the input."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Return the signal `[B, C_out, 2 b_out, 2 b_out, 2 b_out]`; on a GPU, b < 16, no gradient: by a CUDA graph."""
        if max(self.b_in, self.b_out) >= BELOW or torch.compiler.is_compiling():
            return self._steps(x)
        return self.graphs.run(self._steps, x, tuple(self.parameters()))

    def _steps(self, x: Tensor) -> Tensor:
        return so3_synthesise(self.mix(self.analyse(x)), self.b_out)


class _Convolution(SphericalLinear):
    """What S2Conv and SO3Conv share: parameters, scale, bias."""

    def __init__(
        self,
        cin: int,
        cout: int,
        b_in: int,
        b_out: int,
        grid: KernelGrid | Any,
        *,
        alias: bool,
        bias: bool,
        precision: str,
        axes_in: int,
    ) -> None:
        super().__init__()
        for name, value in (("cin", cin), ("cout", cout)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1 channel, got {value}")
        if precision not in PRECISIONS:
            raise ValueError(f"precision is one of {', '.join(map(repr, PRECISIONS))}; got {precision!r}")
        self.in_channels, self.out_channels, self.alias, self.axes_in = cin, cout, alias, axes_in
        self.precision = precision
        self.b_in, self.b_out = checks.bandwidth(b_in, "b_in"), checks.bandwidth(b_out, "b_out")
        self.grid = as_grid(grid, "s2" if axes_in == 2 else "so3")
        growth = b_out**4 / b_in**2 if axes_in == 2 else b_out**3 / b_in**3
        self.scaling = 1.0 / math.sqrt(len(self.grid) * cin * growth)
        self.kernel = nn.Parameter(torch.empty(cin, cout, len(self.grid)))
        self.bias = nn.Parameter(torch.zeros(1, cout, 1, 1, 1)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the kernel from U(-1, 1), as published models do, and set the bias to zero."""
        spherical_uniform_(self)

    def mix(self, spectrum: Tensor) -> Tensor:
        """Return the spectrum of the output, bias included, from that of the input; `[B, rows, C]` in real form."""
        with torch.autocast(spectrum.device.type, enabled=False):
            # Dtypes are compared after the first product, so that a mode which converts what functions are given may
            # run the layer in another precision.
            kernel = self.kernel * (self.factor * self.scaling)
            checks.real_dtype(kernel.dtype, "kernel")
            if spectrum.dtype != kernel.dtype:
                raise TypeError(f"the signal is {spectrum.dtype} and the kernel {kernel.dtype}: cast one with .to()")
            return self._product(spectrum, kernel)

    @property
    def factor(self) -> float:
        """What the kernel is multiplied by, besides the scaling."""
        return 1.0

    def _product(self, spectrum: Tensor, kernel: Tensor) -> Tensor:
        raise NotImplementedError

    def extra_repr(self) -> str:
        """Say what the layer is."""
        sizes = f"{self.in_channels}, {self.out_channels}, b_in={self.b_in}, b_out={self.b_out}, grid={self.grid!r}"
        alias = ", alias=True" if self.alias else ""
        precision = f", precision={self.precision!r}" if self.precision != PRECISIONS[0] else ""
        return sizes + alias + precision


class S2Conv(_Convolution):
    """Computes the correlation of a spherical signal with a kernel on S2, a signal on SO(3): equivariant under SO(3).

    With f^ the projection onto the degrees l < b_out,

        z_o(R) = 2 b_out s sum_{i,p} kernel_iop f^_i(R x_p) + bias_o,     s = 1 / sqrt(P C_in b_out^4 / b_in^2).

    Args:
        cin: input channels.
        cout: output channels.
        b_in: bandwidth of the input.
        b_out: bandwidth of the output.
        grid: the P kernel points: a grid or an array [P, 2] of (beta, alpha), radians.
        alias: for b_out > b_in, keep the aliases l >= b_in of the quadrature, as published models do; not equivariant
            from
            b_out = b_in + 2 on. Without, they are zero and the layer is exact.
        bias: learn a bias.
        precision: how the CUDA kernels multiply float32 spectra on tensor cores, forward and backward: "3xtf32" keeps
            the accuracy of float32 (error 7e-7 of the sum of absolute products), "tf32" (1e-3) and "bf16" (8e-3) are
            faster, "float32" leaves the tensor cores alone. Where torch computes it has no effect.

    Shape:
        `[B, C_in, 2 b_in, 2 b_in]` -> `[B, C_out, 2 b_out, 2 b_out, 2 b_out]`, float32 or float64, like the parameters
        `kernel [C_in, C_out, P]`, drawn from U(-1, 1), and `bias [1, C_out, 1, 1, 1]`, 0.

    Raises:
        ValueError: for a bandwidth or a channel count below 1, a precision that is none of these, a grid that is not
            one of S2, and, in the forward pass, a signal of another size.
        TypeError: for a signal that is neither float32 nor float64, or not like the parameters.

    Example:
        >>> from equiharness.kernels import s2_near_identity
        >>> S2Conv(3, 4, 8, 4, s2_near_identity())(torch.ones(2, 3, 16, 16)).shape
        torch.Size([2, 4, 8, 8, 8])

    Source: Cohen et al., Spherical CNNs, ICLR 2018.
    """

    def __init__(
        self,
        cin: int,
        cout: int,
        b_in: int,
        b_out: int,
        grid: KernelGrid | Any,
        alias: bool = False,
        bias: bool = True,
        precision: str = "3xtf32",
    ) -> None:
        super().__init__(cin, cout, b_in, b_out, grid, alias=alias, bias=bias, precision=precision, axes_in=2)

    @property
    def factor(self) -> float:
        """2 b_out: the kernel transform on S2 is normalised so."""
        return 2.0 * self.b_out

    def _product(self, spectrum: Tensor, kernel: Tensor) -> Tensor:
        table = self.grid.s2_table(self.degrees(), spectrum.dtype, spectrum.device)
        return s2_mix(spectrum, kernel, table, self.bias, self.precision)


class SO3Conv(_Convolution):
    """Computes the correlation of a signal on SO(3) with a kernel on SO(3): equivariant under SO(3).

    With f^ the projection onto the degrees l < b_out,

        z_o(R) = s sum_{i,p} kernel_iop f^_i(R g_p) + bias_o,     s = 1 / sqrt(P C_in b_out^3 / b_in^3).

    Args:
        cin: input channels.
        cout: output channels.
        b_in: bandwidth of the input.
        b_out: bandwidth of the output.
        grid: the P kernel points: a grid or an array [P, 3] of (beta, alpha, gamma), radians.
        alias: for b_out > b_in, keep the aliases l >= b_in of the quadrature, as published models do; not equivariant
            from
            b_out = b_in + 2 on. Without, they are zero and the layer is exact.
        bias: learn a bias.
        precision: how the CUDA kernels multiply float32 spectra on tensor cores, forward and backward: "3xtf32" keeps
            the accuracy of float32 (error 7e-7 of the sum of absolute products), "tf32" (1e-3) and "bf16" (8e-3) are
            faster, "float32" leaves the tensor cores alone. Where torch computes it has no effect.

    Shape:
        `[B, C_in, 2 b_in, 2 b_in, 2 b_in]` -> `[B, C_out, 2 b_out, 2 b_out, 2 b_out]`, float32 or float64, like the
        parameters `kernel [C_in, C_out, P]`, drawn from U(-1, 1), and `bias [1, C_out, 1, 1, 1]`, 0.

    Raises:
        ValueError: for a bandwidth or a channel count below 1, a precision that is none of these, a grid that is not
            one of SO(3), and, in the forward pass, a signal of another size.
        TypeError: for a signal that is neither float32 nor float64, or not like the parameters.

    Example:
        >>> from equiharness.kernels import so3_near_identity
        >>> SO3Conv(3, 4, 4, 2, so3_near_identity())(torch.ones(2, 3, 8, 8, 8)).shape
        torch.Size([2, 4, 4, 4, 4])

    Source: Cohen et al., Spherical CNNs, ICLR 2018.
    """

    def __init__(
        self,
        cin: int,
        cout: int,
        b_in: int,
        b_out: int,
        grid: KernelGrid | Any,
        alias: bool = False,
        bias: bool = True,
        precision: str = "3xtf32",
    ) -> None:
        super().__init__(cin, cout, b_in, b_out, grid, alias=alias, bias=bias, precision=precision, axes_in=3)

    def _product(self, spectrum: Tensor, kernel: Tensor) -> Tensor:
        if len(self.grid) == 1 and not self.grid.points.any():
            # The identity alone: Y^l = kernel times the unit matrix, channels mix row by row.
            z = spectrum @ kernel[..., 0]
            return joined([z[:, :1], z[:, 1:]], self.bias)
        kernel_map = self.grid.so3_map(so3_degrees(spectrum.shape[1]), spectrum.dtype, spectrum.device)
        return so3_mix(spectrum, kernel, kernel_map, self.bias, self.precision)


class SO3Shortcut(SphericalLinear):
    """Computes the shortcut of a residual block: the identity, or a convolution on one point; equivariant under SO(3).

    Args:
        cin: input channels.
        cout: output channels.
        b_in: bandwidth of the input.
        b_out: bandwidth of the output.
        alias: as in `SO3Conv`.

    Shape:
        `[B, C_in, 2 b_in, 2 b_in, 2 b_in]` -> `[B, C_out, 2 b_out, 2 b_out, 2 b_out]`: x itself if channels and
        bandwidth stay, else an `SO3Conv` on the grid ((0, 0, 0),), named `conv`.

    Raises:
        ValueError: as in `SO3Conv`.
        TypeError: as in `SO3Conv`.

    Example:
        >>> SO3Shortcut(3, 4, 4, 2)(torch.ones(2, 3, 8, 8, 8)).shape
        torch.Size([2, 4, 4, 4, 4])

    Source: Cohen et al., Spherical CNNs, ICLR 2018, section 5.3.
    """

    axes_in = 3

    def __init__(self, cin: int, cout: int, b_in: int, b_out: int, alias: bool = False) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.alias = cin, cout, alias
        self.b_in, self.b_out = checks.bandwidth(b_in, "b_in"), checks.bandwidth(b_out, "b_out")
        changes = cin != cout or b_in != b_out
        self.conv = SO3Conv(cin, cout, b_in, b_out, [(0.0, 0.0, 0.0)], alias) if changes else None

    def mix(self, spectrum: Tensor) -> Tensor:
        """Return the spectrum of the output from that of the input."""
        return spectrum if self.conv is None else self.conv.mix(spectrum)

    def forward(self, x: Tensor) -> Tensor:
        """Return the signal `[B, C_out, 2 b_out, 2 b_out, 2 b_out]`."""
        if self.conv is None:
            checks.batched_signal(x, 3, self.in_channels, self.b_in)
            return x
        forward: Tensor = self.conv(x)
        return forward
