"""Convolutions that turn their filters: channels of the output belong to the turns 0, 180, -90 and 90 degrees."""

import torch
from torch.nn import functional

#: Quarter turns of the four elements, in the order of the channels.
TURNS = (0, 1, 2, 3)


class Lift(torch.nn.Module):
    """A picture to one channel for each turn of every filter."""

    def __init__(self, inputs, outputs, size=3):
        super().__init__()
        self.filters = torch.nn.Parameter(torch.randn(outputs, inputs, size, size) / (inputs * size**2) ** 0.5)

    def turned(self):
        return torch.stack([torch.rot90(self.filters, turns, (-2, -1)) for turns in TURNS], 1).flatten(0, 1)

    def forward(self, x):
        return functional.conv2d(x, self.turned(), padding=self.filters.shape[-1] // 2)


class Backwards(Lift):
    """The same, with the filters turned the wrong way round: this one is wrong."""

    def turned(self):
        return torch.stack([torch.rot90(self.filters, -turns, (-2, -1)) for turns in TURNS], 1).flatten(0, 1)


class QuarterTurns(torch.nn.Module):
    """The largest of the four channels of each filter: nothing is left that could turn but the picture."""

    def forward(self, x):
        return x.unflatten(1, (-1, len(TURNS))).amax(2)
