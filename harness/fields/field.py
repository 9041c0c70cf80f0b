"""Fields: the meaning of a tensor. A field has a domain (its points), a fibre (its channels) and a group that acts."""

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
from .library_types import is_irreps_text, read_type


@dataclass(frozen=True, repr=False)
class Invariant:
    """A leaf that no element changes: scalars, index tensors, labels. Any shape [batch, ...], any dtype.

    Args:
        shape: shape of one sample. Without a shape, inputs must be given.
        integers: draw integers below this number (or in this half-open range) instead of white noise.
        at: the points that the first axis runs over. A renumbering of the points then renumbers this leaf too.

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
            UsageError: the leaf has no shape.
        """
        shape = (self.at.count,) if self.shape is None and self.at is not None else self.shape
        if shape is None:
            raise UsageError(
                f"{self} has no shape to draw inputs from: pass inputs=, a tree of tensors like the source, "
                "or give the shape of one sample, Invariant((6,))."
            )
        if self.integers is None:
            return torch.randn(count, *shape, generator=generator, dtype=torch.float64)
        low, high = self.integers if isinstance(self.integers, tuple) else (0, self.integers)
        return torch.randint(low, high, (count, *shape), generator=generator)

    def act(self, g: object, x: torch.Tensor) -> torch.Tensor:
        """Return the tensor itself."""
        return x

    def exact(self, g: object) -> bool:
        """Always true: no value changes."""
        return True

    def permutes(self, g: object) -> bool:
        """Always true: no value changes."""
        return True

    def summands(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, 1, values]: an invariant leaf is one summand."""
        return x.reshape(len(x), 1, -1)

    def require_fit(self, x: torch.Tensor, what: str) -> Invariant:
        """Require a batch axis."""
        if x.dim() == 0:
            raise UsageError(f"{what} is a single number: return one value per sample, shape [batch] or [batch, ...].")
        return self

    def permuted_fibre(self, x: torch.Tensor) -> None:
        """None, because there is no fibre to permute."""

    def __repr__(self) -> str:
        named = {"shape": self.shape, "integers": self.integers, "at": self.at}
        return f"Invariant({', '.join(f'{k}={v}' for k, v in named.items() if v is not None)})"


@dataclass(frozen=True, init=False, eq=False, repr=False)
class Field:
    """A field on a domain with values in a fibre, moved by a group: (g f)(X) = rho(g) f(g^-1 X).

    Args:
        domain: Grid(h, w), Grid(d, h, w), Sphere(b), Rotations(b), Points(n), Edges(m) or Vector().
        group: a group or its name; may be left out where ``fibre`` is a library's own type that contains the group.
        fibre: a sum such as "3*trivial + 8*regular", a ``Fibre``, or a library's type: a ``FieldType`` of escnn or
            e2cnn, ``Irreps`` of e3nn or their text "2x0e + 1x1o".
        split: whether drawn tensors have separate axes for copies and components, [batch, 8, |G|, *domain] for
            "8*regular" (the project's kernels), instead of one channel axis (escnn). ``act`` takes both layouts.

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
        if not isinstance(fibre, (str, Fibre)) or is_irreps_text(fibre):
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
        # Short, for claims in reports: without the layout of drawn tensors, and a group of its own by its name.
        if type(self) is not Field:
            return repr(self)
        return f"Field({self.domain}, {self.group.name!r}, {str(self.fibre)!r})"

    def exact(self, g: object) -> bool:
        """Whether the action of g needs no interpolation."""
        return self.domain.exact(self.group.element(g))

    def permutes(self, g: object) -> bool:
        """Whether g only permutes the values of a tensor; its action is then exact in every dtype."""
        element = self.group.element(g)
        mixes = (rep.permutation(element) is None for _, rep in self.fibre.terms)
        return self.domain.permutes(element) and not any(mixes)

    def act(self, g: object, x: torch.Tensor) -> torch.Tensor:
        """Apply g to a tensor: g moves the points, rho(g) mixes the channels. Exact where ``exact(g)`` is true.

        On grids an exact element permutes values. On Sphere and Rotations an element acts on the band, so the identity
        is a projection.

        Args:
            g: an Element, an index into the group, or a matrix.
            x: [batch, *channels, *domain] ([batch, n, channels] on Points), any dtype; the result has the same dtype.

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
            UsageError: the spherical signal does not fit the field.
        """
        if self.domain.band is None:
            return x
        self.require_fit(x, "The tensor")
        return self.domain.band.project(x)

    @property
    def band_limited(self) -> bool:
        """Whether the group acts on a subspace of the tensors only."""
        return self.domain.band is not None

    def move_points_alone(self, g: object, x: torch.Tensor) -> torch.Tensor | None:
        """The tensor with its points moved by g and its channels unmixed; None where that is the whole action of g."""
        if isinstance(self.domain, Vector) or all(rep.name == "trivial" for _, rep in self.fibre.terms):
            return None
        return self.domain.move(self.group.element(g), x)

    def _mix_channels(self, g: Element, x: torch.Tensor) -> torch.Tensor:
        """Apply rho(g) to axis 1, block by block."""
        if g.is_identity or all(rep.name == "trivial" for _, rep in self.fibre.terms):
            return x
        parts, start = [], 0
        for count, rep in self.fibre.terms:
            part = x.narrow(1, start, count * rep.dim).unflatten(1, (count, rep.dim))
            start += count * rep.dim
            parts.append(_apply(rep, g, part).flatten(1, 2))
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

    def permuted_fibre(self, x: torch.Tensor) -> torch.Tensor | None:
        """The tensor with the components of every fibre block shifted cyclically; None if all blocks have size 1."""
        if all(rep.dim == 1 for _, rep in self.fibre.terms):
            return None
        index: list[int] = []
        for rep in self.fibre.blocks:
            index += [len(index) + (i + 1) % rep.dim for i in range(rep.dim)]
        return self.domain.as_given(self.domain.channels_first(x)[:, index], x)

    def summands(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, summand, values]: one row for each block of the fibre, padded with zeros where block sizes differ."""
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
        """Weights of one channel's values, of mean 1, that make the action orthogonal; None where all are 1."""
        band = self.domain.band
        if band is None:
            return None
        rings, *angles = self.domain.axes
        return (band.weights * rings).repeat_interleave(math.prod(angles))

    def gradient(self, by_values: torch.Tensor) -> torch.Tensor:
        """Convert a gradient by the values of a tensor to the gradient in the inner product of ``norm``."""
        if self.weights is None:
            return by_values
        flat = self.domain.channels_first(by_values).flatten(2)
        return (flat / self.weights.to(flat)).reshape(by_values.shape)

    def norm(self, x: torch.Tensor) -> float:
        """Size of a tensor in the norm that the action preserves."""
        if self.weights is None:
            return float(torch.linalg.vector_norm(x.detach()))
        values = self.domain.channels_first(x.detach()).flatten(2).double()
        return float((values.square() @ self.weights.to(values)).sum().sqrt())

    def random(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Noise [count, channels, *domain], float64: white noise, or band-limited noise for spherical signals."""
        return self.domain.noise(count, self._channel_axes(), generator)

    def tensor_shape(self, count: int) -> tuple[int, ...]:
        """Shape of a drawn batch of ``count`` samples."""
        return self.domain.tensor_shape(count, self._channel_axes())

    def _channel_axes(self) -> tuple[int, ...]:
        if self.split and len(self.fibre.terms) == 1 and self.fibre.terms[0][1].dim > 1:
            return (self.fibre.terms[0][0], self.fibre.terms[0][1].dim)
        return (self.fibre.size,)

    def require_fit(self, x: torch.Tensor, what: str) -> Field:
        """This field, on a box with permuted sizes if the tensor has one.

        Raises:
            UsageError: the number of channels or the domain's sizes differ.
        """
        found = self.domain.fitted(x)
        if found is None or found[1] != self.fibre.size:
            want = ["batch", *self.tensor_shape(1)[1:]]
            raise UsageError(
                f"{what} has shape {list(x.shape)}, which does not fit {self}: expected [{', '.join(map(str, want))}]. "
                "Change the fibre's multiplicities or the domain's sizes to those of the tensor."
            )
        return self if found[0] is self.domain else replace_domain(self, found[0])

    def integral(self, x: torch.Tensor) -> torch.Tensor:
        """Invariant part [batch, blocks]: integral over the domain, then the invariant functional of each block.

        Raises:
            UsageError: no block of the fibre has an invariant.
        """
        return self._pool_blocks(self.domain.mean(self.domain.channels_first(x)))

    def naive_mean(self, x: torch.Tensor) -> torch.Tensor:
        """A common wrong integral, as a control: the domain's naive mean, without pooling over the group."""
        first = np.cumsum([0, *(rep.dim for rep in self.fibre.blocks)])[:-1]
        return self.domain.naive_mean(self.domain.channels_first(x)[:, first])

    @property
    def has_integral(self) -> bool:
        """Whether some block of the fibre has an invariant."""
        return any(rep.invariant is not None for _, rep in self.fibre.terms)

    @property
    def is_integral(self) -> bool:
        """Whether every block of the fibre has an invariant, so that the integral covers every block."""
        return all(rep.invariant is not None for _, rep in self.fibre.terms)

    def _pool_blocks(self, means: torch.Tensor) -> torch.Tensor:
        pooled = [
            block @ torch.as_tensor(rep.invariant, dtype=means.dtype, device=means.device)
            for rep, block in zip(self.fibre.blocks, means.split([r.dim for r in self.fibre.blocks], 1), strict=True)
            if rep.invariant is not None
        ]
        if not pooled:
            raise UsageError(f"{self} has no invariant part to integrate: use a fibre such as trivial or regular.")
        return torch.stack(pooled, 1)


def shown(group: Group) -> str:
    """The text for a group in a field's repr: a known name in quotes, else the expression that makes the group."""
    return repr(group.name) if group.is_named else repr(group)


def replace_domain(field: Field, domain: Domain) -> Field:
    """The same fibre and group on another domain."""
    return Field(domain, field.group, field.fibre, split=field.split)


def _apply(rep: Representation, g: Element, x: torch.Tensor) -> torch.Tensor:
    """Apply rho(g) to axis 2 of [batch, copies, dim, ...]: a gather for permutations, else a small matrix product."""
    permutation = rep.permutation(g)
    if permutation is not None:
        return x.index_select(2, torch.as_tensor(permutation, device=x.device))
    matrix = torch.as_tensor(np.array(rep.of(g)), dtype=x.dtype, device=x.device)
    return torch.einsum("ij,bcj...->bci...", matrix, x)


AnyField = Field | Invariant
Act = Callable[[Any, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Acted:
    """The escape hatch: a leaf whose action is a function (element, tensor) -> tensor."""

    function: Act

    def permuted_fibre(self, x: torch.Tensor) -> None:
        """None, because there is no fibre to permute."""

    def act(self, g: object, x: torch.Tensor) -> torch.Tensor:
        """The result of the function."""
        return self.function(g, x)

    def random(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Not possible, because a function has no shape."""
        raise UsageError(f"{self} has no shape to draw inputs from: pass inputs=, a tree of tensors like the source.")

    def exact(self, g: object) -> bool:
        """Assumed true; the homomorphism property verifies it."""
        return True

    def permutes(self, g: object) -> bool:
        """Always false, because it is unknown for a function."""
        return False

    def summands(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, 1, values]."""
        return x.reshape(len(x), 1, -1)

    def require_fit(self, x: torch.Tensor, what: str) -> Acted:
        """Any tensor fits."""
        return self

    def __str__(self) -> str:
        return getattr(self.function, "__name__", "a function")
