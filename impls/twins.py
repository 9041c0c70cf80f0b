"""Pairs of implementations of one operator: a layer and its formula, or our layer and that of another library.

A steerable convolution of escnn or e2cnn between trivial and regular fields is a lifting or regular convolution with
filters from a basis. With B the linear map from the library's weights theta to its expanded filter F,

    ours from theirs    w[o, i, u, t] = F[(o, e), (i, u), t],  F = B theta
    theirs from ours    theta = B^+ F,  F[(o, g), (i, h), t] = w[o, i, g^-1 h, g^-1 t]

with elements matched by their matrices. The second map exists if the basis spans every equivariant filter.
"""

from __future__ import annotations

import copy
import functools
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .. import kernels
from ..harness.adapters.adapter import Case
from ..harness.claim.claim import Claim, Twin
from ..harness.errors import UsageError

Builder = Callable[[], Twin]
Parameters = Mapping[str, Tensor]

#: Largest relative error of a filter that a basis spans: about 1e-7 for a basis sampled in float32. For a filter that
#: the basis does not span, the error is the share of the missing directions.
SPANS = 1e-4


def of_layer(layer: nn.Module) -> tuple[Builder, ...]:
    """The pairs of one of the project's grid layers: its formula and, for a separable layer, the regular layer."""
    pairs: list[Builder] = []
    if hasattr(layer, "backend"):
        pairs.append(functools.partial(formula, layer))
    if isinstance(layer, kernels.SeparableGroupConv):
        pairs.append(functools.partial(factorised, layer))
    return tuple(pairs)


def formula(layer: Any) -> Twin:
    """The layer's fast path, and its definition as a sum over taps."""
    brute = copy.deepcopy(layer)
    brute.backend = "reference"

    def fast(theta: Parameters, x: Tensor) -> Any:
        return _call(layer, theta, x)

    def by_hand(theta: Parameters, x: Tensor) -> Any:
        return _call(brute, theta, x)

    return Twin("fast path and brute force", fast, by_hand, dict(layer.named_parameters()))


def factorised(layer: Any) -> Twin:
    """A separable layer and the regular layer with the product of its factors as weight."""
    kinds = {
        kernels.SeparableGroupConv: (kernels.GroupConv, ("padding_mode",)),
        kernels.TransposedSeparableGroupConv: (kernels.TransposedGroupConv, ("output_padding",)),
        kernels.RelaxedSeparableGroupConv: (kernels.RelaxedGroupConv, ("padding_mode", "banks")),
    }
    kind, options = kinds[type(layer)]
    regular = kind(
        layer.group,
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,
        stride=layer.stride,
        padding=layer.padding,
        bias=layer.bias is not None,
        allow_misaligned=layer.allow_misaligned,
        **{name: getattr(layer, name) for name in options},
    ).to(layer.group_weight)

    def separable(theta: Parameters, x: Tensor) -> Any:
        return _call(layer, theta, x)

    def product(theta: Parameters, x: Tensor) -> Any:
        weight = _call(layer, theta, compute=lambda m: m.factorised_weight())
        shared = {name: theta[name] for name in ("bias", "relaxation") if name in theta}
        return _call(regular, {"weight": weight, **shared}, x)

    return Twin("separable and factorised regular", separable, product, dict(layer.named_parameters()))


def on_the_grid(layer: Any) -> Twin:
    """A steerable layer of a group of the grid, and the layer that permutes the taps of its filter.

    Elements are matched by their matrices, because the two layers may list them in different orders.
    """
    kind = kernels.GroupConv if layer.in_fibre else kernels.LiftingConv
    other = kind(
        layer.group.elements,
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,
        stride=layer.stride,
        padding=layer.padding,
        padding_mode=layer.padding_mode,
        bias=layer.bias is not None,
        allow_misaligned=layer.allow_misaligned,
    ).to(layer.weight)

    def sampled(theta: Parameters, x: Tensor) -> Any:
        return _call(layer, theta, x)

    def permuted(theta: Parameters, x: Tensor) -> Any:
        bias = {"bias": theta["bias"]} if "bias" in theta else {}
        return _call(other, {"weight": _call(layer, theta, compute=lambda m: m.filter()), **bias}, x)

    return Twin("sampled and permuted filters", sampled, permuted, dict(layer.named_parameters()))


