"""Nested dicts, lists and tuples of leaves, so that a claim can be about one tensor or about a whole model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from .errors import UsageError

#: A leaf, or a dict, list or tuple of trees.
Tree = Any


def leaves(tree: Tree, path: str = "") -> Iterator[tuple[str, Any]]:
    """(path, leaf) pairs in a fixed order; the path of a single leaf is empty.

    Example:
        >>> list(leaves({"pos": 1, "edge": [2, 3]}))
        [('pos', 1), ('edge[0]', 2), ('edge[1]', 3)]
    """
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from leaves(value, f"{path}.{key}" if path else str(key))
    elif isinstance(tree, (list, tuple)):
        for index, value in enumerate(tree):
            yield from leaves(value, f"{path}[{index}]")
    else:
        yield path, tree


def tree_map(function: Callable[..., Any], tree: Tree, *others: Tree) -> Tree:
    """Apply ``function`` to the corresponding leaves of trees with the same structure.

    Raises:
        UsageError: the trees have different structures; the message describes the first difference.
    """
    if isinstance(tree, dict):
        for other in others:
            if not isinstance(other, dict) or not set(tree) <= set(other):
                found = sorted(map(str, other)) if isinstance(other, dict) else type(other).__name__
                raise UsageError(f"Expected a dict with the keys {sorted(map(str, tree))}, found {found}.")
        return {key: tree_map(function, value, *(o[key] for o in others)) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        for other in others:
            if not isinstance(other, (list, tuple)) or len(other) != len(tree):
                raise UsageError(f"Expected a sequence of {len(tree)} entries, found {type(other).__name__}.")
        return type(tree)(tree_map(function, *row) for row in zip(tree, *others, strict=True))
    return function(tree, *others)
