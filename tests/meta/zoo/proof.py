"""What the zoo proves, as counts: faults caught of faults planted, false alarms of sound checks."""

from collections import Counter
from concurrent.futures import ProcessPoolExecutor

from equiharness.harness.verdict.result import Verdict
from equiharness.suites.check import run_property

from . import faults
from .generated import decade, mutations
from .likeness import likeness
from .sound import SOUND, checks

PASSES = (Verdict.EXACT, Verdict.APPROXIMATE)
WORKERS = 6
#: Seeds of the sound set: every layer, property and precision twice in the ordinary run; over 10,000 checks in the deep
#: one and in the proof.
SEEDS, DEEP_SEEDS = range(2), range(58)


#: (property, likeness of a claim) -> the claim, which keeps what the likeness names, and its result.
_SOUND = {}


def verdicts_of(fault, dtype, seed=0):
    """What the fault's property says of the sound twin and of the broken one; a twin of many faults is judged once."""
    sound, broken = fault.claims(dtype, seed)
    key = fault.property, likeness(sound)
    if key not in _SOUND:
        _SOUND[key] = sound, run_property(fault.property, sound).result
    return _SOUND[key][1], run_property(fault.property, broken).result


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


def prove(parts=("faults", "generated", "sound"), report=lambda text: None):
    """Judge parts of the zoo: every fault in every precision, every mutation by bisection, the sound set on all seeds.

    Returns:
        The counts of ``planted`` for these parts, with what was found.
    """
    judges = {"faults": _faults_caught, "generated": _mutations_caught, "sound": _false_alarms}
    return {part: {**counts, **judges[part](report)} for part, counts in planted().items() if part in parts}


def _faults_caught(report):
    return {"caught": sum(_whole(fault, report) for fault in faults())}


def _mutations_caught(report):
    sizes = {}
    for mutation in mutations():
        size = mutation.smallest()
        if size is None:
            report(f"slipped through: {mutation.name}")
        else:
            sizes.setdefault(mutation.kind, []).append(size)
    ends = {kind: [f"1e{decade(end)}" for end in (min(found), max(found))] for kind, found in sorted(sizes.items())}
    return {"caught": sum(map(len, sizes.values())), "smallest": ends}


def _false_alarms(report):
    """In processes, as this part takes longest."""
    with ProcessPoolExecutor(WORKERS) as pool:
        texts = [text for found in pool.map(_alarms_from, range(WORKERS)) for text in found]
    for text in texts:
        report(text)
    return {"false_alarms": len(texts)}


def _alarms_from(start):
    """The false alarms of every WORKERS-th check."""
    judged = ((check, false_alarm(check)) for check in list(checks(DEEP_SEEDS))[start::WORKERS])
    return [
        f"false alarm: {check.sound.name}, {check.property}, {check.dtype}, seed {check.seed}: {result}"
        for check, result in judged
        if result is not None
    ]


def _whole(fault, report):
    """Whether a fault is caught in every one of its precisions, and its sound twin passes."""
    for dtype in fault.dtypes:
        good, bad = verdicts_of(fault, dtype)
        if good.verdict not in PASSES or not is_caught(fault, bad):
            report(f"slipped through or sound twin failed: {fault.name}, {dtype}: {good} / {bad}")
            return False
    return True
