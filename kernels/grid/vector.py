"""Convolutions from vector fields to group feature maps, and back."""

from typing import Any

from torch import Tensor

from . import reference
from .conv import GridConv, GridModule
from .exact import TABLES, exact_convolution, exact_tables, orbit_sum, spread
from .expansion import joint_table, tap_table, vector_table
from .groups import GroupLike, IntArray


class _VectorConv(GridConv):
    """A filter whose fibre is a vector: moved by the signed permutation of its components and of its taps."""

    backends = (*GridModule.backends, "exact")

    signs: Tensor
    components: Tensor

    def tables(self) -> dict[str, IntArray]:
        """Index of g^-1 (a, t), of g^-1 a and its sign, and index of g^-1."""
        components, signs = vector_table(self.group)
        table = joint_table(components, tap_table(self.group, self.kernel_size))
        exact = exact_tables(self.group, self.kernel_size, regular=False) if self.backend == "exact" else {}
        return {"table": table, "inverse": self.group.inv, "signs": signs, "components": components, **exact}

    def _canonical(self, x: Tensor, weight: Tensor) -> Tensor:
        """Every element convolves its own signal: [B, c, |G|, *N] with [o, c, *k] to [B, o, |G|, *X]."""
        tables = [self.get_buffer(name) for name in TABLES]
        flat = weight.flatten(2).unsqueeze(2)
        return exact_convolution(x, flat, tables, size=self.kernel_size, **self.geometry())

    def _turned(self, x: Tensor, inverse: bool) -> Tensor:
        """M_g v(g) of vectors [B, c, d, |G|, *X], or M_g^-1 v(g): a signed permutation of axis 2 for every g."""
        index, signs = self.components, self.signs
        if inverse:
            index, signs = index[self.inverse], signs[self.inverse]
        ones = (1,) * self.dim
        moved = x.gather(2, index.T.reshape(1, 1, *index.T.shape, *ones).expand(x.shape))
        return moved * signs.T.reshape(*signs.T.shape, *ones).to(x.dtype)

    def _moved_filters(self) -> Tensor:
        """(M_g w_oi(g^-1 t))_a = (w_oi(g^-1 t) M_g^-1)_a as [o, g, i, a, *k]: M_g is orthogonal."""
        signs = self.signs.to(self.weight.dtype).view(1, self.order, 1, self.dim, *(1,) * self.dim)
        return self._expanded() * signs


