"""Lifting and regular group convolutions."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from . import reference
from .choice import chooser, is_plain_call, key_of, measuring, synchronised, worth_measuring
from .conv import GridConv, GridModule
from .exact import TABLES, exact_convolution, exact_tables, spread
from .expansion import joint_table, regular_table, tap_table
from .fourier import TABLES as FOURIER
from .fourier import fourier_blocks, fourier_convolution, fourier_pays, fourier_tables
from .groups import GroupLike, IntArray


class _ExactConv(GridConv):
    """A convolution that can also be computed in canonical order."""

    backends = (*GridModule.backends, "exact")

    def _exact_tables(self) -> dict[str, IntArray]:
        """The tables of the exact backend, for a layer that uses it."""
        return exact_tables(self.group, self.kernel_size, bool(self.in_fibre)) if self.backend == "exact" else {}

    def exact(self, x: Tensor) -> Tensor:
        """The layer in canonical order, without bias: [B, o, |G|, *X]."""
        x = x if self.in_fibre else spread(x, self.order)
        weight = self.weight.view(self.out_channels, self.in_channels, -1, self.kernel_size**self.dim)
        tables = [self.get_buffer(name) for name in TABLES]
        return exact_convolution(x, weight, tables, size=self.kernel_size, **self.geometry())


class LiftingConv(_ExactConv):
    """G-equivariant for planes or volumes to group feature maps: exactly for every element of the group.

    y_o(X, g) = b_o + sum_{i,t} w_oi(g^-1 t) x_i(X + t), so that (L_u f)(x) = f(u^-1 x) on the input becomes
    (L_u y)(X, g) = y(u^-1 X, u^-1 g) on the output. Exact for boxes with (N + 2p - k) mod s = 0 on every axis that
    an element reverses; approximately, to the offset of the grid, with ``allow_misaligned=True`` elsewhere.

    Args:
        group: name ("C2", "C4", "D4", "O", "Oh", ...), signed permutation matrices [|G|, d, d], or an object with
            such an ``elements`` array.
        in_channels: channels of the input [B, in_channels, *space], any floating dtype.
        out_channels: channels of the output [B, out_channels, |G|, *space].
        kernel_size: k, odd or even, equal on all axes.
        stride: s, equal on all axes.
        padding: p on both sides of all axes.
        padding_mode: "zeros" or "circular".
        bias: whether to add b_o, shared over the group.
        backend: "auto" or "fast" (one dense convolution with the expanded filters), "exact" (canonical order:
            equivariant to the last bit, forward and for the gradient of the input), "reference" (the formula, slow).
        allow_misaligned: accept boxes that break the symmetry.
        device: of weight [o, i, *k] and bias [o].
        dtype: of weight and bias.

    Raises:
        ValueError: at construction for a wrong argument; at every forward for an input of the wrong shape or a
            misaligned box.

    Example:
        >>> import torch
        >>> layer = LiftingConv("C4", 3, 8, 5, padding=2)
        >>> layer(torch.randn(2, 3, 9, 7)).shape
        torch.Size([2, 8, 4, 9, 7])

    Source: Cohen & Welling, Group Equivariant Convolutional Networks, ICML 2016, equation 10.
    """

    def _fibres(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        return (), (self.order,), ()

    def tables(self) -> dict[str, IntArray]:
        """Index of g^-1 t, and of g^-1."""
        table = tap_table(self.group, self.kernel_size)
        return {"table": table, "inverse": self.group.inv, **self._exact_tables()}

    def filter_bank(self) -> Tensor:
        """W[(o, g), i, t] = w_oi(g^-1 t), differentiable."""
        return self._expanded().flatten(2, 3).flatten(0, 1)

    def reference(self, x: Tensor) -> Tensor:
        """The formula without bias, by loops over g and t."""
        return reference.lifting(x, self.weight, self.group, **self.geometry())


class GroupConv(_ExactConv):
    """G-equivariant for group feature maps to group feature maps: exactly for every element of the group.

    y_o(X, g) = b_o + sum_{i,h,t} w_oi(g^-1 t, g^-1 h) F_i(X + t, h), so that (L_u F)(x, h) = F(u^-1 x, u^-1 h) on the
    input becomes the same action on the output. Exact for boxes with (N + 2p - k) mod s = 0 on every axis that an
    element reverses; approximately, to the offset of the grid, with ``allow_misaligned=True`` elsewhere.

    Args:
        group: name ("C2", "C4", "D4", "O", "Oh", ...), signed permutation matrices [|G|, d, d], or an object with
            such an ``elements`` array.
        in_channels: channels of the input [B, in_channels, |G|, *space], any floating dtype.
        out_channels: channels of the output [B, out_channels, |G|, *space].
        kernel_size: k, odd or even, equal on all axes.
        stride: s, equal on all axes.
        padding: p on both sides of all axes.
        padding_mode: "zeros" or "circular".
        bias: whether to add b_o, shared over the group.
        backend: "auto" (the faster of "fast" and "fourier", measured once per shape and device and remembered), "fast"
            (one dense convolution with the expanded filters), "exact" (canonical order: equivariant to the last
            bit, forward and for the gradient of the input), "fourier" (in the irreducible representations of the
            group: fewer products), "reference" (the formula, slow).
        allow_misaligned: accept boxes that break the symmetry.
        device: of weight [o, i, u, *k], u = g^-1 h, and bias [o].
        dtype: of weight and bias.

    Raises:
        ValueError: at construction for a wrong argument; at every forward for an input of the wrong shape or a
            misaligned box.

    Example:
        >>> import torch
        >>> layer = GroupConv("O", 2, 3, 3, stride=2, padding=1)
        >>> layer(torch.randn(1, 2, 24, 5, 5, 7)).shape
        torch.Size([1, 3, 24, 3, 3, 4])

    Source: Cohen & Welling, Group Equivariant Convolutional Networks, ICML 2016, equation 11; in three dimensions
    Winkels & Cohen, 3D G-CNNs for Pulmonary Nodule Detection, MIDL 2018.
    """

    backends = (*_ExactConv.backends, "fourier")

    def __init__(
        self,
        group: GroupLike,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        padding_mode: str = "zeros",
        bias: bool = True,
        backend: str = "auto",
        allow_misaligned: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            group,
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=padding,
            padding_mode=padding_mode,
            bias=bias,
            backend=backend,
            allow_misaligned=allow_misaligned,
            device=device,
            dtype=dtype,
        )
        # Numbers beside the tables: a trace sees constants, and asks no cache of groups.
        self._blocks = fourier_blocks(self.group) if self._has_fourier() else ()
        self._chosen = "fast"  # what "auto" decided last, for calls in which nothing can be decided

    def _has_fourier(self) -> bool:
        """Whether the layer carries the tables of that backend."""
        pays = self.backend == "auto" and fourier_pays(self.group, self.in_channels, self.out_channels)
        return self.backend == "fourier" or pays

    def backend_for(self, x: Tensor) -> str:
        """The backend that computes this call: the one asked for, else the fastest, measured once per shape.

        In a trace, a transform of torch.func or the capture of a graph nothing is measured: the last decision of this
        layer holds, or "fast".
        """
        if self.backend != "auto":
            return self.backend
        if not is_plain_call(x, self.weight):
            return self._chosen if torch.compiler.is_compiling() else "fast"
        voxels = math.prod((n + 2 * self.padding - self.kernel_size) // self.stride + 1 for n in x.shape[3:])
        products = self.in_channels * self.out_channels * self.order**2 * self.kernel_size**self.dim
        if not (self._blocks and measuring() and worth_measuring(len(x) * voxels * products)):
            return "fast"
        training = torch.is_grad_enabled() and (x.requires_grad or self.weight.requires_grad)
        geometry = (self.in_channels, self.out_channels, self.kernel_size, *self.geometry().values())
        name = key_of(x, type(self).__name__, self.group.elements.tolist(), *geometry, self.weight.dtype, training)
        self._chosen = chooser().choose(name, self._candidates(x, training))
        return self._chosen

    def _candidates(self, x: Tensor, training: bool) -> dict[str, Callable[[], object]]:
        """Calls on a copy of the input: forward, and where gradients are wanted backward too."""
        x = x.detach()

        def of(name: str) -> Callable[[], object]:
            def call() -> object:
                signal = x.requires_grad_(training)
                with torch.set_grad_enabled(training):
                    y = self.by_backend(name, signal)
                    wanted = [t for t in (signal, self.weight) if t.requires_grad]
                    return torch.autograd.grad(y.sum(), wanted) if training else y

            return synchronised(call, x.device)

        return {name: of(name) for name in ("fast", "fourier")}

    def _fibres(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        return (self.order,), (self.order,), (self.order,)

    def tables(self) -> dict[str, IntArray]:
        """Index of (g^-1 h, g^-1 t), and of g^-1."""
        table = joint_table(regular_table(self.group), tap_table(self.group, self.kernel_size))
        fourier = fourier_tables(self.group, self.kernel_size) if self._has_fourier() else {}
        return {"table": table, "inverse": self.group.inv, **self._exact_tables(), **fourier}

    def fourier(self, x: Tensor) -> Tensor:
        """The layer in aligned Fourier coordinates, without bias: [B, o, |G|, *X]."""
        weight = self.weight.flatten(3)
        tables = [self.get_buffer(name) for name in FOURIER]
        return fourier_convolution(x, weight, tables, self._blocks, size=self.kernel_size, **self.geometry())

    def filter_bank(self) -> Tensor:
        """W[(o, g), (i, h), t] = w_oi(g^-1 t, g^-1 h), differentiable."""
        return self._expanded().flatten(2, 3).flatten(0, 1)

    def reference(self, x: Tensor) -> Tensor:
        """The formula without bias, by loops over g and t."""
        return reference.regular(x, self.weight, self.group, **self.geometry())
