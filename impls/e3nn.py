"""Adapter of e3nn: its irreps in the harness's own representations, and the layers that are checked.

e3nn's real harmonics have their polar axis along y and list m = -l..l, so that l = 1 is (x, y, z): its D^l(R) is the
harness's D^l(C R C^-1) with C the cyclic permutation (x, y, z) -> (z, x, y) of axes. Matrices are the harness's own, in
float64; e3nn's are never fed on (computed under a float32 default they are off by 1e-6).
"""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ..harness.errors import UsageError
from ..harness.registry import Case, Cost, Expected, Family, Implementation, TypedLayer
from ..harness.verdict import Verdict

if TYPE_CHECKING:
    from ..harness.claim import Claim
    from ..harness.groups import Element, Group
    from ..harness.representations import Fibre, Representation

#: Attributes by which e3nn's modules name the irreps of their arguments, in order of trust.
SOURCES = (("irreps_in1", "irreps_in2"), ("irreps_in",), ("irreps",))
TARGETS = ("irreps_out", "irreps")


class TypeReader:
    """Group and fibres of an e3nn module or ``Irreps``."""

    def layer(self, layer: Any) -> TypedLayer | None:
        """The claim of a module that names its irreps, on vectors [batch, irreps.dim] under O(3)."""
        from ..harness.domains import Vector
        from ..harness.fields import Field
        from ..harness.groups import group

        sources = next((names for names in SOURCES if all(_is_irreps(layer, name) for name in names)), None)
        target = next((name for name in TARGETS if _is_irreps(layer, name)), None)
        if sources is None or target is None:
            return None
        of = group("O3")
        fields = tuple(Field(Vector(), of, fibre_of(getattr(layer, name))) for name in sources)
        return TypedLayer(
            layer,
            of,
            fields if len(fields) > 1 else fields[0],
            Field(Vector(), of, fibre_of(getattr(layer, target))),
            has_fields=True,
            reference=_scripted_reference(layer),
            refined=_refined(layer),
        )

    def fibre(self, spec: Any, of: Group | None) -> tuple[Group, Fibre]:
        """Group (O3 unless another group of space is given) and fibre of an ``Irreps``."""
        from ..harness.groups import group

        if not hasattr(spec, "ls") or not hasattr(spec, "dim"):
            raise UsageError(f"{spec!r} are no e3nn Irreps: pass o3.Irreps('16x0e + 8x1o').")
        of = group("O3") if of is None else of
        if of.dim != 3:
            raise UsageError(
                f"e3nn's irreps belong to groups of space and {of.name} acts on the plane: take O3 or SO3."
            )
        return of, fibre_of(spec)


def _is_irreps(layer: Any, name: str) -> bool:
    return hasattr(getattr(layer, name, None), "ls")


def fibre_of(irreps: Any) -> Fibre:
    """The direct sum of an ``Irreps``, in its order."""
    from ..harness.representations import Fibre

    return Fibre(tuple((mul, representation_of(ir.l, ir.p)) for mul, ir in irreps if mul))


def representation_of(degree: int, parity: int) -> Representation:
    """D^l of e3nn as the harness's own matrices: axes turned by C, the sign of improper elements from the parity.

    Example:
        >>> import numpy as np
        >>> from equiharness.harness.groups import group
        >>> quarter = group("SO3").element([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
        >>> bool(np.allclose(representation_of(1, -1).of(quarter), quarter.matrix))
        True
    """
    import numpy as np

    from ..harness.representations import Representation, wigner_matrix

    axes = np.eye(3)[[2, 0, 1]]

    @functools.lru_cache(maxsize=64)  # a check moves many tensors by the same few elements
    def matrix(g: Element) -> Any:
        improper = np.linalg.det(g.matrix) < 0
        rotation = -g.matrix if improper else g.matrix
        found = wigner_matrix(degree, axes @ rotation @ axes.T)
        return parity * found if improper else found

    scalar = degree == 0 and parity == 1
    return Representation(
        f"{degree}{'e' if parity == 1 else 'o'}", 2 * degree + 1, matrix, np.ones(1) if scalar else None
    )


