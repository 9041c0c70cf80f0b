"""Everything that needs an NVIDIA GPU, in one command and under ten minutes.

    python benchmarks/gpu.py                          tests, sanitizers, timings; writes out/gpu.json and prints a table
    python benchmarks/gpu.py --plan                   what that would run, in order, and nothing else
    python benchmarks/gpu.py --device cpu --small     the same steps at tiny sizes on a CPU: exercises this program

1. the tests of the marker gpu; 2. compute-sanitizer, memcheck and racecheck, on small calls of every kernel; 3. every
kernel against the floor (the larger of flops / rate and bytes / bandwidth, both measured here first) and against the
best formulations in torch and the peers, cold and hot, forward and backward, errors beside times. What does not fit in
the time is listed as not measured. A run on a CPU says so in its record, and no figure of it belongs in docs/gpu.md.
"""

import argparse
import contextlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
FORMAT = 1
SANITIZERS = ("memcheck", "racecheck")


def importable():
    """Put this checkout on the path as `equiharness`, unless it is installed; for child processes too."""
    from importlib.util import find_spec

    if find_spec("equiharness") is None:
        folder = tempfile.mkdtemp(prefix="equiharness-")
        os.symlink(ROOT, Path(folder) / "equiharness")
        sys.path.insert(0, folder)
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH")]))


def environment(device):
    """Machine, versions and flags, as JSON data."""
    import torch
    from equiharness.harness.records.environment import capture

    found = {**capture(), "python": platform.python_version(), "device": device}
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        found["gpu"] = {
            "name": properties.name,
            "memory": properties.total_memory,
            "multiprocessors": properties.multi_processor_count,
            "l2": properties.L2_cache_size,
            "capability": list(torch.cuda.get_device_capability(0)),
            "cudnn": torch.backends.cudnn.version(),
        }
    return found


