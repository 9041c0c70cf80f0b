"""Adapter of s2cnn, the reference of the field, where it can be imported.

Unmaintained: it needs pynvrtc, removed parts of numpy and an FFT interface that torch no longer has. Its grids are
tuples of (beta, alpha) or (beta, alpha, gamma), its layers take real signals [batch, channels, beta, alpha(, gamma)] as
ours do, in float32 alone; parameters and their scaling agree, so that weights need no conversion.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ..harness.errors import MissingDependencyError
from ..harness.registry import Case, Cost, Family, Implementation, Value
from . import spherical

if TYPE_CHECKING:
    from ..harness.claim import Claim, Twin

INSTALL = "pip install git+https://github.com/jonkhler/s2cnn lie_learn==0.0.2 (unmaintained: needs old numpy and torch)"


def load() -> Any:
    """The library.

    Raises:
        MissingDependencyError: it is missing, or does not import under these versions of torch and numpy.
    """
    try:
        return importlib.import_module("s2cnn")
    except Exception as error:  # what an unmaintained library raises on import is anybody's guess
        raise MissingDependencyError(
            f"s2cnn cannot be imported ({type(error).__name__}: {error}). Install it: {INSTALL}"
        ) from error


def twin(ours: Any) -> Callable[[], Twin]:
    """Our convolution and s2cnn's of the same geometry, on one set of weights.

    Aliases are part of s2cnn's layers: where the bandwidth grows by two or more the two differ by them.
    """

    def build() -> Twin:
        import torch

        from ..harness.claim import Twin

        theirs = theirs_like(ours)

        def by_us(theta: Any, x: Any) -> Any:
            return torch.func.functional_call(ours, dict(theta), (x,))

        def by_them(theta: Any, x: Any) -> Any:
            return torch.func.functional_call(theirs, dict(theta), (x,))

        return Twin("ours and s2cnn", by_us, by_them, dict(ours.named_parameters()))

    return build


def theirs_like(ours: Any) -> Any:
    """S2cnn's layer with the channels, bandwidths and grid of ours."""
    library = load()
    kind = library.S2Convolution if ours.axes_in == 2 else library.SO3Convolution
    grid = tuple(tuple(float(angle) for angle in point) for point in ours.grid.points)
    return kind(ours.in_channels, ours.out_channels, ours.b_in, ours.b_out, grid)


class _S2cnn(Implementation):
    """What s2cnn's convolutions share; they compute in float32, whatever is asked for."""

    library = "s2cnn"
    family = Family.SPHERICAL
    install = INSTALL
    domain: str

    def cases(self) -> Iterable[Case]:
        """Bandwidths that stay and shrink."""
        for b_in, b_out in ((4, 4), (8, 4)):
            yield Case.of(b_in=b_in, b_out=b_out, grid="near identity", channels_in=2, channels_out=2)

    def build(self, case: Case, *, device: str, dtype: str, seed: int) -> Claim:
        """The layer with the weights of ours, beside ours as its twin."""
        import torch

        from ..harness.claim import Claim

        ours, source, target = self._ours().layer(case)
        torch.manual_seed(seed)
        layer = theirs_like(ours)
        layer.load_state_dict(ours.state_dict())
        working = getattr(torch, dtype)
        layer = layer.to(device)
        return Claim(
            lambda x: layer(x.float()).to(x.dtype),
            source.group,
            source,
            target,
            dtype=working,
            device=device,
            seed=seed,
            modules=(layer,),
            twins=(twin(ours.to(device, working)),),
        )

    def case_of(self, kind: str, parameters: Mapping[str, Value]) -> Case | None:
        """That of our layer."""
        return self._ours().case_of(kind, parameters)

    def cost(self, case: Case) -> Cost:
        """That of our layer: the operator is the same."""
        return self._ours().cost(case)

    def _ours(self) -> spherical.S2Conv | spherical.SO3Conv:
        return spherical.S2Conv() if self.domain == "s2" else spherical.SO3Conv()


class S2Convolution(_S2cnn):
    """``s2cnn.S2Convolution``: S2 to SO(3)."""

    name = "s2cnn.S2Convolution"
    domain = "s2"


class SO3Convolution(_S2cnn):
    """``s2cnn.SO3Convolution``: SO(3) to SO(3)."""

    name = "s2cnn.SO3Convolution"
    domain = "so3"
