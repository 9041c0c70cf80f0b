"""Adapter of gconv: group convolutions whose kernels are sampled on any set of rotations, here on those of the cube.

By default gconv rotates its set of rotations at random in every call and cuts kernels to a ball, so it is equivariant
only in distribution. Without both, and with the set of the octahedral rotations, it is a regular group convolution. Its
matrices act on (W, H, D); weights are declared [element, out, in, *kernel] and read as [element, in, out, *kernel].
Kernels of size 1 and 3 are sampled at their own taps and have a twin; larger kernels are sampled between their taps.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from ...harness.adapters.adapter import Case, Cost, Family, Feature
from ...harness.errors import MissingDependencyError
from ..grid.adapter import GridAdapter
from ..grid.convolutions import Lifting, Regular, Separable

if TYPE_CHECKING:
    import torch

    from ...harness.claim.claim import Claim

INSTALL = "pip install git+https://github.com/ThijsKuipers1995/gconv tqdm matplotlib"


def load() -> Any:
    """Import the library's layers.

    Raises:
        MissingDependencyError: the library is missing or cannot be imported.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on import it scripts functions, which torch deprecates
            return importlib.import_module("gconv.gnn")
    except ImportError as error:
        raise MissingDependencyError(f"gconv cannot be imported ({error}). Install it: {INSTALL}") from error


def rotations(group_name: str) -> torch.Tensor:
    """Matrices of a group's elements in the harness's order, on (W, H, D)."""
    import numpy as np
    import torch

    from ...harness.symmetry.groups import group

    return torch.from_numpy(np.stack([np.round(g.matrix)[::-1, ::-1] for g in group(group_name)])).float()


class Gconv(GridAdapter):
    """The base class of gconv's layers."""

    library = "gconv_TPK"
    family = Family.OCTAHEDRAL
    install = INSTALL
    never = (Feature.OFF_GRID,)
    kind: str
    #: Our adapter of the same operator: fibres and costs.
    ours: GridAdapter
    #: Our parameter's name -> gconv's.
    names: ClassVar[Mapping[str, str]]

    def cases(self) -> Iterable[Case]:
        """A case with parity, a kernel that is sampled between its taps, and a stride."""
        for size, kernel, stride, padding in ((4, 3, 1, 1), (6, 5, 1, 2), (7, 3, 2, 1)):
            yield Case.of(
                group="O", size=size, kernel=kernel, stride=stride, padding=padding, fields_in=2, fields_out=2
            )

    def layer(self, case: Case, **where: Any) -> Any:
        """The layer on a fixed set of rotations, without its mask."""
        made = getattr(load(), self.kind)(
            case["fields_in"],
            case["fields_out"],
            case["kernel"],
            stride=case["stride"],
            padding=case["padding"],
            grid_H=rotations(case["group"]),
            permute_output_grid=False,
            mask=False,
            bias=True,
        )
        return made.to(**where)

    def function(self, layer: Any) -> Any:
        """The layer's first output; the second output is the set of rotations."""
        return lambda x: layer(x, layer.kernel.grid_H)[0]

    def fibres(self, case: Case) -> tuple[str, str]:
        """The fibres of our layer."""
        return self.ours.fibres(case)

    def cost(self, case: Case) -> Cost:
        """The cost of our layer, which is the same operator."""
        return self.ours.cost(case)

    def build(self, case: Case, *, device: str, dtype: str, seed: int) -> Claim:
        """The claim of the layer, with our layer as twin if both are the same operator."""
        claim = super().build(case, device=device, dtype=dtype, seed=seed)
        [theirs] = claim.modules
        return replace(claim, twins=(lambda: self._twin(case, theirs, claim),)) if self._is_ours(case) else claim

    def lacks(self, case: Case) -> set[Feature]:
        """A twin, unless our layer is the same operator."""
        return {*super().lacks(case), *(() if self._is_ours(case) else (Feature.TWINS,))}

    def _is_ours(self, case: Case) -> bool:
        return bool(case["kernel"] <= 3)

    def _twin(self, case: Case, theirs: Any, claim: Claim) -> Any:
        import torch

        from ...harness.claim.claim import Twin

        ours = self.ours.layer(case, device=claim.device, dtype=claim.dtype)

        def by_us(theta: Any, x: Any) -> Any:
            return torch.func.functional_call(ours, dict(theta), (x,))

        def by_them(theta: Any, x: Any) -> Any:
            shapes = dict(theirs.named_parameters())
            moved = {self.names[n]: _as_read(n, p).reshape(shapes[self.names[n]].shape) for n, p in theta.items()}
            return torch.func.functional_call(theirs, moved, (x, theirs.kernel.grid_H))[0]

        return Twin("ours and gconv", by_us, by_them, dict(ours.named_parameters()))


def _as_read(name: str, p: torch.Tensor) -> torch.Tensor:
    """A weight [out, in, element, ...] in gconv's layout; lifting weights, spatial weights and biases unchanged."""
    return p if name in ("bias", "spatial_weight") or p.dim() == 5 else p.transpose(0, 2)


class LiftingConv(Gconv):
    """``gconv.gnn.GLiftingConvSE3``."""

    name = "gconv.GLiftingConvSE3"
    kind = "GLiftingConvSE3"
    ours = Lifting()
    names: ClassVar[Mapping[str, str]] = {"weight": "kernel.weight", "bias": "bias"}


class GroupConv(Gconv):
    """``gconv.gnn.GConvSE3``."""

    name = "gconv.GConvSE3"
    kind = "GConvSE3"
    ours = Regular()
    names: ClassVar[Mapping[str, str]] = {"weight": "kernel.weight", "bias": "bias"}


class SeparableConv(Gconv):
    """``gconv.gnn.GSeparableConvSE3``: it pads and strides in both of its steps, our layer only in the second."""

    name = "gconv.GSeparableConvSE3"
    kind = "GSeparableConvSE3"
    ours = Separable()
    names: ClassVar[Mapping[str, str]] = {
        "group_weight": "kernel.weight_H",
        "spatial_weight": "kernel.weight",
        "bias": "bias",
    }

    def cases(self) -> Iterable[Case]:
        """Cases without padding, which equal our layer, and with padding."""
        for size, kernel, stride, padding in ((5, 3, 1, 0), (4, 5, 1, 2), (7, 3, 2, 1)):
            yield Case.of(
                group="O",
                size=size,
                kernel=kernel,
                stride=stride,
                padding=padding,
                variant="pointwise_first",
                fields_in=2,
                fields_out=2,
            )

    def _is_ours(self, case: Case) -> bool:
        return super()._is_ours(case) and case["padding"] == 0 and case["stride"] == 1
