"""The worst case: the input of a given norm at which f(a_g x) and b_g f(x) differ most.

    sup over |x| = r of ||e(x) - e(0)|| / RMS_s ||f(x_s) - mean||        e(x) = f(a_g x) - b_g f(x),   r = RMS_s |x_s|

If f is affine, the supremum is r sigma_max of the linear part A of e, computed by Lanczos on A^T A: products with A are
values of e, products with A^T are vector-Jacobian products. Otherwise a gradient ascent on the sphere |x| = r (for a
linear e, the power method) gives a lower bound. Random inputs measure the mean square of the singular values and miss
a fault in one of thousands of directions. In both cases the error is that of the found input, and the bound
S kappa (eps + delta) includes rounding and conditioning at that input.

Sources: Golub and Van Loan, Matrix Computations, section 10.1 (Lanczos), 8.2 (power iteration).
"""

from __future__ import annotations

import functools
import math
import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...harness.claim.claim import Claim
from ...harness.claim.evaluation import FREED, NO_GRAPH, Stopwatch, Subject, full_float32, handed_over, seeded
from ...harness.claim.outcome import Outcome, describe
from ...harness.claim.recast import recast
from ...harness.errors import UsageError
from ...harness.precisions import EPS, claim_eps
from ...harness.symmetry.groups import Element
from ...harness.trees import Tree, leaves, tree_map
from ...harness.verdict.decide import SAFETY, Evidence, decide
from ...harness.verdict.result import Code, ElementResult, Reason, Verdict
from ..controls import same_action
from ..rounding import Kappa, largest_of, neighbours, samples_of
from .aliasing import aliases, excuse
from .homomorphism import defect

#: Steps of Lanczos. A fault of rank one that is far above rounding is found in two steps. The largest value of a smooth
#: spectrum has a relative error of at most (log n / steps)^2 / 2 (Kuczynski and Wozniakowski 1992): 3% for n = 10^4,
#: and far less in practice.
LANCZOS_STEPS = 24
#: The search ends after this number of steps if the found error is below a tenth of the bound. A fault of rank one at
#: the bound grows relative to the rest by 10^2 in each step, by 10^8 in all. It is found unless the random start holds
#: less than 10^-8 of it; typically the start holds 1 / sqrt(n).
ROUNDING_STEPS = 4
#: Steps of the ascent, which starts from all samples at once.
ASCENT_STEPS = 12
#: Number of elements: generators, which imply the claim for all others up to a factor.
ELEMENTS = 2

Vector = torch.Tensor


