"""Domains: the space that a signal is defined on, the action of an element on its points, and its integral."""

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
    """The space that a signal is defined on. Subclasses define its tensor axes and the action on its points."""

    #: Dimension of the groups that move its points; None where any group may act, because it acts on the fibre only.
    dim: ClassVar[int | None] = None

    @property
    def axes(self) -> tuple[int, ...]:
        """Lengths of the domain's axes, which are the last axes of a tensor."""
        return ()

    def channels_first(self, x: torch.Tensor) -> torch.Tensor:
        """The tensor as [batch, channels, *domain], with flattened channel axes."""
        lead = x.dim() - len(self.axes)
        return x if lead == 2 else x.flatten(1, lead - 1)

    def as_given(self, y: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """The inverse of ``channels_first``: the tensor in the layout of ``like``."""
        return y.reshape(like.shape) if y.shape != like.shape else y

    def accept(self, group: Group) -> None:
        """Require that the group can act on this domain.

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
        """Whether the element only permutes the values of a tensor."""
        return self.exact(g)

    def move(self, g: Element, x: torch.Tensor) -> torch.Tensor:
        """(L_g f)(X) = f(g^-1 X) on every channel, in the tensor's own layout."""
        return x

    def axes_after(self, g: Element) -> tuple[int, ...]:
        """Lengths of the axes after g has moved the points. Results of two elements are comparable if these agree."""
        return self.axes

    @property
    def band(self) -> Band | None:
        """The space of signals that the group acts on; None if it is the space of all tensors."""
        return None

    def mean(self, y: torch.Tensor) -> torch.Tensor:
        """Integral of total mass 1 over the domain: [batch, channels] of a ``channels_first`` tensor."""
        return y.flatten(2).mean(-1) if y.dim() > 2 else y

    def naive_mean(self, y: torch.Tensor) -> torch.Tensor:
        """A common wrong integral, as a control: the mean over a window that misses the last row."""
        window = tuple(slice(0, max(1, n - 1)) for n in y.shape[2:])
        return y[(slice(None), slice(None), *window)].flatten(2).mean(-1) if window else y

    def tensor_shape(self, count: int, channels: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of a batch of ``count`` samples."""
        return (count, *channels, *self.axes)

    def noise(self, count: int, channels: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
        """White noise, float64."""
        return torch.randn(self.tensor_shape(count, channels), generator=generator, dtype=torch.float64)

    def fitted(self, x: torch.Tensor) -> tuple[Domain, int] | None:
        """The domain of a tensor (a box may have permuted sizes) and its number of channels; None without a fit."""
        lead = x.dim() - len(self.axes)
        if lead < 2 or tuple(x.shape[lead:]) != self.axes:
            return None
        return self, x.shape[1:lead].numel()

    def resized(self, factor: float) -> Domain:
        """The same domain at about ``factor`` times its resolution."""
        return self


@dataclass(frozen=True, init=False, repr=False)
class Grid(Domain):
    """A box of pixels or voxels: ``Grid(h, w)`` or ``Grid(d, h, w)``, with points at i - (n - 1)/2 on each axis.

    Tensors are [batch, *channels, *shape]. Several channel axes (fields, group) count as one row-major axis.
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
            UsageError: the box is oblong and g does not map it to a box.
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
        """A tensor fits if its box has these sizes in any order."""
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
    """n points of a cloud: tensors [batch, n, channels]. The group acts on the fibre and keeps the numbering."""

    count: int

    def __repr__(self) -> str:
        return f"Points({self.count})"

    def channels_first(self, x: torch.Tensor) -> torch.Tensor:
        """The tensor as [batch, channels, n]."""
        return x.movedim(-1, 1)

    def as_given(self, y: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """The tensor as [batch, n, channels]."""
        return y.movedim(1, -1)

    def tensor_shape(self, count: int, channels: tuple[int, ...]) -> tuple[int, ...]:
        """[batch, n, channels], with flattened channel axes."""
        return (count, self.count, torch.Size(channels).numel())

    def fitted(self, x: torch.Tensor) -> tuple[Domain, int] | None:
        """A tensor fits if it has three axes, and the middle axis has one entry for each point."""
        return (self, x.shape[-1]) if x.dim() == 3 and x.shape[1] == self.count else None


@dataclass(frozen=True, repr=False)
class Edges(Points):
    """m edges of a graph of points: tensors [batch, m, channels]. Renumbering the points keeps the order of edges."""

    def __repr__(self) -> str:
        return f"Edges({self.count})"


@dataclass(frozen=True, repr=False)
class Vector(Domain):
    """A domain of one point, without axes: tensors [batch, *channels]."""

    def __repr__(self) -> str:
        return "Vector()"

    def fitted(self, x: torch.Tensor) -> tuple[Domain, int] | None:
        """Any tensor with a batch axis and a channel axis fits."""
        return (self, x.shape[1:].numel()) if x.dim() >= 2 else None
