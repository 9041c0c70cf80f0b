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
from .memo import Memo


@dataclass(frozen=True)
class Exact:
    """Contract: the claim holds up to rounding for every element whose action needs no interpolation."""


#: The wavelength, in pixels, at which a ceiling is held if it names none: three times Nyquist's.
LONG = 6.0


@dataclass(frozen=True, kw_only=True)
class Approximate:
    """Contract: off the grid, the claim holds in the limit of smooth inputs, or (``ceiling``) up to a stated error.

    Args:
        order: if given, the least order of convergence. Without it, any order that can be told from a plateau will do.
        ceiling: if given, it decides: the error must be below this number. Without a grid it is held everywhere.
        wavelength: the wavelength, in pixels, of the inputs on a grid whose error the ceiling bounds; by default 6.
        factors: for layers with a resolution of their own, for signals on the sphere, and for layers on a grid that
            see its border from everywhere: at least three sizes, relative to the claim's own.

    Raises:
        UsageError: a wavelength without a ceiling, or one that no grid can hold.
    """

    order: float | None = None
    ceiling: float | None = None
    wavelength: float | None = None
    factors: tuple[float, ...] = (0.5, 1.0, 2.0)

    def __post_init__(self) -> None:
        if self.wavelength is not None and self.ceiling is None:
            raise UsageError(
                "A wavelength says where a ceiling is held: give both, Approximate(ceiling=0.05, wavelength=6)."
            )
        if self.wavelength is not None and not self.wavelength > 2:
            raise UsageError(f"A grid holds wavelengths above 2 pixels, not {self.wavelength:g}.")


Contract = Exact | Approximate

#: Samples in a batch: D needs at least four.
SAMPLES = 4
#: Elements of a finite group that are checked in addition to its generators.
FURTHER = 2

#: An operator with its parameters as an argument: (parameters, input) -> output, differentiable in both.
Operator = Callable[[Mapping[str, torch.Tensor], Tree], Tree]


