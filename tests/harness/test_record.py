"""Records survive what happens to files: interruption, damage, other versions, full and forbidden disks."""

import json
import math
import struct

import pytest
from equiharness.harness.errors import RecordError
from equiharness.harness.records import writing
from equiharness.harness.records.lines import (
    Attachment,
    CheckLine,
    EndLine,
    Measurement,
    Panel,
    RunLine,
    attachments_path,
    counts,
)
from equiharness.harness.records.reading import read_run
from equiharness.harness.records.writing import RecordWriter, write_atomically
from equiharness.harness.verdict.result import CheckResult, ElementResult, Reason, Verdict

HEADER = RunLine(started="2026-01-01T00:00:00", command="verify", seed=0, planned=2, environment={"versions": {}})


def result(**changes):
    return CheckResult(
        **{"property": "equivariance", "verdict": Verdict.EXACT, "reason": Reason(code="EXACT", message=""), **changes}
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / "run.jsonl"


@pytest.fixture
def written(path):
    """A closed record of two checks, a measurement and an end."""
    writer = RecordWriter(path, HEADER)
    writer.write(CheckLine(result=result(error=0.25, element="rotation by 90°")))
    writer.write(CheckLine(result=result(verdict=Verdict.BROKEN)))
    writer.write(Measurement(case="a", quantity="time", value=1.5, unit="s", better="lower", samples=(1.0, 2.0)))
    writer.write(EndLine(seconds=2.0, seconds_in_layers=1.0, counts={"EXACT": 1, "BROKEN": 1}))
    writer.close()
    return path


def test_what_is_written_is_read(written):
    run = read_run(written)
    assert run.header == HEADER
    assert [c.verdict for c in run.checks] == [Verdict.EXACT, Verdict.BROKEN]
    assert run.checks[0].element == "rotation by 90°"
    assert run.measurements[0].samples == (1.0, 2.0)
    assert run.end is not None
    assert run.end.counts == counts(run.checks)
    assert run.truncated == ""


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, 5e-324, 1.7976931348623157e308, 0.1, -0.0])
def test_every_float_survives(path, value):
    writer = RecordWriter(path, HEADER)
    row = ElementResult(element="e", error=value, bound=value)
    writer.write(CheckLine(result=result(error=value, limit=(value, value), elements=(row,))))
    writer.close()
    [read] = read_run(path).checks
    for found in (read.error, read.limit[1], read.elements[0].error):
        assert struct.pack("d", found) == struct.pack("d", value)


@pytest.mark.parametrize("text", ["\u2028", "\x85", "\x0b", "\r", 'quote " and \\', "日本"])
def test_every_text_survives(path, text):
    writer = RecordWriter(path, HEADER)
    writer.write(CheckLine(result=result(case=f"a{text}b")))
    writer.close()
    assert read_run(path).checks[0].case == f"a{text}b"


def test_nested_parts_survive(path):
    writer = RecordWriter(path, HEADER)
    writer.write(CheckLine(result=result(parts=(result(property="homomorphism"),))))
    writer.close()
    assert read_run(path).checks[0].parts[0].property == "homomorphism"


def test_each_line_is_on_disk_before_the_next_is_written(path):
    writer = RecordWriter(path, HEADER)
    writer.write(CheckLine(result=result()))
    assert len(read_run(path).checks) == 1
    assert read_run(path).end is None
    writer.close()


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_a_last_line_that_was_cut_off_costs_that_line_alone(written, kept):
    lines = written.read_text(encoding="utf-8").splitlines(keepends=True)[:3]
    last = lines[-1]
    written.write_text("".join(lines[:-1]) + last[: int(len(last) * kept)], encoding="utf-8")
    run = read_run(written)
    assert len(run.checks) == 1
    assert "line 3" in run.truncated
    assert "1 results" in run.truncated


def test_a_record_cut_in_the_middle_of_a_character_costs_that_line_alone(path):
    writer = RecordWriter(path, HEADER)
    writer.write(CheckLine(result=result()))
    writer.write(CheckLine(result=result(element="rotation by 90°")))
    writer.close()
    raw = path.read_bytes()
    path.write_bytes(raw[: raw.index("°".encode()) + 1])
    run = read_run(path)
    assert len(run.checks) == 1
    assert "line 3" in run.truncated


@pytest.mark.parametrize("damage", ["{", "garbage", '{"kind": "check"}', '{"kind": "unknown"}', "[]", '""', "\x00"])
def test_a_damaged_line_in_the_middle_refuses_the_file_and_names_the_line(written, damage):
    lines = written.read_text(encoding="utf-8").splitlines()
    lines[1] = damage
    written.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(RecordError, match="line 2"):
        read_run(written)


