"""backend="auto": measured once, remembered, forced at will, never measured where nothing can be."""

import itertools
import threading

import pytest
import torch
from equiharness.kernels import GroupConv, LiftingConv
from equiharness.kernels.grid import choice, regular
from equiharness.kernels.grid.choice import Chooser


class Clock:
    """Seconds that calls advance by as much as they are said to take."""

    def __init__(self):
        self.now, self.calls = 0.0, []

    def __call__(self):
        return self.now

    def candidate(self, name, *seconds):
        taken = itertools.chain(seconds, itertools.repeat(seconds[-1]))

        def call():
            self.calls.append(name)
            self.now += next(taken)

        return call


def test_the_fastest_candidate_is_chosen_whatever_the_first_call_costs():
    clock = Clock()
    candidates = {"slow": clock.candidate("slow", 1, 3), "fast": clock.candidate("fast", 100, 2)}
    assert Chooser(None, clock).choose("key", candidates) == "fast"


def test_interference_in_one_call_decides_nothing():
    clock = Clock()
    candidates = {"slow": clock.candidate("slow", 3), "fast": clock.candidate("fast", 2, 2, 50, 2)}
    assert Chooser(None, clock).choose("key", candidates) == "fast"


def test_candidates_are_timed_in_turns():
    clock = Clock()
    Chooser(None, clock).choose("key", {"a": clock.candidate("a", 1), "b": clock.candidate("b", 2)})
    assert clock.calls == ["a", "b"] * 4


def test_a_decision_is_measured_once_and_kept_by_its_key(tmp_path):
    clock = Clock()
    chooser = Chooser(tmp_path / "auto", clock)
    first = {"a": clock.candidate("a", 2), "b": clock.candidate("b", 1)}
    assert chooser.choose("one", first) == "b"
    count = len(clock.calls)
    turned = {"a": clock.candidate("a", 1), "b": clock.candidate("b", 2)}
    assert chooser.choose("one", turned) == "b"  # in this process
    assert Chooser(tmp_path / "auto", clock).choose("one", turned) == "b"  # and in the next
    assert len(clock.calls) == count
    assert chooser.choose("two", turned) == "a"


def test_the_first_file_written_wins(tmp_path):
    """Another process decides while this one measures."""
    clock = Clock()

    def other():
        tmp_path.joinpath("key").write_text("a")
        clock.now += 5

    assert Chooser(tmp_path, clock).choose("key", {"a": other, "b": clock.candidate("b", 1)}) == "a"
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


@pytest.mark.parametrize("content", [b"", b"unheard of", b"\xff\xfe"])
def test_a_damaged_file_is_measured_again_and_replaced(tmp_path, content):
    clock = Clock()
    tmp_path.joinpath("key").write_bytes(content)
    candidates = {"a": clock.candidate("a", 2), "b": clock.candidate("b", 1)}
    assert Chooser(tmp_path, clock).choose("key", candidates) == "b"
    assert clock.calls
    assert tmp_path.joinpath("key").read_text() == "b"


def test_a_folder_that_cannot_be_written_decides_for_this_process(tmp_path):
    tmp_path.joinpath("file").write_text("")
    clock = Clock()
    chooser = Chooser(tmp_path / "file" / "auto", clock)
    candidates = {"a": clock.candidate("a", 2), "b": clock.candidate("b", 1)}
    assert chooser.choose("key", candidates) == chooser.choose("key", candidates) == "b"
    assert len(clock.calls) == 8


def test_a_candidate_that_fails_is_none_and_the_default_is_left():
    clock = Clock()

    def fails():
        raise RuntimeError("out of memory")

    assert Chooser(None, clock).choose("one", {"a": fails, "b": clock.candidate("b", 9)}) == "b"
    assert Chooser(None, clock).choose("two", {"a": fails, "b": fails}) == "a"


