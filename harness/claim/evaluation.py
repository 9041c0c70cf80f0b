"""Evaluation of a layer: calls in several precisions, protection of its buffers, and the time spent in the layer."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from ..errors import UsageError
from ..fields.field import Field
from ..precisions import EPS
from ..trees import Tree, leaves, tree_map
from .claim import Claim
from .memo import digest, parts_of, state_of
from .recast import recast

#: Values of inputs that are evaluated in one call; more would save no time and cost memory.
LARGEST_BATCH = 2**20
#: Outputs of one sample in two batches agree to this number of steps of their dtype, or samples are not independent.
#: Sums in another order differ by about one step. A norm over a batch that holds only copies of its samples differs by
#: tens, and no bound has a term for that.
SAME_SAMPLE = 2
#: Two evaluations of one function in float64 differ by less, relative to the output.
SAME_FUNCTION = 2.0**10 * EPS["float64"]
#: What rounding to bfloat16 inside explains: the margin of all bounds times its epsilon.
COARSEST = 2.0**4 * EPS["bfloat16"]
#: Part of autograd's message where a graph is needed inside no_grad().
NO_GRAPH = "does not require grad"


class Subject:
    """The claim's function in its working precision, in float32 and in float64.

    Outputs are float64 copies on the claim's device, checked against the target's structure. Spherical signals are
    projected to the band, unless ``whole`` is set. ``seconds`` is the total time in the layer. Outputs at equal inputs
    are computed once for all properties of a claim, which share ``claim.memo``; ``fresh`` asks for another call. A
    property whose inputs no other property has sets ``shares`` to False, which saves finding out what is known. With
    ``as_it_is`` a float64 function is its own reference even where it rounds to a lower precision inside.
    """

    def __init__(self, claim: Claim, *, whole: bool = False, shares: bool = True, as_it_is: bool = False) -> None:
        self.claim, self.whole, self.shares = claim, whole, shares
        self.seconds = 0.0
        self._native = (claim.function, "as it is")
        self._double = (claim.reference or claim.function, "as it is" if claim.reference else "float64")
        self._single = (claim.function, "float32")
        self.has_reference = True
        self._differentiates = False
        #: A float64 claim is its own reference, unless its function returns a lower precision or rounds to one inside.
        self._own_reference = claim.dtype is torch.float64 and claim.reference is None
        self._rounds: bool | None = False if as_it_is else None

    def working(self, x: Tree, *, fresh: bool = False) -> Tree:
        """f_p(x) for float64 values x, which are first rounded to the working precision."""
        return self._call(*self._native, self.rounded(x), fresh=fresh)

    def single(self, x: Tree, *, fresh: bool = False) -> Tree:
        """f(x) in float32, whatever the working precision."""
        if self.claim.dtype is torch.float32:
            return self.working(x, fresh=fresh)
        return self._call(*self._single, tree_map(lambda v: _to(v, torch.float32), x), fresh=fresh)

    def reference(self, x: Tree, *, fresh: bool = False) -> Tree:
        """f_*(x), float64 throughout."""
        if self._own_reference:
            y = self.working(x, fresh=fresh)
            if self._was_double and not self._rounds_inside(x, y):
                return y
            self._own_reference = False
        return self._call(*self._double, x, fresh=fresh)

    def _rounds_inside(self, x: Tree, y: Tree) -> bool:
        """Whether a float64 function rounds what it computes to a lower precision: in float64 throughout, it differs.

        A difference larger than rounding to the coarsest dtype explains is no rounding: the recast computes another
        function, and the function as it is stays its own reference. So it does if constants alone were computed in a
        lower precision: then both forms change alike when the input changes by less than float32 resolves. Found at
        the first input, for all others.
        """
        if self._rounds is None:
            self._rounds = False  # while it is found out
            try:
                exact = self._call(*self._double, x)
                if SAME_FUNCTION < _largest_apart(y, exact) <= COARSEST:
                    near = _nearby(x)
                    moved, exactly = self._call(*self._native, near), self._call(*self._double, near)
                    change = tree_map(lambda a, b, c, d: (a - b) - (c - d) + d, moved, y, exactly, exact)
                    self._rounds = _largest_apart(change, exact) > SAME_FUNCTION
            except Exception:  # a function that cannot be computed otherwise is its own reference
                self._rounds = False
        return self._rounds

    @property
    def own_reference(self) -> bool:
        """Whether the working run is also the reference run."""
        return self._own_reference

    def perturbed(self, x: Tree, perturbation: float, seed: int) -> Tree:
        """f_*(x) after a relative ``perturbation`` of every constant of the function in a lower precision."""
        return self._call(self.claim.function, "float64", x, perturbation=perturbation, seed=seed)

    def rounded(self, x: Tree) -> Tree:
        """x in the working dtype."""
        return tree_map(lambda v: _to(v, self.claim.dtype), x)

    def through(self, x: Tree, dtype: torch.dtype) -> Tree:
        """x rounded to a dtype and converted back to float64."""
        return tree_map(lambda v: _to(_to(v, dtype), torch.float64), x)

    def probe_reference(self, x: Tree) -> Tree | None:
        """f_*(x), or None if the function cannot be computed in float64. Bounds are then estimated."""
        try:
            y = self.reference(x)
        except UsageError:
            raise
        except Exception:  # a library may raise anything in the recast run; the working run has already succeeded
            self.has_reference = False
            return None
        self.has_reference = self._was_double
        return y if self.has_reference else None

    def _call(
        self,
        function: Callable[..., Any],
        form: str,
        x: Tree,
        *,
        fresh: bool = False,
        perturbation: float = 0.0,
        seed: int = 0,
    ) -> Tree:
        claim = self.claim

        def evaluated() -> tuple[Tree, Callable[..., Any]]:
            y = self._evaluated(function, form, x, perturbation=perturbation, seed=seed)
            return y, function  # the function stays alive, so that no other one can get its id

        key = self._key(function, form, perturbation, seed, x)
        if key is None:
            y, _ = evaluated()
        else:
            y, _ = claim.memo.put(key, evaluated()) if fresh else claim.memo.get(key, evaluated)
        y = y if claim.after is None else claim.after(y)
        outputs = [v for _, v in leaves(y) if isinstance(v, torch.Tensor)]
        self._was_double = all(v.dtype is torch.float64 for v in outputs if v.is_floating_point())
        if key is None or claim.after is not None or not self._projects:
            return tree_map(self._output, claim.target, y)

        def projected() -> tuple[Tree, Tree]:
            # The target stays alive with its outputs, so that no other one can get its id.
            return tree_map(self._output, claim.target, y), claim.target

        key = (*key, id(claim.target))
        outputs_of, _ = claim.memo.put(key, projected()) if fresh else claim.memo.get(key, projected)
        return outputs_of

    @property
    def _projects(self) -> bool:
        """Whether outputs are projected to a band, which takes about as long as a layer."""
        return not self.whole and any(
            leaf.band_limited for _, leaf in leaves(self.claim.target) if isinstance(leaf, Field)
        )

    def _evaluated(
        self, function: Callable[..., Any], form: str, x: Tree, *, perturbation: float = 0.0, seed: int = 0
    ) -> Tree:
        """The outputs of one call, without their graphs."""
        claim = self.claim
        cast = function
        if form != "as it is":
            cast = recast(function, getattr(torch, form), perturbation=perturbation, seed=seed, own=claim.dtype)
        start = time.perf_counter()
        with seeded(claim.call_seed, claim.device), full_float32():
            y = self._without_graph(claim.bare(cast), x)
            if claim.device != "cpu":
                torch.cuda.synchronize()
        self.seconds += time.perf_counter() - start
        return _detached(y)

    def evaluate_together(self, x: Tree, working: Sequence[Tree], exact: Sequence[Tree]) -> None:
        """Compute f_p at some inputs in one call and f_* at others in another, for the calls that will follow.

        Both calls begin with x, whose outputs are known. Where they come out otherwise than before, samples influence
        each other (batch norm in train mode): nothing is kept, and every input gets a call of its own. So it is where
        the inputs together are large.

        Args:
            x: an input at which ``working`` and ``reference`` were called.
            working: inputs of ``working``.
            exact: inputs of ``reference``.
        """
        if self.claim.device != "cpu" or self.claim.call_seed is not None or not (self.claim.batched and self.shares):
            return
        self._together(self._native, self.rounded(x), [self.rounded(v) for v in working])
        if not self._own_reference:
            self._together(self._double, x, list(exact))

    def _together(self, run: tuple[Callable[..., Any], str], x: Tree, others: list[Tree]) -> None:
        memo, function = self.claim.memo, run[0]
        first = self._key(*run, 0.0, 0, x)
        keyed = {self._key(*run, 0.0, 0, v): v for v in others}
        wanted = {key: v for key, v in keyed.items() if key not in memo}  # which leaves out x itself
        # x comes first and last: what samples say of each other may go one way, as in a running sum.
        inputs = [x, *wanted.values(), x]
        values = sum(v.numel() for tree in inputs for _, v in leaves(tree))
        if first not in memo or len(inputs) < 4 or values > LARGEST_BATCH or not _alike(inputs):
            return
        try:
            y = self._evaluated(*run, tree_map(lambda *rows: torch.cat(rows), *inputs))
            parts = _cut(y, len(inputs))
        except Exception:  # a layer may take batches of one size only; the calls that follow are single ones
            return
        known = memo.known(first)[0]
        if self._key(*run, 0.0, 0, x) != first or not (_close(parts[0], known) and _close(parts[-1], known)):
            return
        for key, part in zip(wanted, parts[1:-1], strict=True):
            memo.put(key, (part, function))

    def _key(
        self, function: Callable[..., Any], form: str, perturbation: float, seed: int, x: Tree
    ) -> tuple[Any, ...] | None:
        """What the output depends on; None where nothing is shared, as on a GPU, where finding it out costs more."""
        claim = self.claim
        if claim.device != "cpu" or not self.shares:
            return None
        state = state_of(claim.modules)
        precision = claim.dtype, torch.get_default_dtype()
        return id(function), form, perturbation, seed, claim.call_seed, claim.batched, precision, state, digest(x)

    def _without_graph(self, function: Callable[[Tree], Tree], x: Tree) -> Tree:
        """One call without autograd, or with autograd for models that need it inside (forces from an energy)."""
        if not self._differentiates:
            try:
                with torch.no_grad():
                    return function(handed_over(x))
            except RuntimeError as error:
                if NO_GRAPH not in str(error):
                    raise
                self._differentiates = True
        with torch.enable_grad():
            return function(handed_over(x))

    def _output(self, leaf: Any, y: Any) -> torch.Tensor:
        if not isinstance(y, torch.Tensor):
            raise UsageError(f"The layer returned {type(y).__name__}, and the target is {leaf}: return a tensor.")
        if y.is_complex():
            raise UsageError(
                "The layer returns complex numbers: return torch.view_as_real(y) and declare real channels."
            )
        real: torch.Tensor = y.detach().double()
        return leaf.project(real) if isinstance(leaf, Field) and not self.whole else real

    def _name_of(self, part: torch.nn.Module, name: str) -> str:
        """The name of a buffer from the claim's module on."""
        paths = (path for top in self.claim.modules for path, inner in top.named_modules() if inner is part)
        path = next(paths, "")
        return f"{path}.{name}" if path else name

    @contextlib.contextmanager
    def guarded(self) -> Iterator[list[str]]:
        """Context that collects the names of the buffers that calls changed, and restores the buffers at its end."""
        parts = [(part, name, b) for part in parts_of(self.claim.modules) for name, b in part._buffers.items()]
        saved = [(part, name, b, b.detach().clone()) for part, name, b in parts if b is not None]
        changed: list[str] = []
        try:
            yield changed
        finally:
            for part, name, buffer, before in saved:
                now = part._buffers[name] if name in part._buffers else None  # noqa: SIM401 - scripted ones lack get
                if now is None or not _equal(now, before):
                    changed.append(self._name_of(part, name))
                if now is not None and now is not buffer:  # a layer may assign another tensor
                    part._buffers[name] = buffer
                if not _equal(buffer, before):
                    with torch.no_grad():
                        buffer.copy_(before)


