"""What all grid convolutions share: the signature, the checks, one dense convolution with an expanded bank."""

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .expansion import expand
from .geometry import check_alignment, check_fibre, flipped_axes
from .groups import GroupLike, IntArray, former_places, grid_group


class GridModule(nn.Module):
    """A module that knows its group and its geometry. Base of every convolution here, not a layer itself."""

    # Of the state_dict. Version 2: groups of the plane list their elements by angle.
    _version = 2
    # Ways to compute that a layer has; subclasses add "exact".
    backends: tuple[str, ...] = ("auto", "fast", "reference")
    _ran: str = ""

    def __init__(
        self,
        group: GroupLike,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int,
        padding: int,
        padding_mode: str,
        backend: str,
        allow_misaligned: bool,
    ) -> None:
        super().__init__()
        check_arguments(in_channels, out_channels, kernel_size, stride, padding, padding_mode)
        if backend not in self.backends:
            known = ", ".join(map(repr, self.backends))
            raise ValueError(f"unknown backend {backend!r} for {type(self).__name__}; there are {known}")
        self.group = grid_group(group)
        self.order = self.group.order
        self.dim = self.group.dim
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.padding_mode = padding_mode
        self.backend = backend
        self.allow_misaligned = allow_misaligned
        self._flipped = flipped_axes(self.group)

    @property
    def backend_ran(self) -> str:
        """The backend of the last call: what "auto" came to. For reports."""
        return self._ran or ("fast" if self.backend == "auto" else self.backend)

    @abstractmethod
    def tables(self) -> dict[str, IntArray]:
        """The index tables of this layer by buffer name, derived from the group and the kernel size."""

    def _register_tables(self, device: torch.device | str | None) -> None:
        """Tables are buffers, to follow the module to a device, but no state: they are derived, not learned."""
        for name, table in self.tables().items():
            # A copy: the group keeps its own table, whatever becomes of the buffer.
            self.register_buffer(name, torch.tensor(table, device=device), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        was_meta = any(buffer.is_meta for buffer in self.buffers(recurse=False))
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if was_meta:
            # to_empty() leaves arbitrary memory in buffers that no state_dict will fill.
            for name, table in self.tables().items():
                self.get_buffer(name).copy_(torch.from_numpy(table))
        return self

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, local_metadata: Any, *rest: Any) -> None:
        """Refuse weights that were saved in another order of the group's elements.

        Raises:
            ValueError: the state was saved by a layer of version 1, and the group's order has changed since. A plain
                dict of tensors carries no version and is loaded as it is.
        """
        places = former_places(self.group)
        if places is not None and local_metadata.get("version", self._version) < 2:
            former = [self.group.elements[places.index(k)].tolist() for k in range(self.order)]
            moved = ", ".join(f"{name!r} on axis {axis}" for name, axis in self.group_axes().items())
            raise ValueError(
                f"{prefix or type(self).__name__}: these weights were saved when {self.group.name} listed its elements "
                f"in another order, {former}. Now it lists them by angle, and channels of its features are ordered "
                f"like that too. To convert, apply index_select with the indices {places} to "
                f"{moved or 'whatever reads the features of this layer (it has no such parameter itself)'}, and load "
                "the tensors as a plain dict: load_state_dict(dict(state))."
            )
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)

    def group_axes(self) -> dict[str, int]:
        """The parameters with an axis of group elements, and which axis that is."""
        return {}

    def check_input(self, x: Tensor, fibre: tuple[int, ...]) -> None:
        """Refuse a wrong shape, and a box whose strided grid would be off centre."""
        check_fibre(x, (self.in_channels, *fibre), self.dim, type(self).__name__)
        if not self.allow_misaligned:
            circular = self.padding_mode == "circular"
            size = x.shape[x.dim() - self.dim :]
            check_alignment(size, self.kernel_size, self.stride, self.padding, circular=circular, flipped=self._flipped)

    def geometry(self) -> dict[str, Any]:
        """Stride and padding as the reference takes them."""
        return {"stride": self.stride, "padding": self.padding, "mode": self.padding_mode}

    def extra_repr(self) -> str:
        """The arguments, as torch's own layers print them."""
        text = f"{self.group.name}, {self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"
        text += f", stride={self.stride}, padding={self.padding}, padding_mode={self.padding_mode}"
        return f"{text}, backend={self.backend}"


