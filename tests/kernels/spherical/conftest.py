"""The oracle: the spatial formulas of spherical convolutions in float64, sharing no code with the library.

Small d comes from Wigner's explicit sum, rotations are 3 x 3 matrices, and a layer is evaluated at every output
rotation R and kernel point as f^(R x_p), f^ being the quadrature projection of the signal.
"""

from dataclasses import dataclass
from math import factorial, pi, sqrt

import numpy as np
import pytest
import torch


def small_d(l, beta):
    """Wigner's sum for d^l_mn(beta), Sakurai's sign."""
    beta = np.asarray(beta, float)[..., None, None]
    d = np.zeros((*beta.shape[:-2], 2 * l + 1, 2 * l + 1))
    c, s = np.cos(beta[..., 0, 0] / 2), np.sin(beta[..., 0, 0] / 2)
    for i, m in enumerate(range(-l, l + 1)):
        for j, n in enumerate(range(-l, l + 1)):
            norm = sqrt(factorial(l + m) * factorial(l - m) * factorial(l + n) * factorial(l - n))
            for k in range(max(0, n - m), min(l + n, l - m) + 1):
                bottom = factorial(l + n - k) * factorial(k) * factorial(m - n + k) * factorial(l - m - k)
                d[..., i, j] += (
                    (-1) ** (m - n + k) * norm / bottom * c ** (2 * l + n - m - 2 * k) * s ** (m - n + 2 * k)
                )
    return d


def big_d(l, alpha, beta, gamma):
    """D^l = e^{i m alpha} d^l e^{i n gamma}."""
    order = np.arange(-l, l + 1)
    left, right = np.exp(1j * np.multiply.outer(alpha, order)), np.exp(1j * np.multiply.outer(gamma, order))
    return left[..., :, None] * small_d(l, beta) * right[..., None, :]


def rotation(alpha, beta, gamma):
    """R = Z(alpha) Y(beta) Z(gamma) as matrices."""

    def z(t):
        c, s, o, e = np.cos(t), np.sin(t), np.zeros_like(t), np.ones_like(t)
        return np.stack([np.stack([c, -s, o], -1), np.stack([s, c, o], -1), np.stack([o, o, e], -1)], -2)

    def y(t):
        c, s, o, e = np.cos(t), np.sin(t), np.zeros_like(t), np.ones_like(t)
        return np.stack([np.stack([c, o, s], -1), np.stack([o, e, o], -1), np.stack([-s, o, c], -1)], -2)

    alpha, beta, gamma = np.broadcast_arrays(*(np.asarray(t, float) for t in (alpha, beta, gamma)))
    return z(alpha) @ y(beta) @ z(gamma)


def euler(matrix):
    """(alpha, beta, gamma) of rotation matrices."""
    alpha = np.arctan2(matrix[..., 1, 2], matrix[..., 0, 2])
    alpha = np.where(np.hypot(matrix[..., 1, 2], matrix[..., 0, 2]) < 1e-14, 0.0, alpha)
    rest = rotation(-alpha, 0.0, 0.0) @ matrix
    beta = np.arctan2(rest[..., 0, 2], rest[..., 2, 2])
    return alpha, beta, np.arctan2(rest[..., 1, 0], rest[..., 1, 1])


def soft_angles(b):
    return pi * (2 * np.arange(2 * b) + 1) / (4 * b), pi * np.arange(2 * b) / b


def soft_weights(b):
    beta, _ = soft_angles(b)
    return np.array([sum(np.sin((2 * k + 1) * t) / (2 * k + 1) for k in range(b)) * np.sin(t) for t in beta]) / (
        4 * b**3
    )


