"""Merged, the records of the parts are the record of the whole."""

import pytest
from equiharness.harness.adapters.adapter import Case
from equiharness.harness.errors import RecordError
from equiharness.harness.records.lines import RunLine, attachments_path
from equiharness.harness.records.merge import merge
from equiharness.harness.records.reading import read_run
from equiharness.harness.records.writing import RecordWriter
from equiharness.harness.runs.plan import WHOLE, Check, Plan, Shard
from equiharness.harness.runs.resume import identity, read_state
from equiharness.harness.verdict.codes import Code
from equiharness.harness.verdict.result import CheckResult, Reason, Verdict

PLAN = Plan([(Check("x.Layer", Case.of(n=n), "", "float32"), ("a", "b")) for n in range(7)])


def header(shard=WHOLE, **changes):
    environment = {"versions": {"torch": "2.13.0"}, "plan": identity(PLAN, shard, {}, "source"), "fingerprint": "f"}
    started = f"2026-01-0{shard.index}T00:00:00+00:00"
    known = {**environment, **changes}
    return RunLine(started=started, command="verify", seed=0, planned=PLAN.size(shard), environment=known)


def result(check, error=None):
    verdict = Verdict.BROKEN if check % 5 == 0 else Verdict.EXACT
    shown = f"check {check}" if check % 4 == 0 else ""
    reason = Reason(code=Code.read("X"), message="")
    value = check / 7 if error is None else error
    return CheckResult(property="a", verdict=verdict, reason=reason, error=value, attachment=shown, case=f"n={check}")


@pytest.fixture
def write(records):
    """Writes a closed record of a shard, or of some checks."""

    def made(path, shard=WHOLE, checks=None, ended=True, error=None, **changes):
        checks = checks if checks is not None else reversed(list(PLAN.positions(shard)))
        found = ((check, result(check, error)) for check in checks)
        return records.write(path, header(shard, **changes), found, seconds=2.0 if ended else None)

    return made


def merged(paths, out):
    return merge(paths, lambda line: RecordWriter(out, line), "equiharness merge")


@pytest.mark.parametrize("count", [1, 2, 3])
def test_merged_shards_are_the_whole(tmp_path, count, write):
    whole = read_run(write(tmp_path / "whole.jsonl"))
    parts = [write(tmp_path / f"{i}.jsonl", Shard(i, count)) for i in range(1, count + 1)]
    found = merged(parts, tmp_path / "merged.jsonl")
    run = read_run(tmp_path / "merged.jsonl")
    assert run.checks == whole.checks
    assert run.attachments == whole.attachments
    assert (found.missing, found.planned, found.tally.checks) == (0, len(PLAN), len(PLAN))
    assert found.tally.exit_code() == 1
    assert run.end is not None
    assert run.end.seconds == 2.0 * count
    assert run.header.planned == len(PLAN)
    assert run.header.started == "2026-01-01T00:00:00+00:00"
    assert [part["shard"] for part in run.header.environment["merged"]] == [f"{i}/{count}" for i in range(1, count + 1)]


def test_what_no_part_holds_is_missing_and_can_be_continued(tmp_path, write):
    parts = [write(tmp_path / "1.jsonl", Shard(1, 2)), write(tmp_path / "2.jsonl", Shard(2, 2), [2, 3], ended=False)]
    found = merged(parts, tmp_path / "merged.jsonl")
    assert found.missing == len(PLAN) - PLAN.size(Shard(1, 2)) - 2
    assert read_run(tmp_path / "merged.jsonl").end is None
    progress = read_state(tmp_path / "merged.jsonl")
    left = [p for task in PLAN.tasks(done=progress.done) for p in task.positions]
    assert left == [p for p in PLAN.positions(Shard(2, 2)) if p not in (2, 3)]
    assert progress.header.environment["plan"]["shard"] == "1/1"


def test_a_check_that_two_parts_hold_is_written_once(tmp_path, write):
    parts = [write(tmp_path / "1.jsonl", checks=[0, 1, 2]), write(tmp_path / "2.jsonl", checks=[2, 3])]
    assert merged(parts, tmp_path / "merged.jsonl").tally.checks == 4
    assert [c.case for c in read_run(tmp_path / "merged.jsonl").checks] == ["n=0", "n=1", "n=2", "n=3"]


def test_two_results_of_one_check_that_differ_are_refused(tmp_path, write):
    parts = [write(tmp_path / "1.jsonl", checks=[2]), write(tmp_path / "2.jsonl", checks=[2], error=9.0)]
    with pytest.raises(RecordError, match=r"1\.jsonl.*2\.jsonl have different results of a of .* n=2"):
        merged(parts, tmp_path / "merged.jsonl")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"versions": {"torch": "2.12.0"}}, r"torch 2\.13\.0.*2\.12\.0"),
        ({"plan": {**identity(PLAN, WHOLE, {}, "source"), "digest": "x"}}, "different plans"),
        ({"plan": {**identity(PLAN, WHOLE, {}, "other")}}, "different sources"),
        ({"plan": None}, "contains no plan"),
    ],
)
def test_records_of_different_runs_are_not_merged(tmp_path, changes, says, write):
    parts = [write(tmp_path / "1.jsonl"), write(tmp_path / "2.jsonl", **changes)]
    with pytest.raises(RecordError, match=says):
        merged(parts, tmp_path / "merged.jsonl")
    assert not (tmp_path / "merged.jsonl").exists()


def test_a_result_whose_picture_is_gone_shows_none(tmp_path, write):
    part = write(tmp_path / "1.jsonl")
    attachments_path(part).unlink()
    merged([part], tmp_path / "merged.jsonl")
    assert not any(check.attachment for check in read_run(tmp_path / "merged.jsonl").checks)
