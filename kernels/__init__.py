"""The project's own equivariant layers: torch modules, their CUDA sources and float64 references.

Layers are imported on first use, so that importing this room loads no torch.
"""

from importlib import import_module
from typing import Any

# Public name -> module of this package that defines it.
_PUBLIC = {
    "AntialiasedPool": ".grid.resample",
    "GlobalPool": ".grid.pooling",
    "GridGroup": ".grid.groups",
    "GroupBatchNorm": ".grid.norm",
    "GroupConv": ".grid.regular",
    "GroupInstanceNorm": ".grid.norm",
    "GroupPool": ".grid.pooling",
    "LiftingConv": ".grid.regular",
    "SeparableGroupConv": ".grid.separable",
    "Upsample": ".grid.resample",
    "VectorLift": ".grid.vector",
    "VectorProjection": ".grid.vector",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    """Import a public layer on first use (PEP 562)."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_PUBLIC[name], __name__), name)


def __dir__() -> list[str]:
    """Public names, for completion."""
    return list(__all__)
