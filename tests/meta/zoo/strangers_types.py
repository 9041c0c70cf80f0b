"""Modules of e3nn, escnn and e2cnn by their own types; most faults are patched into them."""

import equiharness as eh
import torch
import torch.nn.functional as F
from e2cnn import gspaces as older_spaces
from e2cnn import nn as older
from e3nn import nn as enn
from e3nn import o3
from escnn import gspaces
from escnn import nn as snn
from escnn.group import so3_group
from escnn.nn.modules import rdupsampling
from torch import nn

from .strangers import (
    DOUBLE,
    SINGLE,
    edited,
    fault,
    replaced,
    sound,
)

BOTH = ("equivariance", "adjoint")


def irreps(text):
    return eh.Field(eh.Vector(), "O3", o3.Irreps(text))


def buffer_named(layer, end):
    return next(b for name, b in layer.named_buffers() if name.endswith(end))


def product(outputs="1x1o+1x2e"):
    """A product whose coefficients are computed in float64."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(DOUBLE)
    try:
        return Square(o3.FullyConnectedTensorProduct("1x1o+1x2e", "1x1o+1x2e", outputs))
    finally:
        torch.set_default_dtype(before)


def product_with_silence():
    """The cross product of a vector with itself is zero."""
    return product("1x1o+1x2e+1x1e")


class Square(nn.Module):
    """A product of a tensor with itself, of weights in the module."""

    def __init__(self, product):
        super().__init__()
        self.product = product

    def forward(self, x):
        return self.product(x, 1.5 * x)


def coefficients_rolled(layer):
    table = buffer_named(layer, "_w3j_1_2_1")
    table.copy_(table.roll(1, 0))


def coefficients_in_single(layer):
    """Coefficients that were stored in float32."""
    table = buffer_named(layer, "_w3j_2_2_2")
    table.copy_(table.float().to(table) * (1 + 3e-8 * torch.linspace(-1, 1, 25).view(5, 5, 1).to(table)))


def gate():
    return enn.Gate("2x0e", [torch.nn.functional.silu], "2x0e", [torch.sigmoid], "2x1o")


def gates_by_component(right):
    """Multiplies the flat vectors by gates repeated in the wrong order: g h g h g h in place of g g g h h h."""
    return lambda layer, features: _gated(features, lambda gates: gates.repeat(1, 3))


def _gated(features, spread):
    scalars, gates, gated = features.split((2, 2, 6), -1)
    return torch.cat([F.silu(scalars), spread(torch.sigmoid(gates)) * gated], -1)


def harmonics():
    return o3.SphericalHarmonics([0, 1, 2], normalize=True, normalization="component")


def negated_component(layer):
    right = layer.sph_func
    signs = torch.tensor([1, 1, 1, 1, 1, -1, 1, 1, 1])
    layer.sph_func = lambda *x: right(*x) * signs.to(x[-1])


def normalised_by_detached(right):
    return lambda x, dim: x / torch.linalg.vector_norm(x, dim=dim, keepdim=True).detach()


def batch_norm():
    made = enn.BatchNorm("2x0e+2x1o").eval()
    nn.init.uniform_(made.running_var, 0.5, 1.5)
    nn.init.normal_(made.running_mean)
    return made


def means_of_vectors(right):
    """Subtracts a mean from vectors too."""
    return lambda layer, x: right(layer, x - 0.01)


def drops_components(right):
    return lambda layer, x: x * (torch.rand(x.shape) > layer.p).to(x) / (1 - layer.p)


def norm_activation():
    return enn.NormActivation(o3.Irreps("1x0e+2x1o"), torch.tanh, normalize=True, bias=True)


def bias_of_components(right):
    return lambda layer, x: right(layer, x) + 0.01 * torch.arange(x.shape[-1]).to(x)


VECTOR_TO_HARMONICS = (irreps("1o"), irreps("0e+1o+2e"))
PATHS = (irreps("1x1o+1x2e"), None)
SILENT = (irreps("1x1o+1x2e"), irreps("1x1o+1x2e+1x1e"))
GATED = (irreps("2x0e+2x0e+2x1o"), irreps("2x0e+2x1o"))
FIELDS = irreps("2x0e+2x1o")
NORMED = irreps("1x0e+2x1o")
E3NN = {"family": "points", "layer": "e3nn"}


def of_e3nn(name, make, broken, fields, caught="equivariance", **options):
    source, target = fields if isinstance(fields, tuple) else (fields, None)
    return fault(f"e3nn: {name}", caught, make, broken, source, target, **{**E3NN, **options})


def dropout():
    return enn.Dropout("2x0e+2x1o", 0.4)


E3NN_TYPES = [
    of_e3nn("coefficients of one path with an axis rolled", product, edited(product, coefficients_rolled), PATHS),
    of_e3nn(
        "coefficients of one path kept in float32",
        product,
        edited(product, coefficients_in_single),
        PATHS,
        verdict="IMPRECISE",
        code="CONSTANTS_IN_SINGLE",
        dtypes=(DOUBLE,),
    ),
    of_e3nn("gates in the order of components", gate, replaced(gate, enn.Gate, "forward", gates_by_component), GATED),
    of_e3nn(
        "one harmonic negated by another convention",
        harmonics,
        edited(harmonics, negated_component),
        VECTOR_TO_HARMONICS,
    ),
    of_e3nn(
        "harmonics whose gradient treats the length as constant",
        harmonics,
        replaced(harmonics, F, "normalize", normalised_by_detached),
        VECTOR_TO_HARMONICS,
        "gradcheck",
        code="GRADIENT",
    ),
    of_e3nn(
        "a batch norm that takes a mean from vectors",
        batch_norm,
        replaced(batch_norm, enn.BatchNorm, "forward", means_of_vectors),
        FIELDS,
    ),
    of_e3nn(
        "a dropout of components",
        dropout,
        replaced(dropout, enn.Dropout, "forward", drops_components),
        FIELDS,
        call_seed=3,
    ),
    of_e3nn(
        "an activation of norms with a bias for components",
        norm_activation,
        replaced(norm_activation, enn.NormActivation, "forward", bias_of_components),
        NORMED,
    ),
]
SOUND_E3NN = [
    sound("e3nn: a product of a tensor with itself", product, *PATHS, family="points"),
    sound("e3nn: a product of which one degree is silent", product_with_silence, *SILENT, family="points"),
    sound("e3nn: a gate of two gates", gate, *GATED, (*BOTH, "gradcheck"), family="points"),
    sound("e3nn: harmonics by component", harmonics, *VECTOR_TO_HARMONICS, (*BOTH, "gradcheck"), family="points"),
    sound("e3nn: a batch norm in evaluation", batch_norm, FIELDS, None, (*BOTH, "batch"), family="points"),
    sound("e3nn: a dropout from the call's seed", dropout, FIELDS, call_seed=3, family="points"),
    sound("e3nn: an activation of norms with bias", norm_activation, NORMED, family="points"),
]


QUARTER, MIRRORED, TURNS = gspaces.rot2dOnR2(4), gspaces.flipRot2dOnR2(4), gspaces.no_base_space(so3_group(2))


class Steerable(nn.Module):
    """A module of escnn or e2cnn on tensors."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        typed = older.GeometricTensor if type(self.layer).__module__.startswith("e2cnn") else snn.GeometricTensor
        return self.layer(typed(x, self.layer.in_type)).tensor


