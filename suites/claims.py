"""Claims from the arguments of ``check``: layers that declare their types, trees of fields, functions with inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from ..harness.claim.claim import SAMPLES, Claim, Contract
from ..harness.claim.evaluation import Subject
from ..harness.claim.recast import recast
from ..harness.errors import UsageError, unknown
from ..harness.fields.atoms import LEAVES
from ..harness.fields.domains import Grid, Vector
from ..harness.fields.field import Acted, Field
from ..harness.fields.library_types import (
    TypedLayer,
    is_library_type,
    plain_function,
    read_domain,
    read_layer,
    read_type,
)
from ..harness.symmetry.groups import Group
from ..harness.symmetry.groups import group as as_group
from ..harness.trees import Tree, leaves, tree_map

#: Options that describe the claim of a layer, and all options of a check except for its properties and modes.
DESCRIBING = ("inputs", "act_in", "act_out", "batched")
OPTIONS = (*DESCRIBING, "dtype", "seed", "device", "contract", "call_seed", "samples", "properties", "modes")
#: Size of the grid for a layer whose types declare everything except the size.
DEFAULT_SIZE = {2: 33, 3: 9}


def claim_of(
    layer: Any,
    group: Any = None,
    source: Tree = None,
    target: Tree = None,
    *,
    dtype: torch.dtype | str | None = None,
    seed: int | None = None,
    device: str | None = None,
    contract: Contract | None = None,
    call_seed: int | None = None,
    samples: int | None = None,
    **named: Any,
) -> Claim:
    """The claim that the arguments of ``check`` describe, with its settings; a given claim keeps its fields.

    Raises:
        UsageError: an option is unknown, or the arguments do not fit together.
    """
    for name in named:
        if name not in DESCRIBING:
            raise UsageError(unknown("option of check", name, OPTIONS))
    claim = layer if isinstance(layer, Claim) else make_claim(layer, group, source, target, **named)
    working = _dtype(dtype) if dtype is not None else claim.dtype if claim is layer else _dtype_of(claim)
    function = claim.function
    if dtype is not None and any(p.dtype is not working for m in claim.modules for p in _constants(m)):
        if working not in (torch.float64, torch.float32):
            raise UsageError(f"The layer's parameters are not {working}. Convert the layer first: layer.to({working}).")
        function = recast(function, working)
    return replace(
        claim,
        function=function,
        dtype=working,
        seed=claim.seed if seed is None else seed,
        device=claim.device if device is None else device,
        contract=claim.contract if contract is None else contract,
        call_seed=claim.call_seed if call_seed is None else call_seed,
        samples=claim.samples if samples is None else _enough(samples, named.get("inputs")),
        modules=claim.modules,
    )


def make_claim(
    layer: Any,
    group: Any,
    source: Tree,
    target: Tree,
    *,
    inputs: Tree = None,
    act_in: Callable[..., torch.Tensor] | None = None,
    act_out: Callable[..., torch.Tensor] | None = None,
    batched: bool = True,
) -> Claim:
    """The claim that the arguments of ``check`` describe."""
    if not callable(layer):
        raise UsageError(f"{layer!r} is not callable: pass a module or a function of tensors.")
    modules = (layer,) if isinstance(layer, torch.nn.Module) else ()
    declared = source is None and target is None and act_in is None
    typed = read_layer(layer) if declared and group is None else _read_quietly(layer)
    if declared and typed is not None:
        typed = typed if group is None else _under(typed, as_group(group))
        if typed.has_fields:
            return _of_typed(typed, modules)
        domain = Grid(*([DEFAULT_SIZE[typed.group.dim]] * typed.group.dim))
        reads = tree_map(lambda fibre: Field(domain, typed.group, fibre, split=typed.split), typed.source)
        writes = _target_of(typed, reads, modules)
        chosen = f"the size of {domain} was chosen here: the layer declares none"
        return Claim(typed.function, typed.group, reads, writes, modules=modules, chosen=chosen)
    group = group if group is not None else _group_of_types((source, target))
    if group is None:
        raise UsageError(
            "The group is missing: check(layer, 'C4', source, target). Only layers and fields that declare their types "
            "need none."
        )
    function = typed.function if typed is not None else plain_function(layer)
    reference = typed.reference if typed is not None else None
    group = as_group(group)
    source = Acted(act_in) if act_in is not None else _fields(source, group, "source", inputs)
    target = Acted(act_out) if act_out is not None else _fields(target, group, "target", inputs)
    batch = _batch(inputs, source)
    claim = Claim(
        function,
        group,
        source,
        target,
        inputs=batch,
        samples=SAMPLES if batch is None else _count(inputs),
        modules=modules,
        batched=batched,
        reference=reference,
    )
    return claim if batch is not None else replace(claim, source=_layout(claim), modules=modules)


def _under(typed: TypedLayer, group: Group) -> TypedLayer:
    """The claim of a layer under a group that was given beside its types: their own group, or a subgroup."""
    if group.name == typed.group.name:
        return typed
    if group.dim != typed.group.dim:
        raise UsageError(
            f"The layer declares the group {typed.group.name} and {group.name} is no subgroup of it: "
            "leave the group out."
        )
    for g in group.generators:
        typed.group.element(g)
    if typed.has_fields:
        fields = [
            tree_map(lambda f: Field(f.domain, group, f.fibre, split=f.split) if isinstance(f, Field) else f, side)
            for side in (typed.source, typed.target)
        ]
        return replace(typed, group=group, source=fields[0], target=fields[1])
    if any(isinstance(fibre, str) for side in (typed.source, typed.target) for _, fibre in leaves(side)):
        raise UsageError(
            f"The layer declares the group {typed.group.name} and you gave {group.name}: leave the group out, or give "
            "source and target too."
        )
    return replace(typed, group=group)


def _read_quietly(layer: Any) -> TypedLayer | None:
    """The types of a layer whose claim is given, so that types which cannot be read do not matter."""
    try:
        return read_layer(layer)
    except UsageError:
        return None


def _group_of_types(tree: Tree) -> Group | None:
    """The group of the first field or library type of a tree; None if no leaf has a group."""
    if isinstance(tree, Field):
        return tree.group
    if is_library_type(tree):
        return read_type(tree, None)[0]
    inner = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, (list, tuple)) else ()
    return next((found for found in map(_group_of_types, inner) if found is not None), None)


def _of_typed(typed: TypedLayer, modules: tuple[torch.nn.Module, ...]) -> Claim:
    """The claim of a layer whose types include the domains."""
    return Claim(
        typed.function,
        typed.group,
        typed.source,
        typed.target,
        modules=modules,
        reference=typed.reference,
        refined=typed.refined,
    )


def _layout(claim: Claim) -> Tree:
    """The source with the channel layout that the layer accepts: flat, or separate axes for copies and components.

    Only a call can find out, so the layer is called with each layout. If both fail, the flat layout is kept, and the
    check shows its error.
    """
    split = tree_map(lambda leaf: _split(leaf) if isinstance(leaf, Field) else leaf, claim.source)
    for source in (claim.source, split):
        trial = replace(claim, source=source, dtype=_dtype_of(claim))
        subject = Subject(trial)
        try:
            with subject.guarded(), torch.random.fork_rng(devices=[]):
                subject.working(trial.draw(4))
        except Exception:
            continue
        return source
    return claim.source


def _split(field: Field) -> Field:
    return Field(field.domain, field.group, field.fibre, split=True)


def _target_of(typed: TypedLayer, source: Tree, modules: tuple[torch.nn.Module, ...]) -> Tree:
    """The target fields on the grids that the layer's outputs have on this source."""
    claim = Claim(typed.function, typed.group, source, source, modules=modules)
    x = tree_map(lambda field: torch.zeros(field.tensor_shape(1), dtype=torch.float64), source)
    try:
        with torch.no_grad(), Subject(claim).guarded():
            y = _shape_of(claim, x)
    except UsageError:
        raise
    except Exception as error:
        shapes = ", ".join(str(list(v.shape)) for _, v in leaves(x))
        raise UsageError(
            f"The layer raised {type(error).__name__} on zeros of shape {shapes}, a size that the harness chose. "
            "Give source and target, for example eh.Field(eh.Grid(33, 33), None, layer.in_type). "
            f"The layer's message: {error}"
        ) from error
    return tree_map(lambda fibre, value: _field_on(value, typed.group, fibre), typed.target, y)


