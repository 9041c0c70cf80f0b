"""The fault zoo: every fault of every family in one registry, so that counts are computed and never written.

A fault is a pair of claims made from a precision and a seed: a sound layer, and the same layer with one realistic
mistake. It names the property that must catch it, and what that property must conclude.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from equiharness.harness.claim.claim import Claim

#: Modules that hold lists FAULTS and SOUND, by an author who had read the documents alone.
STRANGERS = (
    "strangers",
    "strangers_inside",
    "strangers_gradients",
    "strangers_precision",
    "strangers_statistics",
    "strangers_batches",
    "strangers_ties",
    "strangers_claims",
    "strangers_potentials",
    "strangers_types",
    "strangers_off_grid",
    "strangers_patched",
    "strangers_found",
)
#: Modules that hold a list FAULTS; a new one is added here.
MODULES = (
    "planar",
    "plain",
    "steerable",
    "octahedral",
    "spherical",
    "points",
    "irreps",
    "gradients",
    "parity",
    "robustness",
    "limits",
    "passes",
    *STRANGERS,
)


@dataclass(frozen=True)
class Fault:
    """One hand-made fault.

    Args:
        name: what went wrong, unique.
        family: planar, octahedral, spherical or points.
        layer: whose layer it is made in: ours, plain (torch alone), or a library's name.
        property: the property that catches it.
        claims: (dtype, seed) -> the sound claim and the broken one.
        verdict: what the property concludes of the broken one.
        code: of its reason.
        dtypes: precisions that it is checked in.
    """

    name: str
    family: str
    layer: str
    property: str
    claims: Callable[[torch.dtype, int], tuple[Claim, Claim]]
    verdict: str = "BROKEN"
    code: str = "ERROR"
    dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.float64)


@dataclass(frozen=True)
class Sound:
    """A sound layer: a claim for each precision and seed, and the properties that it must pass.

    ``few`` is for layers that cost more: they get one seed in ten.
    """

    name: str
    family: str
    claim: Callable[[torch.dtype, int], Claim]
    properties: tuple[str, ...] = ("equivariance", "adjoint")
    dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.float64)
    few: bool = False


def sounds() -> list[Sound]:
    """The sound layers beside those of the sound set itself."""
    return [sound for name in STRANGERS for sound in importlib.import_module(f"{__name__}.{name}").SOUND]


def faults() -> list[Fault]:
    """Every hand-made fault."""
    return [fault for name in MODULES for fault in importlib.import_module(f"{__name__}.{name}").FAULTS]
