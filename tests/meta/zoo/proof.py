"""What the zoo proves, as counts: faults caught of faults planted, false alarms of sound checks."""

from collections import Counter

from equiharness.harness.verdict import Verdict
from equiharness.suites.check import run_property

from . import faults
from .generated import decade, mutations
from .sound import SOUND, checks

PASSES = (Verdict.EXACT, Verdict.APPROXIMATE)
#: Seeds of the sound set: over 1,000 checks in the ordinary run, over 10,000 in the deep one.
SEEDS, DEEP_SEEDS = range(6), range(56)


def verdicts_of(fault, dtype, seed=0):
    """What the fault's property says of the sound twin and of the broken one."""
    sound, broken = fault.claims(dtype, seed)
    return tuple(run_property(fault.property, claim).result for claim in (sound, broken))


def is_caught(fault, result):
    return (result.verdict.value, result.reason.code) == (fault.verdict, fault.code)


def false_alarm(check):
    """The result of a check of a sound layer, where it is anything but a pass."""
    result = run_property(check.property, check.sound.claim(check.dtype, check.seed)).result
    return None if result.verdict in PASSES else result


def planted():
    """What is planted, without judging it: compared with the committed proof, so that this is one of this zoo."""
    every, generated = faults(), mutations()
    return {
        "faults": {
            "planted": len(every),
            "by_property": dict(sorted(Counter(f.property for f in every).items())),
            "by_family": dict(sorted(Counter(f.family for f in every).items())),
            "by_layer": dict(sorted(Counter(f.layer for f in every).items())),
        },
        "generated": {"planted": len(generated), "by_kind": dict(sorted(Counter(m.kind for m in generated).items()))},
        "sound": {"layers": len(SOUND), "checks": sum(1 for _ in checks(DEEP_SEEDS))},
    }


def prove(report=lambda text: None):
    """Judge everything: every fault in every precision, every mutation by bisection, the sound set on all seeds."""
    found = planted()
    found["faults"]["caught"] = sum(_whole(fault, report) for fault in faults())
    smallest = {m: m.smallest() for m in mutations()}
    found["generated"]["caught"] = sum(size is not None for size in smallest.values())
    for kind in found["generated"]["by_kind"]:
        sizes = [size for m, size in smallest.items() if m.kind == kind and size is not None]
        found["generated"].setdefault("smallest", {})[kind] = [f"1e{decade(min(sizes))}", f"1e{decade(max(sizes))}"]
    alarms = [(check, result) for check in checks(DEEP_SEEDS) if (result := false_alarm(check)) is not None]
    for check, result in alarms:
        report(f"false alarm: {check.sound.name}, {check.property}, {check.dtype}, seed {check.seed}: {result}")
    found["sound"]["false_alarms"] = len(alarms)
    return found


def _whole(fault, report):
    """Whether a fault is caught in every one of its precisions, and its sound twin passes."""
    for dtype in fault.dtypes:
        good, bad = verdicts_of(fault, dtype)
        if good.verdict not in PASSES or not is_caught(fault, bad):
            report(f"slipped through or sound twin failed: {fault.name}, {dtype}: {good} / {bad}")
            return False
    return True
