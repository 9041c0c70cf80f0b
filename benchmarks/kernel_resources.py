"""Registers, spills and shared memory of every CUDA kernel, as the budget file that the tests hold them to.

    python benchmarks/kernel_resources.py > tests/kernels/cuda/budget.toml

Needs the wheel nvidia-cuda-nvrtc and no GPU. Look at the difference before you commit it.
"""

import sys
import time

from equiharness.kernels.cuda import compile
from equiharness.kernels.cuda.catalogue import KERNELS
from equiharness.kernels.cuda.resources import Nvrtc, resources

ARCHITECTURES = ("sm_80", "sm_90", "sm_90a")


def main():
    nvrtc = Nvrtc()
    print("# What each kernel takes, at most: registers per thread, bytes spilled per thread, bytes shared per block.")
    print(f"# Written by benchmarks/kernel_resources.py with NVRTC {compile.compiler_version(nvrtc)}.")
    for kernel in KERNELS:
        print(f"\n[{kernel.name}]")
        for architecture in ARCHITECTURES:
            start = time.perf_counter()
            r = resources(kernel, architecture, nvrtc)
            figures = f"registers = {r.registers}, stack = {r.stack}, spilled = {r.spilled}, shared = {r.shared}"
            print(f"{architecture} = {{ {figures} }}", flush=True)
            print(f"{kernel.name} {architecture} {time.perf_counter() - start:.2f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
