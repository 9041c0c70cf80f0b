"""When two claims are one and the same check: many faults are planted in one sound layer, judged once."""

import hashlib
import types
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

#: What is written down as it prints.
PLAIN = (int, float, complex, str, bytes, bool, type(None), torch.dtype, torch.device, torch.Size)


def likeness(thing: Any) -> str:
    """A digest of everything that a thing computes with: code and what it closes over, weights, attributes.

    Equal digests mean equal results. What it cannot look into counts by its identity, so that it is like itself alone;
    the caller keeps it alive as long as the digest.
    """
    digest = hashlib.sha256()
    _write(thing, digest.update, {})
    return digest.hexdigest()


def _write(thing: Any, write: Callable[[bytes], None], seen: dict[int, tuple[int, Any]]) -> None:
    if isinstance(thing, PLAIN):
        write(f"{type(thing).__qualname__} {thing!r};".encode())
        return
    if id(thing) in seen:  # a circle, or a part that is shared
        write(f"again {seen[id(thing)][0]};".encode())
        return
    seen[id(thing)] = len(seen), thing  # held, so that no other thing gets its identity
    write(f"{type(thing).__module__}.{type(thing).__qualname__}(".encode())
    for part in _parts(thing):
        _write(part, write, seen)
    write(b")")


def _parts(thing: Any) -> list[Any]:
    if isinstance(thing, torch.Tensor):
        numbers = thing.detach().cpu().contiguous()
        return [str(numbers.dtype), tuple(numbers.shape), numbers.view(-1).view(torch.uint8).numpy().tobytes()]
    if isinstance(thing, np.ndarray) and thing.dtype != object:
        return [str(thing.dtype), thing.shape, thing.tobytes()]
    if type(thing) in (dict, OrderedDict, types.MappingProxyType):
        return [part for pair in thing.items() for part in pair]
    if type(thing) in (list, tuple):
        return list(thing)
    if type(thing) in (set, frozenset):
        return sorted(map(repr, thing))
    if isinstance(thing, types.MethodType):
        return [id(thing.__func__), thing.__self__]
    if isinstance(thing, types.FunctionType):  # the code object is one for all closures of a definition
        cells = [cell.cell_contents for cell in thing.__closure__ or ()]
        return [id(thing.__code__), id(thing.__globals__), cells, thing.__defaults__, thing.__kwdefaults__]
    if not isinstance(thing, type) and type(thing).__module__.partition(".")[0] in ("equiharness", "zoo"):
        return [id(type(thing)), vars(thing)] if hasattr(thing, "__dict__") else [id(thing)]
    if isinstance(thing, torch.nn.Module):
        return [id(type(thing)), vars(thing)]
    return [id(thing)]
