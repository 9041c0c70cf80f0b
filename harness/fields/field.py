"""Fields: what a tensor means. A domain (where it lives), a fibre (how its channels mix), a group that moves both."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from ..errors import UsageError
from ..symmetry.groups import Element, Group
from ..symmetry.groups import group as as_group
from ..symmetry.representations import Fibre, Representation
from ..symmetry.representations import fibre as as_fibre
from .domains import Domain, Points, Vector
from .library_types import read_type


@dataclass(frozen=True, repr=False)
class Invariant:
    """A leaf that no element moves: scalars, index tensors, labels. Any shape [batch, ...], any dtype.

    Args:
        shape: of one sample; where it is left out, inputs must be given.
        integers: draw integers below this (or in this half-open range) in place of white noise.
        at: a domain of points that the first axis runs over: renumbering the points renumbers this leaf too.

    Example:
        >>> Invariant(at=Points(6), integers=(1, 10)).random(4, torch.Generator().manual_seed(0)).shape
        torch.Size([4, 6])
    """

    shape: tuple[int, ...] | None = None
    _: KW_ONLY
    integers: int | tuple[int, int] | None = None
    at: Points | None = None

    def random(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Integers or white noise [count, *shape].

        Raises:
            UsageError: the leaf does not know its shape.
        """
        shape = (self.at.count,) if self.shape is None and self.at is not None else self.shape
        if shape is None:
            raise UsageError(
                f"{self} has no shape to draw inputs from: pass inputs=, a tree of tensors like the source, "
                "or say the shape of one sample, Invariant((6,))."
            )
        if self.integers is None:
            return torch.randn(count, *shape, generator=generator, dtype=torch.float64)
        low, high = self.integers if isinstance(self.integers, tuple) else (0, self.integers)
        return torch.randint(low, high, (count, *shape), generator=generator)

    def act(self, g: object, x: torch.Tensor) -> torch.Tensor:
        """The tensor itself."""
        return x

    def exact(self, g: object) -> bool:
        """Always: nothing moves."""
        return True

    def permutes(self, g: object) -> bool:
        """Whether g only moves values around: nothing moves."""
        return True

    def summands(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, 1, values]: an invariant leaf is one summand."""
        return x.reshape(len(x), 1, -1)

    def require_fit(self, x: torch.Tensor, what: str) -> Invariant:
        """Any tensor with a batch axis fits."""
        if x.dim() == 0:
            raise UsageError(f"{what} is a single number: return one value per sample, shape [batch] or [batch, ...].")
        return self

    def permuted_fibre(self, x: torch.Tensor) -> None:
        """None: there is no fibre to permute."""

    def __repr__(self) -> str:
        named = {"shape": self.shape, "integers": self.integers, "at": self.at}
        return f"Invariant({', '.join(f'{k}={v}' for k, v in named.items() if v is not None)})"


@dataclass(frozen=True, init=False, eq=False, repr=False)
class Field:
    """A field on a domain with values in a fibre, moved by a group: (g f)(X) = rho(g) f(g^-1 X).

    Args:
        domain: Grid(h, w), Grid(d, h, w), Sphere(b), Rotations(b), Points(n), Edges(m) or Vector().
        group: a group or its name; may be left out where ``fibre`` is a library's own type that knows it.
        fibre: a sum such as "3*trivial + 8*regular", a ``Fibre``, or a library's type (an escnn ``FieldType``).
        split: whether drawn tensors keep copies and components on axes of their own, [batch, 8, |G|, *domain] for
            "8*regular" (the project's kernels), instead of one channel axis (escnn). Both layouts can be moved.

    Raises:
        UsageError: group and domain have different dimensions, or the fibre cannot be read.

    Example:
        >>> import torch
        >>> from equiharness import Grid
        >>> field = Field(Grid(5, 5), "C4", "3*trivial + 2*regular")
        >>> field.act(1, torch.zeros(1, 11, 5, 5)).shape
        torch.Size([1, 11, 5, 5])
    """

    domain: Domain
    group: Group
    fibre: Fibre
    split: bool

    def __init__(
        self,
        domain: Domain,
        group: str | Group | ArrayLike | None = None,
        fibre: str | Fibre | object = "trivial",
        *,
        split: bool = False,
    ) -> None:
        if not isinstance(domain, Domain):
            raise UsageError(f"The first argument of Field is a domain such as Grid(33, 33), not {domain!r}.")
        if not isinstance(fibre, (str, Fibre)):
            group, fibre = read_type(fibre, as_group(group) if group is not None else None)
        if group is None:
            raise UsageError("Field needs a group: Field(Grid(33, 33), 'C4', '8*regular').")
        object.__setattr__(self, "domain", domain)
        object.__setattr__(self, "split", split)
        object.__setattr__(self, "group", as_group(group))
        object.__setattr__(self, "fibre", as_fibre(fibre, self.group))
        domain.accept(self.group)

    def __repr__(self) -> str:
        return f"Field({self.domain}, {shown(self.group)}, {str(self.fibre)!r}{', split=True' * self.split})"

    def __str__(self) -> str:
        return repr(self)

    def exact(self, g: object) -> bool:
        """Whether the action of g needs no interpolation."""
        return self.domain.exact(self.group.element(g))

    def permutes(self, g: object) -> bool:
        """Whether g only moves values around: then it is exact in every dtype."""
        element = self.group.element(g)
        mixes = (rep.permutation(element) is None for _, rep in self.fibre.terms)
        return self.domain.permutes(element) and not any(mixes)

    def act(self, g: object, x: torch.Tensor) -> torch.Tensor:
        """Move a tensor by g: points by g, channels by rho(g). Exact where ``exact(g)`` says so.

        On grids exact elements permute; on Sphere and Rotations they act on the band, so that the identity projects.

        Args:
            g: an Element, an index into the group, or a matrix.
            x: [batch, *channels, *domain] ([batch, n, channels] on Points), any dtype; the result keeps it.

        Raises:
            UsageError: the tensor does not fit the field, or the group lacks the element.
        """
        element = self.group.element(g)
        self.require_fit(x, "The tensor")
        moved = self.domain.move(element, x)
        return self.domain.as_given(self._mix_channels(element, self.domain.channels_first(moved)), moved)

    def project(self, x: torch.Tensor) -> torch.Tensor:
        """The part of a tensor that the group acts on: the band of a spherical signal, elsewhere the tensor itself.

        Raises:
            UsageError: a spherical signal that does not fit the field.
        """
        if self.domain.band is None:
            return x
        self.require_fit(x, "The tensor")
        return self.domain.band.project(x)

    @property
    def band_limited(self) -> bool:
        """Whether the group acts on a part of the tensors only."""
        return self.domain.band is not None

    def move_points_alone(self, g: object, x: torch.Tensor) -> torch.Tensor | None:
        """What g would do if the channels were scalars: points moved, fibres left. None where that is all g does."""
        if isinstance(self.domain, Vector) or all(rep.name == "trivial" for _, rep in self.fibre.terms):
            return None
        return self.domain.move(self.group.element(g), x)

    def _mix_channels(self, g: Element, x: torch.Tensor) -> torch.Tensor:
        """rho(g) on axis 1, block by block."""
        if g.is_identity or all(rep.name == "trivial" for _, rep in self.fibre.terms):
            return x
        parts, start = [], 0
        for count, rep in self.fibre.terms:
            part = x.narrow(1, start, count * rep.dim).unflatten(1, (count, rep.dim))
            start += count * rep.dim
            parts.append(_apply(rep, g, part).flatten(1, 2))
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

    def permuted_fibre(self, x: torch.Tensor) -> torch.Tensor | None:
        """The tensor with the components of every fibre block cyclically shifted; None where blocks are single."""
        if all(rep.dim == 1 for _, rep in self.fibre.terms):
            return None
        index: list[int] = []
        for rep in self.fibre.blocks:
            index += [len(index) + (i + 1) % rep.dim for i in range(rep.dim)]
        return self.domain.as_given(self.domain.channels_first(x)[:, index], x)

    def summands(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, summand, values]: one row for each block of the fibre, zero-padded where blocks differ in size."""
        y = self.domain.channels_first(x)
        if len({rep.dim for _, rep in self.fibre.terms}) == 1:
            return y.reshape(len(y), -1, self.fibre.terms[0][1].dim * math.prod(y.shape[2:]))
        blocks = y.split([rep.dim for rep in self.fibre.blocks], 1)
        rows = torch.zeros(len(y), len(blocks), max(b[0].numel() for b in blocks), dtype=y.dtype, device=y.device)
        for i, block in enumerate(blocks):
            rows[:, i, : block[0].numel()] = block.flatten(1)
        return rows

    @property
    def weights(self) -> torch.Tensor | None:
        """Weights of one channel's values, of mean 1, in which the action is orthogonal; None where all are 1."""
        band = self.domain.band
        if band is None:
            return None
        rings, *angles = self.domain.axes
        return (band.weights * rings).repeat_interleave(math.prod(angles))

    def gradient(self, by_values: torch.Tensor) -> torch.Tensor:
        """A gradient by the values of a tensor of this field, as the gradient in the inner product of ``norm``."""
        if self.weights is None:
            return by_values
        flat = self.domain.channels_first(by_values).flatten(2)
        return (flat / self.weights.to(flat)).reshape(by_values.shape)

    def norm(self, x: torch.Tensor) -> float:
        """Size of a tensor in the norm that the action keeps."""
        if self.weights is None:
            return float(torch.linalg.vector_norm(x.detach()))
        values = self.domain.channels_first(x.detach()).flatten(2).double()
        return float((values.square() @ self.weights.to(values)).sum().sqrt())

    def random(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Noise [count, channels, *domain], float64: white on grids, on the band of spherical signals."""
        return self.domain.noise(count, self._channel_axes(), generator)

    def tensor_shape(self, count: int) -> tuple[int, ...]:
        """Shape of a batch that is drawn for this field."""
        return self.domain.tensor_shape(count, self._channel_axes())

    def _channel_axes(self) -> tuple[int, ...]:
        if self.split and len(self.fibre.terms) == 1 and self.fibre.terms[0][1].dim > 1:
            return (self.fibre.terms[0][0], self.fibre.terms[0][1].dim)
        return (self.fibre.size,)

    def require_fit(self, x: torch.Tensor, what: str) -> Field:
        """This field, on a permuted box where the tensor has one.

        Raises:
            UsageError: number of channels or domain sizes differ.
        """
        found = self.domain.fitted(x)
        if found is None or found[1] != self.fibre.size:
            want = ["batch", *self.tensor_shape(1)[1:]]
            raise UsageError(
                f"{what} has shape {list(x.shape)}, which does not fit {self}: expected [{', '.join(map(str, want))}]. "
                f"Change the fibre's multiplicities or the domain's sizes to those of the tensor."
            )
        return self if found[0] is self.domain else replace_domain(self, found[0])

    def integral(self, x: torch.Tensor) -> torch.Tensor:
        """Invariant part [batch, blocks]: integral over the domain, then the invariant functional of each block.

        Raises:
            UsageError: no block of the fibre has an invariant.
        """
        return self._pool_blocks(self.domain.mean(self.domain.channels_first(x)))

    def naive_mean(self, x: torch.Tensor) -> torch.Tensor:
        """What is mistaken for the integral: the domain's naive mean, and the group not pooled."""
        first = np.cumsum([0, *(rep.dim for rep in self.fibre.blocks)])[:-1]
        return self.domain.naive_mean(self.domain.channels_first(x)[:, first])

    @property
    def has_integral(self) -> bool:
        """Whether some block of the fibre has an invariant."""
        return any(rep.invariant is not None for _, rep in self.fibre.terms)

    @property
    def is_integral(self) -> bool:
        """Whether every block of the fibre has an invariant, so that integrating loses none."""
        return all(rep.invariant is not None for _, rep in self.fibre.terms)

    def _pool_blocks(self, means: torch.Tensor) -> torch.Tensor:
        pooled = [
            block @ torch.as_tensor(rep.invariant, dtype=means.dtype, device=means.device)
            for rep, block in zip(self.fibre.blocks, means.split([r.dim for r in self.fibre.blocks], 1), strict=True)
            if rep.invariant is not None
        ]
        if not pooled:
            raise UsageError(f"{self} has no invariant part to integrate.")
        return torch.stack(pooled, 1)


def shown(group: Group) -> str:
    """A group as a field's repr names it: a known name in quotes, else the expression that makes the group."""
    return repr(group.name) if group.is_named else repr(group)


def replace_domain(field: Field, domain: Domain) -> Field:
    """The same fibre and group on another domain."""
    return Field(domain, field.group, field.fibre, split=field.split)


def _apply(rep: Representation, g: Element, x: torch.Tensor) -> torch.Tensor:
    """rho(g) on axis 2 of [batch, copies, dim, ...]: a gather for permutations, a small product otherwise."""
    permutation = rep.permutation(g)
    if permutation is not None:
        return x.index_select(2, torch.as_tensor(permutation, device=x.device))
    matrix = torch.as_tensor(np.ascontiguousarray(rep.of(g)), dtype=x.dtype, device=x.device)
    return torch.einsum("ij,bcj...->bci...", matrix, x)


AnyField = Field | Invariant
Act = Callable[[Any, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Acted:
    """The escape hatch: a leaf whose action is a function (element, tensor) -> tensor."""

    function: Act

    def permuted_fibre(self, x: torch.Tensor) -> None:
        """None: there is no fibre to permute."""

    def act(self, g: object, x: torch.Tensor) -> torch.Tensor:
        """The function's own result."""
        return self.function(g, x)

    def random(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Not possible: a function has no shape."""
        raise UsageError(f"{self} has no shape to draw inputs from: pass inputs=, a tree of tensors like the source.")

    def exact(self, g: object) -> bool:
        """Assumed true; the homomorphism property verifies it."""
        return True

    def permutes(self, g: object) -> bool:
        """Unknown of a function, so no."""
        return False

    def summands(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, 1, values]."""
        return x.reshape(len(x), 1, -1)

    def require_fit(self, x: torch.Tensor, what: str) -> Acted:
        """Any tensor fits."""
        return self

    def __str__(self) -> str:
        return getattr(self.function, "__name__", "a function")