def _shape_of(claim: Claim, x: Tree) -> Tree:
    """The output of the layer in its own precision; in float64 by Recast where it mixes precisions."""
    try:
        return claim.bind(claim.function)(tree_map(lambda v: v.to(_dtype_of(claim)), x))
    except Exception:
        return claim.bind(recast(claim.function, torch.float64))(x)


def _field_on(y: torch.Tensor, group: Group, fibre: Any) -> Field:
    """The field with the domain of an output."""
    return Field(Vector() if y.dim() <= group.dim else Grid(*y.shape[-group.dim :]), group, fibre)


def _fields(tree: Tree, group: Group, side: str, inputs: Tree) -> Tree:
    """The fields of one side; a library's field type gets its own domain, or a grid of the default size."""
    if tree is None:
        raise UsageError(
            f"The {side} is missing: give a Field, for example Field(Grid(33, 33), {group.name!r}, '8*regular')."
        )
    if isinstance(tree, LEAVES):
        return tree
    if isinstance(tree, dict):
        return {key: _fields(value, group, side, inputs) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)) and not is_library_type(tree):
        return type(tree)(_fields(value, group, side, inputs) for value in tree)
    domain = read_domain(tree)
    return Field(domain or Grid(*([DEFAULT_SIZE[group.dim]] * group.dim)), group, tree)


