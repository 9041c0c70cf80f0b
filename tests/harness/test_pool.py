"""Worker processes: each check has one to itself, and what happens to it there costs that check alone."""

import os
import signal
import time

import pytest
from equiharness.harness.adapters.registry import find
from equiharness.harness.errors import UsageError
from equiharness.harness.runs.checks import plan
from equiharness.harness.runs.pool import FEW_CHECKS, Pool, cores, gpus_for, pooled, workers_for
from equiharness.harness.runs.scheduling import LostCheckError, stream

SUITE = "equiharness.suites.check:run_property"


def cheap_plan(kinds, monkeypatch, properties=("a", "b"), **options):
    from equiharness.harness.runs import checks as runner

    monkeypatch.setenv("CHEAP_KINDS", ",".join(kinds))
    runner._claim.cache_clear()
    return plan(["cheap.Layer"], properties, suite="cheap:run_property", dtypes=["float32"], **options)


def results(checks, workers, **options):
    with pooled(workers, **{"preload": (), **options}) as engine:
        found = dict(stream(checks.tasks(), engine))
    assert sorted(found) == list(range(len(checks)))
    return [found[position].result for position in range(len(checks))]


def verdicts(checks, workers, **options):
    return [(r.case.split()[0].removeprefix("kind="), str(r.verdict)) for r in results(checks, workers, **options)]


def test_a_check_that_kills_its_process_is_crashed_with_the_signal_and_the_rest_goes_on(cheap, monkeypatch):
    checks = cheap_plan(["pass", "SIGSEGV", "exit", "raise"], monkeypatch)
    found = results(checks, 2)
    assert [str(r.verdict) for r in found] == ["EXACT"] * 2 + ["CRASHED"] * 6
    assert all("SIGSEGV" in r.reason.message for r in found[2:4])
    assert all("exit code 9" in r.reason.message for r in found[4:6])
    assert [r.reason.code for r in found[2:]] == ["DIED"] * 4 + ["CRASHED"] * 2
    assert [r.reproduce for r in found] == [check.command for check in checks]


def test_a_check_that_hangs_is_timed_out_and_the_rest_goes_on_in_a_fresh_process(cheap, monkeypatch):
    checks = cheap_plan(["hang", "pass"], monkeypatch, ["a"])
    begin = time.monotonic()
    found = results(checks, 1, limit=1.0)
    assert [str(r.verdict) for r in found] == ["TIMED_OUT", "EXACT"]
    assert found[0].reason.code == "LIMIT"
    assert "1 s" in found[0].reason.message
    assert "--limit" in found[0].reason.message
    assert time.monotonic() - begin < 600  # and not the hour for which it hangs


def test_a_check_whose_process_was_killed_by_another_is_made_again(cheap, monkeypatch, tmp_path):
    monkeypatch.setenv("CHEAP_ONCE", str(tmp_path / "once"))
    assert verdicts(cheap_plan(["SIGKILL", "pass"], monkeypatch, ["a"]), 1) == [("SIGKILL", "EXACT"), ("pass", "EXACT")]
    assert (tmp_path / "once").exists()


def test_a_check_that_crashes_of_itself_is_not_made_again(cheap, monkeypatch, tmp_path):
    monkeypatch.setenv("CHEAP_ONCE", str(tmp_path / "once"))  # a second attempt would pass
    assert verdicts(cheap_plan(["SIGSEGV"], monkeypatch, ["a"]), 1) == [("SIGSEGV", "CRASHED")]


def test_a_check_whose_process_is_killed_each_time_is_crashed_with_the_signal(cheap, monkeypatch):
    [found] = results(cheap_plan(["SIGKILL"], monkeypatch, ["a"]), 1)
    assert (str(found.verdict), found.reason.code) == ("CRASHED", "DIED")
    assert "SIGKILL" in found.reason.message
    assert "memory" in found.reason.message


def test_a_worker_whose_device_no_longer_answers_is_replaced(cheap, monkeypatch):
    # There is no GPU here: after the fault the device answers as little as one whose context is broken.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("CHEAP_TELL", "1")
    found = results(cheap_plan(["pass", "device", "pass"], monkeypatch, ["a"], device="cuda:0"), 1)
    assert [str(r.verdict) for r in found] == ["EXACT", "CRASHED", "EXACT"]
    assert "illegal memory access" in found[1].reason.message
    assert found[0].reason.message != found[2].reason.message  # another process


def test_an_ordinary_error_keeps_the_worker(cheap, monkeypatch):
    monkeypatch.setenv("CHEAP_TELL", "1")
    first, error, last = (
        r.reason.message for r in results(cheap_plan(["pass", "raise", "pass"], monkeypatch, ["a"]), 1)
    )
    assert first == last
    assert first.split()[0] in error


