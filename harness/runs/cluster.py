"""A plan on Dask, on an existing cluster or a local one. The cluster's workers make each check in a separate process.

A check that crashes or hangs ends its process and not the worker. So its verdict is the same as on one machine, with
the signal and the time limit. If a worker dies, no verdict is lost: Dask gives the worker's checks to another worker.
"""

from __future__ import annotations

import functools
import socket
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from ..claim.outcome import Outcome
from ..errors import MissingDependencyError, UsageError
from ..installed import distribution_version
from ..records.environment import LIBRARIES, source_digest
from .checks import lost
from .plan import Check
from .pool import Pool, cores, gpus_for
from .scheduling import Engine, LostCheckError, run_slice
from .worker_process import run_checks

#: The value of ``--scheduler`` for a local cluster, which starts and ends with the run.
LOCAL = "local"
#: Seconds to wait for an answer of the scheduler, and for its first worker.
PATIENCE = 20
#: Seconds after which an idle check process of a worker ends, so that a killed run does not keep GPU memory.
LINGER = 60.0
#: Largest number of checks in one call to a worker. The time of a slice usually ends the call earlier.
BATCH = 64


@contextmanager
def clustered(address: str, *, jobs: int = 0, limit: float | None = None, device: str = "cpu") -> Iterator[Engine]:
    """An engine on a Dask cluster.

    Args:
        address: address of the scheduler, "tcp://host:port"; "local" starts a cluster on this machine.
        jobs: workers of a local cluster; 0 means one per GPU, or one per core on a machine without a GPU.
        limit: seconds for a check.
        device: torch device of the plan. With "cuda" each worker has one GPU of its machine.

    Raises:
        MissingDependencyError: Dask is not installed.
        UsageError: no scheduler answers at the address, it has no workers, or its workers have other versions.
    """
    distributed, dask = _dask()
    with ExitStack() as stack:
        # Futures are given up when the scheduler has not answered for this long: it will not come back.
        stack.enter_context(dask.config.set({"distributed.comm.timeouts.connect": f"{PATIENCE}s"}))
        client = stack.enter_context(_client(distributed, address, jobs or _workers(device)))
        reports = _reports(client, address, device)
        require_same(report_here(device), reports)
        threads = client.scheduler_info(n_workers=-1)["workers"]
        width = sum(int(threads[name]["nthreads"]) for name in reports if name in threads)
        name = f"equiharness-{uuid.uuid4().hex[:8]}"
        client.register_plugin(_plugin(distributed, name, limit, deal(reports), width), name=name)
        stack.callback(_leave, client, name)
        call = functools.partial(run_there, name=name)
        yield Engine(client.get_executor(pure=False), width, call, BATCH, f"The scheduler at {address}")


def _dask() -> tuple[Any, Any]:
    try:
        import dask
        import distributed
    except ImportError as error:
        raise MissingDependencyError(
            "--scheduler needs Dask, which distributes a plan over machines: pip install 'equiharness[distributed]'. "
            "Without Dask, --jobs runs the plan on this machine."
        ) from error
    return distributed, dask


def _workers(device: str) -> int:
    return len(gpus_for(device, _gpu_count(device))) or cores()


def _gpu_count(device: str) -> int:
    if device != "cuda":
        return 0
    import torch

    return torch.cuda.device_count()


@contextmanager
def _client(distributed: Any, address: str, workers: int) -> Iterator[Any]:
    with ExitStack() as stack:
        where: Any = address
        if address == LOCAL:
            # No memory limit for the workers: the processes of the checks use the memory.
            where = stack.enter_context(
                distributed.LocalCluster(
                    n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None, memory_limit=0
                )
            )
        try:
            client = stack.enter_context(distributed.Client(where, timeout=PATIENCE, set_as_default=False))
            client.wait_for_workers(1, timeout=PATIENCE)
        except (OSError, ValueError) as error:  # a timeout is an OSError; a malformed address a ValueError
            raise UsageError(
                f"No scheduler with workers answers at {address} ({type(error).__name__}: {error}). Start one: "
                f"`dask scheduler`, and `dask worker {address if '://' in address else 'tcp://HOST:8786'}` on each "
                "machine; or --scheduler local."
            ) from error
        yield client


def report_here(device: str = "cpu") -> dict[str, Any]:
    """The versions and sources of this process, which must be equal in every worker, and its host and GPUs."""
    return {
        "versions": {name: v for name in LIBRARIES if (v := distribution_version(name)) is not None},
        "source": source_digest(),
        "host": socket.gethostname(),
        "gpus": gpus_for(device, _gpu_count(device)),
    }


