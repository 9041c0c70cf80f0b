"""Does the harness's clock agree with torch.utils.benchmark, and how much does it add to the timed region?

    python benchmarks/clock_agreement.py [ROUNDS]

Three layers; both clocks time the same number of calls in turns. The fastest samples are compared: torch's clock is on
the wall, and the others hold what other processes had. What the harness adds is the time of an empty region, beside
that of a sample.
"""

import statistics
import sys

import torch
from equiharness.harness.clock import Clock, quiet
from equiharness.harness.contender import prepare
from equiharness.harness.operators import contests
from equiharness.harness.registry import find
from torch.utils.benchmark import Timer

LAYERS = (
    ("lifting C4", "equiharness.LiftingConv"),
    ("group convolution D4", "torch.nn.Conv2d"),
    ("spherical transform b=16", "equiharness.resample"),
)


def ready(entrant):
    adapter = find(entrant.implementation)
    make = lambda: adapter.build(entrant.case, device="cpu", dtype="float32", seed=0)  # noqa: E731
    return prepare(make, batch=entrant.batch)


def main(rounds):
    torch.set_num_threads(1)
    clock, worst = Clock(), 0.0
    for operator, name in LAYERS:
        [[entrant]] = contests([name], operator)
        contender = ready(entrant)
        with contender.mode(training=False):
            call = contender.forward()
            repeats = clock.calibrate(call)
            timer = Timer("call()", globals={"call": call}, num_threads=1)
            least = {True: float("inf"), False: float("inf")}
            for turn in range(rounds):
                for ours in (True, False) if turn % 2 else (False, True):
                    call()
                    with quiet():  # as torch's does
                        seconds = clock.region(call, repeats)[0] if ours else timer.timeit(repeats).times[0]
                    least[ours] = min(least[ours], seconds)
            sample = repeats * statistics.median(clock.region(call, repeats)[0] for _ in range(11))
        added = clock._cost() / sample
        ratio = least[True] / least[False]
        worst = max(worst, abs(ratio - 1))
        print(
            f"{operator}, {name}: ours / torch's {ratio:.3f} over {rounds} rounds; the clock adds {100 * added:.3f} %"
        )
    print(f"largest disagreement {100 * worst:.1f} %")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 101)
