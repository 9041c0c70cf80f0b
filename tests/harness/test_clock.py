"""The clock counts, interleaves, calibrates and leaves out what was disturbed; nothing here asserts on real time."""

import gc
import types

import pytest
import torch
from equiharness.harness.timing import clock as module
from equiharness.harness.timing.clock import Clock, Timing, flush_bytes, kept, quiet


class Clockwork:
    """Time that passes when it is told to, in place of the module ``time``."""

    def __init__(self):
        self.wall = self.busy = 0.0

    def perf_counter(self):
        return self.wall

    def thread_time(self):
        return self.busy

    def perf_counter_ns(self):
        return int(1e9 * self.wall)

    def pass_(self, seconds, alone=True):
        self.wall += seconds
        self.busy += seconds if alone else seconds / 2


@pytest.fixture
def clockwork(monkeypatch):
    made = Clockwork()
    monkeypatch.setattr(module, "time", made)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(module, "_waits", lambda: 0)
    return made


@pytest.mark.parametrize("seconds", [1e-6, 3e-5, 1e-3, 0.5])
def test_a_sample_is_long_enough_and_no_longer_than_needed(clockwork, seconds):
    repeats = Clock().calibrate(lambda: clockwork.pass_(seconds), shortest=2e-3)
    assert repeats * seconds >= 2e-3 * (1 - 1e-9)
    assert repeats == 1 or repeats * seconds <= 4 * 2e-3


def test_the_clocks_own_share_is_below_its_limit(clockwork, monkeypatch):
    monkeypatch.setattr(Clock, "_cost", lambda self: 1e-3)
    repeats = Clock().calibrate(lambda: clockwork.pass_(1e-4), shortest=1e-6)
    assert module.OVERHEAD * repeats * 1e-4 * (1 + 1e-9) >= 1e-3


def test_time_is_that_of_one_call(clockwork):
    assert Clock().region(lambda: clockwork.pass_(0.25), 4) == (0.25, False)


def test_what_other_processes_had_is_left_out_and_the_sample_is_called_disturbed(clockwork):
    assert Clock().region(lambda: clockwork.pass_(0.25, alone=False), 4) == (0.125, True)


def test_what_the_call_itself_waits_for_belongs_to_it(clockwork, monkeypatch):
    waits = iter(range(100))
    monkeypatch.setattr(module, "_waits", lambda: next(waits))
    assert Clock().region(lambda: clockwork.pass_(0.25, alone=False), 4) == (0.25, False)


def test_several_threads_are_timed_on_the_wall(clockwork, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert Clock().region(lambda: clockwork.pass_(0.25, alone=False), 4) == (0.25, False)


def test_calls_take_turns(clockwork):
    order = []

    def call(name):
        order.append(name)
        clockwork.pass_(1.0)

    calls = {name: (lambda name=name: call(name)) for name in "abc"}
    taken = Clock().interleaved(calls, seconds=0, least=3, most=3)
    # Each sample after an untimed call of its own.
    assert "".join(order[-18:]) == "aabbcc" + "bbccaa" + "ccaabb"
    assert all(t.seconds == (1.0, 1.0, 1.0) for t in taken.values())


def test_it_stops_when_the_time_is_spent_and_not_before_the_least(clockwork):
    taken = Clock().interleaved({"a": lambda: clockwork.pass_(1.0)}, seconds=5, least=2)["a"]
    assert 2 <= len(taken.seconds) <= 4
    assert len(Clock().interleaved({"a": lambda: clockwork.pass_(9.0)}, seconds=1, least=4)["a"].seconds) == 4


def test_cold_samples_flush_before_each_single_call(clockwork, monkeypatch):
    order = []
    monkeypatch.setattr(Clock, "flush", lambda self: order.append("flush"))
    Clock().interleaved(
        {"a": lambda: (order.append("a"), clockwork.pass_(1e-4))}, cold=True, seconds=0, least=3, most=3
    )
    assert order[-6:] == ["flush", "a"] * 3


def test_disturbed_samples_are_left_out_and_counted():
    timing = kept([(1.0, False), (9.0, True), (1.1, False)], repeats=2)
    assert (timing.seconds, timing.discarded) == ((1.0, 1.1), 1)
    assert "1 disturbed" in timing.warning


def test_a_call_that_waits_by_itself_keeps_its_samples():
    assert kept([(1.0, True), (1.1, True), (0.9, False)], repeats=1).seconds == (1.0, 1.1, 0.9)


def test_statistics_are_derived_from_the_samples():
    timing = Timing(tuple(float(i) for i in range(1, 12)))
    assert (timing.median, timing.least, timing.quantile(0.1), timing.quantile(0.9)) == (6.0, 1.0, 2.0, 10.0)
    assert "wide spread" in timing.warning
    assert Timing((1.0, 1.01)).warning == ""


def test_no_garbage_is_collected_within_a_sample():
    with quiet():
        assert not gc.isenabled()
    assert gc.isenabled()


@pytest.mark.parametrize(("text", "size"), [("36608K", 36608 << 10), ("2M\n", 2 << 20), ("512", 512), ("", 0)])
def test_cache_sizes_are_read_as_linux_writes_them(text, size):
    assert module._bytes(text) == size


def test_flushing_covers_the_last_cache_within_reason():
    assert 1 << 20 <= flush_bytes(torch.device("cpu")) <= module.LARGEST_FLUSH


class FakeEvent:
    def __init__(self, enable_timing):
        assert enable_timing
        self.at = 0.0

    def record(self):
        self.at = FakeEvent.now

    def synchronize(self):
        pass

    def elapsed_time(self, end):
        return end.at - self.at


@pytest.mark.parametrize("slowed", [True, False])
def test_cuda_regions_are_events_around_the_calls_and_throttled_ones_are_disturbed(monkeypatch, slowed):
    FakeEvent.now = 0.0
    monkeypatch.setattr(torch, "cuda", types.SimpleNamespace(Event=FakeEvent))
    states = iter([False, slowed])

    def call():
        FakeEvent.now += 4.0  # milliseconds

    made = Clock("cuda", throttled=lambda: next(states))
    assert made.region(call, 3) == (pytest.approx(4e-3), slowed)