def on(kind, size=5):
    """A field of a type of escnn or e2cnn on a small picture, or without a base space."""
    return eh.Field(eh.Grid(size, size) if kind.gspace.dimensionality else eh.Vector(), None, kind)


def typed(space, *representations):
    return snn.FieldType(space, list(representations))


REGULAR = typed(QUARTER, *[QUARTER.regular_repr] * 2)
SCALARS = typed(QUARTER, *[QUARTER.trivial_repr] * 2)
VECTORS = typed(MIRRORED, *[MIRRORED.irrep(1, 1)] * 2)
HARMONIC = typed(TURNS, *[TURNS.irrep(d) for d in (0, 1, 2)])
OLDER_SPACE = older_spaces.Rot2dOnR2(4)
OLDER = older.FieldType(OLDER_SPACE, [OLDER_SPACE.regular_repr] * 2)


def module(make):
    return lambda: Steerable(make())


def antialiased():
    return snn.PointwiseAvgPoolAntialiased2D(REGULAR, sigma=0.66, stride=1)


def filter_moved(layer):
    layer.layer.filter.copy_(layer.layer.filter.roll(1, -1))


def norms():
    made = snn.NormNonLinearity(VECTORS, "n_sigmoid", bias=True)
    nn.init.normal_(made.log_bias)
    return made


def relu_of_components(right):
    return lambda layer, x: snn.GeometricTensor(torch.relu(x.tensor), layer.out_type)


def group_pool():
    return snn.GroupPooling(REGULAR)


def pool_over_the_fields(right):
    """Takes maxima over channels that lie apart, in place of those that lie together."""
    return lambda layer, x: snn.GeometricTensor(x.tensor.unflatten(1, (4, 2)).amax(1), layer.out_type)


