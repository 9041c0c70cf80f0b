"""e3nn's irreps in the harness's own representations, and the claims of its modules.

e3nn's real harmonics have their polar axis along y and list m = -l..l, so l = 1 is (x, y, z): its D^l(R) is the
harness's D^l(C R C^-1) with C the cyclic permutation (x, y, z) -> (z, x, y) of axes. Matrices are the harness's own, in
float64; e3nn's matrices are not used (under a float32 default they have errors of 1e-6).
"""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Callable, Hashable, Iterator
from typing import TYPE_CHECKING, Any

from ...harness.errors import UsageError
from ...harness.fields.library_types import TypedLayer

if TYPE_CHECKING:
    from ...harness.symmetry.groups import Element, Group
    from ...harness.symmetry.representations import Fibre, Representation

#: Attributes of e3nn's modules that hold the irreps of their arguments, in the order in which they are tried.
SOURCES = (("irreps_in1", "irreps_in2"), ("irreps_in",), ("irreps",))
TARGETS = ("irreps_out", "irreps")


class TypeReader:
    """Group and fibres of an e3nn module or ``Irreps``."""

    def layer(self, layer: Any) -> TypedLayer | None:
        """The claim of a module that names its irreps, on vectors [batch, irreps.dim] under O(3)."""
        from ...harness.fields.domains import Vector
        from ...harness.fields.field import Field
        from ...harness.symmetry.groups import group

        sources = next((names for names in SOURCES if all(_is_irreps(layer, name) for name in names)), None)
        target = next((name for name in TARGETS if _is_irreps(layer, name)), None)
        if sources is None or target is None:
            return None
        symmetry = group("O3")
        fields = tuple(Field(Vector(), symmetry, fibre_of(getattr(layer, name))) for name in sources)
        return TypedLayer(
            layer,
            symmetry,
            fields if len(fields) > 1 else fields[0],
            Field(Vector(), symmetry, fibre_of(getattr(layer, target))),
            has_fields=True,
            reference=_scripted_reference(layer),
            refined=_refined(layer),
        )

    def fibre(self, spec: Any, of: Group | None) -> tuple[Group, Fibre]:
        """Group (O3 unless another group of space is given) and fibre of an ``Irreps``."""
        from ...harness.symmetry.groups import group

        if not hasattr(spec, "ls") or not hasattr(spec, "dim"):
            raise UsageError(f"{spec!r} is not e3nn Irreps: pass o3.Irreps('16x0e + 8x1o').")
        of = group("O3") if of is None else of
        if of.dim != 3:
            raise UsageError(f"e3nn's irreps belong to groups of space and {of.name} acts on the plane: use O3 or SO3.")
        return of, fibre_of(spec)


def _is_irreps(layer: Any, name: str) -> bool:
    return hasattr(getattr(layer, name, None), "ls")


def fibre_of(irreps: Any) -> Fibre:
    """The direct sum of an ``Irreps``, in its order."""
    from ...harness.symmetry.representations import Fibre

    return Fibre(tuple((mul, representation_of(ir.l, ir.p)) for mul, ir in irreps if mul))


def representation_of(degree: int, parity: int) -> Representation:
    """D^l of e3nn as the harness's own matrices: axes rotated by C, the sign of improper elements from the parity.

    Example:
        >>> import numpy as np
        >>> from equiharness import group
        >>> quarter = group("SO3").element([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
        >>> bool(np.allclose(representation_of(1, -1).of(quarter), quarter.matrix))
        True
    """
    import numpy as np

    from ...harness.symmetry.representations import Representation, wigner_matrix

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
    """A float64 copy of a layer with compiled code, which has no other way to another precision; else None."""
    import torch

    if not any(isinstance(m, torch.jit.ScriptModule) for m in layer.modules()):
        return None
    return copy.deepcopy(layer).double()


def _refined(layer: Any) -> Callable[[float], tuple[int, Callable[..., Any]]] | None:
    """An ``S2Activation`` at a multiple of its grid's resolution, in float64; None for every other layer."""
    if not (hasattr(layer, "to_s2") and hasattr(layer, "from_s2") and hasattr(layer, "act")):
        return None
    lmax = layer.irreps_in.lmax
    # The input needs at least 2 (lmax + 1) rings, and half the base must not have fewer.
    base = max(layer.to_s2.res_beta, 4 * (lmax + 1))

    def refined(factor: float) -> tuple[int, Callable[..., Any]]:
        import e3nn.nn

        rings = 2 * round(base * factor / 2)
        with native("float64"):
            grid = (rings, rings - 1)
            normalization = _normalization(layer.to_s2)
            finer = e3nn.nn.S2Activation(
                layer.irreps_in, layer.act.f, grid, normalization, lmax_out=layer.irreps_out.lmax
            )
        return rings, finer

    return refined


def _normalization(to_grid: Any) -> str:
    """Find the normalisation that a ``ToS2Grid`` was built with; the module does not store it."""
    import torch
    from e3nn.o3 import ToS2Grid

    for name in ("component", "norm", "integral"):
        twin = ToS2Grid(to_grid.lmax, (to_grid.res_beta, to_grid.res_alpha), name)
        if torch.allclose(twin.shb, to_grid.shb.to(twin.shb), rtol=1e-2):  # half precision rounds by 4e-3
            return name
    raise UsageError(
        "This S2Activation has an unknown normalization: build a claim with `refined` for its resolutions."
    )


@contextlib.contextmanager
def native(dtype: str) -> Iterator[None]:
    """Set torch's default dtype, in which e3nn builds its tables, to ``dtype``."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        yield
    finally:
        torch.set_default_dtype(before)


class LastMade:
    """The last module that was made. Both precisions of a case are built one after the other, and get copies of it."""

    def __init__(self) -> None:
        self._key: Hashable = None
        self._module: Any = None

    def copy(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """A copy of the module with this key, which is made unless it was the last one."""
        if key != self._key:
            self._key, self._module = key, make()
        return copy.deepcopy(self._module)