def worst_case(claim: Claim) -> Outcome:
    """f(a_g x) = b_g f(x) at the worst input instead of at random inputs.

    Args:
        claim: its function is differentiable in some floating input, in float64.

    Returns:
        EXACT, or BROKEN if some direction breaks the claim; `error` is the supremum relative to the typical output.
        SKIPPED(NO_EXACT_ELEMENTS), SKIPPED(NOT_DIFFERENTIABLE), SKIPPED(NO_REFERENCE); SKIPPED(ALIASES) for nonlinear
        layers on the sphere.
    """
    start = time.perf_counter()
    rng = np.random.default_rng(claim.seed)
    drawn = [*(() if claim.elements else claim.group.generators), *claim.representatives(rng, 2)]
    elements = [g for g in drawn if claim.exact(g) and not g.is_identity][:ELEMENTS]
    if not elements or claim.refined is not None:
        text = f"no element of {claim.group.name} maps the grid onto itself."
        return _skipped(claim, Code.NO_EXACT_ELEMENTS, text)
    if aliases(claim):
        return Outcome(describe(claim, "worst_case", Verdict.SKIPPED, excuse(claim)))
    with Subject(claim).guarded():
        try:
            search = _Search(claim)
        except (UsageError, NotImplementedError):
            raise
        except Exception as error:  # any error of the library: the layer has no float64 form
            return _skipped(claim, Code.NO_REFERENCE, f"the layer cannot be computed in float64: {error}")
        if not search.differentiable:
            return _skipped(claim, Code.NOT_DIFFERENTIABLE, "the output carries no gradient, which the search needs.")
        delta = search.defect = defect(claim, search.tree(search.x), search.target(search.y), elements)
        inputs = {g: search.worst(g) for g in elements}
        found = {g: search.error(g, x) for g, x in inputs.items()}
        wrong = min(search.wrong(g) for g in elements)
        worst = max(found, key=lambda g: found[g])
        kappa = largest_of([search.kappa, search.rounding(inputs[worst])])
    evidence = Evidence(
        dtype=str(claim.dtype).removeprefix("torch."),
        error=found[worst],
        unit_bound=SAFETY * kappa,
        kappa=kappa,
        wrong=wrong,
        finite=all(math.isfinite(v) for v in found.values()),
        defect=delta,
    )
    verdict, reason = decide(evidence)
    if verdict is Verdict.BROKEN and reason.code == Code.ERROR:
        typical = search.typical(worst)
        text = (
            f"the worst input has an error of {evidence.error:.2g} typical outputs; random inputs have {typical:.2g}."
        )
        reason = Reason(code=Code.ERROR, message=text)
    bound = evidence.bound(EPS["float64" if claim.dtype is torch.float64 else "float32"])
    return Outcome(
        describe(claim, "worst_case", verdict, reason).model_copy(
            update={
                "samples": claim.samples,
                "error": evidence.error,
                "bound": bound,
                "power": evidence.failing_power,
                "kappa": evidence.kappa,
                "defect": delta,
                "element": worst.name,
                "elements": tuple(ElementResult(element=g.name, error=v, bound=bound) for g, v in found.items()),
                "seconds": time.perf_counter() - start,
                "seconds_in_layer": search.watch.seconds,
            }
        )
    )


def _skipped(claim: Claim, code: Code, message: str) -> Outcome:
    return Outcome(describe(claim, "worst_case", Verdict.SKIPPED, Reason(code=code, message=message)))