def test_each_worker_has_its_own_gpu(cheap, monkeypatch):
    monkeypatch.setenv("CHEAP_TELL", "1")
    monkeypatch.setenv("CHEAP_SECONDS", "0.2")
    found = results(cheap_plan(["sleep"] * 6, monkeypatch, ["a"]), 2, gpus=["GPU-a", "GPU-b"])
    seen = {tuple(r.reason.message.split()) for r in found}
    assert len(seen) == 2  # two processes
    assert {gpu for _, gpu in seen} == {"GPU-a", "GPU-b"}


def test_one_process_makes_the_checks_of_a_case_and_those_that_are_kept_together(cheap, monkeypatch):
    """So that a layer is built once, and a compiler starts once."""
    monkeypatch.setenv("CHEAP_TELL", "1")
    monkeypatch.setenv("CHEAP_SECONDS", "0.005")
    monkeypatch.delenv("CHEAP_KINDS", raising=False)
    monkeypatch.setattr(type(find("cheap.Layer")), "kinds", (("sleep", 12),))
    options = {"suite": "cheap:run_property", "dtypes": ["float32", "float64"], "together": ["compiled"]}
    checks = plan(["cheap.Layer"], ["a", "b", "compiled"], **options)
    found = results(checks, 3)
    processes = {}
    for check, result in zip(checks, found, strict=True):
        key = check.property if check.property == "compiled" else check.case.name
        processes.setdefault(key, set()).add(result.reason.message)
    assert len(processes) == 13
    assert all(len(seen) == 1 for seen in processes.values()), processes
    assert len(set.union(*processes.values())) == 3


@pytest.mark.parametrize(
    ("device", "count", "visible", "dealt"),
    [
        ("cuda", 3, None, ["0", "1", "2"]),
        ("cuda", 2, "5,GPU-7e,9", ["5", "GPU-7e"]),
        ("cuda:1", 3, None, []),
        ("cpu", 0, None, []),
    ],
)
def test_gpus_are_dealt_out_where_the_plan_names_none(device, count, visible, dealt):
    assert gpus_for(device, count, {"CUDA_VISIBLE_DEVICES": visible} if visible else {}) == dealt


def test_short_plans_start_no_process_and_long_ones_one_for_each_core_or_gpu():
    assert workers_for(FEW_CHECKS - 1) == 0
    assert workers_for(FEW_CHECKS) == cores()
    assert workers_for(FEW_CHECKS, gpus=3) == 3
    assert (workers_for(1, jobs=4), workers_for(1000, jobs=1)) == (4, 0)


def test_a_process_gives_the_numbers_of_this_one():
    checks = plan(
        ["equiharness.LiftingConv"], ["homomorphism", "equivariance"], suite=SUITE, cases="group=C4*", threads=1
    )
    alone = [outcome.result for _, outcome in stream(checks.tasks())]
    for one, other in zip(alone, results(checks, 1), strict=True):
        assert (one.verdict, one.error, one.bound, one.power) == (other.verdict, other.error, other.bound, other.power)


def test_an_idle_worker_that_has_the_claim_gets_the_next_call(cheap):
    from cheap import slow_pid

    with Pool(2, preload=()) as pool:
        first, other = pool.submit(slow_pid), pool.submit(slow_pid)
        assert first.result() != other.result()
        last = pool.submit(os.getpid).result()
        assert [pool.submit(os.getpid).result() for _ in range(5)] == [last] * 5


def test_a_worker_killed_while_it_is_idle_costs_nothing():
    with Pool(1, preload=()) as pool:
        before = pool.submit(os.getpid).result()
        os.kill(before, signal.SIGKILL)
        time.sleep(0.2)
        assert pool.submit(os.getpid).result() != before


def test_closing_the_pool_ends_a_call_that_hangs():
    pool = Pool(1, preload=())
    hangs, waits = pool.submit(time.sleep, 3600), pool.submit(time.sleep, 3600)
    while not hangs.running():
        time.sleep(0.01)
    pool.shutdown(cancel_futures=True)
    assert waits.cancelled()
    assert hangs.done()
    with pytest.raises(RuntimeError):
        pool.submit(os.getpid)


def test_a_process_that_cannot_start_is_an_error_of_use(monkeypatch):
    monkeypatch.setattr("sys.executable", "/bin/false")
    with Pool(1, preload=()) as pool, pytest.raises(UsageError, match=r"cannot start.*exit code 1"):
        pool.submit(os.getpid).result()


def test_an_idle_process_ends_where_it_is_asked_to_and_another_takes_its_place():
    with Pool(1, preload=(), linger=0.2) as pool:
        before = pool.submit(os.getpid).result()
        worker = pool._workers[0]
        while worker.process is not None:
            time.sleep(0.05)
        assert pool.submit(os.getpid).result() != before


def test_what_a_call_raises_is_raised_here():
    with Pool(1, preload=()) as pool:
        with pytest.raises(ZeroDivisionError):
            pool.submit(divmod, 1, 0).result()
        with pytest.raises(LostCheckError):
            pool.submit(os._exit, 3).result()
        assert pool.submit(divmod, 7, 2).result() == (3, 1)