class Stopwatch:
    """Adds up the time in a layer: every ``with`` block counts."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._start = 0.0

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._start


@contextlib.contextmanager
def mode(claim: Claim, *, training: bool) -> Iterator[None]:
    """Put every module of the claim in one mode, and restore the modes afterwards."""
    saved = [(m, m.training) for m in parts_of(claim.modules)]
    before = [(module, module.training) for module in claim.modules]
    try:
        for module in claim.modules:
            module.train(training)
        yield
    finally:
        # By train() too: some modules expand their filters, or merge their weights, when the mode changes.
        for module, flag in before:
            module.train(flag)
        for m, flag in saved:
            m.training = flag


@contextlib.contextmanager
def seeded(seed: int | None, device: str) -> Iterator[None]:
    """Context in which torch's generators start from ``seed``. At its end their former state is restored."""
    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[] if device == "cpu" else [device]):
        torch.manual_seed(seed)
        yield


@contextlib.contextmanager
def full_float32() -> Iterator[None]:
    """Context with TF32 switched off, so that float32 arithmetic is float32."""
    matmul, cudnn = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    if not (matmul or cudnn):
        yield
        return
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, cudnn


def handed_over(x: Tree) -> Tree:
    """Contiguous copies of inputs, as a data loader would make them: ``view`` works, and a layer may write into them.

    Where a gradient is wanted the copies belong to the graph and are no leaves, so in-place layers work there too.
    """
    return tree_map(lambda v: v.clone(memory_format=torch.contiguous_format), x)