class _Search:
    """f and e as functions of flat float64 vectors [sample, n], with their derivatives."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.watch = Stopwatch()
        self.drawn = samples_of(claim)
        self.moving = [v for _, v in leaves(self.drawn) if v.is_floating_point()]
        self.x = _flat(self.moving) if self.moving else torch.zeros(claim.samples, 0, dtype=torch.float64)
        self.function = claim.bind(claim.reference or recast(claim.function, torch.float64, own=claim.dtype))
        self.identity = claim.group.identity
        with torch.enable_grad():
            x = self.x.clone().requires_grad_()
            try:
                y = self.f(x)
                self.differentiable = bool(self.moving) and y.requires_grad
                if self.differentiable:
                    torch.autograd.grad(y.sum(), x)
            except RuntimeError as error:
                if FREED not in str(error) and NO_GRAPH not in str(error):
                    raise
                self.differentiable = False
            self.y = self.f(self.x).detach()
        self.radius = float(self.x.square().sum(1).mean().sqrt())
        self.size = _rms(self.y - self.y.mean(0))
        self.generator = torch.Generator().manual_seed(claim.seed + 10)
        self._origins: dict[Element, Vector] = {}
        self.defect = 0.0  # of the actions at the tried elements

    def tree(self, x: Vector) -> Tree:
        """Flat vectors as the claim's inputs; tensors that are not floating come from the samples."""
        parts = iter(x.split([v[0].numel() for v in self.moving], 1))
        count = len(x)

        def place(v: torch.Tensor) -> torch.Tensor:
            if not v.is_floating_point():
                return v[:1].expand(count, *v.shape[1:])
            part: torch.Tensor = next(parts)
            return part.reshape(count, *v.shape[1:])

        return tree_map(place, self.drawn)

    def target(self, y: Vector) -> Tree:
        """Flat outputs as the claim's outputs."""
        parts = iter(y.split([math.prod(shape) for shape in self.shapes], 1))
        shapes = iter(self.shapes)
        return tree_map(lambda _: next(parts).reshape(len(y), *next(shapes)), self.claim.target)

    def _call(self, tree: Tree) -> Tree:
        with seeded(self.claim.call_seed, self.claim.device), full_float32(), self.watch:
            y = self.function(handed_over(tree))
        y = tree_map(lambda leaf, v: _on_band(leaf, v.double()), self.claim.target, y)
        self.shapes = [tuple(v.shape[1:]) for _, v in leaves(y)]
        return y

    def f(self, x: Vector) -> Vector:
        """The flat outputs for flat inputs x."""
        return _flat([v for _, v in leaves(self._call(self.tree(x)))])

    def e(self, x: Vector, g: Element, h: Element | None = None) -> Vector:
        """f(a_g x) - b_h f(a_e x), h = g by default."""
        claim, tree = self.claim, self.tree(x)
        moved = self._call(claim.act(claim.source, g, tree))
        target = claim.act(
            claim.target, g if h is None else h, self._call(claim.act(claim.source, self.identity, tree))
        )
        pairs = zip(leaves(moved), leaves(target), strict=True)
        return _flat([a - b for (_, a), (_, b) in pairs])

    @functools.cached_property
    def is_affine(self) -> bool:
        """Whether f(x + y) + f(0) = f(x) + f(y) up to float64 rounding."""
        with torch.no_grad():
            x, y = self.x[:1], self.x[1:2]
            value = self.f(x + y) + self.f(torch.zeros_like(x)) - self.f(x) - self.f(y)
        return float(value.norm()) <= SAFETY * EPS["float64"] * self.kappa * float(self.y.norm())

    def worst(self, g: Element) -> Vector:
        """The worst input that the search finds, [1, n], of norm r."""
        return self._lanczos(g) if self.is_affine else self._ascent(g)

    def error(self, g: Element, x: Vector) -> float:
        """The largest ||e(x) - e(0)|| over the rows of x, relative to the typical output."""
        with torch.no_grad():
            return self._relative(self.e(x, g) - self._origin(g))

    def _origin(self, g: Element) -> Vector:
        """e(0), which does not depend on the input; zero if the layer is not defined there."""
        if g not in self._origins:
            with torch.no_grad():
                self._origins[g] = self.e(torch.zeros_like(self.x[:1]), g).nan_to_num(0.0, 0.0, 0.0)
        return self._origins[g]

    def _lanczos(self, g: Element) -> Vector:
        """The leading right singular vector of the linear part of e."""
        with torch.enable_grad():
            zero = torch.zeros_like(self.x[:1]).requires_grad_()
            value = self.e(zero, g)
        origin = value.detach()

        def gram(v: Vector) -> Vector:
            with torch.no_grad():
                product = self.e(v[None], g) - origin
            with self.watch:
                return torch.autograd.grad(value, zero, product, retain_graph=True)[0][0]

        start = torch.randn(zero.shape[1], generator=self.generator, dtype=torch.float64).to(zero)
        basis = [start / start.norm()]
        diagonal: list[float] = []
        off_diagonal: list[float] = []
        for _ in range(min(LANCZOS_STEPS, len(start))):
            w = gram(basis[-1])
            diagonal.append(float(w @ basis[-1]))
            for b in (*basis, *basis):  # twice, because rounding spoils the first orthogonalisation
                w = w - (w @ b) * b
            norm = float(w.norm())
            if not norm > EPS["float64"] * max(map(abs, diagonal)) * len(start):
                break
            if len(diagonal) == ROUNDING_STEPS and self._is_rounding(_ritz(diagonal, off_diagonal)[0]):
                break
            off_diagonal.append(norm)
            basis.append(w / norm)
        square, ritz = _ritz(diagonal, off_diagonal)
        if not math.isfinite(square):
            return self.x[:1]
        vector: Vector = torch.stack(basis[: len(ritz)], 1) @ torch.from_numpy(ritz).to(zero)
        found: Vector = self.radius * vector[None] / vector.norm()
        return found

    def _is_rounding(self, square: float) -> bool:
        """Whether an error with this square, per unit input, is far below the claim's bound."""
        eps = claim_eps(str(self.claim.dtype).removeprefix("torch."))
        least = 0.1 * SAFETY * self.kappa * (eps + self.defect)
        return math.sqrt(max(0.0, square)) * self.radius <= least * self.size

    @functools.cached_property
    def kappa(self) -> float:
        """kappa at the samples."""
        return self.rounding(self.x)

    def _ascent(self, g: Element) -> Vector:
        """The input with the largest error on the paths of the ascent from all samples."""
        origin = self._origin(g)
        x, best, place = self.x.detach(), -1.0, self.x[:1]
        for step in range(ASCENT_STEPS):
            if step == ROUNDING_STEPS and self._is_rounding(best / self.radius**2):
                break
            with torch.enable_grad():
                point = x.clone().requires_grad_()
                sizes = (self.e(point, g) - origin).square().sum(1)
                slope = torch.autograd.grad(sizes.sum(), point)[0] if sizes.requires_grad else torch.zeros_like(point)
            found = sizes.detach()
            if not bool(found.isfinite().all()):
                return x
            if float(found.max()) > best:
                best, place = float(found.max()), x[found.argmax()][None]
            norms = slope.norm(dim=1, keepdim=True)
            if not bool((norms > 0).any()):
                break
            x = torch.where(norms > 0, self.radius * slope / norms.where(norms > 0, 1.0), x)
        return place

    def rounding(self, x: Vector) -> float:
        """kappa at these inputs, at least 1: float32 rounding and conditioning, relative to the typical output."""
        single = self.claim.bind(recast(self.claim.function, torch.float32, own=self.claim.dtype))
        with torch.no_grad(), seeded(self.claim.call_seed, self.claim.device), full_float32():
            y = single(tree_map(lambda v: v.float() if v.is_floating_point() else v, self.tree(x)))
        found = [
            _on_band(leaf, v.double()) for (_, leaf), (_, v) in zip(leaves(self.claim.target), leaves(y), strict=True)
        ]
        kappa = Kappa()
        with torch.no_grad():
            kappa.add_loss(self._one(_flat(found) - self.f(x.float().double())))
            exact = self.f(x)
            for moved, add in neighbours(self.f, x, self.claim.seed):
                add(kappa, self._one(moved - exact))
        return kappa.worst

    def _one(self, difference: Vector) -> torch.Tensor:
        return torch.tensor([self._relative(difference)], dtype=torch.float64)

    def _relative(self, difference: Vector) -> float:
        norm = float(difference.norm(dim=1).max())
        return 0.0 if norm == 0 else norm / self.size if self.size > 0 else math.inf

    def typical(self, g: Element) -> float:
        """The error e at g on random inputs."""
        with torch.no_grad():
            return self._relative(self.e(self.x, g))

    def wrong(self, g: Element) -> float:
        """The least error of a wrong target action at g; if all actions are equal, the error of another sample."""
        probes = [v for _, v in leaves(self.target(torch.randn_like(self.y[:1])))]
        others = (self.identity, self.claim.group.inverse(g))
        with torch.no_grad():
            different = [h for h in others if not same_action(self.claim, g, h, probes)]
            errors = [self._relative(self.e(self.x, g, h)) for h in different]
            return min(errors) if errors else self._relative(self.y - self.y.roll(1, 0))


def _ritz(diagonal: list[float], off_diagonal: list[float]) -> tuple[float, NDArray[np.float64]]:
    """The largest eigenvalue of the tridiagonal matrix of Lanczos and its vector; NaN if the matrix is not finite."""
    off = off_diagonal[: len(diagonal) - 1]
    tridiagonal = np.diag(diagonal) + np.diag(off, 1) + np.diag(off, -1)
    if not np.isfinite(tridiagonal).all():
        return math.nan, np.empty(0)
    values, vectors = np.linalg.eigh(tridiagonal)
    return float(values[-1]), vectors[:, -1]


def _flat(values: list[torch.Tensor]) -> Vector:
    return torch.cat([v.flatten(1) for v in values], 1)


def _rms(rows: Vector) -> float:
    return float(rows.square().sum(1).mean().sqrt())


def _on_band(leaf: Any, value: torch.Tensor) -> torch.Tensor:
    projected: torch.Tensor = getattr(leaf, "project", lambda v: v)(value)
    return projected
