"""Any executor: the same results, no more under way than it has workers, a clear end when it is lost."""

import time
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

import pytest
from equiharness.harness.adapters.adapter import Case
from equiharness.harness.runs import checks as runner
from equiharness.harness.runs.checks import plan
from equiharness.harness.runs.plan import Check
from equiharness.harness.runs.scheduling import SLICE, Engine, ExecutorLostError, LostCheckError, run_slice, stream
from equiharness.harness.verdict.result import Verdict


@pytest.fixture
def checks(cheap, monkeypatch):
    monkeypatch.setenv("CHEAP_KINDS", "pass,raise,sleep")
    runner._claim.cache_clear()
    return plan(["cheap.Layer"], ["a", "b", "c", "d"], suite="cheap:run_property", dtypes=["float32"], seeds=range(5))


def numbers(found):
    return {position: (o.result.verdict, o.result.error, o.result.reproduce) for position, o in found}


class Counting(Executor):
    """Runs calls on threads and counts how many were under way at once, and how many checks each had."""

    def __init__(self, threads):
        self.threads, self.running, self.most, self.sizes = ThreadPoolExecutor(threads), 0, 0, []

    def submit(self, fn, /, *args, **kwargs):
        self.running += 1
        self.most = max(self.most, self.running)
        self.sizes.append(len(args[0]))
        future = self.threads.submit(fn, *args, **kwargs)
        future.add_done_callback(self._less)
        return future

    def _less(self, _):
        self.running -= 1


@pytest.mark.parametrize("batch", [1, 3, 64])
@pytest.mark.parametrize("width", [1, 3])
def test_any_executor_gives_the_results_of_this_process(checks, width, batch):
    expected = numbers(stream(checks.tasks()))
    executor = Counting(width)
    assert numbers(stream(checks.tasks(), Engine(executor, width, batch=batch))) == expected
    assert sorted(expected) == list(range(len(checks)))
    assert executor.most <= width
    assert max(executor.sizes) <= batch


def test_a_process_pool_of_the_standard_library_is_an_executor(checks):
    expected = numbers(stream(checks.tasks()))
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert numbers(stream(checks.tasks(), Engine(pool, 1, batch=8))) == expected


def test_tasks_are_read_no_further_ahead_than_there_are_workers(checks):
    read = 0

    def counted():
        nonlocal read
        for task in checks.tasks():
            read += 1
            yield task

    found = stream(counted(), Engine(Counting(2), 2, batch=64))
    for done in range(1, 9):
        next(found)
        assert read <= 2 + done  # each result may have sent for one more
    found.close()
    assert read < 15  # of 15 tasks


def test_in_this_process_a_check_runs_when_its_result_is_asked_for(checks, monkeypatch):
    from equiharness.harness.runs import scheduling as module

    ran = []
    monkeypatch.setattr(module, "run_check", lambda check: ran.append(check))
    found = stream(checks.tasks())
    for count in (1, 2, 3):
        next(found)
        assert len(ran) == count


def test_a_slice_ends_when_its_time_is_up_and_never_before_the_first_check():
    check = Check("x", Case.of(n=1), "a", "float32")
    assert len(run_slice([check] * 5, lambda check: check)) == 5
    assert len(run_slice([check] * 5, lambda check: time.sleep(SLICE))) == 1


class Lost(Executor):
    """Takes some calls, then fails in one of the ways in which executors do."""

    def __init__(self, error, after):
        self.error, self.after = error, after

    def submit(self, fn, /, *args, **kwargs):
        future = Future()
        self.after -= 1
        if self.after >= 0:
            future.set_result(fn(*args))
        elif self.error == "cancelled":
            future.cancel()
            future.set_running_or_notify_cancel()
        elif self.error == "closed":
            raise RuntimeError("cannot schedule new futures after shutdown")
        else:
            future.set_exception(self.error)
        return future


@pytest.mark.parametrize("error", ["cancelled", "closed", BrokenProcessPool("a process"), OSError("no route")])
def test_a_lost_executor_ends_the_run_after_what_was_finished(checks, error):
    found = []
    with pytest.raises(ExecutorLostError, match=r"The executor (is gone|failed)"):
        found.extend(stream(checks.tasks(), Engine(Lost(error, 3))))
    assert [position for position, _ in found] == [0, 1, 2]


def test_a_lost_check_is_a_verdict_and_the_rest_goes_on(checks):
    class Picky(Counting):
        def submit(self, fn, /, *args, **kwargs):
            if args[0][0].property != "b":
                return super().submit(fn, *args)
            future = Future()
            future.set_exception(LostCheckError(Verdict.TIMED_OUT, "LIMIT", "too long"))
            return future

    found = dict(stream(checks.tasks(), Engine(Picky(1))))
    assert len(found) == len(checks)
    late = {p for p, o in found.items() if o.result.verdict is Verdict.TIMED_OUT}
    assert late == {p for p, check in enumerate(checks) if check.property == "b"}


def test_what_other_workers_had_finished_is_kept_when_the_executor_is_lost(checks):
    class Two(Lost):
        def submit(self, fn, /, *args, **kwargs):
            if args[0][0].property == "a" and args[0][0].seed == 0 and args[0][0].case["kind"] == "pass":
                future = Future()
                future.set_exception(OSError("gone"))
                return future
            return super().submit(fn, *args)

    found = []
    with pytest.raises(ExecutorLostError):
        found.extend(stream(checks.tasks(), Engine(Two("closed", 5), 2)))
    assert [position for position, _ in found] == [4]
