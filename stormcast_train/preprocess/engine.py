"""`executor=`: where units of work run, with the same results in whatever order they come."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, Literal, TypeVar

from pydantic import Field

from stormcast_train.base.errors import FailedError, RequestError, StormcastError
from stormcast_train.base.frozen import Frozen
from stormcast_train.preprocess.pool import HANDED_OUT, disk_errors, run_all

Executor = Literal["processes", "dask"]
Task = TypeVar("Task")
Result = TypeVar("Result")


class DaskConfig(Frozen):
    """Where dask's workers are: `address` of a running scheduler, else a cluster of `cluster`'s kind with
    `workers` processes.

    slurm: keywords of dask_jobqueue.SLURMCluster (queue, account, walltime, memory, job_extra_directives
    ...); a worker has one core and one thread, because NetCDF's C library is not safe for threads.
    """

    cluster: Literal["local", "slurm"] = "local"
    address: str | None = None
    slurm: dict[str, Any] = Field(default={})


class EngineConfig(Frozen):
    """`processes`: on this machine. `dask`: on a dask cluster. Both give the same bits."""

    executor: Executor = "processes"
    workers: int = Field(default=1, ge=1)
    dask: DaskConfig = DaskConfig()


def run_units(
    engine: EngineConfig, function: Callable[[Any, Task], Result], shared: Any, tasks: Sequence[Task]
) -> Iterator[Result]:
    """`function(shared, task)` for every task; results as they come. The first failure stops the rest; what
    is finished stays.
    """
    if engine.executor == "processes" or not tasks:
        yield from run_all(function, shared, tasks, engine.workers)
        return
    with disk_errors():
        yield from _on_dask(engine, function, shared, tasks)


def _on_dask(
    engine: EngineConfig, function: Callable[[Any, Task], Result], shared: Any, tasks: Sequence[Task]
) -> Iterator[Result]:
    from distributed import Client, KilledWorker, as_completed

    with _cluster(engine) as cluster, _connected(Client, cluster) as client:
        everywhere = client.scatter(shared, broadcast=True, hash=False)
        waiting = iter(tasks)
        first = islice(waiting, HANDED_OUT * engine.workers)
        running = as_completed([client.submit(function, everywhere, task, pure=False) for task in first])
        for done in running:
            try:
                yield done.result()
            except StormcastError:
                raise
            except KilledWorker as error:
                raise FailedError(
                    "dask's workers died repeatedly (out of memory?): give them more memory; the same "
                    "command continues where it stopped"
                ) from error
            done.release()
            following = next(waiting, None)
            if following is not None:
                running.add(client.submit(function, everywhere, following, pure=False))


def _connected(client: Any, cluster: Any) -> Any:
    try:
        return client(cluster, timeout=15)
    except (OSError, TimeoutError) as error:
        raise FailedError(
            f"no dask scheduler answers at {cluster}: start one, or take dask.cluster=local"
        ) from error


@contextmanager
def _cluster(engine: EngineConfig) -> Iterator[Any]:
    """A cluster to connect to, closed afterwards unless it was running before."""
    if engine.dask.address:
        yield engine.dask.address
        return
    if engine.dask.cluster == "slurm" and not shutil.which("sbatch"):
        raise RequestError(
            "dask.cluster=slurm needs sbatch, which is not on this machine; submit from a login node, or "
            "take dask.cluster=local"
        )
    with _slurm(engine) if engine.dask.cluster == "slurm" else _local(engine) as cluster:
        yield cluster


def _local(engine: EngineConfig) -> Any:
    from distributed import LocalCluster

    return LocalCluster(
        n_workers=engine.workers, threads_per_worker=1, processes=True, dashboard_address=None
    )


def _slurm(engine: EngineConfig) -> Any:
    from dask_jobqueue import SLURMCluster

    cluster = SLURMCluster(cores=1, processes=1, **{"memory": "4GB", **engine.dask.slurm})
    cluster.scale(jobs=engine.workers)
    return cluster