def test_a_damaged_complete_last_line_is_no_interruption(written):
    with written.open("a", encoding="utf-8") as stream:
        stream.write('{"kind": "check", "result": {}}\n')
    with pytest.raises(RecordError, match="line 6"):
        read_run(written)


def test_an_unknown_name_in_a_line_is_refused(written):
    lines = written.read_text(encoding="utf-8").splitlines()
    line = json.loads(lines[1])
    line["result"]["colour"] = "blue"
    written.write_text("\n".join([lines[0], json.dumps(line), *lines[2:]]) + "\n", encoding="utf-8")
    with pytest.raises(RecordError, match=r"line 2.*colour"):
        read_run(written)


@pytest.mark.parametrize("extra", [{}, {"new_field": 1}])
def test_another_schema_version_is_named(written, extra):
    lines = written.read_text(encoding="utf-8").splitlines()
    header = {**json.loads(lines[0]), "schema_version": 99, **extra}
    written.write_text("\n".join([json.dumps(header), *lines[1:]]) + "\n", encoding="utf-8")
    with pytest.raises(RecordError, match="schema version 99"):
        read_run(written)


def test_a_record_must_open_with_its_run_line(written):
    lines = written.read_text(encoding="utf-8").splitlines(keepends=True)
    written.write_text("".join(lines[1:]), encoding="utf-8")
    with pytest.raises(RecordError, match="opens with its run line"):
        read_run(written)


def test_an_empty_file_and_a_missing_one_say_what_to_run(tmp_path):
    (tmp_path / "empty.jsonl").touch()
    for name in ("empty.jsonl", "missing.jsonl"):
        with pytest.raises(RecordError, match="equiharness verify"):
            read_run(tmp_path / name)


def test_a_folder_and_a_picture_are_no_records(tmp_path):
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\xff\xfe\x00")
    for name in (".", "picture.png"):
        with pytest.raises(RecordError):
            read_run(tmp_path / name)


def test_a_path_that_cannot_be_written_is_refused_with_the_way_out(tmp_path):
    (tmp_path / "file").touch()
    for attempt in (
        lambda p: RecordWriter(p, HEADER),
        lambda p: write_atomically(p, "text"),
    ):
        with pytest.raises(RecordError, match="--out"):
            attempt(tmp_path / "file" / "run.jsonl")


def test_a_failed_document_leaves_the_old_one_and_no_rest(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    write_atomically(path, "old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing.Path, "replace", full)
    with pytest.raises(RecordError, match="No space left"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_document_is_replaced_whole(tmp_path):
    path = tmp_path / "report.html"
    for text in ("a much longer old document", "new °"):
        write_atomically(path, text)
    assert path.read_text(encoding="utf-8") == "new °"


def test_a_full_disk_keeps_what_was_recorded(path):
    writer = RecordWriter(path, HEADER)

    class Full:
        def write(self, text):
            raise OSError(28, "No space left on device")

    file, writer._file = writer._file, Full()
    with pytest.raises(RecordError, match="kept"):
        writer.write(CheckLine(result=result()))
    file.close()
    writer._side.close()
    assert read_run(path).header == HEADER


def picture(name, size=4):
    return Attachment(id=name, element="e", panels=(Panel.of("x", 1, size, struct.pack(f"{size}f", *([0.5] * size))),))


def test_pictures_are_read_back_bit_for_bit(path):
    writer = RecordWriter(path, HEADER)
    assert writer.attach(picture("a"), always=False)
    assert not writer.attach(picture("a"), always=True)
    writer.close()
    assert read_run(path).attachments["a"].panels[0].raw() == struct.pack("4f", *([0.5] * 4))


def test_beyond_the_limit_only_failures_keep_their_pictures(path, monkeypatch):
    monkeypatch.setattr(writing, "ATTACHMENTS_LIMIT", 400)
    writer = RecordWriter(path, HEADER)
    kept = [writer.attach(picture(str(i), 16), always=False) for i in range(5)]
    assert kept[0]
    assert not kept[-1]
    assert writer.attach(picture("failure", 16), always=True)
    writer.close()
    assert attachments_path(path).stat().st_size <= 800


def test_damaged_pictures_never_cost_the_record(written):
    attachments_path(written).write_text("garbage\n" + picture("b").model_dump_json() + "\n{", encoding="utf-8")
    assert list(read_run(written).attachments) == ["b"]
    attachments_path(written).unlink()
    assert read_run(written).attachments == {}


def test_lines_of_records_before_the_renaming_are_read():
    reason = Reason(code="EXACT", message="")
    line = CheckLine(result=CheckResult(property="p", verdict=Verdict.EXACT, reason=reason), position=7)
    old = line.model_dump_json().replace('"position":7', '"cell":7')
    assert '"cell"' in old
    assert CheckLine.model_validate_json(old) == line
    assert '"position":7' in line.model_dump_json()
