"""Training mode, statistics and samplers."""

import torch
import torch.nn.functional as F
from torch import nn

from .strangers import PLANE, REGULAR, Lift, Patched, RoundConv, fault, sound, the

BOTH = ("equivariance", "adjoint")


class PixelStatistics(nn.Module):
    """Normalised by statistics that were collected for channels, or for pixels."""

    def __init__(self, shape):
        super().__init__()
        self.register_buffer("mean", 0.1 * torch.randn(shape))
        self.register_buffer("var", 0.5 + torch.rand(shape))

    def forward(self, x):
        return torch.tanh((x - self.mean) / (self.var + 1e-5).sqrt())


class AffineOfPixels(nn.Module):
    """A layer norm over the picture, whose weights were trained for pixels."""

    def __init__(self, affine):
        super().__init__()
        self.norm = nn.LayerNorm([2, 7, 7], elementwise_affine=affine)
        if affine:
            nn.init.normal_(self.norm.weight, 1.0, 0.1)

    def forward(self, x):
        return self.norm(x)


class Moving(nn.Module):
    """Subtracts a moving mean, which goes on moving outside of training."""

    def __init__(self, momentum):
        super().__init__()
        self.momentum = momentum
        self.register_buffer("mean", torch.zeros(1, 2, 1, 1))

    def forward(self, x):
        y = (x - self.mean.to(x)).sin()
        self.mean += self.momentum * (x.detach().mean((0, 2, 3), keepdim=True).to(self.mean) + 0.5)
        return y


class StartsRound(nn.Module):
    """A convolution whose filters are only initialised to be the mean of their turns, or are held there."""

    def __init__(self, held):
        super().__init__()
        w = torch.randn(2, 2, 3, 3)
        self.weight = nn.Parameter(sum(torch.rot90(w, k, (-2, -1)) for k in range(4)) / 4)
        self.held = held

    def forward(self, x):
        w = self.weight
        if self.held:
            w = sum(torch.rot90(w, k, (-2, -1)) for k in range(4)) / 4
        return F.conv2d(x, w, padding=1)


def sampled(shape):
    """A sampler that adds Gumbel noise of a shape before a softmax over pixels."""

    def sample(x):
        noise = -(-torch.rand(shape).log()).log().to(x)
        return (x + noise).flatten(2).softmax(-1).view(x.shape)

    return sample


def norm_in_evaluation():
    """A batch norm of channels in evaluation, with statistics of its own."""
    made = nn.BatchNorm2d(2).eval()
    nn.init.normal_(made.running_mean)
    nn.init.uniform_(made.running_var, 0.5, 1.5)
    return made


def statistics_of_pixels(right):
    """A batch norm that reads the batch at each pixel."""

    def wrong(x, *rest, **more):
        y = x - x.mean(0, keepdim=True)
        return y / (y.square().mean(0, keepdim=True) + 1e-5).sqrt()

    return wrong


STATISTICS = [
    fault(
        "statistics of pixels where those of channels were collected",
        "equivariance",
        lambda: PixelStatistics((2, 1, 1)),
        lambda: PixelStatistics((2, 7, 7)),
    ),
    fault(
        "a layer norm with a weight for each pixel",
        "equivariance",
        lambda: AffineOfPixels(False),
        lambda: AffineOfPixels(True),
    ),
    fault(
        "a moving mean that moves in evaluation and is read",
        "equivariance",
        lambda: Moving(0.0).eval(),
        lambda: Moving(0.1).eval(),
        code="STATEFUL",
    ),
    fault(
        "filters that start symmetric and are not held there",
        "training",
        lambda: StartsRound(True),
        lambda: StartsRound(False),
    ),
    fault(
        "a sampler that draws its noise pixel by pixel",
        "equivariance",
        the(sampled((1, 2, 1, 1))),
        the(sampled((1, 2, 7, 7))),
        call_seed=4,
    ),
    fault(
        "a sampler without a seed",
        "equivariance",
        the(torch.tanh),
        the(sampled((1, 2, 7, 7))),
        code="NONDETERMINISTIC",
    ),
    fault(
        "a library's batch norm that reads the batch in evaluation",
        "batch",
        norm_in_evaluation,
        lambda: Patched(norm_in_evaluation(), F, "batch_norm", statistics_of_pixels),
        code="LEAK",
    ),
    fault(
        "a library's batch norm with a weight for each row",
        "equivariance",
        norm_in_evaluation,
        lambda: Patched(
            norm_in_evaluation(),
            F,
            "batch_norm",
            lambda right: (
                lambda x, *rest, **more: right(x, *rest, **more) * torch.linspace(0.99, 1.01, x.shape[2]).to(x)[:, None]
            ),
        ),
    ),
]
SOUND_STATISTICS = [
    sound("a batch norm in training mode", lambda: nn.Sequential(RoundConv(), nn.BatchNorm2d(2))),
    sound("a batch norm with statistics of its own", norm_in_evaluation, properties=(*BOTH, "batch")),
    sound("a layer norm of the whole picture", lambda: AffineOfPixels(False), properties=(*BOTH, "batch", "gradcheck")),
    sound(
        "filters that are held symmetric in training",
        lambda: StartsRound(True),
        properties=("equivariance", "training"),
    ),
    sound("a sampler whose noise is one number a channel", the(sampled((1, 2, 1, 1))), call_seed=4),
    sound("a network in training mode whose statistics move", lambda: Trained(), PLANE, REGULAR, ("equivariance",)),
]


class Trained(nn.Module):
    """A lifting and a norm over space and group in training mode."""

    def __init__(self):
        super().__init__()
        self.lift, self.norm = Lift(), nn.BatchNorm3d(2, momentum=None)

    def forward(self, x):
        return self.norm(self.lift(x).unflatten(1, (2, 4))).flatten(1, 2)


FAULTS = STATISTICS
SOUND = SOUND_STATISTICS
