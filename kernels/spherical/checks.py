"""What a bandwidth, a signal and a grid must be, and what to do when they are not."""

import math

import torch
from torch import Tensor

SUPPORTED = (torch.float32, torch.float64)


def bandwidth(b: object, name: str = "b") -> int:
    """Return b as an int, refusing anything that is not a positive whole number."""
    if isinstance(b, bool) or not hasattr(b, "__index__"):
        raise TypeError(f"{name} must be a whole number, got {b!r}")
    value = int(b.__index__())
    if value <= 0:
        raise ValueError(f"{name} must be at least 1, got {value}: a signal of bandwidth b has the degrees 0 .. b - 1")
    return value


def real_dtype(dtype: torch.dtype, what: str = "signal") -> torch.dtype:
    """Return dtype if it is float32 or float64, the two precisions that the tables are made for."""
    if dtype not in SUPPORTED:
        raise TypeError(f"{what} has dtype {dtype}; spherical layers run in float32 and float64: cast it with .float()")
    return dtype


def signal(x: Tensor, axes: int, b: int | None = None) -> int:
    """Return the bandwidth of a signal whose last `axes` axes are spatial, each of length 2b."""
    domain = {2: "S2 signal [..., beta, alpha]", 3: "SO(3) signal [..., beta, alpha, gamma]"}[axes]
    real_dtype(x.dtype, domain)
    sizes = tuple(x.shape[-axes:])
    if x.ndim < axes or len(set(sizes)) != 1:
        raise ValueError(f"{domain} needs {axes} spatial axes of one length 2b, got shape {tuple(x.shape)}")
    size = sizes[0]
    if size % 2 or size == 0:
        nearest = max(2, size - size % 2)
        raise ValueError(
            f"{domain} has spatial length {size}, which is not 2b for a whole b: "
            f"resample it to {nearest} or {size + 2 - size % 2}"
        )
    if b is not None and size != 2 * b:
        raise ValueError(f"{domain} has spatial length {size}, this layer was built for b_in = {b}, length {2 * b}")
    return size // 2


def batched_signal(x: Tensor, axes: int, channels: int, b: int) -> None:
    """Check the input of a layer: `[B, channels, 2b, ...]`."""
    signal(x, axes, b)
    if x.ndim != axes + 2:
        raise ValueError(f"a layer takes [B, C] + {axes} spatial axes, got shape {tuple(x.shape)}")
    if x.shape[1] != channels:
        raise ValueError(f"this layer was built for {channels} input channels, the signal has {x.shape[1]}")


def degrees(rows: int, axes: int) -> int:
    """Return the bandwidth of a spectrum with this many rows: b^2 on S2, b (4 b^2 - 1) / 3 on SO(3)."""
    b = math.isqrt(rows) if axes == 2 else round((3 * rows / 4) ** (1 / 3))
    for candidate in (b - 1, b, b + 1):
        if candidate > 0 and rows == (candidate**2 if axes == 2 else candidate * (4 * candidate**2 - 1) // 3):
            return candidate
    formula = "b^2" if axes == 2 else "b (4 b^2 - 1) / 3"
    raise ValueError(f"a spectrum has {formula} rows for some bandwidth b; got {rows}")
