"""Functions and modules of torch, e3nn, escnn and e2cnn, replaced by slightly wrong ones while a layer runs."""

import equiharness as eh
import torch
import torch.nn.functional as F
from e3nn import nn as enn
from e3nn import o3
from escnn import nn as snn
from escnn.nn.modules import linear as linear_module
from torch import nn

from .strangers import DOUBLE, PLANE, SINGLE, TWO, VECTOR, Wrapped, fault, replaced, sound
from .strangers_potentials import ATOMS, OUTPUT, N, Potential, morse
from .strangers_types import (
    FIELDS,
    HARMONIC,
    OLDER,
    OLDER_SPACE,
    REGULAR,
    VECTOR_TO_HARMONICS,
    harmonics,
    irreps,
    linear,
    module,
    older,
    on,
)


def patched(name, make, owner, attribute, wrong, source=PLANE, target=None, caught="equivariance", **options):
    return fault(name, caught, make, replaced(make, owner, attribute, wrong), source, target, **options)


def of(function):
    return lambda: Wrapped(function)


def along_rows(size):
    """What the function returns, heavier along the columns."""
    return lambda right: lambda x, *rest, **more: _tilted(right(x, *rest, **more), size)


def _tilted(y, size):
    return y * torch.linspace(1 - size, 1 + size, y.shape[-1]).to(y)


def one_pixel_late(right):
    return lambda x, *rest, **more: right(x, *rest, **more).roll(1, -1)


# ---- torch

KERNEL = torch.tensor([[1.0, 2, 1], [2, 5, 2], [1, 2, 1]], dtype=DOUBLE)
LARGER = eh.Field(eh.Grid(9, 9), "C4", "2*trivial")
DOUBLED = eh.Field(eh.Grid(15, 15), "C4", "2*trivial")


def spread(x):
    return F.conv_transpose2d(x, KERNEL.to(x).expand(2, 1, 3, 3), stride=2, groups=2)


def zoomed(x):
    place = torch.linspace(-0.8, 0.8, 7, dtype=DOUBLE).to(x)
    grid = torch.stack(torch.meshgrid(place, place, indexing="xy"), -1).expand(x.shape[0], 7, 7, 2)
    return F.grid_sample(x, grid, align_corners=True)


def low_pass(x):
    k = torch.fft.fftfreq(7).square().to(x)
    return torch.fft.ifft2(torch.fft.fft2(x) / (1 + 20 * (k[:, None] + k))).real


def last_row_left_out(right):
    return lambda x, size: right(x[:, :, :-1], size)


def each_row_by_itself(right):
    return lambda layer, x: (x - x.mean(3, keepdim=True)) / (x.var(3, unbiased=False, keepdim=True) + 1e-5).sqrt()


def rows_for_columns(right):
    return lambda x, grid, **more: right(x, grid.flip(-1), **more)


def one_axis_alone(right):
    return lambda x: torch.fft.fft(x, dim=-1)


def padded_on_one_side(right):
    return lambda x, pad, *rest, **more: right(x, (2, 0, 1, 1), "replicate")


TORCH = [
    patched("two columns padded at left", lambda: nn.ReplicationPad2d(1), F, "pad", padded_on_one_side, PLANE, LARGER),
    patched(
        "a mean of a picture without its last row",
        of(lambda x: x - F.adaptive_avg_pool2d(x, 1)),
        F,
        "adaptive_avg_pool2d",
        last_row_left_out,
    ),
    patched("a norm of each row by itself", lambda: nn.GroupNorm(1, 2), nn.GroupNorm, "forward", each_row_by_itself),
    patched(
        "a transposed convolution one pixel late", of(spread), F, "conv_transpose2d", one_pixel_late, PLANE, DOUBLED
    ),
    patched(
        "a sampler of pictures that takes rows for columns",
        of(zoomed),
        F,
        "grid_sample",
        rows_for_columns,
        dtypes=(DOUBLE,),  # strangers_found has it in float32
    ),
    patched("a Fourier transform along one axis where two are undone", of(low_pass), torch.fft, "fft2", one_axis_alone),
    patched("a hyperbolic tangent that is steeper at the right", lambda: nn.Tanh(), torch, "tanh", along_rows(1e-3)),
    patched("a softplus that is steeper at the right", lambda: nn.Softplus(), F, "softplus", along_rows(1e-3)),
]

# ---- points


