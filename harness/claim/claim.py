"""Claims: f(a_g x) = b_g f(x). A callable, a group, a source field, a target field, a contract."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import numpy as np
import torch

from ..errors import UsageError
from ..fields.atoms import LEAVES, draw
from ..fields.domains import Grid
from ..fields.field import Field, replace_domain
from ..symmetry.groups import Element, Group, group
from ..trees import Tree, leaves, tree_map


@dataclass(frozen=True)
class Exact:
    """The claim holds to rounding for every element whose action needs no interpolation."""


@dataclass(frozen=True, kw_only=True)
class Approximate:
    """The claim holds in the limit of fine grids, or (``ceiling``) up to a stated error on one grid.

    Args:
        order: if declared, the error must fall at least like h^order; without, a sound error falls like h or faster
            (a function with jumps on the sphere: h^0.5).
        ceiling: if declared, an error below it is accepted at a single resolution.
        factors: sizes of the grids relative to the claim's own; at least three.
    """

    order: float | None = None
    ceiling: float | None = None
    factors: tuple[float, ...] = (0.5, 1.0, 2.0)


Contract = Exact | Approximate

#: An operator with its parameters outside: (parameters, input) -> output, differentiable in both.
Operator = Callable[[Mapping[str, torch.Tensor], Tree], Tree]


@dataclass(frozen=True)
class Twin:
    """One operator twice: two implementations on the same parameters, which should be one map.

    Where the libraries store different weights, one of the two maps the shared parameters to its own, linearly and
    differentiably, so that gradients can be compared as well.

    Args:
        name: what is compared with what, for reports.
        first: one implementation, from the claim's source to its target.
        second: the other.
        parameters: the shared parameters, in the claim's working precision.
    """

    name: str
    first: Operator
    second: Operator
    parameters: Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Claim:
    """f is equivariant from ``source`` to ``target`` under ``group``.

    Args:
        function: the layer; takes the source's tree (a single tensor, positional for tuples, keywords for dicts whose
            keys are its parameters, else the dict) and returns the target's tree.
        group: the group.
        source: a field or a tree of fields.
        target: a field or a tree of fields.
        dtype: working precision p.
        device: where it runs.
        seed: seeds the inputs.
        contract: how elements off the grid are judged; ``Approximate()`` unless the claim says more.
        reference: f_* built natively in float64; by default the function is recast.
        inputs: (count, generator) -> tree of float64 tensors; by default white noise on the source.
        modules: modules whose buffers must not change; found in the function where it is a module or closes over one.
        call_seed: set before every call of a stochastic layer.
        twins: each builds a pair of implementations of this operator for the parity property; one that raises
            MissingDependencyError is left out, with its reason.
        backends: what the property backends compares with the eager layer: "inductor", "aot_eager", "export".
        batched: whether the function takes batches; else it is called for each sample without the batch axis.
        refined: for layers with a resolution of their own: factor -> (resolution, function at about ``factor`` times
            the layer's own). Such a claim is judged in the limit of fine resolutions only.
        elements: judge these elements alone; by default those that ``group.representatives`` gives.
        name: what reports call it.
        reproduce: one line to paste.
    """

    function: Callable[..., Any]
    group: Group
    source: Tree
    target: Tree
    _: KW_ONLY
    dtype: torch.dtype = torch.float32
    device: str = "cpu"
    seed: int = 0
    contract: Contract = field(default_factory=Approximate)
    reference: Callable[..., Any] | None = None
    inputs: Callable[[int, torch.Generator], Tree] | None = None
    modules: tuple[torch.nn.Module, ...] = ()
    call_seed: int | None = None
    twins: tuple[Callable[[], Twin], ...] = ()
    backends: tuple[str, ...] = ()
    batched: bool = True
    refined: Callable[[float], tuple[int, Callable[..., Any]]] | None = None
    elements: tuple[Element, ...] = ()
    name: str = ""
    reproduce: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "group", group(self.group))
        for side, tree in (("source", self.source), ("target", self.target)):
            for path, leaf in leaves(tree):
                if not isinstance(leaf, LEAVES):
                    raise UsageError(
                        f"The {side}{' leaf ' + path if path else ''} is {leaf!r}, not a Field or Invariant()."
                    )
                if isinstance(leaf, Field) and leaf.group is not self.group and leaf.group.name != self.group.name:
                    raise UsageError(
                        f"The {side} {leaf} belongs to {leaf.group.name} and the claim to {self.group.name}: "
                        "build the field with the same group."
                    )
        if not self.modules:
            object.__setattr__(self, "modules", tuple(find_modules(self.function)))

    def representatives(self, rng: np.random.Generator, count: int) -> list[Element]:
        """The elements a check runs over: the claim's own, or the group's."""
        return list(self.elements) or self.group.representatives(rng, count)

    def exact(self, g: Element) -> bool:
        """Whether g moves source and target without interpolation."""
        return all(leaf.exact(g) for tree in (self.source, self.target) for _, leaf in leaves(tree))

    def act(self, side: Tree, g: Element, values: Tree) -> Tree:
        """Move a tree of tensors by the fields of one side."""
        return tree_map(lambda leaf, x: leaf.act(g, x), side, values)

    def draw(self, count: int, *, wrap: bool = True) -> Tree:
        """Inputs of this claim, float64 values on its device, reproducible from its seed.

        Args:
            count: number of samples.
            wrap: whether points drawn beside a cell are wrapped into it.
        """
        generator = torch.Generator().manual_seed(self.seed)
        made = self.inputs(count, generator) if self.inputs is not None else None
        values = draw(self.source, count, generator, wrap=wrap) if made is None else made
        return tree_map(lambda leaf, x: self._placed(leaf, x), self.source, values)

    def _placed(self, leaf: Any, x: torch.Tensor) -> torch.Tensor:
        leaf.require_fit(x, "The input")
        return x.to(self.device, torch.float64) if x.is_floating_point() else x.to(self.device)

    def bind(self, function: Callable[..., Any]) -> Callable[[Tree], Tree]:
        """A form of the function (another precision, say) as a map from the source's tree to the target's."""
        call = self._spread(function)
        return call if self.batched else _one_by_one(call)

    def _spread(self, function: Callable[..., Any]) -> Callable[[Tree], Tree]:
        """Dicts become keywords where the function has them, sequences become positional arguments."""
        if isinstance(self.source, dict):
            try:
                parameters = inspect.signature(getattr(self.function, "forward", self.function)).parameters
            except (TypeError, ValueError):
                parameters = {}  # type: ignore[assignment]
            if set(self.source) <= set(parameters):
                return lambda tree: function(**tree)
            return function
        if isinstance(self.source, (list, tuple)):
            return lambda tree: function(*tree)
        return function

    def grids(self) -> Sequence[Field]:
        """Source leaves on grids: the ones that can be refined."""
        return [leaf for _, leaf in leaves(self.source) if isinstance(leaf, Field) and isinstance(leaf.domain, Grid)]


def _one_by_one(call: Callable[[Tree], Tree]) -> Callable[[Tree], Tree]:
    """Each sample by itself, without the batch axis; the outputs stacked."""

    def run(tree: Tree) -> Tree:
        count = len(next(iter(leaves(tree)))[1])
        outputs = [call(tree_map(lambda v, i=i: v[i], tree)) for i in range(count)]
        return tree_map(_stacked, *outputs)

    return run


def _stacked(*values: Any) -> Any:
    return torch.stack(values) if all(isinstance(v, torch.Tensor) for v in values) else values[0]


def refit(leaf: Any, x: torch.Tensor) -> Any:
    """The target leaf on the grid that an output really has: used where the source was refined."""
    if isinstance(leaf, Field) and isinstance(leaf.domain, Grid):
        return replace_domain(leaf, Grid(*x.shape[-leaf.domain.dim :]))
    return leaf


def find_modules(function: Any) -> list[torch.nn.Module]:
    """Modules a callable is, is bound to, closes over, has as defaults, or names among its globals."""
    found: list[torch.nn.Module] = []
    pending, seen = [function], set()
    while pending:
        item = pending.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, torch.nn.Module):
            found.append(item)
            continue
        pending += [c.cell_contents for c in getattr(item, "__closure__", None) or () if _filled(c)]
        pending += [a for a in (getattr(item, "__self__", None), getattr(item, "func", None)) if a is not None]
        if isinstance(item, types.FunctionType):
            named = (item.__globals__.get(name) for name in _names(item.__code__))
            pending += [v for v in named if isinstance(v, torch.nn.Module) or _beside(item, v)]
            pending += [*(item.__defaults__ or ()), *(item.__kwdefaults__ or {}).values()]
    return found


def _names(code: types.CodeType) -> list[str]:
    """Global names that a function reads, those of functions written inside it included."""
    inner = [name for c in code.co_consts if isinstance(c, types.CodeType) for name in _names(c)]
    return [*code.co_names, *inner]


def _beside(function: types.FunctionType, value: Any) -> bool:
    """Whether a value is a function defined in the same module: libraries are not searched."""
    return isinstance(value, types.FunctionType) and value.__globals__ is function.__globals__


def _filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:  # a name not assigned yet
        return False
