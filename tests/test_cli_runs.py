"""Long runs as a user meets them: killed and continued, in parts, on a cluster, on a full disk."""

import contextlib
import dataclasses
import json
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest
from equiharness.harness.records.reading import read_run

#: What differs between two runs of the same checks.
TIMES = ("seconds", "seconds_in_layer", "seconds_building", "attachment")
#: Two properties of thirty cases that sleep: a second of work for two workers.
CHECKS = ("verify", "cheap.Layer", "--property", "adjoint", "--property", "parity", "--dtype", "float32", "--no-html")
REAL = ("verify", "equiharness.LiftingConv", "equiharness.GroupPool", "--case", "group=C4*", "--no-html")


@pytest.fixture
def night(cheap, monkeypatch, tmp_path, capsys):
    """The command line in a folder of its own; the plugin has thirty cases."""
    from equiharness.suites import properties

    monkeypatch.setattr(properties, "SUITE", "cheap:run_property")
    monkeypatch.setenv("CHEAP_SLEEP", "30")
    monkeypatch.setenv("CHEAP_PASS", "0")
    monkeypatch.setenv("CHEAP_SECONDS", "0")
    monkeypatch.chdir(tmp_path)
    return Command(cheap / "driver.py", monkeypatch, capsys)


class Command:
    """The command line, here or in a process of its own."""

    def __init__(self, driver, monkeypatch, capsys):
        self.driver, self.monkeypatch, self.capsys = driver, monkeypatch, capsys

    def start(self, *words, seconds="0.03"):
        """A process of its own, whose checks take a while; errors are what it says last."""
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        env = {**os.environ, "CHEAP_SECONDS": seconds}
        return subprocess.Popen([sys.executable, str(self.driver), *words], env=env, **pipes)

    def __call__(self, *words, code=0):
        """Here; what it says."""
        from equiharness import cli
        from equiharness.harness.runs import checks as runner

        runner._claim.cache_clear()  # it knows claims by name
        self.monkeypatch.setattr("sys.argv", ["equiharness", *words])
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        said = "".join(self.capsys.readouterr())
        assert (end.value.code or 0) == code, said
        return said


def essence(path):
    """Position -> result, without times; no position is there twice."""
    lines = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
    checks = [line for line in lines if line["kind"] == "check"]
    assert [check for check, n in Counter(line["position"] for line in checks).items() if n > 1] == []
    assert [line["kind"] for line in lines].count("run") == 1
    return {line["position"]: timeless(line["result"]) for line in checks}


def timeless(result):
    """A result and its parts without times."""
    parts = [timeless(part) for part in result["parts"]]
    return {**{k: v for k, v in result.items() if k not in TIMES}, "parts": parts}


def ended(path):
    return [json.loads(line)["kind"] for line in Path(path).read_text(encoding="utf-8").splitlines()].count("end")


def lines_of(path):
    with contextlib.suppress(FileNotFoundError):
        return Path(path).read_bytes().count(b"\n")
    return 0


def children(pid):
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            name, _, rest = stat.read_text().rpartition(")")
            if int(rest.split()[1]) == pid:
                found.append(int(name.split()[0]))
    return found


def wait_for(condition, seconds=120.0):
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "waited too long"
        time.sleep(0.005)


def kill_at_a_random_moment(process, record, dice, whom):
    """Wait until a random part is done, then kill -9 the main process or one of its workers."""
    part = dice.randint(1, 50)
    wait_for(lambda: lines_of(record) >= part or process.poll() is not None)
    time.sleep(dice.uniform(0, 0.03))
    victims = [process.pid] if whom == "main" else children(process.pid)
    if process.poll() is None and victims:
        os.kill(dice.choice(sorted(victims)), signal.SIGKILL)
    return process.communicate()


def survives(night, whom, dice, *where):
    """One run with a kill in its middle, continued where it has to be; its record."""
    folder = f"killed-{dice.random()}"
    record = Path(folder) / "run.jsonl"
    process = night.start(*CHECKS, "--out", folder, *(where or ("--jobs", "2")))
    kill_at_a_random_moment(process, record, dice, whom)
    if whom == "main":
        assert process.returncode == -signal.SIGKILL
        assert not ended(record)
        assert len(essence_of_partial(record)) < 60
        night("verify", "--resume", str(record), "--no-html", "--jobs", "1")
    else:
        assert process.returncode == 0
    assert ended(record) == 1
    return essence(record)


def essence_of_partial(record):
    """What a reader gets of a record whose run was killed."""
    return read_run(record).checks


def times(ordinary, deep):
    return [*range(ordinary), *(pytest.param(n, marks=pytest.mark.deep) for n in range(ordinary, deep))]


