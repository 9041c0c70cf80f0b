"""Replaying a layer as one CUDA graph, where launches cost more than what they compute.

At b < 16 a convolution is some twenty launches of a few microseconds each; a graph is one. A graph reads fixed
addresses: the input is copied to where it was captured, the result is copied out, and parameters are read where they
are, so that updates in place are seen. When they have moved the graph is captured again. Nothing is captured where
autograd would have to see the steps; there, and on every other device, the layer simply runs.
"""

import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .launch import Argument, Executor, executor_for, running_on
from .sources import Kernel

_LOG = logging.getLogger(__name__)

#: Bandwidths from here on fill a GPU with each launch.
BELOW = 16


class Backend(Protocol):
    """What captures and replays: CUDA, or a stand-in for tests."""

    def accepts(self, x: Tensor) -> bool:
        """Whether work on this tensor can be captured now."""

    def stream(self, x: Tensor) -> Hashable:
        """Where the work would go: replays on two streams must not share memory."""

    def capture(self, function: Callable[[], Tensor]) -> tuple[Any, Tensor]:
        """Run a function so that ``graph.replay()`` computes its result again, into the same tensor."""


class CudaBackend:
    """CUDA graphs of torch."""

    def accepts(self, x: Tensor) -> bool:
        """Whether work on this tensor can be captured now."""
        return x.device.type == "cuda" and not torch.cuda.is_current_stream_capturing()

    def stream(self, x: Tensor) -> Hashable:
        """The current stream of the tensor's device."""
        return torch.cuda.current_stream(x.device).cuda_stream

    def capture(self, function: Callable[[], Tensor]) -> tuple[Any, Tensor]:
        """Capture on a stream of its own, after one run there, as libraries that allocate lazily need it."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            function()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = function()
        return graph, result


@dataclass
class _Entry:
    """A call that was seen: where its parameters were, and from the second time on the graph."""

    addresses: tuple[Hashable, ...]
    graph: Any = None
    input: Tensor | None = None
    output: Tensor | None = None
    kept: Sequence[Tensor] = ()


class Graphs:
    """The graphs of one layer, one per shape of its input.

    The first call of a shape runs as ever, which compiles kernels and fills the caches of tables; the second captures.

    Args:
        backend: what captures.
        most: how many shapes are kept; the one unused for longest goes.
    """

    def __init__(self, backend: Backend | None = None, most: int = 8) -> None:
        self._backend: Backend = CudaBackend() if backend is None else backend
        self._most = most
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._lock = threading.Lock()

    def __deepcopy__(self, memo: dict[int, Any]) -> "Graphs":
        """Return an empty one: a graph belongs to the memory it was captured with."""
        return Graphs(self._backend, self._most)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as an empty one."""
        return Graphs, ()

    def __len__(self) -> int:
        """How many graphs have been captured and are kept."""
        return sum(entry.graph is not None for entry in self._entries.values())

    def suits(self, x: Tensor, parameters: Sequence[Tensor]) -> bool:
        """Whether a call with this input may be a replay: on a GPU, unseen by autograd and by modes of torch."""
        # A mode may change what the steps compute, and a replay would pass it by.
        if torch._C._len_torch_function_stack() or torch._C._len_torch_dispatch_stack() or type(x) is not Tensor:
            return False
        if not self._backend.accepts(x) or not x.numel():
            return False
        if torch.is_grad_enabled() and any(t.requires_grad for t in (x, *parameters)):
            return False
        return os.environ.get("EQUIHARNESS_CUDA_GRAPHS", "").lower() != "off"

    def run(self, function: Callable[[Tensor], Tensor], x: Tensor, parameters: Sequence[Tensor]) -> Tensor:
        """Return function(x), by a replay where that is possible.

        Args:
            function: launches work on the current stream alone, and neither waits nor draws random numbers.
            x: its input.
            parameters: every other tensor that it reads and that may move.
        """
        if not self.suits(x, parameters):
            return function(x)
        addresses = tuple((t.data_ptr(), t.dtype, t.shape) for t in parameters)
        key = (x.shape, x.dtype, x.device, self._backend.stream(x), executor_for(x), _flags())
        with self._lock:
            entry = self._entries.get(key)
            if entry is None or entry.addresses != addresses:
                self._remember(key, _Entry(addresses))
                return function(x)
            self._entries.move_to_end(key)
            if entry.graph is None:
                self._capture(entry, function, x)
            assert entry.input is not None
            assert entry.output is not None
            entry.input.copy_(x)
            entry.graph.replay()
            return entry.output.clone()

    def _remember(self, key: Hashable, entry: _Entry) -> None:
        self._entries[key] = entry
        self._entries.move_to_end(key)
        while len(self._entries) > self._most:
            self._entries.popitem(last=False)

    def _capture(self, entry: _Entry, function: Callable[[Tensor], Tensor], x: Tensor) -> None:
        held = x.detach().clone(memory_format=torch.contiguous_format)
        with torch.no_grad(), _keeping(x) as keep:
            entry.graph, entry.output = self._backend.capture(lambda: function(held))
        entry.input, entry.kept = held, keep.kept
        _LOG.debug("captured a CUDA graph for an input of shape %s", tuple(x.shape))


def _flags() -> tuple[Hashable, ...]:
    """What decides, besides the arguments, which steps a layer takes."""
    return torch.backends.cuda.matmul.allow_tf32, torch.is_inference_mode_enabled()


class _Keep(TorchDispatchMode):
    """Remembers the tensors that are read and were not made while it is on: tables, which their caches may drop."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # untyped in torch
        self._made: set[int] = set()
        self._read: dict[int, Tensor] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for leaf in tree_leaves((args, kwargs)):
            if isinstance(leaf, Tensor):
                self.see(leaf)
        result = function(*args, **(kwargs or {}))
        made = {t.untyped_storage().data_ptr() for t in tree_leaves(result) if isinstance(t, Tensor)}
        self._made |= made - self._read.keys()  # a view, or a result written in place, is of memory that was there
        return result

    def see(self, tensor: Tensor) -> None:
        """A step reads this tensor."""
        self._read.setdefault(tensor.untyped_storage().data_ptr(), tensor)

    @property
    def kept(self) -> tuple[Tensor, ...]:
        """What a graph needs to stay where it is."""
        return tuple(tensor for address, tensor in self._read.items() if address not in self._made)


class _Watched:
    """An executor that shows what its launches read: tables of launches are no arguments of torch's operators."""

    def __init__(self, executor: Executor, keep: _Keep) -> None:
        self._executor, self._keep = executor, keep

    def launch(self, kernel: Kernel, grid: tuple[int, int, int], arguments: Sequence[Argument]) -> None:
        for argument in arguments:
            if isinstance(argument, Tensor):
                self._keep.see(argument)
        self._executor.launch(kernel, grid, arguments)

    def empty(self, like: Tensor, shape: Sequence[int], dtype: torch.dtype | None = None) -> Tensor:
        return self._executor.empty(like, shape, dtype)


# `running_on` is of the whole process: one capture at a time.
_CAPTURING = threading.Lock()


@contextmanager
def _keeping(x: Tensor) -> Iterator[_Keep]:
    executor, keep = executor_for(x), _Keep()
    watched = None if executor is None else _Watched(executor, keep)
    with _CAPTURING, running_on(watched), keep:
        yield keep