def run_tests(device, deadline):
    """The tests of the marker gpu; on a CPU they are collected and skipped, which is what the counts then say."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        # Warnings of other versions of torch are no failures here; the ordinary run turns them into errors.
        options = ["-o", "addopts=--import-mode=importlib --confcutdir=tests", "-o", "filterwarnings=default"]
        command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests/kernels/cuda", f"--junitxml={report}"]
        start = time.perf_counter()
        try:
            done = subprocess.run(
                [*command, *options, "-p", "no:cacheprovider"], cwd=ROOT, capture_output=True, text=True,
                timeout=max(60, deadline - time.perf_counter()),
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return {"status": "timed out"}
        counts = dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
        if report.exists():
            for suite in ElementTree.parse(report).getroot().iter("testsuite"):
                counts = {name: counts[name] + int(suite.get(name, 0)) for name in counts}
        ran = counts["tests"] - counts["skipped"]
        status = "failed" if done.returncode not in (0, 5) else "passed" if ran else "skipped: no GPU"
        seconds = round(time.perf_counter() - start, 1)
        return {"status": status, **counts, "seconds": seconds, "tail": done.stdout[-4000:]}


def sanitize(tool, device, deadline):
    """compute-sanitizer on small calls of every kernel."""
    program = shutil.which("compute-sanitizer")
    if device != "cuda" or program is None:
        return {"status": "skipped: " + ("no GPU" if device != "cuda" else "compute-sanitizer is not on the PATH")}
    command = [program, "--tool", tool, "--error-exitcode", "9", sys.executable, __file__, "--small-calls"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=max(30, deadline - time.perf_counter()))
    except subprocess.TimeoutExpired:
        return {"status": "timed out"}
    output = done.stdout + done.stderr
    silent = done.returncode == 0 and ("ERROR SUMMARY: 0 errors" in output or "0 hazards displayed" in output)
    return {"status": "silent" if silent else "found something", "returncode": done.returncode, "tail": output[-4000:]}


def small_calls(device):
    """Call every kernel once, forward and backward, on small inputs; returns the names of the kernels that ran."""
    import torch
    from equiharness.kernels import (
        FusedSeparableConv,
        GroupConv,
        LiftingConv,
        S2Conv,
        SeparableGroupConv,
        SO3Conv,
        s2_near_identity,
        so3_near_identity,
    )
    from equiharness.kernels.cuda import launch
    from equiharness.kernels.cuda import spherical_operators as operators
    from equiharness.kernels.cuda.ragged_mma import PRECISIONS
    from equiharness.kernels.spherical.layout import so3_rows

    def step(layer, *shape):
        x = torch.randn(shape, device=device, dtype=layer.weight.dtype if hasattr(layer, "weight") else None)
        layer(x.requires_grad_()).sum().backward()

    for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
        step(GroupConv("C4", 2, 3, 3, padding=1, backend="exact", dtype=dtype, device=device), 2, 2, 4, 5, 6)
    step(GroupConv("C4", 20, 20, 3, stride=2, padding=1, backend="exact", device=device), 1, 20, 4, 5, 7)
    step(GroupConv("C4", 40, 40, 3, padding=1, padding_mode="circular", backend="exact", device=device), 1, 40, 4, 5, 5)
    step(GroupConv("C2", 20, 40, 1, backend="exact", device=device), 1, 20, 2, 5, 5)
    step(LiftingConv("O", 1, 2, 2, backend="exact", device=device), 1, 1, 3, 4, 5)
    for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
        step(LiftingConv("C4", 1, 2, 3, backend="fast", dtype=dtype, device=device), 1, 1, 5, 6)  # expands filters
        separable = SeparableGroupConv("C4", 2, 3, 3, padding=1, dtype=dtype, device=device).requires_grad_(False)
        FusedSeparableConv(separable)(torch.randn(1, 2, 4, 5, 6, dtype=dtype, device=device))
    for group, dtype in (("O", torch.float32), ("Oh", torch.float32), ("O", torch.float64)):
        layer = GroupConv(group, 5, 3, 2, backend="fourier", dtype=dtype, device=device)
        step(layer, 1, 5, layer.order, 3, 4, 3)
    for dtype in (torch.float32, torch.float64):
        for layer, axes in ((SO3Conv(2, 3, 3, 3, so3_near_identity()), 3), (S2Conv(2, 3, 3, 3, s2_near_identity()), 2)):
            layer = layer.to(device, dtype)
            x = torch.randn(2, 2, *(6,) * axes, device=device, dtype=dtype, requires_grad=True)
            layer(x).sum().backward()
    # Large enough for the large tile of the ragged product.
    wide = torch.randn(160, so3_rows(2), 40, device=device, requires_grad=True)
    operators.spherical_product(wide, torch.randn(so3_rows(2), 40 * 40, device=device), False).sum().backward()
    for precision in PRECISIONS:
        x = torch.randn(2, so3_rows(3), 8, device=device, requires_grad=True)
        y = torch.randn(so3_rows(3), 8 * 8, device=device, requires_grad=True)
        operators.spherical_product(x, y, False, precision).sum().backward()
    executor = launch.executor_for(wide)
    if device == "cuda":
        torch.cuda.synchronize()
        return sorted({kernel.name for kernel, _ in executor._functions})
    return sorted(set(getattr(executor, "launched", ())))


def time_case(case, clock, ceilings, seconds):
    """Rows of one case: contender x (forward, backward) x (cold, hot)."""
    import torch
    from gpu_timing import device_state

    device = clock.device
    contenders = case.build(device)
    broken = {name: c for name, c in contenders.items() if isinstance(c, Exception)}
    contenders = {name: c for name, c in contenders.items() if name not in broken}
    rows = [{"case": case.name, "contender": name, "failed": str(error)[:500]} for name, error in broken.items()]
    first = next(iter(contenders.values()))
    with torch.no_grad():
        exact = case.reference(device)(first.input[:1] if case.backward else first.input)
    calls, facts = {"forward": {}, "backward": {}}, {}
    for name, contender in list(contenders.items()):
        try:
            calls_of, facts[name] = prepare(case, contender, exact, device)
        except Exception as error:  # a contender that fails is reported, and does not end the run
            rows.append({"case": case.name, "contender": name, "failed": str(error)[:500]})
            continue
        for direction, call in calls_of.items():
            calls[direction][name] = call
    before = device_state(device)
    for direction, cold in ((d, c) for d in ("forward", "backward") for c in (False, True)):
        if not calls[direction]:
            continue
        samples = clock.interleaved(calls[direction], cold, seconds / 4)
        for name, values in samples.items():
            work = 1 if direction == "forward" else 2
            floor = ceilings.floor_ms(work * case.flops, work * case.moved, facts[name]["precision"])
            median = statistics.median(values)
            rows.append(
                {
                    "case": case.name, "contender": name, "direction": direction, "cache": "cold" if cold else "hot",
                    "samples_ms": values, "median_ms": median, "floor_ms": floor, "fraction_of_floor": floor / median,
                    "flops": work * case.flops, "bytes": work * case.moved, **facts[name],
                }
            )  # fmt: skip
    for row in rows:
        row["state"] = {"before": before, "after": device_state(device)}
    return rows


def prepare(case, contender, exact, device):
    """Callables per direction, and what does not depend on the cache: error, equivariance, memory, one-off seconds."""
    import torch

    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    x = contender.input

    def forward():
        with torch.no_grad(), contender.around():
            return contender.call(x)

    y = contender.output(forward())
    facts = {"precision": contender.precision, "first_call_s": time.perf_counter() - start}
    if y is not None:
        difference = (y[:1] if case.backward else y).double() - exact
        facts["error"] = float(difference.norm() / exact.norm())
    if case.equivariance is not None:
        with contender.around():
            facts["equivariance"] = case.equivariance(device)(contender)
    calls = {"forward": forward}
    if case.backward:
        inputs = [x.detach().requires_grad_(), *contender.parameters]
        with contender.around():
            output = contender.call(inputs[0])
        cotangent = torch.randn_like(output)

        def backward():
            with contender.around():
                torch.autograd.grad(output, inputs, cotangent, retain_graph=True)

        with contextlib.suppress(Exception):  # a peer with cached filters has no backward pass
            backward()
            calls["backward"] = backward
    if device == "cuda":
        facts["peak_bytes"] = torch.cuda.max_memory_allocated()
    return calls, facts


def table(rows):
    """The hot medians in Markdown, a line per case and contender."""
    lines = ["| case | contender | forward ms | of floor | backward ms | of floor | error | equivariance |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    hot = {(r["case"], r["contender"], r["direction"]): r for r in rows if r.get("cache") == "hot"}
    for case, contender in dict.fromkeys((c, n) for c, n, _ in hot):
        cells, last = [], {}
        for direction in ("forward", "backward"):
            row = hot.get((case, contender, direction))
            last = row or last
            cells += [f"{row['median_ms']:.3g}", f"{row['fraction_of_floor']:.0%}"] if row else ["", ""]
        error, equivariance = (last.get(key) for key in ("error", "equivariance"))
        cells += ["" if value is None else f"{value:.1e}" for value in (error, equivariance)]
        lines.append(f"| {case} | {contender} | {' | '.join(cells)} |")
    return "\n".join(lines)


def cases(small):
    """Every case of both files."""
    import gpu_cases
    import gpu_grid_cases

    return [*gpu_cases.cases(small), *gpu_grid_cases.grid_cases(small)]


def plan(small):
    """What a run does, line by line."""
    lines = ["tests of the marker gpu: pytest -m gpu tests/kernels/cuda"]
    lines += [f"compute-sanitizer --tool {tool} on small calls of every kernel" for tool in SANITIZERS]
    lines.append("ceilings: a large copy; large matrix products in float32, TF32, bfloat16, float64")
    lines += [f"time {case.name}: {case.flops / 1e9:.3g} GFLOP, {case.moved / 1e6:.3g} MB" for case in cases(small)]
    return lines


def run(device, small, minutes, only=()):
    """All steps; returns the record."""
    import torch
    from gpu_timing import Clock, describe, measure_ceilings

    begin = time.perf_counter()
    deadline = begin + 60 * minutes
    record = {
        "format": FORMAT,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "measured_on": "gpu" if device == "cuda" else "cpu: exercises the program, no figure of a GPU",
        "environment": environment(device),
    }
    # A quarter of the time for the tests, an eighth for each sanitizer, the rest for timing.
    record["tests"] = run_tests(device, begin + 15 * minutes)
    record["sanitizers"] = {tool: sanitize(tool, device, time.perf_counter() + 7.5 * minutes) for tool in SANITIZERS}
    torch.backends.cudnn.benchmark = True
    clock = Clock.on(device)
    ceilings = measure_ceilings(clock, small)
    record["ceilings"] = describe(ceilings)
    rows, left = [], [case for case in cases(small) if not only or case.name in only]
    while left and time.perf_counter() < deadline - 5:
        case = left.pop(0)
        share = 0.05 if small else min(12.0, (deadline - time.perf_counter()) / (3 * (len(left) + 1)))
        try:
            rows += time_case(case, clock, ceilings, share)
        except Exception as error:
            rows.append({"case": case.name, "contender": "all", "failed": str(error)[:500]})
        if device == "cuda":
            torch.cuda.empty_cache()
    record["timings"] = rows
    record["not_measured"] = [case.name for case in left]
    record["seconds"] = time.perf_counter() - begin
    return record


def write(record, path):
    """Atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(record, indent=1, allow_nan=False), encoding="utf-8")
    os.replace(temporary, path)


