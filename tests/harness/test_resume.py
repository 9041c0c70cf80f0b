"""Records are continued whole: nothing lost, nothing twice, and nothing of another plan or version."""

import json
import random

import pytest
from equiharness.harness.adapters.adapter import Case
from equiharness.harness.errors import RecordError
from equiharness.harness.records.lines import EndLine, RunLine, attachments_path
from equiharness.harness.records.reading import line_at, read_run
from equiharness.harness.records.writing import RecordWriter
from equiharness.harness.runs.plan import WHOLE, Check, Plan, Shard
from equiharness.harness.runs.resume import identity, read_state, reopen, require_same, shard_of
from equiharness.harness.verdict.result import CheckResult, Reason, Verdict

PLAN = Plan([(Check("x.Layer", Case.of(n=n), "", "float32"), ("a", "b")) for n in range(5)])
VERSIONS = {"torch": "2.13.0", "equiharness": "0.1.0"}
OURS = identity(PLAN, WHOLE, {"names": ["x"]}, "source")
HEADER = RunLine(
    started="2026-01-01T00:00:00+00:00",
    command="equiharness verify x",
    seed=0,
    planned=10,
    environment={"versions": VERSIONS, "plan": OURS, "git": {"commit": "0123456789abcdef"}},
)


def result(number, attached=False, verdict=Verdict.EXACT):
    reason, shown = Reason(code="EXACT", message="90°"), f"check {number}" if attached else ""
    return CheckResult(property="a", verdict=verdict, reason=reason, error=number / 7, attachment=shown)


@pytest.fixture
def write(records):
    """Appends the check of one check."""
    return lambda writer, number, **options: records.append(writer, number, result(number, **options))


@pytest.fixture
def whole(records):
    """Writes a closed record of some checks, every third with a picture."""

    def made(path, checks=range(10), ended=True):
        found = ((n, result(n, attached=n % 3 == 0)) for n in checks)
        return records.write(path, HEADER, found, seconds=3.0 if ended else None)

    return made


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.jsonl"


def test_a_record_says_which_checks_it_holds(path, whole):
    whole(path, [4, 1, 7], ended=False)
    state = read_state(path)
    assert [i for i, done in enumerate(state.done) if done] == [1, 4, 7]
    assert state.tally.counts == {"EXACT": 3}
    assert not state.ended
    assert state.size == path.stat().st_size


def test_a_record_that_ended_is_known(path, whole):
    whole(path)
    assert read_state(path).ended
    assert read_state(path).seconds == 3.0


def test_continued_from_any_byte_a_record_becomes_the_undisturbed_one(path, tmp_path, write, whole):
    undisturbed = tmp_path / "undisturbed.jsonl"
    whole(undisturbed)
    text, pictures = undisturbed.read_bytes(), attachments_path(undisturbed).read_bytes()
    first = text.index(b"\n") + 1
    end = text.rindex(b"\n", 0, -1) + 1
    for cut in [first, end, *random.Random(0).sample(range(first, end), 60)]:
        path.write_bytes(text[:cut])
        # Pictures are written before the line that shows them: of the side file at least as much is there.
        shown = text[:cut].count(b'"attachment":"check')
        kept = [0, *(i + 1 for i, byte in enumerate(pictures) if byte == 10)][shown]
        attachments_path(path).write_bytes(pictures[: kept + cut % 100])
        state = read_state(path)
        writer = reopen(path, state)
        for task in PLAN.tasks(done=state.done):
            for number in task.positions:
                write(writer, number, attached=number % 3 == 0)
        writer.write(EndLine(seconds=3.0, seconds_in_layers=0.0, counts={"EXACT": 10}))
        writer.close()
        assert path.read_bytes() == text, cut
        assert attachments_path(path).read_bytes() == pictures, cut


