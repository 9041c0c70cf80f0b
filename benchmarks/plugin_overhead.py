"""What the pytest plugin costs a repository that has no equivariance tests, beside an installed torch.

Pairs of `pytest --collect-only` with the plugin and with `-p no:equiharness`, interleaved, on a repository of small
test files. Prints medians and quartiles of the differences in elapsed and in processor time (a busy machine moves the
first, less the second), and what is loaded with the plugin and not without. Exits 1 where the median of the elapsed
time is beyond the target, or where the plugin loads an array library.

    python benchmarks/plugin_overhead.py [pairs]
"""

import importlib.metadata
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TARGET = 0.050
CONFTEST = """
import sys

def pytest_unconfigure():
    print("LOADED", *sorted({"torch", "numpy", "hypothesis", "pydantic"} & set(sys.modules)))
"""


def repository(folder, files=20, tests=10):
    for i in range(files):
        body = "".join(f"def test_{i}_{k}():\n    assert {k} >= 0\n\n\n" for k in range(tests))
        (folder / f"test_{i}.py").write_text(body)
    (folder / "conftest.py").write_text(CONFTEST)


def collect(folder, *args):
    """Elapsed and processor seconds of one collection, and what it loaded."""
    begin, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *args],
        cwd=folder,
        env={k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")},
        capture_output=True,
        text=True,
        check=True,
    )
    elapsed, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    worked = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    loaded = next(line for line in done.stdout.splitlines() if line.startswith("LOADED")).split()[1:]
    return elapsed, worked, set(loaded)


def main(pairs):
    if not any(p.name == "equiharness" for p in importlib.metadata.entry_points(group="pytest11")):
        sys.exit("equiharness is not installed here: the plugin has no entry point to be measured by.")
    importlib.metadata.version("torch")
    rows, loaded = [], set()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        repository(folder)
        choices = [(), ("-p", "no:equiharness")]
        for args in choices:  # byte code is written once
            collect(folder, *args)
        for pair in range(pairs):
            found = {args: collect(folder, *args) for args in (choices if pair % 2 else choices[::-1])}
            rows.append([*found[choices[0]][:2], *found[choices[1]][:2]])
            loaded |= found[choices[0]][2] - found[choices[1]][2]
    median = report("elapsed", [r[0] - r[2] for r in rows], [r[2] for r in rows])
    report("processor", [r[1] - r[3] for r in rows], [r[3] for r in rows])
    print(f"{pairs} pairs, load {os.getloadavg()[0]:.1f}; loaded only with the plugin: {sorted(loaded) or 'nothing'}")
    sys.exit(int(median > TARGET or bool(loaded)))


def report(what, differences, without):
    low, median, high = (1000 * q for q in statistics.quantiles(differences, n=4))
    alone = 1000 * statistics.median(without)
    print(f"{what} time: {alone:.0f} ms without, {median:+.1f} ms with it (quartiles {low:+.1f} to {high:+.1f})")
    return median / 1000


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 25)
