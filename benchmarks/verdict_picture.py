"""Draw docs/verdicts.svg: error, bound and the error of a wrong action for layers of known truth.

python benchmarks/verdict_picture.py
"""

import os
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: The smallest error drawn: zero has no place on a logarithmic axis.
LEAST = 1e-17


def layers():
    """Name, function and claim of each line of the picture, from sound to broken."""
    import torch
    from equiharness.kernels import GroupConv

    torch.manual_seed(0)
    sound = GroupConv("C4", 2, 2, 3, padding=1)
    fault = torch.ones(9, 9)
    fault[0, 0] += 1e-4
    half = torch.ones(9, 9)
    half[0, 0] += 1e-7
    regular = "2*regular"
    return [
        ("relu", torch.nn.ReLU(), "2*trivial", "float32"),
        ("group convolution", sound, regular, "float32"),
        ("... in float64", sound.double(), regular, "float64"),
        ("softmax of 30 x", lambda x: torch.softmax(30 * x, 1), "2*trivial", "float32"),
        ("a table in float32", lambda x: x * half.to(x), "2*trivial", "float64"),
        ("one weight wrong by 1e-4", lambda x: x * fault.to(x), "2*trivial", "float32"),
        ("a convolution that is not tied", torch.nn.Conv2d(2, 2, 3, padding=1), "2*trivial", "float32"),
        ("ignores its input", lambda x: 1 + 0 * x, "2*trivial", "float32"),
    ]


def main():
    """Measure and draw."""
    if find_spec("equiharness") is None:
        folder = tempfile.mkdtemp(prefix="equiharness-")
        os.symlink(ROOT, Path(folder) / "equiharness")
        sys.path.insert(0, folder)
    import equiharness as eh
    import matplotlib as mpl
    from equiharness.harness.precisions import EPS
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "equiharness"  # one picture for one run
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots()
    rows = layers()
    for line, (_, function, fibre, dtype) in enumerate(reversed(rows)):
        field = eh.Field(eh.Grid(9, 9), "C4", fibre, split="regular" in fibre)
        parts = eh.check(function, "C4", field, field, dtype=dtype).parts
        result = next(part for part in parts if part.property == "equivariance")
        tight = EPS["float64"] / EPS["float32"] if dtype == "float32" and result.error < 1e-12 else 1.0
        wrong = (result.power or 0.0) * result.bound * tight
        colour = "#b3261e" if result.verdict.fails else "#8a6d00" if result.label == "WARN" else "#1b7f4b"
        axes.plot([result.bound] * 2, [line - 0.3, line + 0.3], color="black", linewidth=2)
        axes.plot([max(result.error, LEAST)], [line], "o", color=colour, markersize=9)
        axes.plot([max(wrong, LEAST)], [line], "x", color="#555555", markersize=9, markeredgewidth=2)
        axes.annotate(result.verdict.name, (60, line), color=colour, va="center", fontsize=10, weight="bold")
    axes.set_yticks(range(len(rows)), [name for name, *_ in reversed(rows)])
    axes.set_xscale("log")
    axes.set_xlim(LEAST / 3, 3e4)
    axes.set_xticks([1e-16, 1e-12, 1e-8, 1e-4, 1])
    axes.set_xlabel("dot: error     bar: bound     cross: error of a wrong action     (relative)")
    axes.grid(axis="x", alpha=0.3)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    figure.savefig(ROOT / "docs" / "verdicts.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
