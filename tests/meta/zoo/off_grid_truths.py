"""Measures the truths of ``off_grid_layers`` by lines of its own: plane waves, constants, and no rule of the harness.

Compared is one point that the element leaves where it is. There (g y)(q) = rho(g) y(q) needs no interpolation, and
plane waves are moved as formulas, so that nothing but the layer's own error is in the numbers.
"""

import math
from dataclasses import dataclass

import equiharness as eh
import numpy as np
import torch

#: Waves in each input, and inputs.
WAVES, SAMPLES = 2, 24
#: Below this share of the output's size, an error or what a wrong action does is rounding or float32 tables.
NOTHING = 1e-6


@dataclass(frozen=True)
class Errors:
    """Errors of one layer.

    Args:
        share: error under the claimed action over that under the nearest wrong one, the largest of all elements and
            blocks of the target.
        error: the error over the output's size, at the same place.
        constants: the error on constant inputs over the largest output on waves.
        grid: the error at elements that need no interpolation, over the output's size.
    """

    share: float
    error: float
    constants: float
    grid: float


def elements_of(group):
    """Elements off the grid, and on it: all of a finite group, else a few fixed ones and the grid's own symmetries."""
    if group.order is not None:
        every = list(group)
    elif group.dim == 2:
        angles = [45.0, 22.5, 77.3]
        turns = [turn(t) for t in [*angles, 0, 90, 180, 270]]
        mirrored = [m @ np.diag([1.0, -1.0]) for m in turns] if group.name == "O2" else []
        every = [group.element(m) for m in [*turns, *mirrored]]
    else:
        rng = np.random.default_rng(5)
        drawn = [np.linalg.qr(rng.standard_normal((3, 3)))[0] for _ in range(3)]
        cube = [group.element(np.array(m, dtype=float)) for m in eh.group("O").elements]
        every = [*(group.element(m * np.linalg.det(m)) for m in drawn), *cube]
    off = [g for g in every if not g.is_signed_permutation]
    return off, [g for g in every if g.is_signed_permutation]


def turn(degrees):
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[c, -s], [s, c]])


def blocks(field, g):
    """The matrices of an element on each block of a fibre."""
    return [torch.as_tensor(np.array(rep.of(g)), dtype=torch.float64) for rep in field.fibre.blocks]


class Waves:
    """Plane waves on the grid of a source, with the point q as their origin."""

    def __init__(self, field, q, wavelength, samples=SAMPLES, seed=11):
        rng = np.random.default_rng(seed)
        dim = field.group.dim
        axes = [torch.arange(n, dtype=torch.float64) - (n - 1) / 2 for n in field.domain.shape]
        self.points = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1) - torch.as_tensor(q, dtype=torch.float64)
        directions = rng.standard_normal((samples, WAVES, dim))
        directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
        self.waves = torch.as_tensor(2 * math.pi / wavelength * directions)
        noise = rng.standard_normal((2, samples, WAVES, field.fibre.size))
        self.amplitudes = torch.complex(*map(torch.as_tensor, noise))
        self.field = field

    def moved(self, g=None, mix=None):
        """rho(mix) x(g^-1 p); by default x itself."""
        waves, amplitudes = self.waves, self.amplitudes
        if g is not None:
            waves = waves @ torch.as_tensor(np.array(g.matrix), dtype=torch.float64).T
        if mix is not None:
            amplitudes = amplitudes @ torch.block_diag(*blocks(self.field, mix)).T.to(amplitudes.dtype)
        phases = torch.einsum("sbd,...d->sb...", waves, self.points)
        space = "ijk"[: self.points.dim() - 1]
        return torch.einsum(f"sbc,sb{space}->sc{space}", amplitudes, torch.exp(1j * phases)).real

    def values(self):
        """x(q) as a constant field, everywhere."""
        shape = self.points.shape[:-1]
        return self.amplitudes.sum(1).real[(..., *[None] * len(shape))].expand(-1, -1, *shape).contiguous()


def place(pieces):
    """Where the output is read: the index of the point nearest to the middle, and its place q in the input."""
    if not hasattr(pieces.target.domain, "shape"):
        return None, [0.0] * pieces.source.group.dim
    n, m = pieces.source.domain.shape[0], pieces.target.domain.shape[0]
    return m // 2, [(0.0 if m % 2 else n / m / 2)] * pieces.source.group.dim


