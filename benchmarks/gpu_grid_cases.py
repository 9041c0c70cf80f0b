"""Further cases of benchmarks/gpu.py on grids: filter expansion, and the fused separable convolution."""

import math

import torch
from equiharness.kernels import FusedSeparableConv, GroupBatchNorm, GroupConv, SeparableGroupConv
from equiharness.kernels.grid.expansion import expand
from gpu_cases import Case, Contender, by_torch


def expansion_case(name, group, channels, k=3):
    """From the parameters to the bank and back: one kernel each, against torch's gather and gather with sum."""
    probe = GroupConv(group, *channels, k)
    bank = probe.order * probe.weight.numel()
    moved = 4 * (bank + probe.weight.numel())

    def build(device):
        torch.manual_seed(0)
        layer = GroupConv(group, *channels, k, backend="fast").to(device)

        def call(weight):
            return _bank(layer, weight)

        x = layer.weight.detach()
        return {
            "expansion (ours)": Contender(call, [], x),
            "by torch": Contender(call, [], x, around=by_torch),
        }

    def reference(device):
        layer = GroupConv(group, *channels, k, backend="fast").to(device).double()
        return lambda x: _bank(layer, x.double())

    return Case(name, 0.0, moved, build, reference, backward=False)


def _bank(layer, weight):
    return expand(weight.reshape(*weight.shape[:2], -1), layer.table, layer.inverse)


def separable_case(name, group, batch, channels, box, k=3):
    """Mix, depthwise step, norm and ReLU for inference: one kernel, and the layers one after the other."""
    probe = SeparableGroupConv(group, *channels, k, padding=k // 2)
    order, voxels = probe.order, batch * math.prod(box)
    flops = 2 * voxels * (channels[0] * channels[1] * order**2 + channels[1] * order * k**probe.dim)
    moved = 4 * voxels * order * sum(channels)

    def make(device, dtype=torch.float32):
        torch.manual_seed(0)
        conv, norm = SeparableGroupConv(group, *channels, k, padding=k // 2), GroupBatchNorm(group, channels[1])
        norm.running_var.uniform_(0.5, 2)
        return FusedSeparableConv(conv, norm).eval().requires_grad_(False).to(device, dtype)

    def build(device):
        torch.manual_seed(1)
        layer, x = make(device), torch.randn(batch, channels[0], order, *box, device=device)
        contenders = {
            "fused (ours)": Contender(layer, [], x),
            "layer after layer": Contender(lambda x: layer.norm(layer.conv(x)).relu(), [], x),
        }
        if device == "cuda":
            compiled = torch.compile(lambda x: layer.norm(layer.conv(x)).relu())
            contenders["layer after layer, compiled"] = Contender(compiled, [], x)
        return contenders

    def reference(device):
        layer = make(device, torch.float64)
        return lambda x: layer.norm(layer.conv(x.double())).relu()

    return Case(name, flops, moved, build, reference, backward=False)


def grid_cases(small):
    """The cases, in the sizes of docs/gpu.md, or tiny ones."""
    if small:
        return [
            expansion_case("C4 expansion, tiny", "C4", (2, 2)),
            separable_case("C4 separable, tiny", "C4", 2, (2, 2), (7, 7)),
        ]
    return [
        expansion_case("O expansion, 32 x 32 fields", "O", (32, 32)),
        expansion_case("Oh expansion, 16 x 16 fields", "Oh", (16, 16)),
        separable_case("p4m separable, 64 x 16 fields, 64^2", "D4", 64, (16, 16), (64, 64)),
        separable_case("O separable, 8 x 8 fields, 32^3", "O", 8, (8, 8), (32, 32, 32)),
    ]
