"""Adapter of torch-harmonics: its spherical harmonic transform and its convolutions, on its own grids.

Tensors are [batch, channels, latitude, longitude], north first, longitude k at 2 pi k / n. "legendre-gauss" has the
harness's "gauss" rings, "equiangular" (Clenshaw-Curtis, with both poles) its "equiangular" rings. Spectra are
[..., l, m], m >= 0, of f = sum a_lm Y_lm, with a_lm = sqrt(4 pi (2l+1)) x^l_m in our normalisation.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import math
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ...harness.adapters.adapter import Case, Cost, Expected, Family, Feature, Implementation, Value
from ...harness.adapters.operators import TRANSFORM, ZONAL
from ...harness.errors import MissingDependencyError
from ...harness.search.strategies import cases
from ...harness.verdict.codes import Verdict
from ..spherical import costs

if TYPE_CHECKING:
    from ...harness.claim.claim import Claim, Twin
    from ...harness.fields.field import Field
    from ...harness.search.strategies import Cases

PACKAGE = "torch_harmonics"
INSTALL = "pip install torch-harmonics==0.9.1"
#: Radius of DISCO filters in radians: on the coarsest grid it covers as many rings as a filter has.
CUTOFF = 0.6
#: The robustness property finds this on every layer with a transform.
EMPTY_BATCH = Expected("robustness", Verdict.BROKEN, "its FFT along the rings refuses an empty batch.")
#: Names of the rings in the harness.
GRIDS = {"legendre-gauss": "gauss", "equiangular": "equiangular"}


@functools.cache
def load(module: str) -> Any:
    """Import a module of the library, such as "sht".

    The package first imports its compiled parts, which load only with the torch version that they were built with. If
    they do not load, modules that do not need them are imported without the package.

    Raises:
        MissingDependencyError: the library is missing, or the module needs the compiled parts.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None:
        raise MissingDependencyError(f"{PACKAGE} is not installed. Install it: {INSTALL}")
    before = set(sys.modules)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(f"{PACKAGE}.{module}")
        except Exception as error:  # any error of the loader or the dispatcher
            for name in [n for n in sys.modules if n not in before and n.partition(".")[0] == PACKAGE]:
                del sys.modules[name]  # parts of the package that failed to load
            try:
                return _without_compiled_parts(spec, module)
            except Exception:
                raise MissingDependencyError(
                    f"{PACKAGE}.{module} cannot be imported: its compiled part does not load with this version "
                    f"of torch ({error}). Install a build for it: {INSTALL}"
                ) from error


def _without_compiled_parts(spec: Any, module: str) -> Any:
    """Import a module under a package that is not executed, and remove the package from sys.modules afterwards."""
    package = importlib.util.module_from_spec(spec)

    def ours() -> list[str]:
        return [name for name in sys.modules if name.partition(".")[0] == PACKAGE]

    before = {name: sys.modules.pop(name) for name in ours()}
    sys.modules[PACKAGE] = package
    try:
        transforms = importlib.import_module(f"{PACKAGE}.sht")
        vars(package).update(RealSHT=transforms.RealSHT, InverseRealSHT=transforms.InverseRealSHT)
        return importlib.import_module(f"{PACKAGE}.{module}")
    finally:
        for name in ours():
            del sys.modules[name]
        sys.modules.update(before)


def field_of(case: Case, channels: int, b: int | None = None) -> Field:
    """Scalars on the library's grid of a case; ``equiangular`` has 2b - 1 rings, the least for b degrees."""
    from ...harness.fields.field import Field
    from ...harness.fields.spheres import Sphere

    return Field(Sphere(b or case["b"], grid=GRIDS[case["grid"]]), "SO3", f"{channels}*trivial")


