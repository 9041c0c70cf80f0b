"""Adapter of e3nn's grids on the sphere: coefficients of real harmonics to samples and back.

e3nn's grid is beta = pi (j + 1/2) / rings from the +y axis and alpha = 2 pi k / n from +z towards +x. If its axes
(z, x, y) are called (x, y, z), this is the harness's grid: the SOFT grid if rings = 2b. Its harmonics of degree l,
m = -l..l, are those of the harness's irrep(l) in the same axes, with parity (-1)^l.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ...harness.adapters.adapter import Case, Cost, Expected, Family, Feature, Implementation
from ...harness.search.strategies import cases
from ...harness.verdict.codes import Verdict
from ..spherical import costs
from .e3nn_types import LastMade, native

if TYPE_CHECKING:
    from ...harness.claim.claim import Claim, Twin
    from ...harness.fields.field import Field
    from ...harness.search.strategies import Cases


#: Cases with an odd number of angles.
ODD = "*angles=*[13579] *"


LAST = LastMade()


class _Grid(Implementation):
    """The base class of both directions: tables built in the working precision, and a float64 reference."""

    library = "e3nn"
    family = Family.SPHERICAL
    install = "pip install e3nn==0.6.0"
    never: tuple[Feature, ...] = (Feature.BACKENDS, Feature.OFF_GRID, Feature.PARAMETERS, Feature.SAME_FIELDS)
    expected = (
        Expected("robustness", Verdict.BROKEN, "the FFT for odd numbers of angles refuses empty batches.", ODD),
    )

    def cases(self) -> Iterable[Case]:
        """Every normalisation; as many angles as rings, and one angle less, for which e3nn uses an FFT."""
        for normalization in ("component", "norm", "integral"):
            yield Case.of(b=6, angles=12, normalization=normalization)
        yield Case.of(b=12, angles=23, normalization="integral")

    def strategy(self) -> Cases:
        """Every normalisation; the full and the odd number of angles."""
        return cases(
            b=range(2, 9),
            angles=lambda drawn: (2 * drawn["b"], 2 * drawn["b"] - 1),
            normalization=("component", "norm", "integral"),
        )

    def build(self, case: Case, *, device: str, dtype: str, seed: int) -> Claim:
        """The claim for one signal per sample."""
        import torch

        from ...harness.claim.claim import Claim

        self.require()
        source, target = self.fields(case)
        working = getattr(torch, dtype)
        layer, exact = (self._native(case, d).to(device) for d in (working, torch.float64))
        return Claim(
            self.function(layer),
            source.group,
            source,
            target,
            dtype=working,
            device=device,
            seed=seed,
            modules=(layer,),
            reference=self.function(exact),
            twins=((lambda: self.twin(case, layer)),) if case["angles"] == 2 * case["b"] else (),
        )

    def lacks(self, case: Case) -> set[Feature]:
        """A twin, unless the grid is the SOFT grid."""
        return {*super().lacks(case), *(() if case["angles"] == 2 * case["b"] else (Feature.TWINS,))}

    def fields(self, case: Case) -> tuple[Field, Field]:
        """Source and target."""
        raise NotImplementedError

    def _native(self, case: Case, dtype: Any) -> Any:
        """The module with tables in its dtype; ``FromS2Grid(dtype=...)`` would build its weights in torch's default."""
        name = str(dtype).removeprefix("torch.")

        def make() -> Any:
            with native(name):
                return self.layer(case)

        return LAST.copy((self.name, case.name), make) if name == "float64" else make()

    def layer(self, case: Case) -> Any:
        """The module of one case, in torch's default dtype."""
        raise NotImplementedError

    def function(self, layer: Any) -> Callable[[Any], Any]:
        """The module between [batch, 1, beta, alpha] and [batch, (lmax + 1)^2]."""
        raise NotImplementedError

    def twin(self, case: Case, layer: Any) -> Twin:
        """The pair of the module and our transform."""
        raise NotImplementedError

    def cost(self, case: Case) -> Cost:
        """A sum over rings for each coefficient, and one over orders for each sample."""
        b, angles = case["b"], case["angles"]
        flops = 4.0 * b * b**2 + 2.0 * (2 * b - 1) * 2 * b * angles
        return costs.cost(flops, b**2 + 2 * b * angles)


class FromS2Grid(_Grid):
    """``e3nn.o3.FromS2Grid``: samples to coefficients."""

    name = "e3nn.FromS2Grid"

    def fields(self, case: Case) -> tuple[Field, Field]:
        """A scalar on S2 to one irrep of each degree."""
        return _signal(case), _coefficients(case["b"])

    def layer(self, case: Case) -> Any:
        """The harmonics below degree b."""
        from e3nn import o3

        shape = (2 * case["b"], case["angles"])
        return o3.FromS2Grid(shape, case["b"] - 1, normalization=case["normalization"])

    def function(self, layer: Any) -> Callable[[Any], Any]:
        """The module with the channel's axis removed from its output."""
        return lambda x: layer(x)[:, 0]

    def twin(self, case: Case, layer: Any) -> Twin:
        """Our transform in e3nn's real form."""
        from ... import kernels
        from ...harness.claim.claim import Twin

        def ours(_theta: Any, x: Any) -> Any:
            return to_theirs(kernels.s2_fft(x)[:, 0], case["normalization"])

        return Twin("e3nn's analysis and ours", lambda _, x: layer(x)[:, 0], ours, {})


