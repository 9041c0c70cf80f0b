"""The project's own equivariant layers: torch modules, their CUDA sources and float64 references.

Layers are imported on first use, so that importing this room loads no torch.
"""

from importlib import import_module
from typing import Any

# Public name -> module of this package that defines it.
_PUBLIC = {
    "AntialiasedPool": ".grid.resample",
    "AnyBandwidth": ".spherical.refinement",
    "FusedSeparableConv": ".grid.fused",
    "GlobalPool": ".grid.pooling",
    "GridGroup": ".grid.groups",
    "GroupBatchNorm": ".grid.norm",
    "GroupConv": ".grid.regular",
    "GroupInstanceNorm": ".grid.norm",
    "GroupPool": ".grid.pooling",
    "GroupResBlock": ".grid.networks",
    "GroupUNet": ".grid.networks",
    "GroupWideResNet": ".grid.networks",
    "KernelGrid": ".spherical.grids",
    "LiftingConv": ".grid.regular",
    "OversampledNonlinearity": ".spherical.blocks",
    "RelaxedGroupConv": ".grid.relaxed",
    "RelaxedLiftingConv": ".grid.relaxed",
    "RelaxedSeparableGroupConv": ".grid.relaxed_separable",
    "S2Conv": ".spherical.layers",
    "S2ResBlock": ".spherical.blocks",
    "SO3Conv": ".spherical.layers",
    "SO3ResBlock": ".spherical.blocks",
    "SO3Shortcut": ".spherical.layers",
    "SO3ToS2": ".spherical.blocks",
    "SeparableGroupConv": ".grid.separable",
    "SpectralSequential": ".spherical.blocks",
    "SteerableConv": ".steerable.conv",
    "SteerableLiftingConv": ".steerable.conv",
    "TransposedGroupConv": ".grid.transposed",
    "TransposedLiftingConv": ".grid.transposed",
    "TransposedSeparableGroupConv": ".grid.transposed_separable",
    "Upsample": ".grid.resample",
    "VectorLift": ".grid.vector",
    "VectorProjection": ".grid.vector",
    "from_equirectangular": ".spherical.panoramas",
    "from_plane": ".spherical.planes",
    "load_s2cnn_state_dict": ".spherical.published",
    "quadrature_weights": ".spherical.quadrature",
    "s2_equatorial": ".spherical.grids",
    "s2_fft": ".spherical.fourier",
    "s2_ft": ".spherical.fourier",
    "s2_ifft": ".spherical.fourier",
    "s2_integrate": ".spherical.quadrature",
    "s2_near_identity": ".spherical.grids",
    "s2_resample": ".spherical.fourier",
    "s2_rotate": ".spherical.rotations",
    "s2_soft": ".spherical.grids",
    "so3_equatorial": ".spherical.grids",
    "so3_fft": ".spherical.fourier",
    "so3_ft": ".spherical.fourier",
    "so3_ifft": ".spherical.fourier",
    "so3_integrate": ".spherical.quadrature",
    "so3_near_identity": ".spherical.grids",
    "so3_resample": ".spherical.fourier",
    "so3_rotate": ".spherical.rotations",
    "so3_soft": ".spherical.grids",
    "spherical_glorot_": ".spherical.initialisation",
    "spherical_kaiming_": ".spherical.initialisation",
    "spherical_uniform_": ".spherical.initialisation",
    "to_equirectangular": ".spherical.panoramas",
    "to_plane": ".spherical.planes",
    "wigner_D": ".spherical.wigner",
    "wigner_d": ".spherical.wigner",
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