@pytest.mark.parametrize("number", times(1, 10))
@pytest.mark.parametrize("whom", ["worker", "main"])
def test_killed_and_continued_a_record_equals_the_undisturbed_one(night, whom, number):
    night(*CHECKS, "--out", "undisturbed", "--jobs", "1")
    assert survives(night, whom, random.Random(f"{whom} {number}")) == essence("undisturbed/run.jsonl")


def test_a_check_that_was_cut_off_runs_again_and_the_rest_is_kept(night):
    night(*CHECKS, "--out", "out", "--jobs", "1")
    record, whole = Path("out/run.jsonl"), essence("out/run.jsonl")
    lines = record.read_bytes().splitlines(keepends=True)
    record.write_bytes(b"".join(lines[:20]) + lines[20][:100])
    told = night("verify", "--resume", "out", "--no-html", "--jobs", "1")
    assert "[20/60]" in told
    assert "[19/60]" not in told
    assert "60 checks in" in told
    assert record.read_bytes().startswith(b"".join(lines[:20]))
    assert essence(record) == whole
    assert "no check is left to run" in night("verify", "--resume", "out", "--no-html")
    assert ended(record) == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--resume", "out", "--dtype", "float64"], "another plan, that of"),
        (["--resume", "out", "--shard", "1/2"], "is shard 1/1 and not 1/2"),
        (["--resume", "nowhere"], "There is no record"),
        (["--shard", "3/2"], "--shard 1/3"),
        (["--limit", "0"], "Give a number of seconds"),
    ],
)
def test_what_cannot_be_run_or_continued_exits_2_and_says_what_to_do(night, words, says):
    night(*CHECKS, "--out", "out", "--jobs", "1")
    before = Path("out/run.jsonl").read_bytes()
    assert says in night("verify", *words, "--no-html", "--out", "other", code=2)
    assert Path("out/run.jsonl").read_bytes() == before


def test_a_record_of_another_torch_is_refused(night):
    night(*CHECKS, "--out", "out", "--jobs", "1")
    record = Path("out/run.jsonl")
    header, rest = record.read_text().split("\n", 1)
    data = json.loads(header)
    data["environment"]["versions"]["torch"] = "2.0.0"
    record.write_text(json.dumps(data) + "\n" + rest)
    assert "was made with torch 2.0.0" in night("verify", "--resume", "out", "--no-html", code=2)


def test_shards_merged_are_the_whole(night):
    night(*CHECKS, "--out", "whole", "--jobs", "1")
    for part in ("1/2", "2/2"):
        night(*CHECKS, "--out", part[0], "--shard", part, "--jobs", "1")
    assert len(essence("1/run.jsonl")) + len(essence("2/run.jsonl")) == 60
    assert "30 of 60 planned checks are in none" in night("merge", "1/run.jsonl", "--out", "half", code=2)
    assert "60 checks" in night("merge", "1/run.jsonl", "2/run.jsonl", "--out", "merged")
    assert essence("merged/run.jsonl") == essence("whole/run.jsonl")
    assert ended("merged/run.jsonl") == 1
    # What a missing shard would have checked, the merged record can be continued with.
    night("verify", "--resume", "half", "--no-html", "--jobs", "1")
    assert essence("half/run.jsonl") == essence("whole/run.jsonl")
    assert "is one of the records" in night("merge", "whole/run.jsonl", "--out", "whole", code=2)


def test_a_hanging_check_is_timed_out_and_a_crashing_one_named(night, monkeypatch):
    monkeypatch.setenv("CHEAP_KINDS", "pass,hang,SIGSEGV,pass")
    told = night(*CHECKS[:4], *CHECKS[6:], "--out", "out", "--limit", "2", code=1)
    assert [r["verdict"] for _, r in sorted(essence("out/run.jsonl").items())] == (
        ["EXACT", "TIMED_OUT", "CRASHED", "EXACT"]
    )
    assert "LIMIT: No result within 2 s" in told
    assert "SIGSEGV" in told


