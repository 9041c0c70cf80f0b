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
from ...harness.fields.library_types import TypedLayer, is_irreps_text, required_arguments

if TYPE_CHECKING:
    from ...harness.fields.domains import Domain
    from ...harness.symmetry.groups import Element, Group
    from ...harness.symmetry.representations import Fibre, Representation

#: Attributes that hold the irreps of the inputs, and of the outputs, in the order in which they are tried.
SOURCES = (
    ("irreps_in1", "irreps_in2", "irreps_in3"),
    ("irreps_in1", "irreps_in2"),
    ("irreps_in",),
    ("irreps_node_input", "irreps_node_attr"),
    ("irreps_node_input",),
    ("irreps_input",),
    ("irreps",),
)
TARGETS = ("irreps_out", "irreps_outs", "irreps_node_output", "irreps_output", "irreps")


class TypeReader:
    """Group and fibres of an e3nn module or ``Irreps``."""

    def layer(self, layer: Any) -> TypedLayer | None:
        """The claim of a layer that names its irreps, on vectors [batch, irreps.dim] under O(3).

        The layer is a module, or a function with the irreps as attributes: ``Irreps``, their text, or a list of these
        for several inputs or outputs.

        Raises:
            UsageError: the irreps that the layer names are not those of its arguments.
        """
        from ...harness.fields.field import Invariant
        from ...harness.symmetry.groups import group

        if not any(_named(layer, name) is not None for names in (*SOURCES, TARGETS) for name in names):
            return None
        needed = required_arguments(layer)
        source = _source(layer, needed)
        target = next((found for name in TARGETS if (found := _named(layer, name)) is not None), None)
        if source is None or target is None:
            raise UsageError(_not_described(layer, needed, source))
        symmetry = group("O3")
        before, after = _copies(layer)
        reads, writes = _fields(source, before), _fields(target, after)
        numel = getattr(layer, "weight_numel", 0)
        if numel and getattr(layer, "internal_weights", True) is False:
            if getattr(layer, "shared_weights", True):
                raise UsageError(
                    f"{type(layer).__name__} takes its weights as an argument without a batch axis: write a function "
                    "with fixed weights, f = lambda *x: layer(*x, weight), and set f.irreps_in and f.irreps_out."
                )
            reads = (*(reads if isinstance(reads, tuple) else (reads,)), Invariant((numel,)))
        return TypedLayer(
            layer,
            symmetry,
            reads,
            writes,
            has_fields=True,
            reference=_scripted_reference(layer),
            refined=_refined(layer),
        )

    def domain(self, spec: Any) -> Domain:
        """One point: irreps say nothing about a domain."""
        from ...harness.fields.domains import Vector

        return Vector()

    def fibre(self, spec: Any, of: Group | None) -> tuple[Group, Fibre]:
        """Group (O3 unless another group of space is given) and fibre of an ``Irreps``, its text or its list."""
        from ...harness.symmetry.groups import group

        found = irreps_of(spec)
        if found is None:
            raise UsageError(f"{spec!r} is not e3nn Irreps: pass o3.Irreps('16x0e + 8x1o').")
        of = group("O3") if of is None else of
        if of.dim != 3:
            raise UsageError(f"e3nn's irreps belong to groups of space and {of.name} acts on the plane: use O3 or SO3.")
        return of, fibre_of(found)


#: Multiplicity, degree and parity of one term.
Term = tuple[int, tuple[int, int]]


def irreps_of(spec: Any) -> list[Term] | None:
    """The terms of ``Irreps``, of one ``Irrep``, of their text or of a list of terms; None for anything else.

    Example:
        >>> irreps_of("2x0e + 1o"), irreps_of([(2, (0, 1)), "1o"])
        ([(2, (0, 1)), (1, (1, -1))], [(2, (0, 1)), (1, (1, -1))])
    """
    if isinstance(spec, str):
        return _parsed(spec) if is_irreps_text(spec) else None
    if hasattr(spec, "l") and hasattr(spec, "p"):
        return [(1, (int(spec.l), int(spec.p)))]
    if not isinstance(spec, (list, tuple)):
        return None
    terms: list[Term] = []
    for entry in spec:
        found = irreps_of(entry) if isinstance(entry, str) else _term(entry)
        if found is None:
            return None
        terms += found
    return terms


def _parsed(text: str) -> list[Term]:
    terms = []
    for part in text.replace(" ", "").split("+"):
        count, _, irrep = part.rpartition("x")
        terms.append((int(count or 1), (int(irrep[:-1]), 1 if irrep[-1] == "e" else -1)))
    return terms


