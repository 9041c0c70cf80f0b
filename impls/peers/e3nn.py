"""Adapter of e3nn: its checked layers, each with a float64 reference that has its own tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ...harness.adapters.adapter import Case, Cost, Expected, Family, Feature, Implementation, Value
from ...harness.adapters.operators import PRODUCT
from ...harness.search.strategies import cases
from ...harness.verdict.codes import Verdict
from .. import configurations
from .e3nn_types import LastMade, TypeReader, native

if TYPE_CHECKING:
    from ...harness.claim.claim import Claim
    from ...harness.search.strategies import Cases


LAST = LastMade()


class _E3nn(Implementation):
    """The base class of the e3nn layers: each is built in the working precision, with a float64 reference."""

    library = "e3nn"
    #: Backends of the first case.
    backends: tuple[str, ...] = ()
    family = Family.POINTS
    install = "pip install e3nn==0.6.0"
    never: tuple[Feature, ...] = (Feature.OFF_GRID, Feature.TWINS)

    def lacks(self, case: Case) -> set[Feature]:
        """Backends except in the first case."""
        return {*super().lacks(case), *(() if self.backends and self.leads(case) else (Feature.BACKENDS,))}

    def build(self, case: Case, *, device: str, dtype: str, seed: int) -> Claim:
        """The claim of the layer with random weights; the reference has the same weights and its own float64 tables."""
        import torch

        from ...harness.claim.claim import Claim

        self.require()
        exact = self._exact(case, seed)
        if dtype == "float64":
            layer = self._exact(case, seed).to(device, torch.float64)
        else:
            with native("float32"):  # e3nn cannot build in half precision
                layer = self.layer(case).to(device, getattr(torch, dtype))
        with torch.no_grad():
            for ours, theirs in zip(exact.parameters(), layer.parameters(), strict=True):
                theirs.copy_(ours)
                ours.copy_(theirs.double().cpu())
        typed = TypeReader().layer(layer)
        assert typed is not None
        return Claim(
            layer,
            typed.group,
            typed.source,
            typed.target,
            dtype=getattr(torch, dtype),
            device=device,
            seed=seed,
            modules=(layer,),
            reference=exact.to(device),
            refined=typed.refined,
            backends=self.backends if self.leads(case) else (),
        )

    def _exact(self, case: Case, seed: int) -> Any:
        """The module in float64 with the weights of this seed."""
        import torch

        def make() -> Any:
            torch.manual_seed(seed)
            with native("float64"):
                return self.layer(case)

        return LAST.copy((self.name, case.name, seed), make)

    def layer(self, case: Case) -> Any:
        """The e3nn module of one case, in torch's default dtype."""
        raise NotImplementedError


class Linear(_E3nn):
    """``e3nn.o3.Linear``."""

    name = "e3nn.Linear"
    backends = ("inductor",)

    def lacks(self, case: Case) -> set[Feature]:
        """One field for both ends if the irreps differ."""
        same = _multiplicities(case["irreps_in"]) == _multiplicities(case["irreps_out"])
        return {*super().lacks(case), *(() if same else (Feature.SAME_FIELDS,))}

    def cases(self) -> Iterable[Case]:
        """Scalars, pseudoscalars and both parities up to l = 3, with and without biases."""
        wide = "8x0e+4x0o+8x1o+4x1e+4x2e+2x3o"
        yield Case.of(irreps_in=wide, irreps_out="8x0e+4x0o+8x1o+4x1e+4x2e", biases=True)
        yield Case.of(irreps_in="16x0e+8x1o", irreps_out="4x0e+4x1o", biases=False)

    def strategy(self) -> Cases:
        """Related irreps of both parities."""
        return configurations.e3nn_linear()

    def layer(self, case: Case) -> Any:
        """The layer with random biases, if it has any: the default zero would not test them."""
        import torch
        from e3nn import o3

        layer = o3.Linear(case["irreps_in"], case["irreps_out"], biases=case["biases"])
        if case["biases"]:
            with torch.no_grad():
                layer.bias.normal_()
        return layer

    def cost(self, case: Case) -> Cost:
        """One multiply-add for each path and component."""
        counts = _multiplicities(case["irreps_in"])
        paths = sum(
            mul * counts.get(ir, 0) * (2 * ir[0] + 1) for ir, mul in _multiplicities(case["irreps_out"]).items()
        )
        return _cost(2.0 * paths, _size(case["irreps_in"]) + _size(case["irreps_out"]))


