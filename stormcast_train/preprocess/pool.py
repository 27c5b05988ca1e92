"""Processes that write shards: started clean, one thread each, with never more work handed out than they can
hold.
"""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait as wait_for
from typing import Any, TypeVar

from stormcast_train.base.errors import FailedError
from stormcast_train.base.quiet import hide_library_warnings

Task = TypeVar("Task")
Result = TypeVar("Result")
THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "BLOSC_NTHREADS",
)
HANDED_OUT = 2  # tasks per worker in flight
_shared: Any = None


def run_all(
    function: Callable[[Any, Task], Result], shared: Any, tasks: Sequence[Task], workers: int
) -> Iterator[Result]:
    """`function(shared, task)` for every task, in this process for one worker; results as they come.

    The first failure stops the rest; what is finished stays. FailedError when the disk is full or a worker
    dies.
    """
    with disk_errors():
        if workers <= 1 or len(tasks) <= 1:
            yield from (function(shared, task) for task in tasks)
        else:
            yield from _in_processes(function, shared, tasks, min(workers, len(tasks)))


@contextmanager
def disk_errors() -> Iterator[None]:
    """A full disk and a dead worker as a FailedError that names the fix."""
    try:
        yield
    except BrokenProcessPool as error:
        raise FailedError(
            "a preprocessing process died (out of memory?): take fewer workers=; the same command continues "
            "where it stopped"
        ) from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = f" ({error.filename})" if error.filename else ""
        raise FailedError(
            f"no space left on the disk{where}: what is finished is kept; free some space and repeat the "
            "command"
        ) from error


def _in_processes(
    function: Callable[[Any, Task], Result], shared: Any, tasks: Iterable[Task], workers: int
) -> Iterator[Result]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["dask.array", "stormcast_train.preprocess.shard_task"]
    )  # xarray imports dask at first use
    with (
        _single_threaded(),
        ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(shared,)) as pool,
    ):
        waiting: set[Future[Result]] = set()
        try:
            for task in tasks:
                waiting.add(pool.submit(_call, function, task))
                if len(waiting) >= HANDED_OUT * workers:
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in done)
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _begin(shared: Any) -> None:
    global _shared
    _shared = shared
    hide_library_warnings()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides: it cancels what has not begun
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed must not go on writing to the store."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for([parent.sentinel])
        os._exit(1)


def _call(function: Callable[[Any, Task], Result], task: Task) -> Result:
    return function(_shared, task)


@contextmanager
def _single_threaded() -> Iterator[None]:
    """Children started here have one thread per library: two spinning pools on two cores cost a factor of
    five.
    """
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
