"""``equiharness report``: what stands beside a record, and every form that it is written in."""

import json
from pathlib import Path

import pytest
from command_line import run
from equiharness.harness.records.lines import CheckLine, EndLine, Measurement, RunLine
from equiharness.harness.records.validity import Geometry, Law, Point, ValidityMap, write_maps
from equiharness.harness.records.writing import RecordWriter
from equiharness.harness.verdict.codes import Code
from equiharness.harness.verdict.result import CheckResult, Reason, Verdict


def written(path: Path, day: int, verdict: Verdict = Verdict.EXACT, *more) -> Path:
    environment = {"git": {"commit": f"commit{day}"}, "fingerprint": "f"}
    header = RunLine(started=f"2026-01-0{day}", command="verify", seed=0, planned=1, environment=environment)
    writer = RecordWriter(path, header)
    result = CheckResult(
        implementation="mine.Conv",
        case="c=1",
        property="parity",
        verdict=verdict,
        reason=Reason(code=Code.read("C"), message="m"),
        error=1e-16 if verdict is Verdict.EXACT else 0.5,
        bound=1e-13,
        reproduce="equiharness verify mine.Conv",
    )
    for line in (CheckLine(result=result), *more, EndLine(seconds=1, seconds_in_layers=1, counts={})):
        writer.write(line)
    writer.close()
    return path


@pytest.fixture
def records(tmp_path):
    """Three nights: held, broke, still broken."""
    verdicts = (Verdict.EXACT, Verdict.BROKEN, Verdict.BROKEN)
    return [written(tmp_path / "nights" / f"{day}.jsonl", day, v) for day, v in enumerate(verdicts, 1)]


def test_earlier_records_say_since_when_a_claim_fails(records, tmp_path):
    done = run("report", records[2], "--before", tmp_path / "nights", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "out" / "report.md").read_text()
    assert "| mine.Conv | parity | 1 BROKEN | 2026-01-02, commit2 (held on 2026-01-01, commit1) |" in text
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Against <bdi>" in page
    assert f"{records[1]} of 2026-01-02, commit2" in page
    assert 'href="#trends"' in page


def test_figures_and_costs_and_maps_stand_beside_the_checks(records, tmp_path):
    figure = Measurement(
        implementation="mine.Conv", case="c=1", quantity="forward", value=1e-3, unit="s", better="lower"
    )
    bench = written(tmp_path / "bench.jsonl", 3, Verdict.EXACT, figure)
    points = (Point(Geometry(size=5), "EXACT"),)
    write_maps(tmp_path / "maps.json", [ValidityMap("Conv", "mine", "C4", points, Law("always", 1, 1))])
    words = (
        "report",
        records[0],
        "--bench",
        bench,
        "--maps",
        tmp_path / "maps.json",
        "--figures",
        tmp_path / "figures",
    )
    done = run(*words)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "nights" / "report.html").read_text()
    assert 'href="#throughput"' in page
    assert 'href="#validity"' in page
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert {"matrix.png", "matrix.svg", "validity.svg", "captions.tex", "checks.csv", "throughput-1.tex"} <= names


def test_annotations_are_printed_for_github(records):
    done = run("report", records[2], "--no-html", "--annotations")
    assert done.stdout.startswith("::error title=FAIL BROKEN%3A parity of mine.Conv::1 check. C: m%0A")
    assert run("report", records[0], "--no-html", "--annotations").stdout == ""


def test_a_folder_without_records_is_refused(records, tmp_path):
    (tmp_path / "empty").mkdir()
    done = run("report", records[0], "--before", tmp_path / "empty")
    assert done.returncode == 2
    assert "holds no record" in done.stderr


def test_what_got_worse_than_the_baseline_is_on_the_page(tmp_path):
    key = "torch.nn.Conv2d | group=C4 size=9 kernel=3 stride=1 channels_in=3 channels_out=4 | homomorphism | float32"
    baseline = tmp_path / "baseline.jsonl"
    lines = [
        {"equiharness_baseline": 1},
        {"check": key.replace("size=9", "size=999"), "verdict": "EXACT", "code": "EXACT"},
    ]
    baseline.write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = run(
        "verify",
        "torch.nn.Conv2d",
        "--property",
        "homomorphism",
        "--dtype",
        "float32",
        "--against",
        baseline,
        "--out",
        tmp_path / "out",
    )
    assert done.returncode == 1, done.stderr
    page = (tmp_path / "out" / "report.html").read_text()
    assert "What changed" in page
    assert "1 check worse" in page
    assert "vanished" in page
