"""Commuting diagrams: small pictures of x, gx, f(x), g f(x), f(gx) and the difference, cut to one channel.

Where the output has a fibre that g mixes, two more show that moving space alone is not the action.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from .domains import Grid
from .fields import Field
from .groups import Element
from .record import PANEL_SIDE, Attachment, Panel
from .trees import Tree, leaves


def diagram(claim: Any, g: Element, x: Tree, gx: Tree, fx: Tree, gfx: Tree, fgx: Tree) -> Attachment:
    """The diagram of the first sample and channel of the first leaf that moves, source and target."""
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
    return Attachment(id="", element=g.name, panels=tuple(panels))


def _moving(tree: Tree) -> str:
    """Path of the first leaf that an element moves, else of the first leaf."""
    listed = list(leaves(tree))
    return next((path for path, leaf in listed if isinstance(leaf, Field)), listed[0][0])


def _pick(fields: Tree, path: str, values: Tree) -> tuple[Any, torch.Tensor]:
    return dict(leaves(fields))[path], dict(leaves(values))[path]


def _panel(title: str, leaf: Any, value: torch.Tensor) -> Panel:
    image = _image(leaf, value[:1].detach().double().cpu())
    steps = [max(1, -(-n // PANEL_SIDE)) for n in image.shape]
    small = np.ascontiguousarray(image[:: steps[0], :: steps[1]], dtype="<f4")
    return Panel.of(title, small.shape[0], small.shape[1], small.tobytes())


def _image(leaf: Any, value: torch.Tensor) -> Any:
    """Channel 0: a plane, the middle of a volume, beta by alpha (at gamma = 0) on spheres; else channels by points."""
    if isinstance(leaf, Field):
        x = leaf.domain.channels_first(value)[0]
        if isinstance(leaf.domain, Grid):
            plane = x[0]
            return (plane[plane.shape[0] // 2] if plane.dim() == 3 else plane).numpy()
        if leaf.band_limited:
            return (x[0, :, :, 0] if x.dim() == 4 else x[0]).numpy()
        return x.reshape(x.shape[0], -1).numpy()
    return value.reshape(1, -1).numpy()
