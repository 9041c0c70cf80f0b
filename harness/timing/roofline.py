"""The speed that the machine reaches, measured in the same run. It gives the floor: the least time of the work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import torch

from .clock import Clock, flush_bytes

if TYPE_CHECKING:
    from ..adapters.adapter import Cost

#: Side of the square matrices on a CPU and on a GPU. Three matrices are larger than a core's own caches, so the product
#: is blocked as large products are, and half a second of products is enough.
SIDE = {"cpu": 1024, "cuda": 8192}


@dataclass(frozen=True)
class Ceilings:
    """Bytes per second of a large copy (read plus written), and operations per second of a large matrix product."""

    bytes_per_second: float
    flops_per_second: float

    def floor(self, flops: float, moved: float) -> float:
        """Least seconds of the work: max(flops / rate, bytes / bandwidth).

        Example:
            >>> Ceilings(bytes_per_second=10.0, flops_per_second=100.0).floor(flops=50.0, moved=20.0)
            2.0
        """
        return max(flops / self.flops_per_second, moved / self.bytes_per_second)

    def data(self) -> dict[str, float]:
        """As plain numbers, for a record."""
        return asdict(self)


def measure_ceilings(clock: Clock, dtype: str = "float32", *, seconds: float = 0.5) -> Ceilings:
    """Measure the fastest of several large copies and large products on random data, with torch's current threads.

    Args:
        clock: clock of the device.
        dtype: "tf32" for float32 products in TF32, else a torch dtype.
        seconds: time for the copies, and again for the products.
    """
    kind = torch.float32 if dtype == "tf32" else getattr(torch, dtype)
    device = clock.device
    size = max(64 << 20, 2 * flush_bytes(device))  # larger than every cache
    source = torch.rand(size // 4, device=device)
    target = torch.empty_like(source)
    side = SIDE["cuda" if clock.cuda else "cpu"]
    a, b = (torch.randn(side, side, device=device).to(kind) for _ in range(2))
    with tf32(allowed=dtype == "tf32"):
        taken = clock.interleaved(
            {"copy": lambda: target.copy_(source), "product": lambda: a @ b}, seconds=seconds, least=5
        )
    return Ceilings(2 * size / taken["copy"].least, 2 * side**3 / taken["product"].least)


def cost_of_batch(cost: Cost, batch: int) -> Cost:
    """The work of a batch. Work that is done once for each call (weights, filters) is not multiplied."""
    per_flops, per_bytes = cost.flops - cost.call_flops, cost.bytes - cost.call_bytes
    flops, moved = cost.call_flops + batch * per_flops, cost.call_bytes + batch * per_bytes
    growth_flops = cost.backward_flops / cost.flops if cost.flops else 0.0
    growth_bytes = cost.backward_bytes / cost.bytes if cost.bytes else 0.0
    # Cost is not imported here: the modules that time run in processes of other revisions too.
    return type(cost)(flops, moved, growth_flops * flops, growth_bytes * moved)


@contextmanager
def tf32(*, allowed: bool) -> Iterator[None]:
    """Context in which TF32 is allowed in products and convolutions, or forbidden."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