@contextlib.contextmanager
def files_limited_to(size):
    """What a disk with so much room does, without a disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_said_and_what_was_written_can_be_continued(night):
    night(*CHECKS, "--out", "whole", "--jobs", "1")
    with files_limited_to(20_000):
        told = night(*CHECKS, "--out", "full", "--jobs", "1", code=2)
    assert "Cannot write full/run.jsonl: File too large" in told
    assert "of 60 checks. Continue: equiharness verify --resume full/run.jsonl" in told
    assert Path("full/run.jsonl").stat().st_size <= 20_000
    assert 0 < len(read_run(Path("full/run.jsonl")).checks) < 60
    night("verify", "--resume", "full", "--no-html", "--jobs", "1")
    assert essence("full/run.jsonl") == essence("whole/run.jsonl")


def test_a_folder_that_cannot_be_written_is_said_before_anything_runs(night, tmp_path):
    folder = Path("/sys/equiharness")  # read-only for root too
    told = night(*CHECKS, "--out", str(folder), code=2)
    assert "Cannot write /sys/equiharness/run.jsonl" in told
    assert "--out" in told
    assert "[1/60]" not in told


def test_results_go_to_the_record_and_nobody_holds_them(cheap, monkeypatch, tmp_path):
    from equiharness.cli import run as cli_run
    from equiharness.harness.config import Settings
    from equiharness.harness.runs import checks as runner
    from equiharness.suites import properties

    monkeypatch.setattr(properties, "SUITE", "cheap:run_property")
    monkeypatch.setenv("CHEAP_KINDS", "pass")
    monkeypatch.setenv("CHEAP_FAT", "50000")
    monkeypatch.setenv("COLUMNS", "100")
    runner._claim.cache_clear()

    def peak(seeds):
        asked = cli_run.requested(["cheap.Layer"], ["adjoint"], ["float32"], "*", Settings(), 0, jobs=1)
        asked = dataclasses.replace(asked, seeds=tuple(range(seeds)))
        tracemalloc.start()
        try:
            tally = cli_run.verified(asked, tmp_path / f"{seeds}.jsonl")
            return tally.checks, tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(2)  # what the first run loads
    (few, low), (many, high) = peak(20), peak(200)
    assert (few, many) == (20, 200)
    assert (tmp_path / "200.jsonl").stat().st_size > 10_000_000
    assert high - low < 1_000_000  # a tenth of what the results weigh


def test_a_plan_on_gpus_has_one_worker_for_each(monkeypatch):
    from equiharness.cli.run import requested
    from equiharness.harness.config import Settings

    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for device, width, gpus in (("cuda", 3, ("0", "1", "2")), ("cuda:1", 2, ())):
        settings = dataclasses.replace(Settings(), device=device)
        request = requested([], [], [], "*", settings, 1, jobs=0 if device == "cuda" else 2)
        with request.engine(1000) as engine:
            assert (engine.width, engine.executor.gpus) == (width, gpus)


needs_dask = pytest.mark.skipif(
    subprocess.run([sys.executable, "-c", "import distributed"], capture_output=True).returncode != 0,
    reason="Dask is not installed: pip install 'equiharness[distributed]'",
)


@needs_dask
def test_on_a_cluster_a_record_is_that_of_this_process(night, monkeypatch):
    monkeypatch.setenv("CHEAP_KINDS", "pass,sleep")
    night(*CHECKS, "--out", "here", "--jobs", "1")
    night(*CHECKS, "--out", "there", "--scheduler", "local", "--jobs", "1")
    assert essence("there/run.jsonl") == essence("here/run.jsonl")


@pytest.mark.deep
@needs_dask
def test_on_a_cluster_a_check_that_dies_costs_what_it_costs_here(night, monkeypatch):
    monkeypatch.setenv("CHEAP_KINDS", "pass,raise,exit,sleep,SIGSEGV,hang,pass")
    night(*CHECKS, "--out", "here", "--jobs", "2", "--limit", "5", code=1)
    night(*CHECKS, "--out", "there", "--scheduler", "local", "--jobs", "2", "--limit", "5", code=1)
    here, there = essence("here/run.jsonl"), essence("there/run.jsonl")
    for results in (here, there):
        for result in results.values():
            result["reason"]["message"] = result["reason"]["message"].partition("process")[0]  # whose number it names
    assert here == there
    assert Counter(r["verdict"] for r in here.values()) == {"EXACT": 6, "CRASHED": 6, "TIMED_OUT": 2}


@needs_dask
def test_a_scheduler_that_is_not_there_is_said(night):
    told = night(*CHECKS, "--out", "out", "--scheduler", "nonsense", code=2)
    assert "No scheduler with workers answers at nonsense" in told
    assert "dask scheduler" in told


@pytest.mark.deep
def test_a_hundred_thousand_checks_run_in_bounded_memory(night, monkeypatch):
    monkeypatch.setenv("CHEAP_SLEEP", "0")
    peaks = {}
    for cases in (667, 6667):  # of fifteen properties each
        words = ("verify", "cheap.Layer", "--dtype", "float32", "--no-html", "--jobs", "2", "--out", f"{cases}")
        monkeypatch.setenv("CHEAP_PASS", str(cases))
        process = night.start(*words)
        streams = (process.stdout, process.stderr)
        readers = [threading.Thread(target=stream.read) for stream in streams]  # nobody wants what they say
        for reader in readers:
            reader.start()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        for stream, reader in zip(streams, readers, strict=True):
            reader.join()
            stream.close()
        assert process.returncode == 0
        assert lines_of(f"{cases}/run.jsonl") == 15 * cases + 2
        peaks[cases] = usage.ru_maxrss / 1024
    assert Path("6667/run.jsonl").stat().st_size > 70e6
    # A position, a line of the plan: tens of bytes a check, where results weigh kilobytes when they are held.
    assert peaks[6667] - peaks[667] < 30, peaks


@pytest.mark.deep
@needs_dask
def test_everywhere_the_same_verdicts_and_errors(night, tmp_path):
    """In this process, on two processes, on a cluster of two, and as two shards: bit for bit."""
    ways = {
        "here": ("--jobs", "1"),
        "pool": ("--jobs", "2"),
        "dask": ("--scheduler", "local", "--jobs", "2"),
        "shard-1": ("--shard", "1/2", "--jobs", "1"),
        "shard-2": ("--shard", "2/2", "--jobs", "2"),
    }
    for name, way in ways.items():
        command = [sys.executable, "-c", "from equiharness.cli import main; main()", *REAL, "--out", name, *way]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    night("merge", "shard-1/run.jsonl", "shard-2/run.jsonl", "--out", "merged")
    expected = essence("here/run.jsonl")
    assert len(expected) > 20
    for name in ("pool", "dask", "merged"):
        assert essence(f"{name}/run.jsonl") == expected, name


@pytest.mark.deep
@needs_dask
def test_a_killed_worker_of_a_cluster_takes_no_result_with_it(night):
    night(*CHECKS, "--out", "undisturbed", "--jobs", "1")
    found = survives(night, "main", random.Random(1), "--scheduler", "local", "--jobs", "2")
    assert found == essence("undisturbed/run.jsonl")


@contextlib.contextmanager
def own_cluster(workers=2):
    """A scheduler and workers in processes of their own: address, scheduler, workers."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    code = "from distributed.cli.dask_{0} import main; main()"
    dask = [sys.executable, "-c", code.format("scheduler"), "--host", "127.0.0.1", "--port", str(port)]
    scheduler = subprocess.Popen([*dask, "--no-dashboard"], **quiet)
    worker = [sys.executable, "-c", code.format("worker"), address, "--nthreads", "1", "--no-dashboard"]
    started = [subprocess.Popen(worker, **quiet) for _ in range(workers)]
    try:
        yield address, scheduler, started
    finally:
        for process in [*started, scheduler]:
            process.terminate()
        for process in [*started, scheduler]:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.mark.deep
