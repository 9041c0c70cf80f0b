"""Adapters of the project's own planar and octahedral layers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..harness.errors import UsageError
from ..harness.registry import Case, Cost, Family, Implementation, TypedLayer

if TYPE_CHECKING:
    import torch

    from ..harness.claim import Claim
    from ..harness.groups import Group
    from ..harness.representations import Fibre

#: Order and dimension of the groups in the fixed cases.
_ORDER = {"C4": 4, "D4": 8, "O": 24, "Oh": 48}
_DIM = {"C4": 2, "D4": 2, "O": 3, "Oh": 3}


class _Grid(Implementation):
    """What the grid layers share: their library, their case parameters, how a claim is put together."""

    library = "equiharness"
    family = Family.PLANAR  # the same classes serve the volumes of O and Oh

    def _claim(self, layer: Any, case: Case, source: str, target: str, *, pooled: bool = False, **where: Any) -> Claim:
        import torch

        from ..harness.claim import Claim
        from ..harness.fields import Field, Grid, Vector
        from ..harness.groups import group
        from .twins import of_layer

        of = group(case["group"])
        box = Grid(*([case["size"]] * of.dim))
        out = Vector() if pooled else Grid(*([self._output_size(case)] * of.dim))
        dtype: torch.dtype = getattr(torch, where["dtype"])
        return Claim(
            layer,
            of,
            Field(box, of, source, split=True),
            Field(out, of, target),
            dtype=dtype,
            device=where["device"],
            seed=where["seed"],
            twins=of_layer(layer),
        )

    @staticmethod
    def _output_size(case: Case) -> int:
        p = case.parameters
        k, s = int(p.get("kernel") or 1), int(p.get("stride") or 1)
        return (int(case["size"]) + 2 * int(p.get("padding") or 0) - k) // s + 1

    def _convolution(self, case: Case, kind: str, **where: Any) -> Any:
        import torch

        from .. import kernels

        torch.manual_seed(where["seed"])
        layer = getattr(kernels, kind)(
            case["group"],
            case["fields_in"],
            case["fields_out"],
            case["kernel"],
            stride=case["stride"],
            padding=case["padding"],
            padding_mode=case.parameters.get("padding_mode") or "zeros",
            device=where["device"],
            dtype=getattr(torch, where["dtype"]),
        )
        with torch.no_grad():
            layer.bias.normal_()  # the default zero would leave the bias untested
        return layer


class Lifting(_Grid):
    """``equiharness.kernels.LiftingConv``: scalars to a regular field."""

    name = "equiharness.LiftingConv"

    def cases(self) -> Iterable[Case]:
        """Odd and even boxes and kernels, strides, both paddings, in two and three dimensions."""
        yield _case("C4", 33, 3, 1, 1)
        yield _case("C4", 32, 4, 2, 1)
        yield _case("D4", 33, 5, 2, 2)
        yield _case("D4", 32, 3, 1, 1, padding_mode="circular")
        yield _case("O", 9, 3, 1, 1)
        yield _case("Oh", 9, 3, 2, 1)

    def build(self, case: Case, *, device: str, dtype: str, seed: int) -> Claim:
        """3 scalars to ``fields_out`` regular fields."""
        layer = self._convolution(case, "LiftingConv", device=device, dtype=dtype, seed=seed)
        target = f"{case['fields_out']}*regular"
        return self._claim(layer, case, f"{case['fields_in']}*trivial", target, device=device, dtype=dtype, seed=seed)

    def cost(self, case: Case) -> Cost:
        """Ci Co |G| k^d multiply-adds an output point."""
        return _convolution_cost(case, elements_in=1)


class Regular(_Grid):
    """``equiharness.kernels.GroupConv``: regular to regular fields."""

    name = "equiharness.GroupConv"

    def cases(self) -> Iterable[Case]:
        """As for the lifting layer, with regular inputs."""
        yield _case("C4", 33, 3, 1, 1, fields_in=4, fields_out=8)
        yield _case("C4", 32, 4, 2, 1, fields_in=4, fields_out=8)
        yield _case("D4", 33, 5, 2, 2, fields_in=4, fields_out=4)
        yield _case("D4", 32, 3, 1, 1, fields_in=4, fields_out=4, padding_mode="circular")
        yield _case("O", 9, 3, 1, 1, fields_in=2, fields_out=2)
        yield _case("Oh", 7, 3, 1, 1, fields_in=1, fields_out=2)

    def build(self, case: Case, *, device: str, dtype: str, seed: int) -> Claim:
        """``fields_in`` to ``fields_out`` regular fields."""
        layer = self._convolution(case, "GroupConv", device=device, dtype=dtype, seed=seed)
        source, target = f"{case['fields_in']}*regular", f"{case['fields_out']}*regular"
        return self._claim(layer, case, source, target, device=device, dtype=dtype, seed=seed)

    def cost(self, case: Case) -> Cost:
        """Ci Co |G|^2 k^d multiply-adds an output point."""
        return _convolution_cost(case, elements_in=_ORDER[case["group"]])


class GroupPooling(_Grid):
    """A regular convolution and ``equiharness.kernels.GroupPool``: regular to scalar fields."""

    name = "equiharness.GroupPool"

    def cases(self) -> Iterable[Case]:
        """Maximum and mean, plane and volume."""
        for group, size in (("C4", 33), ("D4", 32), ("O", 9), ("Oh", 7)):
            for mode in ("max", "mean"):
                yield Case.of(group=group, size=size, mode=mode, fields=4 if size > 9 else 2)

    def build(self, case: Case, *, device: str, dtype: str, seed: int) -> Claim:
        """Regular fields to as many scalars."""
        from .. import kernels

        layer = kernels.GroupPool(case["group"], case["mode"])
        source, target = f"{case['fields']}*regular", f"{case['fields']}*trivial"
        return self._claim(layer, case, source, target, device=device, dtype=dtype, seed=seed)

    def cost(self, case: Case) -> Cost:
        """One pass over the input."""
        return _pooling_cost(case, kept=1 / _ORDER[case["group"]])


class GlobalPooling(GroupPooling):
    """``equiharness.kernels.GlobalPool``: regular fields to invariants."""

    name = "equiharness.GlobalPool"

    def build(self, case: Case, *, device: str, dtype: str, seed: int) -> Claim:
        """Regular fields to as many numbers."""
        from .. import kernels

        layer = kernels.GlobalPool(case["group"], case["mode"])
        source, target = f"{case['fields']}*regular", f"{case['fields']}*trivial"
        return self._claim(layer, case, source, target, pooled=True, device=device, dtype=dtype, seed=seed)


def _case(
    group: str,
    size: int,
    kernel: int,
    stride: int,
    padding: int,
    *,
    fields_in: int = 3,
    fields_out: int = 8,
    padding_mode: str = "zeros",
) -> Case:
    return Case.of(
        group=group,
        size=size,
        kernel=kernel,
        stride=stride,
        padding=padding,
        padding_mode=padding_mode,
        fields_in=fields_in,
        fields_out=fields_out if _DIM[group] == 2 else min(fields_out, 2),
    )


def _convolution_cost(case: Case, elements_in: int) -> Cost:
    """Multiply-adds count two; backward does the work of forward twice (input and weight gradients)."""
    g, d = _ORDER[case["group"]], _DIM[case["group"]]
    n, m = case["size"] ** d, _Grid._output_size(case) ** d
    ci, co = case["fields_in"] * elements_in, case["fields_out"] * g
    flops = 2.0 * ci * co * case["kernel"] ** d * m
    weights = case["fields_in"] * case["fields_out"] * elements_in * case["kernel"] ** d
    moved = 4.0 * (ci * n + co * m + weights)
    return Cost(flops, moved, 3 * flops, 3 * moved)


def _pooling_cost(case: Case, kept: float) -> Cost:
    values = case["fields"] * _ORDER[case["group"]] * case["size"] ** _DIM[case["group"]]
    return Cost(values, 4.0 * values * (1 + kept), 2.0 * values, 8.0 * values * (1 + kept))


class TypeReader:
    """Reads what the project's own layers say of themselves: group and number of fields."""

    def layer(self, layer: Any) -> TypedLayer | None:
        """The claim of a lifting or regular convolution; pools take any number of fields and say nothing."""
        from .. import kernels
        from ..harness.groups import Group

        sources = {kernels.LiftingConv: "trivial", kernels.GroupConv: "regular"}
        if type(layer) not in sources:
            return None
        of = Group(layer.group.elements, layer.group.name)
        source = f"{layer.in_channels}*{sources[type(layer)]}"
        return TypedLayer(layer, of, source, f"{layer.out_channels}*regular", split=True)

    def fibre(self, spec: object, of: Group | None) -> tuple[Group, Fibre]:
        """The project's layers have no field types of their own."""
        raise UsageError(f"{spec!r} is no field type: write the fibre as a sum such as '8*regular'.")
