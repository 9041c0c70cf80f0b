"""How far the levels of a baseline move between seeds, thread counts and instruction sets.

Each setting runs in a process of its own; the first is the reference. Prints, for every check whose level is no
rounding, its spread over seeds, and for every other setting how many errors changed, how many verdicts or kinds of
level changed, and the largest factor between levels. ``GROWTH`` of harness/records/baseline.py comes from here.

    python benchmarks/baseline_intervals.py [seeds]
"""

import collections
import dataclasses
import json
import os
import subprocess
import sys
import warnings

SETTINGS = {
    "one thread": {"OMP_NUM_THREADS": "1"},
    "two threads": {"OMP_NUM_THREADS": "2"},
    "no vector instructions beyond SSE": {
        "OMP_NUM_THREADS": "1",
        "ATEN_CPU_CAPABILITY": "default",
        "MKL_CBWR": "COMPATIBLE",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
    },
}


def in_numpy(claim):
    """Hidden from torch, so that no float64 reference can be had."""
    import torch

    function = claim.function

    def hidden(x):
        return torch.from_numpy(function(x).detach().numpy().astype("float32"))

    return dataclasses.replace(claim, function=hidden, modules=())


def jobs():
    from equiharness.impls.grid import adapter as grid
    from equiharness.impls.peers import e3nn, escnn

    for cls in (escnn.R2Conv, escnn.GroupPooling, escnn.R2Upsampling, escnn.PointwiseAvgPoolAntialiased):
        for case in cls().cases():
            yield cls(), case, "equivariance", ("float32", "float64"), None
    for cls in (escnn.R2Conv, e3nn.S2Activation):
        for case in cls().cases():
            if cls is e3nn.S2Activation or case["group"] == "C8":
                yield cls(), case, "off_grid", ("float32",), None
    for case in grid.Regular().cases():
        if case["size"] > 9:
            yield grid.Regular(), case, "equivariance", ("float32", "float64"), None
            yield grid.Regular(), case, "equivariance", ("float32",), in_numpy


def measure(seeds):
    from equiharness.harness.records.baseline import level_of
    from equiharness.suites.check import run_property

    rows = []
    for seed in range(seeds):
        for adapter, case, name, dtypes, change in jobs():
            for dtype in dtypes:
                claim = adapter.build(case, device="cpu", dtype=dtype, seed=seed)
                result = run_property(name, change(claim) if change else claim).result
                check = [f"{adapter.name}{' in numpy' if change else ''}", case.name, name, dtype]
                rows.append([check, seed, str(result.verdict), level_of(result), result.error])
    return rows


def run(settings, seeds):
    done = subprocess.run(
        [sys.executable, __file__, "--measure", str(seeds)],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def compare(name, reference, rows):
    errors = sum(a[4] != b[4] for a, b in zip(reference, rows, strict=True))
    kinds = sum(a[2] != b[2] or type(a[3]) is not type(b[3]) for a, b in zip(reference, rows, strict=True))
    factors = [max(a[3] / b[3], b[3] / a[3]) for a, b in zip(reference, rows, strict=True) if isinstance(a[3], float)]
    print(
        f"{name}: {errors} of {len(rows)} errors changed, {kinds} verdicts or kinds of level, "
        f"other levels by at most {max(factors):.2f}"
    )


def main(seeds):
    results = {name: run(settings, seeds) for name, settings in SETTINGS.items()}
    reference = next(iter(results.values()))
    levels = collections.defaultdict(list)
    for check, _, _, level, _ in reference:
        levels[" | ".join(check)].append(level)
    print(f"spread over {seeds} seeds of levels that are no rounding:")
    for check, values in levels.items():
        if all(isinstance(v, float) for v in values):
            print(f"  {max(values) / min(values):8.2f}  {check}")
    for name, rows in list(results.items())[1:]:
        compare(name, reference, rows)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        warnings.simplefilter("ignore")
        print(json.dumps(measure(int(sys.argv[2]))))
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else 12)
