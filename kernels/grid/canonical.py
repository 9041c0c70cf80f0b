"""The canonical group convolution in torch: what the CUDA kernels compute, for every device and dtype.

y_o(X, g) = sum_{i,u,t} w_oi(u, t) F_i(sX + g t, g u). Turn the input by each g^-1, F'_g(z, u) = F(g z, g u); then all
elements want the same convolution, with the filters as they are, over |G| B samples; turn the results back:

    y(g X, g) = sum_{i,u,t} w(u, t) F'_g(sX + t, u).

The sums of all elements run in the order that torch's convolution has for one sample. Where that order does not depend
on the position of the sample in its batch, the results are equivariant to the last bit.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.grad import conv2d_weight, conv3d_weight

from .conv import CONV

if TYPE_CHECKING:
    from ..cuda.grid import Geometry

_WEIGHT_GRADIENT: dict[int, Callable[..., Tensor]] = {2: conv2d_weight, 3: conv3d_weight}


def forward(x: Tensor, weight: Tensor, elements: Tensor, fibre: Tensor, geometry: "Geometry", size: int) -> Tensor:
    """The convolution: [B, I, H, *N], [O, I, U, T] to [B, O, G, *out]; arguments as in `cuda.grid_operators`."""
    dim = x.dim() - 3
    bank = weight.reshape(weight.shape[0], -1, *(size,) * dim)
    y = x.new_empty((x.shape[0], weight.shape[0], len(elements), *geometry.out))
    padded = cover(x, geometry, size)
    for members in by_box(elements, geometry.out):
        turned = torch.cat([turn(padded[:, :, fibre[g].long()], elements[g]).flatten(1, 2) for g in members])
        results = CONV[dim](turned, bank, stride=geometry.stride).unflatten(0, (len(members), len(x)))
        for g, result in zip(members, results, strict=True):
            y[:, :, g] = turn(result, elements[g].T)
    return y


def weight_gradient(x: Tensor, y: Tensor, elements: Tensor, fibre: Tensor, geometry: "Geometry", size: int) -> Tensor:
    """dw_oi(u, t) = sum_{g,b,X} y_o(X, g) F_i(sX + g t, g u): [O, I, U, T]."""
    dim, fibres = x.dim() - 3, fibre.shape[1]
    shape = (y.shape[1], x.shape[1] * fibres, *(size,) * dim)
    dw = x.new_zeros(shape)
    padded = cover(x, geometry, size)
    for members in by_box(elements, geometry.out) if len(x) else ():
        turned = torch.cat([turn(padded[:, :, fibre[g].long()], elements[g]).flatten(1, 2) for g in members])
        outputs = torch.cat([turn(y[:, :, g], elements[g]) for g in members])
        dw += _WEIGHT_GRADIENT[dim](turned, shape, outputs, stride=geometry.stride)
    return dw.view(y.shape[1], x.shape[1], fibres, -1)


def cover(x: Tensor, geometry: "Geometry", size: int) -> Tensor:
    """The voxels that the windows cover, and no more: stride (out - 1) + k per axis, centred on the outputs."""
    for axis, (out, wrap) in enumerate(zip(geometry.out, geometry.wrap, strict=True), start=3):
        n = x.shape[axis]
        at = torch.arange(geometry.stride * (out - 1) + size, device=x.device) - geometry.pad
        if wrap:
            at = at.remainder(wrap)
        source = at.div(geometry.dilation, rounding_mode="floor")
        inside = (at == source * geometry.dilation) & (source >= 0) & (source < n)
        zero = x.new_zeros((*x.shape[:axis], 1, *x.shape[axis + 1 :]))
        x = torch.cat([x, zero], axis).index_select(axis, torch.where(inside, source, n))
    return x


def turn(x: Tensor, element: Tensor) -> Tensor:
    """x(M z) about the centre of the trailing axes: (M z)_i = s_i z_p(i), so axis i becomes axis p(i)."""
    dim = len(element)
    lead = x.dim() - dim
    target = element.abs().argmax(1).tolist()
    flipped = [lead + i for i, sign in enumerate(element.sum(1).tolist()) if sign < 0]
    order = [lead + target.index(a) for a in range(dim)]
    return x.flip(flipped).permute(*range(lead), *order)


def by_box(elements: Tensor, out: tuple[int, ...]) -> Iterator[list[int]]:
    """The elements that turn the box of the outputs into one shape, group by group."""
    boxes: dict[tuple[int, ...], list[int]] = {}
    for g, target in enumerate(elements.abs().argmax(2).tolist()):
        boxes.setdefault(tuple(out[target.index(a)] for a in range(len(out))), []).append(g)
    yield from boxes.values()