@needs_dask
@pytest.mark.parametrize("number", range(3))
def test_a_killed_worker_of_a_running_cluster_takes_no_result_with_it(night, number):
    night(*CHECKS, "--out", "undisturbed", "--jobs", "1")
    dice = random.Random(number)
    with own_cluster() as (address, _, started):
        process = night.start(*CHECKS, "--out", "out", "--scheduler", address)
        part = dice.randint(2, 40)
        wait_for(lambda: lines_of("out/run.jsonl") >= part or process.poll() is not None)
        [victim] = children(dice.choice(started).pid)[:1]  # the worker under its nanny, which starts another
        os.kill(victim, signal.SIGKILL)
        told = "".join(process.communicate())
        assert process.returncode == 0, told
    assert essence("out/run.jsonl") == essence("undisturbed/run.jsonl")


@pytest.mark.deep
@needs_dask
def test_a_scheduler_that_disappears_is_said_and_the_record_can_be_continued(night):
    night(*CHECKS, "--out", "undisturbed", "--jobs", "1")
    with own_cluster() as (address, scheduler, _):
        process = night.start(*CHECKS, "--out", "out", "--scheduler", address, seconds="0.3")
        wait_for(lambda: lines_of("out/run.jsonl") >= 10 or process.poll() is not None)
        scheduler.kill()
        out, errors = process.communicate(timeout=180)
    assert process.returncode == 2, out + errors
    assert f"The scheduler at {address} is gone" in errors
    assert "Continue: equiharness verify --resume out/run.jsonl" in errors
    assert 8 < len(read_run(Path("out/run.jsonl")).checks) < 60
    night("verify", "--resume", "out", "--no-html", "--jobs", "2")
    assert essence("out/run.jsonl") == essence("undisturbed/run.jsonl")