def _scripted_reference(layer: Any) -> Any:
    """A float64 copy of layers that hold compiled code, which cannot be computed in another precision otherwise."""
    import torch

    if not any(isinstance(m, torch.jit.ScriptModule) for m in layer.modules()):
        return None
    return copy.deepcopy(layer).double()


def _refined(layer: Any) -> Callable[[float], tuple[int, Callable[..., Any]]] | None:
    """An ``S2Activation`` at a multiple of its grid's resolution, in float64; None for every other layer."""
    if not (hasattr(layer, "to_s2") and hasattr(layer, "from_s2") and hasattr(layer, "act")):
        return None
    lmax = layer.irreps_in.lmax
    # A grid of 2 (lmax + 1) rings is the least that holds the input: half the base must not fall below.
    base = max(layer.to_s2.res_beta, 4 * (lmax + 1))

    def at(factor: float) -> tuple[int, Callable[..., Any]]:
        import e3nn.nn

        rings = 2 * round(base * factor / 2)
        with native("float64"):
            grid = (rings, rings - 1)
            normalization = _normalization(layer.to_s2)
            finer = e3nn.nn.S2Activation(
                layer.irreps_in, layer.act.f, grid, normalization, lmax_out=layer.irreps_out.lmax
            )
        return rings, finer

    return at


def _normalization(to_grid: Any) -> str:
    """The normalisation that a ``ToS2Grid`` was built with, which it does not keep."""
    import torch
    from e3nn.o3 import ToS2Grid

    for name in ("component", "norm", "integral"):
        twin = ToS2Grid(to_grid.lmax, (to_grid.res_beta, to_grid.res_alpha), name)
        if torch.allclose(twin.shb, to_grid.shb.to(twin.shb), rtol=1e-2):  # half precision rounds by 4e-3
            return name
    raise UsageError("This S2Activation has a normalization of its own: give check(...) its resolutions yourself.")


@contextlib.contextmanager
def native(dtype: str) -> Iterator[None]:
    """Within, e3nn builds its tables in ``dtype``: they are made in torch's default."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        yield
    finally:
        torch.set_default_dtype(before)


class _E3nn(Implementation):
    """What the e3nn layers share: built natively in the working precision, with a native float64 twin."""

    library = "e3nn"
    family = Family.POINTS
    install = "pip install e3nn==0.6.0"

    def build(self, case: Case, *, device: str, dtype: str, seed: int) -> Claim:
        """The layer on random weights; the reference has the same weights and tables of its own, in float64."""
        import torch

        from ..harness.claim import Claim

        self.require()
        torch.manual_seed(seed)
        with native("float64"):
            exact = self.layer(case)
        with native("float64" if dtype == "float64" else "float32"):  # e3nn cannot build in half precision
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
        )

    def layer(self, case: Case) -> Any:
        """The e3nn module of one case, in torch's default dtype."""
        raise NotImplementedError


