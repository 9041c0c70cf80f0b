"""Dask: workers of other versions are refused, GPUs are dealt out, checks crash alone, a lost scheduler is said."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
from equiharness.harness.errors import MissingDependencyError, UsageError
from equiharness.harness.runs.cluster import CheckProcesses, clustered, deal, report_here, require_same


def worker(**changes):
    versions = {"torch": "2.13.0", "equiharness": "0.1.0"}
    return {"versions": versions, "source": "s", "host": "a", "gpus": [], "name": "w", **changes}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"versions": {"torch": "2.12.0", "equiharness": "0.1.0"}}, r"tcp://b:2 has torch 2\.12\.0.*torch==2\.13\.0"),
        (
            {"versions": {"torch": "2.13.0", "equiharness": "0.2.0"}},
            r"has equiharness 0\.2\.0, and this machine.*0\.1\.0",
        ),
        ({"versions": {"torch": "2.13.0"}}, "has no equiharness"),
        ({"source": "other"}, "other sources of equiharness"),
    ],
)
def test_a_worker_of_another_version_is_refused_by_name(changes, says):
    workers = {"tcp://a:1": worker(), "tcp://b:2": worker(**changes)}
    with pytest.raises(UsageError, match=says):
        require_same(worker(), workers)


def test_workers_of_the_same_versions_are_taken():
    require_same(worker(), {"tcp://a:1": worker(), "tcp://b:1": worker(host="b", gpus=["0"])})
    require_same(report_here(), {"tcp://a:1": report_here()})


def test_workers_of_a_machine_take_its_gpus_in_turn():
    two, three = {"gpus": ["0", "1"], "host": "a"}, {"gpus": ["4", "5", "6"], "host": "b"}
    reports = [worker(name=name, **two) for name in "pqr"] + [worker(name=name, **three) for name in "stu"]
    assert deal({f"tcp://{n}": report for n, report in enumerate(reports)}) == {
        "p": "0", "q": "1", "r": "0", "s": "4", "t": "5", "u": "6",
    }  # fmt: skip
    assert deal({"tcp://a": worker()}) == {}


def test_a_worker_of_the_cluster_gives_its_processes_the_gpu_it_was_dealt():
    for name, gpus in (("p", ("GPU-1",)), ("unknown", ())):
        processes = CheckProcesses("run", 5.0, {"p": "GPU-1"}, 2)
        processes.setup(SimpleNamespace(name=name))
        assert (processes.pool.gpus, processes.pool.limit, processes.pool.size) == (gpus, 5.0, 2)
        processes.teardown(None)


def test_without_dask_the_install_command_is_given(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(MissingDependencyError, match=r"pip install 'equiharness\[distributed\]'"),
        clustered("local") as engine,
    ):
        raise AssertionError(engine)


def test_the_harness_loads_no_dask():
    loaded = "import sys, equiharness.cli, equiharness.harness.runs.cluster"
    code = f"{loaded}; print({{'dask', 'distributed'}} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
