"""The printed smallest fault is one that fails: at twice its size a check fails, and at half of its size it passes.

With h the wrong action, s the sample and g the element that set the power, the fault of size t is a layer that returns
f(x) at the sample and f(a_g x) + t (b_h - b_g) f(x) at its moved copy; for an invariant f(a_g x) + t (f(x_r) - f(x)),
r the sample that differs most.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from equiharness.harness.claim.evaluation import Subject
from equiharness.suites.controls import SAME_ACTION, wrong_actions
from equiharness.suites.forward.equivariance import HAAR_SAMPLES, equivariance
from equiharness.suites.forward.measurement import look_behind_constants, measure
from equiharness.suites.rounding import samples_of
from zoo import sounds
from zoo.sound import DOUBLE, SINGLE, SOUND

#: Layers of one tensor; those of strangers take trees too, and write into their inputs.
LAYERS = [s for s in SOUND if "equivariance" in s.properties and {SINGLE, DOUBLE} & set(s.dtypes) and s not in sounds()]


def weakest(claim):
    """The element and the sample that set the power of a check, and the output's change under the wrong action."""
    rng = np.random.default_rng(claim.seed)
    drawn = claim.representatives(rng, HAAR_SAMPLES)
    elements = claim.few([g for g in drawn if claim.exact(g)], rng)
    x, subject = samples_of(claim), Subject(claim)
    measured = measure(subject, elements, x, rng)
    [tally] = measured.tallies
    y = subject.reference(x)
    look_behind_constants(subject, measured, subject.through(x, claim.dtype))
    unit = tally.kappa.value if tally.single_kappa is None else torch.maximum(tally.kappa.value, tally.single_kappa)
    unit = torch.minimum(unit, tally.hidden_kappa * len(y) / (len(y) - 1))
    found = []
    for g, wrong in zip(elements, tally.wrong, strict=True):
        if wrong is None:
            continue
        seen = torch.where(wrong.isfinite(), wrong / unit, 0.0).amax(-1)  # [h, sample]
        sample, h = int(seen.amin(0).argmax()), int(seen[:, seen.amin(0).argmax()].argmin())
        order = tally.scale.euclidean.sum(1).argsort(descending=True).tolist()
        found.append((float(seen.amin(0).max()), g, order[sample], h))
    if found:
        _, g, s, h = min(found, key=lambda row: row[0])
        probe = torch.randn(y[:1].shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        moved = tally.leaf.act(g, probe)
        actions = wrong_actions(claim.group, tally.leaf, g, elements)
        others = [
            a
            for a in actions
            if a(probe).shape == moved.shape and float((a(probe) - moved).norm()) > SAME_ACTION * float(moved.norm())
        ]
        change = others[h](y[s : s + 1]) - tally.leaf.act(g, y[s : s + 1])
    else:
        variation = tally.input_variation / unit
        s = int(torch.where(variation.isfinite(), variation, 0.0).amax(-1).argmax())
        g = next(g for g in elements if not g.is_identity)
        change = y.roll(1, 0)[s : s + 1] - y[s : s + 1]
    moved = claim.act(claim.source, g, x)
    others = torch.cat([x, moved[:s], moved[s + 1 :]])
    return moved[s], float((others - moved[s]).flatten(1).norm(dim=1).min()) / 2, change


def with_fault(claim, moved, near, change, t):
    """The claim of a layer whose output at the moved sample is off by t times the change."""

    def faulty(function):
        def run(x):
            y = function(x) if claim.after is None else claim.after(function(x))
            same = (x.double() - moved).flatten(1).norm(dim=1) <= near
            return y + same.to(y).reshape(-1, *[1] * (y.dim() - 1)) * (t * change).to(y)

        return run

    reference = None if claim.reference is None else faulty(claim.reference)
    return replace(claim, function=faulty(claim.function), reference=reference, after=None, modules=claim.modules)


def claims():
    """Fifty layers in both precisions, by day in one of the two."""
    found = []
    for i, sound in enumerate(LAYERS):
        for dtype in sound.dtypes:
            if dtype in (SINGLE, DOUBLE):
                chosen = len(sound.dtypes) == 1 or dtype is (SINGLE, DOUBLE)[i % 2]
                marks = [] if chosen else [pytest.mark.deep]
                found.append(pytest.param(sound, dtype, id=f"{sound.name} {dtype}", marks=marks))
    return found


def test_the_layers_are_fifty():
    assert len(LAYERS) >= 50
    assert {s.family for s in LAYERS} == {"planar", "points", "octahedral", "spherical"}


@pytest.mark.parametrize(("sound", "dtype"), claims())
def test_a_fault_of_twice_the_printed_size_fails_and_one_of_half_of_it_passes(sound, dtype):
    claim = sound.claim(dtype, 0)
    right = equivariance(claim).result
    assert not right.verdict.fails, str(right)
    moved, near, change = weakest(claim)
    above = equivariance(with_fault(claim, moved, near, change, 2 / right.power)).result
    below = equivariance(with_fault(claim, moved, near, change, 0.5 / right.power)).result
    assert above.verdict.fails, f"{right}\n{above}"
    assert above.reason.code in ("ERROR", "HIDDEN", "TIE", "ILL_CONDITIONED", "LOW_POWER"), str(above)
    assert not below.verdict.fails, f"{right}\n{below}"
