"""Discretised layers whose claimed group moves pixels off the grid: sound, wrong, and beside the question.

A blind set for any rule about elements off the grid: every truth follows from how the layer is made, and was fixed,
with its seed, before a rule was run on it. Layers beside the question are right at long waves or on the grid only, for
reasons that are no design, and no rule is blamed for what it says of them.
"""

import importlib
import math
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import equiharness as eh
import numpy as np
import torch
import torch.nn.functional as F
from equiharness.harness.claim.claim import Claim


@dataclass(frozen=True)
class Pieces:
    """What a claim is made of. The function is a module in evaluation mode, in float64."""

    function: torch.nn.Module
    group: object
    source: eh.Field
    target: eh.Field


@dataclass(frozen=True)
class Layer:
    """One layer of the set.

    Args:
        name: unique.
        seed: of its weights.
        truth: "sound", "wrong" or "beside".
        kind: the family of sound layers, or the kind of mistake.
        why: what makes it sound or wrong, by construction.
        build: seed -> pieces of a claim.
        needs: the library that the layer comes from, if any.
        shows: "waves" if a wrong layer shows on plane waves, "constants" if on constant inputs.
    """

    name: str
    seed: int
    truth: str
    kind: str
    why: str
    build: Callable[[int], Pieces]
    needs: str | None = None
    shows: str = "waves"

    def pieces(self):
        """The pieces on this layer's own seed; the state of the random generators is left as it was."""
        state = np.random.get_state()
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.manual_seed(self.seed)
            np.random.seed(self.seed)
            try:
                return self.build(self.seed)
            finally:
                np.random.set_state(state)

    def claim(self, dtype=torch.float32, **options):
        """The claim of this layer, for a property to judge."""
        pieces = self.pieces()
        function = pieces.function.to(dtype)
        options = {"dtype": dtype, "seed": self.seed, "name": self.name, **options}
        return Claim(function, pieces.group, pieces.source, pieces.target, **options)


# --- modules that the layers are made of ---


class Conv(torch.nn.Module):
    """A correlation with fixed filters [outputs, inputs, k, k] or [outputs, inputs, k, k, k]."""

    def __init__(self, filters, stride=1, bias=None):
        super().__init__()
        self.stride = stride
        self.register_buffer("filters", torch.as_tensor(filters, dtype=torch.float64))
        self.register_buffer("bias", bias)

    def forward(self, x):
        convolve = {4: F.conv2d, 5: F.conv3d}[self.filters.dim()]
        return convolve(x, self.filters, self.bias, self.stride, self.filters.shape[-1] // 2)


class Apply(torch.nn.Module):
    """A function of a tensor, and of constants that follow the module's precision."""

    def __init__(self, function, **constants):
        super().__init__()
        self.function = function
        self.names = tuple(constants)
        for name, value in constants.items():
            self.register_buffer(name, torch.as_tensor(value, dtype=torch.float64))

    def forward(self, x):
        return self.function(x, *(getattr(self, name) for name in self.names))


class OfLibrary(torch.nn.Module):
    """A module of escnn or e2cnn as a function of tensors."""

    def __init__(self, nn, inner):
        super().__init__()
        self.inner = inner
        self.wrap = nn.GeometricTensor
        self.reads = inner.in_type

    def forward(self, x):
        # Some of their modules return float32 whatever they read.
        return self.inner(self.wrap(x, self.reads)).tensor.to(x.dtype)


def chain(*modules):
    return torch.nn.Sequential(*modules).double().eval()


def fields(group, reads, writes, size, function, dim=2):
    """Pieces of a layer between two fibres of this project's own; the size of its output is measured."""
    function = chain(function)
    source = eh.Field(eh.Grid(*[size] * dim), group, reads)
    return Pieces(function, group, source, written(function, source, lambda domain: eh.Field(domain, group, writes)))


def written(function, source, field):
    y = function(torch.zeros(source.tensor_shape(1), dtype=torch.float64))
    return field(eh.Vector() if y.dim() == 2 else eh.Grid(*y.shape[2:]))


# --- filters by hand: Gaussian rings times harmonics, evaluated at rotated points and never interpolated ---


def points(kernel, dim=2):
    """Coordinates [k, k, dim] of a filter's taps on array axes, from its middle."""
    axis = torch.arange(kernel, dtype=torch.float64) - (kernel - 1) / 2
    return torch.stack(torch.meshgrid(*[axis] * dim, indexing="ij"), -1)


def as_complex(p):
    return torch.complex(p[..., 0], p[..., 1])


def ring(z, radius, width):
    return torch.exp(-((z.abs() - radius) ** 2) / (2 * width**2))


def harmonic(z, m):
    """exp(i m angle), and 0 in the middle where the angle is not defined."""
    unit = torch.where(z == 0, torch.zeros_like(z), z / z.abs().clamp_min(1e-30))
    return unit**m if m > 0 else unit.conj() ** (-m) if m < 0 else torch.ones_like(z)


def random_complex():
    return complex(*torch.randn(2, dtype=torch.float64).tolist())


@dataclass(frozen=True)
class Terms:
    """A real function on the plane: the real part of a sum of c * ring * exp(i m angle)."""

    terms: tuple[tuple[int, float, float, complex], ...]

    def __call__(self, p):
        z = as_complex(p)
        return sum((c * ring(z, radius, width) * harmonic(z, m)).real for m, radius, width, c in self.terms)


def drawn(*rings):
    """Random terms of (frequencies, radius, width) each."""
    return Terms(tuple((m, r, w, random_complex()) for frequencies, r, w in rings for m in frequencies))


def lifting(group, bases, kernel, matrix=lambda g: g.matrix, base_of=lambda base, g: base):
    """Filters [fields * |G|, inputs, k, k]: element u has w(u^-1 p). ``bases``: a list of lists of functions."""
    p = points(kernel)
    rows = []
    for of_inputs in bases:
        for g in eh.group(group):
            turned = p @ torch.as_tensor(np.array(matrix(g)), dtype=torch.float64)
            rows.append(torch.stack([base_of(base, g)(turned) for base in of_inputs]))
    return torch.stack(rows)


def between_regular(group, bases, kernel, matrix=lambda g: g.matrix, index=None):
    """Filters [|G|, |G|, k, k]: from v to u, w of u^-1 v at u^-1 p; ``bases`` has one function for each element."""
    of, p = eh.group(group), points(kernel)
    index = of.mul[of.inv] if index is None else index
    rows = []
    for u, g in enumerate(of):
        turned = p @ torch.as_tensor(np.array(matrix(g)), dtype=torch.float64)
        rows.append(torch.stack([bases[index[u, v]](turned) for v in range(len(of))]))
    return torch.stack(rows)


def rotation(degrees):
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[c, -s], [s, c]])


