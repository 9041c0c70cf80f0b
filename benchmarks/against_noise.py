"""Is a planted slowdown WORSE and an unchanged tree not, every time, on this machine?

    python benchmarks/against_noise.py [COMPARISONS] [FOLDER]

Clones the repository, then alternates ``equiharness bench --against HEAD`` on the clean clone and on one whose grid
convolutions spend 15% more CPU time. Prints one line for each comparison and the two counts.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHARE = 0.15
SOURCE = "kernels/grid/conv.py"
BEFORE = "    def forward(self, x: Tensor) -> Tensor:\n"
SLOW = f"""    def forward(self, x: Tensor) -> Tensor:
        import time

        begin = time.thread_time()
        y = self._planted(x)
        until = begin + {1 + SHARE} * (time.thread_time() - begin)
        while time.thread_time() < until:
            pass
        return y

    def _planted(self, x: Tensor) -> Tensor:
"""
BENCH = ["bench", "equiharness.GroupConv", "--operator", "group convolution C4", "--no-backward", "--against", "HEAD"]


def compare(clone, out):
    """Exit code and verdict line of one comparison."""
    door = [sys.executable, "-c", "from equiharness.cli import main; main()"]
    done = subprocess.run([*door, *BENCH, "--out", str(out)], cwd=clone, capture_output=True, text=True, check=False)
    said = [line for line in done.stdout.splitlines() if "| forward" in line or "forward |" in line]
    return done.returncode, (said or done.stderr.splitlines() or [""])[-1]


def main(comparisons, folder):
    clone = Path(folder) / "clone"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    sound = (clone / SOURCE).read_text(encoding="utf-8")
    assert sound.count(BEFORE) == 1, f"{SOURCE} has changed: plant the slowdown elsewhere"
    right = {"unchanged": 0, "planted": 0}
    for number in range(1, comparisons + 1):
        for kind, text in (("unchanged", sound), ("planted", sound.replace(BEFORE, SLOW))):
            (clone / SOURCE).write_text(text, encoding="utf-8")
            code, said = compare(clone, Path(folder) / f"{kind}-{number}")
            right[kind] += code == (1 if kind == "planted" else 0)
            print(f"{kind} {number}: exit {code}; {said}", flush=True)
    print(f"of {comparisons}: unchanged not WORSE {right['unchanged']}, planted WORSE {right['planted']}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 20, sys.argv[2] if len(sys.argv) > 2 else temporary)
