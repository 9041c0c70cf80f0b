"""Which planted mistakes in the sources does the ordinary test run notice?

    python tests/meta/mutants.py [--only b01 i03] [--jobs 2] [--whole]

``mutants.toml`` beside this file holds small mistakes over all rooms, as texts to replace; half of them were chosen by
somebody who had not read the tests. Each is made in a copy of the tree, and the tests that it names are run until one
fails. A mutant that survives them is tried again, with all other survivors at once, by the whole ordinary run: where
that passes, none of them is noticed. With --whole each survivor gets a whole run of its own.
"""

import argparse
import concurrent.futures
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("harness", "suites", "impls", "kernels", "reports", "cli")
ORDINARY = ["-n", "2", "--dist", "worksteal", "-m", "not deep and not pages"]


def mutants(only=()):
    """The mutants, each as a dict with id, file, before, after, why and tests."""
    listed = tomllib.loads((ROOT / "tests/meta/mutants.toml").read_text(encoding="utf-8"))["mutant"]
    return [mutant for mutant in listed if not only or mutant["id"] in only]


def source_of(mutant, root=ROOT):
    """The file that holds a mutant's text.

    Raises:
        LookupError: the text is in no file, or in several: the sources have changed, and the mutant has to follow.
    """
    path = root / mutant["file"]
    if path.is_file() and path.read_text(encoding="utf-8").count(mutant["before"]) == 1:
        return path
    raise LookupError(f"{mutant['id']}: its text is not once in {mutant['file']}; write down where it is now")


def copied(folder):
    """A copy of the tracked tree under the package's name, importable before any installed one."""
    root = folder / "equiharness"
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in tracked.splitlines():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, root / name)
    return root


def passes(root, arguments):
    """Whether tests pass in a copy of the tree."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *arguments]
    env = {**os.environ, "PYTHONPATH": str(root.parent), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, cwd=root, env=env, capture_output=True).returncode == 0


def survives(mutant, arguments=None):
    """Whether the tests that a mutant names pass with it."""
    with tempfile.TemporaryDirectory() as folder:
        root = copied(Path(folder))
        plant(mutant, root)
        return passes(root, arguments or ["-m", "not deep and not pages", *mutant["tests"]])


def plant(mutant, root):
    """Make the mistake in a copy of the tree."""
    path = source_of(mutant, root)
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(mutant["before"], mutant["after"]), encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=())
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--whole", action="store_true")
    options = parser.parse_args()
    listed = mutants(options.only)
    survivors = []
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for mutant, survived in zip(listed, pool.map(survives, listed), strict=True):
            print(f"{mutant['id']}  {'survives its tests' if survived else 'killed'}  {mutant['why']}", flush=True)
            survivors += [mutant] if survived else []
    if survivors and not options.whole:
        with tempfile.TemporaryDirectory() as folder:
            root = copied(Path(folder))
            for mutant in survivors:
                plant(mutant, root)
            if passes(root, ORDINARY):
                options.whole = None
    left = survivors if options.whole is None else [m for m in survivors if survives(m, ORDINARY)]
    print(f"{len(listed) - len(left)} of {len(listed)} killed; survivors: {[m['id'] for m in left]}")
    sys.exit(1 if left else 0)


if __name__ == "__main__":
    main()
