"""Half precision inside float32, and calls that differ in their last bits."""

import equiharness as eh
import torch
import torch.nn.functional as F
from torch import nn

from .strangers import DOUBLE, SINGLE, VECTOR, Lift, Patched, RoundConv, Wrapped, fault, sound, the

BOTH = ("equivariance", "adjoint")


class HalfInside(nn.Module):
    """A round convolution, in another precision between casts."""

    def __init__(self, inner):
        super().__init__()
        self.layer, self.inner = RoundConv(), inner

    def forward(self, x):
        if self.inner is None:
            return torch.sin(self.layer(x))
        with torch.autocast("cpu", self.inner):
            return torch.sin(self.layer(x)).to(x.dtype)


def attention(inner):
    """Pixels attend to pixels; scores in another precision."""

    def attend(x):
        flat = x.flatten(2)
        cast = flat.to(inner) if inner is not None else flat
        scores = (cast.transpose(1, 2) @ cast).softmax(-1).to(x.dtype)
        return (flat @ scores.transpose(1, 2)).view(x.shape)

    return attend


def stored(dtype):
    """Activations stored in another precision for the rest of the way."""
    return lambda x: torch.sin(F.avg_pool2d(x, 3, 1, 1).to(dtype).to(x.dtype))


LOSES = {"verdict": "IMPRECISE", "code": "PRECISION", "dtypes": (SINGLE,)}
HALF = [
    fault(
        "autocast left on around a convolution",
        "equivariance",
        lambda: HalfInside(None),
        lambda: HalfInside(torch.bfloat16),
        **LOSES,
    ),
    fault(
        "scores of attention in bfloat16", "equivariance", the(attention(None)), the(attention(torch.bfloat16)), **LOSES
    ),
    fault(
        "activations stored in float16", "equivariance", the(stored(torch.float32)), the(stored(torch.float16)), **LOSES
    ),
    fault(
        "a softmax by a layer in bfloat16",
        "equivariance",
        lambda: nn.Softmax(dim=1),
        lambda: Patched(
            nn.Softmax(dim=1),
            nn.Softmax,
            "forward",
            lambda right: lambda layer, x: right(layer, x.to(torch.bfloat16)).to(x.dtype),
        ),
        **LOSES,
    ),
    fault(
        "lengths of vectors by a library in float16",
        "equivariance",
        lambda: Wrapped(lambda x: x * torch.linalg.vector_norm(x, dim=-1, keepdim=True).sin()),
        lambda: Patched(
            Wrapped(lambda x: x * torch.linalg.vector_norm(x, dim=-1, keepdim=True).sin()),
            torch.linalg,
            "vector_norm",
            lambda right: lambda x, **rest: right(x.half(), **rest).to(x.dtype),
        ),
        VECTOR,
        family="points",
        **LOSES,
    ),
]
SOUND_HALF = [
    sound(
        "an island of float64 inside", the(lambda x: x.double().sin().cumsum(1).flip(1).to(x.dtype)), dtypes=(SINGLE,)
    ),
    sound("attention in the precision of its input", the(attention(None))),
    sound("autocast switched off inside", lambda: SwitchedOff()),
    sound(
        "a statistic in float32 of a picture in half precision",
        the(lambda x: x * (1 + x.float().square().mean((1, 2, 3), keepdim=True)).rsqrt().to(x.dtype)),
        properties=("equivariance",),
        dtypes=(torch.bfloat16, torch.float16),
    ),
]


class SwitchedOff(nn.Module):
    """Switches autocast off around a layer, as norms do."""

    def __init__(self):
        super().__init__()
        self.layer = Lift()

    def forward(self, x):
        with torch.autocast("cpu", enabled=False):
            return self.layer(x).unflatten(1, (2, 4)).sum(2)


def in_any_order(weights=None):
    """A sum over shifts of a picture, in an order that each call draws."""

    def blurred(x):
        shifts = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        padded, total = F.pad(x, (1, 1, 1, 1)), torch.zeros_like(x)
        for place in torch.randperm(9).tolist():
            i, j = shifts[place]
            weight = 1.0 if weights is None else weights(i, j)
            total = total + weight * padded[:, :, 1 + i : 8 + i, 1 + j : 8 + j].sin()
        return total

    return blurred


def random_by(size):
    return lambda x: x.sin() * (1 + size * torch.randn(1).to(x))


def scattered(values, order):
    """Values of edges added to their ends, in a given order."""
    ends = torch.arange(4).repeat_interleave(3)
    return torch.zeros(values.shape[0], 4, 3).to(values).index_add(1, ends[order], values[:, order])


def messages(order, wrong=lambda m: m):
    def layer(pos):
        pairs = [(i, j) for i in range(4) for j in range(4) if i != j]
        d = pos[:, [i for i, _ in pairs]] - pos[:, [j for _, j in pairs]]
        return scattered(wrong(d * torch.exp(-d.square().sum(-1, keepdim=True))), order())

    return layer


def drawn_order():
    return torch.randperm(12)


CLOUD = eh.Field(eh.Points(4), "SO3", "standard")
CALLS = [
    fault(
        "a sum in any order with one tap too heavy",
        "equivariance",
        the(in_any_order()),
        the(in_any_order(lambda i, j: 1.001 if (i, j) == (0, 1) else 1.0)),
        dtypes=(SINGLE,),
    ),
    fault(
        "a factor that is random by a hundred-thousandth",
        "equivariance",
        the(torch.sin),
        the(random_by(1e-5)),
        code="NONDETERMINISTIC",
    ),
    fault(
        "a factor that is random by a millionth in double precision",
        "equivariance",
        the(torch.sin),
        the(random_by(1e-6)),
        code="NONDETERMINISTIC",
        dtypes=(DOUBLE,),
    ),
    fault(
        "messages added in any order with a component preferred",
        "equivariance",
        the(messages(drawn_order)),
        the(messages(drawn_order, lambda m: m * torch.tensor([1, 1, 1.001]).to(m))),
        CLOUD,
        family="points",
        dtypes=(SINGLE,),
    ),
    fault(
        "a library's sum into places that loses one message a call",
        "equivariance",
        lambda: Wrapped(messages(lambda: torch.arange(12))),
        lambda: Patched(
            Wrapped(messages(lambda: torch.arange(12))),
            torch.Tensor,
            "index_add",
            lambda right: (
                lambda self, dim, index, source: right(
                    self, dim, index, source * (torch.arange(12) != torch.randint(12, (1,)))[:, None].to(source)
                )
            ),
        ),
        CLOUD,
        family="points",
        code="NONDETERMINISTIC",
    ),
    fault(
        "a library's mean that is off by a random ten-thousandth",
        "equivariance",
        lambda: nn.AvgPool2d(3, 1, 1),
        lambda: Patched(
            nn.AvgPool2d(3, 1, 1),
            F,
            "avg_pool2d",
            lambda right: lambda x, *rest: right(x, *rest) * (1 + 1e-4 * torch.rand(1).to(x)),
        ),
        code="NONDETERMINISTIC",
    ),
]
SOUND_CALLS = [
    sound("a sum in any order", the(in_any_order()), dtypes=(SINGLE,)),
    sound(
        "a sum in any order in double precision", the(in_any_order()), properties=("equivariance",), dtypes=(DOUBLE,)
    ),
    sound("messages added in any order", the(messages(drawn_order)), CLOUD, family="points", dtypes=(SINGLE,)),
    sound("messages added in one order", the(messages(lambda: torch.arange(12))), CLOUD, family="points"),
]

FAULTS = HALF + CALLS
SOUND = SOUND_HALF + SOUND_CALLS