def test_offsets_of_failures_survive_continuing(path, write):
    writer = RecordWriter(path, HEADER)
    write(writer, 5, verdict=Verdict.BROKEN)
    write(writer, 6)
    writer.close()
    state = read_state(path)
    writer = reopen(path, state)
    state.tally.add(result(2, verdict=Verdict.CRASHED), 2, write(writer, 2, verdict=Verdict.CRASHED))
    writer.close()
    assert [line_at(path, offset).position for offset in state.tally.failures()] == [2, 5]


def test_a_picture_of_a_check_that_is_checked_again_is_kept_once(path, records, write):
    writer = RecordWriter(path, HEADER)
    write(writer, 0, attached=True)
    writer.attach(records.picture("check 1"), always=False)  # killed here: the line that shows it was never written
    writer.close()
    writer = reopen(path, read_state(path))
    write(writer, 1, attached=True)
    assert not writer.attach(records.picture("check 0"), always=True)
    writer.close()
    assert attachments_path(path).read_bytes().count(b"\n") == 2
    assert list(read_run(path).attachments) == ["check 0", "check 1"]


def test_a_result_that_is_there_twice_refuses_the_record(path, whole):
    whole(path, [1, 2, 1], ended=False)
    with pytest.raises(RecordError, match="two results of check 1"):
        read_state(path)


@pytest.mark.parametrize("text", ["", '{"kind":"run"'])
def test_a_run_that_was_killed_before_it_began_is_begun_again(path, text):
    path.write_text(text)
    with pytest.raises(RecordError):
        read_state(path)


def test_damage_before_the_last_line_is_not_continued(path, whole):
    whole(path, range(4), ended=False)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], b"garbage\n", *lines[2:]]))
    with pytest.raises(RecordError, match="line 3"):
        read_state(path)


def changed(**changes):
    return HEADER.model_copy(update={"environment": {**HEADER.environment, **changes}})


@pytest.mark.parametrize(
    ("header", "says"),
    [
        (
            changed(versions={**VERSIONS, "torch": "2.12.0"}),
            r"torch 2\.12\.0.*this machine has torch 2\.13\.0.*pip install torch",
        ),
        (changed(versions={**VERSIONS, "escnn": "1.0.11"}), r"escnn 1\.0\.11.*this machine has no escnn"),
        (changed(versions={**VERSIONS, "equiharness": "0.0.9"}), r"equiharness 0\.0\.9"),
        (changed(plan={**OURS, "source": "other"}), r"other sources.*0123456789ab.*Restore"),
        (changed(plan={**OURS, "digest": "other"}), r"cases of its implementations have changed"),
        (changed(plan={**OURS, "digest": "other", "asked": {}}), r"another plan, that of `equiharness verify x`"),
        (changed(plan={**OURS, "shard": "1/2"}), r"is shard 1/2.*Leave --shard out"),
        (changed(plan=None), r"another version of equiharness.*Verify again"),
    ],
)
def test_a_record_of_something_else_is_refused_with_what_to_do(path, header, says):
    with pytest.raises(RecordError, match=says):
        require_same(path, header, OURS, VERSIONS)


def test_a_record_of_the_same_is_taken(path):
    require_same(path, HEADER, json.loads(json.dumps(OURS)), VERSIONS)
    assert shard_of(HEADER) == WHOLE
    assert shard_of(changed(plan={**OURS, "shard": "2/3"})) == Shard(2, 3)


def test_a_record_that_is_being_written_is_not_continued(path, write):
    writer = RecordWriter(path, HEADER)
    write(writer, 0)
    try:
        with pytest.raises(RecordError, match="being written by another process"):
            reopen(path, read_state(path))
    finally:
        writer.close()
    assert len(read_run(path).checks) == 1
    reopen(path, read_state(path)).close()


def test_a_record_that_grew_since_it_was_read_is_not_cut(path, whole):
    whole(path, range(4), ended=False)
    state = read_state(path)
    with path.open("a") as stream:
        stream.write(path.read_text().splitlines()[-1] + "\n")
    before = path.read_bytes()
    with pytest.raises(RecordError, match="grew while it was read"):
        reopen(path, state)
    assert path.read_bytes() == before
