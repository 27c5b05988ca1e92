"""What is measured in a process of its own: a task comes as JSON, `go` comes on stdin, the answer leaves as
JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from stormcast_train.base.console import Console
from stormcast_train.bench.bench_archive import DAY, days
from stormcast_train.bench.decode import decode as bare
from stormcast_train.bench.timing import peak_mib, spin, tree_cpu
from stormcast_train.fields.grid import DomainConfig
from stormcast_train.fields.times import Period
from stormcast_train.fields.variable_set import VariablesConfig
from stormcast_train.sources.config import SourceConfig

Task = dict[str, Any]
MANY, FEW = 600, 100  # tasks without work, of which the difference is timed


@dataclass
class Watch:
    """What was seen of the units of one `preprocess`: its own arguments to the pool, and the cost of each
    unit.
    """

    shared: Any = None
    tasks: Sequence[Any] = ()
    units: list[dict[str, Any]] = field(default_factory=list)


def timed(function: Callable[[Any, Any], Any], shared: Any, task: Any) -> tuple[Any, dict[str, Any]]:
    """A unit's result and its cost, measured where it runs."""
    cpu, wall = time.process_time(), time.perf_counter()
    result = function(shared, task)
    cost = {
        "cpu": time.process_time() - cpu,
        "wall": time.perf_counter() - wall,
        "pid": os.getpid(),
        "peak_mib": peak_mib(),
    }
    role = getattr(task, "role", "")
    return result, {**cost, "role": role if function is _first_pass() else f"{role}, later pass"}


def _first_pass() -> Any:
    from stormcast_train.preprocess.shard_task import run_unit

    return run_unit


def nothing(shared: Any, task: Any) -> None:
    """A unit without work."""


@contextmanager
def watched() -> Iterator[Watch]:
    """Inside, every unit that `preprocess` hands to the pool is measured where it runs."""

    from stormcast_train.preprocess import build_store

    names, watch = vars(build_store), Watch()
    original = names["run_units"]

    def measuring(engine: Any, function: Any, shared: Any, tasks: Sequence[Any]) -> Iterator[Any]:
        watch.shared, watch.tasks = shared, watch.tasks or tasks
        for result, cost in original(engine, partial(timed, function), shared, tasks):
            watch.units.append(cost)
            yield result

    names["run_units"] = measuring
    try:
        yield watch
    finally:
        names["run_units"] = original


def preprocess(task: Task) -> dict[str, Any]:
    """Make a store of the warm-up day, wait, then extend it by the counted days: what that took, and what the
    start-up had taken.
    """
    from stormcast_train.preprocess import build_store
    from stormcast_train.preprocess.request import PreprocessRequest

    parts = (
        TypeAdapter(DomainConfig).validate_python(task["domain"]),
        VariablesConfig.model_validate(task["variables"]),
    )
    source = SourceConfig.model_validate(task["source"])

    def run(count: int) -> None:
        period = days(task["start"], count)
        request = PreprocessRequest(
            *parts, source, Path(task["archive"]), Path(task["store"]), period=period, workers=task["workers"]
        )
        build_store.preprocess(request, Console(quiet=True))

    if task["warm_up"]:
        run(1)
    started = tree_cpu(os.getpid())
    ready()
    own, wall = time.process_time(), time.perf_counter()
    with watched() as watch:
        run(task["warm_up"] + task["days"])
    wall, own = time.perf_counter() - wall, time.process_time() - own
    found = {
        "wall": wall,
        "cpu": tree_cpu(os.getpid()) - started,
        "own_cpu": own,
        "start_up_cpu": started,
        "peak_mib": peak_mib(),
    }
    hand_out = _hand_out(watch, task["workers"]) if task.get("hand_out") else None
    return {**found, "units": watch.units, "hand_out_s": hand_out}


def _hand_out(watch: Watch, workers: int) -> float:
    """Seconds of this process's own CPU for each unit that it hands out, at the same units without work."""
    from stormcast_train.preprocess.pool import run_all

    def cost(count: int) -> float:
        tasks = [watch.tasks[i % len(watch.tasks)] for i in range(count)]
        begin = time.process_time()
        for _ in run_all(nothing, watch.shared, tasks, workers):
            pass
        return time.process_time() - begin

    cost(FEW)
    few, many = cost(FEW), cost(MANY)
    return (many - few) / (MANY - FEW)


def decode(task: Task) -> dict[str, Any]:
    """Decode the warm-up day, wait, then the counted days."""
    variables, archive = VariablesConfig.model_validate(task["variables"]), Path(task["archive"])
    _days(archive, variables, days(task["start"], 1))
    ready()
    wall = time.perf_counter()
    units = _days(archive, variables, days(task["start"], task["days"], skip=1))
    return {"wall": time.perf_counter() - wall, "cpu": sum(u["cpu"] for u in units), "units": units}


def _days(archive: Path, variables: VariablesConfig, period: Period) -> list[dict[str, Any]]:
    """Decode the days; the cost of each role's part."""
    units = []
    for first in np.arange(period.start, period.end, DAY):
        for role in ("state", "background"):
            cpu, wall = time.process_time(), time.perf_counter()
            size = bare(archive, variables, role, first)
            cost = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}
            units.append({"role": role, "bytes": size, "pid": os.getpid(), **cost})
    return units


def rounds(task: Task) -> dict[str, Any]:
    """Pure arithmetic for some seconds."""
    ready()
    return {"rate": spin(task["seconds"])}


def ready() -> None:
    """Report that the start-up is over, and wait for the others."""
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()


KINDS: dict[str, Callable[[Task], dict[str, Any]]] = {
    "preprocess": preprocess,
    "decode": decode,
    "spin": rounds,
}


def main() -> None:
    """The task is the first argument."""
    task = json.loads(sys.argv[1])
    answer = KINDS[task["kind"]](task)
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
