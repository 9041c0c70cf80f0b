"""Every kernel there is: what the compile gate, the budget and the sanitizers go through."""

from . import grid, grid_expand, grid_fourier, grid_separable, ragged, rows, wigner
from .sources import Kernel

KERNELS: tuple[Kernel, ...] = tuple(
    kernel
    for module in (grid, grid_expand, grid_fourier, grid_separable, ragged, wigner, rows)
    for kernel in module.KERNELS
)
