"""Exact rotations of signals, in the spectrum: x'^l = conj D^l(Q) x^l, that is f'(g) = f(Q^-1 g)."""

import math

import numpy as np
import torch
from torch import Tensor

from . import checks
from .basis import so3_basis
from .s2transform import s2_analyse, s2_synthesise
from .transform import so3_analyse, so3_synthesise
from .wigner import Array


def euler_angles(rotation: Tensor) -> tuple[float, float, float]:
    """Compute (alpha, beta, gamma) with R = Z(alpha) Y(beta) Z(gamma) of one rotation of SO(3), stable at the poles.

    Args:
        rotation: a matrix [3, 3], a unit quaternion (w, x, y, z) [4], or Euler angles (alpha, beta, gamma) [3],
            radians.

    Returns:
        alpha, beta in [0, pi], gamma.

    Raises:
        ValueError: if the shape is none of these, a matrix is no rotation, or a quaternion not of unit length.

    Example:
        >>> euler_angles(torch.tensor([1.0, 0.0, 0.0, 0.0]))
        (0.0, 0.0, 0.0)

    Source: elementary.
    """
    value = torch.as_tensor(rotation, dtype=torch.float64).detach().cpu().numpy()
    if not np.isfinite(value).all():
        raise ValueError("the rotation has an entry that is not finite")
    if value.shape == (3,):
        alpha, beta, gamma = value
        matrix = _about_z(alpha) @ _about_y(beta) @ _about_z(gamma)
    elif value.shape == (4,):
        matrix = _from_quaternion(value)
    elif value.shape == (3, 3):
        matrix = value
    else:
        raise ValueError(
            f"a rotation is a matrix [3, 3], a quaternion (w, x, y, z) [4] or Euler angles (alpha, beta, gamma) [3]; "
            f"got shape {value.shape}"
        )
    # 1e-4: a matrix written in float32 passes, a reflection or a scaled matrix does not.
    if np.abs(matrix @ matrix.T - np.eye(3)).max() > 1e-4 or np.linalg.det(matrix) < 0:
        raise ValueError("the matrix is no rotation: its columns must be orthonormal and its determinant +1")
    alpha = math.atan2(matrix[1, 2], matrix[0, 2]) if math.hypot(matrix[0, 2], matrix[1, 2]) > 0 else 0.0
    # What is left, Y(beta) Z(gamma), has the middle row (sin gamma, cos gamma, 0): well conditioned at every beta.
    rest = _about_z(-alpha) @ matrix
    return alpha, math.atan2(max(rest[0, 2], 0.0), rest[2, 2]), math.atan2(rest[1, 0], rest[1, 1])


def _about_z(angle: float) -> Array:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def _about_y(angle: float) -> Array:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])


def _from_quaternion(q: Array) -> Array:
    if abs(float(q @ q) - 1.0) > 1e-4:
        raise ValueError(
            f"a quaternion (w, x, y, z) of unit length is a rotation; this one has length {math.sqrt(float(q @ q)):.6g}"
        )
    w, x, y, z = q / math.sqrt(float(q @ q))
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def _matrices(rotation: Tensor, b: int, like: Tensor) -> tuple[Tensor, ...]:
    """Return the real form of conj D^l(Q), l < b."""
    alpha, beta, gamma = euler_angles(rotation)
    rows = so3_basis(np.array([[beta, alpha, gamma]]), b, like.dtype)[0].to(like.device)
    parts = torch.split(rows, [(2 * l + 1) ** 2 for l in range(b)])
    return tuple(part.view(2 * l + 1, 2 * l + 1) for l, part in enumerate(parts))


def s2_rotate(x: Tensor, Q: Tensor) -> Tensor:
    """Compute f(Q^-1 .), exactly: the action of SO(3) on spherical signals (projected onto the degrees l < b first).

    Args:
        x: `[..., beta, alpha]`, each axis 2b long, float32 or float64.
        Q: matrix [3, 3], unit quaternion (w, x, y, z), or Euler angles (alpha, beta, gamma) in radians (kernel grids
            are
            beta-first; this is not).

    Returns:
        The rotated signal, as x. For the identity it is the projection of x onto l < b.

    Raises:
        ValueError: if the spatial axes are not of one even length, or Q is no rotation.
        TypeError: if the dtype is neither float32 nor float64.

    Example:
        >>> north = torch.zeros(8, 8, dtype=torch.float64); north[0] = 1.0
        >>> south = s2_rotate(north, torch.tensor([0.0, torch.pi, 0.0], dtype=torch.float64))
        >>> bool(south[-1].mean() > south[0].mean())
        True

    Source: Kostelec and Rockmore 2008.
    """
    b = checks.signal(x, 2)
    spectrum = s2_analyse(x.reshape(1, -1, 2 * b, 2 * b), b)
    parts = torch.split(spectrum, [2 * l + 1 for l in range(b)], 1)
    rotated = torch.cat([D @ part for D, part in zip(_matrices(Q, b, x), parts, strict=True)], 1)
    return s2_synthesise(rotated, b).reshape(x.shape)


def so3_rotate(x: Tensor, Q: Tensor) -> Tensor:
    """Compute f(Q^-1 .), exactly: the action of SO(3) on signals on SO(3) (projected onto the degrees l < b first).

    Args:
        x: `[..., beta, alpha, gamma]`, each axis 2b long, float32 or float64.
        Q: matrix [3, 3], unit quaternion (w, x, y, z), or Euler angles (alpha, beta, gamma) in radians (kernel grids
            are
            beta-first; this is not).

    Returns:
        The rotated signal, as x. For the identity it is the projection of x onto l < b.

    Raises:
        ValueError: if the spatial axes are not of one even length, or Q is no rotation.
        TypeError: if the dtype is neither float32 nor float64.

    Example:
        >>> x = torch.ones(4, 4, 4)
        >>> bool(torch.allclose(so3_rotate(x, torch.tensor([0.1, 0.2, 0.3])), x))
        True

    Source: Kostelec and Rockmore 2008.
    """
    b = checks.signal(x, 3)
    spectrum = so3_analyse(x.reshape(1, -1, *x.shape[-3:]), b)[0]
    parts = torch.split(spectrum, [(2 * l + 1) ** 2 for l in range(b)])
    rotated = [
        (D @ part.reshape(D.shape[0], D.shape[0] * spectrum.shape[1])).view(part.shape)
        for D, part in zip(_matrices(Q, b, x), parts, strict=True)
    ]
    return so3_synthesise(torch.cat(rotated)[None], b).reshape(x.shape)
