"""Commuting diagrams: small pictures of x, gx, f(x), g f(x), f(gx) and the difference, cut to one channel.

Where g mixes the channels of the output, two more pictures show that the action is more than moving space, and a third
picture shows the matrix rho(g) that mixes the channels. The stabilised view shows g^-1 f(g x) for several g. These
pictures are equal if f is equivariant.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from ..fields.domains import Grid, Points
from ..fields.field import Field
from ..records.lines import PANEL_SIDE, Attachment, Panel, RotatedView
from ..symmetry.groups import Element
from ..trees import Tree, leaves

#: Number of elements of a stabilised view, and pixels on a side of its pictures. Together these pictures are smaller
#: than the diagram itself.
ROTATED_VIEWS = 4
ROTATED_SIDE = 24


def diagram(claim: Any, g: Element, x: Tree, gx: Tree, fx: Tree, gfx: Tree, fgx: Tree) -> Attachment:
    """The diagram for the first sample and channel, of the first leaf in the source and in the target that g moves."""
    source, target = _moving(claim.source), _moving(claim.target)
    panels = [
        _panel("x", *_pick(claim.source, source, x)),
        _panel("g x", *_pick(claim.source, source, gx)),
        _panel("f(x)", *_pick(claim.target, target, fx)),
        _panel("g f(x)", *_pick(claim.target, target, gfx)),
        _panel("f(g x)", *_pick(claim.target, target, fgx)),
    ]
    leaf, wanted = _pick(claim.target, target, gfx)
    found = _pick(claim.target, target, fgx)[1]
    panels.append(_panel("f(g x) - g f(x)", leaf, found - wanted))
    alone = leaf.move_points_alone(g, _pick(claim.target, target, fx)[1]) if isinstance(leaf, Field) else None
    if alone is not None and alone.shape == found.shape:
        panels += [_panel("space alone", leaf, alone), _panel("f(g x) - space alone", leaf, found - alone)]
        panels += _fibre_panel(leaf, g)
    fields = dict(leaves(claim.source))[source], leaf
    return Attachment(id="", element=g.name, panels=tuple(panels), note=_how_to_read(*fields))


def rotated_views(claim: Any, seen: Iterable[tuple[Element, Tree, Tree]]) -> tuple[RotatedView, ...]:
    """The stabilised view, from (g, g x, f(g x)) for several elements."""
    source, target = _moving(claim.source), _moving(claim.target)
    found = []
    for g, gx, fgx in seen:
        leaf, moved = _pick(claim.target, target, fgx)
        back = leaf.act(claim.group.inverse(g), moved[:1])
        pictures = (
            _panel("g x", *_pick(claim.source, source, gx), side=ROTATED_SIDE),
            _panel("g⁻¹ f(g x)", leaf, back, side=ROTATED_SIDE),
        )
        found.append(RotatedView(element=g.name, moved=pictures[0], stabilised=pictures[1]))
    return tuple(found)


def _fibre_panel(leaf: Field, g: Element) -> list[Panel]:
    """The matrix rho(g) of the first block of the fibre that g mixes."""
    for _, rep in leaf.fibre.terms:
        if 1 < rep.dim <= PANEL_SIDE:
            matrix = np.ascontiguousarray(rep.of(g), dtype="<f4")
            return [Panel.of("g on the fibre", rep.dim, rep.dim, matrix.tobytes(), "matrix")]
    return []


def _how_to_read(*fields: Any) -> str:
    """A legend for the axes of unrolled spheres; empty without spheres."""
    spherical = [leaf.domain for leaf in fields if isinstance(leaf, Field) and leaf.band_limited]
    if not spherical:
        return ""
    slices = any(len(domain.axes) == 3 for domain in spherical)
    text = "Spheres are unrolled: beta runs down from the north pole, alpha to the right"
    return f"{text}; of SO(3) the slice gamma = 0 is shown." if slices else f"{text}."


def _moving(tree: Tree) -> str:
    """Path of the first leaf that an element moves, else of the first leaf."""
    listed = list(leaves(tree))
    return next((path for path, leaf in listed if isinstance(leaf, Field)), listed[0][0])


def _pick(fields: Tree, path: str, values: Tree) -> tuple[Any, torch.Tensor]:
    return dict(leaves(fields))[path], dict(leaves(values))[path]


def _panel(title: str, leaf: Any, value: torch.Tensor, side: int = PANEL_SIDE) -> Panel:
    image, kind = _image(leaf, value[:1].detach().double().cpu())
    steps = [max(1, -(-n // side)) for n in image.shape]
    small = np.ascontiguousarray(image[:: steps[0], :: steps[1]], dtype="<f4")
    return Panel.of(title, small.shape[0], small.shape[1], small.tobytes(), kind)


def _image(leaf: Any, value: torch.Tensor) -> tuple[Any, str]:
    """A picture of channel 0: a plane, the middle of a volume, or beta by alpha (at gamma = 0); else all channels."""
    if isinstance(leaf, Field):
        x = leaf.domain.channels_first(value)[0]
        if isinstance(leaf.domain, Grid):
            plane = x[0]
            volume = plane.dim() == 3
            return (plane[plane.shape[0] // 2] if volume else plane).numpy(), "volume" if volume else "plane"
        if leaf.band_limited:
            rotations = x.dim() == 4
            return (x[0, :, :, 0] if rotations else x[0]).numpy(), "rotations" if rotations else "sphere"
        flat = x.reshape(x.shape[0], -1)
        cloud = isinstance(leaf.domain, Points) and [rep.dim for rep in leaf.fibre.blocks] == [3]
        return flat.numpy(), "cloud" if cloud else "channels"
    return value.reshape(1, -1).numpy(), "channels"
