"""Adapters of whole networks built from escnn's modules."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ...harness.adapters.adapter import Case, Cost, Feature
from ...harness.search.strategies import listed
from ..grid.networks import blurred, count, settle
from .escnn import Escnn
from .field_types import empty_batch, on_tensors

if TYPE_CHECKING:
    from ...harness.claim.claim import Claim
    from ...harness.search.strategies import Cases


class _Network(Escnn):
    """A network with random weights and random norms, in eval mode, on inputs that a picture can show."""

    expected = (empty_batch("escnn"),)

    def layer_lacks(self, case: Case) -> set[Feature]:
        """Elements off the grid, because inputs are given; a twin; one field for both ends, unless there is one point.

        Scalars become regular fields, or invariants on a coarser grid.
        """
        same = () if case["size"] == 1 else (Feature.SAME_FIELDS,)
        return {Feature.OFF_GRID, Feature.TWINS, *same}

    def build(self, case: Case, *, device: str, dtype: str, seed: int) -> Claim:
        """The claim of the layer, with blurred noise as input."""
        from dataclasses import replace

        claim = super().build(case, device=device, dtype=dtype, seed=seed)
        field = claim.source
        return replace(claim, inputs=lambda n, generator: blurred(field.random(n, generator)), modules=claim.modules)

    def strategy(self) -> Cases:
        """Only the fixed cases, because the levels determine the sizes."""
        return listed(self.cases())

    def layer(self, nn: Any, gspace: Any, case: Case) -> Any:
        """The network with random statistics in its norms."""
        network = self.network(gspace, case)
        settle(network)
        return network.eval()

    def network(self, gspace: Any, case: Case) -> Any:
        """The module."""
        raise NotImplementedError

    def cost(self, case: Case) -> Cost:
        """Multiply-adds of every convolution, counted while one sample passes."""
        import torch

        network = self.make(case)
        call = on_tensors(network, "escnn")
        return count(network, torch.zeros(1, case["channels"], case["size"], case["size"]), call)


class WideResNet(_Network):
    """A wide residual classifier of ``escnn.nn`` modules: scalars to invariants."""

    name = "escnn.WideResNet"

    def cases(self) -> Iterable[Case]:
        """Two strides of 2, so sizes 4 n + 1."""
        yield Case.of(group="D4", size=17, channels=1)

    def network(self, gspace: Any, case: Case) -> Any:
        """Narrow stages: symmetry does not depend on width."""
        from .escnn_models import WideResNet as Model

        return Model(gspace, case["channels"], (2, 2, 4))


class UNet(_Network):
    """A U-Net of ``escnn.nn`` modules: scalars to dense regular fields."""

    name = "escnn.UNet"

    def cases(self) -> Iterable[Case]:
        """One halving, on an odd size."""
        yield Case.of(group="C4", size=17, channels=1)
        yield Case.of(group="D4", size=17, channels=1)

    def network(self, gspace: Any, case: Case) -> Any:
        """Two levels."""
        from .escnn_models import UNet as Model

        return Model(gspace, case["channels"], (2, 4), case["size"])
