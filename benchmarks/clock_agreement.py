"""Does the harness's clock agree with torch.utils.benchmark, and how much does it add to the timed region?

    python benchmarks/clock_agreement.py [ROUNDS]

Three layers; both clocks time the same number of calls in turns, and neighbours are compared: the median of their
ratios, since a machine whose speed wanders slows both of a pair, and torch's clock is on the wall. What the harness
adds is the time of an empty region, beside that of a sample.
"""

import statistics
import sys

import torch
from equiharness.harness.adapters.operators import comparisons
from equiharness.harness.adapters.registry import find
from equiharness.harness.timing.clock import Clock, quiet
from equiharness.harness.timing.timed_layer import prepare
from torch.utils.benchmark import Timer

LAYERS = (
    ("lifting C4", "equiharness.LiftingConv"),
    ("group convolution D4", "torch.nn.Conv2d"),
    ("spherical transform b=16", "equiharness.resample"),
)


def ready(timed_case):
    adapter = find(timed_case.implementation)
    make = lambda: adapter.build(timed_case.case, device="cpu", dtype="float32", seed=0)  # noqa: E731
    return prepare(make, batch=timed_case.batch)


def main(rounds):
    torch.set_num_threads(1)
    clock, worst = Clock(), 0.0
    for operator, name in LAYERS:
        [[timed_case]] = comparisons([name], operator)
        timed_layer = ready(timed_case)
        with timed_layer.mode(training=False):
            call = timed_layer.forward()
            repeats = clock.calibrate(call)
            timer = Timer("call()", globals={"call": call}, num_threads=1)
            pairs = []
            for turn in range(rounds):
                taken = {}
                for ours in (True, False) if turn % 2 else (False, True):
                    with quiet():  # as torch's does
                        # The collection before has emptied the caches; torch's clock warms up by itself.
                        for _ in range(2):
                            call()
                        taken[ours] = clock.region(call, repeats)[0] if ours else timer.timeit(repeats).times[0]
                pairs.append(taken[True] / taken[False])
            sample = repeats * statistics.median(clock.region(call, repeats)[0] for _ in range(11))
        added = clock._cost() / sample
        low, ratio, high = statistics.quantiles(pairs, n=4)
        worst = max(worst, abs(ratio - 1))
        print(
            f"{operator}, {name}: ours / torch's {ratio:.3f} (quartiles {low:.3f} to {high:.3f}) over {rounds} pairs;"
            f" the clock adds {100 * added:.3f} %"
        )
    print(f"largest disagreement {100 * worst:.1f} %")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 201)