class GridConv(GridModule):
    """A layer whose fast path is one dense convolution. Subclasses say how their filter fills the dense bank."""

    weight: nn.Parameter
    bias: nn.Parameter | None
    table: Tensor
    inverse: Tensor

    # Whether the input and the output carry the axis of the group or of a vector, one entry each; set by subclasses.
    in_fibre: tuple[int, ...]
    out_fibre: tuple[int, ...]

    def __init__(
        self,
        group: GroupLike,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        padding_mode: str = "zeros",
        bias: bool = True,
        backend: str = "auto",
        allow_misaligned: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            group,
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=padding,
            padding_mode=padding_mode,
            backend=backend,
            allow_misaligned=allow_misaligned,
        )
        self.in_fibre, self.out_fibre, filter_fibre = self._fibres()
        shape = (*self._lead(), out_channels, in_channels, *filter_fibre, *(kernel_size,) * self.dim)
        self.weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(out_channels, device=device, dtype=dtype)) if bias else None
        self._register_tables(device)
        self.reset_parameters()

    @abstractmethod
    def _fibres(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Axes between channels and space of the input, of the output and of the filter."""

    def _lead(self) -> tuple[int, ...]:
        """Axes of the filter before its channels."""
        return ()

    def group_axes(self) -> dict[str, int]:
        """The weight, where the filter has an axis of group elements."""
        return {"weight": len(self._lead()) + 2} if self._fibres()[2] == (self.order,) else {}

    @abstractmethod
    def tables(self) -> dict[str, IntArray]:
        """Buffer "table": index of g^-1 (a, t), [|G|, A * K], a the fibre index of the filter; "inverse": of g^-1."""

    @abstractmethod
    def filter_bank(self) -> Tensor:
        """The dense filters [out, in, *k] of this layer, channels and fibres flattened; differentiable."""

    @abstractmethod
    def reference(self, x: Tensor) -> Tensor:
        """The layer by its formula, without bias: slow, any dtype."""

    def exact(self, x: Tensor) -> Tensor:
        """The layer in canonical order, without bias, in subclasses that list the backend "exact"."""
        raise NotImplementedError(f"{type(self).__name__} has no exact backend")

    def fourier(self, x: Tensor) -> Tensor:
        """The layer in Fourier coordinates of its group, without bias, in subclasses that list "fourier"."""
        raise NotImplementedError(f"{type(self).__name__} has no fourier backend")

    def reset_parameters(self) -> None:
        """Draw weights that keep the variance of white noise; the bias starts at zero.

        One output sums cin * |in fibre| * k^d terms, whatever the shape of the weight suggests: that is the fan.
        """
        fan = self.in_channels * math.prod(self.in_fibre) * self.kernel_size**self.dim
        uniform_with_variance(self.weight, 1 / fan)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve; shapes as in the class description."""
        self.check_input(x, self.in_fibre)
        name = self.backend_for(x)
        if not torch.compiler.is_compiling():  # a trace must not change the module
            self._ran = name
        return self.by_backend(name, x)

    def backend_for(self, x: Tensor) -> str:
        """The backend that computes this call; "fast" for "auto" where a layer has no other way worth trying."""
        return "fast" if self.backend == "auto" else self.backend

    def by_backend(self, name: str, x: Tensor) -> Tensor:
        """The layer on a checked input by one of its backends."""
        if name in ("reference", "exact", "fourier"):
            y: Tensor = getattr(self, name)(x)
            if self.bias is not None:
                y = y + self.bias.view(-1, *(1,) * (y.dim() - 2))
            return y
        flat = x.flatten(1, 1 + len(self.in_fibre)) if self.in_fibre else x
        y = self.dense(flat)
        return y.view(y.shape[0], self.out_channels, *self.out_fibre, *y.shape[2:])

    def dense(self, x: Tensor) -> Tensor:
        """The fast path: one dense convolution of channels and fibre flattened."""
        return convolve(x, self.filter_bank(), self._dense_bias(), self.stride, self.padding, self.padding_mode)

    def fold(self) -> nn.Conv2d | nn.Conv3d:
        """This layer as a plain torch convolution, for inference and export.

        Returns:
            nn.Conv2d or nn.Conv3d with copies of the expanded weights. Its channels are this layer's channels and
            fibre flattened: ``layer.fold()(x.flatten(1, 2))`` equals ``layer(x).flatten(1, 2)`` where both ends have a
            fibre axis.
        """
        return dense_conv(self.filter_bank(), self._dense_bias(), self.stride, self.padding, self.padding_mode)

    def _expanded(self) -> Tensor:
        """The transformed filters [o, g, i, A, *k], A = 1 for a filter without a fibre."""
        o, i, k = self.out_channels, self.in_channels, (self.kernel_size,) * self.dim
        return expand(self.weight.reshape(o, i, -1), self.table, self.inverse).view(o, self.order, i, -1, *k)

    def _dense_bias(self) -> Tensor | None:
        """One bias per channel, repeated along the output fibre."""
        if self.bias is None:
            return None
        copies = math.prod(self.out_fibre)
        return self.bias[:, None].expand(-1, copies).flatten().contiguous()


CONV: dict[int, Callable[..., Tensor]] = {2: F.conv2d, 3: F.conv3d}
_CONV_MODULE: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int, mode: str, groups: int = 1
) -> Tensor:
    """Cross-correlation of [B, in, *space] with [out, in / groups, *k], zero or circular padding."""
    dim = weight.dim() - 2
    if mode == "circular" and padding:
        x = F.pad(x, (padding,) * (2 * dim), mode="circular")
        padding = 0
    return CONV[dim](x, weight, bias, stride=stride, padding=padding, groups=groups)


