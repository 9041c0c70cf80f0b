"""Adapters of the project's own spherical convolutions, and the base class of its spherical adapters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ...harness.adapters.adapter import Case, Cost, Expected, Family, Feature, Implementation, Value
from ...harness.adapters.operators import ROTATIONS, SPHERE
from ...harness.fields.library_types import TypedLayer
from ...harness.verdict.codes import Verdict
from .. import configurations
from . import costs

if TYPE_CHECKING:
    from ...harness.claim.claim import Claim
    from ...harness.fields.field import Field
    from ...harness.search.strategies import Cases


def sphere(b: int, channels: int) -> Field:
    """Scalars on S2 under SO(3)."""
    from ...harness.fields.field import Field
    from ...harness.fields.spheres import Sphere

    return Field(Sphere(b), "SO3", f"{channels}*trivial")


def rotations(b: int, channels: int) -> Field:
    """Scalars on SO(3) under SO(3)."""
    from ...harness.fields.field import Field
    from ...harness.fields.spheres import Rotations

    return Field(Rotations(b), "SO3", f"{channels}*trivial")


def invariants(channels: int) -> Field:
    """Numbers."""
    from ...harness.fields.domains import Vector
    from ...harness.fields.field import Field

    return Field(Vector(), "SO3", f"{channels}*trivial")


def on(domain: str, b: int, channels: int) -> Field:
    """Scalars on "s2" or "so3"."""
    return (sphere if domain == "s2" else rotations)(b, channels)


def typed_layer(layer: Any) -> TypedLayer | None:
    """The claim of a spherical layer; None unless the layer fixes channels and bandwidths."""
    from ... import kernels
    from ...harness.symmetry.groups import group

    network = layer.network if isinstance(layer, kernels.AnyBandwidth) else layer
    ends = _ends(network)
    if ends is None:
        return None
    first, last = ends
    # Nonlinear blocks are judged at several bandwidths with the same weights.
    function = kernels.AnyBandwidth(network) if _is_block(network) else layer
    source = on("s2" if first.axes_in == 2 else "so3", first.b_in, first.in_channels)
    return TypedLayer(function, group("SO3"), source, rotations(last.b_out, last.out_channels), has_fields=True)


def _is_block(layer: Any) -> bool:
    from ... import kernels

    return isinstance(layer, (kernels.S2ResBlock, kernels.SO3ResBlock, kernels.SpectralSequential))


def _ends(layer: Any) -> tuple[Any, Any] | None:
    """The first and the last layer of one, of a residual block, or of a sequence that ends in a linear layer."""
    from ... import kernels

    if isinstance(layer, (kernels.S2Conv, kernels.SO3Conv, kernels.SO3Shortcut)):
        return layer, layer
    if isinstance(layer, (kernels.S2ResBlock, kernels.SO3ResBlock)):
        return layer.conv1, layer.conv2
    if isinstance(layer, kernels.SpectralSequential) and len(layer):
        ends = _ends(layer[0]), _ends(layer[-1])
        return (ends[0][0], ends[1][1]) if ends[0] is not None and ends[1] is not None else None
    return None


def kernel_grid(domain: str, name: str) -> Any:
    """A small kernel grid by name."""
    from ... import kernels

    grids = {
        ("s2", "near identity"): lambda: kernels.s2_near_identity(),
        ("s2", "equatorial"): lambda: kernels.s2_equatorial(n_alpha=16),
        ("s2", "soft"): lambda: kernels.s2_soft(2),
        ("so3", "near identity"): lambda: kernels.so3_near_identity(n_alpha=4, n_beta=2),
        ("so3", "equatorial"): lambda: kernels.so3_equatorial(n_alpha=8),
        ("so3", "soft"): lambda: kernels.so3_soft(2),
    }
    return grids[domain, name]()


class Spherical(Implementation):
    """The base class of the spherical layers: it builds the claim."""

    library = "equiharness"
    family = Family.SPHERICAL
    #: Backends of the first case: compilers and export.
    backends: tuple[str, ...] = ()
    never: tuple[Feature, ...] = (Feature.OFF_GRID, Feature.PARAMETERS, Feature.TWINS)

    def lacks(self, case: Case) -> set[Feature]:
        """Backends except in the first case; one field for both ends unless bandwidth and channels stay."""
        backends = () if self.backends and self.leads(case) else (Feature.BACKENDS,)
        p = case.parameters
        stays = all(p[f"{name}_in"] == p[f"{name}_out"] for name in ("b", "channels") if f"{name}_in" in p)
        return {*super().lacks(case), *backends, *(() if stays else (Feature.SAME_FIELDS,))}

    def build(self, case: Case, *, device: str, dtype: str, seed: int) -> Claim:
        """The claim of the layer with random weights and biases, in evaluation mode."""
        import torch

        from ...harness.claim.claim import Claim

        self.require()
        torch.manual_seed(seed)
        function, source, target = self.layer(case)
        working = getattr(torch, dtype)
        if isinstance(function, torch.nn.Module):
            with torch.no_grad():
                for name, parameter in function.named_parameters():
                    if name.endswith(
                        "bias"
                    ):  # the default zero would not test the bias, and a large bias would switch off every relu
                        parameter.normal_(std=0.1)
            function = function.to(device, working).eval()
        twins = self.twins(case, function)
        return Claim(
            function,
            source.group,
            source,
            target,
            dtype=working,
            device=device,
            seed=seed,
            twins=twins,
            backends=self.backends if self.leads(case) else (),
        )

    def layer(self, case: Case) -> tuple[Any, Field, Field]:
        """The function of one case, its source and its target."""
        raise NotImplementedError

    def twins(self, case: Case, function: Any) -> tuple[Any, ...]:
        """Pairs of implementations of this operator."""
        return ()


#: Layers of published models have aliases; ``alias=True`` exists for the weights of those models.
ALIASES = tuple(
    Expected(
        name,
        Verdict.BROKEN,
        "with alias=True the degrees from b_in on are quadrature values of lower ones, as in published models: they do "
        "not rotate with the signal once the bandwidth grows by two or more.",
        when={"alias": True},
    )
    for name in ("equivariance", "worst_case", "adjoint", "parameter_gradient")
)


class _Convolution(Spherical):
    """Cases and costs of the convolutions."""

    domain: str
    never: tuple[Feature, ...] = (Feature.OFF_GRID,)
    expected = ALIASES

    def case_of(self, kind: str, parameters: Mapping[str, Value]) -> Case | None:
        """The convolution at one bandwidth, near the identity."""
        if kind != (SPHERE if self.domain == "s2" else ROTATIONS):
            return None
        b, channels = parameters["b"], parameters["channels"]
        return Case.of(b_in=b, b_out=b, grid="near identity", channels_in=channels, channels_out=channels)

    def strategy(self) -> Cases:
        """Bandwidths that stay, shrink and grow."""
        return configurations.spherical_convolution(range(1, 9 if self.domain == "s2" else 6))

    def layer(self, case: Case) -> tuple[Any, Field, Field]:
        """``channels_in`` to ``channels_out`` channels."""
        from ... import kernels

        kind = kernels.S2Conv if self.domain == "s2" else kernels.SO3Conv
        cin, cout, b_in, b_out = (case[k] for k in ("channels_in", "channels_out", "b_in", "b_out"))
        layer = kind(cin, cout, b_in, b_out, kernel_grid(self.domain, case["grid"]), bool(case.parameters.get("alias")))
        return layer, on(self.domain, b_in, cin), rotations(b_out, cout)

    def twins(self, case: Case, function: Any) -> tuple[Any, ...]:
        """The spatial formula, if its matrix is small, and s2cnn's layer."""
        from ..s2cnn_twin import twin
        from .formula import spatial_formula

        return (*spatial_formula(function), twin(function))

    def cost(self, case: Case) -> Cost:
        """Transform, kernel transform, product and inverse transform of one sample."""
        cin, cout, b_in, b_out = (case[k] for k in ("channels_in", "channels_out", "b_in", "b_out"))
        degrees, points = min(b_in, b_out), len(kernel_grid(self.domain, case["grid"]))
        if self.domain == "s2":
            rows, products = degrees**2, costs.rows(degrees)
        else:
            rows, products = costs.rows(degrees), sum((2 * degree + 1) ** 3 for degree in range(degrees))
        flops = cin * costs.transform(self.domain, b_in, degrees) + cout * costs.transform("so3", b_out, degrees)
        kernels, weights = 2.0 * cin * cout * points * rows, cin * cout * points
        flops += kernels + 2.0 * cin * cout * products
        values = cin * costs.points(self.domain, b_in) + cout * costs.points("so3", b_out) + weights
        return costs.cost(flops, values, kernels, weights)


