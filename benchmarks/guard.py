"""Fail where a benchmark was silently skipped: asv stores null for it and exits 0.

    python benchmarks/guard.py RESULTS [PREVIOUS]

A benchmark without any value fails. So does a layer without what every layer has (forward time, memory, build time),
and whatever the previous run of the same machine has a value for and this one has not. NaN is what asv stores of a
layer that was left out by name, because its library does not load here: it is listed, and fails where the last run had
a value.
"""

import math
import sys
from pathlib import Path

from equiharness.reports.history import values_of

#: What every layer has; gradients and exact elements are not for all.
EVERY = ("track_forward", "track_memory", "track_build")


def is_value(value):
    """Whether something was measured."""
    return value is not None and not math.isnan(value)


def missing(now, before=None):
    """One line for each value that should be there.

    Args:
        now: benchmark -> layer -> value or None.
        before: the same of the last run; None without one.
    """
    if not now:
        return ["no benchmark ran"]
    found = [f"{name}: no value at all" for name, values in now.items() if not any(map(is_value, values.values()))]
    for name, values in now.items():
        if name.rpartition(".")[2] in EVERY:
            found += [f"{name}: no value for {layer}" for layer, value in values.items() if value is None]
    for name, values in (before or {}).items():
        for layer, value in values.items():
            if is_value(value) and not is_value(now.get(name, {}).get(layer)):
                found.append(f"{name}: no value for {layer}, which the last run has")
    return list(dict.fromkeys(found))


def main(words):
    """Exit code 1 with a line for each missing value."""
    now = values_of(Path(words[0]))
    lines = missing(now, values_of(Path(words[1])) if len(words) > 1 else None)
    taken = sum(is_value(value) for values in now.values() for value in values.values())
    print(f"{taken} values of {sum(map(len, now.values()))} in {len(now)} benchmarks")
    unloadable = {layer for values in now.values() for layer, v in values.items() if v is not None and not is_value(v)}
    for layer in sorted(unloadable):
        print(f"left out: {layer}, which cannot be built here; the record says why")
    for line in lines:
        print(f"skipped: {line}", file=sys.stderr)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