def _term(entry: Any) -> list[Term] | None:
    """The term of one ``Irrep``, or of (multiplicity, irrep) with an irrep as text, pair or ``Irrep``; else None."""
    if hasattr(entry, "l") and hasattr(entry, "p"):
        return [(1, (int(entry.l), int(entry.p)))]
    if not isinstance(entry, tuple) or len(entry) != 2 or not isinstance(entry[0], int):
        return None
    count, irrep = entry
    if hasattr(irrep, "l") and hasattr(irrep, "p"):
        return [(count, (int(irrep.l), int(irrep.p)))]
    if isinstance(irrep, str):
        found = irreps_of(irrep)
        return [(count, ir) for _, ir in found] if found is not None else None
    if isinstance(irrep, tuple) and len(irrep) == 2 and all(isinstance(v, int) for v in irrep) and abs(irrep[1]) == 1:
        return [(count, (irrep[0], irrep[1]))]
    return None


def _named(layer: Any, name: str) -> Any:
    """The irreps in an attribute as a list of terms, or a tuple of such lists for several; None without them."""
    value = getattr(layer, name, None)
    found = irreps_of(value) if not callable(value) else None
    if found is not None and not (isinstance(value, (list, tuple)) and _is_list_of_irreps(value)):
        return found
    if isinstance(value, (list, tuple)) and value:
        several = [irreps_of(entry) for entry in value]
        return tuple(several) if all(one is not None for one in several) else None
    return None


def _is_list_of_irreps(value: Any) -> bool:
    """Whether each entry is the irreps of one tensor: a plain list of ``Irreps`` or texts."""
    return type(value) in (list, tuple) and all(isinstance(e, str) or hasattr(e, "ls") for e in value)


def _source(layer: Any, needed: list[str] | None) -> Any:
    """The irreps of the arguments that the layer needs: by the names of the arguments, else by SOURCES."""
    if needed:
        by_name = [_named(layer, f"irreps_{name}") for name in needed]
        if all(found is not None for found in by_name):
            return tuple(by_name) if len(by_name) > 1 else by_name[0]
    for names in SOURCES:
        found = [_named(layer, name) for name in names]
        if any(one is None for one in found):
            continue
        source = tuple(found) if len(found) > 1 else found[0]
        if needed is None or len(needed) == (len(source) if isinstance(source, tuple) else 1):
            return source
    return None


def _not_described(layer: Any, needed: list[str] | None, source: Any) -> str:
    name = getattr(layer, "__name__", type(layer).__name__)
    names = sorted(n for n in dir(layer) if n.startswith("irreps") and _named(layer, n) is not None)
    missing = "irreps_out" if source is not None else f"the irreps of each of its arguments ({', '.join(needed or ())})"
    return (
        f"{name} names {', '.join(names)} and not {missing}: set these attributes, or give the claim, for example "
        "eh.check(layer, 'O3', source, target) with eh.Field(eh.Vector(), 'O3', '2x0e + 1x1o') for features, "
        "eh.Positions(n) for positions and eh.Invariant() for indices of edges."
    )


def _copies(layer: Any) -> tuple[int | None, int | None]:
    """f_in and f_out of a ``Linear`` that mixes several copies of its irreps; None without copies."""
    weight, numel = getattr(layer, "weight", None), getattr(layer, "weight_numel", 0)
    shape = tuple(getattr(weight, "shape", ()))
    return (shape[0], shape[1]) if len(shape) == 3 and shape[2] == numel else (None, None)


def _fields(irreps: Any, copies: int | None = None) -> Any:
    """The field of the irreps of one tensor, or the fields of several; copies are a row of points."""
    from ...harness.fields.domains import Points, Vector
    from ...harness.fields.field import Field

    if isinstance(irreps, tuple):
        return tuple(_fields(one, copies) for one in irreps)
    return Field(Vector() if copies is None else Points(copies), "O3", fibre_of(irreps))


def fibre_of(irreps: Any) -> Fibre:
    """The direct sum of an ``Irreps``, in its order."""
    from ...harness.symmetry.representations import Fibre

    return Fibre(tuple((mul, representation_of(*ir)) for mul, ir in irreps if mul))


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

    modules = layer.modules() if isinstance(layer, torch.nn.Module) else ()
    if not any(isinstance(m, torch.jit.ScriptModule) for m in modules):
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
