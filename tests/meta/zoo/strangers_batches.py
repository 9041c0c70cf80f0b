"""Batches, statistics, samplers, calls that differ, ties and arguments: what surrounds a layer rather than its formula."""

import functools

import equiharness as eh
import torch
import torch.nn.functional as F
from torch import nn

from .strangers import DOUBLE, PLANE, REGULAR, SINGLE, VECTOR, Lift, Patched, RoundConv, Wrapped, fault, sound, the

BOTH, TRAINED = ("equivariance", "adjoint"), ("equivariance", "training")
SQUARE = eh.Field(eh.Grid(8, 8), "D4", "2*trivial")
HALF = eh.Field(eh.Grid(4, 4), "D4", "2*trivial")
FOUR = eh.Field(eh.Grid(5, 5), "C4", "4*trivial")

# ---- training mode, statistics, samplers


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


def norm_in_evaluation(axes=None):
    """A batch norm of channels in evaluation with statistics of its own; by a library that swaps weight and bias, or not."""
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
    sound("filters that are held symmetric in training", lambda: StartsRound(True), properties=TRAINED),
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


# ---- calls that differ in their last bits


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

# ---- leaks between samples


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

# ---- small smooth faults beside kinks


def lopsided(x, size):
    """A smooth fault: a picture brighter on one side."""
    return size * torch.linspace(-1, 1, x.shape[-1]).to(x) * x.sin()


def kinked(layer, size):
    return lambda x: layer(x) + lopsided(layer(x), size)


def top_pixels(x):
    """Keeps the four largest pixels of each channel."""
    flat = x.flatten(2)
    return (flat * (flat >= flat.topk(4).values[..., -1:])).view(x.shape)


def medians(x):
    return F.unfold(x, 3, padding=1).unflatten(1, (2, 9)).median(2).values.view(x.shape)


def beside(name, layer, size, source=PLANE, target=None, **options):
    return fault(name, "equivariance", the(layer), the(kinked(layer, size)), source, target, **options)


#: One corner of a window of two by two.
HEAVY = torch.tensor([[1 + 1e-4, 1], [1, 1]], dtype=DOUBLE)
TIES = [
    beside("a side brighter by a ten-thousandth behind a relu", torch.relu, 1e-4),
    beside("a side brighter by a ten-thousandth behind the largest pixels", top_pixels, 1e-4),
    beside("a side brighter by a hundred-thousandth behind a median", medians, 1e-5),
    beside(
        "a side brighter by a billionth behind a relu",
        torch.relu,
        1e-9,
        verdict="IMPRECISE",
        code="CONSTANTS_IN_SINGLE",
        dtypes=(DOUBLE,),
    ),
    beside(
        "a side brighter by a thousandth behind a maximum",
        functools.partial(F.max_pool2d, kernel_size=2),
        1e-3,
        SQUARE,
        HALF,
    ),
    fault(
        "a layer's maximum whose window is heavier at one corner",
        "equivariance",
        lambda: nn.MaxPool2d(2),
        lambda: Patched(
            nn.MaxPool2d(2),
            nn.MaxPool2d,
            "forward",
            lambda right: lambda layer, x: right(layer, x * HEAVY.to(x).repeat(4, 4)),
        ),
        SQUARE,
        HALF,
    ),
    fault(
        "a library's leaky relu whose slope grows along the rows",
        "equivariance",
        nn.LeakyReLU,
        lambda: Patched(
            nn.LeakyReLU(),
            F,
            "leaky_relu",
            lambda right: (
                lambda x, slope, inplace: torch.where(x > 0, x, x * (slope + 1e-4 * torch.arange(x.shape[-1]).to(x)))
            ),
        ),
    ),
]
SOUND_TIES = [
    sound("the largest pixels", the(top_pixels)),
    sound("a median of nine", the(medians)),
    sound("a leaky relu", nn.LeakyReLU, properties=(*BOTH, "gradcheck")),
    sound("a relu of a difference of neighbours", the(lambda x: torch.relu(x - F.max_pool2d(x, 3, 1, 1) + 0.3))),
]

# ---- arguments that are taken without a word


