"""Ends a run that hangs, in every rank, after every rank has written where its threads stand. Torch-free.

A rank that waits in a collective sees no finished step either, so each looks after itself; the first to give
up asks the others through a file in the run directory, and none ends before all have written (or had
`GRACE_S`).
"""

from __future__ import annotations

import faulthandler
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from stormcast_train.base.errors import FailedError
from stormcast_train.base.files import replacing
from stormcast_train.distributed.local import leave_report
from stormcast_train.distributed.ranks import Ranks

GRACE_S = 30.0
TICK_S = 1.0
STDERR = 2


class Watchdog:
    """A thread beside the training that wants a `beat` every `patience_s`; None: no thread.

    folder: `RUN/hang`, where `rank-N.txt` goes. report: called with the message in each rank before it ends
    with exit code 1.
    """

    def __init__(
        self,
        folder: Path,
        ranks: Ranks,
        attempt: int,
        patience_s: float | None,
        report: Callable[[str], None],
    ) -> None:
        self._folder, self._ranks, self._attempt = folder, ranks, attempt
        self._patience_s, self._report = patience_s, report
        self._asked = folder / f"asked-{attempt}"
        self._beaten, self._samples = time.monotonic(), 0
        self._over, self._ending = threading.Event(), threading.Event()

    def beat(self, samples: int) -> None:
        """A step, a validation or a checkpoint ended at `samples`."""
        self._beaten, self._samples = time.monotonic(), samples

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch for as long as the context lasts."""
        if self._patience_s is None:
            yield
            return
        self.beat(self._samples)
        thread = threading.Thread(target=self._watch, args=(self._patience_s,), name="watchdog", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            faulthandler.cancel_dump_traceback_later()
            if self._ending.is_set():  # another rank went first and woke this one: it still has to report
                thread.join()

    def _watch(self, patience_s: float) -> None:
        tick = min(TICK_S, patience_s / 4)
        while not self._over.wait(tick):
            late = time.monotonic() - self._beaten > patience_s
            if late or self._asked.exists():
                self._ending.set()
                self._end(patience_s, late)
            # A thread that never lets go of the interpreter would stop this one too: the timer needs no
            # interpreter.
            faulthandler.dump_traceback_later(patience_s + GRACE_S, exit=True, file=STDERR)

    def _end(self, patience_s: float, late: bool) -> None:
        faulthandler.cancel_dump_traceback_later()
        message = (
            f"no step was finished for {patience_s:.0f} s (train.watchdog) after {self._samples} samples; "
            f"where every rank's threads stood is in {self._folder}; the same command resumes from the last "
            "checkpoint (a first step that compiles wants a longer train.watchdog)"
        )
        reported = False
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if late:
                self._asked.touch()
            self._dump()
            self._wait_for_others()
            self._report(message)
            reported = leave_report(FailedError(message))
        except OSError as error:  # no disk is no reason to go on hanging
            message += f" (not written: {error})"
            faulthandler.dump_traceback(file=STDERR, all_threads=True)
        if not reported:
            os.write(STDERR, f"rank {self._ranks.rank}: {message}\n".encode())
        os._exit(1)

    def _dump(self) -> None:
        with (
            replacing(self._folder / f"rank-{self._ranks.rank}.txt") as temporary,
            open(temporary, "w", encoding="utf-8") as handle,
        ):
            now = datetime.now(UTC).isoformat(timespec="seconds")
            handle.write(
                f"{self._title()}, rank {self._ranks.rank} of {self._ranks.world}, process {os.getpid()}, "
                f"{now}\n"
            )
            handle.write(
                f"last finished step: {time.monotonic() - self._beaten:.0f} s ago, at {self._samples} "
                "samples\n\n"
            )
            handle.flush()
            faulthandler.dump_traceback(file=handle, all_threads=True)

    def _wait_for_others(self) -> None:
        deadline = time.monotonic() + GRACE_S
        while time.monotonic() < deadline and not self._all_written():
            time.sleep(0.2)
        time.sleep(0.5)  # the others look as often: all see the last file before the first goes

    def _all_written(self) -> bool:
        return all(self._written(rank) for rank in range(self._ranks.world))

    def _written(self, rank: int) -> bool:
        path = self._folder / f"rank-{rank}.txt"
        return path.is_file() and path.read_text(encoding="utf-8").startswith(f"{self._title()},")

    def _title(self) -> str:
        return f"attempt {self._attempt}"
