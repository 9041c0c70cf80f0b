"""Faults of force fields: cells, forces, order, origin, handedness, cutoffs. The sound model is a pair potential."""

from dataclasses import dataclass

import equiharness as eh
import torch
from equiharness.harness.claim.claim import Claim

from . import Fault

N, CUTOFF = 5, 3.0
SOURCE = {
    "pos": eh.Positions(N, "O3"),
    "z": eh.Invariant(at=eh.Points(N), integers=(1, 9)),
    "cell": eh.Cell("O3", edge=9.0),
}
TARGET = {"energy": eh.Energy(cutoff=CUTOFF), "forces": eh.Forces(N, "O3")}


def smooth(r):
    return torch.where(r < CUTOFF, (1 - (r / CUTOFF) ** 2) ** 3, 0.0)


@dataclass(frozen=True)
class ForceField:
    """exp(-r) z_i z_j f(r) over nearest images; forces by autograd."""

    envelope: object = smooth
    energy_of: object = lambda e, pos: e
    forces_of: object = lambda f, pos: f
    cell_of: object = lambda cell: cell
    weight_of: object = lambda w: w

    def energy(self, pos, z, cell):
        cell = self.cell_of(cell)
        d = pos[:, :, None] - pos[:, None]
        d = d - torch.round(d @ torch.linalg.inv(cell)[:, None]) @ cell[:, None]
        r = ((d * d).sum(-1) + 100 * torch.eye(N).to(pos)).sqrt()  # 100: beyond every cutoff
        pair = torch.exp(-r) * self.weight_of(z[:, :, None] * z[:, None] / 10) * self.envelope(r)
        return self.energy_of(pair.sum((1, 2)) / 2, pos)

    def __call__(self, pos, z, cell):
        with torch.enable_grad():
            pos = pos.requires_grad_(True)
            energy = self.energy(pos, z, cell)
            forces = -torch.autograd.grad(energy.sum(), pos, create_graph=True)[0]
        return {"energy": energy, "forces": self.forces_of(forces, pos)}


def along_the_axes(cell):
    """The box of a cell whose vectors lie along the axes."""
    return torch.diag_embed(cell.diagonal(dim1=1, dim2=2))


def cube_of_its_own(cell):
    return 9 * torch.eye(3).to(cell).expand_as(cell)


class TurnedBack(ForceField):
    """Works in the frame of the positions' principal axes, and forgets the cell there."""

    def __call__(self, pos, z, cell):
        centred = pos - pos.mean(1, keepdim=True)
        _, frame = torch.linalg.eigh(centred.transpose(1, 2) @ centred)
        frame = frame * torch.sign(((centred @ frame) ** 3).sum(1, keepdim=True))
        y = super().__call__((pos @ frame).detach(), z, cell)
        return {**y, "forces": y["forces"] @ frame.transpose(1, 2)}


def in_order(w):
    return w * torch.arange(N).to(w)


def handed(e, pos):
    """Adds the volume spanned by three atoms: it changes sign in a mirror."""
    a = pos[:, 1:4] - pos[:, :1]
    return e + 1e-3 * torch.linalg.det(a.double()).to(e)


# name -> (model, property that must catch it, code, words of its reason)
MODELS = {
    "a box along the axes": (ForceField(cell_of=along_the_axes), "rotations", "ERROR", "how `cell` is used"),
    "a box of its own": (ForceField(cell_of=cube_of_its_own), "rotations", "ERROR", "does not depend on `cell`"),
    "a cell that is not turned": (TurnedBack(), "rotations", "ERROR", "does not transform `cell`"),
    "forces not the gradient": (
        ForceField(forces_of=lambda f, pos: f + 1e-4 * (pos - pos.mean(1, keepdim=True))),
        "forces",
        "GRADIENT",
        "not -dE/dx",
    ),
    "forces twice the gradient": (ForceField(forces_of=lambda f, pos: 2 * f), "forces", "GRADIENT", "2 times -dE/dx"),
    "forces of the wrong sign": (ForceField(forces_of=lambda f, pos: -f), "forces", "GRADIENT", "-1 times -dE/dx"),
    "a term without forces": (
        ForceField(energy_of=lambda e, pos: e + 1e-3 * torch.cdist(pos, pos).detach().sum((1, 2))),
        "forces",
        "GRADIENT",
        "add the missing term",
    ),
    "atoms in order": (ForceField(weight_of=in_order), "permutations", "ERROR", "depends on the order of the points"),
    "a place of its own": (
        ForceField(energy_of=lambda e, pos: e + 1e-3 * (pos**2).sum((1, 2))),
        "translations",
        "ERROR",
        "depends on where the origin lies",
    ),
    "handedness": (ForceField(energy_of=handed), "reflections", "ERROR", "times what rounding explains"),
    "a jump at the cutoff": (ForceField(lambda r: (r < CUTOFF).to(r)), "smoothness", "JUMP", "energy jumps"),
    "a kink at the cutoff": (
        ForceField(lambda r: (1 - r / CUTOFF).clamp(min=0)),
        "smoothness",
        "KINK",
        "force jumps",
    ),
    "an energy of nothing": (
        ForceField(energy_of=lambda e, pos: 0 * e, forces_of=lambda f, pos: 0 * f),
        "forces",
        "VACUOUS",
        "does not change when points move",
    ),
}


def claims_of(model):
    """The claim of the sound force field and of one with a fault."""
    return lambda dtype, seed: tuple(
        Claim(m, "O3", SOURCE, TARGET, dtype=dtype, seed=seed) for m in (ForceField(), model)
    )


FAULTS = [
    Fault(
        name,
        "points",
        "plain",
        caught,
        claims_of(model),
        "VACUOUS" if code == "VACUOUS" else "BROKEN",
        code,
        dtypes=(torch.float64,),  # test_points_faults.py has them in float32
    )
    for name, (model, caught, code, _) in MODELS.items()
]
