"""A plan on Dask: a cluster that is there, or one started here. Its workers make each check in a process of its own.

A check that crashes or hangs ends that process and not the worker, so its verdict is the same as on one machine, with
the signal and the time limit. A worker that dies takes no verdict with it: Dask gives its checks to another one.
"""

from __future__ import annotations

import functools
import socket
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from ..errors import MissingDependencyError, UsageError
from ..installed import distribution_version
from ..records.environment import LIBRARIES, source_digest
from .checks import CheckOutcome, unmeasured
from .plan import Check
from .pool import Pool, cores, gpus_for
from .scheduling import Engine, LostCheckError, run_slice
from .worker_process import run_checks

#: What ``--scheduler`` says for a cluster that is started here and ends with the run.
LOCAL = "local"
#: Seconds to wait for a scheduler to answer, and for the first worker to join it.
PATIENCE = 20
#: Seconds after which an idle process of a cluster's worker ends: a run that was killed leaves no GPU memory taken.
LINGER = 60.0
#: At most so many checks go to a worker at once; a slice ends sooner where they are no trifles.
BATCH = 64


@contextmanager
def clustered(address: str, *, jobs: int = 0, limit: float | None = None, device: str = "cpu") -> Iterator[Engine]:
    """An engine on a Dask cluster.

    Args:
        address: of the scheduler, "tcp://host:port"; "local" starts a cluster here.
        jobs: workers of a cluster that is started here; 0: one per GPU, or per core where there is none.
        limit: seconds for a check.
        device: torch device of the plan: each worker has one GPU of its machine where it is "cuda".

    Raises:
        MissingDependencyError: Dask is not installed.
        UsageError: no scheduler answers there, it has no workers, or they are of other versions.
    """
    distributed, dask = _dask()
    with ExitStack() as stack:
        # A scheduler that is gone is gone: futures are given up when it has not answered for so long.
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
            "--scheduler needs Dask, which spreads a plan over machines: pip install 'equiharness[distributed]'. "
            "--jobs runs it on this machine without."
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
            # Nothing of these workers' own is large: what a check takes, its own process takes.
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
    """What of this process must be the same in every worker, and where it is."""
    return {
        "versions": {name: v for name in LIBRARIES if (v := distribution_version(name)) is not None},
        "source": source_digest(),
        "host": socket.gethostname(),
        "gpus": gpus_for(device, _gpu_count(device)),
    }


def _reports(client: Any, address: str, device: str) -> dict[str, dict[str, Any]]:
    """Worker -> what it says of itself, with the name that it keeps when it is restarted."""
    try:
        found: dict[str, dict[str, Any]] = client.run(report_here, device)
    except Exception as error:
        raise UsageError(
            f"The workers at {address} cannot load this equiharness ({type(error).__name__}: {error}). Install the "
            "same version there as here, in the environment that `dask worker` runs in."
        ) from error
    known = client.scheduler_info(n_workers=-1)["workers"]
    return {name: {**report, "name": str(known.get(name, {}).get("name", name))} for name, report in found.items()}


def require_same(ours: Mapping[str, Any], workers: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse workers whose results would be those of another version.

    Args:
        ours: what this process reports.
        workers: address -> what its process reports.

    Raises:
        UsageError: a library or this package differs; the message names the worker, both versions and the way out.

    Example:
        >>> here = {"versions": {"torch": "2.13.0"}, "source": "a"}
        >>> require_same(here, {"tcp://b:1": {"versions": {"torch": "2.12.0"}, "source": "a"}})
        Traceback (most recent call last):
        equiharness.UsageError: The worker tcp://b:1 has torch 2.12.0, and here is torch 2.13.0. ...
    """
    for worker, theirs in workers.items():
        for name in sorted({*ours["versions"], *theirs["versions"]}):
            here, there = ours["versions"].get(name), theirs["versions"].get(name)
            if here != there:
                way = f"pip install {name}=={here}" if here else f"pip uninstall {name}"
                raise UsageError(
                    f"The worker {worker} has {name} {there or 'missing'}, and here is {name} {here or 'missing'}. "
                    f"Results of two versions are not one run: {way} there, and start the worker again."
                )
        if theirs["source"] != ours["source"]:
            raise UsageError(
                f"The worker {worker} has other sources of equiharness, of the same version. Install the same commit "
                "there, and start the worker again."
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
    """What lives in each worker of the cluster: the processes that make its checks.

    Args:
        name: of this run.
        limit: seconds for a check.
        gpus: worker's name -> its GPU.
        width: most calls that a worker is given at once.
    """

    def __init__(self, name: str, limit: float | None, gpus: Mapping[str, str], width: int) -> None:
        self.name, self.limit, self.gpus, self.width = name, limit, dict(gpus), width
        self.pool: Pool | None = None

    def setup(self, worker: Any) -> None:
        """Called in a worker that joins or is there."""
        gpu = self.gpus.get(str(worker.name))
        self.pool = Pool(self.width, limit=self.limit, gpus=[gpu] if gpu else [], linger=LINGER)

    def teardown(self, worker: Any) -> None:
        """Called in a worker that leaves, or when the run ends."""
        if self.pool is not None:
            self.pool.shutdown(wait=False, cancel_futures=True)

    def run(self, check: Check) -> CheckOutcome:
        """Make one check in a process of its own."""
        assert self.pool is not None
        try:
            outcomes: list[CheckOutcome] = self.pool.submit(run_checks, (check,)).result()
        except LostCheckError as error:
            return unmeasured(check, error.verdict, error.code, error.message)
        return outcomes[0]


def _plugin(distributed: Any, name: str, limit: float | None, gpus: Mapping[str, str], width: int) -> Any:
    """Check processes that Dask takes for a plugin: its class is made here, so that nothing else needs Dask."""
    kind: Any = type("CheckProcessesPlugin", (CheckProcesses, distributed.WorkerPlugin), {})
    return kind(name, limit, gpus, width)


def run_there(checks: Sequence[Check], name: str) -> list[CheckOutcome]:
    """Make a slice of checks; a worker of the cluster is sent this call."""
    from distributed import get_worker

    processes: Any = get_worker().plugins[name]
    return run_slice(checks, processes.run)


def _leave(client: Any, name: str) -> None:
    """End the processes of this run; the cluster may be gone, and then so are they."""
    if client.status == "running":
        with suppress(Exception):
            client.unregister_worker_plugin(name)
