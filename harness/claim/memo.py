"""Outputs of a layer that the properties of one claim share, found by what determines them; bounded in memory."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from typing import Any

import torch

from ..trees import Tree, leaves

#: Bytes of outputs that one claim keeps. The outputs that were not used for the longest time go first.
ROOM = 2**26


class Memo:
    """Values by key, with at most ``room`` bytes of tensors; a value too large to keep is made anew each time.

    Example:
        >>> memo = Memo()
        >>> memo.get("a", lambda: torch.ones(2)) is memo.get("a", lambda: torch.zeros(2))
        True
    """

    def __init__(self, room: int = ROOM) -> None:
        self.room, self.held = room, 0
        self._values: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """The value of a key; made where it is not known."""
        if key in self._values:
            self._values.move_to_end(key)
            return self._values[key][0]
        return self.put(key, make())

    def __contains__(self, key: Hashable) -> bool:
        return key in self._values

    def known(self, key: Hashable) -> Any:
        """The value of a key that is kept."""
        return self._values[key][0]

    def put(self, key: Hashable, value: Any) -> Any:
        """Keep a value in place of an older one, and return it."""
        size = sum(v.numel() * v.element_size() for _, v in leaves(value) if isinstance(v, torch.Tensor))
        if size <= self.room // 4:
            self.held += size - self._values.pop(key, (None, 0))[1]
            self._values[key] = (value, size)
            while self.held > self.room:
                self.held -= self._values.popitem(last=False)[1][1]
        return value

    def __deepcopy__(self, memo: dict[int, Any]) -> Memo:
        return Memo(self.room)

    def __reduce__(self) -> tuple[type[Memo], tuple[int]]:
        return Memo, (self.room,)


def digest(tree: Tree) -> str:
    """Identifies the values, dtypes, shapes and devices of a tree of tensors."""
    known = hashlib.blake2b(digest_size=16)
    for path, v in leaves(tree):
        known.update(f"{path} {v.dtype} {tuple(v.shape)} {v.device}".encode())
        v = torch.view_as_real(v) if v.is_complex() else v
        if v.numel():
            known.update(v.detach().contiguous().reshape(-1).view(torch.uint8).cpu().numpy().data)
    return known.hexdigest()


def state_of(modules: Iterable[torch.nn.Module]) -> tuple[Any, ...]:
    """What of modules an output depends on: their parameters and buffers, by identity and version, and their modes."""
    found: list[Any] = []
    for part in parts_of(modules):
        found.append(part.training)
        for tensors in (part._parameters, part._buffers):
            found += [(id(t), t._version, _place(t)) for t in tensors.values() if t is not None]
    return tuple(found)


def _place(t: torch.Tensor) -> int:
    """Where the values of a tensor lie; 0 of a sparse tensor, and of a parameter that the first call will make."""
    return 0 if t.layout is not torch.strided or torch.nn.parameter.is_lazy(t) else t.data_ptr()


def parts_of(modules: Iterable[torch.nn.Module]) -> list[torch.nn.Module]:
    """These modules and all modules inside them, each once.

    ``Module.modules`` compares modules by their hashes, and some libraries hash a module by all that is inside it.
    """
    found, seen = [], set()
    pending = list(modules)[::-1]
    while pending:
        part = pending.pop()
        if id(part) not in seen:
            seen.add(id(part))
            found.append(part)
            pending += [inner for inner in reversed(list(part._modules.values())) if inner is not None]
    return found
