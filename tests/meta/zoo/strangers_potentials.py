"""Stiff and imprecise potentials, with energies, forces and cutoffs."""

import equiharness as eh
import torch
from torch import nn

from .strangers import DOUBLE, SINGLE, Patched, fault, sound

BOTH = ("equivariance", "adjoint")

N, CUTOFF = 4, 3.0
ATOMS = {"pos": eh.Positions(N, "O3")}
OUTPUT = {"energy": eh.Energy(), "forces": eh.Forces(N, "O3")}
CUT = {"energy": eh.Energy(cutoff=CUTOFF), "forces": eh.Forces(N, "O3")}
UPPER = torch.triu_indices(N, N, 1)


def distances(pos):
    return torch.linalg.vector_norm(pos[:, UPPER[0]] - pos[:, UPPER[1]], dim=-1)


class Potential(nn.Module):
    """Energy and forces of a function of the pairs' distances (or of positions)."""

    def __init__(self, pair=None, energy=None, forces=None):
        super().__init__()
        self.energy = energy or (lambda pos: pair(distances(pos)).sum(1))
        self.change = forces or (lambda f, pos: f)

    def forward(self, pos):
        with torch.enable_grad():
            leaf = pos if pos.requires_grad else pos.detach().requires_grad_()
            energy = self.energy(leaf)
            forces = -torch.autograd.grad(energy.sum(), leaf, create_graph=True)[0]
        return {"energy": energy, "forces": self.change(forces, leaf)}


def twelve_six(r, sigma=1.6):
    s = (sigma / r) ** 6
    return 4 * (s * s - s)


def morse(r):
    return (1 - torch.exp(-6 * (r - 1.2))).square()


def screened(r):
    """The universal screening of nuclei."""
    x = r / 0.4
    terms = ((0.1818, 3.2), (0.5099, 0.9423), (0.2802, 0.4028), (0.02817, 0.2016))
    return 14.4 / r * sum(a * torch.exp(-b * x) for a, b in terms)


def embedded(pos):
    """A square root of a density at each atom, as of metals."""
    r = torch.linalg.vector_norm(pos[:, :, None] - pos[:, None] + 1e-30, dim=-1) + 100 * torch.eye(N).to(pos)
    return torch.exp(-2 * (r - 1.5)).sum((1, 2)) - torch.exp(-r).sum(2).sqrt().sum(1)


def angles(pos):
    """Three atoms at a time: angles at each against a tetrahedron's."""
    d = pos[:, :, None] - pos[:, None]
    r2 = d.square().sum(-1) + 100 * torch.eye(N).to(pos)
    dots = torch.einsum("bijx,bikx->bijk", d, d)
    cosines = dots * (r2[:, :, :, None] * r2[:, :, None]).rsqrt()
    weight = torch.exp(-r2[:, :, :, None] - r2[:, :, None])
    return (weight * (cosines + 1 / 3).square()).sum((1, 2, 3))


def eleven_for_twelve(f, pos):
    """The forces of the repulsive part with a factor of eleven."""
    with torch.enable_grad():
        leaf = pos.detach().requires_grad_() if not pos.requires_grad else pos
        repulsion = (4 * (1.6 / distances(leaf)) ** 12).sum()
        slope = torch.autograd.grad(repulsion, leaf, create_graph=True)[0]
    return f + slope / 12


def shifted(r):
    """Cut and shifted: the energy is continuous, and the force is not."""
    return torch.where(r < CUTOFF, twelve_six(r, 1.0) - twelve_six(torch.tensor(CUTOFF).to(r), 1.0), 0 * r)


def cut(r):
    return torch.where(r < CUTOFF, 5 * twelve_six(r, 1.0), 0 * r)


def smoothly_cut(r):
    t = (r / CUTOFF).clamp(max=1.0)
    return twelve_six(r, 1.0) * (1 - t * t) ** 3


def in_float32(pair):
    """Distances and their function in float32 inside."""
    return lambda r: pair(r.float()).to(r.dtype)


