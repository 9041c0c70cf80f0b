"""The history reads asv's files and records, says what it could not read, and finds real steps alone."""

import base64
import gzip
import json
import math
import random

import pytest
from equiharness.harness.records.lines import EndLine, Measurement, RunLine
from equiharness.harness.records.writing import RecordWriter
from equiharness.reports.history import SeriesKey, read_history, values_of
from equiharness.reports.steps import LEAST, steps
from equiharness.reports.trend import render_trend

COLUMNS = ["result", "params", "version", "started_at", "duration"]


def asv_file(folder, number, values, machine="m", name="layers.Layers.track_forward"):
    """One of asv's result files for three layers."""
    path = folder / machine / f"{number:08x}-existing.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    row = [values, [["'op: a'", "'op: b'", "'c'"]], "1", 0, 1.0]
    data = {
        "commit_hash": f"{number:040x}",
        "date": 1_700_000_000_000 + number * 86_400_000,
        "params": {"machine": machine},
        "result_columns": [*COLUMNS, "stats_ci_99_a"],
        "results": {name: row},
    }
    path.write_text(json.dumps(data))
    return path


def record(path, value=1e-3, commit="abc", **changes):
    environment = {"machine_name": "m", "git": {"commit": commit}}
    header = RunLine(started="2026-01-01T00:00:00+00:00", command="", seed=0, planned=1, environment=environment)
    writer = RecordWriter(path, header)
    values = {"operator": "op", "implementation": "a", "quantity": "forward", "unit": "s", **changes}
    writer.write(Measurement(case="c", value=value, better="lower", **values))
    writer.write(EndLine(seconds=1, seconds_in_layers=0, counts={}))
    writer.close()
    return path


def test_asv_files_become_series(tmp_path):
    for number in range(3):
        asv_file(tmp_path, number, [1.0 + number, 2.0, None])
    history = read_history(tmp_path)
    assert [history.series[SeriesKey("m", "forward", "op: a")][r] for r in history.runs("m")] == [1.0, 2.0, 3.0]
    assert SeriesKey("m", "forward", "c") not in history.series


def test_values_of_one_file_keep_what_is_missing(tmp_path):
    path = asv_file(tmp_path, 1, [1.0, None, 3.0])
    assert values_of(path) == {"layers.Layers.track_forward": {"op: a": 1.0, "op: b": None, "c": 3.0}}


def test_a_benchmark_that_failed_as_a_whole_has_null_for_every_layer(tmp_path):
    path = asv_file(tmp_path, 1, None)
    assert list(values_of(path)["layers.Layers.track_forward"].values()) == [None] * 3


def test_records_join_the_same_series_in_the_same_unit(tmp_path):
    asv_file(tmp_path / "results", 1, [1500.0, 2.0, 3.0])
    history = read_history(tmp_path / "results", [record(tmp_path / "a.jsonl")])
    assert sorted(history.series[SeriesKey("m", "forward", "op: a")].values()) == [1000.0, 1500.0]


def test_a_record_of_a_commit_that_asv_tracked_is_not_counted_twice(tmp_path):
    asv_file(tmp_path / "results", 1, [1500.0, 2.0, 3.0])
    history = read_history(tmp_path / "results", [record(tmp_path / "a.jsonl", commit=f"{1:040x}")])
    assert list(history.series[SeriesKey("m", "forward", "op: a")].values()) == [1500.0]


def test_a_truncated_last_line_is_reported_and_the_rest_is_used(tmp_path):
    path = record(tmp_path / "a.jsonl")
    path.write_bytes(path.read_bytes()[:-10])
    history = read_history(None, [path])
    assert len(history.series) == 1
    assert "line 3: the last line is cut off" in history.notes[0]


@pytest.mark.parametrize("version", [1, 2])
def test_older_schema_versions_are_read(tmp_path, version):
    path = record(tmp_path / "a.jsonl")
    path.write_text(path.read_text().replace('"schema_version":2', f'"schema_version":{version}'))
    assert len(read_history(None, [path]).series) == 1


def test_a_newer_schema_version_is_refused_by_its_number(tmp_path):
    path = record(tmp_path / "a.jsonl")
    path.write_text(path.read_text().replace('"schema_version":2', '"schema_version":99'))
    history = read_history(None, [path])
    assert history.series == {}
    assert "schema version 99" in history.notes[0]


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"results": {}}'])
def test_a_damaged_result_file_is_named_and_the_rest_is_read(tmp_path, damage):
    asv_file(tmp_path, 1, [1.0, 2.0, 3.0])
    asv_file(tmp_path, 2, [1.0, 2.0, 3.0]).write_text(damage)
    history = read_history(tmp_path)
    assert len(history.series) == 3
    assert len(history.notes) == 1


def noisy(count, level=1.0, seed=0):
    rng = random.Random(seed)
    return [level * math.exp(rng.gauss(0, 0.03)) for _ in range(count)]


def test_a_step_is_found_where_it_is():
    [found] = steps(noisy(60) + noisy(40, 1.2, seed=1))
    assert abs(found.index - 60) <= 2
    assert found.factor == pytest.approx(1.2, rel=0.03)


def test_two_steps_are_found_each_with_the_levels_beside_it():
    first, second = steps(noisy(60) + noisy(60, 1.5, 1) + noisy(90, 0.8, 2))
    assert (first.before, first.after) == pytest.approx((1, 1.5), rel=0.03)
    assert (second.before, second.after) == pytest.approx((1.5, 0.8), rel=0.03)


@pytest.mark.parametrize("seed", range(30))
def test_noise_has_no_steps(seed):
    assert steps(noisy(200, seed=seed)) == []


def test_one_outlier_is_no_step():
    values = noisy(60)
    values[30] = 50.0
    assert steps(values) == []


def test_a_step_within_what_a_rebuild_moves_is_no_news():
    assert steps([1.0] * 50 + [1.05] * 50) == []


def test_a_figure_that_never_varies_has_its_step():
    assert [s.index for s in steps([1000.0] * 30 + [2000.0] * 30)] == [30]


def test_few_runs_have_no_steps():
    assert steps([1.0] * (LEAST // 2) + [9.0] * (LEAST // 2 - 1)) == []


def test_the_page_holds_its_series_and_change_points(tmp_path):
    for number in range(40):
        asv_file(tmp_path, number, [1.0 if number < 20 else 2.0, 2.0, 3.0])
    page = render_trend(read_history(tmp_path))
    assert "40 runs on 1 machine, 3 series" in page
    assert "✗ worse" in page
    assert f"{20:040x}"[:10] in page
    assert 'src="http' not in page


def test_names_cannot_leave_the_page(tmp_path):
    history = read_history(None, [record(tmp_path / "a.jsonl", operator="</script><b>x")])
    page = render_trend(history)
    data = page.partition('id="data">')[2].partition("</script>")[0]
    assert json.loads(gzip.decompress(base64.b64decode(data)))["series"][0]["layer"] == "</script><b>x: a"
    assert "<td></script>" not in page
