"""Quadrature: an affine invariant of spherical signals is an integral, exact for degrees < 2b and not at 2b.

Only the constant harmonic has a nonzero integral. The sum over a grid is exact up to some degree. A sum that is exact
to a lower degree only passes every test with signals of the band, and fails on products of such signals.
"""

from __future__ import annotations

import time

import torch

from ...harness.claim.claim import Claim
from ...harness.claim.evaluation import Subject
from ...harness.claim.outcome import describe
from ...harness.fields.domains import Vector
from ...harness.fields.field import Field
from ...harness.fields.spheres import BandLimited
from ...harness.precisions import EPS, claim_eps
from ...harness.verdict.decide import SAFETY, Evidence, decide
from ...harness.verdict.result import CheckResult, ElementResult
from ..rounding import largest_of

#: Random harmonics of each degree.
SAMPLES = 2
#: About this number of degrees below the last degree is tried.
DEGREES = 32


def integrates(claim: Claim) -> bool:
    """Whether a claim maps a single scalar field on the sphere or on SO(3) to invariants."""
    source, target = claim.source, claim.target
    if not (isinstance(source, Field) and isinstance(source.domain, BandLimited)):
        return False
    if not (isinstance(target, Field) and isinstance(target.domain, Vector)):
        return False
    return all(rep.name == "trivial" for side in (source, target) for _, rep in side.fibre.terms)


def quadrature(claim: Claim) -> CheckResult:
    """The response of an affine function to harmonics, degree by degree, relative to its response to the constant.

    Args:
        claim: a claim that satisfies ``integrates``, with an affine function.

    Returns:
        EXACT if no harmonic of degree 1 to 2b - 1 has an integral; power = response at degree 2b / bound.
    """
    start = time.perf_counter()
    source, subject = claim.source, Subject(claim)
    domain: BandLimited = source.domain
    last = domain.exact_degrees
    degrees = sorted({*range(1, last, max(1, last // DEGREES)), last - 1, last} - {0})
    generator = torch.Generator().manual_seed(claim.seed)
    lead = source.tensor_shape(SAMPLES)[: -len(domain.axes)]
    x = torch.cat([domain.band.pure(degree, lead, generator) for degree in degrees]).to(claim.device)
    x = torch.cat([torch.zeros_like(x[:1]), torch.ones_like(x[:1]), x])
    with subject.guarded():
        exact = subject.probe_reference(x)
        run = subject.reference if exact is not None else subject.working
        exact = exact if exact is not None else run(x)
        # Both runs use the rounded input, because rounding changes the integral of an input.
        rounding = subject.single(x) - run(subject.through(x, torch.float32))
    size = float((exact[1] - exact[0]).abs().max())
    responses = _relative(exact[2:] - exact[:1], size).reshape(len(degrees), -1).amax(1)
    kappa = largest_of([float(_relative(rounding, size).max()) / EPS["float32"]], 1.0)
    evidence = Evidence(
        dtype=str(claim.dtype).removeprefix("torch."),
        error=float(responses[:-1].max()) if len(responses) > 1 else 0.0,
        unit_bound=SAFETY * kappa,
        kappa=kappa,
        wrong=float(responses[-1]),
        finite=bool(exact.isfinite().all()),
    )
    verdict, reason = decide(evidence)
    bound = evidence.bound(claim_eps(evidence.dtype))
    return describe(claim, "quadrature", verdict, reason).model_copy(
        update={
            "samples": SAMPLES,
            "error": evidence.error,
            "bound": bound,
            "power": evidence.failing_power,
            "kappa": kappa,
            "elements": tuple(
                ElementResult(element=f"degree {degree}", error=float(r), bound=bound)
                for degree, r in zip(degrees, responses, strict=True)
            ),
            "seconds": time.perf_counter() - start,
            "seconds_in_layer": subject.seconds,
        }
    )


def _relative(difference: torch.Tensor, size: float) -> torch.Tensor:
    return difference.abs() / size if size > 0 else torch.where(difference == 0, 0.0, torch.inf)
