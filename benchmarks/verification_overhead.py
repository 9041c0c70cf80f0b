"""What does the proof cost? Time of a check against replaying the same layer calls bare.

    python benchmarks/verification_overhead.py [--rounds 5]

For each layer the equivariance check runs once with a recorder around the layer in both precisions; then check and
bare replay of the recorded calls alternate in one process, one thread, and the median of paired ratios is printed.
The replay calls the float32 layer and a native float64 copy of it on the very batches the check used.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from dataclasses import replace

import equiharness as eh
import torch
from equiharness.harness.claim.claim import Claim
from equiharness.kernels import GroupConv, LiftingConv
from equiharness.suites.forward.equivariance import equivariance


def claims():
    for group, size, fields, kernel in (
        ("C4", 33, 8, 3),
        ("C4", 65, 16, 5),
        ("D4", 33, 8, 5),
        ("O", 9, 4, 3),
        ("O", 17, 4, 5),
    ):
        layer = GroupConv(group, fields, fields, kernel, padding=kernel // 2)
        of = eh.group(group)
        field = eh.Field(eh.Grid(*[size] * of.dim), of, f"{fields}*regular", split=True)
        yield f"GroupConv {group} {size}^{of.dim} {fields}->{fields} k={kernel}", layer, field, field
    layer = LiftingConv("C4", 3, 16, 5, padding=2)
    of, box = eh.group("C4"), eh.Grid(65, 65)
    yield "LiftingConv C4 65^2 3->16 k=5", layer, eh.Field(box, of, "3*trivial"), eh.Field(box, of, "16*regular")


def recorded(layer, source, target):
    """A claim whose calls are written down, and the list they are written to."""
    double = copy.deepcopy(layer).double()
    calls = []

    def recorder(module):
        def call(x):
            calls.append((module, x))
            return module(x)

        return call

    claim = Claim(recorder(layer), source.group, source, target, modules=(layer,))
    return replace(claim, reference=recorder(double), modules=(layer,)), calls


def replay(calls):
    start = time.perf_counter()
    with torch.no_grad():
        for module, x in calls:
            module(x)
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    print(f"{'layer':40} {'check ms':>9} {'bare ms':>9} {'ratio':>6}")
    for name, layer, source, target in claims():
        claim, calls = recorded(layer, source, target)
        equivariance(claim)
        made = list(calls)
        checks, bares = [], []
        for _ in range(rounds):
            calls.clear()
            start = time.perf_counter()
            equivariance(claim)
            checks.append(time.perf_counter() - start)
            bares.append(replay(made))
        ratio = statistics.median(c / b for c, b in zip(checks, bares, strict=True))
        check, bare = 1e3 * statistics.median(checks), 1e3 * statistics.median(bares)
        print(f"{name:40} {check:9.0f} {bare:9.0f} {ratio:6.2f}")


if __name__ == "__main__":
    main()
