"""Handwritten digits on the sphere: two networks train on unrotated digits and are tested on rotated ones.

    python examples/spherical_digits.py [--epochs 12] [--turns 3] [--seed 0]

The script trains a spherical and a planar network of equal size on scikit-learn's 1797 digits, for a few minutes on a
CPU. The digits are laid on a hemisphere around the north pole. Neither network gets a rotated digit in training. The
table at the end shows their accuracy on held-out digits, unrotated and rotated by random elements of SO(3).

The spherical network halves its bandwidth from block to block and doubles max_beta, so that each kernel covers the same
number of samples of its grid. The planar network gets the same signals, unrolled to pictures, and halves its
resolution.
"""

import argparse
import math
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from equiharness.kernels import (
    S2Conv,
    SO3ResBlock,
    from_plane,
    s2_near_identity,
    s2_rotate,
    so3_integrate,
    so3_near_identity,
    spherical_kaiming_,
)
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from sklearn.datasets import load_digits
from torch import Tensor, nn

#: Bandwidths of the signals, from the input to the last block.
BANDWIDTHS = (16, 8, 5, 3)
HELD_OUT = 500


def digits(generator: torch.Generator, limit: int | None = None) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Training and test digits as signals on the sphere, [count, 1, 32, 32], with their labels.

    The pictures are 8 x 8. The middles of their edges are on the equator.
    """
    bunch = load_digits()
    order = torch.randperm(len(bunch.target), generator=generator)[:limit]
    images = torch.from_numpy(bunch.images)[order].float() / 16
    signals = from_plane(images[:, None], BANDWIDTHS[0], "stereographic", extent=math.pi / 2)
    labels = torch.from_numpy(bunch.target)[order].long()
    test = HELD_OUT if limit is None else limit // 3
    return (signals[test:], labels[test:]), (signals[:test], labels[:test])


class Spherical(nn.Module):
    """A network from signals on S2 to logits, invariant under SO(3) up to the aliases of its ReLUs."""

    def __init__(self, channels: tuple[int, ...] = (8, 16, 24)) -> None:
        super().__init__()
        b = BANDWIDTHS
        self.lift = S2Conv(1, channels[0], b[0], b[1], s2_near_identity(radius(b[0]), n_alpha=6, n_beta=2))
        self.norm = nn.BatchNorm3d(channels[0])
        self.blocks = nn.Sequential(
            *(SO3ResBlock(channels[i], channels[i + 1], b[i + 1], b[i + 2], around_identity(b[i + 1])) for i in (0, 1))
        )
        self.head = nn.Linear(channels[-1], 10)
        spherical_kaiming_(self.lift)
        for block in self.blocks:
            spherical_kaiming_(block.conv1)
            spherical_kaiming_(block.conv2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(torch.relu(self.norm(self.lift(x))))
        return self.head(so3_integrate(x))


def radius(b: int) -> float:
    """max_beta of a kernel on signals of bandwidth b: two samples of their grid, for every b."""
    return 2 * math.pi / (2 * b)


def around_identity(b: int):
    return so3_near_identity(max_beta=radius(b), n_alpha=6, n_beta=2)


class Step(nn.Module):
    """A planar residual block that halves the resolution."""

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(cin, cout, 3, 2, 1, bias=False), nn.BatchNorm2d(cout)
        self.conv2, self.norm2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False), nn.BatchNorm2d(cout)
        self.shortcut = nn.Conv2d(cin, cout, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x)))))
        return torch.relu(y + self.shortcut(x))


class Planar(nn.Module):
    """A network on the same signals, unrolled to pictures: colatitude down, longitude to the right."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, width, 5, 2, 2),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            Step(width, 2 * width),
            Step(2 * width, 3 * width),
        )
        self.head = nn.Linear(3 * width, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean((-2, -1)))


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def matched(size: int) -> Planar:
    """The planar network whose width brings it closest to this many parameters."""
    return min((Planar(width) for width in range(2, 64)), key=lambda model: abs(parameters(model) - size))


def train(
    model: nn.Module, x: Tensor, y: Tensor, epochs: int, batch: int, seed: int, tick: Callable[[float], None]
) -> None:
    """Train with Adam and one cycle of its learning rate; the loss is the cross entropy."""
    generator = torch.Generator().manual_seed(seed)
    steps = epochs * math.ceil(len(x) / batch)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-2, total_steps=max(steps, 2))
    model.train()
    for _ in range(epochs):
        for which in torch.randperm(len(x), generator=generator).split(batch):
            optimiser.zero_grad()
            loss = F.cross_entropy(model(x[which]), y[which])
            loss.backward()
            optimiser.step()
            schedule.step()
            tick(loss.item())
    model.eval()


def turned(x: Tensor, generator: torch.Generator) -> Tensor:
    """Each signal rotated exactly, by a uniformly random rotation of its own (a unit quaternion)."""
    quaternions = F.normalize(torch.randn(len(x), 4, dtype=torch.float64, generator=generator), dim=1)
    return torch.stack([s2_rotate(signal, q) for signal, q in zip(x, quaternions, strict=True)])


@torch.no_grad()
def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Accuracy in percent."""
    found = torch.cat([model(part).argmax(1) for part in x.split(100)])
    return 100 * (found == y).double().mean().item()


def main(arguments: list[str] | None = None) -> dict[str, tuple[float, float]]:
    """Train, test and print the table; return the accuracy of each network on unrotated and on rotated digits."""
    parser = argparse.ArgumentParser(description="Digits on the sphere, trained unrotated and tested rotated.")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--turns", type=int, default=3, help="random rotations of each test digit")
    parser.add_argument("--limit", type=int, default=None, help="use this many digits, a third of them for the test")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    torch.manual_seed(args.seed)
    generator = torch.Generator().manual_seed(args.seed)
    (x, y), (x_test, y_test) = digits(generator, args.limit)
    rotated = torch.cat([turned(x_test, generator) for _ in range(args.turns)])
    spherical = Spherical()
    models: dict[str, nn.Module] = {"planar": matched(parameters(spherical)), "spherical": spherical}
    console = Console()
    table = Table("network", "parameters", "training", "unrotated %", "rotated %", "lost")
    result: dict[str, tuple[float, float]] = {}
    with Progress(console=console) as progress:
        for name, model in models.items():
            total = args.epochs * math.ceil(len(x) / args.batch)
            task = progress.add_task(f"{name}, {parameters(model)} parameters", total=total)

            def tick(loss: float, task=task, name=name) -> None:
                progress.update(task, advance=1, description=f"{name}, loss {loss:.3f}")

            start = time.perf_counter()
            train(model, x, y, args.epochs, args.batch, args.seed, tick)
            seconds = time.perf_counter() - start
            plain, moved = accuracy(model, x_test, y_test), accuracy(model, rotated, y_test.repeat(args.turns))
            result[name] = plain, moved
            row = f"{plain:.1f}", f"{moved:.1f}", f"{plain - moved:.1f}"
            table.add_row(name, str(parameters(model)), f"{seconds:.0f} s", *row)
    console.print(table)
    return result


if __name__ == "__main__":
    main()
