"""The configurations of each family of layers for a property-based search, the simplest first.

A strided layer keeps the symmetry of a box if (n + 2 p - k) mod s = 0 on every axis: sizes are drawn from those.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..harness.search.strategies import cases

if TYPE_CHECKING:
    from ..harness.adapters.adapter import Case
    from ..harness.search.strategies import Cases

#: Groups of the project's own grid layers.
GRID_GROUPS = ("C4", "D4", "O", "Oh")
#: Planar groups of escnn and e2cnn: groups of the grid, their subgroups, and groups of which only some elements map the
#: grid onto itself.
PLANAR_GROUPS = ("C4", "D4", "C2", "D2", "C8", "C6", "D6")
#: Grids for the kernels of the project's spherical convolutions.
KERNEL_GRIDS = ("near identity", "equatorial", "soft")

Drawn = dict[str, Any]


def volumes(drawn: Drawn) -> bool:
    """Whether the drawn group acts on a box with three axes."""
    return str(drawn["group"]).startswith("O")


def fields(drawn: Drawn) -> Sequence[int]:
    """Numbers of fields; few in space, where a regular field has 24 or 48 channels."""
    return (1, 2) if volumes(drawn) else (1, 2, 3)


def boxes(lengths: Sequence[int], drawn: Drawn) -> list[int | str]:
    """Equal sides, then oblong boxes of neighbouring lengths in both orders."""
    oblong: list[int | str] = []
    for a, b in itertools.pairwise(lengths):
        oblong += [f"{a}x{b}x{a}", f"{b}x{a}x{b}"] if volumes(drawn) else [f"{a}x{b}", f"{b}x{a}"]
    return [*lengths, *oblong]


def any_box(drawn: Drawn) -> list[int | str]:
    """Boxes of every size; small boxes in space."""
    return boxes(range(1, 5 if volumes(drawn) else 12), drawn)


def aligned(drawn: Drawn) -> list[int]:
    """Lengths for which the stride keeps the symmetry and a circular border wraps around at most once."""
    k, s, p = drawn["kernel"], drawn["stride"], drawn["padding"]
    longest = 6 if volumes(drawn) else 13
    least = p if drawn.get("padding_mode") == "circular" else 1
    return [n for n in range(max(1, least), longest) if n + 2 * p >= k and (n + 2 * p - k) % s == 0]


def _kernels(drawn: Drawn) -> range:
    return range(1, 4 if volumes(drawn) else 6)


def _paddings(drawn: Drawn) -> range:
    return range(drawn["kernel"])


def grid_convolution(**more: Any) -> Cases:
    """The project's own convolutions."""
    return cases(
        group=GRID_GROUPS,
        kernel=_kernels,
        stride=(1, 2, 3),
        padding=_paddings,
        padding_mode=("zeros", "circular"),
        size=lambda drawn: boxes(aligned(drawn), drawn),
        fields_in=fields,
        fields_out=fields,
        **more,
    )


def grid_transposed(**more: Any) -> Cases:
    """The project's own transposed convolutions: the finer grid has the same centre for every size."""

    def fits(case: Case) -> bool:
        return all((n - 1) * case["stride"] + case["kernel"] > 2 * case["padding"] for n in map(int, _sides(case)))

    return cases(
        fits,
        group=GRID_GROUPS,
        kernel=_kernels,
        stride=(1, 2, 3),
        padding=_paddings,
        size=lambda drawn: boxes(range(1, 4 if volumes(drawn) else 6), drawn),
        fields_in=fields,
        fields_out=fields,
        **more,
    )


def _sides(case: Case) -> list[str]:
    return str(case["size"]).split("x")


def grid_pointwise(modes: Sequence[str]) -> Cases:
    """Norms and pools on regular fields."""
    return cases(group=GRID_GROUPS, size=any_box, mode=modes, fields=fields)


def _fibres(drawn: Drawn) -> list[str]:
    return [f"{n}*{kind}" for n in (1, 2) for kind in ("trivial", "standard", "regular")]


def grid_pool() -> Cases:
    """Blur and subsample."""
    return cases(
        group=GRID_GROUPS,
        stride=(1, 2, 3),
        sigma=(0.66, 0.4, 1.0),
        padding_mode=("zeros", "circular"),
        size=lambda drawn: boxes(range(4, 7 if volumes(drawn) else 12), drawn),
        fibre=_fibres,
    )


def grid_upsampling() -> Cases:
    """Linear interpolation by whole and fractional factors."""
    return cases(
        group=GRID_GROUPS,
        scale=(2, 3, 1.5, 2.5),
        mode=lambda drawn: ["trilinear" if volumes(drawn) else "bilinear"],
        align_corners=(True, False),
        size=lambda drawn: boxes(range(2, 5 if volumes(drawn) else 9), drawn),
        fibre=_fibres,
    )