class S2Conv(_Convolution):
    """``equiharness.kernels.S2Conv``: S2 to SO(3)."""

    name = "equiharness.S2Conv"
    never = (Feature.OFF_GRID, Feature.SAME_FIELDS)
    backends = ("inductor", "export")
    domain = "s2"

    def cases(self) -> Iterable[Case]:
        """Bandwidths that stay, shrink and grow, and every kind of kernel grid."""
        for b_in, b_out, grid, channels in (
            (4, 4, "near identity", 2),
            (8, 8, "equatorial", 2),
            (16, 16, "near identity", 1),
            (8, 4, "soft", 2),
            (4, 6, "near identity", 2),
        ):
            yield Case.of(b_in=b_in, b_out=b_out, grid=grid, channels_in=channels, channels_out=channels)
        yield Case.of(b_in=4, b_out=6, grid="near identity", channels_in=2, channels_out=2, alias=True)


class SO3Conv(_Convolution):
    """``equiharness.kernels.SO3Conv``: SO(3) to SO(3)."""

    name = "equiharness.SO3Conv"
    backends = ("aot_eager",)
    domain = "so3"

    def cases(self) -> Iterable[Case]:
        """Bandwidths that stay, shrink and grow, and every kind of kernel grid."""
        for b_in, b_out, grid in (
            (4, 4, "near identity"),
            (8, 8, "near identity"),
            (6, 3, "equatorial"),
            (3, 5, "soft"),
        ):
            yield Case.of(b_in=b_in, b_out=b_out, grid=grid, channels_in=2, channels_out=2)
        yield Case.of(b_in=3, b_out=5, grid="near identity", channels_in=2, channels_out=2, alias=True)


