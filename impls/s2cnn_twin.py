"""s2cnn's layer with the weights of ours: the other half of a parity check."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..harness.errors import MissingDependencyError

if TYPE_CHECKING:
    from ..harness.claim.claim import Twin

INSTALL = "pip install git+https://github.com/jonkhler/s2cnn lie_learn==0.0.2 (unmaintained: needs old numpy and torch)"


def load() -> Any:
    """Import the library.

    Raises:
        MissingDependencyError: the library is missing, or cannot be imported with these versions of torch and numpy.
    """
    try:
        return importlib.import_module("s2cnn")
    except Exception as error:  # an unmaintained library may raise any error on import
        raise MissingDependencyError(
            f"s2cnn cannot be imported ({type(error).__name__}: {error}). Install it: {INSTALL}"
        ) from error


def twin(ours: Any) -> Callable[[], Twin]:
    """Our convolution and s2cnn's of the same geometry, on one set of weights.

    Aliases are part of s2cnn's layers: if the bandwidth grows by two or more, the two layers differ by the aliases.
    """

    def build() -> Twin:
        import torch

        from ..harness.claim.claim import Twin

        theirs = theirs_like(ours)

        def by_us(theta: Any, x: Any) -> Any:
            return torch.func.functional_call(ours, dict(theta), (x,))

        def by_them(theta: Any, x: Any) -> Any:
            return torch.func.functional_call(theirs, dict(theta), (x,))

        return Twin("ours and s2cnn", by_us, by_them, dict(ours.named_parameters()))

    return build


def theirs_like(ours: Any) -> Any:
    """s2cnn's layer with the channels, bandwidths and grid of our layer."""
    library = load()
    kind = library.S2Convolution if ours.axes_in == 2 else library.SO3Convolution
    grid = tuple(tuple(float(angle) for angle in point) for point in ours.grid.points)
    return kind(ours.in_channels, ours.out_channels, ours.b_in, ours.b_out, grid)
