"""The project's own equivariant layers: torch modules, their CUDA sources and float64 references.

Importing this module loads neither torch nor any layer: each public name is fetched from its module on first use.
"""

from importlib import import_module
from typing import Any

_SPHERICAL = "equiharness.kernels.spherical"

# One line per public name: name -> the module that defines it.
_MODULES = {
    "Grid": f"{_SPHERICAL}.grids",
    "OversampledNonlinearity": f"{_SPHERICAL}.blocks",
    "S2Conv": f"{_SPHERICAL}.layers",
    "S2ResBlock": f"{_SPHERICAL}.blocks",
    "SO3Conv": f"{_SPHERICAL}.layers",
    "SO3ResBlock": f"{_SPHERICAL}.blocks",
    "SO3Shortcut": f"{_SPHERICAL}.layers",
    "SO3ToS2": f"{_SPHERICAL}.blocks",
    "SpectralSequential": f"{_SPHERICAL}.blocks",
    "load_s2cnn_state_dict": f"{_SPHERICAL}.published",
    "quadrature_weights": f"{_SPHERICAL}.quadrature",
    "s2_equatorial": f"{_SPHERICAL}.grids",
    "s2_fft": f"{_SPHERICAL}.fourier",
    "s2_ft": f"{_SPHERICAL}.fourier",
    "s2_ifft": f"{_SPHERICAL}.fourier",
    "s2_integrate": f"{_SPHERICAL}.quadrature",
    "s2_near_identity": f"{_SPHERICAL}.grids",
    "s2_resample": f"{_SPHERICAL}.fourier",
    "s2_rotate": f"{_SPHERICAL}.rotations",
    "s2_soft": f"{_SPHERICAL}.grids",
    "so3_equatorial": f"{_SPHERICAL}.grids",
    "so3_fft": f"{_SPHERICAL}.fourier",
    "so3_ft": f"{_SPHERICAL}.fourier",
    "so3_ifft": f"{_SPHERICAL}.fourier",
    "so3_integrate": f"{_SPHERICAL}.quadrature",
    "so3_near_identity": f"{_SPHERICAL}.grids",
    "so3_resample": f"{_SPHERICAL}.fourier",
    "so3_rotate": f"{_SPHERICAL}.rotations",
    "so3_soft": f"{_SPHERICAL}.grids",
    "spherical_glorot_": f"{_SPHERICAL}.initialisation",
    "spherical_kaiming_": f"{_SPHERICAL}.initialisation",
    "spherical_uniform_": f"{_SPHERICAL}.initialisation",
    "wigner_D": f"{_SPHERICAL}.wigner",
    "wigner_d": f"{_SPHERICAL}.wigner",
}

__all__ = sorted(_MODULES)  # derived, so that the table above is the only list


def __getattr__(name: str) -> Any:
    """Load a public layer or function on first use (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted([*globals(), *_MODULES])