@dataclass(frozen=True)
class Twin:
    """Two implementations of one operator on the same parameters. Both should compute the same map.

    Where the libraries store different weights, one implementation maps the shared parameters to its own weights. That
    map is linear and differentiable, so that gradients can be compared too.

    Args:
        name: names of the two implementations, for reports.
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
        function: the layer. It takes the source's tree and returns the target's tree. A tree that is one tensor is
            passed as one argument, a tuple as positional arguments, a dict as keyword arguments if its keys are
            parameters of the function, else as one dict.
        group: the group.
        source: a field or a tree of fields.
        target: a field or a tree of fields.
        dtype: working precision p.
        device: torch device of the layer.
        seed: seed of the inputs.
        contract: the contract for elements off the grid; by default ``Approximate()``.
        reference: f_* built natively in float64; by default the function is recast.
        inputs: (count, generator) -> tree of float64 tensors; by default white noise on the source.
        samples: number of input samples; at least four.
        modules: modules whose buffers must not change; by default the modules that the function is or closes over.
        call_seed: seed to set before every call of a stochastic layer.
        twins: functions that each build two implementations of this operator for the parity property. A function that
            raises MissingDependencyError is skipped, with its reason.
        backends: backends that the property backends compares with the eager layer: "inductor", "aot_eager", "export".
        batched: whether the function takes batches; else it is called for each sample without the batch axis.
        refined: for layers with a resolution of their own: factor -> (resolution, function at about ``factor`` times
            the layer's own resolution). Such a claim is judged only in the limit of fine resolutions.
        elements: the elements to check; by default those of ``group.representatives``.
        after: a map of the function's output, such as an integral, that is part of what is claimed.
        whole_group: whether to check every element of a finite group, instead of generators and a few more.
        every_property: whether a run checks every property of this claim: what several need is then computed at once.
        memo: outputs that the properties of a claim share; ``replace`` hands it on.
        chosen: what the harness chose and the caller did not, such as the size of the grid, for reports.
        name: name of the layer in reports.
        reproduce: one line that repeats the check, to paste.
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
    samples: int = SAMPLES
    modules: tuple[torch.nn.Module, ...] = ()
    call_seed: int | None = None
    twins: tuple[Callable[[], Twin], ...] = ()
    backends: tuple[str, ...] = ()
    batched: bool = True
    refined: Callable[[float], tuple[int, Callable[..., Any]]] | None = None
    elements: tuple[Element, ...] = ()
    after: Callable[[Tree], Tree] | None = None
    whole_group: bool = False
    every_property: bool = False
    memo: Memo = field(default_factory=Memo, repr=False, compare=False)
    chosen: str = ""
    name: str = ""
    reproduce: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "group", group(self.group))
        if not self.samples >= SAMPLES:
            raise UsageError(f"samples={self.samples} are too few to show how outputs vary: give at least {SAMPLES}.")
        for side, tree in (("source", self.source), ("target", self.target)):
            for path, leaf in leaves(tree):
                if not isinstance(leaf, LEAVES):
                    raise UsageError(
                        f"The {side}{' leaf ' + path if path else ''} is {leaf!r}, not a Field or Invariant()."
                    )
                if isinstance(leaf, Field) and leaf.group is not self.group and leaf.group.name != self.group.name:
                    raise UsageError(
                        f"The group of the {side} {leaf} is {leaf.group.name}, and the claim's is {self.group.name}: "
                        "build the field with the same group."
                    )
        if not self.modules:
            object.__setattr__(self, "modules", tuple(find_modules(self.function)))

    def representatives(self, rng: np.random.Generator, count: int) -> list[Element]:
        """The elements to check: the claim's ``elements``, or representatives of the group."""
        return list(self.elements) or self.group.representatives(rng, count)

    def few(self, elements: Sequence[Element], rng: np.random.Generator) -> list[Element]:
        """Of these elements the identity, generators of the group that they generate, and FURTHER others.

        The statement for generators implies it for their products, and an error that only products showed would be
        at most as many times larger as a product has factors. All elements where the claim asks for the whole group,
        names its elements, or has an infinite group, which is sampled.
        """
        if self.whole_group or self.elements or self.group.order is None:
            return list(elements)
        generators = self.group.generators_of(elements)
        known = {g.index for g in generators}
        rest = [g for g in elements if g.index not in known and not g.is_identity]
        chosen = {rest[i].index for i in rng.permutation(len(rest))[:FURTHER]} | known
        return [g for g in elements if g.is_identity or g.index in chosen]

    def exact(self, g: Element) -> bool:
        """Whether g moves source and target without interpolation."""
        return all(leaf.exact(g) for tree in (self.source, self.target) for _, leaf in leaves(tree))

    def act(self, side: Tree, g: Element, values: Tree) -> Tree:
        """Apply g to a tree of tensors by the fields of one side."""
        return tree_map(lambda leaf, x: leaf.act(g, x), side, values)

    def draw(self, count: int, *, wrap: bool = True) -> Tree:
        """Inputs of this claim: float64 values on its device, reproducible from its seed.

        Args:
            count: number of samples.
            wrap: whether the points of a claim with a cell are wrapped into the cell.
        """
        generator = torch.Generator().manual_seed(self.seed)
        made = self.inputs(count, generator) if self.inputs is not None else None
        values = draw(self.source, count, generator, wrap=wrap) if made is None else made
        return tree_map(lambda leaf, x: self._placed(leaf, x), self.source, values)

    def _placed(self, leaf: Any, x: torch.Tensor) -> torch.Tensor:
        leaf.require_fit(x, "The input")
        return x.to(self.device, torch.float64) if x.is_floating_point() else x.to(self.device)

    def bind(self, function: Callable[..., Any]) -> Callable[[Tree], Tree]:
        """A variant of the function (such as another precision) as a map from the source's tree to the target's."""
        call, after = self.bare(function), self.after
        return call if after is None else lambda tree: after(call(tree))

    def bare(self, function: Callable[..., Any]) -> Callable[[Tree], Tree]:
        """As ``bind``, without the map ``after``."""
        call = self._spread(function)
        return call if self.batched else _one_by_one(call)

    def _spread(self, function: Callable[..., Any]) -> Callable[[Tree], Tree]:
        """Pass a dict as keyword arguments if the function has these keywords, a sequence as positional arguments."""
        if isinstance(self.source, dict):
            named, anything = _keywords(self.function)
            if set(self.source) <= named:
                return lambda tree: function(**tree)
            return _first_that_fits(function) if anything else function
        if isinstance(self.source, (list, tuple)):
            return lambda tree: function(*tree)
        return function

    def misnamed(self) -> str:
        """A sentence if the source's names are not those of the function's arguments, else an empty text."""
        if not isinstance(self.source, dict):
            return ""
        named, anything = _keywords(self.function)
        wrong = [name for name in self.source if name not in named]
        if anything or not wrong:
            return ""
        return (
            f"The source names {', '.join(self.source)}, and the model takes {', '.join(sorted(named)) or 'nothing'}."
        )

    def grids(self) -> Sequence[Field]:
        """The source's leaves on grids, which can be refined."""
        return [leaf for _, leaf in leaves(self.source) if isinstance(leaf, Field) and isinstance(leaf.domain, Grid)]


