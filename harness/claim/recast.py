"""Evaluation of a callable in another precision: the float64 reference f_* and the float32 run behind the bounds."""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from .claim import find_modules
from .memo import parts_of

_COMPLEX = {torch.float64: torch.complex128, torch.float32: torch.complex64}
#: Every dtype that has a precision.
_INEXACT = tuple(
    kind
    for kind in (getattr(torch, name) for name in sorted(dir(torch)))
    if isinstance(kind, torch.dtype) and (kind.is_floating_point or kind.is_complex)
)
#: Types of arguments that hold no tensor and no dtype.
_PLAIN = frozenset({int, float, bool, complex, str, slice, type(None), type(...)})
#: Methods whose name is a dtype.
_CASTS = {torch.Tensor.float, torch.Tensor.half, torch.Tensor.bfloat16, torch.Tensor.double}
#: Functions that read an attribute or a size. They need no conversion, which would copy every parameter.
_READS = {"__get__", "size", "dim", "stride", "numel", "is_floating_point", "is_complex", "__len__", "requires_grad_"}


#: Functions that make random tensors, fill them, drop entries of their input, or read probabilities.
_FACTORIES = {"rand", "randn", "rand_like", "randn_like"}
_IN_PLACE = {"bernoulli_", "normal_", "uniform_", "exponential_", "random_", "cauchy_", "log_normal_", "geometric_"}
_DROPOUTS = {"dropout", "dropout1d", "dropout2d", "dropout3d", "feature_dropout"}
_RANDOM = _FACTORIES | _IN_PLACE | _DROPOUTS | {"bernoulli", "normal", "multinomial", "poisson"}
#: Dtypes of random tensors that are not floating.
_WHOLE = frozenset({torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool})


def _as(value: Any, dtype: torch.dtype) -> Any:
    return value.to(dtype) if isinstance(value, torch.Tensor) and value.is_floating_point() else value


