"""Relaxed group convolutions: a sum of filter banks whose mixture may depend on the element.

y(X, g) = sum_l r_l(g) c_l(X, g), c_l the convolution with bank l. With r constant in g the layer is equivariant; what
it learns of the differences says which symmetry the data break, and how much.
"""

from typing import Any

import torch
from torch import Tensor, nn

from . import reference
from .conv import GridConv, GridModule
from .exact import TABLES, exact_convolution, exact_tables, spread
from .expansion import expand, joint_table, regular_table, tap_table
from .groups import GridGroup, GroupLike, IntArray


class Relaxed(nn.Module):
    """What relaxed layers share: their mixture [L, |G|], its regulariser, and what it breaks. No layer itself."""

    group: GridGroup
    relaxation: nn.Parameter
    quotients: Tensor

    def regulariser(self) -> Tensor:
        """sum_l sum_{g,h} abs(r_l(g) - r_l(h)): zero where the layer is equivariant; add a multiple to the loss.

        Source: Wang, Walters & Yu, Approximately Equivariant Networks for Imperfectly Symmetric Dynamics, ICML 2022.
        """
        differences: Tensor = (self.relaxation[:, :, None] - self.relaxation[:, None]).abs().sum()
        return differences

    def symmetry_breaking(self) -> Tensor:
        """How much each element is broken: the relative equivariance error that independent banks would have, [|G|].

            e(u)^2 = sum_{l,g} (r_l(u^-1 g) - r_l(g))^2 / sum_{l,g} r_l(g)^2

        f(L_u F) - L_u f(F) at g is sum_l (r_l(g) - r_l(u^-1 g)) c_l, and banks drawn independently give c_l that are
        uncorrelated and equally large. Drawn at random around 1 with a small spread, r gives sqrt(2) std(r).

        Example:
            >>> layer = RelaxedLiftingConv("C2", 1, 1, 3)
            >>> layer.symmetry_breaking().tolist()
            [0.0, 0.0]
        """
        difference = self.relaxation[:, self.quotients] - self.relaxation[:, None]
        broken: Tensor = (difference.square().sum((0, 2)) / self.relaxation.square().sum()).sqrt()
        return broken

    def mixed(self, y: Tensor) -> Tensor:
        """sum_l r_l(g) y_l(X, g): [B, L * o, |G|, *X], bank first, to [B, o, |G|, *X]."""
        count = len(self.relaxation)
        banks = y.view(y.shape[0], count, y.shape[1] // count, *y.shape[2:])
        # Adds in one order for all elements: equal mixtures keep what is equivariant to the last bit so.
        total: Tensor = banks.new_zeros(())
        for r, bank in zip(self.relaxation.to(y.dtype), banks.unbind(1), strict=True):
            total = total + r.view(-1, *(1,) * (y.dim() - 3)) * bank
        return total


class _RelaxedConv(Relaxed, GridConv):
    """A convolution with banks of filters. Its weight has them on a leading axis."""

    backends = (*GridModule.backends, "exact")

    def __init__(
        self, group: GroupLike, in_channels: int, out_channels: int, kernel_size: int, *, banks: int = 1, **options: Any
    ) -> None:
        self.banks = check_banks(banks)
        super().__init__(group, in_channels, out_channels, kernel_size, **options)
        self.relaxation = nn.Parameter(self.weight.new_ones((banks, self.order)))

    def _lead(self) -> tuple[int, ...]:
        return (self.banks,)

    def group_axes(self) -> dict[str, int]:
        """The relaxation, and the weight where the filter has an axis of group elements."""
        return {**super().group_axes(), "relaxation": 1}

    def reset_parameters(self) -> None:
        """Draw banks that together keep the variance of white noise; the mixture starts at one, the bias at zero."""
        super().reset_parameters()
        with torch.no_grad():
            self.weight.mul_(self.banks**-0.5)
        if hasattr(self, "relaxation"):
            nn.init.ones_(self.relaxation)

    def filter_bank(self) -> Tensor:
        """W[(o, g), (i, h), t] = sum_l r_l(g) w_loi(g^-1 (t, h)), differentiable."""
        lead = self.out_channels, self.in_channels
        flat = self.weight.reshape(self.banks * lead[0], lead[1], -1)
        copies = expand(flat, self.table, self.inverse)
        copies = copies.view(self.banks, lead[0], *copies.shape[1:])
        bank = (copies * self.relaxation[:, None, :, None, None]).sum(0)
        bank = bank.view(lead[0], self.order, lead[1], -1, *(self.kernel_size,) * self.dim)
        result: Tensor = bank.flatten(2, 3).flatten(0, 1)
        return result

    def exact(self, x: Tensor) -> Tensor:
        """Every bank in canonical order, then the mixture; without bias."""
        x = x if self.in_fibre else spread(x, self.order)
        weight = self.weight.reshape(self.banks * self.out_channels, self.in_channels, -1, self.kernel_size**self.dim)
        tables = [self.get_buffer(name) for name in TABLES]
        return self.mixed(exact_convolution(x, weight, tables, size=self.kernel_size, **self.geometry()))

    def tables(self) -> dict[str, IntArray]:
        """Index of g^-1 (h, t), of g^-1 and of u^-1 g."""
        table = tap_table(self.group, self.kernel_size)
        if self.in_fibre:
            table = joint_table(regular_table(self.group), table)
        exact = exact_tables(self.group, self.kernel_size, bool(self.in_fibre)) if self.backend == "exact" else {}
        return {"table": table, "inverse": self.group.inv, "quotients": regular_table(self.group), **exact}

    def extra_repr(self) -> str:
        """The arguments, as torch's own layers print them."""
        return f"{super().extra_repr()}, banks={self.banks}"


class RelaxedLiftingConv(_RelaxedConv):
    """G-equivariant for planes or volumes to group feature maps: exactly where the mixture r is constant in g.

    y_o(X, g) = b_o + sum_l r_l(g) sum_{i,t} w_loi(g^-1 t) x_i(X + t): L lifting convolutions, mixed apart for every
    element of the output. Else approximately: to about sqrt(2) std(r), see ``symmetry_breaking``.

    Args:
        group: as for `LiftingConv`.
        in_channels: channels of the input [B, in_channels, *space], any floating dtype.
        out_channels: channels of the output [B, out_channels, |G|, *space].
        kernel_size: k, odd or even, equal on all axes.
        banks: L.
        **options: stride, padding, padding_mode, bias, backend ("auto", "fast", "exact", "reference"),
            allow_misaligned, device and dtype as for `LiftingConv`; the weight is [l, o, i, *k], ``relaxation`` [l, g].

    Raises:
        ValueError: at construction for a wrong argument; at every forward for an input of the wrong shape or a
            misaligned box.

    Example:
        >>> layer = RelaxedLiftingConv("C4", 3, 8, 5, banks=2, padding=2)
        >>> layer(torch.randn(2, 3, 9, 7)).shape, layer.regulariser().item()
        (torch.Size([2, 8, 4, 9, 7]), 0.0)

    Source: Wang, Walters & Yu, Approximately Equivariant Networks for Imperfectly Symmetric Dynamics, ICML 2022; with
    the mixture on the output's element, Wang, Hofgard, Gao, Walters & Smidt, Discovering Symmetry Breaking in Physical
    Systems with Relaxed Group Convolution, ICML 2024.
    """

    def _fibres(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        return (), (self.order,), ()

    def reference(self, x: Tensor) -> Tensor:
        """The formula without bias, bank by bank."""
        terms = [reference.lifting(x, w, self.group, **self.geometry()) for w in self.weight]
        return self.mixed(torch.cat(terms, 1))


class RelaxedGroupConv(_RelaxedConv):
    """G-equivariant for group feature maps to group feature maps: exactly where the mixture r is constant in g.

    y_o(X, g) = b_o + sum_l r_l(g) sum_{i,h,t} w_loi(g^-1 t, g^-1 h) F_i(X + t, h): L regular convolutions, mixed apart
    for every element of the output. Else approximately: to about sqrt(2) std(r), see ``symmetry_breaking``.

    Args:
        group: as for `LiftingConv`.
        in_channels: channels of the input [B, in_channels, |G|, *space], any floating dtype.
        out_channels: channels of the output [B, out_channels, |G|, *space].
        kernel_size: k, odd or even, equal on all axes.
        banks: L.
        **options: stride, padding, padding_mode, bias, backend ("auto", "fast", "exact", "reference"),
            allow_misaligned, device and dtype as for `GroupConv`; the weight is [l, o, i, u, *k] and ``relaxation``
            [l, g].

    Raises:
        ValueError: at construction for a wrong argument; at every forward for an input of the wrong shape or a
            misaligned box.

    Example:
        >>> layer = RelaxedGroupConv("O", 2, 3, 3, banks=2, padding=1)
        >>> layer(torch.randn(1, 2, 24, 4, 3, 3)).shape
        torch.Size([1, 3, 24, 4, 3, 3])

    Source: as for `RelaxedLiftingConv`.
    """

    def _fibres(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        return (self.order,), (self.order,), (self.order,)

    def reference(self, x: Tensor) -> Tensor:
        """The formula without bias, bank by bank."""
        terms = [reference.regular(x, w, self.group, **self.geometry()) for w in self.weight]
        return self.mixed(torch.cat(terms, 1))


def check_banks(banks: int) -> int:
    """The number of banks.

    Raises:
        ValueError: it is not a positive integer.
    """
    if not isinstance(banks, int) or banks < 1:
        raise ValueError(f"banks must be an integer >= 1; got {banks!r}")
    return banks
