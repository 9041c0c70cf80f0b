"""What the harness adds to a check, and the memory of a long plan: `python benchmarks/long_runs.py --checks 100000`.

Checks that do nothing run through the whole of ``equiharness verify`` (plan, workers, record, progress, summary), so
that all the time they take is the harness's own. Overhead is wall time times workers over checks, start-up left out:
the time from the record's first result to its last. This file is also the plugin that its runs load.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CASES = "LONG_RUNS_CASES"
WAYS = {
    "in this process": (["--jobs", "1"], 1),
    "pool of 1": (["--jobs", "1", "--limit", "60"], 1),
    "pool of 2": (["--jobs", "2"], 2),
    "Dask, 1 worker": (["--scheduler", "local", "--jobs", "1"], 1),
    "Dask, 2 workers": (["--scheduler", "local", "--jobs", "2"], 2),
}


def plugin():
    """The adapter and its suite, made when they are asked for: the measuring process loads nothing."""
    from equiharness.harness.adapters.adapter import Case, Family, Implementation
    from equiharness.harness.verdict.result import CheckResult, Reason, Verdict

    class Trifle(Implementation):
        name, library, family = "long_runs.Trifle", "torch", Family.PLANAR

        def cases(self):
            return [Case.of(number=n) for n in range(int(os.environ[CASES]))]

        def build(self, case, *, device, dtype, seed):
            return case

    class Outcome:
        picture = None

        def __init__(self, name):
            reason = Reason(code="EXACT", message="")
            self.result = CheckResult(property=name, verdict=Verdict.EXACT, reason=reason, error=0.0, bound=1e-6)

    return Trifle, lambda name, claim: Outcome(name)


def __getattr__(name):
    if name in ("Trifle", "run_property"):
        globals()["Trifle"], globals()["run_property"] = plugin()
        return globals()[name]
    raise AttributeError(name)


def one(words):
    """One run; prints its figures as JSON."""
    from equiharness import cli
    from equiharness.suites import properties

    properties.SUITE = "long_runs:run_property"
    sys.argv = ["equiharness", "verify", "long_runs.Trifle", "--dtype", "float32", "--no-html", *words]
    begin = time.perf_counter()
    try:
        cli.main()
    except SystemExit as end:
        code = end.code or 0
    peaks = {who: resource.getrusage(kind).ru_maxrss / 1024 for who, kind in (("main", 0), ("worker", -1))}
    print(json.dumps({"code": code, "seconds": time.perf_counter() - begin, **peaks}))


def measure(words, checks, folder):
    """Figures of one run in a process of its own."""
    info = folder / "long_runs-1.0.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: long_runs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[equiharness.implementations]\ntrifle = long_runs:Trifle\n")
    paths = [str(Path(__file__).resolve().parent), str(folder), os.environ.get("PYTHONPATH", "")]
    out = folder / "out"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), CASES: str(-(-checks // 15))}
    command = [sys.executable, __file__, "--one", *words, "--out", str(out)]
    with (folder / "errors").open("w") as errors:
        begin = time.time()
        process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=errors, text=True)
        record, first = out / "run.jsonl", None
        while first is None and process.poll() is None:  # the second line of a new record is the first result
            if record.exists() and record.stat().st_mtime > begin - 1:
                with record.open("rb") as stream:
                    if sum(1 for _, line in zip(range(2), stream, strict=False) if line.endswith(b"\n")) == 2:
                        first = time.time()
            time.sleep(0.002)
        said, _ = process.communicate()
    if process.returncode:
        raise SystemExit((folder / "errors").read_text()[-2000:])
    figures = json.loads(said.splitlines()[-1])
    lines = record.read_bytes().count(b"\n")
    record_end = record.stat().st_mtime
    return {**figures, "checks": lines - 2, "stream": record_end - first, "bytes": record.stat().st_size}


def main():
    if "--one" in sys.argv:
        one([word for word in sys.argv[1:] if word != "--one"])
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checks", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    options = parser.parse_args()
    print("| where | checks | overhead of a check | peak of the main process | peak of a worker | record |")
    print("|---|---|---|---|---|---|")
    for way in options.ways:
        words, workers = WAYS[way]
        for checks in options.checks:
            with tempfile.TemporaryDirectory() as folder:
                found = measure(words, checks, Path(folder))
            overhead = 1e3 * found["stream"] * workers / found["checks"]
            worker = f"{found['worker']:.0f} MB" if way != "in this process" else ""
            size = found["bytes"] / 1e6
            print(
                f"| {way} | {found['checks']} | {overhead:.3f} ms "
                f"| {found['main']:.0f} MB | {worker} | {size:.0f} MB |",
                flush=True,
            )


if __name__ == "__main__":
    main()