def gathered(pos):
    return torch.exp(-torch.cdist(pos, pos).square()).sum((1, 2))


def by_blocks(right):
    """The distance of streets in place of the straight one."""
    return lambda a, b: right(a, b, p=1.0)


def fractional(pos, cell):
    parts = (pos[:, :, None] - pos[:, None]) @ torch.linalg.inv(cell)[:, None]
    return torch.cos(2 * torch.pi * parts).sum((1, 2, 3))


def alike(x):
    u, v = x.split(3, -1)
    return u * F.cosine_similarity(u, v, dim=-1)[..., None]


def over_the_points(right):
    return lambda u, v, dim: right(u, v, dim=1)[:, None, 0].expand(u.shape[:-1])


def uphill(right):
    return lambda *args, **options: tuple(-found for found in right(*args, **options))


POINTS = [
    patched(
        "distances of streets between points",
        of(gathered),
        torch,
        "cdist",
        by_blocks,
        ATOMS,
        eh.Energy(),
        "rotations",
        group="O3",
        family="points",
    ),
    patched(
        "an inverse of a cell that is transposed",
        of(lambda pos, cell: fractional(pos, cell)),
        torch.linalg,
        "inv",
        lambda right: lambda cell: right(cell).mT,
        (eh.Positions(N, "O3"), eh.Cell("O3")),
        eh.Energy(),
        "rotations",
        group="O3",
        family="points",
    ),
    patched(
        "a likeness of vectors that is summed over the points",
        of(alike),
        F,
        "cosine_similarity",
        over_the_points,
        eh.Field(eh.Points(4), "SO3", "2*standard"),
        eh.Field(eh.Points(4), "SO3", "standard"),
        family="points",
    ),
    patched(
        "forces that point uphill",
        lambda: Potential(morse),
        torch.autograd,
        "grad",
        uphill,
        ATOMS,
        OUTPUT,
        "forces",
        group="O3",
        family="points",
        code="GRADIENT",
        dtypes=(DOUBLE,),
    ),
]

# ---- e3nn

E3NN = {"family": "points", "layer": "e3nn"}
PARITIES = irreps("2x0e+2x0o")


def activation():
    return enn.Activation("2x0e+2x0o", [F.silu, torch.tanh])


def elementwise():
    return Twice(o3.ElementwiseTensorProduct("2x1o", "2x1o", ["0e"]))


class Twice(nn.Module):
    """A product of a tensor with itself turned round."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x, x.unflatten(-1, (2, 3)).flip(-2).flatten(-2))


def extract():
    return enn.Extract("1x0e+1x1o+1x0e", ["1x1o"], [(1,)], squeeze_out=True)


def by_largest(right):
    return lambda x, dim: x / x.abs().amax(dim, keepdim=True)


OF_E3NN = [
    patched(
        "e3nn: lengths as sums of absolute components",
        lambda: o3.Norm("2x1o"),
        o3.Norm,
        "forward",
        lambda right: lambda layer, x: x.unflatten(-1, (2, 3)).abs().sum(-1),
        irreps("2x1o"),
        irreps("2x0e"),
        **E3NN,
    ),
    patched(
        "e3nn: an even function of odd scalars",
        activation,
        enn.Activation,
        "forward",
        lambda right: lambda layer, x: F.silu(x),
        PARITIES,
        **E3NN,
    ),
    patched(
        "e3nn: a linear layer with a bias for every component",
        lambda: o3.Linear("2x0e+2x1o", "2x0e+2x1o"),
        o3.Linear,
        "forward",
        lambda right: lambda layer, x: right(layer, x) + 0.01,
        FIELDS,
        **E3NN,
    ),
    patched(
        "e3nn: products of components in the wrong order",
        elementwise,
        o3.ElementwiseTensorProduct,
        "forward",
        lambda right: lambda layer, x, y: right(layer, x, y.unflatten(-1, (2, 3)).flip(-1).flatten(-2)),
        irreps("2x1o"),
        irreps("2x0e"),
        **E3NN,
    ),
    patched(
        "e3nn: a part of a tensor taken one place late",
        extract,
        enn.Extract,
        "forward",
        lambda right: lambda layer, x: right(layer, x.roll(1, -1)),
        irreps("1x0e+1x1o+1x0e"),
        irreps("1x1o"),
        **E3NN,
    ),
    patched(
        "e3nn: harmonics of vectors normalised by their largest component",
        harmonics,
        F,
        "normalize",
        by_largest,
        *VECTOR_TO_HARMONICS,
        **E3NN,
    ),
]

# ---- escnn and e2cnn

OLDER_PAIRS = older.FieldType(OLDER_SPACE, [OLDER_SPACE.irrep(1)] * 2)
OLDER_SCALARS = older.FieldType(OLDER_SPACE, [OLDER_SPACE.trivial_repr] * 2)


def typed_after(change):
    """A module's output with its tensor changed."""

    def wrong(right):
        def forward(layer, x):
            y = right(layer, x)
            return type(y)(change(y.tensor), layer.out_type)

        return forward

    return wrong