def is_off_grid(g):
    return not g.is_signed_permutation


def between_irreps(out, into, rings, kernel, shift=0):
    """Filters from irrep(into) to irrep(out) of SO(2): A z-linear part of frequency out - into, one of out + into.

    ``rings`` are (radius, width); ``shift`` is added to the frequencies, and is 0 in a sound layer.
    """
    z = as_complex(points(kernel))
    linear = sum(random_complex() * ring(z, r, w) for r, w in rings) * harmonic(z, out - into + shift)
    mirrored = sum(random_complex() * ring(z, r, w) for r, w in rings) * harmonic(z, out + into + shift)
    if into == 0:
        return torch.stack([linear.real, linear.imag])[: 2 if out else 1, None]
    rows = [
        torch.stack([linear.real + mirrored.real, mirrored.imag - linear.imag]),
        torch.stack([linear.imag + mirrored.imag, linear.real - mirrored.real]),
    ]
    return torch.stack(rows)[: 2 if out else 1]


def gaussian(kernel, width, dim=2):
    values = torch.exp(-points(kernel, dim).square().sum(-1) / (2 * width**2))
    return values / values.sum()


def gaussian_gradient(kernel, width, dim=2):
    """Filters [dim, 1, ...] of the derivative of a Gaussian along each array axis."""
    return (points(kernel, dim) * gaussian(kernel, width, dim)[..., None]).movedim(-1, 0)[:, None]


def gaussian_hessian(kernel, width):
    """Filters [3, 1, k, k]: the Laplacian, and the part of frequency 2, of a Gaussian."""
    z, weight = as_complex(points(kernel)), gaussian(kernel, width)
    two = z**2 * weight
    return torch.stack([(z.abs() ** 2 - 2 * width**2) * weight, two.real, two.imag])[:, None]


def each(filters, count):
    """The same filter [k, k] on each of ``count`` channels."""
    wide = torch.zeros(count, count, *filters.shape, dtype=torch.float64)
    wide[range(count), range(count)] = filters
    return wide


# --- layers of the libraries ---


def space_of(library, group):
    spaces = importlib.import_module(f"{library}.gspaces")
    if group == "SO3":
        return spaces.rot3dOnR3()
    names = ("rot2dOnR2", "flipRot2dOnR2") if library == "escnn" else ("Rot2dOnR2", "FlipRot2dOnR2")
    make = getattr(spaces, names[group[0] in "DO"])
    return make(-1, maximum_frequency=6) if group in ("SO2", "O2") else make(int(group[1:]))


def representation_of(space, spec):
    """ "trivial", "regular", ("irrep", ...) or ("quotient", ...)."""
    if isinstance(spec, str):
        return getattr(space, f"{spec}_repr")
    return space.irrep(*spec[1:]) if spec[0] == "irrep" else space.quotient_repr(*spec[1:])


def type_of(nn, space, specs):
    return nn.FieldType(space, [representation_of(space, s) for s in specs])