def root(values):
    """Root of the mean square over samples of vectors."""
    return float(values.square().sum(1).mean().sqrt())


def few(elements, most):
    """Some of the elements, from the whole list."""
    return elements[:: max(1, len(elements) // most)] if most else elements


def matrix(field, g):
    return torch.block_diag(*blocks(field, g))


class Reading:
    """A layer's output at one point, block by block: [samples, components] each."""

    def __init__(self, pieces):
        self.pieces, (self.index, self.q) = pieces, place(pieces)
        self.sizes = [rep.dim for rep in pieces.target.fibre.blocks]

    def __call__(self, x):
        with torch.no_grad():
            y = self.pieces.function(x)
        y = y if self.index is None else y[(..., *[self.index] * self.pieces.source.group.dim)]
        return y.split(self.sizes, 1)


def nearest_wrong(pieces, read, waves, g, others, y, flat):
    """For every block, the smallest error of a wrong action that changes anything: (error of the claim, that).

    An invariant block has no wrong action of its own. There a wrong action on the source counts, and what filters would
    differ by that have nothing but their sum in common: the distances of both outputs from those on constants.
    """
    u = read(waves.moved(g, g))
    rho, scale = blocks(pieces.target, g), max(map(root, y))
    wrong = [blocks(pieces.target, k) for k in others]
    mixed = None
    for j in range(len(u)):
        errors = [root(u[j] - y[j] @ w[j].T) for w in wrong if (w[j] - rho[j]).abs().max() > 1e-9]
        if not errors:
            if mixed is None:
                differ = [k for k in others if not torch.allclose(matrix(pieces.source, k), matrix(pieces.source, g))]
                mixed = [read(waves.moved(g, k)) for k in differ[:6]]
            errors = [root(m[j] - y[j]) for m in mixed]
            errors.append(math.hypot(root(u[j] - flat[j]), root(y[j] - flat[j])))
        errors = [w for w in errors if w > NOTHING * scale]
        yield root(u[j] - y[j] @ rho[j].T), min(errors, default=scale)


def measured(pieces, wavelength=96.0, most=None):
    """The errors of a layer on plane waves of this wavelength, in float64.

    Args:
        pieces: the pieces of the layer.
        wavelength: in pixels.
        most: about how many elements off the grid, and on it, to look at; by default all.
    """
    group = pieces.source.group
    read = Reading(pieces)
    samples = SAMPLES if group.dim == 2 else SAMPLES // 3
    waves = Waves(pieces.source, read.q, wavelength, samples)
    off, on = elements_of(group)
    y, flat = read(waves.moved()), read(waves.values())
    scale = max(map(root, y))
    big = max(scale, *(max(map(root, read(Waves(pieces.source, read.q, w, samples).moved()))) for w in (6.0, 12.0)))
    share = error = constants = 0.0
    for g in few(off, most):
        others = [k for k in (*off, *on) if k is not g] if group.order is not None else [*on, group.inverse(g)]
        for claimed, wrong in nearest_wrong(pieces, read, waves, g, others, y, flat):
            if claimed / wrong > share:
                share, error = claimed / wrong, claimed / scale
        given = torch.einsum("cd,sd...->sc...", matrix(pieces.source, g), waves.values())
        for u, v, rho in zip(read(given), flat, blocks(pieces.target, g), strict=True):
            constants = max(constants, root(u - v @ rho.T) / big)
    grid = max(
        root(u - v @ rho.T) / scale
        for g in few(on, most)
        for u, v, rho in zip(read(waves.moved(g, g)), y, blocks(pieces.target, g), strict=True)
    )
    return Errors(share, error, constants, grid)


def sees_border(pieces):
    """Whether the point that is read depends on the outermost ring of pixels, where padding would show."""
    index, _ = place(pieces)
    x = torch.randn(pieces.source.tensor_shape(2), dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    inside = torch.zeros_like(x)
    middle = (..., *[slice(1, -1)] * pieces.source.group.dim)
    inside[middle] = x[middle]
    with torch.no_grad():
        ys = [pieces.function(v) for v in (x, inside)]
    ys = [y if index is None else y[(..., *[index] * pieces.source.group.dim)] for y in ys]
    return not torch.equal(*ys)
