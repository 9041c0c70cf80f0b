"""Models that differentiate inside, work in place or view, by an author who has read the documents alone."""

import torch
import torch.nn.functional as F
from torch import nn

from .strangers import SCALAR, TWO, VECTOR, Patched, Wrapped, fault, sound, the

BOTH = ("equivariance", "adjoint")


def saliency(x):
    """The gradient of a score of the picture."""
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        score = (leaf.sin() * F.avg_pool2d(leaf, 3, 1, 1)).sum((1, 2, 3))
        return torch.autograd.grad(score.sum(), leaf)[0]


class Remembers(nn.Module):
    """Adds the gradient to that of the last call, as .grad does."""

    def __init__(self):
        super().__init__()
        self.register_buffer("total", torch.zeros(2, 7, 7))

    def forward(self, x):
        found = saliency(x)
        self.total += 0.1 * found.detach().mean(0).to(self.total)
        return found + self.total.to(found)


def hessian_trace(axes):
    """Second derivatives of a function of the length, summed over axes."""

    def laplacian(x):
        with torch.enable_grad():
            leaf = x if x.requires_grad else x.clone().requires_grad_()
            energy = torch.exp(-leaf.square().sum(-1))
            first = torch.autograd.grad(energy.sum(), leaf, create_graph=True)[0]
            return sum(torch.autograd.grad(first[:, i].sum(), leaf, create_graph=True)[0][:, i] for i in axes)[:, None]

    return laplacian


def diffused(x):
    """Both axes at once, from a copy."""
    y = x.clone()
    y[:, :, 1:-1] += 0.2 * (x[:, :, :-2] + x[:, :, 2:])
    y[..., 1:-1] += 0.2 * (x[..., :-2] + x[..., 2:])
    return y


def diffused_in_place(x):
    y = x.clone()
    for i in range(1, 6):
        y[:, :, i] += 0.2 * (y[:, :, i - 1] + y[:, :, i + 1])
    for i in range(1, 6):
        y[..., i] += 0.2 * (x[..., i - 1] + x[..., i + 1])
    return y


def pixels_first(x):
    """Mixes channels with the channel axis last."""
    return torch.tanh(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def viewed(x):
    """Back by a view of the same shape, where a permutation was meant."""
    return torch.tanh(x.permute(0, 2, 3, 1)).contiguous().view(x.shape)


def gate(x):
    return x * torch.sigmoid(x.square().sum(-1, keepdim=True))


def detached_gate(x):
    return x * torch.sigmoid(x.detach().square().sum(-1, keepdim=True))


def curl_of_a_swirl(x):
    """The curl of a swirl at a point, from its derivatives."""
    with torch.enable_grad():
        leaf = x if x.requires_grad else x.clone().requires_grad_()
        u, v = leaf.split(3, -1)
        field = torch.exp(-u.square().sum(-1, keepdim=True)) * torch.linalg.cross(u, v)
        rows = [torch.autograd.grad(field[:, i].sum(), leaf, create_graph=True)[0][:, :3] for i in range(3)]
    jacobian = torch.stack(rows, 1)
    return torch.stack(
        [jacobian[:, (i + 2) % 3, (i + 1) % 3] - jacobian[:, (i + 1) % 3, (i + 2) % 3] for i in range(3)], 1
    )


INSIDE = [
    fault(
        "a Laplacian that leaves out an axis",
        "equivariance",
        the(hessian_trace((0, 1, 2))),
        the(hessian_trace((0, 1))),
        VECTOR,
        SCALAR,
        family="points",
    ),
    fault(
        "a gradient that is added to the last call's",
        "equivariance",
        the(saliency),
        Remembers,
        code="STATEFUL",
    ),
    fault("a diffusion that reads rows already written", "equivariance", the(diffused), the(diffused_in_place)),
    fault("a view where a permutation was meant", "equivariance", the(pixels_first), the(viewed)),
    fault(
        "a gate detached from its vector",
        "gradcheck",
        the(gate),
        the(detached_gate),
        VECTOR,
        code="GRADIENT",
        family="points",
    ),
    fault(
        "a curl by a library whose product has one sign wrong",
        "equivariance",
        the(curl_of_a_swirl),
        lambda: Patched(
            Wrapped(curl_of_a_swirl),
            torch.linalg,
            "cross",
            lambda right: lambda a, b: right(a, b) * torch.tensor([1, -1, 1]).to(a),
        ),
        TWO,
        VECTOR,
        family="points",
    ),
]
SOUND_INSIDE = [
    sound("the gradient of a score as a picture", the(saliency), properties=("equivariance", "batch")),
    sound(
        "a Laplacian by two derivatives",
        the(hessian_trace((0, 1, 2))),
        VECTOR,
        SCALAR,
        ("equivariance", "adjoint", "gradcheck"),
        family="points",
    ),
    sound("a diffusion in place on a copy", the(diffused), properties=("equivariance", "adjoint", "gradcheck")),
    sound(
        "a clamp in place on the input", the(lambda x: x.clamp_(min=-0.5).mul_(2)), properties=("equivariance", "batch")
    ),
    sound("a curl by derivatives", the(curl_of_a_swirl), TWO, VECTOR, family="points"),
]

FAULTS = INSIDE
SOUND = SOUND_INSIDE