class VectorLift(_VectorConv):
    """G-equivariant for vector fields to group feature maps: exactly for every element of the group.

    y_o(X, g) = b_o + sum_{i,a,t} w_oia(g^-1 t) (M_g^-1 v_i(X + t))_a, so that (L_u v)(x) = M_u v(u^-1 x) on the input
    becomes (L_u y)(X, g) = y(u^-1 X, u^-1 g) on the output. Exact for boxes with (N + 2p - k) mod s = 0 on every axis
    that an element reverses; approximately, to the offset of the grid, with ``allow_misaligned=True`` elsewhere.

    Args:
        group: name ("C2", "C4", "D4", "O", "Oh", ...), signed permutation matrices [|G|, d, d], or an object with
            such an ``elements`` array.
        in_channels: vector fields of the input [B, in_channels, d, *space], component a along array axis a.
        out_channels: channels of the output [B, out_channels, |G|, *space].
        kernel_size: k, odd or even, equal on all axes.
        stride: s, equal on all axes.
        padding: p on both sides of all axes.
        padding_mode: "zeros" or "circular".
        bias: whether to add b_o, shared over the group.
        backend: "auto" or "fast" (one dense convolution with the expanded filters), "exact" (canonical order:
            equivariant to the last bit, forward and for the gradient of the input), "reference" (the formula, slow).
        allow_misaligned: accept boxes that break the symmetry.
        device: of weight [o, i, a, *k] and bias [o].
        dtype: of weight and bias.

    Raises:
        ValueError: at construction for a wrong argument; at every forward for an input of the wrong shape or a
            misaligned box.

    Example:
        >>> import torch
        >>> velocity = torch.randn(2, 1, 3, 4, 4, 4)
        >>> VectorLift("O", 1, 8, 3, padding=1)(velocity).shape
        torch.Size([2, 8, 24, 4, 4, 4])

    Source: Cohen & Welling, Steerable CNNs, ICLR 2017, with the vector representation as input type.
    """

    def _fibres(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        return (self.dim,), (self.order,), (self.dim,)

    def filter_bank(self) -> Tensor:
        """W[(o, g), (i, b), t] = sum_a w_oia(g^-1 t) (M_g^-1)_ab, differentiable."""
        return self._moved_filters().flatten(2, 3).flatten(0, 1)

    def exact(self, x: Tensor) -> Tensor:
        """The layer in canonical order, without bias: every element gets the field in its own frame."""
        copies = spread(x.flatten(1, 2), self.order).unflatten(1, x.shape[1:3])
        return self._canonical(self._turned(copies, inverse=True).flatten(1, 2), self.weight.flatten(1, 2))

    def reference(self, x: Tensor) -> Tensor:
        """The formula without bias, by loops over g and t."""
        return reference.vector_lifting(x, self.weight, self.group, **self.geometry())


class VectorProjection(_VectorConv):
    """G-equivariant for group feature maps to vector fields: exactly for every element of the group.

    y_oa(X) = sum_{i,h,t} (M_h w_oi(h^-1 t))_a F_i(X + t, h), so that (L_u F)(x, h) = F(u^-1 x, u^-1 h) on the input
    becomes (L_u y)(X) = M_u y(u^-1 X) on the output. Exact for boxes with (N + 2p - k) mod s = 0 on every axis that an
    element reverses; approximately, to the offset of the grid, with ``allow_misaligned=True`` elsewhere.

    Args:
        group: name ("C2", "C4", "D4", "O", "Oh", ...), signed permutation matrices [|G|, d, d], or an object with
            such an ``elements`` array.
        in_channels: channels of the input [B, in_channels, |G|, *space], any floating dtype.
        out_channels: vector fields of the output [B, out_channels, d, *space], component a along array axis a.
        kernel_size: k, odd or even, equal on all axes.
        bias: must be False; a constant vector would point somewhere, and the group would have to turn it.
        **options: stride, padding, padding_mode, backend, allow_misaligned, device, dtype as for `VectorLift`; the
            weight is [o, i, a, *k].

    Raises:
        ValueError: at construction for a wrong argument or a bias; at every forward for an input of the wrong shape
            or a misaligned box.

    Example:
        >>> import torch
        >>> VectorProjection("C4", 8, 1, 3, padding=1)(torch.randn(2, 8, 4, 5, 7)).shape
        torch.Size([2, 1, 2, 5, 7])

    Source: Cohen & Welling, Steerable CNNs, ICLR 2017, with the vector representation as output type.
    """

    def __init__(
        self,
        group: GroupLike,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        bias: bool = False,
        **options: Any,
    ) -> None:
        if bias:
            raise ValueError("VectorProjection has no bias: a constant vector is not equivariant; use bias=False")
        super().__init__(group, in_channels, out_channels, kernel_size, bias=False, **options)

    def _fibres(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        return (self.order,), (self.dim,), (self.dim,)

    def filter_bank(self) -> Tensor:
        """W[(o, a), (i, h), t] = (M_h w_oi(h^-1 t))_a, differentiable."""
        moved = self._moved_filters()  # [o, h, i, a, *k]
        return moved.movedim(3, 1).transpose(2, 3).flatten(2, 3).flatten(0, 1)

    def exact(self, x: Tensor) -> Tensor:
        """The layer in canonical order: every element's vectors, turned out of its frame, summed without rounding."""
        y = self._canonical(x, self.weight.transpose(1, 2).flatten(0, 1))
        vectors = self._turned(y.unflatten(1, (self.out_channels, self.dim)), inverse=False)
        result: Tensor = orbit_sum(vectors.flatten(1, 2)).unflatten(1, (self.out_channels, self.dim))
        return result

    def reference(self, x: Tensor) -> Tensor:
        """The formula, by loops over t and h."""
        return reference.vector_projection(x, self.weight, self.group, **self.geometry())
