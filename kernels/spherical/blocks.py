"""What networks are made of: residual blocks, oversampled nonlinearities, spectra that stay spectra, SO3ToS2."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn

from . import checks
from .fourier import s2_resample, so3_resample
from .grids import KernelGrid
from .layers import S2Conv, SO3Conv, SO3Shortcut, SphericalLinear
from .transform import so3_synthesise


class SpectralSequential(nn.Sequential):
    """Computes its layers in turn, like `nn.Sequential`, handing spectra between linear ones; equivariant if they are.

    Between consecutive layers on SO(3) a synthesis and an analysis on the same grid cancel, exactly: both are skipped.
    Other modules (nonlinearities, norms) get the signal.

    Args:
        *layers: modules; the bandwidth and channels of consecutive spherical layers must fit.

    Shape:
        That of the layers in turn.

    Raises:
        ValueError: if consecutive spherical layers do not fit together.

    Example:
        >>> from equiharness.kernels import S2Conv, SO3Conv, s2_near_identity, so3_near_identity
        >>> first, second = S2Conv(1, 2, 4, 4, s2_near_identity()), SO3Conv(2, 3, 4, 2, so3_near_identity())
        >>> x = torch.ones(1, 1, 8, 8)
        >>> bool(torch.allclose(SpectralSequential(first, second)(x), second(first(x)), atol=1e-6))
        True

    Source: the projection theorem of the sampling on the SOFT grid, Kostelec and Rockmore 2008.
    """

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__(*layers)
        for i, (first, second) in enumerate(pairwise(layers)):
            if not (isinstance(first, SphericalLinear) and isinstance(second, SphericalLinear)):
                continue
            if second.axes_in != 3 or (first.b_out, first.out_channels) != (second.b_in, second.in_channels):
                raise ValueError(
                    f"layer {i} gives {first.out_channels} channels of bandwidth {first.b_out} on SO(3), layer "
                    f"{i + 1} takes {second.in_channels} of bandwidth {second.b_in} on "
                    f"{'S2' if second.axes_in == 2 else 'SO(3)'}"
                )

    def forward(self, input: Tensor) -> Tensor:
        """Return the output of the last layer."""
        layers = list(self)
        value, is_spectrum = input, False
        for i, layer in enumerate(layers):
            if not isinstance(layer, SphericalLinear):
                value = layer(value)
                continue
            if not is_spectrum:
                value = layer.analyse(value)
            # A spectrum of more degrees than the layer reads is pooled; of fewer, it is zero beyond.
            value = layer.mix(layer.fit(value))
            is_spectrum = i + 1 < len(layers) and isinstance(layers[i + 1], SphericalLinear)
            if not is_spectrum:
                value = so3_synthesise(value, layer.b_out)
        return value


class OversampledNonlinearity(nn.Module):
    """Computes a pointwise nonlinearity on a finer grid and projects back: equivariant under SO(3) up to fewer aliases.

    A pointwise function of a band-limited signal has every degree; sampled at bandwidth b, those from b on come back as
    aliases, the only part of a spherical network that is not exactly equivariant. On a grid of `oversample` b fewer do.

    Args:
        function: applied to each value, e.g. `torch.relu`.
        oversample: ratio of bandwidths, a whole number; 1 applies the function on the given grid, without projection.
        domain: "so3" or "s2".

    Shape:
        `[..., 2b, 2b(, 2b)]` -> the same.

    Raises:
        ValueError: for another domain, or oversample below 1.
        TypeError: for an oversample that is no whole number, or a signal that is neither float32 nor float64.

    Example:
        >>> OversampledNonlinearity(torch.relu, oversample=2)(torch.ones(1, 1, 4, 4, 4)).shape
        torch.Size([1, 1, 4, 4, 4])

    Source: Cohen et al. 2018, section 5.1 (equivariance error); oversampling as in Franzen and Wand 2021.
    """

    def __init__(
        self, function: Callable[[Tensor], Tensor] = torch.relu, oversample: int = 2, domain: str = "so3"
    ) -> None:
        super().__init__()
        if domain not in ("s2", "so3"):
            raise ValueError(f'domain is "s2" or "so3", got {domain!r}')
        self.function, self.domain = function, domain
        self.oversample = checks.bandwidth(oversample, "oversample")

    def forward(self, x: Tensor) -> Tensor:
        """Return the projection of function(x) onto the degrees of x."""
        b = checks.signal(x, 2 if self.domain == "s2" else 3)
        if self.oversample == 1:
            return self.function(x)
        resample = s2_resample if self.domain == "s2" else so3_resample
        return resample(self.function(resample(x, self.oversample * b)), b)

    def extra_repr(self) -> str:
        """Say what it is."""
        return (
            f"{getattr(self.function, '__name__', self.function)}, oversample={self.oversample}, domain={self.domain}"
        )


class SO3ToS2(nn.Module):
    """Computes the mean over gamma of a signal on SO(3), a signal on S2: equivariant under SO(3), for dense outputs.

    In the spectrum x^l_m = x^l_m0. (The slice gamma = 0 is no substitute: it is not equivariant.)

    Shape:
        `[..., 2b, 2b, 2b]` -> `[..., 2b, 2b]`.

    Raises:
        ValueError: if the spatial axes are not of one even length.
        TypeError: if the dtype is neither float32 nor float64.

    Example:
        >>> SO3ToS2()(torch.ones(1, 3, 8, 8, 8)).shape
        torch.Size([1, 3, 8, 8])

    Source: Cohen et al. 2018, section 4: S2 = SO(3) / SO(2).
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the mean over the last axis."""
        checks.signal(x, 3)
        return x.mean(-1)


class _ResBlock(nn.Module):
    """conv - norm - nonlinearity - conv - norm, plus a shortcut, then a nonlinearity."""

    def __init__(
        self,
        first: S2Conv | SO3Conv,
        second: SO3Conv,
        shortcut: S2Conv | SO3Shortcut,
        nonlinearity: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__()
        # One mean and variance per channel over all of SO(3): the grid oversamples the poles, alike for every rotation
        # only through the quadrature; batch norm in evaluation mode is exactly equivariant, in training to that extent.
        self.conv1, self.norm1 = first, nn.BatchNorm3d(first.out_channels)
        self.conv2, self.norm2 = second, nn.BatchNorm3d(second.out_channels)
        self.shortcut, self.nonlinearity = shortcut, nonlinearity

    def forward(self, x: Tensor) -> Tensor:
        """Return the signal `[B, C_out, 2 b_out, 2 b_out, 2 b_out]`."""
        y = self.nonlinearity(self.norm1(self.conv1(x)))
        return self.nonlinearity(self.norm2(self.conv2(y)) + cast("Tensor", self.shortcut(x)))


class SO3ResBlock(_ResBlock):
    """Computes a residual block on SO(3): equivariant under SO(3) up to the aliases of its nonlinearity.

    Args:
        cin: input channels.
        cout: output channels.
        b_in: bandwidth of the input.
        b_out: bandwidth of the output; the first convolution pools.
        grid: kernel points of both convolutions, [P, 3] or a grid.
        nonlinearity: applied to each value; an `OversampledNonlinearity` aliases less.

    Shape:
        `[B, C_in, 2 b_in, 2 b_in, 2 b_in]` -> `[B, C_out, 2 b_out, 2 b_out, 2 b_out]`.

    Raises:
        ValueError: as `SO3Conv`.
        TypeError: as `SO3Conv`.

    Example:
        >>> from equiharness.kernels import so3_near_identity
        >>> SO3ResBlock(2, 3, 4, 2, so3_near_identity())(torch.randn(2, 2, 8, 8, 8)).shape
        torch.Size([2, 3, 4, 4, 4])

    Source: Cohen et al. 2018, section 5.3; He et al. 2016.
    """

    def __init__(
        self,
        cin: int,
        cout: int,
        b_in: int,
        b_out: int,
        grid: KernelGrid | Any,
        nonlinearity: Callable[[Tensor], Tensor] = torch.relu,
    ) -> None:
        first, second = SO3Conv(cin, cout, b_in, b_out, grid), SO3Conv(cout, cout, b_out, b_out, grid)
        super().__init__(first, second, SO3Shortcut(cin, cout, b_in, b_out), nonlinearity)


class S2ResBlock(_ResBlock):
    """Computes a residual block from S2 to SO(3): equivariant under SO(3) up to the aliases of its nonlinearity.

    The shortcut lifts to SO(3) by an `S2Conv` on the north pole: f(R) = w f(R north).

    Args:
        cin: input channels.
        cout: output channels.
        b_in: bandwidth of the input.
        b_out: bandwidth of the output.
        s2_grid: kernel points of the first convolution, [P, 2] or a grid.
        so3_grid: kernel points of the second convolution, [P, 3] or a grid.
        nonlinearity: applied to each value; an `OversampledNonlinearity` aliases less.

    Shape:
        `[B, C_in, 2 b_in, 2 b_in]` -> `[B, C_out, 2 b_out, 2 b_out, 2 b_out]`.

    Raises:
        ValueError: as `S2Conv` and `SO3Conv`.
        TypeError: as `S2Conv` and `SO3Conv`.

    Example:
        >>> from equiharness.kernels import s2_near_identity, so3_near_identity
        >>> S2ResBlock(2, 3, 4, 2, s2_near_identity(), so3_near_identity())(torch.randn(2, 2, 8, 8)).shape
        torch.Size([2, 3, 4, 4, 4])

    Source: Cohen et al. 2018, section 5.3; He et al. 2016.
    """

    def __init__(
        self,
        cin: int,
        cout: int,
        b_in: int,
        b_out: int,
        s2_grid: KernelGrid | Any,
        so3_grid: KernelGrid | Any,
        nonlinearity: Callable[[Tensor], Tensor] = torch.relu,
    ) -> None:
        first, second = S2Conv(cin, cout, b_in, b_out, s2_grid), SO3Conv(cout, cout, b_out, b_out, so3_grid)
        super().__init__(first, second, S2Conv(cin, cout, b_in, b_out, [(0.0, 0.0)]), nonlinearity)
