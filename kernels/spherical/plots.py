"""Kernel grids drawn on the sphere: orthographic, with what lies behind drawn faintly."""

import importlib
from typing import Any

import numpy as np

from .description import coordinates
from .wigner import Array

#: Length of a tick that shows an angle about the own axis, of a sphere of radius 1.
_TICK = 0.07


def plot(points: Array, title: str, axes: Any, view: tuple[float, float]) -> Any:
    """Return matplotlib axes with the points [P, 2] or [P, 3]; `KernelGrid.plot` says what is in it."""
    try:
        figures = importlib.import_module("matplotlib.figure")
    except ImportError as error:
        raise ImportError(
            "drawing a kernel grid needs matplotlib, which is not installed: pip install 'equiharness[report]'"
        ) from error
    if axes is None:
        axes = figures.Figure(figsize=(3.2, 3.4), layout="constrained").add_subplot()
    camera = _camera(*view)
    turn = np.linspace(0, 2 * np.pi, 121)
    axes.plot(np.cos(turn), np.sin(turn), color="0.4", linewidth=1)
    for line in _graticule(turn):
        _draw_line(axes, line @ camera.T)
    placed = coordinates(points)
    heads = placed[:, -3:] @ camera.T
    for behind in (True, False):
        chosen = (heads[:, 2] < 0) == behind
        strength = 0.25 if behind else 1.0
        if placed.shape[1] == 6:
            tips = heads[chosen] + _TICK * (placed[chosen, :3] @ camera.T)
            ends = np.stack([heads[chosen], tips, np.full_like(tips, np.nan)], 1).reshape(-1, 3)
            axes.plot(ends[:, 0], ends[:, 1], color="C1", linewidth=0.7, alpha=strength)
        axes.plot(heads[chosen, 0], heads[chosen, 1], ".", color="C0", markersize=4, alpha=strength)
    axes.set_aspect("equal")
    axes.set_axis_off()
    axes.set_title(title, fontsize=8)
    return axes


def _camera(beta: float, alpha: float) -> Array:
    """Return the rotation whose rows are right, up and towards somebody above (beta, alpha), north up."""
    b, a = beta, alpha
    towards = [np.sin(b) * np.cos(a), np.sin(b) * np.sin(a), np.cos(b)]
    right = [-np.sin(a), np.cos(a), 0.0]
    return np.stack([right, np.cross(towards, right), towards])


def _graticule(turn: Array) -> list[Array]:
    """Return meridians and parallels, every 45 degrees: [len(turn), 3] each."""
    zero = np.zeros_like(turn)
    parallels = [
        np.stack([np.sin(b) * np.cos(turn), np.sin(b) * np.sin(turn), zero + np.cos(b)], 1)
        for b in np.pi * np.arange(1, 4) / 4
    ]
    meridians = [
        np.stack([np.sin(turn) * np.cos(a), np.sin(turn) * np.sin(a), np.cos(turn)], 1)
        for a in np.pi * np.arange(4) / 4
    ]
    return parallels + meridians


def _draw_line(axes: Any, line: Array) -> None:
    """Draw the part that is in front."""
    shown = np.where((line[:, 2] > 0)[:, None], line, np.nan)
    axes.plot(shown[:, 0], shown[:, 1], color="0.85", linewidth=0.6, zorder=0)
