"""One nightly run: benchmarks, guard, site, comparison with the last saved run, trend page.

    python benchmarks/nightly_run.py [--machine NAME] [--out out/nightly]

Everything that lasts lies in ``.asv``: asv's results, and beside them one record for each run. Exit code 1 where a
benchmark was skipped or an error has grown; the site and the page are made in any case.
"""

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import guard

ROOT = Path(__file__).resolve().parents[1]
STATE = ROOT / ".asv"


def run(*words, **env):
    """A command in the repository, its environment extended; its exit code."""
    print("+", *words, flush=True)
    return subprocess.run([str(word) for word in words], cwd=ROOT, env={**os.environ, **env}, check=False).returncode


def git(*words):
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def measure(machine, commit, record):
    """Asv in this environment; the results count as those of the commit."""
    asv = (sys.executable, "-m", "asv")
    facts = {"os": platform.system(), "arch": platform.machine(), "num_cpu": os.cpu_count()}
    options = [word for name, value in facts.items() for word in (f"--{name}", value)]
    failed = run(
        *asv, "machine", "--machine", machine, *options, "--cpu", platform.processor() or "unknown", "--ram", "0"
    )
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    header = json.dumps({"commit": commit, "machine_name": machine, "started": started})
    failed |= run(
        *asv, "run", "-E", "existing:same", "--machine", machine, "--set-commit-hash", commit,
        EQUIHARNESS_RECORD=str(record), EQUIHARNESS_HEADER=header,
    )  # fmt: skip
    return failed | run(*asv, "publish")


def newest_first(folder, pattern):
    """Files by time of writing."""
    return sorted(folder.glob(pattern), key=lambda path: path.stat().st_mtime, reverse=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--machine", default=platform.node() or "machine")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "nightly")
    options = parser.parse_args()
    commit = git("rev-parse", "HEAD")
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S")
    records, results = STATE / "records", STATE / "results" / options.machine
    records.mkdir(parents=True, exist_ok=True)
    before = newest_first(records, "*[0-9a-f].jsonl")[:1]  # not the side files
    # asv writes a commit's second run over its first: what the guard compares with is kept apart.
    saved = STATE / "previous.json"
    found = newest_first(results, "*-existing-*.json")
    saved.unlink(missing_ok=True)
    if found:
        saved.write_bytes(found[0].read_bytes())
    record = records / f"{stamp}-{commit[:12]}.jsonl"
    failed = measure(options.machine, commit, record)
    found = newest_first(results, f"{commit[:8]}-existing-*.json")
    if not found:
        print("asv saved no results", file=sys.stderr)
        return 1
    failed |= guard.main([found[0], *([saved] if saved.exists() else [])])
    door = (sys.executable, "-c", "from equiharness.cli import main; main()")
    if before and record.exists():
        failed |= run(*door, "compare", before[0], record, "--out", options.out)
    options.out.mkdir(parents=True, exist_ok=True)
    all_records = sorted(records.glob("*[0-9a-f].jsonl"))
    failed |= run(*door, "trend", "--results", STATE / "results", *all_records, "--out", options.out / "trend.html")
    print(f"{STATE / 'html' / 'index.html'} and {options.out / 'trend.html'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