class Linear(_E3nn):
    """``e3nn.o3.Linear``."""

    name = "e3nn.Linear"

    def cases(self) -> Iterable[Case]:
        """Scalars, pseudoscalars and both parities up to l = 3, with and without biases."""
        wide = "8x0e+4x0o+8x1o+4x1e+4x2e+2x3o"
        yield Case.of(irreps_in=wide, irreps_out="8x0e+4x0o+8x1o+4x1e+4x2e", biases=True)
        yield Case.of(irreps_in="16x0e+8x1o", irreps_out="4x0e+4x1o", biases=False)

    def layer(self, case: Case) -> Any:
        """With random biases where there are any: the default zero would leave them untested."""
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

    def cases(self) -> Iterable[Case]:
        """Features times spherical harmonics, as message passing uses it; and features times features."""
        features = "4x0e+2x0o+4x1o+2x1e+2x2e"
        yield Case.of(irreps_in1=features, irreps_in2="0e+1o+2e", irreps_out="4x0e+4x1o+2x2e+1x2o")
        yield Case.of(irreps_in1="4x0e+4x1o", irreps_in2="4x0e+4x1o", irreps_out="4x0e+2x1e+4x1o+2x2e")

    def layer(self, case: Case) -> Any:
        """Shared internal weights."""
        from e3nn import o3

        return o3.FullyConnectedTensorProduct(case["irreps_in1"], case["irreps_in2"], case["irreps_out"])

    def cost(self, case: Case) -> Cost:
        """Every allowed triple of irreps contracts (2l1+1)(2l2+1)(2l3+1) coefficients for each triple of copies."""
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

    def cases(self) -> Iterable[Case]:
        """Even and odd scalars and gated irreps of both parities."""
        yield Case.of(scalars="8x0e", gates="6x0e", gated="4x1o+2x2e")
        yield Case.of(scalars="4x0e+4x0o", gates="4x0e", gated="2x1o+1x1e+1x2o")

    def layer(self, case: Case) -> Any:
        """Silu or tanh on even scalars, tanh (odd) on odd ones, sigmoid on gates."""
        import e3nn.nn
        import torch
        from e3nn import o3

        scalars = o3.Irreps(case["scalars"])
        acts = [torch.nn.functional.silu if ir.p == 1 else torch.tanh for _, ir in scalars]
        return e3nn.nn.Gate(scalars, acts, case["gates"], [torch.sigmoid], case["gated"])

    def cost(self, case: Case) -> Cost:
        """One pass."""
        size = sum(_size(case[name]) for name in ("scalars", "gates", "gated"))
        return _cost(float(size), 2 * size)


class NormActivation(_E3nn):
    """``e3nn.nn.NormActivation``: each irrep scaled by a function of its norm."""

    name = "e3nn.NormActivation"

    def cases(self) -> Iterable[Case]:
        """With and without biases; e3nn 0.6 raises for every layer with ``normalize=False``."""
        yield Case.of(irreps_in="8x0e+4x1o+2x2e", bias=False)
        yield Case.of(irreps_in="4x0o+4x1e+2x2o+1x3o", bias=True)

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
    expected = (Expected("robustness", Verdict.BROKEN, "the Fourier transform inside refuses an empty batch."),)

    def cases(self) -> Iterable[Case]:
        """Smooth activations, whose aliasing falls faster than any power, and relu, whose falls like one."""
        for act in ("tanh", "silu", "relu"):
            yield Case.of(lmax=3, act=act, res=20)

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
    expected = (
        Expected(
            "robustness",
            Verdict.BROKEN,
            "homogeneous polynomials of degree 4 underflow in float32 on vectors of length 1e-20.",
            when={"normalize": False, "dtype": "float32"},
        ),
    )

    def cases(self) -> Iterable[Case]:
        """On the unit sphere, and as homogeneous polynomials."""
        for normalize in (True, False):
            yield Case.of(lmax=4, normalize=normalize)

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
    """(l, p) -> copies of a string such as "8x0e+4x1o", without importing e3nn."""
    counts: dict[tuple[int, int], int] = {}
    for term in irreps.split("+"):
        copies, _, irrep = term.strip().rpartition("x")
        key = (int(irrep[:-1]), 1 if irrep[-1] == "e" else -1)
        counts[key] = counts.get(key, 0) + int(copies or 1)
    return counts


def _size(irreps: str) -> int:
    return sum(mul * (2 * degree + 1) for (degree, _), mul in _multiplicities(irreps).items())


def _cost(flops: float, values: int) -> Cost:
    """Of one sample in float32; backward does the work of forward twice."""
    return Cost(flops, 4.0 * values, 3 * flops, 12.0 * values)
