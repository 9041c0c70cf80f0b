"""One network at several bandwidths: the same weights on finer grids, to see what its nonlinearities alias."""

import copy

from torch import Tensor, nn

from . import checks
from .layers import S2Conv, SphericalLinear


class AnyBandwidth(nn.Module):
    """Computes a spherical network at the bandwidth of whatever signal it is given: equivariant under SO(3) as it is.

    Kernels are points and weights on the continuum, so that a network built for one bandwidth has a form at any other:
    every layer's bandwidths are multiplied by one factor, and its weights stay. Linear layers are the same operators
    then; what pointwise functions alias goes away as the bandwidth grows.

    Args:
        network: a module of spherical layers, or one of them. Its parameters and buffers are shared, not copied.

    Shape:
        That of the network, with every bandwidth multiplied by the ratio of the input's to the first layer's.

    Raises:
        ValueError: if the network holds no spherical layer, or some bandwidth would not be a whole number.

    Example:
        >>> import torch
        >>> from equiharness.kernels import S2Conv, s2_near_identity
        >>> layer = AnyBandwidth(S2Conv(1, 2, 4, 2, s2_near_identity()))
        >>> layer(torch.ones(1, 1, 8, 8)).shape, layer(torch.ones(1, 1, 16, 16)).shape
        (torch.Size([1, 2, 4, 4, 4]), torch.Size([1, 2, 8, 8, 8]))

    Source: the scaling of the kernel in Cohen et al. 2018 depends on b_out^2 / b_in alone.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        first = next((m for m in network.modules() if isinstance(m, SphericalLinear)), None)
        if first is None:
            raise ValueError("AnyBandwidth needs a network with a spherical layer, whose bandwidth it can change")
        self.b_in = first.b_in

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the network at the bandwidth of x."""
        result: Tensor = self.at(x.shape[-1] // 2)(x)
        return result

    def at(self, b_in: int) -> nn.Module:
        """Return the network for inputs of bandwidth b_in, on the same parameters and buffers."""
        if checks.bandwidth(b_in, "b_in") == self.b_in:
            return self.network
        shared = [*self.network.parameters(), *self.network.buffers()]
        scaled = copy.deepcopy(self.network, {id(tensor): tensor for tensor in shared})
        for layer in scaled.modules():
            if isinstance(layer, SphericalLinear):
                layer.b_in, layer.b_out = (self._scaled(b, b_in) for b in (layer.b_in, layer.b_out))
            if isinstance(layer, S2Conv):
                # The transform of a kernel on S2 has a factor 2 b_out, which this keeps at its first value.
                layer.scaling *= self.b_in / b_in
        return scaled

    def _scaled(self, b: int, b_in: int) -> int:
        if b * b_in % self.b_in:
            raise ValueError(
                f"bandwidth {b} does not scale by {b_in} / {self.b_in} to a whole number: take a multiple of the "
                f"bandwidths, such as {self.b_in * (1 + b_in // self.b_in)}"
            )
        return b * b_in // self.b_in