@dataclass(frozen=True)
class Steerable:
    """A convolution of another library between trivial or regular fields, with the data for the mapping.

    Attributes:
        name: name of the library's layer.
        module: the library's layer in training mode, with ``weights``, ``basisexpansion`` and ``bias_expansion``.
        on_tensors: (module, x) -> y on plain tensors, channel = field * size + component.
        order: for each element of ours, the library's index of the element with the same matrix.
        ours: the project's LiftingConv or GroupConv of the same geometry; only its shapes are used.
    """

    name: str
    module: Any
    on_tensors: Callable[[Any, Tensor], Tensor]
    order: Sequence[int]
    ours: Any

    @property
    def lifting(self) -> bool:
        """Whether the input fields are trivial."""
        return isinstance(self.ours, kernels.LiftingConv)

    @functools.cached_property
    def back(self) -> list[int]:
        """For each index of the library, our index of the same element."""
        return [list(self.order).index(k) for k in range(len(self.order))]

    def spans(self) -> bool:
        """Whether the library's basis can express all our weights."""
        with torch.no_grad():
            generator = torch.Generator().manual_seed(0)
            weight = torch.randn(self.ours.weight.shape, generator=generator, dtype=torch.float64)
            filters = self._their_order(weight).flatten().double()
            missed = filters - self._basis @ (self._inverse @ filters)
        return float(missed.norm() / filters.norm()) < SPANS

    def ours_from_theirs(self) -> Twin:
        """The pair whose shared parameters are the library's."""

        def mapped(theta: Parameters, x: Tensor) -> Any:
            fields = self._our_order(self._expanded(theta["weights"]))
            weights = {"weight": fields[:, 0, :, 0] if self.lifting else fields[:, 0]}
            if "bias" in theta:
                expansion = self.module.bias_expansion.to(theta["bias"].dtype)
                weights["bias"] = (expansion @ theta["bias"])[:: len(self.order)]
            return self._ours(weights, x)

        theta = dict(self.module.named_parameters())
        return Twin(f"{self.name} and ours on its weights", self._theirs, mapped, theta)

    def theirs_from_ours(self) -> Twin:
        """The pair whose shared parameters are ours.

        Raises:
            UsageError: the library's basis does not span every filter.
        """
        if not self.spans():
            raise UsageError(f"{self.name} cannot express every filter of our layer: raise its frequencies_cutoff.")

        def mapped(theta: Parameters, x: Tensor) -> Any:
            filters = self._their_order(theta["weight"]).flatten()
            weights = {"weights": self._solved(filters.double()).to(filters.dtype)}
            if "bias" in theta:
                expansion = self.module.bias_expansion.to(theta["bias"].dtype)
                weights["bias"] = torch.linalg.pinv(expansion) @ theta["bias"].repeat_interleave(len(self.order))
            return self._theirs(weights, x)

        return Twin(f"ours and {self.name} on our weights", self._ours, mapped, dict(self.ours.named_parameters()))

    def _theirs(self, theta: Parameters, x: Tensor) -> Any:
        return _call(self.module, theta, x, compute=self.on_tensors)

    def _ours(self, theta: Parameters, x: Tensor) -> Any:
        """Run our layer with input and output in the library's layout."""
        if not self.lifting:
            x = x.unflatten(1, (-1, len(self.order)))[:, :, list(self.order)]
        return _call(self.ours, theta, x)[:, :, self.back].flatten(1, 2)

    def _expanded(self, weights: Tensor) -> Tensor:
        """F = B theta: [out channels, in channels, *k]."""
        out, into = self.module.out_type.size, self.module.in_type.size
        expanded: Tensor = self.module.basisexpansion(weights).reshape(
            out, into, *(self.ours.kernel_size,) * self.ours.dim
        )
        return expanded

    def _our_order(self, filters: Tensor) -> Tensor:
        """F as [o, g, i, h, *k] in our order of elements; h is one index for a lifting."""
        g = len(self.order)
        fields: Tensor = filters.unflatten(1, (-1, 1 if self.lifting else g)).unflatten(0, (-1, g))[:, list(self.order)]
        return fields if self.lifting else fields[:, :, :, list(self.order)]

    def _their_order(self, weight: Tensor) -> Tensor:
        """Our filter bank of a weight as F."""
        bank: Tensor = _call(self.ours, {"weight": weight}, compute=lambda m: m.filter_bank())
        g = len(self.order)
        fields = bank.unflatten(1, (-1, 1 if self.lifting else g)).unflatten(0, (-1, g))[:, self.back]
        ordered: Tensor = fields if self.lifting else fields[:, :, :, self.back]
        return ordered.flatten(2, 3).flatten(0, 1)

    @functools.cached_property
    def _basis(self) -> Tensor:
        """B, float64 [filter entries, weights]."""
        with torch.no_grad():
            units = torch.eye(self.module.weights.numel()).to(self.module.weights)
            return torch.stack([self._expanded(unit).flatten().double() for unit in units], 1)

    def _solved(self, filters: Tensor) -> Tensor:
        """theta with B theta = F, refined once: B^+ alone leaves a residual of cond(B) eps, one step leaves eps."""
        theta: Tensor = self._inverse @ filters
        return theta + self._inverse @ (filters - self._basis @ theta)

    @functools.cached_property
    def _inverse(self) -> Tensor:
        """B^+, float64."""
        inverse: Tensor = torch.linalg.pinv(self._basis)
        return inverse