def _keywords(function: Callable[..., Any]) -> tuple[set[str], bool]:
    """The names of a function's parameters, and whether it takes any others, as wrappers do."""
    if isinstance(function, torch.fx.GraphModule):  # an exported module takes arguments as it was exported with
        return set(), True
    forward = getattr(function, "forward", function)
    schema = getattr(forward, "schema", None)
    if schema is not None:  # TorchScript
        return {argument.name for argument in schema.arguments}, False
    try:
        parameters = inspect.signature(forward).parameters
    except (TypeError, ValueError):
        return set(), False
    kinds = {p.kind for p in parameters.values()}
    return set(parameters), bool(kinds & {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL})


def _first_that_fits(function: Callable[..., Any]) -> Callable[[Tree], Tree]:
    """A wrapper that takes anything, on a dict: as keywords, as one dict, or as positional arguments in its order.

    Which of them it hands on, only a call shows. The first that raises no error is kept; if all do, the first error is
    the one that counts.
    """
    forms: list[Callable[[Any], Any]] = [
        lambda tree: function(**tree),
        function,
        lambda tree: function(*tree.values()),
    ]
    chosen: list[Callable[[Any], Any]] = []

    def call(tree: Tree) -> Tree:
        if chosen:
            return chosen[0](tree)
        errors: list[Exception] = []
        for form in forms:
            try:
                y = form(tree)
            except Exception as error:
                errors.append(error)
                continue
            chosen.append(form)
            return y
        raise errors[0]

    return call


def _one_by_one(call: Callable[[Tree], Tree]) -> Callable[[Tree], Tree]:
    """Call the function for each sample without the batch axis, and stack the outputs."""

    def run(tree: Tree) -> Tree:
        count = len(next(iter(leaves(tree)))[1])
        outputs = [call(tree_map(lambda v, i=i: v[i], tree)) for i in range(count)]
        return tree_map(_stacked, *outputs)

    return run


def _stacked(*values: Any) -> Any:
    return torch.stack(values) if all(isinstance(v, torch.Tensor) for v in values) else values[0]


def refit(leaf: Any, x: torch.Tensor) -> Any:
    """The target leaf on the grid of an actual output, for claims with a refined source."""
    if isinstance(leaf, Field) and isinstance(leaf.domain, Grid):
        return replace_domain(leaf, Grid(*x.shape[-leaf.domain.dim :]))
    return leaf


def find_modules(function: Any) -> list[torch.nn.Module]:
    """Modules that a callable is, is bound to, closes over, has as default arguments, or reads as globals."""
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
            pending += [v for v in named if isinstance(v, torch.nn.Module) or _in_same_module(item, v)]
            pending += [*(item.__defaults__ or ()), *(item.__kwdefaults__ or {}).values()]
    return found


def _names(code: types.CodeType) -> list[str]:
    """Names of the globals that a function and its inner functions read."""
    inner = [name for c in code.co_consts if isinstance(c, types.CodeType) for name in _names(c)]
    return [*code.co_names, *inner]


def _in_same_module(function: types.FunctionType, value: Any) -> bool:
    """Whether a value is a function of the same module. Functions of libraries are not searched."""
    return isinstance(value, types.FunctionType) and value.__globals__ is function.__globals__


def _filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:  # the name has no value yet
        return False
