from __future__ import annotations

import math
from pathlib import Path
from xml.etree import ElementTree

import pytest
from equiharness.harness.records.lines import Measurement, RotatedView
from equiharness.harness.verdict.result import ElementResult, Resolution, Verdict
from equiharness.reports.figures import write_figures
from equiharness.reports.history import History, PastRun, SeriesKey

pytestmark = pytest.mark.pages


@pytest.fixture(scope="module")
def kinds():
    """Beginnings of the names of a full set."""
    return ("matrix", "ratios", "diagram-", "stabilised-", "elements-", "resolutions-", "peers-", "trend-")


def full(make):
    attachment = make.attachment()
    panel = attachment.panels[0]
    attachment = attachment.model_copy(update={"rotated": (RotatedView(element="$r$", moved=panel, stabilised=panel),)})
    sizes = tuple(Resolution(size=n, error=0.1 / n, floor=0.0, control=math.inf) for n in (17, 33))
    run = make.run(
        make.check(Verdict.BROKEN, implementation="$a_b$/../x", case="$", attachment="a"),
        make.check(Verdict.APPROXIMATE, error=None, bound=None, elements=(), resolutions=sizes),
        attachments={"a": attachment},
    )
    common = {"implementation": "$o", "case": "c", "better": "lower", "operator": "o", "dtype": "float32"}
    figures = [
        Measurement(quantity="forward", value=1e-3, unit="s", **common),
        Measurement(quantity="equivariance error", value=0.0, unit="", **common),
    ]
    history = History()
    for day in range(3):
        history.add(SeriesKey("m", "forward", "$l"), PastRun(float(day), f"c{day}"), 1.0 + day)
    return run, {"measurements": figures, "history": history}


def test_every_picture_is_a_png_and_an_svg_with_a_caption(tmp_path, make, kinds):
    run, extras = full(make)
    paths = write_figures(run, tmp_path, **extras)
    assert all(p.parent == tmp_path and p.exists() for p in paths)
    for kind in kinds:
        found = {p.suffix: p for p in paths if p.name.startswith(kind)}
        assert set(found) == {".png", ".svg"}
        assert found[".png"].read_bytes().startswith(b"\x89PNG")
        ElementTree.parse(found[".svg"])  # whole, and XML
    markdown, latex = (tmp_path / "captions.md").read_text(), (tmp_path / "captions.tex").read_text()
    names = {p.stem for p in paths if p.suffix == ".svg"}
    assert all(f"## {name}\n" in markdown and f"{{{name}.png}}" in latex for name in names)
    assert r"equivariance of \$a\_b\$/../x" in latex


def test_the_same_record_gives_the_same_png(tmp_path, make):
    run, _ = full(make)
    first, second = (write_figures(run, tmp_path / name) for name in "ab")
    for a, b in zip(first, second, strict=True):
        assert Path(a).suffix == ".svg" or a.read_bytes() == b.read_bytes()


def test_values_that_have_no_place_on_an_axis_are_drawn_nowhere(tmp_path, make):
    elements = tuple(ElementResult(element=f"{v}", error=v, bound=v) for v in (math.nan, math.inf, 0.0))
    write_figures(make.run(make.check(Verdict.BROKEN, error=math.nan, elements=elements)), tmp_path)
