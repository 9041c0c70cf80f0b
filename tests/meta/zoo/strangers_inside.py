"""Models that differentiate inside, work in place or view, by an author who has read the documents alone."""

import equiharness as eh
import torch
import torch.nn.functional as F
from torch import nn

from .strangers import PLANE, SCALAR, TWO, VECTOR, Patched, RoundConv, Wrapped, fault, replaced, sound, the

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


# ---- paths that depend on how a model is run

SIDE = torch.linspace(0.9, 1.1, 7, dtype=torch.float64)


def brighter(x):
    """Brighter on one side."""
    return x.sin() * SIDE.to(x)


def without_gradients(x):
    """A fast path for inference, which is wrong."""
    return x.sin() if torch.is_grad_enabled() else brighter(x)


def with_gradients(x):
    """A path for training, which is wrong."""
    return brighter(x) if torch.is_grad_enabled() else x.sin()


def hooked(change):
    """A round convolution with a hook on its output, which analyses left behind."""

    def made():
        layer = RoundConv()
        layer.register_forward_hook(lambda layer, inputs, output: change(output))
        return layer

    return made


def heads_exchanged(right):
    """Mixes heads and pixels: a view where a permutation was meant."""
    return lambda q, k, v, *rest, **more: right(q, k, v.transpose(-1, -2).reshape(v.shape), *rest, **more)


class Attends(nn.Module):
    """Attention of pixels to pixels by torch's function."""

    def forward(self, x):
        tokens = x.flatten(2).transpose(1, 2)
        return F.scaled_dot_product_attention(tokens, tokens, tokens).transpose(1, 2).reshape(x.shape)


PATHS = [
    fault("a path without gradients, brighter on one side", "equivariance", the(torch.sin), the(without_gradients)),
    fault("a path with gradients, brighter on one side", "adjoint", the(torch.sin), the(with_gradients)),
    fault("a hook that brightens one side", "equivariance", hooked(torch.sin), hooked(brighter)),
    fault(
        "a library's attention whose values are viewed across channels",
        "equivariance",
        Attends,
        replaced(Attends, F, "scaled_dot_product_attention", heads_exchanged),
    ),
    fault(
        "a layer's average that adds a part of the pixel before",
        "equivariance",
        lambda: nn.AvgPool2d(3, 1, 1),
        replaced(
            lambda: nn.AvgPool2d(3, 1, 1),
            nn.AvgPool2d,
            "forward",
            lambda right: (
                lambda layer, x: (
                    F.avg_pool2d(F.pad(x, (1, 1, 1, 1), "replicate"), 3, 1) + 0.1 * F.pad(x, (1, 0))[..., :-1]
                )
            ),
        ),
    ),
]
SOUND_PATHS = [
    sound("a hook that takes the sine", hooked(torch.sin)),
    sound("attention of pixels by torch's function", Attends, properties=("equivariance", "adjoint", "batch")),
    # Four samples may all have one label, and then they prove nothing.
    sound(
        "class labels of a mean",
        the(lambda x: x.mean((2, 3)).argmax(1)),
        PLANE,
        eh.Invariant(),
        ("equivariance",),
        samples=16,
    ),
]

FAULTS = INSIDE + PATHS
SOUND = SOUND_INSIDE + SOUND_PATHS
