"""Who may write to a store: one whole run, or any number of parts. A lock goes with its process."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from stormcast_train.base.errors import FailedError, RequestError

PATIENCE_S = 600.0  # how long a part waits for another's preparations
POLL_S = 0.2


class StoreLock:
    """A held lock: exclusive, or shared among parts."""

    def __init__(self, store: Path, handle: IO[str]) -> None:
        self._store, self._handle = store, handle

    def try_alone(self) -> bool:
        """Whether this process is now the only one that holds the lock; a shared hold is given up for the
        attempt.
        """
        fcntl.flock(self._handle, fcntl.LOCK_UN)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def share(self) -> None:
        """Hold it together with other parts; FailedError when a whole run keeps it."""
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                fcntl.flock(self._handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return
            except BlockingIOError as error:
                if time.monotonic() > until:
                    raise taken(self._store) from error
                time.sleep(POLL_S)


@contextmanager
def opened_lock(store: Path) -> Iterator[StoreLock]:
    """The store's lock, not yet held."""
    try:
        store.mkdir(parents=True, exist_ok=True)
    except (FileNotFoundError, NotADirectoryError, FileExistsError) as error:
        raise RequestError(f"store={store} cannot be made: {error.strerror}", store=str(store)) from error
    with open(store / ".lock", "a") as handle:
        yield StoreLock(store, handle)


@contextmanager
def locked(store: Path) -> Iterator[StoreLock]:
    """Hold the store alone; FailedError when another writes it."""
    with opened_lock(store) as lock:
        if not lock.try_alone():
            raise taken(store)
        yield lock


def taken(store: Path) -> FailedError:
    """The error of a second writer."""
    return FailedError(
        f"another preprocess is writing {store}; wait until it ends, or stop it", store=str(store)
    )
