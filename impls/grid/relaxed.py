"""Adapters of the project's own relaxed convolutions, which are equivariant only if the mixture is constant."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ...harness.adapters.adapter import Case, Expected
from ...harness.verdict.codes import Verdict
from .. import configurations
from .convolutions import Convolution, Separable, case_of

if TYPE_CHECKING:
    from ...harness.search.strategies import Cases

#: Reasons: the mixture differs between elements; or it is constant, but training may make it differ.
_SPREAD = "the mixture differs between the elements: the layer is relaxed on purpose."
_FREE = "training may make the mixture differ between the elements: the layer is then no longer equivariant."
EXPECTED = (
    *(
        Expected(name, Verdict.BROKEN, _SPREAD, when={"spread": 0.1})
        for name in ("equivariance", "worst_case", "adjoint", "integration", "composition")
    ),
    Expected("parameter_gradient", Verdict.BROKEN, _FREE),
    Expected("training", Verdict.BROKEN, _FREE, when={"spread": 0.0}),
)


class _Relaxed(Convolution):
    """A convolution with banks, mixed by 1 and by 1 + spread times a normal number."""

    expected = EXPECTED

    def layer(self, case: Case, **where: Any) -> Any:
        """The layer with a separate mixture for each bank."""
        return mixed(super().layer(case, **where), case["spread"])

    def cases(self) -> Iterable[Case]:
        """Constant mixtures on planes and volumes, and one mixture that is not constant."""
        yield case_of("C4", 9, 3, padding=1, banks=2, spread=0.0)
        yield case_of("C4", 9, 3, padding=1, banks=2, spread=0.1)
        yield case_of("D4", "8x9", 3, padding=1, padding_mode="circular", banks=3, spread=0.0)
        yield case_of("O", "3x4x3", 3, padding=1, fields=(1, 1), banks=2, spread=0.0)
        yield case_of("Oh", 3, 2, fields=(1, 1), banks=1, spread=0.0)

    def strategy(self) -> Cases:
        """Constant mixtures of up to three banks."""
        return configurations.grid_convolution(banks=(1, 2, 3), spread=(0.0,))


class RelaxedLifting(_Relaxed):
    """``equiharness.kernels.RelaxedLiftingConv``: scalars to a regular field."""

    name = "equiharness.RelaxedLiftingConv"
    kind, reads, writes = "RelaxedLiftingConv", "trivial", "regular"


class RelaxedRegular(_Relaxed):
    """``equiharness.kernels.RelaxedGroupConv``: regular to regular fields."""

    name = "equiharness.RelaxedGroupConv"
    kind, reads, writes = "RelaxedGroupConv", "regular", "regular"


class RelaxedSeparable(Separable):
    """``equiharness.kernels.RelaxedSeparableGroupConv``: regular to regular fields, the group factor relaxed."""

    name = "equiharness.RelaxedSeparableGroupConv"
    kind = "RelaxedSeparableGroupConv"
    operator = ""
    expected = EXPECTED

    def layer(self, case: Case, **where: Any) -> Any:
        """The layer with a separate mixture for each bank."""
        return mixed(super().layer(case, **where), case["spread"])

    def cases(self) -> Iterable[Case]:
        """The three variants with constant mixtures, and one mixture that is not constant."""
        yield case_of("C4", 9, 3, padding=1, variant="pointwise_first", banks=2, spread=0.0)
        yield case_of("C4", 9, 3, padding=1, variant="pointwise_first", banks=2, spread=0.1)
        yield case_of("D4", "8x9", 3, padding=1, padding_mode="circular", variant="per_pair", banks=2, spread=0.0)
        yield case_of("O", "3x5x4", 2, padding=1, fields=(1, 2), variant="pointwise_first", banks=2, spread=0.0)
        yield case_of("Oh", 3, 2, fields=(2, 1), variant="depthwise_first", banks=1, spread=0.0)

    def strategy(self) -> Cases:
        """Constant mixtures with each variant."""
        variants = ("pointwise_first", "depthwise_first", "per_pair")
        return configurations.grid_convolution(variant=variants, banks=(1, 2, 3), spread=(0.0,))


def mixed(layer: Any, spread: float) -> Any:
    """The layer with a random mixture: constant in g if ``spread`` is 0, else 1 + spread times noise."""
    import torch

    with torch.no_grad():
        noise = torch.randn_like(layer.relaxation)
        layer.relaxation.copy_(1 + spread * noise if spread else noise[:, :1].expand_as(noise))
    return layer
