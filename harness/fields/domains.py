"""Domains: where a signal lives, how an element moves its points, and how one integrates over it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from ..errors import UsageError
from ..symmetry.groups import Element, Group
from ..symmetry.harmonics import Band
from ..symmetry.interpolation import interpolate_grid, permute_grid, permuted_shape


@dataclass(frozen=True)
class Domain:
    """Where a signal lives. Subclasses say where its axes stand and how an element moves its points."""

    #: Dimension of the groups that move its points; None where any group may act, on the fibre alone.
    dim: ClassVar[int | None] = None

    @property
    def axes(self) -> tuple[int, ...]:
        """Lengths of the domain's own axes, the last ones of a tensor."""
        return ()

    def channels_first(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, channels, *domain], the channel axes flattened."""
        lead = x.dim() - len(self.axes)
        return x if lead == 2 else x.flatten(1, lead - 1)

    def as_given(self, y: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """The inverse of ``channels_first``: in the layout of ``like``."""
        return y.reshape(like.shape) if y.shape != like.shape else y

    def accept(self, group: Group) -> None:
        """Nothing to object to.

        Raises:
            UsageError: the group cannot act on this domain.
        """
        if self.dim is not None and self.dim != group.dim:
            raise UsageError(
                f"{group.name} acts on {group.dim} axes and {self} has {self.dim}: "
                f"take a group of the {'plane' if self.dim == 2 else 'space'} or another domain, such as another grid."
            )

    def exact(self, g: Element) -> bool:
        """Whether the element moves the points without interpolation."""
        return True

    def permutes(self, g: Element) -> bool:
        """Whether the element only moves values around."""
        return self.exact(g)

    def move(self, g: Element, x: torch.Tensor) -> torch.Tensor:
        """(L_g f)(X) = f(g^-1 X) on every channel, in the tensor's own layout."""
        return x

    def axes_after(self, g: Element) -> tuple[int, ...]:
        """Lengths of the axes once g has moved the points: two elements can be compared only where these agree."""
        return self.axes

    @property
    def band(self) -> Band | None:
        """The space of signals that the group acts on, where it is not that of all tensors."""
        return None

    def mean(self, y: torch.Tensor) -> torch.Tensor:
        """Integral of total mass 1 over the domain: [batch, channels] of a ``channels_first`` tensor."""
        return y.flatten(2).mean(-1) if y.dim() > 2 else y

    def naive_mean(self, y: torch.Tensor) -> torch.Tensor:
        """What is mistaken for the integral: a window of space that misses the last row."""
        window = tuple(slice(0, max(1, n - 1)) for n in y.shape[2:])
        return y[(slice(None), slice(None), *window)].flatten(2).mean(-1) if window else y

    def tensor_shape(self, count: int, channels: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of a batch of ``count`` samples."""
        return (count, *channels, *self.axes)

    def noise(self, count: int, channels: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
        """White noise, float64."""
        return torch.randn(self.tensor_shape(count, channels), generator=generator, dtype=torch.float64)

    def fitted(self, x: torch.Tensor) -> tuple[Domain, int] | None:
        """The domain as a tensor has it (a box may be a permuted one) and its channels; None where it does not fit."""
        lead = x.dim() - len(self.axes)
        if lead < 2 or tuple(x.shape[lead:]) != self.axes:
            return None
        return self, x.shape[1:lead].numel()

    def resized(self, factor: float) -> Domain:
        """The same domain at about ``factor`` times its resolution."""
        return self


@dataclass(frozen=True, init=False, repr=False)
class Grid(Domain):
    """A box of pixels or voxels: ``Grid(h, w)`` or ``Grid(d, h, w)``, points at i - (n - 1)/2 on each axis.

    Tensors are [batch, *channels, *shape]; several channel axes (fields, group) count as one, row-major.
    """

    shape: tuple[int, ...]

    def __init__(self, *shape: int) -> None:
        if len(shape) not in (2, 3) or any(not isinstance(n, int) or n < 1 for n in shape):
            raise UsageError(f"Grid takes two or three positive sizes, for example Grid(33, 33); got {shape}.")
        object.__setattr__(self, "shape", shape)

    def __repr__(self) -> str:
        return f"Grid({', '.join(map(str, self.shape))})"

    @property
    def dim(self) -> int:  # type: ignore[override]
        """Number of spatial axes."""
        return len(self.shape)

    @property
    def axes(self) -> tuple[int, ...]:
        """The sizes."""
        return self.shape

    def exact(self, g: Element) -> bool:
        """True for signed permutations."""
        return g.is_signed_permutation

    def move(self, g: Element, x: torch.Tensor) -> torch.Tensor:
        """A permutation of pixels where g is a grid symmetry, interpolation elsewhere.

        Raises:
            UsageError: an oblong box that g rotates out of itself.
        """
        if g.is_identity:
            return x
        if g.is_signed_permutation:
            return permute_grid(g.matrix, x)
        if len(set(self.shape)) > 1:
            raise UsageError(f"{g} rotates {self} out of itself: take a square or cubic grid for it.")
        return interpolate_grid(g.matrix, x)

    def axes_after(self, g: Element) -> tuple[int, ...]:
        """The permuted sizes."""
        return permuted_shape(g.matrix, self.shape) if g.is_signed_permutation else ()

    def fitted(self, x: torch.Tensor) -> tuple[Domain, int] | None:
        """A box with these sizes in any order fits."""
        lead = x.dim() - self.dim
        space = tuple(x.shape[lead:])
        if lead < 2 or sorted(space) != sorted(self.shape):
            return None
        return self if space == self.shape else Grid(*space), x.shape[1:lead].numel()

    def resized(self, factor: float) -> Grid:
        """The same physical box with ``factor`` times as many intervals (odd sizes) or points (even sizes)."""
        return Grid(*(max(2, round((n - n % 2) * factor) + n % 2) for n in self.shape))


@dataclass(frozen=True, repr=False)
class Points(Domain):
    """n points of a cloud: tensors [batch, n, channels]. The group moves the fibre, not the numbering."""

    count: int

    def __repr__(self) -> str:
        return f"Points({self.count})"

    def channels_first(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, channels, n]."""
        return x.movedim(-1, 1)

    def as_given(self, y: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """[batch, n, channels]."""
        return y.movedim(1, -1)

    def tensor_shape(self, count: int, channels: tuple[int, ...]) -> tuple[int, ...]:
        """[batch, n, channels], the channel axes flattened."""
        return (count, self.count, torch.Size(channels).numel())

    def fitted(self, x: torch.Tensor) -> tuple[Domain, int] | None:
        """Three axes, the middle one the points."""
        return (self, x.shape[-1]) if x.dim() == 3 and x.shape[1] == self.count else None


@dataclass(frozen=True, repr=False)
class Edges(Points):
    """m edges of a graph of points: tensors [batch, m, channels]. Renumbering the points leaves the list as it is."""

    def __repr__(self) -> str:
        return f"Edges({self.count})"


@dataclass(frozen=True, repr=False)
class Vector(Domain):
    """No domain left: tensors [batch, *channels]."""

    def __repr__(self) -> str:
        return "Vector()"

    def fitted(self, x: torch.Tensor) -> tuple[Domain, int] | None:
        """Any tensor with a batch and a channel axis."""
        return (self, x.shape[1:].numel()) if x.dim() >= 2 else None