def conv(specs, kernel, stride=1, **options):
    """A step: the library's convolution, with a random bias where it has one."""

    def step(nn, reads):
        layer = getattr(nn, "R3Conv" if reads.gspace.dimensionality == 3 else "R2Conv")
        writes = type_of(nn, reads.gspace, specs)
        return layer(reads, writes, kernel_size=kernel, padding=kernel // 2, stride=stride, **options)

    return step


def module(name, *arguments, **options):
    """A step: a module of the library by its name, on the type so far."""
    return lambda nn, reads: getattr(nn, name)(reads, *arguments, **options)


def plain(make):
    """A step outside the library: channels -> module. It is the last, or keeps the type."""
    return lambda nn, reads: make(reads.size)


def randomised(network):
    """Biases and running statistics that no initial value hides: only those that the library ties by its fields."""
    for name, value in [*network.named_parameters(), *network.named_buffers()]:
        if name.endswith("bias"):
            value.copy_(0.2 * torch.randn_like(value))
        elif name.endswith("running_var"):
            value.copy_(0.5 + torch.rand_like(value))
        elif name.endswith("running_mean"):
            value.copy_(0.2 * torch.randn_like(value))


def library(name, group, specs, *steps, size=17, change=None, writes=None):
    """A builder: a chain of steps on a library's field type, changed after its filters were expanded.

    Args:
        name: escnn or e2cnn.
        group: C8, D8, SO2, O2 or SO3.
        specs: representations of the source.
        steps: (nn, type) -> module.
        size: of the grid.
        change: a function of the list of modules, called last.
        writes: the fibre of the target, where the last step is none of the library.
    """

    def build(seed):
        nn = importlib.import_module(f"{name}.nn")
        space = space_of(name, group)
        reads = type_of(nn, space, specs)
        source = eh.Field(eh.Grid(*[size] * (3 if group == "SO3" else 2)), None, reads)
        layers = []
        for step in steps:
            layer = step(nn, reads)
            if hasattr(layer, "out_type"):
                reads = layer.out_type
                layer = OfLibrary(nn, layer)
            layers.append(layer)
        network = torch.nn.Sequential(*layers)
        randomised(network)
        network = network.double().eval()
        if change is not None:
            change(layers)
        symmetry, last = source.group, reads
        target = written(
            network,
            source,
            lambda domain: eh.Field(domain, symmetry, writes) if writes else eh.Field(domain, None, last),
        )
        return Pieces(network, symmetry, source, target)

    return build


def central(x):
    """The value at the middle pixel: [batch, channels]."""
    return x[(..., *(n // 2 for n in x.shape[2:]))]


TRIVIAL, REGULAR = "trivial", "regular"


def shown(specs):
    return " + ".join(s if isinstance(s, str) else f"{s[0]}{s[1:]}".replace(",)", ")") for s in specs)


def irrep(*label):
    return ("irrep", *label)


def quotient(*label):
    return ("quotient", *label)


# --- the lists ---

LAYERS: list[Layer] = []


def add(truth, kind, name, why, build, needs=None, shows="waves"):
    """Enter a layer; its seed follows from its name alone, so that no other entry changes it."""
    LAYERS.append(Layer(name, zlib.crc32(name.encode()) % 100_000, truth, kind, why, build, needs, shows))


def own(make):
    """A builder of a layer by hand."""
    return lambda seed: make()


# sound: convolutions of escnn


IN_SPAN = "Its filters are combinations of band-limited steerable kernels of {}, for the types that it names."

for group, reads, writes, kernel, stride, size in [
    ("C8", [TRIVIAL], [REGULAR], 5, 1, 17),
    ("C8", [TRIVIAL], [REGULAR], 3, 2, 13),
    ("C8", [REGULAR], [REGULAR], 3, 1, 9),
    ("C8", [REGULAR], [irrep(1)], 5, 1, 15),
    ("C8", [irrep(1), TRIVIAL], [REGULAR], 5, 1, 15),
    ("C8", [REGULAR], [quotient(2), TRIVIAL], 5, 2, 17),
    ("C8", [quotient(4)], [REGULAR], 7, 1, 19),
    ("C16", [TRIVIAL], [REGULAR], 5, 1, 17),
    ("C16", [REGULAR], [REGULAR], 3, 1, 9),
    ("C16", [REGULAR], [irrep(1)], 7, 1, 15),
    ("C3", [TRIVIAL], [REGULAR], 5, 1, 11),
    ("C3", [REGULAR] * 2, [irrep(1), TRIVIAL], 7, 1, 17),
    ("C5", [REGULAR], [REGULAR], 5, 1, 13),
    ("C5", [irrep(1)], [irrep(0), irrep(1)], 5, 1, 13),
    ("C6", [TRIVIAL, TRIVIAL], [REGULAR], 7, 3, 19),
    ("C12", [TRIVIAL], [REGULAR], 7, 1, 15),
    ("D8", [TRIVIAL], [REGULAR], 7, 1, 15),
    ("D8", [REGULAR], [irrep(1, 1)], 5, 1, 11),
    ("D6", [REGULAR], [REGULAR], 3, 1, 9),
    ("D3", [TRIVIAL] * 2, [REGULAR], 5, 2, 17),
    ("SO2", [irrep(0), irrep(1)], [irrep(1)], 5, 1, 17),
    ("SO2", [irrep(1), irrep(2)], [irrep(0), irrep(1)], 7, 1, 17),
    ("O2", [irrep(0, 0)], [irrep(1, 1)], 5, 1, 15),
    ("O2", [irrep(1, 1)], [irrep(1, 1), irrep(0, 0)], 7, 1, 17),
]:
    label = f"escnn {group} {shown(reads)} to {shown(writes)}, kernel {kernel}, stride {stride}"
    build = library("escnn", group, reads, conv(writes, kernel, stride), size=size)
    add("sound", "convolution of escnn", label, IN_SPAN.format("escnn"), build, "escnn")

# sound: convolutions of e2cnn

for group, reads, writes, kernel, stride, size in [
    ("C8", [TRIVIAL], [REGULAR], 5, 1, 11),
    ("C8", [REGULAR], [REGULAR], 5, 1, 13),
    ("C16", [TRIVIAL] * 2, [REGULAR], 7, 2, 17),
    ("C6", [REGULAR], [irrep(1)], 5, 1, 13),
    ("D8", [TRIVIAL], [REGULAR], 5, 1, 11),
    ("SO2", [irrep(1)], [irrep(1)], 5, 1, 15),
    ("O2", [irrep(0, 0)], [irrep(1, 1)], 7, 1, 15),
]:
    label = f"e2cnn {group} {shown(reads)} to {shown(writes)}, kernel {kernel}, stride {stride}"
    build = library("e2cnn", group, reads, conv(writes, kernel, stride), size=size)
    add("sound", "convolution of e2cnn", label, IN_SPAN.format("e2cnn"), build, "e2cnn")

# sound: filters by hand

SAMPLED = "Each filter is one smooth function sampled at rotated points; rings are as wide as the grid resolves."
WIDE = [((0, 1, 2), 2.0, 0.9)]
#: The tap in the middle and those on the border of a filter of 17 are below exp(-9) of the ring of frequency 3.
THREE = [((0, 1), 2.0, 0.9), ((1, 2, 3), 3.5, 0.8)]


def sampled(group, rings, kernel, size, inputs=1, outputs=1, stride=1, **wrong):
    def make():
        bases = [[drawn(*rings) for _ in range(inputs)] for _ in range(outputs)]
        layer = Conv(lifting(group, bases, kernel, **wrong), stride)
        return fields(group, f"{inputs}*trivial", f"{outputs}*regular", size, layer)

    return own(make)


def sampled_irreps(group, out, into, rings, kernel, size, stride=1, shift=0):
    def make():
        layer = Conv(between_irreps(out, into, rings, kernel, shift), stride)
        return fields(group, f"irrep({into})", f"irrep({out})", size, layer)

    return own(make)


def sampled_regular(group, rings, kernel, size, **wrong):
    def make():
        bases = [drawn(*rings) for _ in eh.group(group)]
        return fields(group, "regular", "regular", size, Conv(between_regular(group, bases, kernel, **wrong)))

    return own(make)


BY_HAND = [
    ("rings of frequencies 0 to 2 lifted to C8", sampled("C8", WIDE, 11, 17)),
    ("rings of frequencies 0 to 3 lifted to C8", sampled("C8", THREE, 17, 21)),
    ("rings of frequencies 0 to 3 lifted to C16", sampled("C16", THREE, 17, 19, inputs=2)),
    ("rings of frequencies 0 to 3 lifted to C5", sampled("C5", THREE, 17, 19, outputs=2)),
    ("rings of frequencies 0 to 3 lifted to D8 at stride 2", sampled("D8", THREE, 17, 21, stride=2)),
    ("rings of frequencies 0 to 2 between regular fields of C8", sampled_regular("C8", WIDE, 11, 13)),
    ("rings of frequencies 0 to 3 between regular fields of C6", sampled_regular("C6", THREE, 17, 19)),
    ("rings from scalars to vectors of SO(2)", sampled_irreps("SO2", 1, 0, [(1.5, 0.9), (3.0, 0.9)], 13, 17)),
    ("rings from vectors to vectors of SO(2)", sampled_irreps("SO2", 1, 1, [(2.0, 0.9)], 11, 15)),
    ("rings from vectors to frequency 2 of SO(2)", sampled_irreps("SO2", 2, 1, [(3.5, 0.8)], 17, 19)),
    ("rings from frequency 2 to scalars of SO(2) at stride 2", sampled_irreps("SO2", 0, 2, [(3.5, 0.8)], 17, 21, 2)),
]
for name, build in BY_HAND:
    add("sound", "filters by hand", name, SAMPLED, build)


def solid(m, kernel, width, size):
    """From scalars to frequency m: z^m times a Gaussian, a polynomial of the coordinates with no kink in the middle."""

    def make():
        z = as_complex(points(kernel))
        filters = z**m * gaussian(kernel, width)
        return fields("SO2", "trivial", f"irrep({m})", size, Conv(torch.stack([filters.real, filters.imag])[:, None]))

    return own(make)


for m, kernel, width in ((2, 15, 1.2), (3, 17, 1.2)):
    add(
        "sound",
        "filters by hand",
        f"z^{m} times a Gaussian, to frequency {m} of SO(2)",
        "A harmonic polynomial times a Gaussian, which the grid resolves and the kernel holds.",
        solid(m, kernel, width, 19),
    )


def gradient(group="SO2", kernel=9, width=1.2, size=15):
    return fields(group, "trivial", "standard", size, Conv(gaussian_gradient(kernel, width)))


def hessian():
    return fields("SO2", "trivial", "trivial + irrep(2)", 19, Conv(gaussian_hessian(17, 1.3)))


def divergence():
    return fields("O2", "standard", "trivial", 15, Conv(gaussian_gradient(9, 1.1).transpose(0, 1)))


def structure_tensor():
    """Trace and frequency 2 of the blurred outer product of the gradient with itself."""

    def outer(v):
        r, c = v[:, :1], v[:, 1:]
        return torch.cat([r * r + c * c, r * r - c * c, 2 * r * c], 1)

    blur = Conv(each(gaussian(9, 1.2), 3))
    return fields(
        "SO2", "trivial", "trivial + irrep(2)", 21, chain(Conv(30 * gaussian_gradient(9, 1.0)), Apply(outer), blur)
    )


def blur(group, fibre, width, kernel, size, stride=1):
    return lambda: fields(
        group,
        fibre,
        fibre,
        size,
        Conv(each(gaussian(kernel, width), eh.Field(eh.Vector(), group, fibre).fibre.size), stride),
    )


DERIVED = "The Gaussian's derivatives form this representation exactly, and the grid resolves the Gaussian."
for name, make, why in [
    ("gradient of a Gaussian under SO(2)", gradient, DERIVED),
    ("second derivatives of a Gaussian under SO(2)", hessian, DERIVED),
    ("divergence of a smoothed vector field under O(2)", divergence, DERIVED),
    ("structure tensor under SO(2)", structure_tensor, "Products of a gradient with itself have frequencies 0 and 2."),
    (
        "blur of a vector field under SO(2)",
        blur("SO2", "irrep(1)", 1.0, 9, 15),
        "One round filter for every component.",
    ),
    ("blur of a regular field of C16 at stride 2", blur("C16", "regular", 1.3, 9, 17, 2), "One round filter for all."),
    ("blur of scalars under O(2)", blur("O2", "2*trivial", 1.6, 13, 17), "A round filter, which the grid resolves."),
]:
    add("sound", "Gaussians and derivatives", name, why, own(make))


# sound: nonlinearities at a point

AT_A_POINT = "It acts at each point alone and commutes with the matrices of its fibre."
for name, group, reads, steps, needs in [
    (
        "norm nonlinearity of frequencies 1 and 2",
        "SO2",
        [irrep(1), irrep(2)],
        [module("NormNonLinearity", "n_relu")],
        "escnn",
    ),
    ("squashed norms", "C16", [irrep(1), irrep(3)], [module("NormNonLinearity", "squash", bias=False)], "escnn"),
    ("gates of vectors", "SO2", [irrep(0), irrep(1)], [module("GatedNonLinearity1")], "escnn"),
    ("ELU of regular fields", "C16", [REGULAR] * 2, [module("ELU")], "escnn"),
    ("ReLU of quotient fields", "C8", [REGULAR, quotient(2)], [module("ReLU")], "escnn"),
    ("group pooling", "D8", [REGULAR] * 2, [module("GroupPooling")], "escnn"),
    ("norm pooling", "C5", [irrep(1), irrep(2)], [module("NormPool")], "escnn"),
    ("batch norm of norms", "SO2", [irrep(1), irrep(2)], [module("NormBatchNorm")], "escnn"),
    ("batch norm of regular fields of e2cnn", "C8", [REGULAR] * 2, [module("InnerBatchNorm")], "e2cnn"),
]:
    add("sound", "nonlinearity at a point", name, AT_A_POINT, library(needs, group, reads, *steps, size=11), needs)


def squares_of_vectors():
    """A complex number and its square: vector in, trivial + irrep(2) out."""
    return fields(
        "SO2",
        "irrep(1)",
        "trivial + irrep(2)",
        9,
        Apply(lambda v: torch.cat([(v * v).sum(1, True), (v[:, :1] ** 2 - v[:, 1:] ** 2), 2 * v[:, :1] * v[:, 1:]], 1)),
    )


def softmax_of_elements():
    return fields("C6", "regular", "regular", 9, Apply(lambda x: x * torch.softmax(2 * x, 1)))


add(
    "sound",
    "nonlinearity at a point",
    "squares of vectors",
    "z^2 has frequency 2 where z has 1.",
    own(squares_of_vectors),
)
add(
    "sound",
    "nonlinearity at a point",
    "softmax over elements",
    "It is the same for any order.",
    own(softmax_of_elements),
)


# sound: pools and upsampling


def upsampled(mode, group, fibre):
    """To 2n - 1 points, corners on corners, and a blur, so that the middle sees new points too."""

    def function(x):
        return F.interpolate(x, size=2 * x.shape[-1] - 1, mode=mode, align_corners=True)

    def make():
        count = eh.Field(eh.Vector(), group, fibre).fibre.size
        return fields(group, fibre, fibre, 9, chain(Apply(function), Conv(each(gaussian(7, 0.9), count))))

    return own(make)


CHANNELS_ALONE = "The same weights on every channel, round to second order, so that only short waves see the grid."
for name, build, needs in [
    (
        "escnn, average pool of 3",
        library("escnn", "C16", [REGULAR], module("PointwiseAvgPool", 3, 1, 1), size=11),
        "escnn",
    ),
    (
        "escnn, antialiased average pool at stride 2",
        library("escnn", "C8", [REGULAR, irrep(1)], module("PointwiseAvgPoolAntialiased", 0.8, 2), size=17),
        "escnn",
    ),
    (
        "e2cnn, antialiased average pool",
        library("e2cnn", "D8", [REGULAR], module("PointwiseAvgPoolAntialiased", 0.66, 1), size=15),
        "e2cnn",
    ),
    (
        "average pool of 5 at stride 2 of vectors",
        own(lambda: fields("SO2", "irrep(1)", "irrep(1)", 17, Apply(lambda x: F.avg_pool2d(x, 5, 2, 2)))),
        None,
    ),
    ("bilinear upsampling and blur of regular fields", upsampled("bilinear", "C8", "regular"), None),
    ("bicubic upsampling and blur of vectors", upsampled("bicubic", "SO2", "irrep(1)"), None),
]:
    add("sound", "pool or upsampling", name, CHANNELS_ALONE, build, needs)


# sound: networks and heads

ALL_SOUND = "Every layer of it is sound, and so is what follows from them."
NETWORKS = [
    ("two layers with ReLU", "C8", [TRIVIAL], [conv([REGULAR] * 2, 5), module("ReLU"), conv([REGULAR], 5)], 21),
    (
        "lifting, ELU and a stride",
        "C16",
        [TRIVIAL],
        [conv([REGULAR], 5), module("ELU"), conv([REGULAR], 3, 2)],
        17,
    ),
    (
        "gated vectors",
        "SO2",
        [irrep(0)],
        [conv([irrep(0), irrep(1)], 5), module("GatedNonLinearity1", drop_gates=True), conv([irrep(1)], 5)],
        21,
    ),
    (
        "batch norm between two layers",
        "D6",
        [TRIVIAL],
        [conv([REGULAR], 5), module("InnerBatchNorm"), module("ELU"), conv([irrep(1, 1), irrep(0, 0)], 5)],
        19,
    ),
    (
        "antialiased pool between two layers",
        "C6",
        [TRIVIAL],
        [conv([REGULAR], 5), module("ELU"), module("PointwiseAvgPoolAntialiased", 0.66, 2), conv([REGULAR], 3)],
        25,
    ),
]
for name, group, reads, steps, size in NETWORKS:
    add("sound", "network", f"network: {name}", ALL_SOUND, library("escnn", group, reads, *steps, size=size), "escnn")

for name, group, steps, size, writes in [
    (
        "group pooling at the middle pixel",
        "C8",
        [conv([REGULAR] * 2, 5), module("ELU"), module("GroupPooling"), plain(lambda n: Apply(central))],
        13,
        "2*trivial",
    ),
    (
        "norms at the middle pixel",
        "SO2",
        [conv([irrep(1), irrep(1)], 5), module("NormPool"), plain(lambda n: Apply(central))],
        9,
        "2*trivial",
    ),
]:
    build = library("escnn", group, [TRIVIAL], *steps, size=size, writes=writes)
    add("sound", "invariant head", f"head: {name}", "An invariant of a sound field, read where it is.", build, "escnn")


# sound: in space


def gradient_in_space():
    return fields("SO3", "trivial", "standard", 9, Conv(gaussian_gradient(7, 1.0, 3)), 3)


def curl_in_space():
    d = gaussian_gradient(7, 1.0, 3)[:, 0]
    filters = torch.zeros(3, 3, 7, 7, 7, dtype=torch.float64)
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        filters[i, k], filters[i, j] = d[j], -d[k]
    return fields("SO3", "standard", "standard", 9, Conv(filters), 3)


SPACE = [
    ("R3Conv from scalars to vectors", [irrep(0)], [conv([irrep(1)], 5)], 7),
    ("R3Conv from vectors to scalars and vectors", [irrep(1)], [conv([irrep(0), irrep(1)], 5)], 7),
    (
        "R3Conv and norms",
        [irrep(0)],
        [conv([irrep(1), irrep(1)], 5), module("NormNonLinearity", "n_relu", bias=False)],
        7,
    ),
]
for name, reads, steps, size in SPACE:
    add("sound", "in space", name, IN_SPAN.format("escnn"), library("escnn", "SO3", reads, *steps, size=size), "escnn")
add("sound", "in space", "gradient of a Gaussian in space", DERIVED, own(gradient_in_space))
add("sound", "in space", "curl of a smoothed vector field", DERIVED, own(curl_in_space))


# --- wrong ---

LOW = [((0, 1, 2), 1.5, 0.8)]


def by_quarters(g):
    """The element's rotation, its angle rounded down to quarter turns: filters that were never rotated by less."""
    t = math.degrees(math.atan2(g.matrix[1, 0], g.matrix[0, 0])) % 360
    return rotation(90 * math.floor(t / 90 + 1e-6))


def leaning(degrees):
    """Off the grid, rotated by this much more."""
    return lambda g: g.matrix @ rotation(degrees) if is_off_grid(g) else g.matrix


def coset(g):
    """The angle within a quarter turn: elements with the same one differ by a symmetry of the grid."""
    return round(math.degrees(math.atan2(g.matrix[1, 0], g.matrix[0, 0])) % 90, 6) % 90


def unrelated(keeps_sum):
    """For every coset of the grid's symmetries that is off the grid, a function of its own.

    With ``keeps_sum`` the round part stays that of the first, so that constants do not tell them apart.
    """
    others = {}

    def other(base):
        new = drawn(*LOW)
        kept = tuple(t for t in base.terms if t[0] == 0)
        return Terms(kept + tuple(t for t in new.terms if t[0] != 0)) if keeps_sum else new

    def base_of(base, g):
        return others.setdefault((base, coset(g)), other(base)) if is_off_grid(g) else base

    return base_of


def wrong_lift(kind, name, why, group, kernel, size, rings=LOW, **wrong):
    add("wrong", kind, name, why, sampled(group, rings, kernel, size, **wrong))


for group, kernel, size, stride in (("C8", 5, 13, 1), ("C16", 7, 17, 1), ("C8", 7, 17, 2)):
    wrong_lift(
        "never rotated",
        f"{group} lifting by quarter turns alone, kernel {kernel}, stride {stride}",
        "Filters of the elements between are those of the quarter turn before them.",
        group,
        kernel,
        size,
        matrix=by_quarters,
        stride=stride,
    )
for group, kernel, size in (("C6", 5, 11), ("C3", 7, 13)):
    wrong_lift(
        "never rotated",
        f"one filter for every element of {group}",
        "All elements have the same filter.",
        group,
        kernel,
        size,
        matrix=lambda g: np.eye(2),
    )


def unrelated_lift(group, kernel, size, inputs, stride, keeps_sum):
    def make():
        bases = [[drawn(*LOW) for _ in range(inputs)]]
        filters = lifting(group, bases, kernel, base_of=unrelated(keeps_sum))
        return fields(group, f"{inputs}*trivial", "regular", size, Conv(filters, stride))

    return own(make)


for group, kernel, size, inputs, stride, keeps_sum in (
    ("C8", 5, 11, 1, 1, True),
    ("C16", 5, 13, 2, 1, False),
    ("C5", 7, 15, 1, 1, False),
    ("C8", 7, 17, 1, 2, True),
):
    add(
        "wrong",
        "unrelated filters",
        f"unrelated filters off the grid, {group}, kernel {kernel}, {inputs} inputs, stride {stride}",
        "Filters of elements off the grid are random and have nothing to do with the first.",
        unrelated_lift(group, kernel, size, inputs, stride, keeps_sum),
    )

for group, degrees, kernel, size in (
    ("C8", 6, 7, 15),
    ("C8", -9, 7, 13),
    ("C16", 7, 9, 17),
    ("C16", 12, 7, 13),
    ("C6", 10, 7, 13),
    ("D8", 15, 7, 13),
    ("C5", 20, 7, 15),
):
    wrong_lift(
        "wrong angle",
        f"{group} filters rotated by {degrees} degrees too much, kernel {kernel}",
        "Filters of elements off the grid are rotated by the wrong angle.",
        group,
        kernel,
        size,
        matrix=leaning(degrees),
    )


def reordered(order):
    """Filters [outputs, ...] with the elements of each field in another order."""
    return lambda filters: filters.unflatten(0, (-1, len(order)))[:, order].flatten(0, 1)


def changed_lift(group, change, kernel=7, size=13, rings=LOW, outputs=1):
    def make():
        filters = lifting(group, [[drawn(*rings)] for _ in range(outputs)], kernel)
        return fields(group, "trivial", f"{outputs}*regular", size, Conv(change(filters)))

    return own(make)


for name, group, order in (
    ("odd elements of C8 half a turn further", "C8", [0, 5, 2, 7, 4, 1, 6, 3]),
    ("neighbours of C16 changed places", "C16", [0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15]),
    ("two elements of C5 changed places", "C5", [0, 2, 1, 3, 4]),
):
    build = changed_lift(group, reordered(order))
    add("wrong", "wrong order", name, "Its filters are right, and stand in the wrong order.", build)

for name, group, kernel in (("C8", "C8", 5), ("C16", "C16", 7), ("C6", "C6", 7), ("C3", "C3", 5)):
    wrong_lift(
        "mirrored",
        f"filters off the grid mirrored, {name}, kernel {kernel}",
        "Filters of elements off the grid are mirrored before they are rotated.",
        group,
        kernel,
        13,
        matrix=lambda g: g.matrix @ np.diag([1.0, -1.0]) if is_off_grid(g) else g.matrix,
    )
for group in ("C5", "C12"):
    wrong_lift(
        "inverse",
        f"filters off the grid rotated the other way, {group}",
        "Filters of elements off the grid are rotated by the inverse element.",
        group,
        7,
        15,
        matrix=lambda g: g.matrix.T if is_off_grid(g) else g.matrix,
    )


def last_field(spoil):
    """The last of the fields is spoilt."""

    def change(filters, order=8):
        wrong = filters.clone()
        wrong[-order:] = spoil(wrong[-order:])
        return wrong

    return change


def odd_times(factor):
    def spoil(filters):
        factors = torch.ones(len(filters), dtype=torch.float64)
        factors[1::2] = factor
        return filters * factors.reshape(-1, *[1] * (filters.dim() - 1))

    return spoil


for name, outputs, spoil in (
    ("of 4 has its neighbours in each other's place", 4, lambda w: w[[1, 0, 3, 2, 5, 4, 7, 6]]),
    ("of 8 has its odd elements times 0.8", 8, odd_times(0.8)),
    ("of 6 has odd filters of the even ones", 6, lambda w: w[[0, 0, 2, 2, 4, 4, 6, 6]]),
    (
        "of 12 has filters transposed at odd elements",
        12,
        lambda w: torch.where((torch.arange(8) % 2 == 1)[:, None, None, None], w.mT, w),
    ),
):
    build = changed_lift("C8", last_field(spoil), 5, 11, outputs=outputs)
    add("wrong", "one field of many", f"one field {name}", "All fields of C8 are right but the last.", build)

for group, factor, kernel in (("C8", 1.01, 5), ("C16", 0.9, 7), ("C6", 1.3, 7), ("C12", 1.002, 7)):
    build = changed_lift(group, odd_times(factor), kernel, 15)
    add(
        "wrong",
        "wrong amplitude",
        f"odd elements of {group} times {factor}",
        f"Filters at odd steps are {factor} times what they should be, which constants show too.",
        build,
        shows="constants",
    )


def dilated(factor):
    return lambda g: g.matrix * (factor if is_off_grid(g) else 1.0)


for group, factor in (("C8", 1.25), ("C16", 0.75), ("C5", 1.4)):
    wrong_lift(
        "wrong scale",
        f"filters off the grid of {group} shrunk by {factor}",
        "Filters of elements off the grid are sampled at another scale.",
        group,
        9,
        15,
        matrix=dilated(factor),
    )


def plain_conv(group, reads, writes, kernel, size, stride=1, dim=2):
    def make():
        channels = [eh.Field(eh.Vector(), group, fibre).fibre.size for fibre in (reads, writes)]
        layer = (torch.nn.Conv2d if dim == 2 else torch.nn.Conv3d)(*channels, kernel, stride, kernel // 2, bias=False)
        return fields(group, reads, writes, size, layer, dim)

    return own(make)


for group, reads, writes, kernel, size, stride in (
    ("C8", "2*trivial", "3*trivial", 3, 9, 1),
    ("C8", "trivial", "regular", 5, 13, 1),
    ("SO2", "irrep(1)", "irrep(1)", 3, 11, 1),
    ("O2", "2*trivial", "2*trivial", 5, 17, 2),
    ("C5", "regular", "trivial", 3, 9, 1),
):
    add(
        "wrong",
        "plain convolution",
        f"Conv2d claimed for {group}, {reads} to {writes}, kernel {kernel}",
        "Its weights are random and are tied by nothing.",
        plain_conv(group, reads, writes, kernel, size, stride),
    )

for library_name, group, writes, kernel in (
    ("escnn", "SO2", [irrep(4)], 3),
    ("escnn", "C16", [REGULAR], 3),
    ("escnn", "SO2", [irrep(4), irrep(5)], 5),
    ("e2cnn", "C16", [REGULAR], 3),
):
    add(
        "wrong",
        "missing band limit",
        f"{library_name} without a band limit, {group} to {shown(writes)}, kernel {kernel}",
        "Frequencies above what the kernel resolves alias to lower ones, so that constants leak.",
        library(library_name, group, [TRIVIAL], conv(writes, kernel, frequencies_cutoff=lambda r: 20), size=11),
        library_name,
        shows="constants",
    )

BY_COMPONENT = "It treats components of a vector as if they were separate scalars."


def pointwise(function, fibre="irrep(1)", group="SO2", size=9, **constants):
    return own(lambda: fields(group, fibre, fibre, size, Apply(function, **constants)))


for name, build in (
    ("ReLU of vectors under SO(2)", pointwise(torch.relu)),
    ("tanh of the components of two vectors under C16", pointwise(torch.tanh, "2*irrep(1)", "C16")),
    ("sigmoid gates of each component under O(2)", pointwise(lambda v: v * torch.sigmoid(v), "standard", "O2")),
    ("softplus of frequency 2 under SO(2)", pointwise(F.softplus, "irrep(2)")),
):
    add("wrong", "nonlinearity of components", name, BY_COMPONENT, build)

for name, build in (
    ("a bias on vectors", pointwise(lambda v, b: v + b[:, None, None], bias=[0.2, -0.1])),
    (
        "a bias on every element of a regular field of C8",
        pointwise(lambda v, b: v + b[:, None, None], "regular", "C8", bias=np.linspace(0, 0.3, 8)),
    ),
    (
        "a bias on frequency 2",
        pointwise(lambda v, b: v + b[:, None, None], "trivial + irrep(2)", bias=[0.4, 0.0, 0.004]),
    ),
):
    add("wrong", "bias", name, "The bias is no invariant vector of the fibre.", build, shows="constants")

for name, out, into, shift, rings, kernel in (
    ("minus 3 for 1 from scalars", 1, 0, -4, [(2.5, 0.9)], 11),
    ("minus 2 for 2 from scalars", 2, 0, -4, [(2.0, 0.8)], 9),
    ("0 for 1 from vectors to frequency 2", 2, 1, -1, [(2.5, 0.9)], 11),
    ("2 for 1 from scalars", 1, 0, 1, [(2.0, 0.8)], 9),
):
    add(
        "wrong",
        "wrong frequency",
        f"filters of frequency {name}",
        "The filters turn with another frequency than their fields.",
        sampled_irreps("SO2", out, into, rings, kernel, 15, shift=shift),
    )

for name, build in (
    ("magnitudes of components in place of the norm", pointwise(lambda v: v / (1 + v.abs()))),
    (
        "components over two norms that differ",
        pointwise(lambda v: v * torch.sigmoid(v.square() - 0.5), "2*irrep(1)", "C16"),
    ),
    ("the norm of one component for both", pointwise(lambda v: v / (1 + v[:, :1].abs()), "irrep(2)")),
):
    add(
        "wrong", "norm of components", name, "Each component is scaled by a number that is no norm of the field.", build
    )


def batch_norm(fibre, group, count):
    def make():
        norm = torch.nn.BatchNorm2d(count)
        norm.running_var.copy_(0.4 + 1.5 * torch.rand(count))
        return fields(group, fibre, fibre, 9, norm)

    return own(make)


for name, fibre, group, count in (
    ("of a vector field", "irrep(1)", "SO2", 2),
    ("of a regular field of C8", "regular", "C8", 8),
    ("of two vectors under D8", "2*standard", "D8", 4),
):
    add("wrong", "batch norm of components", f"batch norm {name}", BY_COMPONENT, batch_norm(fibre, group, count))

for name, build in (
    (
        "maximum over copies in place of elements",
        own(lambda: fields("C8", "2*regular", "4*trivial", 9, Apply(lambda x: x.unflatten(1, (4, 4)).amax(2)))),
    ),
    (
        "the larger component of a vector",
        own(lambda: fields("SO2", "irrep(1)", "trivial", 9, Apply(lambda v: v.amax(1, True)))),
    ),
    (
        "the sum of a vector's magnitudes",
        own(lambda: fields("SO2", "2*irrep(1)", "2*trivial", 9, Apply(lambda v: v.abs().unflatten(1, (2, 2)).sum(2)))),
    ),
):
    add("wrong", "pool by component", name, "What it reads of the components is no invariant.", build)


def one_wrong_layer(group, *modules, reads="trivial", writes="regular", size=17):
    return own(lambda: fields(group, reads, writes, size, chain(*(make() for make in modules))))


def lift_module(group, kernel, **wrong):
    return lambda: Conv(lifting(group, [[drawn(*LOW)]], kernel, **wrong))


def mix_module(group, kernel, **wrong):
    return lambda: Conv(between_regular(group, [drawn(*LOW) for _ in eh.group(group)], kernel, **wrong))


def elu():
    return torch.nn.ELU()


def wrong_table(group):
    """u v in place of u^-1 v."""
    return eh.group(group).mul


for name, build, needs in (
    (
        "the second layer of C8 by quarter turns",
        one_wrong_layer("C8", lift_module("C8", 9), elu, mix_module("C8", 5, matrix=by_quarters)),
        None,
    ),
    (
        "the first layer of C8 off by 15 degrees",
        one_wrong_layer("C8", lift_module("C8", 5, matrix=leaning(15)), elu, mix_module("C8", 9)),
        None,
    ),
    (
        "the second layer of C6 with the wrong table",
        one_wrong_layer("C6", lift_module("C6", 9), elu, mix_module("C6", 9, index=wrong_table("C6")), size=21),
        None,
    ),
    (
        "escnn, a ReLU on vectors between two convolutions",
        library(
            "escnn",
            "SO2",
            [irrep(1)],
            conv([irrep(1)] * 3, 5),
            plain(lambda n: torch.nn.ReLU()),
            conv([irrep(1)], 5),
            size=17,
        ),
        "escnn",
    ),
    (
        "escnn, a plain convolution in the middle",
        library(
            "escnn",
            "C8",
            [TRIVIAL],
            conv([REGULAR], 5),
            module("ELU"),
            plain(lambda n: torch.nn.Conv2d(n, n, 3, padding=1)),
            size=17,
        ),
        "escnn",
    ),
    (
        "escnn, batch norm of channels after a lifting",
        library(
            "escnn",
            "C16",
            [TRIVIAL],
            conv([REGULAR], 7),
            plain(lambda n: torch.nn.BatchNorm2d(n)),
            module("ReLU"),
            size=15,
        ),
        "escnn",
    ),
):
    add(
        "wrong",
        "network with one wrong layer",
        f"network: {name}",
        "One layer is wrong, and the others are sound.",
        build,
        needs,
    )


def patched(spoil):
    """The last convolution's filters changed where the library holds them."""

    def change(layers):
        filters = layers[-1].inner.filter
        filters.copy_(spoil(filters.clone()))

    return change


def odd_unrotated(filters):
    filters[1::2] = filters[::2]
    return filters


def odd_rolled(filters):
    """Every second element's filters, those of the next odd one."""
    wrong = filters.clone()
    wrong[1::2] = filters[1::2].roll(1, 0)
    return wrong


def odd_unrotated_rows(filters):
    """Between regular fields: from v to u the filter from v - 1 to u - 1, not rotated, for odd u."""
    filters[1::2] = filters[::2].roll(1, 1)
    return filters


for name, group, reads, writes, kernel, spoil, shows in (
    ("odd elements unrotated", "C8", [TRIVIAL], [REGULAR], 5, odd_unrotated, "waves"),
    ("odd elements moved on by two", "C16", [TRIVIAL], [REGULAR], 5, odd_rolled, "waves"),
    ("odd elements unrotated between regular fields", "C8", [REGULAR], [REGULAR], 7, odd_unrotated_rows, "waves"),
    ("odd elements times 1.15", "C8", [TRIVIAL], [REGULAR], 7, odd_times(1.15), "constants"),
    ("components of a vector swapped", "SO2", [irrep(0)], [irrep(1)], 5, lambda w: w.flip(0), "waves"),
):
    add(
        "wrong",
        "patched layer",
        f"escnn patched: {name}",
        "The filters were changed after the library had expanded them.",
        library("escnn", group, reads, conv(writes, kernel), size=13, change=patched(spoil)),
        "escnn",
        shows,
    )


def cyclic_gradient():
    return fields("SO3", "trivial", "irrep(1)", 9, Conv(gaussian_gradient(7, 1.0, 3)), 3)


for name, build, needs, why in (
    (
        "a gradient on array axes claimed as irrep(1)",
        own(cyclic_gradient),
        None,
        "irrep(1) has its axes in another order than the array.",
    ),
    (
        "R3Conv of frequency 2 with its orders reversed",
        library("escnn", "SO3", [irrep(0)], conv([irrep(2)], 5), size=7, change=patched(lambda w: w.flip(0))),
        "escnn",
        "The components of frequency 2 stand in another order than their representation.",
    ),
    (
        "ReLU of vectors in space",
        own(lambda: fields("SO3", "standard", "standard", 5, Apply(torch.relu), 3)),
        None,
        BY_COMPONENT,
    ),
    (
        "Conv3d claimed for SO(3)",
        plain_conv("SO3", "trivial", "standard", 3, 7, dim=3),
        None,
        "Its weights are random and are tied by nothing.",
    ),
):
    add("wrong", "in space", name, why, build, needs)


# --- beside the question ---

PLUS = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]], dtype=torch.float64)


def symmetric(kernel):
    w = torch.randn(kernel, kernel, dtype=torch.float64)
    return sum(torch.rot90(w, t) for t in range(4)) / 4


ON_GRID = "It has the grid's symmetry and no more; long waves see only moments that four directions make round."
for name, group, make in (
    ("Laplacian of five points, SO(2)", "SO2", lambda: Conv(PLUS[None, None])),
    ("plus-shaped mean, C8", "C8", lambda: Conv((PLUS.abs() / 8)[None, None])),
    ("random filter with four rotations, C8", "C8", lambda: Conv(symmetric(5)[None, None])),
    ("random filter with four rotations, C16", "C16", lambda: Conv(symmetric(3)[None, None])),
    ("random filter with four rotations, SO(2)", "SO2", lambda: Conv(symmetric(7)[None, None])),
    ("max pool of 3, C8", "C8", lambda: Apply(lambda x: F.max_pool2d(x, 3, 1, 1))),
    ("max pool of 3, C16", "C16", lambda: Apply(lambda x: F.max_pool2d(x, 3, 2, 1))),
    ("max pool of 5, SO(2)", "SO2", lambda: Apply(lambda x: F.max_pool2d(x, 5, 1, 2))),
):
    add(
        "beside",
        "symmetric on the grid",
        f"beside: {name}",
        ON_GRID,
        own(lambda g=group, m=make: fields(g, "trivial", "trivial", 17, m())),
    )


STAYS = "Rotated and sampled as it should be, and a small part stays wrong at long waves: {}."
CUT = STAYS.format("rings that the kernel's square cuts off leak a first moment")
for name, build, needs, why in (
    (
        "cut rings of frequencies 0 to 3, C8",
        sampled("C8", [((0, 1), 1.5, 0.9), ((1, 2, 3), 3.0, 0.9)], 13, 17),
        None,
        CUT,
    ),
    ("narrow rings of frequencies 0 to 3, C16", sampled("C16", [((0, 1, 2, 3), 1.5, 0.6)], 7, 11), None, CUT),
    ("cut rings from scalars to frequency 3", sampled_irreps("SO2", 3, 0, [(3.5, 1.0)], 17, 21), None, CUT),
    (
        "escnn 3x3, scalars to frequency 2",
        library("escnn", "SO2", [irrep(0)], conv([irrep(2)], 3), size=9),
        "escnn",
        STAYS.format("nine taps make two different filters of the two components"),
    ),
    (
        "escnn of 7 from scalars to regular fields of C8",
        library("escnn", "C8", [TRIVIAL] * 3, conv([REGULAR] * 2, 7), size=21),
        "escnn",
        STAYS.format("its rings of frequency 3 leak a first moment"),
    ),
):
    add("beside", "a part that stays", f"beside: {name}", why, build, needs)