def failed(record):
    """Whether anything that should hold does not."""
    sanitizers = [s["status"] for s in record["sanitizers"].values()]
    return (
        record["tests"]["status"] in ("failed", "timed out")
        or any(not (status == "silent" or status.startswith("skipped")) for status in sanitizers)
        or any("failed" in row and "(ours)" in row["contender"] for row in record["timings"])
    )


def main(words=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="tiny sizes")
    parser.add_argument("--minutes", type=float, default=9.0, help="for everything together")
    parser.add_argument("--out", type=Path, default=Path("out/gpu.json"))
    parser.add_argument("--plan", action="store_true", help="print the steps and end")
    parser.add_argument("--small-calls", action="store_true", help=argparse.SUPPRESS)  # what the sanitizers watch
    options = parser.parse_args(words)
    importable()
    sys.path.insert(0, str(Path(__file__).parent))
    if options.plan:
        print("\n".join(plan(options.small)))
        return 0
    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        print("no GPU here: --plan lists the steps, --device cpu --small exercises them", file=sys.stderr)
        return 2
    if options.small_calls:
        print("\n".join(small_calls(options.device)))
        return 0
    record = run(options.device, options.small, options.minutes)
    write(record, options.out)
    print(
        f"measured on {record['measured_on']}; {record['seconds']:.0f} s; tests {record['tests']['status']}; ", end=""
    )
    print("; ".join(f"{tool} {result['status']}" for tool, result in record["sanitizers"].items()))
    print(table(record["timings"]))
    for name in record["not_measured"]:
        print(f"not measured, no time left: {name}")
    print(f"record: {options.out}")
    return 1 if failed(record) else 0


if __name__ == "__main__":
    sys.exit(main())