class Turned(nn.Module):
    """A message along an arrow, with a frame that it can leave out and a strength."""

    def forward(self, arrow, strength=None, axis=None, **rest):
        scale = 1.0 if strength is None else strength
        turned = arrow if axis is None else arrow + torch.linalg.cross(axis, arrow)
        return turned * torch.sigmoid(arrow.square().sum(-1, keepdim=True)) * scale


class Misnamed(Turned):
    """Takes an argument of another name in its open end, and a fixed axis in its place."""

    def forward(self, arrow, strength=None, director=None, **rest):
        axis = torch.tensor([[0.0, 0.0, 1.0]]).to(arrow).expand_as(arrow) if director is None else director
        return super().forward(arrow, strength, axis)


class Positional(Turned):
    """Takes its arguments in the order of an older release."""

    def forward(self, arrow, axis=None, strength=None):
        return arrow * strength.mean(-1, keepdim=True) + torch.linalg.cross(axis.expand_as(arrow), arrow)


NAMED = {"arrow": VECTOR, "strength": eh.Field(eh.Vector(), "SO3"), "axis": VECTOR}
ARGUMENTS = [
    fault(
        "an axis swallowed under another name",
        "equivariance",
        Turned,
        Misnamed,
        NAMED,
        VECTOR,
        group="SO3",
        family="points",
    ),
    fault(
        "a strength taken for the axis by position",
        "equivariance",
        Turned,
        Positional,
        (VECTOR, eh.Field(eh.Vector(), "SO3"), VECTOR),
        VECTOR,
        group="SO3",
        family="points",
    ),
    fault(
        "a partial that fixes the axis and takes no other",
        "equivariance",
        the(lambda arrow, axis: arrow + torch.linalg.cross(axis, arrow)),
        the(lambda arrow, axis: arrow + torch.linalg.cross(torch.ones(1, 3).to(arrow).expand_as(arrow), arrow)),
        {"arrow": VECTOR, "axis": VECTOR},
        VECTOR,
        group="SO3",
        family="points",
    ),
    fault(
        "a library's interpolation that adds a part of the rows above",
        "equivariance",
        lambda: nn.Upsample(scale_factor=2, mode="bilinear"),
        lambda: Patched(
            nn.Upsample(scale_factor=2, mode="bilinear"),
            F,
            "interpolate",
            lambda right: lambda x, *rest, **more: right(x, *rest, **more) + 1e-2 * right(x, scale_factor=2).cumsum(2),
        ),
        HALF,
        SQUARE,
    ),
]
SOUND_ARGUMENTS = [
    sound("arguments by their names", Turned, NAMED, VECTOR, group="SO3", family="points"),
    sound(
        "arguments in their order",
        Turned,
        (VECTOR, eh.Field(eh.Vector(), "SO3"), VECTOR),
        VECTOR,
        group="SO3",
        family="points",
    ),
    sound("an upsampling between pixels", lambda: nn.Upsample(scale_factor=2, mode="bilinear"), HALF, SQUARE),
]

FAULTS = STATISTICS + CALLS + LEAKS + TIES + ARGUMENTS
SOUND = SOUND_STATISTICS + SOUND_CALLS + SOUND_LEAKS + SOUND_TIES + SOUND_ARGUMENTS
#: Entries that the product answers otherwise, with what it says; each expectation here is right by float64 arithmetic.
OPEN = [
    (
        fault(
            "a library's maximum whose window is heavier at one corner",
            "equivariance",
            lambda: nn.MaxPool2d(2),
            lambda: Patched(
                nn.MaxPool2d(2),
                F,
                "max_pool2d",
                lambda right: lambda x, *rest, **more: right(x * HEAVY.to(x).repeat(4, 4), *rest, **more),
            ),
            SQUARE,
            HALF,
        ),
        "BROKEN(HIDDEN) in float32 and IMPRECISE(CONSTANTS_IN_SINGLE) in float64: torch hands the replaced function to its "
        "overrides whole, so that the reference applies it twice, and the difference counts as rounding.",
    ),
    (
        fault(
            "a library's batch norm by position with a weight for each row",
            "equivariance",
            norm_in_evaluation,
            lambda: Patched(
                norm_in_evaluation(),
                F,
                "batch_norm",
                lambda right: lambda x, *rest: right(x, *rest) * torch.linspace(0.99, 1.01, 7).to(x)[:, None],
            ),
        ),
        "CRASHED in float64: under torch's overrides the function is called with keywords; called alone it runs.",
    ),
]
