"""Wigner tables on the SOFT grid: built once, stored on disk, shared read-only between processes.

For every pair of orders m >= n >= 0 and degree l the table holds P+ and P- (see `layout`) at the b colatitudes of the
northern half: d^l_mn for all signs and orders at all 2b colatitudes follows, so the table is eight times smaller than d
(at b = 64 it takes 22 MiB in float32 where d takes 179).
"""

import os
import struct
import tempfile
import warnings
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import torch
from torch import Tensor

from .quadrature import soft_betas
from .wigner import Array, small_d_by_degree, sorted_pairs

_FORMAT = b"EQHWIG02"  # change it whenever the layout of the payload changes: old files are then rebuilt, silently
_HEADER = struct.Struct("<8sqqqqqI")  # format, b, degrees, orders, bytes per number, numbers, crc32 of the payload
_PAYLOAD = 64  # where the payload starts: a cache line, so that every vector load is aligned


class CorruptTableWarning(UserWarning):
    """A stored Wigner table was damaged and has been built again."""


def shell_starts(degrees: int, orders: int) -> list[int]:
    """Return where each shell M of [2 parities, M + 1 pairs, degrees - M] rows starts, and where the last ends."""
    shell = np.arange(orders, dtype=np.int64)
    return [0, *np.cumsum(2 * (shell + 1) * (degrees - shell)).tolist()]


def build(betas: Array, degrees: int, orders: int) -> Array:
    """Return P+ and P- at any colatitudes: rows of shells, each [parity, n = 0 .. M, l = M ..], by len(betas), float64.

    The row of parity 0 is P+ when l + m + n is even and P- when it is odd; the row of parity 1 is the other.
    """
    starts = np.asarray(shell_starts(degrees, orders))
    table = np.empty((int(starts[-1]), len(betas)))
    pair_m, pair_n = sorted_pairs(min(orders, degrees))
    m = np.repeat(np.arange(orders), np.arange(orders) + 1)
    n = np.arange(len(m)) - m * (m + 1) // 2
    for l, d in enumerate(small_d_by_degree(degrees, pair_m, pair_n, betas)):
        count = (min(l, orders - 1) + 1) * (min(l, orders - 1) + 2) // 2
        a, c = m[:count], n[:count]
        direct, mirrored = d[a * a + a + c], d[a * a + a - c] * np.where(c % 2, -1.0, 1.0)[:, None]
        row = starts[a] + c * (degrees - a) + (l - a)
        other = row + (a + 1) * (degrees - a)
        even = (l + a + c) % 2 == 0
        table[np.where(even, row, other)] = direct + mirrored
        table[np.where(even, other, row)] = direct - mirrored
    return table


def without_denormals(table: Array, dtype: np.dtype[Any]) -> Array:
    """Return the table in another precision, with zeros for what is below eps^3.

    Near the poles d falls like beta^m, far below the smallest normal number; a processor multiplies denormal numbers up
    to a hundred times slower (the beta step at b = 32 took three times as long). At eps^3 no sum of values near 1
    changes.
    """
    table[np.abs(table) < np.finfo(dtype).eps ** 3] = 0.0
    return table.astype(dtype, copy=False)


def cache_folder() -> Path:
    """Return the folder of stored tables, inside the user's cache folder."""
    return Path(platformdirs.user_cache_dir("equiharness")) / "wigner"


@lru_cache(maxsize=32)
def soft_table(b: int, degrees: int, orders: int, dtype: torch.dtype, device: str) -> tuple[Tensor, ...]:
    """Return the shells of the table of bandwidth b: [2, M + 1, degrees - M, b] for M = 0 .. orders - 1.

    This is the documented table cache of the process; on the CPU its tensors are copy-on-write maps of the stored file,
    one copy in memory however many processes use it. Nobody writes to them.
    """
    numpy_dtype: np.dtype[Any] = np.dtype(np.float32 if dtype == torch.float32 else np.float64)
    starts = shell_starts(degrees, orders)
    flat = torch.from_numpy(_load_or_build(b, degrees, orders, numpy_dtype)).to(device).view(-1, b)
    return tuple(flat[starts[M] : starts[M + 1]].view(2, M + 1, degrees - M, b) for M in range(orders))


def _load_or_build(b: int, degrees: int, orders: int, dtype: np.dtype[Any]) -> Array:
    path = cache_folder() / f"b{b}-l{degrees}-m{orders}-{dtype.name}.table"
    count = shell_starts(degrees, orders)[-1] * b
    stored = _read(path, (b, degrees, orders, dtype.itemsize, count), dtype)
    if stored is not None:
        return stored
    table = without_denormals(build(soft_betas(b)[:b], degrees, orders), dtype).reshape(-1)
    _write(path, (b, degrees, orders, dtype.itemsize, count), table)
    # Map the file just written, so that this process shares it too; keep the private copy where there is no file.
    written = _read(path, (b, degrees, orders, dtype.itemsize, count), dtype)
    return table if written is None else written


def _read(path: Path, expected: tuple[int, ...], dtype: np.dtype[Any]) -> Array | None:
    """Map a stored table, or return None when there is none (or none of this format); warn when it is damaged."""
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER.size)
        if len(header) == _HEADER.size and not header.startswith(_FORMAT):
            return None
        _, *shape, checksum = _HEADER.unpack(header)
        payload = np.memmap(path, dtype=dtype, mode="c", offset=_PAYLOAD, shape=(expected[-1],))
        if tuple(shape) == expected and zlib.crc32(payload.data) == checksum:
            return payload.view(np.ndarray)
    except OSError:
        return None
    except (struct.error, ValueError):  # shorter than its header, or than its payload
        pass
    warnings.warn(
        f"the stored Wigner table {path} is damaged (its checksum does not match); building it again",
        CorruptTableWarning,
        stacklevel=2,
    )
    return None


def _write(path: Path, shape: tuple[int, ...], table: Array) -> None:
    """Store a table atomically: a reader sees the old file or the whole new one, however many processes write."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        payload = table.data
        header = _HEADER.pack(_FORMAT, *shape, zlib.crc32(payload))
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, suffix=".part", delete=False) as file:
            temporary = file.name
            file.write(header.ljust(_PAYLOAD, b"\0"))
            file.write(payload)
        os.replace(temporary, path)
    except OSError:  # a read-only or full cache folder: the table in memory is as good, only not shared
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
