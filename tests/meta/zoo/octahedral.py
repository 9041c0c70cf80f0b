"""Faults of the project's layers of O and O_h: axes, order of elements, missing inversions, windows, gradients."""

import equiharness as eh
import torch
import torch.nn.functional as F
from equiharness.harness.claim.claim import Claim
from equiharness.kernels import GlobalPool, GroupBatchNorm, GroupConv, GroupPool, LiftingConv, VectorProjection

from . import Fault
from .gradients import Backward

BOX = (4, 4, 4)


def field(fibre, group="O", box=BOX):
    return eh.Field(eh.Grid(*box) if box else eh.Vector(), group, fibre, split=True)


def pair(make, source, target):
    """(dtype, seed) -> claims of the two functions that ``make`` gives for a precision."""

    def claims(dtype, seed):
        torch.manual_seed(seed)
        return tuple(Claim(f, source.group, source, target, dtype=dtype, seed=seed) for f in make(dtype))

    return claims


def lifted(change, **options):
    """A sound lifting of O, and the same one with its output changed."""

    def make(dtype):
        layer = LiftingConv("O", 1, 1, 3, padding=1, dtype=dtype, **options)
        return (lambda x: layer(x)), (lambda x: change(layer(x)))

    return pair(make, field("trivial"), field("regular"))


def exchanged(y):
    """Two elements of the group in each other's place."""
    order = torch.arange(y.shape[2])
    order[[5, 6]] = order[[6, 5]]
    return y[:, :, order]


def one_tap(dtype):
    layer = GroupConv("O", 1, 1, 3, padding=1, dtype=dtype)
    filters = layer.filter_bank().detach()
    wrong = filters.clone()
    wrong[7, 11, 0, 1, 2] *= 1.01
    return tuple(lambda x, w=w: F.conv3d(x.flatten(1, 2), w, padding=1).unflatten(1, (1, 24)) for w in (filters, wrong))


def transposed_elements(dtype):
    """Rows and columns of the inverse elements: weights of g h^-1 where those of g^-1 h belong."""
    layer = GroupConv("O", 1, 1, 1, dtype=dtype)
    filters, inverse = layer.filter_bank().detach(), eh.Group(layer.group.elements).inv
    pair_of_banks = (filters, filters[inverse][:, inverse])
    return tuple(lambda x, w=w: F.conv3d(x.flatten(1, 2), w).unflatten(1, (1, 24)) for w in pair_of_banks)


def one_side_padded(dtype):
    layer = LiftingConv("O", 1, 1, 3, dtype=dtype)
    return (lambda x: layer(F.pad(x, (1,) * 6))), (lambda x: layer(F.pad(x, (1, 1, 1, 1, 2, 0))))


def not_inverted(dtype):
    """A layer of the rotations, claimed for rotations and inversions."""
    pools = [GroupPool(name, "mean") for name in ("Oh", "O")]
    layers = [LiftingConv(name, 1, 1, 3, padding=1, dtype=dtype) for name in ("Oh", "O")]
    return (lambda x: pools[0](layers[0](x))), (lambda x: pools[1](torch.relu(layers[1](x)) ** 2))


def half_a_pool(dtype):
    pool = GroupPool("O", "mean")
    return (lambda x: pool(x)), (lambda x: x[:, :, :12].mean(2))


def maximum_of_the_first(dtype):
    pool = GroupPool("O", "max")
    return (lambda x: pool(x)), (lambda x: torch.maximum(x[:, :, 0], x[:, :, 1]))


def one_axis_negated(dtype):
    layer = VectorProjection("O", 1, 1, 3, padding=1, dtype=dtype)
    sign = torch.tensor([1.0, 1.0, -1.0], dtype=dtype).reshape(3, 1, 1, 1)
    return (lambda x: layer(x)), (lambda x: layer(x) * sign)


