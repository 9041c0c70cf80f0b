"""How an operator of the project's kernels is made known to torch."""

from collections.abc import Callable
from typing import Any

import torch


def register(
    library: torch.library.Library,
    name: str,
    function: Callable[..., Any],
    fake: Callable[..., Any],
    backward: Callable[..., Any],
    save: Callable[..., Any],
) -> None:
    """One function for CPU and CUDA, its shapes for traces, and its derivative.

    Args:
        library: where the operator was defined.
        name: of the operator.
        function: computes it; it finds out by itself whether a kernel can.
        fake: an empty result of the right shape.
        backward: gradients of the arguments, as `torch.library.register_autograd` takes it.
        save: what the backward pass needs.
    """
    for key in ("CPU", "CUDA"):
        library.impl(name, function, key)
    torch.library.register_fake(f"equiharness::{name}", fake, lib=library)
    torch.library.register_autograd(f"equiharness::{name}", backward, setup_context=save, lib=library)
