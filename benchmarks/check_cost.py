"""The cost of ``equiharness.check`` at two revisions, side by side in one run.

    python benchmarks/check_cost.py REVISION [--rounds 9]

Each round checks every layer once in a process of each revision, in turns. The printed ratio is the median over rounds
of the processor time at this revision divided by that at the other one.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

#: What a process does: it makes the layers, checks each once for nothing, and then one for each line that it reads.
WORKER = """
import sys, time, warnings
warnings.simplefilter("ignore")
import torch
import equiharness as eh
torch.set_num_threads(1)

def lifting():
    torch.manual_seed(0)
    from equiharness.kernels import LiftingConv
    return LiftingConv("C4", 2, 4, 3, padding=1), ()

def product():
    from e3nn import o3
    torch.manual_seed(0)
    layer = o3.FullyConnectedTensorProduct("4x0e + 2x1o", "1x0e + 1x1o", "4x0e + 2x1o")
    many, one = (eh.Field(eh.Vector(), "O3", o3.Irreps(text)) for text in ("4x0e + 2x1o", "1x0e + 1x1o"))
    return (lambda x, y: layer(x, y)), ("O3", {"x": many, "y": one}, many)

def forces():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.SiLU(), torch.nn.Linear(16, 1))

    def model(pos):
        with torch.enable_grad():
            pos = pos.detach().clone().requires_grad_(True)
            n = pos.shape[1]
            d = (pos[:, :, None] - pos[:, None]).square().sum(-1) + torch.eye(n).to(pos)
            r = d.sqrt()
            basis = torch.exp(-(r[..., None] - torch.linspace(1, 5, 8).to(pos)) ** 2)
            energy = ((1 - torch.eye(n).to(pos)) * net(basis).squeeze(-1)).sum((1, 2))
            gradient = torch.autograd.grad(energy.sum(), pos)[0]
        return {"energy": energy.detach(), "forces": -gradient}

    return model, ("O3", {"pos": eh.Positions(5, "O3")}, {"energy": eh.Energy(), "forces": eh.Forces(5, "O3")})

made = {"C4 lifting convolution": lifting, "e3nn tensor product": product, "force field": forces}
layers = {}
for name, make in made.items():
    layer, claim = make()
    if name.startswith("C4"):
        grid = eh.Grid(9, 9)
        claim = ("C4", eh.Field(grid, "C4", "2*trivial"), eh.Field(grid, "C4", "4*regular", split=True))
    layers[name] = layer, claim
for layer, claim in layers.values():
    eh.check(layer, *claim)
print(*layers, sep=";", flush=True)
for line in sys.stdin:
    layer, claim = layers[line.strip()]
    start = time.process_time()
    result = eh.check(layer, *claim)
    print(time.process_time() - start, result.verdict, flush=True)
"""


def started(parent):
    """A process that checks layers with the package in this folder."""
    environment = {**os.environ, "PYTHONPATH": str(parent), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", WORKER]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def main():
    """Print one line for each layer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("revision")
    parser.add_argument("--rounds", type=int, default=9)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder) / "other" / "equiharness"
        other.mkdir(parents=True)
        archive = subprocess.run(["git", "archive", asked.revision], cwd=ROOT, check=True, capture_output=True).stdout
        subprocess.run(["tar", "-x"], cwd=other, input=archive, check=True)
        own = Path(folder) / "own"
        own.mkdir()
        (own / "equiharness").symlink_to(ROOT)
        workers = started(other.parent), started(own)
        names, _ = (worker.stdout.readline().strip().split(";") for worker in workers)
        ratios, seconds, verdicts = ({name: [] for name in names} for _ in range(3))
        for _ in range(asked.rounds):
            for name in names:
                spent = []
                for worker in workers:
                    worker.stdin.write(name + "\n")
                    worker.stdin.flush()
                    took, verdict = worker.stdout.readline().split()
                    spent.append(float(took))
                    verdicts[name].append(verdict)
                ratios[name].append(spent[1] / spent[0])
                seconds[name].append(spent)
        for name in names:
            before, now = (statistics.median(pair[i] for pair in seconds[name]) for i in (0, 1))
            ratio = statistics.median(ratios[name])
            print(f"{name:26s} {before:.3f} s -> {now:.3f} s, ratio {ratio:.2f}, {sorted(set(verdicts[name]))}")
        for worker in workers:
            worker.stdin.close()
            worker.wait()


if __name__ == "__main__":
    main()