class SO3Shortcut(Spherical):
    """``equiharness.kernels.SO3Shortcut``: the one-point convolution of residual blocks."""

    name = "equiharness.SO3Shortcut"
    never = (Feature.OFF_GRID, Feature.TWINS)

    def cases(self) -> Iterable[Case]:
        """A change of channels, and of bandwidth both ways."""
        yield Case.of(b_in=6, b_out=6, channels_in=2, channels_out=3)
        yield Case.of(b_in=6, b_out=4, channels_in=2, channels_out=2)
        yield Case.of(b_in=4, b_out=5, channels_in=2, channels_out=2)

    def strategy(self) -> Cases:
        """Bandwidths that stay, shrink and grow."""
        return configurations.spherical_shortcut(range(1, 7))

    def layer(self, case: Case) -> tuple[Any, Field, Field]:
        """One learned number for each pair of channels."""
        from ... import kernels

        cin, cout, b_in, b_out = (case[k] for k in ("channels_in", "channels_out", "b_in", "b_out"))
        return kernels.SO3Shortcut(cin, cout, b_in, b_out), rotations(b_in, cin), rotations(b_out, cout)

    def cost(self, case: Case) -> Cost:
        """Two transforms, and the product by a scalar in between."""
        cin, cout, b_in, b_out = (case[k] for k in ("channels_in", "channels_out", "b_in", "b_out"))
        degrees = min(b_in, b_out)
        flops = cin * costs.transform("so3", b_in, degrees) + cout * costs.transform("so3", b_out, degrees)
        flops += 2.0 * cin * cout * costs.rows(degrees)
        return costs.cost(flops, cin * costs.points("so3", b_in) + cout * costs.points("so3", b_out) + cin * cout)