def one_channel(y):
    return y * (1 + 0.01 * (torch.arange(y.shape[1]) == 1)).to(y)[:, None, None]


def half_of_the_group(right):
    return lambda layer, x: type(x)(x.tensor.unflatten(1, (2, 4))[:, :, ::2].amax(2), layer.out_type)


def older_norm():
    return older.InnerBatchNorm(OLDER).eval()


def escnn(name, make, owner, wrong, kind, target=None, attribute="forward", layer="escnn", **options):
    ends = on(kind), None if target is None else on(target)
    return patched(f"{layer}: {name}", module(make), owner, attribute, wrong, *ends, **{"layer": layer, **options})


def e2cnn(*args, **options):
    return escnn(*args, layer="e2cnn", **options)


OF_ESCNN = [
    escnn(
        "a maximum of pixels one column late",
        lambda: snn.PointwiseMaxPool2D(REGULAR, 3, 1, 1),
        snn.PointwiseMaxPool2D,
        typed_after(lambda y: y.roll(1, -1)),
        REGULAR,
    ),
    escnn("an elu with a slope of one channel", lambda: snn.ELU(REGULAR), snn.ELU, typed_after(one_channel), REGULAR),
    escnn(
        "a mean of pixels one column late",
        lambda: snn.PointwiseAvgPool2D(REGULAR, 3, 1, 1),
        snn.PointwiseAvgPool2D,
        typed_after(lambda y: y.roll(1, -1)),
        REGULAR,
    ),
    escnn(
        "a linear layer with a bias for every degree",
        linear,
        linear_module,
        lambda right: lambda x, w, bias=None: right(x, w, bias) + 0.01,
        HARMONIC,
        attribute="linear",
        family="points",
        dtypes=(SINGLE,),
    ),
    e2cnn(
        "a pool over every second element",
        lambda: older.GroupPooling(OLDER),
        older.GroupPooling,
        half_of_the_group,
        OLDER,
        OLDER_SCALARS,
    ),
    e2cnn("a norm with a weight of one channel", older_norm, older.InnerBatchNorm, typed_after(one_channel), OLDER),
    e2cnn(
        "a relu of components",
        lambda: older.NormNonLinearity(OLDER_PAIRS, "n_relu"),
        older.NormNonLinearity,
        lambda right: lambda layer, x: type(x)(x.tensor.relu(), layer.out_type),
        OLDER_PAIRS,
    ),
    e2cnn(
        "a maximum of pixels one column late",
        lambda: older.PointwiseMaxPool(OLDER, 3, 1, 1),
        older.PointwiseMaxPool,
        typed_after(lambda y: y.roll(1, -1)),
        OLDER,
    ),
]
FAULTS = TORCH + POINTS + OF_E3NN + OF_ESCNN
SOUND = [
    sound("a sampler of pictures about their centre", of(zoomed), properties=("equivariance", "adjoint", "batch")),
    sound("a filter in Fourier space", of(low_pass), properties=("equivariance", "adjoint", "gradcheck")),
    sound("a transposed convolution of a round kernel", of(spread), PLANE, DOUBLED),
    sound("likenesses of vectors", of(alike), TWO, VECTOR, family="points"),
    sound("e3nn: an activation of both parities", activation, PARITIES, family="points"),
    sound("e3nn: a part of a tensor", extract, irreps("1x0e+1x1o+1x0e"), irreps("1x1o"), family="points"),
    sound("escnn: a mean of pixels", module(lambda: snn.PointwiseAvgPool2D(REGULAR, 3, 1, 1)), on(REGULAR)),
    sound(
        "escnn: e2cnn's norms of vectors",
        module(lambda: older.NormNonLinearity(OLDER_PAIRS, "n_relu")),
        on(OLDER_PAIRS),
    ),
]