class FullyConnectedTensorProduct(_E3nn):
    """``e3nn.o3.FullyConnectedTensorProduct``."""

    name = "e3nn.FullyConnectedTensorProduct"
    never = (Feature.OFF_GRID, Feature.TWINS, Feature.SAME_FIELDS)  # it reads two fields

    def case_of(self, kind: str, parameters: Mapping[str, Value]) -> Case | None:
        """Features times spherical harmonics."""
        return next(iter(self.cases())) if kind == PRODUCT else None

    def cases(self) -> Iterable[Case]:
        """Features times spherical harmonics, as message passing uses it; and features times features."""
        features = "4x0e+2x0o+4x1o+2x1e+2x2e"
        yield Case.of(irreps_in1=features, irreps_in2="0e+1o+2e", irreps_out="4x0e+4x1o+2x2e+1x2o")
        yield Case.of(irreps_in1="4x0e+4x1o", irreps_in2="4x0e+4x1o", irreps_out="4x0e+2x1e+4x1o+2x2e")

    def strategy(self) -> Cases:
        """Irreps whose product contains the output."""
        return configurations.e3nn_product()

    def layer(self, case: Case) -> Any:
        """Shared internal weights."""
        from e3nn import o3

        return o3.FullyConnectedTensorProduct(case["irreps_in1"], case["irreps_in2"], case["irreps_out"])

    def cost(self, case: Case) -> Cost:
        """The contraction of (2l1+1)(2l2+1)(2l3+1) coefficients for each allowed triple of irreps and of copies."""
        first, second = _multiplicities(case["irreps_in1"]), _multiplicities(case["irreps_in2"])
        flops = 0.0
        for (l3, p3), m3 in _multiplicities(case["irreps_out"]).items():
            for (l1, p1), m1 in first.items():
                for (l2, p2), m2 in second.items():
                    if p1 * p2 == p3 and abs(l1 - l2) <= l3 <= l1 + l2:
                        flops += 2.0 * m1 * m2 * m3 * (2 * l1 + 1) * (2 * l2 + 1) * (2 * l3 + 1)
        moved = sum(_size(case[name]) for name in ("irreps_in1", "irreps_in2", "irreps_out"))
        return _cost(flops, moved)


class Gate(_E3nn):
    """``e3nn.nn.Gate``: even scalars through their activation, higher irreps times gates."""

    name = "e3nn.Gate"
    never = (Feature.OFF_GRID, Feature.TWINS, Feature.SAME_FIELDS, Feature.PARAMETERS)  # the gates are consumed

    def cases(self) -> Iterable[Case]:
        """Even and odd scalars and gated irreps of both parities."""
        yield Case.of(scalars="8x0e", gates="6x0e", gated="4x1o+2x2e")
        yield Case.of(scalars="4x0e+4x0o", gates="4x0e", gated="2x1o+1x1e+1x2o")

    def strategy(self) -> Cases:
        """Scalars and gated irreps of both parities."""
        return configurations.e3nn_gate()

    def layer(self, case: Case) -> Any:
        """Silu or tanh on even scalars, tanh (odd) on odd ones, sigmoid on gates."""
        import e3nn.nn
        import torch
        from e3nn import o3

        scalars = o3.Irreps(case["scalars"])
        acts = [torch.nn.functional.silu if ir.p == 1 else torch.tanh for _, ir in scalars]
        return e3nn.nn.Gate(scalars, acts, case["gates"], [torch.sigmoid], case["gated"])

    def cost(self, case: Case) -> Cost:
        """One pass over the values."""
        size = sum(_size(case[name]) for name in ("scalars", "gates", "gated"))
        return _cost(float(size), 2 * size)


class NormActivation(_E3nn):
    """``e3nn.nn.NormActivation``: each irrep scaled by a function of its norm."""

    name = "e3nn.NormActivation"

    def lacks(self, case: Case) -> set[Feature]:
        """Parameters without the bias."""
        return {*super().lacks(case), *(() if case["bias"] else (Feature.PARAMETERS,))}

    def cases(self) -> Iterable[Case]:
        """With and without biases; e3nn 0.6 raises for every layer with ``normalize=False``."""
        yield Case.of(irreps_in="8x0e+4x1o+2x2e", bias=False)
        yield Case.of(irreps_in="4x0o+4x1e+2x2o+1x3o", bias=True)

    def strategy(self) -> Cases:
        """Any irreps."""
        return configurations.e3nn_norm()

    def layer(self, case: Case) -> Any:
        """Sigmoid of the norms."""
        import e3nn.nn
        import torch
        from e3nn import o3

        layer = e3nn.nn.NormActivation(o3.Irreps(case["irreps_in"]), torch.sigmoid, bias=case["bias"])
        if case["bias"]:
            with torch.no_grad():
                layer.biases.normal_()
        return layer

    def cost(self, case: Case) -> Cost:
        """Squares, sums and products: three operations a component."""
        size = _size(case["irreps_in"])
        return _cost(3.0 * size, 2 * size)


