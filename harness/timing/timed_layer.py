"""Timed layers: a built layer with allocated inputs, and its forward and backward passes as calls without arguments."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from ..errors import UsageError
from ..trees import Tree, leaves, tree_map
from .clock import Call
from .roofline import tf32

if TYPE_CHECKING:
    from ..claim.claim import Claim

#: Settings of a layer. Channels last and compilation make some libraries faster and others slower.
SETTINGS = ("eager", "channels_last", "compiled")


@dataclass(frozen=True)
class TimedLayer:
    """A built layer at one batch size.

    Args:
        claim: the layer with its fields.
        x: inputs in the working precision.
        function: the function to call on the inputs.
        build_seconds: time of building the layer.
        first_seconds: time of the first call, which includes tables, autotuning and compilation.
    """

    claim: Claim
    x: Tree
    function: Callable[[Tree], Tree]
    allow_tf32: bool = False
    build_seconds: float = 0.0
    first_seconds: float = 0.0

    @property
    def differentiable(self) -> bool:
        """Whether the output has a gradient."""
        with self.mode(training=True):
            return any(v.requires_grad for _, v in leaves(self.forward_training()()))

    def forward(self) -> Call:
        """The forward pass for inference, without a graph."""

        def call() -> object:
            with torch.no_grad():
                return self.function(self.x)

        return call

    def forward_training(self) -> Call:
        """The forward pass for training, which keeps the tensors for the backward pass."""
        x, _ = self._differentiable()
        return lambda: self.function(x)

    def backward(self) -> Call:
        """The backward pass: gradients of inputs and parameters from one kept graph."""
        x, wanted = self._differentiable()
        outputs = [v for _, v in leaves(self.function(x)) if v.requires_grad]
        cotangents = [torch.randn_like(v) for v in outputs]
        return lambda: torch.autograd.grad(outputs, wanted, cotangents, retain_graph=True, allow_unused=True)

    def step(self) -> Call:
        """A forward and a backward pass, as in one training step, to measure peak memory."""
        x, wanted = self._differentiable()

        def call() -> object:
            outputs = [v for _, v in leaves(self.function(x)) if v.requires_grad]
            return torch.autograd.grad(outputs, wanted, [torch.ones_like(v) for v in outputs], allow_unused=True)

        return call

    def _differentiable(self) -> tuple[Tree, list[torch.Tensor]]:
        x = tree_map(lambda v: v.detach().clone().requires_grad_() if v.is_floating_point() else v, self.x)
        inputs = [v for _, v in leaves(x) if v.requires_grad]
        return x, [*inputs, *self.parameters().values()]

    def parameters(self) -> Mapping[str, torch.Tensor]:
        """Parameters that require a gradient, without repetition."""
        found: dict[int, tuple[str, torch.Tensor]] = {}
        for module in self.claim.modules:
            for name, parameter in module.named_parameters():
                if parameter.requires_grad:
                    found.setdefault(id(parameter), (name, parameter))
        return {f"{i} {name}": p for i, (name, p) in enumerate(found.values())}

    def backend(self) -> str:
        """The algorithms of the last call, for layers that have several and report the one in use."""
        layers = (layer for root in self.claim.modules for layer in root.modules())
        names = (str(getattr(layer, "backend_ran", "")) for layer in layers)
        return ", ".join(dict.fromkeys(filter(None, names)))

    @contextmanager
    def mode(self, *, training: bool) -> Iterator[None]:
        """Context with every module in training or evaluation mode; in evaluation mode libraries cache filters."""
        before = [(m, m.training) for root in self.claim.modules for m in root.modules()]
        for root in self.claim.modules:
            root.train(training)
        try:
            with tf32(allowed=self.allow_tf32):
                yield
        finally:
            for module, was in before:
                if module.training is not was:
                    module.train(was)


def prepare(make: Callable[[], Claim], *, batch: int, setting: str = "eager", allow_tf32: bool = False) -> TimedLayer:
    """Build a layer, allocate its inputs and call it once.

    Args:
        make: function that builds the claim in its working precision.
        batch: number of samples in a call.
        setting: one of SETTINGS.
        allow_tf32: whether float32 products may round to TF32.

    Raises:
        UsageError: the setting does not apply to the layer.
    """
    begin = time.perf_counter()
    claim = make()
    built = time.perf_counter() - begin
    if setting not in SETTINGS:
        raise UsageError(f"Unknown setting {setting!r}: use {', '.join(SETTINGS)}.")
    if not claim.batched:
        raise UsageError("the layer takes no batches (batched=False): time an implementation that takes batches.")
    with torch.random.fork_rng(devices=[]):
        x = tree_map(lambda v: v.to(claim.dtype) if v.is_floating_point() else v, claim.draw(batch))
    function = claim.bind(claim.function)
    if setting == "channels_last":
        x = _channels_last(claim, x)
    elif setting == "compiled":
        function = torch.compile(function)
    made = TimedLayer(claim, x, function, allow_tf32)
    with made.mode(training=False):
        begin = time.perf_counter()
        made.forward()()
        if claim.device != "cpu":
            torch.cuda.synchronize(claim.device)
        first = time.perf_counter() - begin
    return replace(made, build_seconds=built, first_seconds=first)


def _channels_last(claim: Claim, x: Tree) -> Tree:
    """The inputs in channels-last memory format; the weights are converted in place."""
    from ..fields.domains import Grid
    from ..fields.field import Field

    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    fields = [leaf for _, leaf in leaves(claim.source)]
    plain = all(isinstance(f, Field) and isinstance(f.domain, Grid) for f in fields)
    dims = {v.dim() for _, v in leaves(x)}
    if not plain or len(dims) != 1 or claim.group.dim + 2 not in dims:
        raise UsageError("channels_last needs signals [batch, channels, *space]: use another setting for this layer.")
    layout = formats[claim.group.dim + 2]
    for module in claim.modules:
        module.to(memory_format=layout)  # type: ignore[call-overload]  # torch documents it and does not type it
    return tree_map(lambda v: v.contiguous(memory_format=layout), x)
