"""The measuring loop of ``gradients``: both sides of each statement, in float64, float32 and the working precision.

This module only measures; ``gradients`` gives the verdict.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from ...harness.claim.claim import Claim
from ...harness.claim.evaluation import FREED, full_float32, handed_over, seeded
from ...harness.claim.memo import digest, state_of
from ...harness.claim.recast import backward_recast, recast
from ...harness.claim.scale import Scale
from ...harness.errors import UsageError
from ...harness.fields.field import Field
from ...harness.precisions import EPS
from ...harness.symmetry.groups import Element
from ...harness.trees import Tree, leaves, tree_map
from ...harness.verdict.decide import LARGEST_DEFECT
from ..controls import wrong_elements
from ..forward.homomorphism import defect
from ..rounding import Kappa, largest, neighbours, perturbed, samples_of

#: Wrong target actions tried at each element. The power is the largest of their errors; usually each error is large.
WRONG = 2
#: If a wrong action changes a gradient by this share, no second control is run. The number decides only how many
#: controls are run, never a verdict.
CLEAR = 0.1

#: Prefixes of places, where one pass gives the gradients of inputs and of parameters.
INPUT, PARAMETER = "input ", "parameter "

#: Gradients by place; a place is an input's path for the adjoint, a parameter's name for the parameter gradient.
Gradients = dict[str, torch.Tensor]


@dataclass
class GradientTally:
    """The measurements of one place, worst over samples, with one entry for each element."""

    place: str
    size: _Size
    kappa: Kappa = field(default_factory=Kappa)
    single: Kappa | None = None
    errors: list[torch.Tensor] = field(default_factory=list)
    seen: list[float] = field(default_factory=list)
    precision: list[float] = field(default_factory=list)
    wrong: list[torch.Tensor] = field(default_factory=list)
    other: list[torch.Tensor] = field(default_factory=list)


class _Size:
    """The size that errors are divided by: a gradient's size over samples, or the joint norm of parameter gradients."""

    def __init__(self, leaf: Any, gradient: torch.Tensor, joint: float) -> None:
        self.scale = Scale.of(leaf, gradient) if leaf is not None else None
        self.joint = joint

    def relative(self, difference: torch.Tensor) -> torch.Tensor:
        """The errors [summand], the worst over samples; 0/0 = 0."""
        if self.scale is not None:
            return self.scale.relative(difference).amax(0)
        norm = float(torch.linalg.vector_norm(difference))
        error = 0.0 if norm == 0 else norm / self.joint if self.joint > 0 else math.inf
        return torch.tensor([error], dtype=torch.float64)