class S2Activation(_E3nn):
    """``e3nn.nn.S2Activation``: a pointwise function on the sphere, approximate at every resolution."""

    name = "e3nn.S2Activation"
    never = (Feature.TWINS, Feature.SAME_FIELDS, Feature.PARAMETERS)  # judged over its own resolutions
    expected = (Expected("robustness", Verdict.BROKEN, "the Fourier transform inside refuses an empty batch."),)

    def cases(self) -> Iterable[Case]:
        """Smooth activations, whose aliasing falls faster than any power, and relu, whose aliasing falls like one."""
        for act in ("tanh", "silu", "relu"):
            yield Case.of(lmax=3, act=act, res=20)

    def strategy(self) -> Cases:
        """Few degrees and resolutions, because each case is judged in the limit."""
        return cases(lmax=(1, 2, 3), act=("tanh", "silu", "relu"), res=(20, 24))

    def layer(self, case: Case) -> Any:
        """A signal of even value and odd argument: parities (-1)^l."""
        import e3nn.nn
        import torch
        from e3nn import o3

        irreps = o3.Irreps([(1, (degree, (-1) ** degree)) for degree in range(case["lmax"] + 1)])
        act = getattr(torch.nn.functional, case["act"], None) or getattr(torch, case["act"])
        return e3nn.nn.S2Activation(irreps, act, case["res"])

    def cost(self, case: Case) -> Cost:
        """To the grid and back, by rings and by angles."""
        rings, order = case["res"], 2 * case["lmax"] + 1
        size = (case["lmax"] + 1) ** 2
        return _cost(4.0 * rings * (size + order * (rings - 1)), 2 * (size + rings * (rings - 1)))


class SphericalHarmonics(_E3nn):
    """``e3nn.o3.SphericalHarmonics`` of vectors."""

    name = "e3nn.SphericalHarmonics"
    never = (Feature.OFF_GRID, Feature.TWINS, Feature.SAME_FIELDS, Feature.PARAMETERS)
    expected = (
        Expected(
            "robustness",
            Verdict.BROKEN,
            "homogeneous polynomials of degree 3 and more underflow in float32 on vectors of length 1e-14.",
            when={"lmax": (3, 4, 5, 6), "normalize": False, "dtype": "float32"},
        ),
    )

    def cases(self) -> Iterable[Case]:
        """On the unit sphere, and as homogeneous polynomials."""
        for normalize in (True, False):
            yield Case.of(lmax=4, normalize=normalize)

    def strategy(self) -> Cases:
        """Every degree."""
        return cases(lmax=range(1, 7), normalize=(True, False))

    def layer(self, case: Case) -> Any:
        """Component normalisation."""
        from e3nn import o3

        irreps = o3.Irreps.spherical_harmonics(case["lmax"])
        return o3.SphericalHarmonics(irreps, case["normalize"], normalization="component", irreps_in="1o")

    def cost(self, case: Case) -> Cost:
        """About three operations a component by recurrence."""
        size = (case["lmax"] + 1) ** 2
        return _cost(3.0 * size, 3 + size)


def _multiplicities(irreps: str) -> dict[tuple[int, int], int]:
    """The map (l, p) -> copies for a string such as "8x0e+4x1o", without importing e3nn."""
    counts: dict[tuple[int, int], int] = {}
    for term in irreps.split("+"):
        copies, _, irrep = term.strip().rpartition("x")
        key = (int(irrep[:-1]), 1 if irrep[-1] == "e" else -1)
        counts[key] = counts.get(key, 0) + int(copies or 1)
    return counts


def _size(irreps: str) -> int:
    return sum(mul * (2 * degree + 1) for (degree, _), mul in _multiplicities(irreps).items())


def _cost(flops: float, values: int) -> Cost:
    """The cost of one sample in float32; backward does twice the work of forward."""
    return Cost(flops, 4.0 * values, 3 * flops, 12.0 * values)