def axes_of_vectors_swapped(dtype):
    """Components in the order (x, y, z) where the axes are (z, y, x)."""
    layer = VectorProjection("O", 1, 1, 3, padding=1, dtype=dtype)
    return (lambda x: layer(x)), (lambda x: layer(x).flip(2))


def statistics_of_each_element(dtype):
    """A batch norm of 24 channels where one of a single field belongs."""
    norm = GroupBatchNorm("O", 1, dtype=dtype).eval()
    plain = torch.nn.BatchNorm3d(24).to(dtype).eval()
    torch.nn.init.uniform_(plain.running_var, 0.5, 1.5)
    return (lambda x: norm(x)), (lambda x: plain(x.flatten(1, 2)).unflatten(1, (1, 24)))


def window(dtype):
    """A global mean that forgets the last slice."""
    pool = GlobalPool("O", "mean")
    return (lambda x: pool(x)), (lambda x: x[..., :-1].mean((-1, -2, -3, -4)))


def halved_tap(grad):
    grad = grad.clone()
    grad[3, 0, 0, 1, 1] *= 0.5
    return grad


class Filters(torch.nn.Module):
    """A lifting whose expanded filters have their gradients changed."""

    def __init__(self, dtype, change):
        super().__init__()
        self.layer, self.change = LiftingConv("O", 1, 1, 3, padding=1, dtype=dtype), change

    def forward(self, x):
        filters = Backward.apply(self.layer.filter_bank(), self.change)
        return F.conv3d(x, filters, padding=1).unflatten(1, (1, 24))


def filters_gradient(dtype, seed):
    made = []
    for change in (lambda grad: grad, halved_tap):
        torch.manual_seed(seed)
        layer = Filters(dtype, change)
        made.append(Claim(layer, "O", field("trivial"), field("regular"), dtype=dtype, seed=seed))
    return tuple(made)


def input_gradient(dtype):
    layer = LiftingConv("O", 1, 1, 3, padding=1, dtype=dtype)
    return (lambda x: layer(x)), (lambda x: layer(Backward.apply(x, lambda grad: grad.roll(1, -3))))


def fault(name, claims, prop="equivariance", **options):
    return Fault(f"{name} in space", "octahedral", "ours", prop, claims, **{"dtypes": (torch.float32,), **options})


REGULAR = field("regular")
FAULTS = [
    fault("depth and width swapped", lifted(lambda y: y.transpose(-1, -3))),
    fault("two elements exchanged", lifted(exchanged)),
    fault("one voxel off", lifted(lambda y: y.roll(1, -3))),
    fault("depth reversed", lifted(lambda y: y.flip(-3))),
    fault("one slice scaled", lifted(lambda y: y * torch.tensor([1, 1, 1, 1 + 1e-4]).to(y)[:, None, None])),
    fault("one tap", pair(one_tap, REGULAR, REGULAR)),
    fault("filters of inverse elements", pair(transposed_elements, REGULAR, REGULAR)),
    fault("padding on one side", pair(one_side_padded, field("trivial"), REGULAR)),
    fault("half of the group pooled", pair(half_a_pool, REGULAR, field("trivial"))),
    fault("maximum over two elements", pair(maximum_of_the_first, REGULAR, field("trivial"))),
    fault("one axis of a vector negated", pair(one_axis_negated, REGULAR, field("standard"))),
    fault("axes of a vector reversed", pair(axes_of_vectors_swapped, REGULAR, field("standard"))),
    fault("statistics of each element", pair(statistics_of_each_element, REGULAR, REGULAR)),
    fault("a mean without its last slice", pair(window, REGULAR, field("trivial", box=()))),
    fault("an integral without its last slice", pair(window, REGULAR, field("trivial", box=())), "integration"),
    fault("weight gradient of one tap halved", filters_gradient, "parameter_gradient"),
    fault("input gradient shifted", pair(input_gradient, field("trivial"), REGULAR), "adjoint"),
]
