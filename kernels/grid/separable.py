"""Separable group convolutions: the filter is a product of a group part and a spatial part."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from . import reference
from .conv import GridModule, convolve, dense_conv, uniform_with_variance
from .exact import TABLES, exact_convolution, exact_depthwise, exact_tables
from .expansion import expand, regular_table, tap_table
from .groups import GroupLike, IntArray

VARIANTS = ("pointwise_first", "depthwise_first", "per_pair")


# Buffers of the group step of the exact backend: as in `exact.TABLES`, for a filter of one tap.
_EXACT = tuple(f"group_{name}" for name in TABLES)


class SeparableGroupConv(GridModule):
    """G-equivariant for group feature maps to group feature maps: exactly for every element of the group.

    A regular convolution whose filter factorises, in one of three variants:

        pointwise_first   z_o(x, g) = sum_{i,h} a_oi(g^-1 h) F_i(x, h)
                          y_o(X, g) = b_o + sum_t s_o(g^-1 t) z_o(X + t, g)
        depthwise_first   z_i(X, h) = sum_t s_i(h^-1 t) F_i(X + t, h)
                          y_o(X, g) = b_o + sum_{i,h} a_oi(g^-1 h) z_i(X, h)
        per_pair          y_o(X, g) = b_o + sum_{i,h,t} a_oi(g^-1 h) s_oi(g^-1 t) F_i(X + t, h)

    Input and output transform by (L_u F)(x, h) = F(u^-1 x, u^-1 h). Exact for boxes with (N + 2p - k) mod s = 0 on
    every axis that an element reverses; approximately, to the offset of the grid, with ``allow_misaligned=True``
    elsewhere. Multiply-adds per voxel: Ci Co |G|^2 + C |G| k^d with C = Co or Ci; per_pair, as many as `GroupConv`.

    Args:
        group: name ("C2", "C4", "D4", "O", "Oh", ...), signed permutation matrices [|G|, d, d], or an object with
            such an ``elements`` array.
        in_channels: channels of the input [B, in_channels, |G|, *space], any floating dtype.
        out_channels: channels of the output [B, out_channels, |G|, *space].
        kernel_size: k, odd or even, equal on all axes.
        variant: which of the three.
        stride: s, equal on all axes; applied in the spatial step only.
        padding: p on both sides of all axes.
        padding_mode: "zeros" or "circular".
        bias: whether to add b_o, shared over the group.
        backend: "auto" or "fast" (torch convolutions with expanded filters), "exact" (canonical order: equivariant to
            the last bit, forward and for the gradient of the input), "reference" (the formula, slow).
        allow_misaligned: accept boxes that break the symmetry.
        device: of group_weight [o, i, u], u = g^-1 h, of spatial_weight [o, *k], [i, *k] or [o, i, *k], and bias [o].
        dtype: of the parameters.

    Raises:
        ValueError: at construction for a wrong argument; at every forward for an input of the wrong shape or a
            misaligned box.

    Example:
        >>> layer = SeparableGroupConv("O", 2, 3, 3, padding=1)
        >>> layer(torch.randn(1, 2, 24, 4, 4, 6)).shape
        torch.Size([1, 3, 24, 4, 4, 6])

    Source: Knigge, Romero & Bekkers, Exploiting Redundancy: Separable Group Convolutional Networks on Lie Groups,
    ICML 2022; Lengyel & van Gemert, Exploiting Learned Symmetries in Group Equivariant Convolutions, ICIP 2021.
    """

    backends = (*GridModule.backends, "exact")

    bias: nn.Parameter | None
    group_table: Tensor
    spatial_table: Tensor
    inverse: Tensor

    def __init__(
        self,
        group: GroupLike,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        variant: str = "pointwise_first",
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
            backend=backend,
            allow_misaligned=allow_misaligned,
        )
        if variant not in VARIANTS:
            raise ValueError(f"unknown variant {variant!r}; there are {', '.join(map(repr, VARIANTS))}")
        self.variant = variant
        o, i, k = out_channels, in_channels, (kernel_size,) * self.dim
        lead = {"pointwise_first": (o,), "depthwise_first": (i,), "per_pair": (o, i)}[variant]
        self.group_weight = nn.Parameter(torch.empty((o, i, self.order), device=device, dtype=dtype))
        self.spatial_weight = nn.Parameter(torch.empty((*lead, *k), device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(o, device=device, dtype=dtype)) if bias else None
        self._register_tables(device)
        self.reset_parameters()

    def group_axes(self) -> dict[str, int]:
        """The group factor."""
        return {"group_weight": 2}

    def tables(self) -> dict[str, IntArray]:
        """Index of g^-1 h, of g^-1 t and of g^-1; for the exact backend also the tables of its dense step."""
        taps, exact = tap_table(self.group, self.kernel_size), {}
        if self.backend == "exact":
            size = self.kernel_size if self.variant == "per_pair" else 1
            exact = dict(zip(_EXACT, exact_tables(self.group, size, regular=True).values(), strict=True))
        return {"group_table": regular_table(self.group), "spatial_table": taps, "inverse": self.group.inv, **exact}

    def reset_parameters(self) -> None:
        """Draw weights that keep the variance of white noise; the bias starts at zero.

        The fans multiply: cin |G| terms in the group step, k^d in the spatial step, in every variant.
        """
        uniform_with_variance(self.group_weight, 1 / (self.in_channels * self.order))
        uniform_with_variance(self.spatial_weight, 1 / self.kernel_size**self.dim)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def factorised_weight(self) -> Tensor:
        """The weight [o, i, u, *k] of the `GroupConv` that is this layer, differentiable."""
        return self.factorised_weight_of(self.group_weight)

    def factorised_weight_of(self, group_weight: Tensor) -> Tensor:
        """`factorised_weight` of this group factor [o, i, u]."""
        a = group_weight.view(*group_weight.shape, *(1,) * self.dim)
        if self.variant == "pointwise_first":
            return a * self.spatial_weight[:, None, None]
        if self.variant == "per_pair":
            return a * self.spatial_weight[:, :, None]
        # Tap t of element h is t' = g^-1 t of u = g^-1 h: h^-1 t = u^-1 t'.
        return a * self._spatial_bank().view(1, self.in_channels, self.order, *(self.kernel_size,) * self.dim)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, |G|, *space] to [B, out_channels, |G|, *space]."""
        self.check_input(x, (self.order,))
        if self.backend in ("reference", "exact"):
            y = self.reference(x) if self.backend == "reference" else self.exact(x)
            return y if self.bias is None else y + self.bias.view(-1, *(1,) * (1 + self.dim))
        bias, x = self._dense_bias(), x.flatten(1, 2)
        if self.variant == "pointwise_first":
            y = self._depthwise_step(convolve(x, self._group_bank(), None, 1, 0, "zeros"), bias)
        elif self.variant == "depthwise_first":
            y = convolve(self._depthwise_step(x, None), self._group_bank(), bias, 1, 0, "zeros")
        else:
            y = self.spatial_step(x, self._pair_bank(), bias, 1)
        return y.view(y.shape[0], self.out_channels, self.order, *y.shape[2:])

    def fold(self) -> nn.Module:
        """This layer as plain torch convolutions, channels and group flattened, for inference and export.

        Returns:
            A Sequential of a pointwise and a depthwise convolution in the order of the variant; one dense convolution
            for "per_pair". All own copies of the expanded weights.
        """
        bias = self._dense_bias()
        if self.variant == "per_pair":
            return self.spatial_module(self._pair_bank(), bias, 1)
        first = self.variant == "pointwise_first"
        mix = dense_conv(self._group_bank(), None if first else bias, 1, 0, "zeros")
        bank = self._spatial_bank()
        depthwise = self.spatial_module(bank, bias if first else None, len(bank))
        return nn.Sequential(mix, depthwise) if first else nn.Sequential(depthwise, mix)

    def reference(self, x: Tensor) -> Tensor:
        """The formulas of the class description, one after the other, without bias."""
        return self.reference_of(x, self.group_weight)

    def reference_of(self, x: Tensor, a: Tensor) -> Tensor:
        """`reference` with this group factor [o, i, u]."""
        s, group = self.spatial_weight, self.group
        if self.variant == "pointwise_first":
            return self.spatial_reference(reference.depthwise, reference.pointwise(x, a, group), s)
        if self.variant == "depthwise_first":
            return reference.pointwise(self.spatial_reference(reference.depthwise, x, s), a, group)
        return self.spatial_reference(reference.pairwise, x, a, s)

    def exact(self, x: Tensor) -> Tensor:
        """The steps in canonical order, without bias."""
        a, s = self.group_weight[..., None], self.spatial_weight
        tables = [self.get_buffer(name) for name in _EXACT]
        if self.variant == "per_pair":
            return self.spatial_exact(x, self.factorised_weight().flatten(3), tables)
        mix: dict[str, Any] = {"size": 1, "stride": 1, "padding": 0, "mode": "zeros"}
        if self.variant == "pointwise_first":
            return self.depthwise_exact(exact_convolution(x, a, tables, **mix), s, tables[0])
        return exact_convolution(self.depthwise_exact(x, s, tables[0]), a, tables, **mix)

    def spatial_step(self, x: Tensor, bank: Tensor, bias: Tensor | None, groups: int) -> Tensor:
        """The dense or depthwise convolution of a bank [out, in / groups, *k] in this layer's geometry."""
        return convolve(x, bank, bias, self.stride, self.padding, self.padding_mode, groups=groups)

    def spatial_module(self, bank: Tensor, bias: Tensor | None, groups: int) -> nn.Module:
        """`spatial_step` as a torch module that owns its weights."""
        return dense_conv(bank, bias, self.stride, self.padding, self.padding_mode, groups=groups)

    def spatial_reference(self, formula: Callable[..., Tensor], x: Tensor, *weights: Tensor) -> Tensor:
        """A formula of `reference` in this layer's geometry."""
        return formula(x, *weights, self.group, **self.geometry())

    def spatial_exact(self, x: Tensor, weight: Tensor, tables: Sequence[Tensor]) -> Tensor:
        """The canonical convolution in this layer's geometry."""
        return exact_convolution(x, weight, tables, size=self.kernel_size, **self.geometry())

    def depthwise_exact(self, x: Tensor, s: Tensor, elements: Tensor) -> Tensor:
        """The canonical depthwise convolution in this layer's geometry."""
        return exact_depthwise(x, s, elements, **self.geometry())

    def expanded_group_weight(self) -> Tensor:
        """a_oi(g^-1 h) as [o, g, i, h]."""
        return expand(self.group_weight, self.group_table, self.inverse)

    def extra_repr(self) -> str:
        """The arguments, as torch's own layers print them."""
        return f"{super().extra_repr()}, variant={self.variant}"

    def _depthwise_step(self, x: Tensor, bias: Tensor | None) -> Tensor:
        bank = self._spatial_bank()
        return self.spatial_step(x, bank, bias, len(bank))

    def _group_bank(self) -> Tensor:
        """A[(o, g), (i, h), 1] = a_oi(g^-1 h)."""
        bank = self.expanded_group_weight().flatten(2, 3).flatten(0, 1)
        return bank.view(*bank.shape, *(1,) * self.dim)

    def _spatial_bank(self) -> Tensor:
        """S[(c, g), 1, t] = s_c(g^-1 t) for the channels that the depthwise step sees."""
        bank = expand(self.spatial_weight.flatten(1)[:, None], self.spatial_table, self.inverse)
        return bank.view(-1, 1, *(self.kernel_size,) * self.dim)

    def _pair_bank(self) -> Tensor:
        """W[(o, g), (i, h), t] = a_oi(g^-1 h) s_oi(g^-1 t)."""
        s = expand(self.spatial_weight.flatten(2), self.spatial_table, self.inverse)
        bank = self.expanded_group_weight()[..., None] * s[:, :, :, None]
        return bank.view(self.out_channels * self.order, -1, *(self.kernel_size,) * self.dim)

    def _dense_bias(self) -> Tensor | None:
        return None if self.bias is None else self.bias[:, None].expand(-1, self.order).flatten().contiguous()