def _batch(inputs: Tree, source: Tree) -> Callable[[int, torch.Generator], Tree] | None:
    if inputs is None:
        if any(isinstance(leaf, Acted) for _, leaf in leaves(source)):
            raise UsageError("act_in needs inputs=: give a batch of at least 4 samples.")
        return None
    sizes = {
        len(v) if isinstance(v, torch.Tensor) and v.dim() else 0
        for _, v in leaves(tree_map(lambda _, v: v, source, inputs))
    }
    if len(sizes) != 1 or min(sizes) < 4:
        raise UsageError(
            f"inputs must be tensors with one batch of at least 4 samples; found batch sizes {sorted(sizes)}."
        )
    return lambda count, generator: tree_map(lambda v: v[:count], inputs)


def _count(inputs: Tree) -> int:
    return len(next(v for _, v in leaves(inputs)))


def _enough(samples: int, inputs: Tree) -> int:
    """The number of samples that was asked for, if the given inputs are as many."""
    if inputs is not None and samples > (given := _count(inputs)):
        raise UsageError(f"samples={samples} are more than the {given} of inputs=: give more inputs or fewer samples.")
    return samples


def _dtype(name: torch.dtype | str) -> torch.dtype:
    found = name if isinstance(name, torch.dtype) else getattr(torch, name, None)
    if found not in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        raise UsageError(f"Unknown dtype {name!r}. Known: float64, float32, bfloat16, float16.")
    return found


def _dtype_of(claim: Claim) -> torch.dtype:
    floats = {p.dtype for m in claim.modules for p in _constants(m)}
    return floats.pop() if len(floats) == 1 else torch.float32


def _constants(module: torch.nn.Module) -> list[torch.Tensor]:
    """The tensors that define a module's precision: its parameters, or its buffers if it has no parameters."""
    parameters: list[torch.Tensor] = [p for p in module.parameters() if p.is_floating_point()]
    return parameters or [b for b in module.buffers() if b.is_floating_point()]
