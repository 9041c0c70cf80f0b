"""Adapter of s2cnn, the reference implementation of spherical convolutions, if it can be imported.

s2cnn is unmaintained: it needs pynvrtc, removed parts of numpy and an FFT interface that torch no longer has. Its grids
are tuples of (beta, alpha) or (beta, alpha, gamma). Its layers take real signals [batch, channels, beta, alpha(,
gamma)] like ours, only in float32. Parameters and their scaling agree, so weights need no conversion.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from ...harness.adapters.adapter import Case, Cost, Family, Feature, Implementation, Value
from ..s2cnn_twin import INSTALL, theirs_like, twin
from ..spherical import convolutions as spherical

if TYPE_CHECKING:
    from ...harness.claim.claim import Claim


class _S2cnn(Implementation):
    """The base class of s2cnn's convolutions, which compute in float32 for every requested dtype."""

    library = "s2cnn"
    family = Family.SPHERICAL
    install = INSTALL
    never = (Feature.BACKENDS, Feature.OFF_GRID)
    domain: str

    def cases(self) -> Iterable[Case]:
        """Bandwidths that stay and shrink."""
        for b_in, b_out in ((4, 4), (8, 4)):
            yield Case.of(b_in=b_in, b_out=b_out, grid="near identity", channels_in=2, channels_out=2)

    def build(self, case: Case, *, device: str, dtype: str, seed: int) -> Claim:
        """The claim of the layer with the weights of our layer, which is its twin."""
        import torch

        from ...harness.claim.claim import Claim

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
        """The case of our layer."""
        return self._ours().case_of(kind, parameters)

    def cost(self, case: Case) -> Cost:
        """The cost of our layer, which is the same operator."""
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
