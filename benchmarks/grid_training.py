"""Training speed, peak memory and construction time of the octahedral layers, against a dense conv3d and escnn.

    python benchmarks/grid_training.py              forward + backward, one thread, interleaved in one process
    python benchmarks/grid_training.py --memory     peak resident set of a training step, median of 5 fresh processes
    python benchmarks/grid_training.py --build      construction of every O_h layer, each in a fresh process

The dense convolution has the size of the expanded filter bank: fields * |G| channels in and out. It is the floor of
any implementation that convolves with the expanded bank.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

import torch
from equiharness.kernels import GroupConv

BOX, BATCH = (16, 16, 16), 2
CASES = [(fields, k) for fields in (2, 4) for k in (3, 5)]


def ours(group, fields, k):
    layer = GroupConv(group, fields, fields, k, padding=k // 2)
    x = torch.randn(BATCH, fields, layer.order, *BOX, requires_grad=True)
    return layer, x


def dense(group, fields, k):
    width = fields * {"O": 24, "Oh": 48}[group]
    layer = torch.nn.Conv3d(width, width, k, padding=k // 2)
    return layer, torch.randn(BATCH, width, *BOX, requires_grad=True)


def escnn(group, fields, k):
    """R3Conv on regular fields in training mode: it expands its basis in every forward, as we do."""
    from escnn import gspaces, nn

    space = {"O": gspaces.octaOnR3, "Oh": gspaces.fullOctaOnR3}[group]()
    fields_type = nn.FieldType(space, fields * [space.regular_repr])
    layer = nn.R3Conv(fields_type, fields_type, k, padding=k // 2).train()

    class OnTensors(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, x):
            return self.layer(nn.GeometricTensor(x, fields_type)).tensor

    return OnTensors(), torch.randn(BATCH, fields_type.size, *BOX, requires_grad=True)


LAYERS = {"ours": ours, "dense": dense, "escnn": escnn}


def step(layer, x):
    """One training step without the optimiser: forward, backward to weights and input."""
    layer.zero_grad(set_to_none=True)
    x.grad = None
    y = layer(x)
    y.backward(y.detach())


def seconds(layer, x):
    start = time.perf_counter()
    step(layer, x)
    return time.perf_counter() - start


def interleaved(layers, rounds):
    """Seconds per step [name -> rounds], the order turning from round to round after two warm-up rounds."""
    names, times = list(layers), {name: [] for name in layers}
    for turn in range(rounds + 2):
        for i in range(len(names)):
            name = names[(i + turn) % len(names)]
            elapsed = seconds(*layers[name])
            if turn >= 2:
                times[name].append(elapsed)
    return times


def ratio(numerator, denominator):
    """Median of the paired ratios, with their 10th and 90th percentile."""
    paired = sorted(a / b for a, b in zip(numerator, denominator, strict=True))
    return statistics.median(paired), paired[len(paired) // 10], paired[-1 - len(paired) // 10]


def report_speed(groups, rounds):
    torch.set_num_threads(1)
    names = list(LAYERS) if installed("escnn") else ["ours", "dense"]
    load = f"load {os.getloadavg()[0]:.2f}"
    print(f"torch {torch.__version__}, threads {torch.get_num_threads()}, {load}, batch {BATCH}, box {BOX}")
    print("forward + backward, median ms; paired ratios: median [p10, p90]")
    print(f"{'group':5} {'fields':>6} {'k':>2} " + " ".join(f"{n:>9}" for n in names) + "  ratios")
    for group in groups:
        for fields, k in CASES:
            times = interleaved({name: LAYERS[name](group, fields, k) for name in names}, rounds)
            medians = " ".join(f"{1e3 * statistics.median(times[n]):9.1f}" for n in names)
            ratios = []
            for other in names[1:]:
                middle, low, high = ratio(times["ours"], times[other])
                ratios.append(f"ours/{other} {middle:.3f} [{low:.3f}, {high:.3f}]")
            print(f"{group:5} {fields:6} {k:2} {medians}  {'  '.join(ratios)}", flush=True)


def installed(module):
    from importlib.util import find_spec

    return find_spec(module) is not None


def resident():
    """Peak resident set of this process so far, in MiB (Linux counts KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def child_memory(name, group, fields, k):
    torch.set_num_threads(1)
    layer, x = LAYERS[name](group, fields, k)
    before = resident()
    for _ in range(2):
        step(layer, x)
    print(json.dumps({"peak": resident(), "step": resident() - before}))


def report_memory(groups, repeats=5):
    print(f"peak resident set, MiB, median of {repeats} fresh processes (in brackets: above the level before any step)")
    for group in groups:
        for fields, k in CASES:
            peak, above = {}, {}
            for name in ("ours", "dense"):
                runs = [fresh("--child-memory", name, group, fields, k) for _ in range(repeats)]
                peak[name] = statistics.median(r["peak"] for r in runs)
                above[name] = statistics.median(r["step"] for r in runs)
            levels = ", ".join(f"{name} {peak[name]:.0f} ({above[name]:.0f})" for name in peak)
            ratios = f"{peak['ours'] / peak['dense']:.3f} ({above['ours'] / above['dense']:.3f})"
            print(f"{group:5} fields {fields} k {k}: {levels}, ratio {ratios}", flush=True)


BUILDS = ["LiftingConv", "GroupConv", "SeparableGroupConv", "VectorLift", "VectorProjection"]


def child_build(name, k):
    import equiharness.kernels as kernels

    start = time.perf_counter()
    getattr(kernels, name)("Oh", 4, 4, k, padding=k // 2)
    print(json.dumps({"seconds": time.perf_counter() - start}))


def report_build(repeats=3):
    print(f"construction of O_h layers, 4 to 4 channels, ms, worst of {repeats} fresh processes, imports excluded")
    for name in BUILDS:
        for k in (3, 5):
            worst = max(fresh("--child-build", name, k)["seconds"] for _ in range(repeats))
            print(f"{name:20} k {k}: {1e3 * worst:.0f}", flush=True)


def fresh(*arguments):
    command = [sys.executable, __file__, *map(str, arguments)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", nargs="+", default=["O"], choices=["O", "Oh"])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--build", action="store_true")
    parser.add_argument("--child-memory", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--child-build", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child_memory:
        name, group, fields, k = options.child_memory
        child_memory(name, group, int(fields), int(k))
    elif options.child_build:
        child_build(options.child_build[0], int(options.child_build[1]))
    elif options.memory:
        report_memory(options.groups)
    elif options.build:
        report_build()
    else:
        report_speed(options.groups, options.rounds)


if __name__ == "__main__":
    main()
