"""Errors of a layer for plane waves at one pixel: under the claimed action, under wrong ones, and by rounding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ...harness.claim.claim import LONG, SAMPLES
from ...harness.errors import UsageError
from ...harness.precisions import EPS, claim_eps
from ...harness.symmetry.groups import Element, Group
from ...harness.verdict.decide import SAFETY
from ..controls import SAME_ACTION
from ..rounding import Kappa, neighbours, perturbed
from .fixed_pixels import Array, FixedPixels, Spot, Waves
from .wave_rule import WaveErrors

#: Width of the filters of an unconstrained layer, the control.
CONTROL = 5


@dataclass(frozen=True)
class Setting:
    """What a comparison is made of: the layer, a pixel, the waves and their wavelengths, and the wrong actions."""

    layer: FixedPixels
    spot: Spot
    waves: Waves
    wavelengths: tuple[float, ...]
    group: Group
    exact: tuple[Element, ...]
    #: A round window over the inputs, for layers that see the border.
    window: torch.Tensor | None = None

    def fields(self, waves: Waves) -> Iterator[torch.Tensor]:
        """The waves on the grid, one batch for each wavelength."""
        q = np.array(self.spot.point)
        return (self._inside(waves.sample(self.spot.shape, q, wavelength)) for wavelength in self.wavelengths)

    def constants(self, values: Array) -> torch.Tensor:
        """Constant inputs [sample, channel, *grid]."""
        x = torch.from_numpy(values)[(..., *[None] * len(self.spot.shape))]
        return self._inside(x.expand(*x.shape[:2], *self.spot.shape).contiguous())

    def _inside(self, x: torch.Tensor) -> torch.Tensor:
        return x if self.window is None else x * self.window

    def at_pixel(self, inputs: list[torch.Tensor]) -> Array:
        """f - f(0) at the pixel, [batch, sample, channel] for several batches."""
        nothing = torch.zeros(2, *inputs[0].shape[1:], dtype=torch.float64)
        zero = self.layer.at(self.layer.output(nothing), self.spot.pixel)[:1]
        found: Array = np.stack([self.layer.at(y, self.spot.pixel) for y in self.layer.outputs(inputs)]) - zero
        return found

    def squares(self, values: Array) -> Array:
        """Squares [..., summand] of values [..., channel]."""
        flat = self.layer.summand_squares(values.reshape(-1, values.shape[-1]))
        return flat.reshape(*values.shape[:-1], -1)


def wave_errors(setting: Setting, elements: Sequence[Element]) -> list[WaveErrors]:
    """The errors at some elements. Samples, directions and values are the same at every wavelength and element."""
    waves = setting.waves
    here = waves.at_centre
    y, constant = _split(setting.at_pixel([*setting.fields(waves), setting.constants(here)]))
    return [_at(setting, g, y, constant, here) for g in elements]


def _split(values: Array) -> tuple[Array, Array]:
    return values[:-1], values[-1]


def _at(setting: Setting, g: Element, y: Array, constant: Array, here: Array) -> WaveErrors:
    layer, waves = setting.layer, setting.waves
    mix, rho = layer.mix_in(g), layer.mix_out(g, y.shape[-1])
    u, moved = _split(setting.at_pixel([*setting.fields(waves.moved(g, mix)), setting.constants(here @ mix.T)]))
    v = y @ rho.T
    wrong, apart = _wrong_targets(setting, g, u, v, y)
    size = setting.squares(v)
    # A summand that no target action moves is told by wrong source actions, and by what a pointwise map would make.
    still = ~np.any([(a > 0).any((0, 1)) for a in apart], 0) if apart else np.ones(size.shape[-1], dtype=bool)
    if still.any():
        for a, b in _wrong_sources(setting, g, u, v, mix):
            wrong.append(a)
            apart.append(np.where(still, b, 0.0))
        z = setting.squares(u - moved) + setting.squares((y - constant) @ rho.T)
        wrong.append(z)
        apart.append(np.where(still, z, 0.0))
    return WaveErrors(
        element=g,
        right=setting.squares(u - v),
        size=size,
        wrong=np.stack(wrong),
        apart=np.stack(apart),
        constant=setting.squares(moved - constant @ rho.T),
        constant_size=setting.squares(constant),
        wavelengths=setting.wavelengths,
    )


def _wrong_targets(setting: Setting, g: Element, u: Array, v: Array, y: Array) -> tuple[list[Array], list[Array]]:
    """Errors under the target actions of other elements, and how far these actions are from the claimed one."""
    wrong, apart = [], []
    rho = setting.layer.mix_out(g, y.shape[-1])
    for k in _others(setting, g):
        other = setting.layer.mix_out(k, y.shape[-1])
        if np.abs(other - rho).max() > SAME_ACTION:
            w = y @ other.T
            far = setting.squares(v - w)
            wrong.append(setting.squares(u - w))
            apart.append(np.where(far > SAME_ACTION**2 * setting.squares(v), far, 0.0))
    return wrong, apart


def _others(setting: Setting, g: Element) -> list[Element]:
    """Every other element of a finite group; the exact elements and the inverse in a continuous one."""
    group = setting.group
    if group.order is not None:
        return [k for k in group if k.index != g.index]
    return [*setting.exact, group.inverse(g)]


def _wrong_sources(setting: Setting, g: Element, u: Array, v: Array, mix: Array) -> Iterator[tuple[Array, Array]]:
    """Errors where the input's fibre is moved by another element: by the two nearest ones and by the farthest."""
    distances = [
        (float(np.linalg.norm(other - mix)), i, other)
        for i, other in enumerate(setting.layer.mix_in(k) for k in _others(setting, g))
        if np.abs(other - mix).max() > SAME_ACTION
    ]
    distances.sort(key=lambda row: row[:2])
    for _, _, other in [*distances[:2], *distances[2:][-1:]]:
        w = setting.at_pixel(list(setting.fields(setting.waves.moved(g, other))))
        yield setting.squares(w - v), setting.squares(w - u)


