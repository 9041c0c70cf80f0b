"""Faults of actions, and of layers that hold in a limit: off the grid, and on the sphere."""

import equiharness as eh
import torch
from equiharness.harness.claim.claim import Claim
from equiharness.harness.fields.field import Acted

from . import Fault

D4 = eh.Field(eh.Grid(7, 7), "D4", "regular")
C8 = eh.Field(eh.Grid(17, 17), "C8", "trivial")
S2 = eh.Field(eh.Sphere(4), "SO3")
GROUP = eh.group("D4")

ACTIONS = {
    "an action scaled by a thousandth": lambda g, y: D4.act(g, y) * (1 if g.is_identity else 1.001),
    "an action without its inverse": lambda g, y: D4.act(GROUP.inverse(g), y),
    "an identity that moves": lambda g, y: D4.act(g, y).roll(1, -1),
    "an action that forgets reflections": lambda g, y: D4.act(g if g.is_proper else GROUP.identity, y),
    "an action in float32": lambda g, y: D4.act(g, y) * (1 if g.is_identity else 1 + 1e-9),
}


def acting(wrong):
    """An action right and wrong, claimed of the identity function."""

    def claims(dtype, seed):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(4, 8, 7, 7, generator=generator, dtype=torch.float64)
        return tuple(
            Claim(torch.relu, "D4", Acted(D4.act), Acted(act), dtype=dtype, seed=seed, inputs=lambda count, _: x)
            for act in (D4.act, wrong)
        )

    return claims


def of(sound, broken, source):
    return lambda dtype, seed: tuple(
        Claim(f, source.group, source, source, dtype=dtype, seed=seed) for f in (sound, broken)
    )


#: The functions, and the rule that finds them: the outputs move too little, or the layer depends on the place.
OFF_GRID = {
    "a shift by an eighth of the picture": (lambda x: x.roll(x.shape[-1] // 8, -1), "PLATEAU"),
    "rows weighted by their height": (lambda x: x * torch.linspace(0.8, 1.2, x.shape[-2]).to(x)[:, None], "LIMIT"),
    "four corners cut": (lambda x: x * (box_distance(x) < 0.25), "LIMIT"),
}


def box_distance(x):
    """Distance from the centre in the norm |row| + |column|, at most 1: C4 keeps it and 45 degrees do not."""
    t = torch.linspace(-1, 1, x.shape[-1]).to(x).abs()
    return (t[:, None] + t) / 2


ALIASES = {
    "a mirrored part behind a relu": lambda x: torch.relu(x) + 0.1 * x.flip(-2),
    "a longitude preferred behind a tanh": lambda x: (
        torch.tanh(x) * (1 + 0.1 * torch.cos(torch.linspace(0, 6.28, x.shape[-1] + 1)[:-1]).to(x))
    ),
}

FAULTS = [
    *(
        Fault(name, "planar", "plain", "homomorphism", acting(act), "BROKEN", "ACTION", dtypes=(torch.float64,))
        for name, act in ACTIONS.items()
    ),
    *(
        Fault(name, "planar", "plain", "off_grid", of(torch.tanh, f, C8), "BROKEN", code, dtypes=(torch.float32,))
        for name, (f, code) in OFF_GRID.items()
    ),
    *(
        Fault(name, "spherical", "plain", "aliasing", of(torch.tanh, f, S2), "BROKEN", "LIMIT", dtypes=(torch.float32,))
        for name, f in ALIASES.items()
    ),
]
