"""What ways to a coarser or finer grid do to rotations: error, gain and cost of each, as a Markdown table.

    python benchmarks/resampling.py [SIZE]

Inputs are smooth bumps a few voxels wide on SIZE^2 pixels (33 by default), turned exactly; errors are relative L2, the
worst of eight samples, away from the border.
"""

import sys
import time

import torch
from equiharness.impls.grid.resampling import methods
from equiharness.suites.survey.angles import errors_by_angle

ANGLES = (15, 30, 45, 90)
# Sums of a few tens of float32 numbers differ by no more.
ROUNDING = 1e-6


def main():
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 33
    torch.set_num_threads(1)
    x = torch.randn(8, 32, size, size)
    print(f"{size}^2 pixels; error, and in brackets the gain over an unconstrained convolution\n")
    print("| way | method | " + " | ".join(f"{a}°" for a in ANGLES) + " | multiply-adds | ns for a new voxel |")
    print("|---|---" * 1 + "|---" * (len(ANGLES) + 2) + "|")
    for method in methods():
        cells = [
            f"{row.error:.2g} ({row.gain:.3g})" if row.error > ROUNDING else f"{row.error:.1g} (exact)"
            for row in errors_by_angle(method.function, size, ANGLES)
        ]
        nanoseconds = 1e9 * clock(method.function, x) / method.function(x).numel()
        print(
            f"| {method.way} | {method.name} | {' | '.join(cells)} | {method.cost:g} | {nanoseconds:.2f} |", flush=True
        )


def clock(function, x):
    function(x).contiguous()
    seconds = []
    for _ in range(7):
        start = time.perf_counter()
        function(x).contiguous()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


if __name__ == "__main__":
    main()
