"""How long does a large report take, and how large is it? Renders a made-up run and prints seconds, bytes and memory.

    python benchmarks/report_size.py [CHECKS] [OUT.html]

The run has the proportions of the full matrix: 15 properties, five or six elements a check, one picture in five
checks, one check in a hundred that fails. Fails beyond 20 s or 2 GiB.
"""

import random
import resource
import struct
import sys
import time
from pathlib import Path

from equiharness.harness.records.lines import Attachment, EndLine, Panel, RotatedView, Run, RunLine
from equiharness.harness.verdict.codes import Code
from equiharness.harness.verdict.result import CheckResult, ElementResult, Reason, Resolution, Verdict
from equiharness.reports.html import render_html
from equiharness.reports.markdown import render_markdown

SECONDS, BYTES = 20.0, 2 << 30
PROPERTIES = (
    "homomorphism", "equivariance", "off_grid", "aliasing", "worst_case", "adjoint", "parameter_gradient", "gradcheck",
    "robustness", "integration", "composition", "training", "precision", "parity", "backends",
)  # fmt: skip
TITLES = ("x", "g x", "f(x)", "g f(x)", "f(g x)", "f(g x) - g f(x)", "space alone", "f(g x) - space alone")
KINDS = ("plane", "volume", "sphere", "rotations", "cloud", "channels")
#: Sides of the pictures of the full matrix, about as often as there.
SIDES = (9, 9, 9, 9, 16, 16, 33)


def synthetic(checks: int, seed: int = 0) -> Run:
    """A run of so many checks, the same for the same seed."""
    draw = random.Random(seed)
    attachments = {f"p{i}": picture(f"p{i}", draw) for i in range(checks // 5)}
    results = [check(i, draw, list(attachments)) for i in range(checks)]
    header = RunLine(
        started="2026-01-02T03:04:05+00:00",
        command="equiharness verify",
        seed=seed,
        planned=checks,
        environment={"python": "3.11", "git": {"commit": "0123456789abcdef"}},
    )
    end = EndLine(seconds=1000.0, seconds_in_layers=400.0, counts={})
    return Run(header, results, end=end, attachments=attachments)


def check(number: int, draw: random.Random, pictures: list[str]) -> CheckResult:
    kind = draw.random()
    verdict = Verdict.BROKEN if kind < 0.01 else Verdict.SKIPPED if kind < 0.35 else Verdict.EXACT
    name, layer = PROPERTIES[number % len(PROPERTIES)], f"library{number // 300 % 7}.Layer{number // 60}"
    case = f"group=C4 size={draw.choice((9, 17, 33))} kernel=3 stride=1 fields_in=2 fields_out={number % 97}"
    dtype = draw.choice(("float32", "float32", "float64"))
    values = {}
    if verdict is not Verdict.SKIPPED:
        errors = [
            draw.random() * 1e-15 * (1e9 if verdict is Verdict.BROKEN else 1) for _ in range(draw.choice((4, 5, 8)))
        ]
        names = [f"depth {i + 1}" if name == "composition" else f"rotation by {90 * i}°" for i in range(len(errors))]
        values = {
            "error": max(errors),
            "bound": 1e-13,
            "power": draw.random() * 1e12,
            "elements": tuple(
                ElementResult(element=n, error=e, bound=1e-13) for n, e in zip(names, errors, strict=True)
            ),
            "seen": draw.random() * 1e-7,
            "attachment": draw.choice(pictures) if pictures and draw.random() < 0.3 else "",
        }
        if name == "off_grid":
            sizes = ((n, 1 / n**3) for n in (17, 33, 65))
            values["resolutions"] = tuple(Resolution(size=n, error=e, floor=e / 10, control=2.0) for n, e in sizes)
    return CheckResult(
        property=name,
        verdict=verdict,
        reason=Reason(code=Code.read(verdict), message=f"made up, number {number}."),
        implementation=layer,
        case=case,
        group="C4",
        source="Field(Grid(9, 9), 'C4', '2*trivial')",
        target="Field(Grid(9, 9), 'C4', '4*regular')",
        dtype=dtype,
        seconds=draw.random(),
        seconds_in_layer=0.01,
        reproduce=f"equiharness verify {layer} --case '{case}' --property {name} --dtype {dtype} --seed 0",
        **values,
    )


def picture(name: str, draw: random.Random) -> Attachment:
    side, kind = draw.choice(SIDES), draw.choice(KINDS)
    rows = 3 if kind == "cloud" else side

    def panel(title: str, rows: int = rows, kind: str = kind) -> Panel:
        values = [draw.gauss(0, 1) for _ in range(rows * side)]
        return Panel.of(title, rows, side, struct.pack(f"<{len(values)}f", *values), kind)

    panels = (*map(panel, TITLES), panel("g on the fibre", side, "matrix"))
    rotated = ()
    if name.endswith("0"):
        rotated = tuple(
            RotatedView(element=f"r{i}", moved=panel("g x"), stabilised=panel("g⁻¹ f(g x)")) for i in range(4)
        )
    return Attachment(id=name, element="rotation by 90°", panels=panels, rotated=rotated)


def main() -> int:
    checks = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    run = synthetic(checks)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    start = time.perf_counter()
    page, words = render_html(run), render_markdown(run)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if len(sys.argv) > 2:
        Path(sys.argv[2]).write_text(page, encoding="utf-8")
    print(f"{checks} checks, {len(run.attachments)} pictures: {seconds:.1f} s (at most {SECONDS:.0f})")
    print(
        f"peak memory {peak / 2**20:.0f} MiB, of which the run itself {before / 2**20:.0f} MiB (at most {BYTES >> 20})"
    )
    print(f"page {len(page.encode()) / 1e6:.1f} MB, Markdown {len(words)} characters")
    return int(seconds > SECONDS or peak > BYTES)


if __name__ == "__main__":
    sys.exit(main())
