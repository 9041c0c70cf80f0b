"""A plugin of cheap, deterministic and ill-behaved checks: what long runs are tested with.

Each case says what its checks do: nothing, sleep, die of a signal, exit, hang, lose their device. A result is a number
that its check alone determines.
"""

import hashlib
import os
import signal
import time

from equiharness.harness.adapters.adapter import Case, Family, Implementation
from equiharness.harness.verdict.result import CheckResult, Reason, Verdict

SUITE = "cheap:run_property"


class Cheap(Implementation):
    name = "cheap.Layer"
    library = "torch"
    family = Family.PLANAR
    #: (what the checks do, how many cases)
    kinds = (("sleep", int(os.environ.get("CHEAP_SLEEP", "0"))), ("pass", int(os.environ.get("CHEAP_PASS", "4"))))

    def cases(self):
        listed = os.environ.get("CHEAP_KINDS")
        if listed is not None:
            return [Case.of(kind=kind, number=n) for n, kind in enumerate(listed.split(","))]
        return [Case.of(kind=kind, number=n) for kind, count in self.kinds for n in range(count)]

    def build(self, case, *, device, dtype, seed):
        return Claim(case, device, dtype, seed)


class Claim:
    def __init__(self, case, device, dtype, seed):
        self.case, self.device, self.dtype, self.seed = case, device, dtype, seed


class Outcome:
    picture = None

    def __init__(self, result):
        self.result = result


def run_property(name, claim):
    kind = claim.case["kind"]
    if kind == "sleep":
        time.sleep(float(os.environ.get("CHEAP_SECONDS", "0.02")))
    elif kind == "hang":
        time.sleep(3600)
    elif kind == "exit":
        os._exit(9)
    elif kind == "device":
        raise RuntimeError("CUDA error: an illegal memory access was encountered")
    elif kind == "raise":
        raise ValueError(f"process {os.getpid()}")
    elif kind.startswith("SIG"):
        once = os.environ.get("CHEAP_ONCE")
        if not (once and os.path.exists(once)):
            if once:
                open(once, "w").close()
            os.kill(os.getpid(), getattr(signal, kind))
            time.sleep(60)
    digest = hashlib.sha256(f"{claim.case.name}|{name}|{claim.dtype}|{claim.seed}".encode()).digest()
    error = int.from_bytes(digest[:6], "big") / 2**90
    return Outcome(
        CheckResult(
            property=name,
            verdict=Verdict.EXACT,
            reason=Reason(code="EXACT", message=_message()),
            dtype=claim.dtype,
            device=claim.device,
            seed=claim.seed,
            error=error,
            bound=1e-6,
            power=1e6,
            seconds=1e-9,
        )
    )


def _message():
    told = f"{os.getpid()} {os.environ.get('CUDA_VISIBLE_DEVICES', '')}" if os.environ.get("CHEAP_TELL") else ""
    return told + "x" * int(os.environ.get("CHEAP_FAT", "0"))


def slow_pid():
    """Busy for long enough that a second call needs a second process."""
    time.sleep(0.5)
    return os.getpid()