class Recast(TorchFunctionMode):
    """Mode that converts floating tensors and floating dtypes among the arguments of torch functions to ``dtype``.

    The mode works for lambdas, closures, buffers and modules that refuse ``deepcopy().double()``, because it does not
    change the callable: it converts the arguments of each torch function.
    """

    def __init__(
        self,
        dtype: torch.dtype,
        perturbation: float = 0.0,
        seed: int = 0,
        stand_ins: Mapping[torch.Tensor, torch.Tensor] | None = None,
        own: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        #: Dtypes in which random numbers are drawn where the code names one, and where it names none.
        self._own, self._default = own or dtype, torch.get_default_dtype()
        self._stand_ins = {id(p): leaf for p, leaf in (stand_ins or {}).items()}
        self.dtype = dtype
        self._perturbation = perturbation
        self._generator = torch.Generator().manual_seed(seed)
        self._converted: dict[tuple[int, int], tuple[torch.Tensor, torch.Tensor, int]] = {}
        self._targets = {kind: dtype if kind.is_floating_point else _COMPLEX.get(dtype) for kind in _INEXACT}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Convert the arguments, then call the function."""
        # This runs for every function of every check, so the common types that need no conversion are tested first.
        name = getattr(func, "__name__", "")
        if name in _READS:
            return func(*args, **(kwargs or {}))
        if name in _RANDOM:
            return self._random(func, name, args, kwargs or {})
        own = None if self._stand_ins else self.dtype
        args = [
            a if (kind := type(a)) in _PLAIN or (kind is torch.Tensor and a.dtype is own) else self._convert(a)
            for a in args
        ]
        if kwargs:
            kwargs = {k: v if type(v) in _PLAIN else self._convert(v) for k, v in kwargs.items()}
        if func in _CASTS:
            return args[0].to(self.dtype) if args[0].is_floating_point() or not args[0].is_complex() else args[0]
        return func(*args, **(kwargs or {}))

    def _random(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        """Random numbers as the layer draws them in its own precision: a seed gives one mask in every precision."""
        if name in _FACTORIES:
            kind = kwargs.get("dtype")
            drawn = self._default if kind is None or not kind.is_floating_point else self._own
            return self._tensor(func(*args, **{**kwargs, "dtype": kind if kind in _WHOLE else drawn}))
        if name in _IN_PLACE:
            place = args[0]
            if not place.is_floating_point():
                return func(*args, **kwargs)
            return place.copy_(func(place.detach().to(self._own), *args[1:], **kwargs))
        low = [_as(v, self._own) for v in args], {k: _as(v, self._own) for k, v in kwargs.items()}
        if name not in _DROPOUTS:
            with _default_dtype(self._default):
                drawn = func(*low[0], **low[1])
            return self._tensor(drawn) if isinstance(drawn, torch.Tensor) else drawn
        x = self._convert(args[0] if args else kwargs["input"])
        ones = torch.ones(x.shape, dtype=self._own, device=x.device)
        rest = {k: v for k, v in kwargs.items() if k not in ("input", "inplace")}
        mask = func(ones, *(args[1:3] if args else ()), **rest)  # after the input: p, training, inplace
        return x * mask.to(x.dtype)

    def _convert(self, value: Any) -> Any:
        kind = type(value)
        if kind is torch.Tensor or isinstance(value, torch.Tensor):
            return self._tensor(value)
        if kind is torch.dtype:
            return self._targets.get(value, value)
        if kind is list or kind is tuple:
            return kind(v if type(v) in _PLAIN else self._convert(v) for v in value)
        return value

    def _tensor(self, value: torch.Tensor) -> torch.Tensor:
        if self._stand_ins and id(value) in self._stand_ins:
            return self._stand_ins[id(value)]
        own = value.dtype
        target = self._targets.get(own, own)
        if own is target:
            return value
        if target is None:
            raise TypeError(f"A complex tensor cannot be converted to {self.dtype}: leave this precision out.")
        # Many functions use the same parameters and buffers, so one copy of each is kept for a whole call. The source
        # is kept with its copy, so that no new tensor can get the source's id while the copy exists.
        key = (id(value), value._version)
        if key not in self._converted:
            copy = self._perturbed(value.to(target))
            self._converted[key] = (value, copy, copy._version)
        return self._converted[key][1]

    def close(self) -> None:
        """End a call: what the function wrote into copies of its buffers and tables, it wrote into these themselves."""
        for value, copied, version in self._converted.values():
            if copied._version != version and not self._perturbation and not value.requires_grad:
                with torch.no_grad():
                    value.copy_(copied)
        self._converted.clear()

    def _perturbed(self, value: torch.Tensor) -> torch.Tensor:
        """The value with a relative perturbation of random sign, as rounding to a lower precision could cause."""
        if not self._perturbation:
            return value
        signs = torch.randint(0, 2, value.shape, generator=self._generator).to(value.device) * 2 - 1
        return value * (1 + self._perturbation * signs)


@contextlib.contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextlib.contextmanager
def _holding(modules: Sequence[torch.nn.Module], stand_ins: Mapping[torch.Tensor, torch.Tensor]) -> Iterator[None]:
    """Context in which modules hold stand-ins in place of their parameters."""
    by_id = {id(p): leaf for p, leaf in stand_ins.items()}
    places = [(m._parameters, n, p) for m in parts_of(modules) for n, p in m._parameters.items()]
    try:
        for held, name, parameter in places:
            if id(parameter) in by_id:
                held[name] = by_id[id(parameter)]  # type: ignore[assignment]
        yield
    finally:
        for held, name, parameter in places:
            held[name] = parameter


@contextlib.contextmanager
def _buffers_held(modules: Iterable[torch.nn.Module], *, perturbed: bool) -> Iterator[None]:
    """Context at whose end a buffer that was replaced by one of another dtype is itself again, with the new values.

    A function computed in another precision may assign what it computed to a buffer, as a power iteration does. Of
    constants that are ``perturbed`` the values stay what they were.
    """
    saved = [(part._buffers, name, b) for part in parts_of(modules) for name, b in part._buffers.items()]
    try:
        yield
    finally:
        for buffers, name, buffer in saved:
            now = buffers[name] if name in buffers else None  # noqa: SIM401 - buffers of scripted modules lack get
            if buffer is None or now is None or now.dtype is buffer.dtype or now.shape != buffer.shape:
                continue
            coarser = min(now.dtype, buffer.dtype, key=lambda kind: kind.itemsize)
            if not perturbed and not torch.equal(
                now.to(coarser), buffer.to(coarser)
            ):  # more than a conversion of its dtype
                with torch.no_grad():
                    buffer.copy_(now)
            buffers[name] = buffer


def recast(
    function: Callable[..., Any],
    dtype: torch.dtype,
    *,
    perturbation: float = 0.0,
    seed: int = 0,
    stand_ins: Mapping[torch.Tensor, torch.Tensor] | None = None,
    modules: Sequence[torch.nn.Module] = (),
    own: torch.dtype | None = None,
) -> Callable[..., Any]:
    """``function`` computed in ``dtype`` throughout, whatever dtypes its code names.

    What a compiler or TorchScript has made of a function is never run under the mode, which they would not see or would
    trace: the function that was compiled is, and of a scripted or traced module a copy in ``dtype``.

    Args:
        function: any callable on tensors.
        dtype: torch.float64 or torch.float32.
        perturbation: relative size of random changes to every constant in a lower precision (parameters, buffers,
            tables). They show how much the output depends on the rounding of constants.
        seed: seed of these changes.
        stand_ins: tensors of ``dtype`` to use in place of parameters, so that gradients with respect to them are not
            rounded to the parameters' own precision.
        modules: the modules that hold these parameters. During a call the modules hold the stand-ins. The mode cannot
            replace the argument of an autograd function, so the gradient would otherwise not reach the stand-in.
        own: the function's own precision, in which it draws random numbers; by default ``dtype``. If it is given and is
            ``dtype``, constants that the function makes in torch's default dtype keep their values.

    Example:
        >>> low = torch.tensor([0.1])
        >>> recast(lambda x: x * low, torch.float64)(torch.ones(1, dtype=torch.float64)).dtype
        torch.float64
    """
    if isinstance(function, (torch.jit.ScriptModule, torch.jit.ScriptFunction)):
        return _scripted(function, dtype)
    called = uncompiled(function)
    inside = tuple(modules) or tuple(find_modules(called))

    def run(*args: Any, **kwargs: Any) -> Any:
        held = _holding(modules, stand_ins or {})
        mode = Recast(dtype, perturbation, seed, stand_ins, own)
        default = _default_dtype(torch.get_default_dtype() if own is dtype else dtype)
        with held, _buffers_held(inside, perturbed=perturbation > 0):
            try:
                with mode, default:
                    return called(*args, **kwargs)
            finally:
                mode.close()

    # A caller that reads the names of parameters gets those of the function itself.
    run.forward = getattr(function, "forward", function)  # type: ignore[attr-defined]
    return run


def uncompiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function that torch.compile was given; any other function as it is."""
    seen = function
    for name in ("_orig_mod", "_torchdynamo_orig_callable"):
        seen = getattr(seen, name, None) or seen
    return seen


def _scripted(function: Any, dtype: torch.dtype) -> Callable[..., Any]:
    """A scripted or traced callable in another precision: TorchScript sees no mode, but its parameters convert.

    A trace holds the dtypes of the run that it recorded; where they do not fit, the call raises as TorchScript does.
    """
    copied = function
    if isinstance(function, torch.jit.ScriptModule):
        with warnings.catch_warnings():  # its parameters are views, whose .grad torch looks at and warns of
            warnings.simplefilter("ignore")
            copied = copy.deepcopy(function).to(dtype)

    def run(*args: Any, **kwargs: Any) -> Any:
        args = tuple(_as(v, dtype) for v in args)
        with _default_dtype(dtype):
            return copied(*args, **{k: _as(v, dtype) for k, v in kwargs.items()})

    run.forward = getattr(function, "forward", function)  # type: ignore[attr-defined]
    return run


def backward_recast(
    product: torch.Tensor, wanted: Sequence[torch.Tensor], dtype: torch.dtype
) -> Sequence[torch.Tensor | None]:
    """``torch.autograd.grad`` with the backward pass under the mode, as its forward pass was; None where none arrives.

    A backward that was written in Python may use tables of one precision. ``torch.autograd.grad`` hands itself to the
    mode, which is off meanwhile, so the engine is called as that function calls it.
    """
    start = (torch.ones_like(product),)
    with Recast(dtype) as mode, _default_dtype(dtype):
        try:
            found: Sequence[torch.Tensor | None] = torch.autograd.Variable._execution_engine.run_backward(
                (product,), start, False, False, tuple(wanted), allow_unreachable=True, accumulate_grad=False
            )
        finally:
            mode._converted.clear()
    return found
