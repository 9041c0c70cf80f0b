"""Every command reads a record by one rule: a last line that the writer did not finish was never written."""

import pytest
from equiharness.cli.run import results_of
from equiharness.harness.records.comparing import changes
from equiharness.harness.records.lines import CheckLine, EndLine, RunLine
from equiharness.harness.records.merge import merge
from equiharness.harness.records.reading import read_run
from equiharness.harness.records.writing import RecordWriter
from equiharness.harness.runs.resume import read_state
from equiharness.harness.verdict.result import CheckResult, Reason, Verdict
from equiharness.reports.history import read_history
from equiharness.reports.since import read_past

PLAN = {"digest": "d", "checks": 3, "shard": "1/1", "source": "s", "asked": {}}


def header():
    return RunLine(started="2026-01-01T00:00:00", command="c", seed=0, planned=3, environment={"plan": PLAN})


def check(n):
    reason = Reason(code="EXACT", message="")
    result = CheckResult(property=f"p{n}", verdict=Verdict.EXACT, reason=reason, implementation="a", case="c")
    return CheckLine(result=result.model_copy(update={"error": 1e-9, "bound": 1e-6}), position=n)


def merged(path):
    return merge([path], lambda line: RecordWriter(path.parent / "merged.jsonl", line), "merge").tally.checks


def compared(path):
    whole = path.parent / "whole.jsonl"
    whole.write_text("".join(f"{line.model_dump_json()}\n" for line in (header(), *map(check, range(3)))))
    return sum("only in" not in line.cause and "vanished" not in line.cause for line in whole_changes(whole, path))


def whole_changes(whole, path):
    return changes(read_run(whole), read_run(path)).lines


def trended(path):
    history = read_history(None, [path])
    return sum("error / bound" in key for key in history.series)


#: The number of checks that each command finds in a record.
READERS = {
    "report": lambda path: len(read_run(path).checks),
    "resume": lambda path: read_state(path).tally.checks,
    "baseline": lambda path: len(list(results_of(path))),
    "compare": compared,
    "trend": trended,
    "since": lambda path: len(read_past(path).fails),
    "merge": merged,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("last", "found"),
    [
        ("{whole}\n", 2),
        ("{whole}", 1),  # complete, and without its line feed: --resume makes this check again
        ("{half}", 1),
        ("{half}\n", 1),
        ("\0\0\0\n", 1),
        ("", 1),
    ],
    ids=["whole", "no line feed", "half", "half with a line feed", "zeros", "none"],
)
def test_a_last_line_that_was_cut_off_is_read_the_same_by_every_command(tmp_path, reader, last, found):
    path = tmp_path / "run.jsonl"
    text = check(1).model_dump_json()
    lines = [f"{line.model_dump_json()}\n" for line in (header(), check(0))]
    path.write_text("".join(lines) + last.replace("{whole}", text).replace("{half}", text[:40]))
    assert READERS[reader](path) == found


@pytest.mark.parametrize("reader", READERS)
def test_a_record_whose_run_line_was_cut_off_is_empty_for_every_command(tmp_path, reader):
    from equiharness.harness.errors import RecordError

    path = tmp_path / "run.jsonl"
    path.write_text(header().model_dump_json())
    if reader == "trend":
        assert "is empty" in read_history(None, [path]).notes[0]
    else:
        with pytest.raises(RecordError, match="is empty"):
            READERS[reader](path)


def test_an_end_without_its_line_feed_is_no_end(tmp_path):
    path = tmp_path / "run.jsonl"
    end = EndLine(seconds=1.0, seconds_in_layers=0.0, counts={})
    path.write_text(f"{header().model_dump_json()}\n{check(0).model_dump_json()}\n{end.model_dump_json()}")
    assert read_run(path).end is None
    assert not read_state(path).ended
    assert "line 3: the last line is cut off; the 1 results before it" in read_run(path).truncated