@torch.no_grad()
def dense_conv(
    weight: Tensor, bias: Tensor | None, stride: int, padding: int, mode: str, groups: int = 1
) -> nn.Conv2d | nn.Conv3d:
    """The torch module of `convolve`, owning copies of weight and bias."""
    dim = weight.dim() - 2
    # skip_init: drawing weights that are overwritten at once would disturb the global random state.
    conv: nn.Conv2d | nn.Conv3d = torch.nn.utils.skip_init(
        _CONV_MODULE[dim],
        weight.shape[1] * groups,
        weight.shape[0],
        weight.shape[2],
        stride=stride,
        padding=padding,
        padding_mode=mode,
        groups=groups,
        bias=bias is not None,
        device=weight.device,
        dtype=weight.dtype,
    )
    conv.weight.copy_(weight)
    if bias is not None and conv.bias is not None:
        conv.bias.copy_(bias)
    return conv


@torch.no_grad()
def uniform_with_variance(weight: Tensor, variance: float) -> None:
    """Fill with U(-a, a), a = sqrt(3 variance); bounded, so that small filters vary less in norm than Gaussian ones."""
    a = math.sqrt(3 * variance)
    weight.uniform_(-a, a)


def check_arguments(
    in_channels: int, out_channels: int, kernel_size: int, stride: int, padding: int, padding_mode: str
) -> None:
    """Refuse what no convolution here takes.

    Raises:
        ValueError: a size that is no integer of its range, or an unknown padding mode.
    """
    least = {"in_channels": 1, "out_channels": 1, "kernel_size": 1, "stride": 1, "padding": 0}
    given = (in_channels, out_channels, kernel_size, stride, padding)
    for (name, low), value in zip(least.items(), given, strict=True):
        if not isinstance(value, int) or value < low:
            raise ValueError(
                f"{name} must be one integer >= {low}, the same on all axes (a grid symmetry may exchange them); "
                f"got {value!r}"
            )
    if padding_mode not in ("zeros", "circular"):
        raise ValueError(f"padding_mode must be 'zeros' or 'circular'; got {padding_mode!r}")