def rows_at(angles, degrees, first_only):
    """D^l_mn (or D^l_m0) at rotations, all degrees side by side: [points, rows]."""
    parts = [big_d(l, *angles) for l in range(degrees)]
    return np.concatenate(
        [(p[..., p.shape[-1] // 2] if first_only else p.reshape(*p.shape[:-2], -1)) for p in parts], -1
    )


def kept(degrees, orders, first_only):
    """Which rows have |m|, |n| < orders."""
    order = [np.abs(np.arange(-l, l + 1)) < orders for l in range(degrees)]
    return np.concatenate([o if first_only else np.outer(o, o).reshape(-1) for o in order])


@dataclass
class Oracle:
    """The spatial formulas for one configuration; `domain` is "s2" or "so3"."""

    domain: str
    b_in: int
    b_out: int
    points: np.ndarray
    alias: bool = False

    def values(self):
        """The real matrix f -> f^(R x_p): [8 b_out^3, P, (2 b_in)^axes]."""
        on_sphere = self.domain == "s2"
        beta, angle = soft_angles(self.b_in)
        axes = (beta, angle) if on_sphere else (beta, angle, angle)
        mesh = [t.reshape(-1) for t in np.meshgrid(*axes, indexing="ij")]
        weights = soft_weights(self.b_in).repeat((2 * self.b_in) ** (len(axes) - 1)) * (
            2 * self.b_in if on_sphere else 1
        )
        sample = (mesh[1], mesh[0], np.zeros_like(mesh[0]) if on_sphere else mesh[2])
        degrees = self.b_out if self.alias else min(self.b_in, self.b_out)
        analysis = (rows_at(sample, degrees, on_sphere).conj() * weights[:, None]).T
        analysis[~kept(degrees, self.b_in, on_sphere)] = 0
        beta, angle = soft_angles(self.b_out)
        out = [t.reshape(-1) for t in np.meshgrid(beta, angle, angle, indexing="ij")]
        kernel = self.points
        last = np.zeros(len(kernel)) if on_sphere else kernel[:, 2]
        places = rotation(out[1], out[0], out[2])[:, None] @ rotation(kernel[:, 1], kernel[:, 0], last)[None]
        factor = np.concatenate([np.full((2 * l + 1) ** (1 if on_sphere else 2), 2 * l + 1.0) for l in range(degrees)])
        return ((rows_at(euler(places), degrees, on_sphere) * factor) @ analysis).real

    def __call__(self, x, kernel, bias):
        """The output of the layer, float64, differentiable by torch."""
        matrix = torch.from_numpy(np.ascontiguousarray(self.values()))
        cin, points, b, c = kernel.shape[0], len(self.points), self.b_out, self.b_in
        growth = b**4 / c**2 if self.domain == "s2" else b**3 / c**3
        scale = (2 * b if self.domain == "s2" else 1) / sqrt(points * cin * growth)
        samples = torch.einsum("rpg,big->birp", matrix, x.flatten(2))
        z = scale * torch.einsum("birp,iop->bor", samples, kernel)
        return z.reshape(*z.shape[:2], 2 * b, 2 * b, 2 * b) + bias


def _random_rotation(seed):
    rng = np.random.default_rng(seed)
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return torch.from_numpy(q * np.linalg.det(q))


@pytest.fixture(scope="session")
def oracle():
    return Oracle


@pytest.fixture(scope="session")
def explicit_d():
    return small_d


@pytest.fixture(scope="session")
def explicit_rows():
    """Independent complex transform matrices on the SOFT grid: rows D^l at every sample, and the quadrature weights."""

    def build(b, degrees, on_sphere):
        beta, angle = soft_angles(b)
        mesh = [t.reshape(-1) for t in np.meshgrid(beta, angle, *([] if on_sphere else [angle]), indexing="ij")]
        angles = (mesh[1], mesh[0], np.zeros_like(mesh[0]) if on_sphere else mesh[2])
        weights = soft_weights(b).repeat((2 * b) ** (1 if on_sphere else 2)) * (2 * b if on_sphere else 1)
        return rows_at(angles, degrees, on_sphere), weights, kept(degrees, b, on_sphere)

    return build


@pytest.fixture(scope="session")
def random_rotation():
    return _random_rotation


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    """A cache folder of its own, and no table in the process."""
    from equiharness.kernels.spherical import tables

    monkeypatch.setattr(tables.platformdirs, "user_cache_dir", lambda name: str(tmp_path / name))
    tables.soft_table.cache_clear()
    yield tmp_path / "equiharness" / "wigner"
    tables.soft_table.cache_clear()