def test_threads_that_ask_the_same_measure_once():
    clock, found = Clock(), []
    chooser = Chooser(None, clock)
    candidates = {"a": clock.candidate("a", 2), "b": clock.candidate("b", 1)}
    threads = [threading.Thread(target=lambda: found.append(chooser.choose("key", candidates))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["b"] * 8
    assert len(clock.calls) == 8


@pytest.fixture
def deciding(monkeypatch, tmp_path):
    """Layers decide by a chooser of their own, however small the call; what it was asked."""
    asked = []

    class Asked(Chooser):
        winner = "fourier"

        def choose(self, name, candidates):
            asked.append((name, candidates))
            return self.winner

    chooser = Asked(tmp_path)
    monkeypatch.setenv("EQUIHARNESS_AUTO", "on")
    monkeypatch.setattr(choice, "_LEAST_WORK", 0)
    monkeypatch.setattr(regular, "chooser", lambda: chooser)
    chooser.asked = asked
    return chooser


def layer_and_input(backend="auto"):
    torch.manual_seed(0)
    return GroupConv("D4", 8, 8, 3, padding=1, backend=backend), torch.randn(1, 8, 8, 5, 4)


def test_a_layer_runs_what_was_chosen_and_says_so(deciding):
    layer, x = layer_and_input()
    fourier = GroupConv("D4", 8, 8, 3, padding=1, backend="fourier")
    fourier.load_state_dict(layer.state_dict())
    assert torch.equal(layer(x), fourier(x))
    assert layer.backend_ran == fourier.backend_ran == "fourier"
    deciding.winner = "fast"
    assert torch.equal(layer(x), layer.by_backend("fast", x))
    assert layer.backend_ran == "fast"


@pytest.mark.parametrize("backend", ["fast", "exact", "fourier", "reference"])
def test_a_forced_backend_is_never_asked_about(deciding, backend):
    layer, x = layer_and_input(backend)
    layer(x)
    assert layer.backend_ran == backend
    assert deciding.asked == []


def test_the_candidates_compute_the_layer_and_touch_nothing(deciding):
    layer, x = layer_and_input()
    with torch.no_grad():
        layer(x)
    (_, inference), before = deciding.asked[0], torch.random.get_rng_state()
    torch.testing.assert_close(inference["fast"](), inference["fourier"]())
    layer(x)
    training = deciding.asked[1][1]
    for a, b in zip(training["fast"](), training["fourier"](), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    assert not x.requires_grad
    assert layer.weight.grad is None
    assert torch.equal(torch.random.get_rng_state(), before)


def test_every_thing_that_changes_the_answer_changes_the_key(deciding):
    layer, x = layer_and_input()
    other = GroupConv("D4", 8, 8, 3, padding=1, padding_mode="circular")
    calls = [
        lambda: layer(x), lambda: layer(torch.cat([x, x])), lambda: layer(x[..., :3]), lambda: layer.eval()(x),
        lambda: other(x), lambda: GroupConv("D4", 8, 9, 3, padding=1)(x), lambda: layer.double()(x.double()),
    ]  # fmt: skip
    for call in calls:
        call()
    with torch.no_grad():
        layer(x.double())
    keys = [name for name, _ in deciding.asked]
    assert keys[0] == keys[3]  # evaluation mode alone changes nothing
    assert len(set(keys)) == len(keys) - 1


def test_nothing_is_measured_where_it_is_switched_off_or_does_not_pay(deciding, monkeypatch):
    layer, x = layer_and_input()
    LiftingConv("D4", 8, 8, 3)(torch.randn(1, 8, 5, 5))
    GroupConv("C4", 1, 1, 3)(torch.randn(1, 1, 4, 5, 5))  # too few channels for blocks to save anything
    monkeypatch.setattr(choice, "_LEAST_WORK", 2**27)
    layer(x)
    monkeypatch.setattr(choice, "_LEAST_WORK", 0)
    monkeypatch.setenv("EQUIHARNESS_AUTO", "off")
    layer(x)
    assert deciding.asked == []
    assert layer.backend_ran == "fast"


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_a_trace_measures_nothing_and_takes_the_last_decision(deciding, fresh_compiler):
    layer, x = layer_and_input()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x), layer.by_backend("fast", x))
    torch.export.export(layer, (x,))
    torch.func.vmap(layer)(x[None])
    assert deciding.asked == []
    assert torch.equal(layer(x), layer.by_backend("fourier", x))
    assert len(deciding.asked) == 1
    assert torch.equal(compiled(x), layer.by_backend("fourier", x))
    program = torch.export.export(layer, (x,))
    assert any("grid_fourier" in str(node.target) for node in program.graph.nodes)
    assert len(deciding.asked) == 1


def test_the_clock_of_this_machine_decides_too(monkeypatch, tmp_path):
    """One real measurement: either answer is right, and it stays."""
    monkeypatch.setenv("EQUIHARNESS_AUTO", "on")
    monkeypatch.setattr(choice, "_LEAST_WORK", 0)
    chooser = Chooser(tmp_path)
    monkeypatch.setattr(regular, "chooser", lambda: chooser)
    layer, x = layer_and_input()
    first, ran = layer(x), layer.backend_ran
    assert ran in ("fast", "fourier")
    (file,) = tmp_path.iterdir()
    assert file.read_text() == ran
    assert torch.equal(layer(x), first)


def test_the_users_folder_is_inside_the_cache_of_the_package(monkeypatch, tmp_path):
    from equiharness.kernels.cuda import cache

    monkeypatch.setattr(cache.platformdirs, "user_cache_dir", lambda name: str(tmp_path / name))
    choice.chooser.cache_clear()
    try:
        assert choice.chooser()._folder == tmp_path / "equiharness" / "auto"
    finally:
        choice.chooser.cache_clear()