class ToS2Grid(_Grid):
    """``e3nn.o3.ToS2Grid``: coefficients to samples."""

    name = "e3nn.ToS2Grid"
    never = (*_Grid.never, Feature.BAND_LIMIT)  # it reads coefficients

    def fields(self, case: Case) -> tuple[Field, Field]:
        """One irrep of each degree to a scalar on S2."""
        return _coefficients(case["b"]), _signal(case)

    def layer(self, case: Case) -> Any:
        """The harmonics below degree b."""
        from e3nn import o3

        shape = (2 * case["b"], case["angles"])
        return o3.ToS2Grid(case["b"] - 1, shape, normalization=case["normalization"])

    def function(self, layer: Any) -> Callable[[Any], Any]:
        """The module with a channel's axis added to its output."""
        return lambda x: layer(x)[:, None]

    def twin(self, case: Case, layer: Any) -> Twin:
        """Our synthesis from e3nn's real form."""
        from ... import kernels
        from ...harness.claim.claim import Twin

        def ours(_theta: Any, x: Any) -> Any:
            return kernels.s2_ifft(from_theirs(x, case["normalization"]))[:, None]

        return Twin("e3nn's synthesis and ours", lambda _, x: layer(x)[:, None], ours, {})


def _signal(case: Case) -> Field:
    from ...harness.fields.field import Field
    from ...harness.fields.spheres import Sphere

    shape = (2 * case["b"], case["angles"])
    return Field(Sphere(case["b"], shape=None if shape[0] == shape[1] else shape), "O3", "trivial")


def _coefficients(b: int) -> Field:
    from ...harness.fields.domains import Vector
    from ...harness.fields.field import Field

    return Field(Vector(), "O3", " + ".join(f"irrep({degree})" for degree in range(b)))


def to_theirs(spectrum: Any, normalization: str) -> Any:
    """Our complex spectrum [..., b^2] as e3nn's real coefficients, in the same order of rows.

    With f = sum a_lm Y_lm of complex harmonics, c_m = sqrt 2 (-1)^m Re a_m and c_-m = -sqrt 2 (-1)^m Im a_m for m > 0.
    """
    import torch

    degree, order = _rows(math.isqrt(spectrum.shape[-1]))
    positive = spectrum[..., degree**2 + degree + order.abs()]
    sign = torch.where(order % 2 == 0, 1.0, -1.0) * math.sqrt(2)
    real = torch.where(order == 0, 1.0, sign) * (order >= 0)
    imaginary = -sign * (order < 0)
    scale = _scale(degree, normalization).to(positive.real)
    return (positive.real * real.to(scale) + positive.imag * imaginary.to(scale)) * scale


def from_theirs(coefficients: Any, normalization: str) -> Any:
    """The inverse of ``to_theirs``."""
    import torch

    degree, order = _rows(math.isqrt(coefficients.shape[-1]))
    scaled = coefficients / _scale(degree, normalization).to(coefficients)
    size = order.abs()
    parity = torch.where(size % 2 == 0, 1.0, -1.0).to(coefficients) / math.sqrt(2)
    real = scaled[..., degree**2 + degree + size] * torch.where(order == 0, 1.0, parity).to(coefficients)
    imaginary = -scaled[..., degree**2 + degree - size] * parity * (order != 0)
    # a_-m = (-1)^m conj a_m; the factor (-1)^m is already in `parity`, so it is removed here.
    flip = torch.where((order < 0) & (size % 2 == 1), -1.0, 1.0).to(coefficients)
    return torch.complex(real * flip, imaginary * flip * torch.where(order < 0, -1.0, 1.0).to(coefficients))


def _rows(b: int) -> tuple[Any, Any]:
    """Degree and order of each coefficient."""
    import torch

    degree = torch.repeat_interleave(torch.arange(b), 2 * torch.arange(b) + 1)
    return degree, torch.arange(b * b) - degree**2 - degree


def _scale(degree: Any, normalization: str) -> Any:
    """Coefficient of the normalised harmonic / x^l_m: sqrt(4 pi (2l+1)), and e3nn's own factor for each degree."""
    import torch

    factor = {
        "integral": torch.ones(len(degree), dtype=torch.float64),
        "norm": torch.full((len(degree),), math.sqrt(4 * math.pi / (int(degree.max()) + 1)), dtype=torch.float64),
        "component": torch.sqrt(4 * math.pi / ((2.0 * degree.double() + 1) * (int(degree.max()) + 1))),
    }[normalization]
    return torch.sqrt(4 * math.pi * (2.0 * degree.double() + 1)) / factor
