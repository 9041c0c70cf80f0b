"""What the fourier backend costs on a CPU beside the dense convolution, one thread, calls in turns.

python benchmarks/fourier_backend.py            its time over that of the fast path, forward, and with all gradients
python benchmarks/fourier_backend.py portions   the forward pass by the size of a portion (grid/aligned.py)
"""

import sys
import time
from functools import partial

import torch
from equiharness.kernels import GroupConv
from equiharness.kernels.grid import aligned

# Group, fields, box, batch.
SIZES = (("D4", 16, (64, 64), 4), ("O", 8, (16,) * 3, 1), ("O", 16, (16,) * 3, 1), ("Oh", 16, (8,) * 3, 1))
ROUNDS = 5


def layers(group, fields):
    """The layer by both backends, with the same weights."""
    fast, fourier = (GroupConv(group, fields, fields, 3, padding=1, backend=name) for name in ("fast", "fourier"))
    fourier.load_state_dict(fast.state_dict())
    return {"fast": fast, "fourier": fourier}


def shortest(calls):
    """The shortest of several calls of each, in turns: interference only ever adds."""
    seconds = {name: float("inf") for name in calls}
    for turn in range(ROUNDS + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if turn:
                seconds[name] = min(seconds[name], time.perf_counter() - start)
    return seconds


def inference(layer, x):
    with torch.no_grad():
        return layer(x)


def training(layer, x):
    x = x.detach().requires_grad_()
    return torch.autograd.grad(layer(x).sum(), [x, *layer.parameters()])


def main():
    for group, fields, box, batch in SIZES:
        both = layers(group, fields)
        x = torch.randn(batch, fields, both["fast"].order, *box)
        line = f"{group}, {batch} x {fields} fields, {'x'.join(map(str, box))}:"
        for what, run in (("forward", inference), ("with gradients", training)):
            seconds = shortest({name: partial(run, layer, x) for name, layer in both.items()})
            ratio = seconds["fourier"] / seconds["fast"]
            line += f"  {what} {seconds['fast']:.3f} s, {seconds['fourier']:.3f} s, ratio {ratio:.2f}"
        print(line, flush=True)


def portions():
    for group, fields, box, batch in SIZES[2:]:
        both = layers(group, fields)
        x = torch.randn(batch, fields, both["fast"].order, *box)
        for power in range(18, 27):
            aligned._PORTION_BYTES = 2**power
            found = shortest({"fourier": partial(inference, both["fourier"], x)})
            print(f"{group}, {fields} fields, {2**power / 2**20:6.2f} MiB: {found['fourier']:.3f} s", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"main": main, "portions": portions}[sys.argv[1] if len(sys.argv) > 1 else "main"]()