def inner_norm():
    made = snn.InnerBatchNorm(REGULAR).eval()
    for name, values in made.named_buffers():
        if name.endswith("running_var"):
            nn.init.uniform_(values, 0.5, 1.5)
    return made


def weight_of_channels(right):
    def wrong(layer, x):
        y = right(layer, x)
        return snn.GeometricTensor(y.tensor * torch.linspace(0.99, 1.01, 8).to(y.tensor)[:, None, None], layer.out_type)

    return wrong


def linear():
    return snn.Linear(HARMONIC, HARMONIC)


def one_block_scaled(layer):
    """A basis whose second degree has one row scaled by a hundredth."""
    table = next(b for name, b in layer.named_buffers() if "irrep_2" in name and name.endswith("sampled_basis"))
    table[:, 2] *= 1.01


def upsampling():
    return snn.R2Upsampling(SCALARS, scale_factor=2, align_corners=False)


def shifted_by_a_pixel(right):
    return lambda x, *rest, **more: right(x, *rest, **more).roll(1, -1)


def older_elu():
    return older.ELU(OLDER)


def elu_of_rows(right):
    return lambda x, *rest, **more: right(x, *rest, **more) * torch.linspace(1, 1.01, x.shape[2]).to(x)[:, None]


def older_pool():
    return older.PointwiseAvgPool(OLDER, kernel_size=3, stride=1, padding=1)


def one_sided(right):
    return lambda x, *rest, **more: right(x, *rest, **more) + 1e-3 * x.cumsum(-1)


def of_library(name, make, broken, source, target=None, layer="escnn", **options):
    family = "points" if isinstance(source.domain, eh.Vector) else "planar"
    return fault(
        f"{layer}: {name}", "equivariance", make, broken, source, target, layer=layer, family=family, **options
    )


ESCNN_TYPES = [
    of_library(
        "a smoothing whose filter lies off centre",
        module(antialiased),
        edited(module(antialiased), filter_moved),
        on(REGULAR),
    ),
    of_library(
        "a relu of the components of vectors where norms are meant",
        module(norms),
        replaced(module(norms), snn.NormNonLinearity, "forward", relu_of_components),
        on(VECTORS),
    ),
    of_library(
        "a pool over fields in place of the group",
        module(group_pool),
        replaced(module(group_pool), snn.GroupPooling, "forward", pool_over_the_fields),
        on(REGULAR),
        on(SCALARS),
    ),
    of_library(
        "a norm with a weight for each channel of a field",
        module(inner_norm),
        replaced(module(inner_norm), snn.InnerBatchNorm, "forward", weight_of_channels),
        on(REGULAR),
    ),
    of_library(
        "a basis with one row of a degree scaled",
        module(linear),
        edited(module(linear), one_block_scaled),
        on(HARMONIC),
    ),
    of_library(
        "an upsampling that lands a pixel late",
        module(upsampling),
        replaced(module(upsampling), rdupsampling, "interpolate", shifted_by_a_pixel),
        on(SCALARS),
        on(SCALARS, 10),
    ),
    of_library(
        "an elu that is steeper along the rows",
        module(older_elu),
        replaced(module(older_elu), F, "elu", elu_of_rows),
        on(OLDER),
        layer="e2cnn",
    ),
    of_library(
        "a mean that adds a part of the columns before",
        module(older_pool),
        replaced(module(older_pool), F, "avg_pool2d", one_sided),
        on(OLDER),
        layer="e2cnn",
    ),
]
SOUND_ESCNN = [
    sound("escnn: a smoothing against aliases", module(antialiased), on(REGULAR)),
    sound("escnn: norms of vectors with reflections", module(norms), on(VECTORS)),
    sound("escnn: a pool over the group", module(group_pool), on(REGULAR), on(SCALARS)),
    sound(
        "escnn: a linear layer of SO(3) without a base space",
        module(linear),
        on(HARMONIC),
        dtypes=(SINGLE,),
        family="points",
    ),
    sound("escnn: an upsampling of scalars", module(upsampling), on(SCALARS), on(SCALARS, 10)),
    sound(
        "escnn: vectors of regular fields",
        module(lambda: snn.VectorFieldNonLinearity(REGULAR)),
        on(REGULAR),
        on(snn.VectorFieldNonLinearity(REGULAR).out_type),
        dtypes=(SINGLE,),
    ),
    sound("escnn: e2cnn's elu", module(older_elu), on(OLDER)),
    sound("escnn: e2cnn's mean", module(older_pool), on(OLDER)),
]

FAULTS = E3NN_TYPES + ESCNN_TYPES
SOUND = SOUND_E3NN + SOUND_ESCNN