def _equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors hold the same values; NaN equals NaN."""
    if a.shape != b.shape or a.dtype is not b.dtype:
        return False
    a, b = (v if v.layout is torch.strided else v.to_dense() for v in (a, b))
    return torch.equal(torch.nan_to_num(a), torch.nan_to_num(b))


def _largest_apart(first: Tree, second: Tree) -> float:
    return max((_apart(a, b) for (_, a), (_, b) in zip(leaves(first), leaves(second), strict=True)), default=0.0)


def _nearby(x: Tree) -> Tree:
    """An input so near to x that float32 hardly resolves the difference."""
    generator = torch.Generator().manual_seed(0)

    def moved(v: torch.Tensor) -> torch.Tensor:
        if not v.is_floating_point():
            return v
        signs = torch.randint(0, 2, v.shape, generator=generator).to(v) * 2 - 1
        return v * (1 + EPS["float32"] / 4 * signs)

    return tree_map(moved, x)


def _apart(a: torch.Tensor, b: torch.Tensor) -> float:
    """The difference of two outputs relative to the size of the second; 0 where it is not a number."""
    found = float(torch.linalg.vector_norm(a - b) / torch.linalg.vector_norm(b).clamp(min=1e-300))
    return 0.0 if math.isnan(found) else found


def _alike(trees: Sequence[Tree]) -> bool:
    """Whether the tensors at each place agree in dtype and shape and have a batch axis."""
    rows = [[(v.dtype, v.shape) for _, v in leaves(tree)] for tree in trees]
    return all(row == rows[0] for row in rows) and all(len(shape) > 0 for _, shape in rows[0])


def _cut(y: Tree, count: int) -> list[Tree]:
    """A tree of outputs of ``count`` batches in a row, batch by batch."""
    chunks = {path: v.chunk(count) for path, v in leaves(y)}
    if any(len(rows) != count or len({len(v) for v in rows}) > 1 for rows in chunks.values()):
        raise ValueError("the outputs do not have the batch's axis first")

    def part(i: int) -> Tree:
        paths = iter(chunks)
        return tree_map(lambda _: chunks[next(paths)][i].clone(), y)

    return [part(i) for i in range(count)]


def _close(a: Tree, b: Tree) -> bool:
    """Whether outputs of two batches agree up to the rounding of sums in another order."""
    for (_, u), (_, v) in zip(leaves(a), leaves(b), strict=True):
        if not u.is_floating_point():
            if not torch.equal(u, v):
                return False
            continue
        allowed = SAME_SAMPLE * torch.finfo(u.dtype).eps * v.abs().max() if v.numel() else 0.0
        if not bool(((u - v).abs() <= allowed).all()):
            return False
    return True


def _detached(y: Tree) -> Tree:
    """The same outputs without their graphs; what is no tensor stays as it is."""
    if isinstance(y, dict):
        return {name: _detached(value) for name, value in y.items()}
    if type(y) in (list, tuple):
        return type(y)(_detached(value) for value in y)
    return y.detach() if isinstance(y, torch.Tensor) else y


def _to(value: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return value.to(dtype) if value.is_floating_point() else value


#: Part of autograd's message about a graph that an earlier backward pass has freed.
FREED = "backward through the graph a second time"
