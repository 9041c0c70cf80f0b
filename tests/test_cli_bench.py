"""bench, compare and trend as a user meets them."""

import json
import math
import sys
from pathlib import Path

import pytest
from command_line import run
from equiharness.harness.records.lines import EndLine, Measurement, RunLine
from equiharness.harness.records.reading import read_run
from equiharness.harness.records.writing import RecordWriter
from equiharness.harness.verdict.result import CheckResult, Reason, Verdict

ROOT = Path(__file__).resolve().parents[1]
QUICK = ["torch.nn.Conv2d", "equiharness.LiftingConv", "--operator", "lifting C4", "--seconds", "0"]


def test_bench_writes_a_record_with_raw_samples_and_a_table(tmp_path):
    done = run("bench", *QUICK, "--out", tmp_path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    record = read_run(tmp_path / "bench.jsonl")
    assert record.end is not None
    assert {m.implementation for m in record.measurements} == {"torch.nn.Conv2d", "equiharness.LiftingConv"}
    assert all(m.samples for m in record.measurements if m.quantity in ("forward", "backward", "forward cold"))
    assert set(record.header.environment["ceilings"]) == {"float32"}
    assert "load" in record.header.environment["machine_state"]
    assert "equiharness.LiftingConv" in (tmp_path / "bench.md").read_text(encoding="utf-8")
    assert "[1/1] lifting C4, float32" in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--operator", "no such"], 3, "Nothing was timed"),
        (["torch.nn.Conv3"], 2, "Did you mean"),
        (["--dtype", "float31"], 2, "Did you mean float32"),
        (["--setting", "eagre"], 2, "Did you mean eager"),
        (["--device", "cuda:99"], 2, "--device cpu"),
        (["--against", "HEAD", "--setting", "channels_last"], 2, "--against times only eager layers"),
    ],
)
def test_wrong_usage_says_what_to_do(tmp_path, words, code, said):
    done = run("bench", *words, "--out", tmp_path)
    assert done.returncode == code
    assert said in done.stdout + done.stderr


def record(path, *lines, version=None):
    writer = RecordWriter(path, RunLine(started="", command="", seed=0, planned=1, environment={}))
    for line in lines:
        writer.write(line)
    writer.write(EndLine(seconds=1, seconds_in_layers=0, counts={}))
    writer.close()
    if version is not None:
        path.write_text(path.read_text().replace('"schema_version":2', f'"schema_version":{version}'))
    return path


def timed(*samples):
    """A measurement of one interleaved run."""
    values = {"implementation": "a", "case": "c", "quantity": "forward", "unit": "s", "better": "lower"}
    return Measurement(**values, value=samples[0], samples=samples, pair="p")


@pytest.mark.parametrize(("new", "code", "change"), [(1.0, 0, "SAME"), (1.3, 1, "WORSE"), (0.7, 0, "BETTER")])
def test_compare_exits_1_on_a_real_worsening_alone(tmp_path, new, code, change):
    old, now = record(tmp_path / "a.jsonl", timed(*[1.0] * 8)), record(tmp_path / "b.jsonl", timed(*[new] * 8))
    done = run("compare", old, now, "--out", tmp_path)
    assert done.returncode == code, done.stderr
    assert done.stdout.splitlines()[0].split()[2] == f"{change}:"
    found = json.loads((tmp_path / "compare.json").read_text())
    assert found["counts"][change] == 1
    assert (tmp_path / "compare.md").read_text(encoding="utf-8").strip() in done.stdout


def test_compare_reads_an_older_schema_and_refuses_a_newer_one_by_its_number(tmp_path):
    old, new = record(tmp_path / "a.jsonl", version=1), record(tmp_path / "b.jsonl", version=99)
    assert run("compare", old, old).returncode == 0
    done = run("compare", old, new)
    assert done.returncode == 2
    assert "schema version 99" in done.stderr


def test_compare_uses_what_is_before_a_truncated_line(tmp_path):
    old, new = record(tmp_path / "a.jsonl", timed(*[1.0] * 8)), record(tmp_path / "b.jsonl", timed(*[1.0] * 8))
    new.write_bytes(new.read_bytes()[:-20])
    done = run("compare", old, new)
    assert done.returncode == 0
    assert "last line is cut off" in done.stdout
    assert "1 SAME" in done.stdout


def test_compare_and_trend_of_nothing_say_so(tmp_path):
    assert "There is no record" in run("compare", tmp_path / "x.jsonl", tmp_path / "y.jsonl").stderr
    assert run("trend", "--results", tmp_path, "--out", tmp_path / "t.html").returncode == 3


def test_trend_writes_a_page_from_records(tmp_path):
    reason = Reason(code="EXACT", message="")
    check = CheckResult(property="p", verdict=Verdict.EXACT, reason=reason, implementation="a", error=1.0, bound=2.0)
    from equiharness.harness.records.lines import CheckLine

    path = record(tmp_path / "a.jsonl", timed(1.0), CheckLine(result=check))
    done = run("trend", path, "--out", tmp_path / "t.html")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "t.html").read_text(encoding="utf-8")
    assert "error / bound" in page
    assert "forward" in page


@pytest.fixture
def guard(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import guard

    yield guard.missing
    sys.modules.pop("guard")


def test_the_guard_passes_a_whole_run(guard):
    whole = {"x.track_forward": {"a": 1.0}, "x.track_backward": {"a": 1.0, "b": None}}
    assert guard(whole) == []
    assert guard(whole, whole) == []
    left_out = {"x.track_forward": {"a": 1.0, "does not load here": math.nan}}
    assert guard(left_out) == guard(left_out, left_out) == []


@pytest.mark.parametrize(
    ("now", "before"),
    [
        ({}, None),
        ({"x.track_forward": {"a": 1.0, "b": None}}, None),
        ({"x.track_backward": {"a": None}}, None),
        ({"x.track_backward": {"a": 1.0, "b": None}}, {"x.track_backward": {"b": 2.0}}),
        ({"x.track_forward": {"a": 1.0}}, {"x.track_memory": {"a": 2.0}}),
        ({"x.track_forward": {"a": 1.0}}, {"x.track_forward": {"a": 1.0, "gone": 2.0}}),
        ({"x.track_forward": {"a": 1.0, "b": math.nan}}, {"x.track_forward": {"a": 1.0, "b": 2.0}}),
        ({"x.track_backward": {"a": math.nan}}, None),
    ],
)
def test_the_guard_fails_where_a_benchmark_was_skipped(guard, now, before):
    assert len(guard(now, before)) == 1