class GradientLoop:
    """Gradients of both sides at each element, in float64, float32 and the working precision."""

    def __init__(self, claim: Claim, on_inputs: bool) -> None:
        self.claim, self.on_inputs = claim, on_inputs
        self.seconds = 0.0
        named = [(n, p) for m in claim.modules for n, p in m.named_parameters() if p.is_floating_point()]
        self.parameters = dict(named)
        self.x = samples_of(claim)
        #: Both properties need the same passes, so where a run checks both, one pass serves them.
        self.jointly = claim.every_property and claim.reference is None and bool(named) and _floating(self.x) != []
        self.differentiable = True
        self.repeatable = self.has_reference = True
        self.defect = 0.0
        self.w: list[torch.Tensor] = []
        self.other_w: list[torch.Tensor] = []
        self.tallies: list[GradientTally] = []
        if self.wanted(self.x):
            self._begin()

    def _begin(self) -> None:
        generator = torch.Generator().manual_seed(self.claim.seed + 6)
        identity = self.claim.group.identity
        self.differentiable = False
        try:
            y = self._call(torch.float64, self.x, {})
        except UsageError:
            raise
        except Exception:  # any error of the library: without a float64 form there is no f_*
            self.has_reference = False
            self._call(self.claim.dtype, self.x, {})  # raises if the layer also fails in its own precision: a crash
            return
        self.w, self.other_w = (
            [torch.randn(v.shape, generator=generator, dtype=torch.float64).to(v.device) for _, v in leaves(y)]
            for _ in range(2)
        )
        # At the identity: the size of each place, its rounding and its conditioning.
        try:
            reference = self.after(identity, torch.float64)
        except Exception as error:  # a backward written in Python may refuse float64 even where the forward did not
            if FREED in str(error) or self.after(identity, self.claim.dtype) is None:
                raise
            self.has_reference = False
            return
        if reference is None:
            return
        self.differentiable = True
        again = self.after(identity, torch.float64, fresh=True)
        assert again is not None
        # Sums in another order differ by rounding, which is no other gradient.
        self.repeatable = all(
            float((v - again[place]).norm()) <= LARGEST_DEFECT * float(v.norm())
            for place, v in reference.items()
            if not torch.equal(v, again[place])
        )
        joint = math.sqrt(sum(float(v.square().sum()) for v in reference.values()))
        fields = dict(leaves(self.claim.source)) if self.on_inputs else {}
        self.tallies = [GradientTally(place, _Size(fields.get(place), v, joint)) for place, v in reference.items()]
        single = self.after(identity, torch.float32)
        working = single if self.claim.dtype is torch.float32 else self.after(identity, self.claim.dtype)
        for tally in self.tallies:
            assert single is not None
            assert working is not None
            tally.kappa.add_loss(tally.size.relative(single[tally.place] - reference[tally.place]))
            tally.precision.append(worst_of(tally.size.relative(working[tally.place] - reference[tally.place])))
        for moved, add in neighbours(lambda x: self.after(identity, torch.float64, x), self.x, self.claim.seed):
            for tally in self.tallies:
                add(tally.kappa, tally.size.relative(moved[tally.place] - reference[tally.place]))

    def measure_defect(self, elements: Sequence[Element]) -> None:
        """Measure delta: how far the actions are from group actions, in float64."""
        targets = iter(self.w)
        y = tree_map(lambda _: next(targets), self.claim.target)
        with torch.no_grad():
            self.defect = defect(self.claim, self.x, y, elements)

    def visit(self, g: Element) -> None:
        """Measure both sides at one element, and the errors of wrong target actions."""
        after, before = self.after(g, torch.float64), self.before(g, torch.float64)
        assert after is not None
        assert before is not None
        shown: dict[str, list[torch.Tensor]] = {tally.place: [] for tally in self.tallies}
        for h in wrong_elements(self.claim, g, self.w)[:WRONG]:
            wrong = self.before(h, torch.float64)
            for tally in self.tallies if wrong is not None else []:
                assert wrong is not None
                shown[tally.place].append(tally.size.relative(after[tally.place] - wrong[tally.place]))
            if any(bool((v[-1].nan_to_num(0.0, 0.0) > CLEAR).any()) for v in shown.values() if v):
                break
        native = self.claim.dtype is not torch.float64
        after_p = self.after(g, self.claim.dtype) if native else after
        before_p = self.before(g, self.claim.dtype) if native else before
        for tally in self.tallies:
            place = tally.place
            tally.errors.append(tally.size.relative(after[place] - before[place]))
            assert after_p is not None
            assert before_p is not None
            tally.seen.append(worst_of(tally.size.relative(after_p[place] - before_p[place])))
            tally.precision.append(worst_of(tally.size.relative(after_p[place] - after[place])))
            if self.claim.dtype is torch.float32:
                tally.kappa.add_loss(tally.size.relative(after_p[place] - after[place]))
            # A summand without a gradient (x/0 = inf) proves nothing.
            nothing = torch.zeros_like(tally.errors[-1])
            tally.wrong.append(torch.stack([nothing, *shown[place]]).nan_to_num(0.0, 0.0).amax(0))

    def finish(self, elements: Sequence[Element]) -> None:
        """If no place detects a wrong action at every element, measure the error of the gradient of another <f, w>."""
        if any(min(float(v.max()) for v in tally.wrong) > CLEAR for tally in self.tallies if tally.wrong):
            return
        for g in elements:
            after, other = self.after(g, torch.float64), self.before(g, torch.float64, weights=self.other_w)
            assert after is not None
            assert other is not None
            for tally in self.tallies:
                difference = after[tally.place] - other[tally.place]
                tally.other.append(tally.size.relative(difference).nan_to_num(0.0, 0.0))

    def look_in_single(self) -> None:
        """Measure how the gradients of a float64 layer change when the input changes by float32's epsilon."""
        identity, eps = self.claim.group.identity, EPS["float32"]
        reference = self.after(identity, torch.float64)
        for x in perturbed(self.x, self.claim.seed, eps):
            moved = self.after(identity, torch.float64, x)
            assert reference is not None
            assert moved is not None
            for tally in self.tallies:
                tally.single = tally.single or Kappa()
                tally.single.add_change(tally.size.relative(moved[tally.place] - reference[tally.place]), eps)

    def after(self, g: Element, dtype: torch.dtype, x: Tree = None, *, fresh: bool = False) -> Gradients | None:
        """Gradient of <b_e f(a_g x), w>."""
        x = self.x if x is None else x
        return self._gradients(dtype, x, g, self.claim.group.identity, self.w, fresh=fresh)

    def before(self, g: Element, dtype: torch.dtype, weights: list[torch.Tensor] | None = None) -> Gradients | None:
        """Gradient of <b_g f(a_e x), w>."""
        return self._gradients(dtype, self.x, self.claim.group.identity, g, weights or self.w)

    def wanted(self, x: Tree) -> list[str]:
        """The places whose gradients are compared."""
        return _floating(x) if self.on_inputs else list(self.parameters)

    def _gradients(
        self,
        dtype: torch.dtype,
        x: Tree,
        moved: Element,
        target: Element,
        weights: list[torch.Tensor],
        *,
        fresh: bool = False,
    ) -> Gradients | None:
        """The gradients as float64 values; None if the output carries no gradient."""
        if not self.jointly:
            return self._pass(dtype, x, moved, target, weights, inputs=self.on_inputs, parameters=not self.on_inputs)

        def both() -> Gradients | None:
            return self._pass(dtype, x, moved, target, weights, inputs=True, parameters=True)

        claim = self.claim
        what = ("gradients", id(claim.function), claim.call_seed, state_of(claim.modules), dtype)
        key = (*what, digest(x), digest(weights), moved.matrix.tobytes(), target.matrix.tobytes())
        found = claim.memo.put(key, both()) if fresh else claim.memo.get(key, both)
        side = INPUT if self.on_inputs else PARAMETER
        if found is None or any(side + place not in found for place in self.wanted(x)):
            return None
        return {place: found[side + place] for place in self.wanted(x)}

    def _pass(
        self,
        dtype: torch.dtype,
        x: Tree,
        moved: Element,
        target: Element,
        weights: list[torch.Tensor],
        *,
        inputs: bool,
        parameters: bool,
    ) -> Gradients | None:
        """The gradients with respect to inputs, to parameters, or to both, which then have prefixes.

        A side that no gradient reaches is left out: a model that detaches its input cannot be asked for it.
        """
        claim = self.claim
        x = tree_map(lambda v: v.double().requires_grad_(inputs) if v.is_floating_point() else v, x)
        theta = {}
        if parameters:
            theta = {n: p.detach().to(dtype).requires_grad_() for n, p in self.parameters.items()}
        with torch.enable_grad():
            # The actions are differentiated in float64 in every run, because their precision is not under test.
            y = self._call(dtype, claim.act(claim.source, moved, x), theta)
            if y is None:
                return None
            found = [v for _, v in leaves(claim.act(claim.target, target, y))]
            product = sum((v * w.reshape(v.shape)).sum() for v, w in zip(found, weights, strict=True))
        if not isinstance(product, torch.Tensor) or not product.requires_grad:
            return None
        joint = inputs and parameters
        wanted = {(INPUT if joint else "") + path: v for path, v in leaves(x) if v.requires_grad} if inputs else {}
        wanted |= {(PARAMETER if joint else "") + name: v for name, v in theta.items()}
        own = dtype is claim.dtype or (dtype is torch.float64 and claim.reference is not None)
        start = time.perf_counter()
        sought = list(wanted.values())
        gradients: Sequence[torch.Tensor | None] = (
            torch.autograd.grad(product, sought, allow_unused=True) if own else backward_recast(product, sought, dtype)
        )
        self.seconds += time.perf_counter() - start
        fields = {(INPUT if joint else "") + path: leaf for path, leaf in leaves(claim.source)} if inputs else {}
        made = dict(zip(wanted, gradients, strict=True))
        sides = (INPUT, PARAMETER) if joint else ("",)
        reached = [side for side in sides if any(d is not None for n, d in made.items() if n.startswith(side))]
        return {
            place: _as_signal(fields.get(place), (torch.zeros_like(wanted[place]) if d is None else d).double())
            for place, d in made.items()
            if place.startswith(tuple(reached))
        } or None

    def _call(self, dtype: torch.dtype, x: Tree, theta: Gradients) -> Tree:
        """Run the function in one precision on float64 values; return its output as float64."""
        claim = self.claim
        start = time.perf_counter()
        with seeded(claim.call_seed, claim.device), full_float32(), torch.enable_grad():
            given = handed_over(tree_map(lambda v: v.to(dtype) if v.is_floating_point() else v, x))
            with warnings.catch_warnings():
                # A compiler looks at .grad of its inputs; those handed over are no leaves.
                warnings.filterwarnings("ignore", "The .grad attribute of a Tensor that is not a leaf")
                y = self._form(dtype, theta)(given)
            y = tree_map(lambda _, v: v.double(), claim.target, y)
        self.seconds += time.perf_counter() - start
        return y

    def _form(self, dtype: torch.dtype, theta: Gradients) -> Callable[[Tree], Tree]:
        claim = self.claim
        if not theta:
            if dtype is torch.float64 and claim.reference is not None:
                return claim.bind(claim.reference)
            if dtype is claim.dtype:
                return claim.bind(claim.function)
            return claim.bind(recast(claim.function, dtype, own=claim.dtype))
        stand_ins: dict[torch.Tensor, torch.Tensor] = {self.parameters[n]: leaf for n, leaf in theta.items()}
        return claim.bind(recast(claim.function, dtype, stand_ins=stand_ins, modules=claim.modules, own=claim.dtype))


def _floating(x: Tree) -> list[str]:
    """The paths of floating tensors."""
    return [path for path, v in leaves(x) if v.is_floating_point()]


def _as_signal(leaf: Any, gradient: torch.Tensor) -> torch.Tensor:
    """A gradient by values as the gradient in the inner product of the action, so that it moves like the input."""
    return leaf.gradient(gradient) if isinstance(leaf, Field) else gradient


def worst_of(errors: torch.Tensor) -> float:
    """The largest error; NaN if any error is NaN."""
    return math.nan if bool(errors.isnan().any()) else largest(errors)
