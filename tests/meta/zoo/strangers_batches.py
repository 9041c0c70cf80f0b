"""Leaks between samples."""

import equiharness as eh
import torch
import torch.nn.functional as F
from torch import nn

from .strangers import PLANE, Patched, Wrapped, fault, sound, the

BOTH = ("equivariance", "adjoint")
CLOUD = eh.Field(eh.Points(4), "SO3", "standard")
FOUR = eh.Field(eh.Grid(5, 5), "C4", "4*trivial")


class Tokens(nn.Module):
    """Attention over pixels, batch first or, as the module's default has it, batch second."""

    def __init__(self, batch_first):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 1, batch_first=batch_first)

    def forward(self, x):
        tokens = x.flatten(2).transpose(1, 2)
        return self.attention(tokens, tokens, tokens, need_weights=False)[0].transpose(1, 2).reshape(x.shape)


def chunked(order):
    """Works through a batch in two halves, and puts them together."""

    def layer(x):
        halves = [half.sin() for half in x.tensor_split(2)]
        return torch.cat(halves[::order])

    return layer


def pooled(offsets):
    """A sum over the points of each molecule, by indices into all points of the batch."""

    def layer(pos):
        n = pos.shape[0]
        owner = torch.arange(n).repeat_interleave(4) * offsets
        centred = pos - pos.mean(1, keepdim=True)
        squares = torch.exp(-centred.square().sum(-1)).flatten()
        return torch.zeros(n).to(pos).index_add(0, owner, squares)[:, None]

    return layer


def scaled_by(largest):
    return lambda x: x / (1 + largest(x.square()))


def largest_of_batch(x):
    return x.max()


def largest_of_each(x):
    return x.amax((1, 2, 3), keepdim=True)


def leak(name, sound_layer, broken, source=PLANE, target=None, **options):
    return fault(name, "batch", sound_layer, broken, source, target, code="LEAK", **options)


ENERGY = eh.Field(eh.Vector(), "SO3")
LEAKS = [
    leak("attention over the batch in place of the pixels", lambda: Tokens(True), lambda: Tokens(False), FOUR),
    leak("two halves of a batch put together in the wrong order", the(chunked(1)), the(chunked(-1))),
    leak(
        "molecules without the offsets of their points in the batch",
        the(pooled(1)),
        the(pooled(0)),
        CLOUD,
        ENERGY,
        family="points",
    ),
    leak(
        "a scale by the largest value of the batch", the(scaled_by(largest_of_each)), the(scaled_by(largest_of_batch))
    ),
    leak(
        "a library's softmax over the batch where no axis is named",
        lambda: Wrapped(lambda x: x * F.softmax(x, dim=1)),
        lambda: Patched(
            Wrapped(lambda x: x * F.softmax(x, dim=1)),
            F,
            "softmax",
            lambda right: lambda x, dim, **rest: right(x, dim=0),
        ),
    ),
    leak(
        "a library's instance norm that keeps the deviation of the batch",
        lambda: nn.InstanceNorm2d(2),
        lambda: Patched(
            nn.InstanceNorm2d(2),
            F,
            "instance_norm",
            lambda right: lambda x, *rest: (x - x.mean((2, 3), keepdim=True)) / x.std((0, 2, 3), keepdim=True),
        ),
    ),
]
SOUND_LEAKS = [
    sound("attention over pixels by torch's module", lambda: Tokens(True), FOUR, properties=(*BOTH, "batch")),
    sound("two halves of a batch in order", the(chunked(1)), properties=(*BOTH, "batch")),
    sound(
        "molecules by offsets of their points",
        the(pooled(1)),
        CLOUD,
        ENERGY,
        ("equivariance", "batch"),
        family="points",
    ),
    sound("a scale by the largest value of each picture", the(scaled_by(largest_of_each)), properties=(*BOTH, "batch")),
]

FAULTS = LEAKS
SOUND = SOUND_LEAKS