def rounding_at(setting: Setting, rows: Sequence[WaveErrors], delta: float) -> tuple[Array, Array]:
    """R = S kappa (eps + delta) [summand] for the claim's precision, and for float32.

    kappa is that of ``rounding``, at waves of 6 px and relative to the sizes that errors are relative to. A kappa that
    would explain everything is that of a layer that jumps, and excuses nothing: it counts 1.
    """
    layer, subject = setting.layer, setting.layer.subject
    dtype = str(subject.claim.dtype).removeprefix("torch.")
    few = Waves(setting.waves.directions[:SAMPLES], setting.waves.values[:SAMPLES])
    x = few.sample(setting.spot.shape, np.array(setting.spot.point), LONG)
    size = np.sqrt(np.max([r.largest for r in rows], 0))

    def apart(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        difference = layer.at(a, setting.spot.pixel) - layer.at(b, setting.spot.pixel)
        rms = np.sqrt(setting.squares(difference).mean(0))
        return torch.from_numpy(np.divide(rms, size, out=np.zeros_like(rms), where=size > 0))

    kappa = Kappa()
    y = layer.output(x)
    if layer.exact:
        for moved, add in neighbours(layer.output, x, subject.claim.seed):
            add(kappa, apart(moved, y))
        rounded = x.float().double()
        try:
            kappa.add_loss(apart(layer.variant(subject.single, rounded), layer.output(rounded)))
        except UsageError:
            raise
        except Exception:  # the layer refuses float32: then kappa comes from C alone
            pass
    else:
        kappa.add_floor(torch.full((1,), EPS[dtype], dtype=torch.float64), claim_eps(dtype))
        for moved in perturbed(x, subject.claim.seed, EPS[dtype]):
            kappa.add_floor(apart(layer.output(moved), y), claim_eps(dtype))
    value = np.broadcast_to(kappa.value.numpy(), size.shape)
    own, single = (SAFETY * value * (eps + delta) for eps in (claim_eps(dtype), EPS["float32"]))
    return tuple(np.where(r < 1, r, SAFETY * e) for r, e in ((own, claim_eps(dtype)), (single, EPS["float32"])))  # type: ignore[return-value]


def defect_of(setting: Setting, elements: Sequence[Element], channels: int) -> float:
    """delta: how far the fibres' matrices are from a representation, at the elements and their inverses."""
    layer, group = setting.layer, setting.group

    def one(g: Element) -> float:
        back = group.inverse(g)
        pairs = ((layer.mix_in(g), layer.mix_in(back)), (layer.mix_out(g, channels), layer.mix_out(back, channels)))
        return max(float(np.abs(a @ b - np.eye(len(a))).max()) for a, b in pairs)

    return max(map(one, elements))


def control_error(setting: Setting, elements: Sequence[Element], channels: int, wavelength: float = LONG) -> float:
    """The error of a convolution without symmetry, of the same channels and at the same waves."""
    layer, dim = setting.layer, len(setting.spot.shape)
    rng = np.random.default_rng(layer.subject.claim.seed)
    axes = [np.arange(CONTROL) - (CONTROL - 1) / 2] * dim
    offsets = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, dim)
    weight = rng.standard_normal((channels, layer.source.fibre.size, len(offsets)))
    y = setting.waves.filtered(weight, offsets, wavelength)
    found = 0.0
    for g in elements:
        u = setting.waves.moved(g, layer.mix_in(g)).filtered(weight, offsets, wavelength)
        v = y @ layer.mix_out(g, channels).T
        size = setting.squares(v).mean(0)
        found = max(found, float(np.sqrt((setting.squares(u - v).mean(0) / size).max())))
    return found
