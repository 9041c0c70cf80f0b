"""Adapters of the project's spherical integrals, changes of domain and bandwidth, nonlinearities and blocks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ...harness.adapters.adapter import Case, Cost, Feature, Value
from ...harness.adapters.operators import TRANSFORM
from ...harness.search.strategies import cases
from .. import configurations
from . import costs
from .convolutions import S2Conv, SO3Conv, SO3Shortcut, Spherical, invariants, kernel_grid, on, rotations, sphere

if TYPE_CHECKING:
    from ...harness.fields.field import Field
    from ...harness.search.strategies import Cases


class SO3ToS2(Spherical):
    """``equiharness.kernels.SO3ToS2``: the mean over gamma."""

    name = "equiharness.SO3ToS2"
    never = (*Spherical.never, Feature.SAME_FIELDS)

    def cases(self) -> Iterable[Case]:
        """Two bandwidths."""
        yield Case.of(b=4, channels=2)
        yield Case.of(b=8, channels=2)

    def strategy(self) -> Cases:
        """Every small bandwidth."""
        return cases(b=range(1, 8), channels=(1, 2, 3))

    def layer(self, case: Case) -> tuple[Any, Field, Field]:
        """The same number of channels on S2."""
        from ... import kernels

        b, channels = case["b"], case["channels"]
        return kernels.SO3ToS2(), rotations(b, channels), sphere(b, channels)

    def cost(self, case: Case) -> Cost:
        """One addition for each value."""
        values = case["channels"] * costs.points("so3", case["b"])
        return costs.cost(float(values), values + case["channels"] * costs.points("s2", case["b"]))


class Integral(Spherical):
    """``equiharness.kernels.s2_integrate`` and ``so3_integrate``."""

    name = "equiharness.integrate"
    never = (*Spherical.never, Feature.SAME_FIELDS)

    def cases(self) -> Iterable[Case]:
        """Both domains at three bandwidths."""
        for domain in ("s2", "so3"):
            for b in (4, 8, 16):
                yield Case.of(domain=domain, b=b, channels=2)

    def strategy(self) -> Cases:
        """Both domains."""
        return configurations.spherical_map()

    def layer(self, case: Case) -> tuple[Any, Field, Field]:
        """One number for each channel."""
        from ... import kernels

        function = kernels.s2_integrate if case["domain"] == "s2" else kernels.so3_integrate
        return function, on(case["domain"], case["b"], case["channels"]), invariants(case["channels"])

    def cost(self, case: Case) -> Cost:
        """One addition for each value."""
        values = case["channels"] * costs.points(case["domain"], case["b"])
        return costs.cost(float(values), values)


class Resample(Spherical):
    """``equiharness.kernels.s2_resample`` and ``so3_resample``: spectral pooling and upsampling."""

    name = "equiharness.resample"

    def lacks(self, case: Case) -> set[Feature]:
        """One field for both ends if the bandwidth changes."""
        return {*super().lacks(case), *(() if case["b_in"] == case["b_out"] else (Feature.SAME_FIELDS,))}

    def cases(self) -> Iterable[Case]:
        """Down and up, on both domains."""
        for domain in ("s2", "so3"):
            yield Case.of(domain=domain, b_in=8, b_out=4, channels=2)
            yield Case.of(domain=domain, b_in=4, b_out=7, channels=2)

    def case_of(self, kind: str, parameters: Mapping[str, Value]) -> Case | None:
        """There and back at one bandwidth."""
        b, channels = parameters.get("b"), parameters.get("channels")
        return Case.of(domain="s2", b_in=b, b_out=b, channels=channels) if kind == TRANSFORM else None

    def strategy(self) -> Cases:
        """Down and up, both domains."""
        return configurations.spherical_resampling()

    def layer(self, case: Case) -> tuple[Any, Field, Field]:
        """The same channels at another bandwidth."""
        from ... import kernels

        resample = kernels.s2_resample if case["domain"] == "s2" else kernels.so3_resample
        b_in, b_out, channels = case["b_in"], case["b_out"], case["channels"]
        source, target = (on(case["domain"], b, channels) for b in (b_in, b_out))
        return (lambda x: resample(x, b_out)), source, target

    def cost(self, case: Case) -> Cost:
        """Two transforms."""
        domain, b_in, b_out = case["domain"], case["b_in"], case["b_out"]
        flops = costs.transform(domain, b_in, min(b_in, b_out)) + costs.transform(domain, b_out, min(b_in, b_out))
        values = costs.points(domain, b_in) + costs.points(domain, b_out)
        return costs.cost(case["channels"] * flops, case["channels"] * values)


class Nonlinearity(Spherical):
    """``equiharness.kernels.OversampledNonlinearity``: approximate, better by each power of the oversampling."""

    name = "equiharness.OversampledNonlinearity"

    def cases(self) -> Iterable[Case]:
        """Relu and tanh, with and without oversampling."""
        for domain in ("s2", "so3"):
            for function in ("relu", "tanh"):
                for oversample in (1, 2):
                    yield Case.of(
                        domain=domain,
                        b=8 if domain == "s2" else 6,
                        function=function,
                        oversample=oversample,
                        channels=2,
                    )

    def layer(self, case: Case) -> tuple[Any, Field, Field]:
        """A pointwise function."""
        import torch

        from ... import kernels

        layer = kernels.OversampledNonlinearity(getattr(torch, case["function"]), case["oversample"], case["domain"])
        field = on(case["domain"], case["b"], case["channels"])
        return layer, field, field

    def cost(self, case: Case) -> Cost:
        """Upsampling, the function and downsampling; without oversampling only the function."""
        domain, b, fine = case["domain"], case["b"], case["b"] * case["oversample"]
        transforms = 2 * (costs.transform(domain, b, b) + costs.transform(domain, fine, b)) if fine > b else 0.0
        points = costs.points(domain, fine)
        return costs.cost(case["channels"] * (transforms + points), case["channels"] * 2 * costs.points(domain, b))


class ResBlock(Spherical):
    """``equiharness.kernels.S2ResBlock`` and ``SO3ResBlock``, at the bandwidth of each signal."""

    name = "equiharness.ResBlock"
    never = (Feature.OFF_GRID, Feature.TWINS)

    def lacks(self, case: Case) -> set[Feature]:
        """One field for both ends for signals on S2, which become signals on SO(3)."""
        return {*super().lacks(case), *((Feature.SAME_FIELDS,) if case["domain"] == "s2" else ())}

    def cases(self) -> Iterable[Case]:
        """With the plain relu, and oversampled."""
        yield Case.of(domain="s2", b_in=8, b_out=4, oversample=1, channels_in=1, channels_out=2)
        yield Case.of(domain="so3", b_in=8, b_out=4, oversample=2, channels_in=1, channels_out=2)

    def layer(self, case: Case) -> tuple[Any, Field, Field]:
        """Norms hold statistics of their own."""
        import torch

        from ... import kernels

        cin, cout, b_in, b_out = (case[k] for k in ("channels_in", "channels_out", "b_in", "b_out"))
        relu = kernels.OversampledNonlinearity(torch.relu, case["oversample"])
        grid = kernel_grid("so3", "near identity")
        if case["domain"] == "s2":
            block: Any = kernels.S2ResBlock(cin, cout, b_in, b_out, kernel_grid("s2", "near identity"), grid, relu)
        else:
            block = kernels.SO3ResBlock(cin, cout, b_in, b_out, grid, relu)
        for norm in (block.norm1, block.norm2):
            torch.nn.init.uniform_(norm.running_var, 0.5, 1.5)
            torch.nn.init.uniform_(norm.running_mean, -0.5, 0.5)
        return kernels.AnyBandwidth(block), on(case["domain"], b_in, cin), rotations(b_out, cout)

    def cost(self, case: Case) -> Cost:
        """Its two convolutions and its shortcut; norms and nonlinearities pass over the values once."""
        p = dict(case.parameters, grid="near identity")
        first = (S2Conv if case["domain"] == "s2" else SO3Conv)().cost(Case("", p))
        second = SO3Conv().cost(Case("", {**p, "b_in": case["b_out"], "channels_in": case["channels_out"]}))
        shortcut = SO3Shortcut().cost(Case("", p))
        parts = (first, second, shortcut)
        return Cost(*(sum(getattr(c, k) for c in parts) for k in Cost.__dataclass_fields__))


class Stack(Spherical):
    """``equiharness.kernels.SpectralSequential`` of three convolutions, which exchange spectra."""

    name = "equiharness.SpectralSequential"
    never = (Feature.OFF_GRID, Feature.SAME_FIELDS)

    def cases(self) -> Iterable[Case]:
        """Bandwidths that fall from layer to layer."""
        yield Case.of(b_in=8, b_mid=6, b_out=4, channels=2)

    def strategy(self) -> Cases:
        """Bandwidths in any order."""
        return cases(b_in=range(1, 7), b_mid=range(1, 6), b_out=range(1, 6), channels=(1, 2))

    def layer(self, case: Case) -> tuple[Any, Field, Field]:
        """One layer from S2 to SO(3) and two layers on SO(3)."""
        from ... import kernels

        b_in, b_mid, b_out, channels = (case[k] for k in ("b_in", "b_mid", "b_out", "channels"))
        grid = kernel_grid("so3", "near identity")
        layers = (
            kernels.S2Conv(channels, channels, b_in, b_mid, kernel_grid("s2", "near identity")),
            kernels.SO3Conv(channels, channels, b_mid, b_mid, grid),
            kernels.SO3Conv(channels, channels, b_mid, b_out, grid),
        )
        return kernels.SpectralSequential(*layers), sphere(b_in, channels), rotations(b_out, channels)

    def twins(self, case: Case, function: Any) -> tuple[Any, ...]:
        """The same layers with a signal after each layer."""
        from .formula import through_signals

        return (through_signals(function),)

    def cost(self, case: Case) -> Cost:
        """One transform in, one out, three kernel transforms and products."""
        b_in, b_mid, b_out, channels = (case[k] for k in ("b_in", "b_mid", "b_out", "channels"))
        common = {"channels_in": channels, "channels_out": channels, "grid": "near identity"}
        sizes = ((b_in, b_mid), (b_mid, b_mid), (b_mid, b_out))
        kinds = (S2Conv(), SO3Conv(), SO3Conv())
        parts = [k.cost(Case("", {**common, "b_in": i, "b_out": o})) for k, (i, o) in zip(kinds, sizes, strict=True)]
        saved = 2 * channels * (costs.transform("so3", b_mid, b_mid) + costs.transform("so3", b_mid, b_out))
        values = channels * (costs.points("s2", b_in) + costs.points("so3", b_out))
        return costs.cost(sum(c.flops for c in parts) - saved, values)
