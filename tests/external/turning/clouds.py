"""Layers on vectors at points: tensors [batch, points, 3 * vectors]."""

import torch


class CentredMix(torch.nn.Module):
    """Each vector less the mean over the points, mixed with the others at its point."""

    def __init__(self, vectors):
        super().__init__()
        self.mix = torch.nn.Linear(vectors, vectors, bias=False)

    def forward(self, x):
        v = (x - x.mean(1, keepdim=True)).unflatten(-1, (-1, 3))
        return self.mix(v.transpose(-1, -2)).transpose(-1, -2).flatten(-2)


class VectorGate(torch.nn.Module):
    """Each vector scaled by a function of its length."""

    def forward(self, x):
        v = x.unflatten(-1, (-1, 3))
        return (v * torch.sigmoid(v.norm(dim=-1, keepdim=True))).flatten(-2)
