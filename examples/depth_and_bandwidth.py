"""The equivariance error of a spherical network against its depth and its bandwidth, without and with ReLUs.

    python examples/depth_and_bandwidth.py [--bandwidths 4 8 16] [--depth 5] [--rotations 20] [--figure depth.svg]

The script stacks randomly initialised SO(3) convolutions and measures their error in float32, as section 5.1 of the
Spherical CNNs paper does (Cohen et al. 2018):

    Delta = mean over R, f of  std(R Phi(f) - Phi(R f)) / std(Phi(f)),

It prints a table, and draws a figure if you ask for one. Linear layers are exact to rounding at every depth. With
ReLUs between the layers, the error jumps at the first ReLU, because a ReLU makes degrees that the grid aliases, and
then stays constant. A grid twice as fine under each ReLU (`OversampledNonlinearity`) lowers the error.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from equiharness.kernels import (
    OversampledNonlinearity,
    SO3Conv,
    so3_ifft,
    so3_near_identity,
    so3_rotate,
    spherical_kaiming_,
)
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import Tensor, nn

CHANNELS = 10
#: The modules that are compared: one of them stands between every two layers.
BETWEEN: dict[str, nn.Module] = {
    "linear": nn.Identity(),
    "ReLU": nn.ReLU(),
    "ReLU on a grid twice as fine": OversampledNonlinearity(torch.relu, 2),
}


def stack(b: int, depth: int, between: nn.Module) -> nn.ModuleList:
    """Convolutions, each but the first preceded by `between`. The output is band-limited, so R rotates all of it."""
    layers = nn.ModuleList()
    for n in range(depth):
        conv = SO3Conv(CHANNELS, CHANNELS, b, b, so3_near_identity())
        spherical_kaiming_(conv)
        layers.append(nn.Sequential(between, conv) if n else conv)
    return layers


def signal(b: int, generator: torch.Generator) -> Tensor:
    """Band-limited noise on SO(3), [1, channels, 2b, 2b, 2b], with the same power in each coefficient."""
    rows = b * (4 * b * b - 1) // 3
    return so3_ifft(torch.randn(1, CHANNELS, rows, dtype=torch.complex128, generator=generator))


@torch.no_grad()
def errors(b: int, depth: int, between: nn.Module, rotations: int, seed: int) -> Iterator[list[float]]:
    """Yield Delta after each layer, once for each random signal and rotation.

    The layers run in float32. The rotations run in float64, so that the error is that of the layers.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    layers = stack(b, depth, between)
    for _ in range(rotations):
        f = signal(b, generator)
        R = F.normalize(torch.randn(4, dtype=torch.float64, generator=generator), dim=0)
        y, moved, found = f.float(), so3_rotate(f, R).float(), []
        for layer in layers:
            y, moved = layer(y), layer(moved)
            found.append((std(so3_rotate(y.double(), R) - moved) / std(y)).item())
        yield found


def std(x: Tensor) -> Tensor:
    return x.double().std(correction=0)


def measure(
    bandwidths: list[int], depth: int, rotations: int, seed: int, console: Console
) -> dict[tuple[str, int], list[float]]:
    """Delta after each layer; the keys are the module between the layers and the bandwidth."""
    result = {}
    with Progress(console=console) as progress:
        for name, between in BETWEEN.items():
            for b in bandwidths:
                task = progress.add_task(f"{name}, b = {b}", total=rotations)
                found = []
                for one in errors(b, depth, between, rotations, seed):
                    found.append(one)
                    progress.advance(task)
                result[name, b] = torch.tensor(found, dtype=torch.float64).mean(0).tolist()
    return result


def draw(result: dict[tuple[str, int], list[float]], path: Path) -> None:
    """Draw two panels: Delta against depth, and Delta against bandwidth at the full depth."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "depth"}):
        figure = Figure(figsize=(8, 3.2), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        bandwidths = sorted({b for _, b in result})
        depth = len(next(iter(result.values())))
        for colour, name in enumerate(BETWEEN):
            for shade, b in enumerate(bandwidths):
                strength = (shade + 1) / len(bandwidths)
                label = name if b == bandwidths[-1] else None
                style = {"color": f"C{colour}", "marker": "o", "markersize": 3, "alpha": strength}
                left.plot(range(1, depth + 1), result[name, b], label=label, **style)
            style = {"color": f"C{colour}", "marker": "o", "markersize": 3}
            right.plot(bandwidths, [result[name, b][-1] for b in bandwidths], **style)
        left.set(xlabel="layers (darker: larger bandwidth)", ylabel="Delta", yscale="log")
        left.legend(fontsize=8, frameon=False)
        right.set(xlabel=f"bandwidth, {depth} layers", xscale="log", xticks=bandwidths, xticklabels=bandwidths)
        right.minorticks_off()
        figure.savefig(path, metadata={"Date": None})


def main(arguments: list[str] | None = None) -> dict[tuple[str, int], list[float]]:
    """Measure, print the table, draw the figure."""
    parser = argparse.ArgumentParser(description="Equivariance error against depth and bandwidth.")
    parser.add_argument("--bandwidths", type=int, nargs="+", default=[4, 8, 16])
    parser.add_argument("--depth", type=int, default=5)
    parser.add_argument("--rotations", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--figure", type=Path, default=None)
    args = parser.parse_args(arguments)
    console = Console()
    result = measure(args.bandwidths, args.depth, args.rotations, args.seed, console)
    table = Table("between the layers", "b", *(f"{n} layers" if n > 1 else "1 layer" for n in range(1, args.depth + 1)))
    for (name, b), found in result.items():
        table.add_row(name, str(b), *(f"{error:.1e}" for error in found))
    console.print(table)
    if args.figure is not None:
        draw(result, args.figure)
    return result


if __name__ == "__main__":
    main()