class _TorchHarmonics(Implementation):
    """The base class of the library's layers."""

    library = "torch-harmonics"
    family = Family.SPHERICAL
    install = INSTALL
    never: tuple[Feature, ...] = (Feature.BACKENDS, Feature.OFF_GRID)

    def build(self, case: Case, *, device: str, dtype: str, seed: int) -> Claim:
        """The claim of the layer with random weights, in float32 or, if the library supports it, in float64."""
        import torch

        from ...harness.claim.claim import Claim

        self.require()
        torch.manual_seed(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about changed defaults of arguments that are given here
            layer, source, target = self.layer(case)
        working = getattr(torch, dtype)
        return Claim(
            self.function(case, self.placed(layer, device, working)),
            source.group,
            source,
            target,
            dtype=working,
            device=device,
            seed=seed,
            modules=(layer,),
            twins=self.twins(case, layer),
        )

    def layer(self, case: Case) -> tuple[Any, Field, Field]:
        """The module of one case, its source and its target."""
        raise NotImplementedError

    def placed(self, layer: Any, device: str, dtype: Any) -> Any:
        """The module on its device with its own dtypes: tables stay in float64, complex weights have one precision."""
        return layer.to(device)

    def function(self, case: Case, layer: Any) -> Callable[..., Any]:
        """The module as a function of tensors."""
        called: Callable[..., Any] = layer
        return called

    def twins(self, case: Case, layer: Any) -> tuple[Callable[[], Twin], ...]:
        """Pairs of implementations of this operator."""
        return ()


class RealSHT(_TorchHarmonics):
    """``torch_harmonics.RealSHT`` and back by ``InverseRealSHT``: the projection on the degrees below b."""

    name = "torch_harmonics.RealSHT"
    never = (Feature.BACKENDS, Feature.OFF_GRID, Feature.PARAMETERS)
    expected = (EMPTY_BATCH,)

    def case_of(self, kind: str, parameters: Mapping[str, Value]) -> Case | None:
        """The transform and its inverse, on the rings that need the fewest points."""
        b, channels = parameters.get("b"), parameters.get("channels")
        return Case.of(grid="legendre-gauss", b=b, channels=channels) if kind == TRANSFORM else None

    def cases(self) -> Iterable[Case]:
        """Both grids."""
        yield Case.of(grid="legendre-gauss", b=8, channels=2)
        yield Case.of(grid="equiangular", b=8, channels=2)
        yield Case.of(grid="legendre-gauss", b=16, channels=2)

    def strategy(self) -> Cases:
        """Both grids, every small bandwidth."""
        return cases(grid=("legendre-gauss", "equiangular"), b=range(2, 13), channels=(1, 2, 3))

    def layer(self, case: Case) -> tuple[Any, Field, Field]:
        """The transform and its inverse."""
        import torch

        field = field_of(case, case["channels"])
        sht, b = load("sht"), case["b"]
        there = sht.RealSHT(*field.domain.axes, lmax=b, mmax=b, grid=case["grid"])
        back = sht.InverseRealSHT(*field.domain.axes, lmax=b, mmax=b, grid=case["grid"])
        return torch.nn.Sequential(there, back), field, field

    def twins(self, case: Case, layer: Any) -> tuple[Callable[[], Twin], ...]:
        """Their transform, and our sum over the points of their grid; both use their synthesis."""
        return (lambda: _transforms(case, layer),)

    def cost(self, case: Case) -> Cost:
        """Two transforms."""
        return _cost(case, case["channels"], case["channels"], 0)


def _transforms(case: Case, layer: Any) -> Twin:
    import torch

    from ... import kernels
    from ...harness.claim.claim import Twin

    band = field_of(case, 1).domain.band
    assert band is not None
    rings, angles = torch.from_numpy(band.betas), 2 * math.pi * torch.arange(band.angles).double() / band.angles
    points = torch.stack([t.flatten() for t in torch.meshgrid(rings, angles, indexing="ij")], 1)
    weights = (band.weights / band.angles).repeat_interleave(band.angles)

    def theirs(_theta: Any, x: Any) -> Any:
        return layer(x)

    def ours(_theta: Any, x: Any) -> Any:
        spectrum = kernels.s2_ft(x.flatten(2) * weights.to(x), points, band.b)
        return layer[1](to_theirs(spectrum))

    return Twin("their transform and our sum over points", theirs, ours, {})


def to_theirs(spectrum: Any) -> Any:
    """Our complex spectrum [..., b^2] in their layout [..., l, m], m >= 0."""
    import torch

    b = math.isqrt(spectrum.shape[-1])
    degree, order = torch.meshgrid(torch.arange(b), torch.arange(b), indexing="ij")
    there = order <= degree
    picked = spectrum[..., torch.where(there, degree**2 + degree + order, 0)]
    return picked * (there * torch.sqrt(4 * torch.pi * (2.0 * degree + 1))).to(picked.real)


class SpectralConvS2(_TorchHarmonics):
    """``torch_harmonics.SpectralConvS2``: one matrix for each degree, so that only zonal kernels exist."""

    name = "torch_harmonics.SpectralConvS2"
    never = (Feature.BACKENDS, Feature.OFF_GRID, Feature.PARAMETERS, Feature.TWINS)  # its weights are complex
    expected = (
        EMPTY_BATCH,
        *(
            Expected(
                name,
                Verdict.BROKEN,
                "its weights are complex: a weight that is not real multiplies the orders m and -m of a real signal by "
                "conjugates, which commutes only with rotations about the poles.",
                when={"weights": "complex"},
            )
            for name in ("equivariance", "worst_case", "adjoint", "composition")
        ),
    )

    def lacks(self, case: Case) -> set[Feature]:
        """One field for both ends if the bandwidth changes."""
        return {*super().lacks(case), *(() if case["b"] == case["b_out"] else (Feature.SAME_FIELDS,))}

    def case_of(self, kind: str, parameters: Mapping[str, Value]) -> Case | None:
        """The layer with real weights, which are equivariant."""
        b, channels = parameters.get("b"), parameters.get("channels")
        if kind != ZONAL:
            return None
        return Case.of(grid="legendre-gauss", b=b, b_out=b, channels=channels, weights="real")

    def cases(self) -> Iterable[Case]:
        """Real and complex weights; bandwidths that stay and shrink."""
        yield Case.of(grid="legendre-gauss", b=8, b_out=8, channels=2, weights="real")
        yield Case.of(grid="equiangular", b=8, b_out=8, channels=2, weights="real")
        yield Case.of(grid="legendre-gauss", b=8, b_out=4, channels=2, weights="real")
        yield Case.of(grid="legendre-gauss", b=8, b_out=8, channels=2, weights="complex")

    def strategy(self) -> Cases:
        """Real weights, bandwidths that stay and shrink."""
        return cases(
            grid=("legendre-gauss", "equiangular"),
            b=range(2, 11),
            b_out=lambda drawn: range(drawn["b"], 1, -1),
            channels=(1, 2, 3),
            weights=("real",),
        )

    def layer(self, case: Case) -> tuple[Any, Field, Field]:
        """The layer without the bias, which is a pattern that rotations move."""
        import torch

        source, target = field_of(case, case["channels"]), field_of(case, case["channels"], case["b_out"])
        shapes = (source.domain.axes, target.domain.axes)
        grids = {"grid_in": case["grid"], "grid_out": case["grid"]}
        layer = load("spectral_convolution").SpectralConvS2(*shapes, case["channels"], case["channels"], **grids)
        if case["weights"] == "real":
            with torch.no_grad():
                layer.weight.imag.zero_()
        return layer, source, target

    def function(self, case: Case, layer: Any) -> Callable[..., Any]:
        """The layer without compilation, because its contraction is one einsum."""
        import torch

        def call(x: Any) -> Any:
            with torch.compiler.set_stance("force_eager"):
                return layer(x)

        return call

    def cost(self, case: Case) -> Cost:
        """Two transforms and a complex product for each coefficient with m >= 0."""
        b = min(case["b"], case["b_out"])
        return _cost(case, case["channels"], case["channels"], 8 * case["channels"] ** 2 * b * (b + 1) // 2)


class DiscreteContinuousConvS2(_TorchHarmonics):
    """``torch_harmonics.DiscreteContinuousConvS2`` with isotropic filters: equivariant in the limit of fine grids.

    The library's torch fallback computes it; this fallback can be imported only with the compiled part.
    """

    name = "torch_harmonics.DiscreteContinuousConvS2"
    never = (Feature.BACKENDS, Feature.OFF_GRID, Feature.TWINS)

    def require(self) -> None:
        """Raise unless the library and its compiled part can be imported."""
        super().require()
        load("disco.convolution")

    def cases(self) -> Iterable[Case]:
        """Three rings of a piecewise linear filter."""
        yield Case.of(grid="legendre-gauss", b=16, channels=2, rings=3)

    def build(self, case: Case, *, device: str, dtype: str, seed: int) -> Claim:
        """A claim in the limit: filters have a fixed size in radians, and the weights do not depend on the grid."""
        import dataclasses

        from ...harness.claim.claim import Approximate

        claim = super().build(case, device=device, dtype=dtype, seed=seed)
        # The quadrature of a filter with kinks that vanishes at the cutoff has at least order one.
        return dataclasses.replace(claim, contract=Approximate(order=1.0))

    def layer(self, case: Case) -> tuple[Any, Field, Field]:
        """The layer at the case's bandwidth."""
        field = field_of(case, case["channels"])
        return self._on(case, field.domain.axes), field, field

    def placed(self, layer: Any, device: str, dtype: Any) -> Any:
        """The module in the working precision, because filters and signals are multiplied in one precision."""
        return layer.to(device, dtype)

    def function(self, case: Case, layer: Any) -> Callable[..., Any]:
        """A function with one set of weights for signals on any grid."""
        import torch

        def call(x: Any) -> Any:
            shape = tuple(x.shape[2:])
            resized = layer if shape == (layer.nlat_in, layer.nlon_in) else self._on(case, shape)
            return torch.func.functional_call(resized, {"weight": layer.weight}, (x,))

        return call

    def _on(self, case: Case, shape: tuple[int, ...]) -> Any:
        """The layer between grids of one shape."""
        channels, grid = case["channels"], case["grid"]
        return load("disco.convolution").DiscreteContinuousConvS2(
            channels,
            channels,
            shape,
            shape,
            case["rings"],
            grid_in=grid,
            grid_out=grid,
            bias=False,
            theta_cutoff=CUTOFF,
            optimized_kernel=False,
        )

    def cost(self, case: Case) -> Cost:
        """One multiply-add for each filter ring, output point and neighbour, and the mixing of channels."""
        field = field_of(case, 1)
        points = math.prod(field.domain.axes)
        share = (1 - math.cos(CUTOFF)) / 2  # share of the sphere within the cutoff
        flops = 2.0 * case["channels"] * case["rings"] * points * (share * points + case["channels"])
        return costs.cost(flops, 2 * case["channels"] * points)


def _cost(case: Case, channels_in: int, channels_out: int, products: float) -> Cost:
    """Two transforms on the library's grid: FFTs along rings, then a complex sum over rings for each m >= 0."""
    b, b_out = case["b"], case.parameters.get("b_out") or case["b"]
    degrees = min(b, int(b_out))
    flops, values = float(products), 0.0
    for channels, size in ((channels_in, b), (channels_out, int(b_out))):
        rings, angles = field_of(case, 1, size).domain.axes
        flops += channels * rings * (2.5 * angles * math.log2(angles) + 2.0 * degrees * (degrees + 1))
        values += channels * rings * angles
    return costs.cost(flops, values)