def steerable_convolution(valid: Callable[[Case], bool] | None = None) -> Cases:
    """``R2Conv`` between regular fields; the libraries' default basis has no filter of two by two."""
    return cases(
        valid,
        group=PLANAR_GROUPS,
        kernel=(3, 1, 5, 4),
        stride=(1, 2, 3),
        padding=_paddings,
        size=aligned,
        fields_in=(1, 2, 3),
        fields_out=(1, 2, 3),
    )


def steerable_transposed() -> Cases:
    """``R2ConvTransposed`` at any size: with output padding 0 the output is always centred."""
    return cases(
        lambda case: (case["size"] - 1) * case["stride"] + case["kernel"] > 2 * case["padding"],
        group=PLANAR_GROUPS,
        kernel=(3, 1, 5),
        stride=(1, 2, 3),
        padding=_paddings,
        size=range(2, 9),
        fields_in=(1, 2),
        fields_out=(1, 2),
    )


def steerable_pointwise(sizes: Sequence[int] = range(3, 12)) -> Cases:
    """Pools, norms and nonlinearities."""
    return cases(group=PLANAR_GROUPS, size=sizes, fields=(1, 2, 3))


def spherical_convolution(b: Sequence[int]) -> Cases:
    """S2 or SO(3) to SO(3), bandwidths that stay, shrink and grow."""
    return cases(b_in=b, b_out=b, grid=KERNEL_GRIDS, channels_in=(1, 2, 3), channels_out=(1, 2, 3))


def spherical_shortcut(b: Sequence[int]) -> Cases:
    """SO(3) to SO(3)."""
    return cases(b_in=b, b_out=b, channels_in=(1, 2, 3), channels_out=(1, 2, 3))


def _bandwidths(drawn: Drawn) -> range:
    return range(1, 10 if drawn["domain"] == "s2" else 6)


def spherical_map() -> Cases:
    """Integrals."""
    return cases(domain=("s2", "so3"), b=_bandwidths, channels=(1, 2, 3))


def spherical_resampling() -> Cases:
    """Up and down."""
    return cases(domain=("s2", "so3"), b_in=_bandwidths, b_out=_bandwidths, channels=(1, 2, 3))


def _irreps(*, copies: int = 2, degree: int = 3) -> list[str]:
    """Sums of irreps, from one scalar to two kinds of both parities."""
    kinds = [f"{order}{p}" for order in range(degree + 1) for p in "eo"]
    single = [f"{n}x{kind}" for n in range(1, copies + 1) for kind in kinds]
    return [*single, *(f"1x{a}+{copies}x{b}" for a in kinds for b in kinds if a != b)]


def e3nn_linear() -> Cases:
    """Irreps that share at least one kind: without one the map is zero by Schur's lemma, which proves nothing."""

    def related(case: Case) -> bool:
        reads, writes = _kinds(case["irreps_in"]), _kinds(case["irreps_out"])
        # e3nn 0.6 raises an error for a layer with a bias on output scalars that have no input.
        unreached = case["biases"] and bool({(0, 1)} & (writes - reads))
        return bool(reads & writes) and not unreached

    return cases(related, irreps_in=_irreps(), irreps_out=_irreps(), biases=(False, True))


def e3nn_product() -> Cases:
    """Irreps whose product contains the output."""

    def allowed(case: Case) -> bool:
        triples = (
            (a, b, c)
            for a in _kinds(case["irreps_in1"])
            for b in _kinds(case["irreps_in2"])
            for c in _kinds(case["irreps_out"])
        )
        return any(p * q == r and abs(k - m) <= n <= k + m for (k, p), (m, q), (n, r) in triples)

    some = _irreps(degree=2)
    return cases(allowed, irreps_in1=some, irreps_in2=some, irreps_out=some)


def e3nn_gate() -> Cases:
    """Gated irreps with one gate for each."""
    return cases(
        scalars=("1x0e", "2x0e", "1x0o", "1x0e+2x0o"),
        gated=("1x1o", "1x1e", "2x1o", "1x1o+1x2e", "2x2o+1x3e"),
        gates=lambda drawn: [f"{sum(int(t.split('x')[0]) for t in drawn['gated'].split('+'))}x0e"],
    )


def e3nn_norm() -> Cases:
    """Any irreps, with and without bias."""
    return cases(irreps_in=_irreps(), bias=(False, True))


def _kinds(irreps: str) -> set[tuple[int, int]]:
    found = (term.split("x")[-1] for term in irreps.split("+"))
    return {(int(kind[:-1]), 1 if kind[-1] == "e" else -1) for kind in found}