def _reports(client: Any, address: str, device: str) -> dict[str, dict[str, Any]]:
    """Worker's address -> its report, with the worker's name, which does not change when the worker restarts."""
    try:
        found: dict[str, dict[str, Any]] = client.run(report_here, device)
    except Exception as error:
        raise UsageError(
            f"The workers at {address} cannot load this equiharness ({type(error).__name__}: {error}). Install this "
            "version in the environment that `dask worker` runs in."
        ) from error
    known = client.scheduler_info(n_workers=-1)["workers"]
    return {name: {**report, "name": str(known.get(name, {}).get("name", name))} for name, report in found.items()}


def require_same(ours: Mapping[str, Any], workers: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse workers with other versions of a library or of this package.

    Args:
        ours: the report of this process.
        workers: address -> report of the worker at this address.

    Raises:
        UsageError: a library or this package differs; the message names the worker, both versions and the remedy.

    Example:
        >>> here = {"versions": {"torch": "2.13.0"}, "source": "a"}
        >>> require_same(here, {"tcp://b:1": {"versions": {"torch": "2.12.0"}, "source": "a"}})
        Traceback (most recent call last):
        equiharness.UsageError: The worker tcp://b:1 has torch 2.12.0, and this machine has torch 2.13.0. ...
    """
    for worker, theirs in workers.items():
        for name in sorted({*ours["versions"], *theirs["versions"]}):
            here, there = ours["versions"].get(name), theirs["versions"].get(name)
            if here != there:
                remedy = f"pip install {name}=={here}" if here else f"pip uninstall {name}"
                theirs_text = f"{name} {there}" if there else f"no {name}"
                ours_text = f"{name} {here}" if here else f"no {name}"
                raise UsageError(
                    f"The worker {worker} has {theirs_text}, and this machine has {ours_text}. A run must not mix "
                    f"versions: {remedy} on the worker, and start it again."
                )
        if theirs["source"] != ours["source"]:
            raise UsageError(
                f"The worker {worker} has other sources of equiharness with the same version number. Install the same "
                "commit on the worker, and start it again."
            )


def deal(reports: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Worker's name -> its GPU: the workers of a machine take its GPUs in turn.

    Example:
        >>> two = {"gpus": ["0", "1"], "host": "a"}
        >>> deal({"tcp://a:1": {**two, "name": "x"}, "tcp://a:2": {**two, "name": "y"}})
        {'x': '0', 'y': '1'}
    """
    dealt: dict[str, str] = {}
    taken: dict[str, int] = {}
    for report in sorted(reports.values(), key=lambda report: str(report["name"])):
        if report["gpus"]:
            turn = taken.get(report["host"], 0)
            dealt[report["name"]] = report["gpus"][turn % len(report["gpus"])]
            taken[report["host"]] = turn + 1
    return dealt


class CheckProcesses:
    """The check processes of one worker of the cluster.

    Args:
        name: name of this run.
        limit: seconds for a check.
        gpus: worker's name -> its GPU.
        width: largest number of calls that a worker gets at once.
    """

    def __init__(self, name: str, limit: float | None, gpus: Mapping[str, str], width: int) -> None:
        self.name, self.limit, self.gpus, self.width = name, limit, dict(gpus), width
        self.pool: Pool | None = None

    def setup(self, worker: Any) -> None:
        """Start the check processes. Dask calls this in each worker of the cluster."""
        gpu = self.gpus.get(str(worker.name))
        self.pool = Pool(self.width, limit=self.limit, gpus=[gpu] if gpu else [], linger=LINGER)

    def teardown(self, worker: Any) -> None:
        """End the check processes. Dask calls this in a worker that leaves, and when the run ends."""
        if self.pool is not None:
            self.pool.shutdown(wait=False, cancel_futures=True)

    def run(self, check: Check) -> Outcome:
        """Make one check in a separate process."""
        assert self.pool is not None
        try:
            outcomes: list[Outcome] = self.pool.submit_near(check.case_key, run_checks, (check,)).result()
        except LostCheckError as error:
            return lost(check, error.verdict, error.code, error.message)
        return outcomes[0]


def _plugin(distributed: Any, name: str, limit: float | None, gpus: Mapping[str, str], width: int) -> Any:
    """``CheckProcesses`` as a Dask plugin. The class is defined here, so that only this function needs Dask."""
    kind: Any = type("CheckProcessesPlugin", (CheckProcesses, distributed.WorkerPlugin), {})
    return kind(name, limit, gpus, width)


def run_there(checks: Sequence[Check], name: str) -> list[Outcome]:
    """Make a slice of checks. This call is sent to the workers of the cluster."""
    from distributed import get_worker

    processes: Any = get_worker().plugins[name]
    return run_slice(checks, processes.run)


def _leave(client: Any, name: str) -> None:
    """End the check processes of this run, unless the cluster and its processes have already ended."""
    if client.status == "running":
        with suppress(Exception):
            client.unregister_worker_plugin(name)
