"""Plans are small, have one name, and are dealt out whole."""

import itertools
import tracemalloc

import pytest
from equiharness.harness.adapters.adapter import Case
from equiharness.harness.errors import UsageError
from equiharness.harness.runs.checks import plan
from equiharness.harness.runs.plan import Check, Plan, Shard

SUITE = "cheap:run_property"


def made(cases, properties=("a", "b", "c"), **changes):
    return Plan((Check("x.Layer", Case.of(size=n), "", "float32", **changes), properties) for n in cases)


def test_a_plan_is_the_sequence_of_its_checks():
    checks = made([3, 5])
    assert len(checks) == 6
    assert [(c.case["size"], c.property) for c in checks] == [(n, p) for n in (3, 5) for p in "abc"]
    assert checks[-1] == checks[5] == list(checks)[5]
    assert checks[1:3] == [checks[1], checks[2]]
    with pytest.raises(IndexError):
        checks[6]


def test_checks_of_one_claim_are_one_task():
    tasks = list(made([3, 5]).tasks())
    assert [task.positions for task in tasks] == [(0, 1, 2), (3, 4, 5)]
    assert all(len({check.case.name for check in task.checks}) == 1 for task in tasks)


def two_dtypes(cases, properties=("a", "b", "c"), together=()):
    pairs = itertools.product(cases, ("float32", "float64"))
    return Plan([(Check("x.Layer", Case.of(size=n), "", dtype), properties) for n, dtype in pairs], together)


def test_both_precisions_of_a_case_are_one_task_and_lie_in_one_shard():
    checks = two_dtypes([3, 5, 7])
    assert [task.positions for task in checks.tasks()] == [tuple(range(start, start + 6)) for start in (0, 6, 12)]
    assert len({task.key for task in checks.tasks()}) == 3
    assert list(checks.positions(Shard(2, 2))) == list(range(6, 12))
    assert [task.checks[0].dtype for task in checks.tasks(done=b"\1" * 3)] == ["float64", "float32", "float32"]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_properties_that_are_kept_together_are_one_task_which_is_the_first(count):
    checks = two_dtypes([3, 5, 7, 9], together=["b"])
    done = bytearray([0, 1] * 6)
    for i in range(1, count + 1):
        tasks = list(checks.tasks(Shard(i, count), done))
        assert {check.property for check in tasks[0].checks} == {"b"}
        assert all(check.property != "b" for task in tasks[1:] for check in task.checks)
        found = [position for task in tasks for position in task.positions]
        assert sorted(found) == [p for p in checks.positions(Shard(i, count)) if p >= len(done) or not done[p]]
        assert all(checks[p] == check for task in tasks for p, check in zip(task.positions, task.checks, strict=True))
    assert checks.digest == two_dtypes([3, 5, 7, 9]).digest


def test_what_is_done_is_no_task():
    done = bytearray([1, 0, 1, 1, 1])  # of six: what it does not say is not done
    assert [task.positions for task in made([3, 5]).tasks(done=done)] == [(1,), (5,)]


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shards_are_disjoint_and_together_the_plan(count):
    checks = made(range(10))
    parts = [list(checks.positions(Shard(i, count))) for i in range(1, count + 1)]
    assert sorted(p for part in parts for p in part) == list(range(len(checks)))
    assert [len(part) for part in parts] == [checks.size(Shard(i, count)) for i in range(1, count + 1)]
    for i, part in enumerate(parts, 1):
        assert [p for task in checks.tasks(Shard(i, count)) for p in task.positions] == part
    assert max(map(len, parts)) - min(map(len, parts)) <= 3  # one claim


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2", "1/2/3", ""])
def test_a_shard_that_is_none_is_refused_with_an_example(text):
    with pytest.raises(UsageError, match="--shard 1/3"):
        Shard.read(text)


@pytest.mark.parametrize(
    "other",
    [
        made([3]),
        made([5, 3]),
        made([3, 5], ("a", "b")),
        made([3, 5], seed=1),
        made([3, 5], threads=1),
        made([3, 5], device="cuda"),
        made([3, 5], suite="other:suite"),
    ],
)
def test_another_plan_has_another_name(other):
    assert made([3, 5]).digest == made([3, 5]).digest != other.digest


def test_a_long_plan_takes_little_memory_and_its_tasks_none(cheap, monkeypatch):
    monkeypatch.setenv("CHEAP_KINDS", "pass")
    options = {"suite": SUITE, "dtypes": ["float32"]}
    plan(["cheap.Layer"], ["a"], **options)  # what planning loads is no part of the plan
    tracemalloc.start()
    try:
        checks = plan(["cheap.Layer"], [f"p{n}" for n in range(10)], seeds=range(10_000), **options)
        kept, _ = tracemalloc.get_traced_memory()
        generator = checks.tasks()
        pair = [next(generator), next(generator)]  # while a task is handed out, the one before is still held
        two_tasks = tracemalloc.get_traced_memory()[0] - kept
        del generator, pair
        tracemalloc.reset_peak()
        for task in checks.tasks():
            assert len(task.checks) == 10
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(checks) == 100_000
    assert kept < 100 * len(checks)  # a check alone, without its texts, is more than 100 bytes
    assert 0 < two_tasks < 10_000, two_tasks
    # The one handed out, the one before, and what building the next takes: never more of the ten thousand.
    assert peak - kept < 2.5 * two_tasks


def test_a_property_that_no_dtype_changes_is_planned_once(cheap):
    both = plan(["cheap.Layer"], ["equivariance", "gradcheck"], suite=SUITE, once=["gradcheck"], cases="*number=3")
    assert [(c.dtype, c.property) for c in both] == [
        ("float32", "equivariance"), ("float32", "gradcheck"), ("float64", "equivariance"),
    ]  # fmt: skip
    [alone] = plan(
        ["cheap.Layer"], ["gradcheck"], suite=SUITE, once=["gradcheck"], dtypes=["float64"], cases="*number=3"
    )
    assert alone.dtype == "float64"