def without_three(f, pos):
    """Forces of the pairs alone."""
    with torch.enable_grad():
        leaf = pos.detach().requires_grad_() if not pos.requires_grad else pos
        return -torch.autograd.grad(morse(distances(leaf)).sum(), leaf, create_graph=True)[0]


def pairs_and_angles(pos):
    return morse(distances(pos)).sum(1) + angles(pos)


def weighted_length(right):
    """Lengths in a box whose third edge is longer by a part in ten thousand."""
    return lambda x, **rest: right(x * torch.tensor([1, 1, 1.0001]).to(x), **rest)


def first_forgotten(right):
    """Gradients that leave out the first atom."""

    def wrong(*args, **options):
        (found,) = right(*args, **options)
        return (found * (torch.arange(N) > 0)[:, None].to(found),)

    return wrong


def potential(name, caught, right, wrong, target=OUTPUT, **options):
    return fault(name, caught, right, wrong, ATOMS, target, group="O3", **{"family": "points", **options})


def exactly(**parts):
    return lambda: Potential(**parts)


GRADIENT = {"code": "GRADIENT", "dtypes": (DOUBLE,)}
POTENTIALS = [
    potential(
        "forces of a twelve-six potential with eleven for twelve",
        "forces",
        exactly(pair=twelve_six),
        exactly(pair=twelve_six, forces=eleven_for_twelve),
        **GRADIENT,
    ),
    potential(
        "forces without the angles that the energy has",
        "forces",
        exactly(energy=pairs_and_angles),
        exactly(energy=pairs_and_angles, forces=without_three),
        **GRADIENT,
    ),
    potential(
        "a potential cut off and not shifted",
        "smoothness",
        exactly(pair=smoothly_cut),
        exactly(pair=cut),
        CUT,
        code="JUMP",
        dtypes=(DOUBLE,),
    ),
    potential(
        "a potential cut off and shifted to zero",
        "smoothness",
        exactly(pair=smoothly_cut),
        exactly(pair=shifted),
        CUT,
        code="KINK",
        dtypes=(DOUBLE,),
    ),
    potential(
        "a library's length with one axis longer by a ten-thousandth, in a stiff wall",
        "rotations",
        exactly(pair=twelve_six),
        lambda: Patched(Potential(twelve_six), torch.linalg, "vector_norm", weighted_length),
    ),
    potential(
        "a library's gradient that forgets the first atom",
        "forces",
        exactly(pair=morse),
        lambda: Patched(Potential(morse), torch.autograd, "grad", first_forgotten),
        **GRADIENT,
    ),
    potential(
        "a library's exponential that is one beyond a distance",
        "permutations",
        exactly(pair=morse),
        lambda: Patched(
            Potential(morse),
            torch,
            "exp",
            lambda right: lambda r: right(r) * torch.linspace(1, 1.001, r.shape[-1]).to(r),
        ),
    ),
]
MOTIONS = ("rotations", "reflections", "translations", "permutations", "forces")


def calm(name, make, target=OUTPUT, properties=MOTIONS, **options):
    return sound(name, make, ATOMS, target, properties, group="O3", family="points", **options)


SOUND_POTENTIALS = [
    calm("a stiff twelve-six wall", exactly(pair=twelve_six)),
    calm("a steep well", exactly(pair=morse)),
    calm("screened nuclei", exactly(pair=screened)),
    calm("atoms embedded in a density", exactly(energy=embedded)),
    calm("pairs and angles", exactly(energy=pairs_and_angles)),
    calm("a potential cut off smoothly", exactly(pair=smoothly_cut), CUT, (*MOTIONS, "smoothness")),
    calm("a wall of the twenty-fourth power", exactly(pair=lambda r: (1.3 / r) ** 24), dtypes=(SINGLE, DOUBLE)),
]

FAULTS = POTENTIALS
SOUND = SOUND_POTENTIALS
