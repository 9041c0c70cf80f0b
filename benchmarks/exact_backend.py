"""Is the exact backend exact, and what does it cost? Every layer that has one, on a CPU.

    python benchmarks/exact_backend.py bits     the largest |f(L_u x) - L_u f(x)|, and the same of input gradients
    python benchmarks/exact_backend.py time     its time over that of the fast path, forward and backward

Bits: white noise, every element of C4, D4, O and O_h, odd and even boxes, strides 1 and 2, float64, float32 and
bfloat16, one and two threads. Elements act by numpy indexing of their matrices, shared with no kernel.
"""

import itertools
import sys
import time

import numpy as np
import torch
from equiharness import kernels
from equiharness.kernels.grid.groups import grid_group

# Layer, options, fibre of the input, of the output.
LAYERS = {
    "lifting": (kernels.LiftingConv, {}, "trivial", "regular"),
    "regular": (kernels.GroupConv, {}, "regular", "regular"),
    "pointwise first": (kernels.SeparableGroupConv, {"variant": "pointwise_first"}, "regular", "regular"),
    "depthwise first": (kernels.SeparableGroupConv, {"variant": "depthwise_first"}, "regular", "regular"),
    "per pair": (kernels.SeparableGroupConv, {"variant": "per_pair"}, "regular", "regular"),
    "transposed lifting": (kernels.TransposedLiftingConv, {}, "trivial", "regular"),
    "transposed regular": (kernels.TransposedGroupConv, {}, "regular", "regular"),
    "transposed separable": (kernels.TransposedSeparableGroupConv, {}, "regular", "regular"),
    "relaxed regular, r = 1": (kernels.RelaxedGroupConv, {"banks": 2}, "regular", "regular"),
    "vector lift": (kernels.VectorLift, {}, "vector", "regular"),
    "vector projection": (kernels.VectorProjection, {}, "regular", "vector"),
}
DTYPES = (torch.float64, torch.float32, torch.bfloat16)


def act(x, group, u, fibre):
    """(L_u x) on a tensor [B, C, (fibre), *space]."""
    m, dim = group.elements[u], group.dim
    box = np.array(x.shape[x.dim() - dim :])
    new = np.abs(m) @ box
    at = np.indices(new).reshape(dim, -1)
    # The value at centred X comes from m^-1 X.
    old = (m.T @ (2 * at - (new - 1)[:, None]) + (box - 1)[:, None]) // 2
    flat = torch.from_numpy(np.ravel_multi_index(tuple(old), box))
    y = x.flatten(-dim)[..., flat].unflatten(-1, tuple(new))
    if fibre == "regular":
        y = y[:, :, torch.from_numpy(group.mul[group.inv[u]])]
    if fibre == "vector":
        y = y[:, :, torch.from_numpy(np.abs(m).argmax(1))] * torch.from_numpy(m.sum(1)).to(y).view(-1, *(1,) * dim)
    return y


def signal(layer, fibre, batch, box, dtype, seed=0):
    between = {"trivial": (), "regular": (layer.order,), "vector": (layer.dim,)}[fibre]
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, layer.in_channels, *between, *box)
    return torch.randn(shape, generator=generator).to(dtype)


def geometry(box, stride):
    """An odd kernel for odd boxes; with a stride, an even one for even boxes."""
    return {"kernel_size": 3 if stride == 1 or box[0] % 2 else 4, "stride": stride, "padding": 1}


def run(layer, x, cotangent=None):
    x = x.detach().requires_grad_()
    y = layer(x)
    cotangent = (
        torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y) if cotangent is None else cotangent
    )
    return y.detach(), torch.autograd.grad(y, x, cotangent)[0], cotangent


def worst(kind, options, source, target, name, box, stride, dtype):
    """Largest differences of the output and of the gradient over every element."""
    torch.manual_seed(0)
    layer = kind(name, 1, 2, **geometry(box, stride), **options, backend="exact", dtype=dtype)
    layer.requires_grad_(False)  # gradients of weights are sums over orbits: nobody asks for their bits
    group = grid_group(name)
    x = signal(layer, source, 1, box, dtype)
    y, dx, cotangent = run(layer, x)
    forward = backward = 0.0
    for u in range(group.order):
        moved, moved_dx, _ = run(layer, act(x, group, u, source), act(cotangent, group, u, target))
        forward = max(forward, (moved - act(y, group, u, target)).abs().max().item())
        backward = max(backward, (moved_dx - act(dx, group, u, source)).abs().max().item())
    return forward, backward


def bits():
    boxes = {2: [(7, 7), (6, 8)], 3: [(3, 3, 3), (4, 4, 4)]}
    for label, (kind, options, source, target) in LAYERS.items():
        if "exact" not in kind.backends:
            continue
        for dtype in DTYPES:
            count, forward, backward = 0, 0.0, 0.0
            for threads, name in itertools.product((1, 2), ("C4", "D4", "O", "Oh")):
                torch.set_num_threads(threads)
                places = list(itertools.product(boxes[grid_group(name).dim], (1, 2)))
                # 48 elements, worked off 48 times each: half of the places on one thread, the others on two.
                for box, stride in places if name != "Oh" else places[threads - 1 :: 2]:
                    f, b = worst(kind, options, source, target, name, box, stride, dtype)
                    count, forward, backward = count + 1, max(forward, f), max(backward, b)
            print(
                f"{label:24}{str(dtype)[6:]:10}{count:4} geometries: output {forward}, gradient {backward}", flush=True
            )


def clock(function, repeats):
    function()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def timing(size=16, fields=8, repeats=3):
    torch.set_num_threads(1)
    print(
        f"O, {fields} -> {fields} fields, {size}^3, k = 3 (transposed: k = 4, s = 2, {size // 2}^3), batch 1, 1 thread"
    )
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        for label, (kind, options, source, _) in LAYERS.items():
            if "exact" not in kind.backends:
                continue
            shape = {"kernel_size": 4, "stride": 2, "padding": 1} if "transposed" in label else geometry((3,), 1)
            box = (size // 2,) * 3 if "transposed" in label else (size,) * 3
            row = {}
            for backend in ("fast", "exact"):
                layer = kind("O", fields, fields, **shape, **options, backend=backend, dtype=dtype)
                x = signal(layer, source, 1, box, dtype)
                with torch.no_grad():
                    row[backend] = clock(lambda layer=layer, x=x: layer(x), repeats)
                row[f"{backend} both"] = clock(lambda layer=layer, x=x: run_all(layer, x), 1)
            ratios = row["exact"] / row["fast"], row["exact both"] / row["fast both"]
            print(
                f"{str(dtype)[6:]:10}{label:24} fast {row['fast']:8.3f} s   exact {row['exact']:8.3f} s   "
                f"ratio {ratios[0]:5.2f}   with all gradients {ratios[1]:5.2f}",
                flush=True,
            )


def run_all(layer, x):
    y = layer(x.requires_grad_())
    y.sum().backward()


if __name__ == "__main__":
    {"bits": bits, "time": timing}[sys.argv[1] if len(sys.argv) > 1 else "bits"]()