class _Through(nn.Module):
    """A module whose output is any function of another module, for ``functional_call``."""

    def __init__(self, module: nn.Module, compute: Callable[..., Tensor]) -> None:
        super().__init__()
        self.module, self.compute = module, compute

    def forward(self, *args: Any) -> Tensor:
        return self.compute(self.module, *args)


def _call(module: nn.Module, theta: Parameters, *args: Any, compute: Callable[..., Any] | None = None) -> Any:
    """The output of the module, or of ``compute`` on the module, with other parameters."""
    if compute is None:
        return torch.func.functional_call(module, dict(theta), args)
    return torch.func.functional_call(_Through(module, compute), {f"module.{n}": p for n, p in theta.items()}, args)


def steerable(
    name: str,
    layer: Any,
    claim: Claim,
    case: Case,
    matrices: Sequence[Any],
    *,
    lifting: bool = False,
    spans: bool = False,
) -> tuple[Builder, ...]:
    """The pairs of an escnn or e2cnn convolution between regular fields (from trivial ones: ``lifting``) and ours.

    Args:
        name: name of the library's layer.
        layer: the library's module.
        claim: the claim of the layer; its group decides whether we have the same layer.
        case: fields_in, fields_out, kernel, stride, padding.
        matrices: matrices of the library's elements, in the library's order, on array axes.
        lifting: whether the input fields are trivial.
        spans: whether the library's basis spans every filter, so that our weights can be converted to theirs.

    Returns:
        The pairs; none if an element does not map the grid onto itself, because we have no layer of that group.
    """
    if not all(g.is_signed_permutation for g in claim.group):
        return ()
    kind = kernels.LiftingConv if lifting else kernels.GroupConv
    ours = kind(
        claim.group.name,
        case["fields_in"],
        case["fields_out"],
        case["kernel"],
        stride=case["stride"],
        padding=case["padding"],
        allow_misaligned=True,
        device=claim.device,
        dtype=claim.dtype,
    )
    position = {claim.group.element(m).index: i for i, m in enumerate(matrices)}
    order = [position[g.index] for g in claim.group]
    pair = Steerable(name, layer, _on_tensors, order, ours)
    return (pair.ours_from_theirs, *([pair.theirs_from_ours] if spans else []))


def _on_tensors(module: Any, x: Tensor) -> Any:
    """The module of either library on plain tensors; the library is that of the module's field type."""
    package = type(module.in_type).__module__.partition(".")[0]
    geometric = importlib.import_module(f"{package}.nn").GeometricTensor
    return module(geometric(x, module.in_type)).tensor
